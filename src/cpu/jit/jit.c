/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator's books: units by address and by page, links between them,
 * running, dropping.
 */
#include "cpu/jit/jit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "cpu/jit/lockstep.h"
#include "cpu/jit/show.h"
#include "cpu/jit/translate.h"
#include "cpu/soft/access.h"
#include "cpu/soft/code.h"
#include "cpu/soft/event.h"
#include "cpu/x86/cpuid.h"

#define HWCAP2_FSGSBASE BIT(1)

static unsigned jit_hash(u64 at)
{
	return (unsigned)((at ^ at >> 16) % JIT_HASH_SIZE);
}

/* As branch_lookup() computes it. */
static u32 jit_slot(u64 lin, u64 key)
{
	return (u32)(lin ^ lin >> JIT_MAP_BITS ^ key) & (JIT_MAP_SIZE - 1);
}

/* Where v->rip is in memory, and the page after, where that matters. */
struct jit_place {
	const u8 *host, *next; /* next: NULL if not known */
	u64 at;                /* offset in the memfd */
	bool code32;
};

/* What crosses is right only if the page after is the one it ends in. */
static bool jit_fits(struct soft_vcpu *v, const struct jit_unit *t,
		     const struct jit_place *p)
{
	return !t->twin ||
	       (p->next && mem_page(soft_mem(v), p->next) == t->twin->page);
}

static struct jit_unit *jit_find(struct soft_vcpu *v, const struct jit_place *p,
				 u8 level)
{
	struct jit_unit *t = v->jit->hash[jit_hash(p->at)];

	while (t && (t->at != p->at || t->level != level ||
		     t->code32 != p->code32 || !jit_fits(v, t, p)))
		t = t->hash_next;
	return t;
}

/* Leads from lin to t; of the entries that do, t knows the latest. */
static void jit_enter(struct soft_vcpu *v, u32 slot, struct jit_unit *t)
{
	struct jit *j = v->jit;
	u16 *known = &t->slot[t->nslots++ % JIT_SLOTS];

	if (t->nslots > JIT_SLOTS && j->map[*known].unit == t)
		memset(&j->map[*known], 0, sizeof(j->map[0]));
	if (t->nslots == 2 * JIT_SLOTS)
		t->nslots = JIT_SLOTS;
	*known = (u16)slot;
	j->map[slot] =
		(struct jit_entry){.lin = v->rip,
				   .key = v->fetch_key,
				   .code = codebuf_exec(&j->buf, t->entry_fl),
				   .unit = t};
}

static void jit_forget(struct jit *j, const struct jit_unit *t)
{
	for (u32 k = 0; k < MIN(t->nslots, JIT_SLOTS); k++)
		if (j->map[t->slot[k]].unit == t)
			memset(&j->map[t->slot[k]], 0, sizeof(j->map[0]));
}

/* ---- Links ---- */

static void jit_patch(struct jit_link *l, const u8 *target)
{
	emit_patch32(l->site, target);
}

/*
 * To what v->rip is: by a branch in that page. What crosses pages is entered
 * only with its key checked.
 */
static void jit_link(struct soft_vcpu *v, struct jit_link *l,
		     struct jit_unit *to, u64 page)
{
	if (to->twin && !l->cross && !l->level)
		return;
	l->key = v->fetch_key;
	l->page = page;
	l->patience = JIT_PATIENCE;
	if (l->to == to)
		return;
	l->to = to;
	l->next_in = to->incoming;
	to->incoming = l;
	jit_patch(l, l->in_fl || l->cross ? to->entry_fl : to->entry_host);
	codebuf_serialize();
}

/* Out of the list of its target; the jump goes to the monitor again. */
static void jit_unlink(struct jit_link *l)
{
	struct jit_link **at = &l->to->incoming;

	while (*at != l)
		at = &(*at)->next_in;
	*at = l->next_in;
	l->to = NULL;
	l->key = 0;
	jit_patch(l, l->unlinked);
}

static void jit_drop(struct jit *j, struct jit_unit *t)
{
	struct jit_unit **at = &j->hash[jit_hash(t->at)];

	j->changed = true;
	while (*at != t)
		at = &(*at)->hash_next;
	*at = t->hash_next;
	while (t->incoming)
		jit_unlink(t->incoming);
	for (u32 k = 0; k < t->nlinks; k++)
		if (j->link[t->links + k].to)
			jit_unlink(&j->link[t->links + k]);
	jit_forget(j, t);
	codebuf_serialize();
}

static void jit_flush(struct soft_vcpu *v)
{
	struct jit *j = v->jit;

	memset(j->map, 0, sizeof(j->map));
	memset(j->hash, 0, sizeof(j->hash));
	memset(j->pages, 0, sizeof(j->pages));
	j->nunits = j->nlinks = 0;
	j->buf.used = j->common_end;
	j->changed = true;
	v->vcpu.stat[VCPU_STAT_TR_FLUSH]++;
	codebuf_serialize();
}

/* Tables are mapped, not allocated: pages of them can be given back. */
static void *jit_table(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

#define JIT_UNIT_BYTES (JIT_UNITS * sizeof(struct jit_unit))
#define JIT_LINK_BYTES (JIT_LINKS * sizeof(struct jit_link))

static void jit_trim(struct soft_vcpu *v)
{
	struct jit *j = v->jit;
	u64 from = ALIGN_UP((u64)j->map, PAGE_SIZE);

	/* All zeros since they were flushed. */
	madvise((void *)from, ((u64)&j->unit & ~PAGE_MASK) - from,
		MADV_DONTNEED);

	madvise(j->unit, JIT_UNIT_BYTES, MADV_DONTNEED);
	madvise(j->link, JIT_LINK_BYTES, MADV_DONTNEED);
	codebuf_trim(&j->buf);
}

/* ---- Pages ---- */

static struct jit_unit **jit_page(struct jit *j, u64 page)
{
	return &j->pages[page % JIT_PAGE_HASH];
}

static void jit_page_enter(struct jit *j, struct jit_unit *t)
{
	t->page_next = *jit_page(j, t->page);
	*jit_page(j, t->page) = t;
}

static void jit_page_leave(struct jit *j, struct jit_unit *t)
{
	struct jit_unit **at = jit_page(j, t->page);

	while (*at != t)
		at = &(*at)->page_next;
	*at = t->page_next;
}

static void jit_written(struct soft_vcpu *v, u64 page, u64 off, u64 n)
{
	struct jit_unit **at = jit_page(v->jit, page);
	u64 granules =
		(~0ull << off / 64) & (~0ull >> (63 - (off + n - 1) / 64));

	while (*at) {
		struct jit_unit *t = *at;

		if (t->page != page || !(t->granules & granules)) {
			at = &t->page_next;
			continue;
		}
		*at = t->page_next;
		if (t->twin) {
			jit_page_leave(v->jit, t->twin);
			at = jit_page(v->jit, page);
		}
		jit_drop(v->jit, t->second ? t->twin : t);
	}
}

static u64 jit_granules(struct soft_vcpu *v, u64 page)
{
	struct jit_unit *t = *jit_page(v->jit, page);
	u64 granules = 0;

	for (; t; t = t->page_next)
		if (t->page == page)
			granules |= t->granules;
	return granules;
}

/* ---- Translating ---- */

static bool jit_mode_ok(const struct soft_vcpu *v)
{
	const struct seg_state *cs = &v->seg[SEG_CS];
	u32 mode = v->mode & (MODE_CS64 | MODE_CS32 | MODE_SS32 | MODE_FLAT |
			      MODE_PE | MODE_VM86 | MODE_AC);

	if (mode & MODE_CS64)
		return !(mode & MODE_AC);
	return mode == (MODE_CS32 | MODE_SS32 | MODE_FLAT | MODE_PE) &&
	       !cs->base && cs->limit == ~0u;
}

/* In the page where t's instruction ends. */
static void jit_make_second(struct soft_vcpu *v, struct jit_unit *t, u64 page)
{
	struct jit *j = v->jit;
	struct jit_unit *s = &j->unit[j->nunits++];

	*s = (struct jit_unit){
		.page = (u32)page, .granules = 1, .second = true, .twin = t};
	t->twin = s;
	jit_page_enter(j, s);
	soft_code_hold(v, page, s->granules);
}

static bool jit_make(struct soft_vcpu *v, const struct jit_place *p, u8 level)
{
	struct jit *j = v->jit;
	struct jit_unit *t;
	u64 begin = soft_trace(v) ? clock_ns() : 0;

	j->u.code32 = p->code32;
	if (!unit_read(&j->u, v->rip & PAGE_MASK,
		       p->host - (v->rip & PAGE_MASK), p->next) ||
	    j->u.in[0].kind == UNIT_INTERP)
		return true;
	if (j->nunits + 2 > JIT_UNITS)
		return false;
	t = &j->unit[j->nunits++];
	*t = (struct jit_unit){.at = p->at,
			       .page = (u32)(p->at >> PAGE_SHIFT),
			       .granules = j->u.granules,
			       .level = level,
			       .code32 = p->code32};
	if (!jit_translate(v, j, t))
		return false;
	t->hash_next = j->hash[jit_hash(t->at)];
	j->hash[jit_hash(t->at)] = t;
	jit_page_enter(j, t);
	v->vcpu.stat[VCPU_STAT_UNITS]++;
	v->vcpu.stat[VCPU_STAT_TRANSLATED] += j->u.n;
	soft_code_hold(v, t->page, t->granules);
	if (j->u.crosses)
		jit_make_second(v, t, mem_page(soft_mem(v), p->next));
	if (trace_on(soft_trace(v), JIT_TRACES))
		jit_show(v, soft_trace(v), t, clock_ns() - begin);
	return true;
}

/*
 * Where v->rip is; the interpreter has decoded code of that page, so it is
 * marked. False: not in RAM, or not now.
 */
static bool jit_fetch(struct soft_vcpu *v, struct jit_place *p)
{
	if (!jit_mode_ok(v) || !lin_canonical(v->rip))
		return false;
	p->code32 = !(v->mode & MODE_CS64);
	if (p->code32)
		v->rip = (u32)v->rip;
	p->host = soft_host(v, v->rip, 1, MMU_EXEC);
	p->next = NULL;
	if (!p->host)
		return false;
	p->at = (u64)(p->host - soft_mem(v)->base);
	if (unit_near_end(v->rip) &&
	    (p->code32 ? (v->rip | PAGE_MASK) != ~0u
		       : lin_canonical((v->rip | PAGE_MASK) + 1)))
		p->next = soft_host(v, (v->rip | PAGE_MASK) + 1, 1, MMU_EXEC);
	return true;
}

/* Marks the pages before their bytes are read. */
static void jit_hold(struct soft_vcpu *v, const struct jit_place *p)
{
	u64 page = p->at >> PAGE_SHIFT;

	soft_code_hold(v, page, 0);
	if (p->next) {
		soft_code_hold(v, mem_page(soft_mem(v), p->next), 0);
		soft_code_hold(v, page, 0); /* that may have dropped all */
	}
}

static void jit_heat(struct soft_vcpu *v)
{
	struct jit_place p;

	if (!jit_fetch(v, &p) || jit_find(v, &p, UNIT_WINDOW))
		return;
	jit_hold(v, &p);
	if (!jit_make(v, &p, UNIT_WINDOW)) {
		jit_flush(v);
		jit_make(v, &p, UNIT_WINDOW);
	}
}

/* ---- Running ---- */

u32 jit_no_simd(const struct soft_vcpu *v)
{
	u32 mxcsr;

	memcpy(&mxcsr, v->xsave + 24, 4);
	return (v->cr0 & (CR0_TS | CR0_EM)) ||
	       (v->cr4 & (CR4_OSFXSR | CR4_OSXSAVE)) !=
		       (CR4_OSFXSR | CR4_OSXSAVE) ||
	       (v->xcr0 & 7) != 7 || (mxcsr & 0x1f80) != 0x1f80;
}

/* The unit at v->rip under the present mapping, remembered in the map. */
struct jit_unit *jit_lookup(struct soft_vcpu *v)
{
	u32 slot = jit_slot(v->rip, v->fetch_key);
	const struct jit_entry *e = &v->jit->map[slot];
	struct jit_unit *t;
	struct jit_place p;

	v->code_page = v->rip & ~(u64)PAGE_MASK;
	if (e->lin == v->rip && e->key == v->fetch_key && e->unit)
		return e->unit;
	t = jit_fetch(v, &p) ? jit_find(v, &p, UNIT_WINDOW) : NULL;
	if (t)
		jit_enter(v, slot, t);
	return t;
}

/* What is to be linked: units of other levels are made where wanted. */
static struct jit_unit *jit_linked(struct soft_vcpu *v)
{
	const struct jit_link *l = v->jit_pending;
	struct jit_unit *t;
	struct jit_place p;

	if (!l->level)
		return jit_lookup(v);
	if (!jit_fetch(v, &p))
		return NULL;
	t = jit_find(v, &p, l->level);
	if (t)
		return t;
	if (jit_make(v, &p, l->level))
		return jit_find(v, &p, l->level);
	jit_flush(v); /* the link is gone as well */
	return NULL;
}

enum jit_exit jit_go(struct soft_vcpu *v, const void *code)
{
	const void *p = codebuf_exec(&v->jit->buf, v->jit->enter);
	enum jit_exit (*enter)(struct soft_vcpu *, const void *);

	memcpy(&enter, &p, sizeof(enter));
	return enter(v, code);
}

/* As long as asked for; then everything is translated anew. */
static void jit_end_lockstep(struct soft_vcpu *v)
{
	struct jit *j = v->jit;

	fprintf(soft_trace(v) ? trace_file(soft_trace(v)) : stderr,
		"lock step: %lu instructions, %lu runs of translated code "
		"compared, no difference\n",
		v->insns, j->lock->checks);
	lockstep_free(v, j->lock);
	j->lock = NULL;
	j->u.twice = false;
	v->heat = JIT_HEAT;
	jit_flush(v);
}

static enum soft_jit_result jit_run(struct soft_vcpu *v)
{
	struct jit *j = v->jit;
	struct jit_unit *t;
	enum jit_exit why;
	bool attention;
	u64 page;

	if (unlikely(j->lock) && v->insns >= j->lock->until)
		jit_end_lockstep(v);
	t = jit_lookup(v);
	if (!t) {
		v->jit_left = j->left[JIT_EXIT_NONE];
		return JIT_NONE;
	}
	asm volatile("wrgsbase %0" : : "r"(v));
	v->jit_no_simd = jit_no_simd(v);
	do {
		const void *code = codebuf_exec(&j->buf, t->entry_fl);

		if (unlikely(j->lock))
			why = lockstep_run(v, j->lock, code);
		else
			why = jit_go(v, code);
		if (v->jit_fault) {
			v->jit_fault = false;
			soft_deliver_exception(v);
			why = JIT_EXIT_FAULT;
		}
		attention = __atomic_load_n(&v->attention, __ATOMIC_RELAXED);
		jit_count(v, why, attention);
		if (why >= JIT_EXIT_INTERP)
			return v->stop ? JIT_RAN : JIT_INTERP;
		if (attention || v->stop)
			break;
		page = v->code_page;
		t = why == JIT_EXIT_LINK ? jit_linked(v) : jit_lookup(v);
		if (t && why == JIT_EXIT_LINK)
			jit_link(v, v->jit_pending, t, page);
	} while (t);
	return JIT_RAN;
}

static const struct soft_jit_ops jit_ops = {
	.run = jit_run,
	.heat = jit_heat,
	.written = jit_written,
	.granules = jit_granules,
	.flush = jit_flush,
	.trim = jit_trim,
	.left_by_fault = jit_left_by_fault,
	.left = jit_left,
};

static int jit_host_check(struct err *e)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		return err_set(e, -ENOTSUP,
			       "no translator: the kernel does not allow "
			       "WRGSBASE");
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi2"))
		return err_set(e, -ENOTSUP,
			       "no translator: the CPU has no AVX2 or BMI2");
	return 0;
}

static void jit_fini(struct soft_vcpu *v)
{
	struct jit *j = v->jit;

	if (!j)
		return;
	if (j->lock)
		lockstep_free(v, j->lock);
	codebuf_fini(&j->buf);
	if (j->unit)
		munmap(j->unit, JIT_UNIT_BYTES);
	if (j->link)
		munmap(j->link, JIT_LINK_BYTES);
	free(j->tr);
	munmap(j, sizeof(*j));
	v->jit = NULL;
}

/* Nearly everything is to be translated. */
static int jit_begin_lockstep(struct soft_vcpu *v, struct err *e)
{
	v->jit->lock = lockstep_new(v, v->vcpu.engine->config.lockstep);
	if (!v->jit->lock) {
		jit_fini(v);
		return err_set(e, -ENOMEM, "no memory for lock step");
	}
	v->jit->u.twice = true;
	v->heat = 2;
	return 0;
}

static int jit_init(struct soft_vcpu *v, u64 cache, struct err *e)
{
	struct jit *j;
	int rc = jit_host_check(e);

	if (rc)
		return rc;
	j = jit_table(sizeof(*j));
	if (!j)
		return err_set(e, -ENOMEM, "no memory for the translator");
	j->unit = jit_table(JIT_UNIT_BYTES);
	j->link = jit_table(JIT_LINK_BYTES);
	j->tr = calloc(1, sizeof(*j->tr));
	v->jit = j;
	if (!j->unit || !j->link || !j->tr)
		rc = err_set(e, -ENOMEM, "no memory for the translator");
	else
		rc = codebuf_init(&j->buf, cache ? cache : JIT_CACHE_DEFAULT,
				  e);
	if (!rc && !jit_common(v, j))
		rc = err_set(e, -ENOSPC, "the code cache is too small");
	if (rc) {
		jit_fini(v);
		return rc;
	}
	v->jit_map = j->map;
	v->heat = JIT_HEAT;
	v->jit_ops = &jit_ops;
	return v->vcpu.engine->config.lockstep ? jit_begin_lockstep(v, e) : 0;
}

const struct soft_translator jit_translator = {
	.init = jit_init,
	.fini = jit_fini,
};
