/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cache of decoded code of one vCPU: finding, keeping and dropping
 * blocks. Decoding itself is in decode_block.c, the other vCPUs' part in
 * code_world.c.
 */
#include "cpu/soft/code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/soft/access.h"
#include "cpu/soft/block.h"
#include "cpu/soft/direct.h"
#include "cpu/soft/int.h"

#define CODE_ARENA_DEFAULT (2 * MIB)
#define CODE_ARENA_JIT     (7 * MIB)

/* code_key: bits 63:48 of tags; the rest of a tag is the linear address */
#define KEY_GEN_NONE ((u64)FETCH_GENS) /* of no entry */

static unsigned code_hash(u64 at, u32 key)
{
	return (at >> CODE_SHIFT ^ at >> CODE_HASH_BITS ^ key * 0x9e5u) &
	       (CODE_HASH_SIZE - 1);
}

static struct code_page **code_page_bucket(struct soft_code *c, u64 page)
{
	return &c->page_hash[page % CODE_PAGE_HASH];
}

static struct code_page *code_page_find(struct soft_code *c, u64 page)
{
	struct code_page *p = *code_page_bucket(c, page);

	while (p && p->page != page)
		p = p->next;
	return p;
}

/* Forgets all pages; there are no blocks. */
static void code_pages_clear(struct soft_code *c)
{
	for (unsigned i = 0; i < CODE_PAGE_HASH; i++)
		for (struct code_page *p = c->page_hash[i]; p; p = p->next)
			code_world_release(c->world, p->page);
	memset(c->page_hash, 0, sizeof(c->page_hash));
	c->npages = 0;
	if (c->v->jit)
		c->v->jit_ops->flush(c->v);
	if (c->v->direct)
		direct_note_all_code(c->v);
}

/* Bytes of the page that translated code depends on. */
static u64 code_jit_granules(struct soft_code *c, u64 page)
{
	return c->v->jit ? c->v->jit_ops->granules(c->v, page) : 0;
}

/*
 * The pages stay marked as code: most are decoded again soon, and the first
 * store to one that is not takes the mark off.
 */
void code_flush(struct soft_code *c)
{
	memset(c->map, 0, sizeof(c->map));
	memset(c->hash, 0, sizeof(c->hash));
	for (unsigned i = 0; i < CODE_PAGE_HASH; i++)
		for (struct code_page *p = c->page_hash[i]; p; p = p->next) {
			p->blocks = NULL;
			p->crossing = NULL;
			p->granules = code_jit_granules(c, p->page);
		}
	c->arena_used = 0;
	c->flushes++;
}

/* Whether code is found by its linear address alone: entries and links. */
static bool code_flat(const struct soft_vcpu *v)
{
	const struct seg_state *cs = &v->seg[SEG_CS];

	return (v->mode & MODE_CS64) ||
	       (!cs->base && cs->limit == ~0u && (v->mode & MODE_PE) &&
		!(v->mode & MODE_VM86));
}

void soft_code_rekey(struct soft_vcpu *v)
{
	bool flat = code_flat(v), direct;
	u64 gen = v->fetch_gen[v->cpl == 3];
	u64 key = (v->mode & (MODE_CS64 | MODE_CS32)) |
		  (v->mode & MODE_CPL3 ? 4 : 0);

	/* Translated code knows no segments and does not check alignment. */
	direct = v->mode & MODE_CS64 ||
		 (v->mode & (MODE_FLAT | MODE_SS32)) == (MODE_FLAT | MODE_SS32);
	direct &= !(v->mode & MODE_AC);
	v->fetch_key = (flat && direct ? gen : ~0ull) << 3 | key;
	key |= (flat ? gen % FETCH_GENS : KEY_GEN_NONE) << 3;
	v->code_key = key << 48;
}

void soft_code_reused(struct soft_vcpu *v)
{
	if (v->code)
		memset(v->code->map, 0, sizeof(v->code->map));
}

/* The granules that n bytes at offset off of a page touch. */
static u64 code_granules(u64 off, u64 n)
{
	unsigned first = off / 64, last = (off + n - 1) / 64;

	return (~0ull << first) & (~0ull >> (63 - last));
}

/* Bytes of b that lie in the page of its first byte. */
static u64 code_head(const struct soft_block *b)
{
	return MIN(b->len, PAGE_SIZE - (b->at & PAGE_MASK));
}

/* After blocks of p were dropped: links to them, and the granules. */
static void code_page_sweep(struct soft_code *c, struct code_page *p)
{
	p->granules = code_jit_granules(c, p->page);
	for (struct soft_block *b = p->blocks; b; b = b->page_next) {
		p->granules |= code_granules(b->at & PAGE_MASK, code_head(b));
		for (unsigned i = 0; i < 2; i++)
			if (b->link[i] && b->link[i]->dropped)
				b->link[i] = NULL;
	}
	for (struct soft_block *b = p->crossing; b; b = b->cross_next)
		p->granules |= code_granules(0, b->len - code_head(b));
}

/* Nobody finds b any more, and if it runs it stops. */
static void code_kill(struct soft_vcpu *v, struct soft_block *b)
{
	struct soft_block **at =
		&v->code->hash[code_hash(b->at, b->key & BLOCK_KEY)];

	while (*at != b)
		at = &(*at)->hash_next;
	*at = b->hash_next;
	b->link[0] = b->link[1] = NULL;
	for (unsigned i = 0; i < b->slots; i++)
		b->insn[i].fn = int_dropped;
	b->dropped = true;
	v->vcpu.stat[VCPU_STAT_SMC]++;
}

/* Takes b out of the page that it begins in, and out of that it ends in. */
static void code_leave_first(struct soft_code *c, struct soft_block *b)
{
	struct code_page *p = code_page_find(c, b->at >> PAGE_SHIFT);
	struct soft_block **at = &p->blocks;

	while (*at != b)
		at = &(*at)->page_next;
	*at = b->page_next;
	code_page_sweep(c, p);
}

static void code_leave_second(struct soft_code *c, struct soft_block *b)
{
	struct code_page *p = code_page_find(c, b->page2);
	struct soft_block **at = &p->crossing;

	while (*at != b)
		at = &(*at)->cross_next;
	*at = b->cross_next;
	code_page_sweep(c, p);
}

/* An instruction that crosses pages. */
static void code_drop_cross(struct soft_vcpu *v, struct soft_block *b)
{
	code_kill(v, b);
	code_leave_first(v->code, b);
	code_leave_second(v->code, b);
}

/*
 * Drops the blocks of p that have a byte in [off, off + n) of it; in one pass,
 * for there may be as many as bytes.
 */
static void code_page_written(struct soft_vcpu *v, struct code_page *p, u64 off,
			      u64 n)
{
	struct soft_block **at, *b;

	if (v->jit)
		v->jit_ops->written(v, p->page, off, n);
	for (at = &p->blocks; (b = *at);) {
		u64 from = b->at & PAGE_MASK;

		if (from >= off + n || off >= from + code_head(b)) {
			at = &b->page_next;
			continue;
		}
		*at = b->page_next;
		code_kill(v, b);
		if (b->key & BLOCK_CROSS)
			code_leave_second(v->code, b);
	}
	for (at = &p->crossing; (b = *at);) {
		if (off >= b->len - code_head(b)) {
			at = &b->cross_next;
			continue;
		}
		*at = b->cross_next;
		code_kill(v, b);
		code_leave_first(v->code, b);
	}
	code_page_sweep(v->code, p);
}

static void code_page_free(struct soft_code *c, struct code_page *p)
{
	struct code_page **at = code_page_bucket(c, p->page);

	while (*at != p)
		at = &(*at)->next;
	*at = p->next;
	code_world_release(c->world, p->page);
	/* The pool is filled from below: its last one takes the place. */
	c->npages--;
	if (p != &c->pages[c->npages]) {
		at = code_page_bucket(c, c->pages[c->npages].page);
		while (*at != &c->pages[c->npages])
			at = &(*at)->next;
		*at = p;
		*p = c->pages[c->npages];
	}
}

/* A store of this vCPU to a page where someone has code; within one page. */
static void code_store(struct soft_vcpu *v, u64 page, u64 off, u64 n)
{
	struct soft_code *c = v->code;
	struct code_page *p = code_page_find(c, page);
	u64 granules = code_granules(off, n);

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (code_world_shared(c->world, page, p != NULL))
		code_world_post(c->world, v, page, granules);
	if (!p)
		return;
	if (v->direct)
		direct_note_code(v, page);
	if (p->granules & granules)
		code_page_written(v, p, off, n);
	if (!p->granules)
		code_page_free(c, p);
}

void soft_code_written(struct soft_vcpu *v, gpa_t gpa, u64 len)
{
	while (len) {
		u64 n = MIN(len, PAGE_SIZE - (gpa & PAGE_MASK));
		const u8 *p = mem_ptr(v->code->mem, gpa, n);

		if (p)
			code_store(v, mem_page(v->code->mem, p),
				   gpa & PAGE_MASK, n);
		gpa += n;
		len -= n;
	}
}

/* Drops what has bytes in those granules of the page. */
static void code_posted(struct soft_vcpu *v, const struct code_post *post)
{
	struct code_page *p = code_page_find(v->code, post->page);
	u64 left;

	if (!p)
		return;
	if (v->direct)
		direct_note_code(v, post->page);
	left = post->granules & p->granules;
	while (left) {
		unsigned from = (unsigned)__builtin_ctzll(left);
		u64 run = ~(left >> from);
		unsigned n = run ? (unsigned)__builtin_ctzll(run) : 64;

		code_page_written(v, p, from * 64, n * 64);
		left &= n < 64 ? ~(((1ull << n) - 1) << from) : 0;
	}
	if (!p->granules)
		code_page_free(v->code, p);
}

void soft_code_forget(struct soft_vcpu *v)
{
	if (!v->code)
		return;
	code_flush(v->code);
	code_pages_clear(v->code);
}

void soft_code_trim(struct soft_vcpu *v)
{
	struct soft_code *c = v->code;
	u64 from = ALIGN_UP((u64)c->map, PAGE_SIZE);

	soft_code_forget(v);
	/* All zeros now. */
	madvise((void *)from, ((u64)c->page_hash & ~PAGE_MASK) - from,
		MADV_DONTNEED);
	madvise(c->arena, c->arena_size, MADV_DONTNEED);
	if (v->jit)
		v->jit_ops->trim(v);
}

void soft_code_answer(struct soft_vcpu *v)
{
	struct code_post post[CODE_POSTS];
	int n = code_world_take(v->code->world, v, post);

	if (n < 0) {
		code_flush(v->code);
		code_pages_clear(v->code);
	}
	for (int i = 0; i < n; i++)
		code_posted(v, &post[i]);
}

/* The page's record; a new one is marked, after which its bytes are read. */
static struct code_page *code_page_get(struct soft_vcpu *v, u64 page)
{
	struct soft_code *c = v->code;
	struct code_page *p = code_page_find(c, page);
	struct code_page **bucket = code_page_bucket(c, page);

	if (p)
		return p;
	p = &c->pages[c->npages++];
	*p = (struct code_page){.page = (u32)page, .next = *bucket};
	*bucket = p;
	code_world_hold(c->world, page);
	mmu_mark_code(v, page);
	return p;
}

void soft_code_hold(struct soft_vcpu *v, u64 page, u64 granules)
{
	struct soft_code *c = v->code;

	if (!code_page_find(c, page) && c->npages == c->max_pages) {
		code_flush(c);
		code_pages_clear(c);
	}
	code_page_get(v, page)->granules |= granules;
}

void code_reserve(struct soft_vcpu *v, u64 page, u64 page2)
{
	struct soft_code *c = v->code;

	if (c->arena_used + BLOCK_MAX_SIZE > c->arena_size)
		code_flush(c);
	if (c->npages + 2 > c->max_pages) {
		code_flush(c);
		code_pages_clear(c);
	}
	code_page_get(v, page);
	if (page2 != page)
		code_page_get(v, page2);
}

/* The last entry, where the block simply ends, is not whole. */
static size_t code_size(const struct soft_block *b)
{
	size_t size = sizeof(*b) + b->slots * sizeof(b->insn[0]);

	if (!b->insn[b->slots - 1].len)
		size -= sizeof(b->insn[0]) - INSN_HEAD;
	return ALIGN_UP(size, 8);
}

void code_keep(struct soft_vcpu *v, struct soft_block *b)
{
	struct soft_code *c = v->code;
	struct code_page *p = code_page_find(c, b->at >> PAGE_SHIFT);
	unsigned h = code_hash(b->at, b->key & BLOCK_KEY);

	if (v->jit)
		b->heat = v->heat;
	c->arena_used += code_size(b);
	b->hash_next = c->hash[h];
	c->hash[h] = b;
	b->page_next = p->blocks;
	p->blocks = b;
	p->granules |= code_granules(b->at & PAGE_MASK, code_head(b));
	if (b->key & BLOCK_CROSS) {
		p = code_page_find(c, b->page2);
		b->cross_next = p->crossing;
		p->crossing = b;
		p->granules |= code_granules(0, b->len - code_head(b));
	}
	v->vcpu.stat[VCPU_STAT_DECODE] += b->n;
}

static struct soft_block *code_find(struct soft_code *c, u64 at, u32 key)
{
	struct soft_block *b = c->hash[code_hash(at, key)];

	while (b && (b->at != at || (b->key & BLOCK_KEY) != key))
		b = b->hash_next;
	return b;
}

/* False if the page that b ends in is not the one it was decoded from. */
static bool code_cross_valid(struct soft_vcpu *v, const struct soft_block *b,
			     gva_t lin)
{
	const u8 *host = soft_fetch(v, (lin | PAGE_MASK) + 1);

	return host && mem_page(v->code->mem, host) == b->page2;
}

static u32 code_block_key(const struct soft_vcpu *v, bool single)
{
	u32 key = v->mode & (MODE_CS64 | MODE_CS32);

	if ((v->mode & (MODE_PE | MODE_VM86)) == MODE_PE)
		key |= BLOCK_VEX;
	if (single)
		key |= BLOCK_SINGLE;
	if (code_flat(v))
		key |= BLOCK_FLAT; /* links are only of such */
	return key;
}

/* The linear address of v->rip, or #GP(0). */
static gva_t code_lin(struct soft_vcpu *v)
{
	if (v->mode & MODE_CS64) {
		if (!lin_canonical(v->rip))
			soft_fault_err(v, VEC_GP, 0);
		return v->rip;
	}
	v->rip = (u32)v->rip;
	if (v->rip > v->seg[SEG_CS].limit)
		soft_fault_err(v, VEC_GP, 0);
	return (u32)(v->seg[SEG_CS].base + v->rip);
}

static bool code_in_limit(const struct soft_vcpu *v, const struct soft_block *b)
{
	return (v->mode & MODE_CS64) ||
	       v->rip + b->len - 1 <= v->seg[SEG_CS].limit;
}

static void code_map_block(struct soft_vcpu *v, struct soft_block *b, gva_t lin)
{
	struct code_entry *e = code_slot(v, lin);

	if ((v->code_key >> 51) == KEY_GEN_NONE)
		return;
	e->tag = code_tag(v, lin);
	e->block = b;
}

struct soft_block *code_lookup(struct soft_vcpu *v, bool single)
{
	u32 key = code_block_key(v, single);
	struct soft_block *b;
	const u8 *host;
	gva_t lin;

	v->block = NULL;
	lin = code_lin(v);
	host = soft_fetch(v, lin);
	if (!host)
		return block_volatile(v, lin, key);
	b = code_find(v->code, (u64)(host - v->code->mem->base), key);
	if (b && (b->key & BLOCK_CROSS) && !code_cross_valid(v, b, lin)) {
		code_drop_cross(v, b);
		b = NULL;
	}
	if (!b)
		b = block_decode(v, lin, host, key);
	if (!code_in_limit(v, b)) {
		if (single || b->n == 1)
			soft_fault_err(v, VEC_GP, 0);
		return code_lookup(v, true);
	}
	if (!(b->key & (BLOCK_SINGLE | BLOCK_CROSS)))
		code_map_block(v, b, lin);
	return b;
}

/* Zeros, of which pages can be given back; or NULL. */
static void *code_memory(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

int soft_code_init(struct soft_vcpu *v, struct code_world *w, size_t arena,
		   struct err *e)
{
	struct soft_code *c;
	size_t size = v->jit ? CODE_ARENA_JIT : CODE_ARENA_DEFAULT;

	if (arena)
		size = MAX(arena, 64 * KIB);
	c = code_memory(sizeof(*c));
	if (!c)
		return err_set(e, -ENOMEM, "no memory for decoded code");
	c->arena_size = size;
	c->max_pages = (unsigned)(size / 1024);
	c->world = w;
	c->v = v;
	c->mem = v->vcpu.engine->config.mem;
	soft_features(v, c->feature);
	c->arena = code_memory(size);
	c->pages = calloc(c->max_pages, sizeof(*c->pages));
	c->scratch = malloc(BLOCK_MAX_SIZE);
	v->code = c;
	if (!c->arena || !c->pages || !c->scratch) {
		soft_code_fini(v);
		return err_set(e, -ENOMEM, "no memory for decoded code");
	}
	code_world_join(w, v);
	soft_code_rekey(v);
	return 0;
}

void soft_code_fini(struct soft_vcpu *v)
{
	struct soft_code *c = v->code;

	if (!c)
		return;
	if (c->pages)
		code_pages_clear(c);
	code_world_leave(c->world, v);
	if (c->arena)
		munmap(c->arena, c->arena_size);
	free(c->pages);
	free(c->scratch);
	munmap(c, sizeof(*c));
	v->code = NULL;
}
