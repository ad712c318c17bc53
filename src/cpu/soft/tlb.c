/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TLB sets: filling, flushing, INVLPG, INVPCID (SDM 4.10).
 *
 * While dirty pages are logged, a page is marked when its write tag is
 * installed and again when the tag goes, because it may have been stored to
 * all the time in between: so a bitmap that was collected while the tag stood
 * misses nothing.
 */
#define _GNU_SOURCE
#include "cpu/soft/mmu.h"

#include <string.h>
#include <sys/mman.h>

#include "cpu/soft/access.h"
#include "cpu/soft/direct.h"
#include "mem/mem.h"

/* Filters of 512 bits, by a part of the linear address. */
static unsigned tlb_hash(u64 n)
{
	return (n ^ n >> 9 ^ n >> 18) & 511;
}

static bool tlb_filter_has(const u64 filter[8], u64 n)
{
	return filter[tlb_hash(n) / 64] >> (tlb_hash(n) % 64) & 1;
}

static void tlb_filter_add(u64 filter[8], u64 n)
{
	filter[tlb_hash(n) / 64] |= BIT64(tlb_hash(n) % 64);
}

static void tlb_mark_dirty(struct mem *m, const struct tlb_entry *e)
{
	const u8 *host = (const u8 *)(e->tag_write + e->addend);
	unsigned long *dirty = __atomic_load_n(&m->dirty, __ATOMIC_ACQUIRE);
	u64 page = mem_page(m, host);

	if (dirty)
		__atomic_or_fetch(&dirty[page / 64], BIT64(page % 64),
				  __ATOMIC_RELAXED);
}

static void tlb_window_empty(struct soft_vcpu *v, struct soft_window *w)
{
	if (w->limit[0] && unlikely(soft_mem(v)->dirty != NULL)) {
		struct tlb_entry e = {.tag_write = w->page,
				      .addend = w->addend};

		tlb_mark_dirty(soft_mem(v), &e);
	}
	memset(w->limit, 0, sizeof(w->limit));
}

void tlb_window_drop(struct soft_vcpu *v)
{
	tlb_window_empty(v, &v->window);
	for (unsigned k = 0; k < TLB_KINDS; k++)
		tlb_window_empty(v, &v->mmu->window[k]);
}

static inline void tlb_drop(struct mem *m, struct tlb_entry *e)
{
	if (unlikely(m->dirty) && e->tag_write != TLB_NONE)
		tlb_mark_dirty(m, e);
	e->tag_read = e->tag_write = e->tag_exec = TLB_NONE;
}

/* The page that an entry maps; TLB_NONE (never dropped in vain) if none. */
static u64 tlb_page(const struct tlb_entry *e)
{
	if (e->tag_read != TLB_NONE)
		return e->tag_read;
	return e->tag_write != TLB_NONE ? e->tag_write : e->tag_exec;
}

/* Only of the first half, mostly. */
#define TLB_WORDS(t) (TLB_SIZE / 64 * ((t)->second ? 2 : 1))

/* For each n of an entry of t that was filled since it was last dropped. */
#define TLB_FOR_USED(t, n)                                                 \
	for (u64 w_ = 0; w_ < TLB_WORDS(t); w_++)                          \
		for (u64 b_ = (t)->used[w_], n;                            \
		     b_ && (n = w_ * 64 + (u64)__builtin_ctzll(b_), true); \
		     b_ &= b_ - 1)

static void tlb_flush(struct soft_vcpu *v, struct mmu_tlb *t)
{
	struct mem *m = soft_mem(v);

	TLB_FOR_USED(t, n)
	{
		tlb_drop(m, &t->e[n]);
	}
	memset(t->global, 0, sizeof(t->global));
	memset(t->used, 0, sizeof(t->used));
	t->second = false;
}

static void tlb_flush_nonglobal(struct soft_vcpu *v, struct mmu_tlb *t)
{
	struct mem *m = soft_mem(v);

	for (unsigned w = 0; w < TLB_WORDS(t); w++) {
		u64 bits = t->used[w] & ~t->global[w];

		t->used[w] &= ~bits;
		for (; bits; bits &= bits - 1)
			tlb_drop(m, &t->e[w * 64 +
					  (unsigned)__builtin_ctzll(bits)]);
	}
}

static void tlb_flush_walks(struct mmu_set *s)
{
	for (unsigned i = 0; i < MMU_WALKS; i++)
		s->pde[i].tag = TLB_NONE << 63;
}

/* ---- generations of translations for fetching ---- */

static void exec_expire(struct mmu_exec *x)
{
	*x = (struct mmu_exec){0};
}

/*
 * A new number. Where their short form begins anew, all that went before is
 * forgotten, the numbers of the other sets too.
 */
static u64 exec_new_gen(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;

	if (++m->gens % FETCH_GENS)
		return m->gens;
	m->gens++;
	exec_expire(&m->exec);
	for (unsigned i = 0; i < MMU_SETS; i++)
		exec_expire(&m->sets[i].exec);
	soft_code_reused(v);
	return m->gens;
}

/* Gives out what is due, and makes it known. */
static void exec_update(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;

	while (!m->exec.gen || !m->set->exec.gen) {
		struct mmu_exec *x = m->exec.gen ? &m->set->exec : &m->exec;
		u64 gen = exec_new_gen(v);

		x->gen = gen;
	}
	if (v->fetch_gen[0] != m->exec.gen && v->jit)
		v->jit_ops->remapped(v);
	v->fetch_gen[0] = m->exec.gen;
	v->fetch_gen[1] = m->set->exec.gen;
	soft_code_rekey(v);
}

void tlb_fetched(struct soft_vcpu *v, enum mmu_kind kind, gva_t lin,
		 bool global, u64 size)
{
	struct mmu_exec *x =
		kind == TLB_USER ? &v->mmu->set->exec : &v->mmu->exec;

	tlb_filter_add(x->region, lin >> 21);
	x->giant |= size > 4 * MIB;
	x->local |= !global;
}

static void exec_invlpg(struct mmu_exec *x, gva_t lin)
{
	/* a 4 MiB page is two regions */
	if (x->giant || tlb_filter_has(x->region, lin >> 21) ||
	    tlb_filter_has(x->region, (lin >> 21) ^ 1))
		exec_expire(x);
}

static void exec_address_space_changed(struct soft_vcpu *v)
{
	if (v->mmu->exec.local)
		exec_expire(&v->mmu->exec);
}

/* ---- sets ---- */

void tlb_set_flush(struct soft_vcpu *v, struct mmu_set *s)
{
	if (v->direct)
		direct_note_set(v, s);
	tlb_window_drop(v);
	for (unsigned k = 0; k < TLB_KINDS; k++)
		tlb_flush(v, &s->tlb[k]);
	tlb_flush_walks(s);
	exec_expire(&s->exec);
	memset(s->large, 0, sizeof(s->large));
	memset(s->giant, 0, sizeof(s->giant));
	s->low_global = false;
	s->stale = false;
}

static void tlb_set_flush_nonglobal(struct soft_vcpu *v, struct mmu_set *s)
{
	if (s->stale || !(v->cr4 & CR4_PGE)) {
		tlb_set_flush(v, s);
		return;
	}
	if (v->direct)
		direct_note_set(v, s);
	tlb_window_drop(v);
	for (unsigned k = 0; k < TLB_KINDS; k++)
		tlb_flush_nonglobal(v, &s->tlb[k]);
	tlb_flush_walks(s);
	exec_expire(&s->exec);
}

static bool tlb_bit(const u64 *set, unsigned n)
{
	return set[n / 64] >> (n % 64) & 1;
}

static void tlb_set_bit(u64 *set, unsigned n, bool on)
{
	set[n / 64] = (set[n / 64] & ~BIT64(n % 64)) | (u64)on << (n % 64);
}

/* Makes place for page in slot n: what is there moves to the second half. */
static void tlb_displace(struct mem *m, struct mmu_tlb *t, unsigned n, u64 page)
{
	unsigned n2 = n + TLB_SIZE;
	bool other = tlb_bit(t->used, n) && tlb_page(&t->e[n]) != page &&
		     tlb_page(&t->e[n]) != TLB_NONE;

	if (!other)
		tlb_drop(m, &t->e[n]);
	if (tlb_bit(t->used, n2) && (other || tlb_page(&t->e[n2]) == page))
		tlb_drop(m, &t->e[n2]);
	if (!other)
		return;
	t->second = true;
	t->e[n2] = t->e[n];
	tlb_set_bit(t->used, n2, true);
	tlb_set_bit(t->global, n2, tlb_bit(t->global, n));
}

void tlb_fill(struct soft_vcpu *v, enum mmu_kind kind, gva_t lin,
	      const struct tlb_entry *e, bool global, u64 size)
{
	struct mmu_set *s = v->mmu->set;
	struct mmu_tlb *t = &s->tlb[kind];
	unsigned n = (lin >> PAGE_SHIFT) & (TLB_SIZE - 1);

	tlb_displace(soft_mem(v), t, n, lin & ~PAGE_MASK);
	t->e[n] = *e;
	tlb_set_bit(t->used, n, true);
	tlb_set_bit(t->global, n, global);
	if (global)
		s->low_global |= !(lin >> 63);
	if (size > 4 * MIB)
		tlb_filter_add(s->giant, lin >> 30);
	else if (size > PAGE_SIZE)
		tlb_filter_add(s->large, lin >> 21);
}

void tlb_drop_write(struct soft_vcpu *v, struct mmu_set *s, const u8 *host)
{
	struct mem *m = soft_mem(v);

	tlb_window_drop(v);
	for (unsigned k = 0; k < TLB_KINDS; k++)
		TLB_FOR_USED(&s->tlb[k], n)
		{
			struct tlb_entry *e = &s->tlb[k].e[n];

			if (e->tag_write == TLB_NONE ||
			    (host &&
			     (const u8 *)(e->tag_write + e->addend) != host))
				continue;
			if (m->dirty)
				tlb_mark_dirty(m, e);
			e->tag_write = TLB_NONE;
		}
}

/*
 * A set that is not current is only marked; its write tags are dropped when
 * it is used again. While dirty pages are logged that would be too late.
 */
static void tlb_set_retire(struct soft_vcpu *v, struct mmu_set *s)
{
	if (s == v->mmu->set || soft_mem(v)->dirty)
		tlb_set_flush(v, s);
	else
		s->stale = true;
	if (v->direct)
		direct_note_set(v, s);
}

void mmu_flush_all(struct soft_vcpu *v)
{
	for (unsigned i = 0; i < MMU_SETS; i++)
		if (v->mmu->sets[i].live)
			tlb_set_retire(v, &v->mmu->sets[i]);
	exec_expire(&v->mmu->exec);
	exec_update(v);
}

void mmu_flush_nonglobal(struct soft_vcpu *v)
{
	for (unsigned i = 0; i < MMU_SETS; i++) {
		struct mmu_set *s = &v->mmu->sets[i];

		if (!s->live)
			continue;
		if (s == v->mmu->set)
			tlb_set_flush_nonglobal(v, s);
		else
			tlb_set_retire(v, s);
	}
	exec_address_space_changed(v);
	exec_update(v);
}

static struct mmu_set *mmu_find_set(struct soft_mmu *m, u16 pcid)
{
	for (unsigned i = 0; i < MMU_SETS; i++)
		if (m->sets[i].live && m->sets[i].pcid == pcid)
			return &m->sets[i];
	return NULL;
}

static struct mmu_set *mmu_oldest_set(struct soft_mmu *m)
{
	struct mmu_set *s = &m->sets[0];

	for (unsigned i = 0; i < MMU_SETS; i++) {
		if (!m->sets[i].live)
			return &m->sets[i];
		if (m->sets[i].used < s->used)
			s = &m->sets[i];
	}
	return s;
}

/*
 * The second half stays zeros, untouched memory: a tag of 0 is that of the
 * first page, which only accesses in the first and the last slot can end in.
 */
void tlb_make(struct mmu_tlb *t)
{
	static const struct tlb_entry none = {
		.tag_read = TLB_NONE,
		.tag_write = TLB_NONE,
		.tag_exec = TLB_NONE,
	};

	for (unsigned i = 0; i < TLB_SIZE; i++)
		t->e[i] = none;
	t->e[TLB_SIZE] = t->e[2 * TLB_SIZE - 1] = none;
	t->made = true;
}

static void mmu_claim_set(struct soft_vcpu *v, struct mmu_set *s, u16 pcid)
{
	tlb_set_flush(v, s);
	s->live = true;
	s->pcid = pcid;
}

void mmu_cr3_changed(struct soft_vcpu *v, bool keep)
{
	struct soft_mmu *m = v->mmu;
	u16 pcid = v->cr4 & CR4_PCIDE ? v->cr3 & 0xfff : 0;
	struct mmu_set *s = mmu_find_set(m, pcid);

	if (!s) {
		s = mmu_oldest_set(m);
		mmu_claim_set(v, s, pcid);
	} else if (!keep) {
		tlb_set_flush_nonglobal(v, s);
	} else if (s->stale) {
		tlb_set_flush(v, s);
	}
	s->used = ++m->tick;
	m->set = s;
	tlb_window_drop(v);
	exec_address_space_changed(v);
	exec_update(v);
	mmu_select(v);
	if (v->direct)
		soft_direct_switched(v);
}

void mmu_trim(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;
	u8 *begin = (u8 *)m->sets, *end = (u8 *)(m->sets + MMU_SETS);
	u8 *from = (u8 *)ALIGN_UP((u64)begin, PAGE_SIZE);
	u8 *to = (u8 *)((u64)end & ~PAGE_MASK);

	for (unsigned i = 0; i < MMU_SETS; i++)
		if (m->sets[i].live)
			tlb_set_flush(v, &m->sets[i]);
	memset(begin, 0, (size_t)(from - begin));
	memset(to, 0, (size_t)(end - to));
	if (madvise(from, (size_t)(to - from), MADV_DONTNEED))
		memset(from, 0, (size_t)(to - from));
	exec_expire(&m->exec);
	mmu_cr3_changed(v, false);
}

/* Drops what of TLB t is in the same page of 2^shift bytes as lin. */
static void tlb_drop_large(struct mem *m, struct mmu_tlb *t, gva_t lin,
			   unsigned shift)
{
	TLB_FOR_USED(t, n)
	{
		if (tlb_page(&t->e[n]) >> shift == lin >> shift)
			tlb_drop(m, &t->e[n]);
	}
}

static void tlb_drop_page(struct mem *m, struct mmu_tlb *t, gva_t lin)
{
	unsigned n = (lin >> PAGE_SHIFT) & (TLB_SIZE - 1);

	for (unsigned i = 0; i < 2; i++, n += TLB_SIZE)
		if (tlb_bit(t->used, n))
			tlb_drop(m, &t->e[n]);
}

/* Drops lin in one set; a large page was cached in pieces, so all of them. */
static void tlb_set_invlpg(struct soft_vcpu *v, struct mmu_set *s, gva_t lin)
{
	struct mem *m = soft_mem(v);
	unsigned shift = 0;

	if (!s->live || s->stale)
		return;
	tlb_window_drop(v);
	exec_invlpg(&s->exec, lin);
	if (tlb_filter_has(s->giant, lin >> 30))
		shift = 30;
	else if (tlb_filter_has(s->large, lin >> 21) ||
		 tlb_filter_has(s->large, (lin >> 21) ^ 1))
		shift = 22; /* 4 MiB or, needlessly, two of 2 MiB */
	if (v->direct)
		direct_note_page(v, s, lin, shift);
	for (unsigned k = 0; k < TLB_KINDS; k++)
		if (shift)
			tlb_drop_large(m, &s->tlb[k], lin, shift);
		else
			tlb_drop_page(m, &s->tlb[k], lin);
}

void mmu_invlpg(struct soft_vcpu *v, gva_t lin)
{
	/* of other PCIDs only what is global */
	for (unsigned i = 0; i < MMU_SETS; i++) {
		struct mmu_set *s = &v->mmu->sets[i];

		if (s == v->mmu->set || lin >> 63 || s->low_global)
			tlb_set_invlpg(v, s, lin);
	}
	tlb_flush_walks(v->mmu->set);
	exec_invlpg(&v->mmu->exec, lin);
	exec_update(v);
}

void mmu_invpcid_addr(struct soft_vcpu *v, u16 pcid, gva_t lin)
{
	struct mmu_set *s = mmu_find_set(v->mmu, pcid);

	if (!s)
		return;
	tlb_set_invlpg(v, s, lin);
	tlb_flush_walks(s);
	exec_invlpg(&v->mmu->exec, lin);
	exec_update(v);
}

void mmu_invpcid_single(struct soft_vcpu *v, u16 pcid)
{
	struct mmu_set *s = mmu_find_set(v->mmu, pcid);

	if (!s)
		return;
	if (s == v->mmu->set)
		tlb_set_flush_nonglobal(v, s);
	else
		tlb_set_retire(v, s);
	exec_address_space_changed(v);
	exec_update(v);
}
