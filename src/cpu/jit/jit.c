/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator of a vCPU: making units of what is hot, and running them.
 */
#include "cpu/jit/jit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "cpu/jit/book.h"
#include "cpu/jit/lockstep.h"
#include "cpu/jit/show.h"
#include "cpu/jit/space.h"
#include "cpu/jit/translate.h"
#include "cpu/soft/access.h"
#include "cpu/soft/code.h"
#include "cpu/soft/event.h"
#include "cpu/x86/cpuid.h"

#define HWCAP2_FSGSBASE BIT(1)

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
	struct jit_unit *s = space_new_unit(v->jit);

	*s = (struct jit_unit){
		.page = (u32)page, .granules = 1, .second = true, .twin = t};
	t->twin = s;
	book_add_second(v->jit, s);
	soft_code_hold(v, page, s->granules);
}

/* Translates v->jit->u, for which there is room. */
static void jit_translate_at(struct soft_vcpu *v, const struct jit_place *p,
			     u8 level)
{
	struct jit *j = v->jit;
	u64 begin = soft_trace(v) ? clock_ns() : 0;
	struct jit_unit *t = space_new_unit(j);

	*t = (struct jit_unit){.at = p->at,
			       .pin = p->pin,
			       .page = (u32)(p->at >> PAGE_SHIFT),
			       .granules = j->u.granules,
			       .level = level,
			       .code32 = p->code32};
	if (!jit_translate(v, j, t))
		return;
	book_add(j, t);
	v->vcpu.stat[VCPU_STAT_UNITS]++;
	v->vcpu.stat[VCPU_STAT_TRANSLATED] += j->u.n;
	soft_code_hold(v, t->page, t->granules);
	if (j->u.crosses)
		jit_make_second(v, t, mem_page(soft_mem(v), p->next));
	if (trace_on(soft_trace(v), JIT_TRACES))
		jit_show(v, soft_trace(v), t, clock_ns() - begin);
}

/*
 * Makes the unit of that level at v->rip, if one can be made of what is there.
 * False: others were dropped to make room, v->jit_pending's perhaps.
 */
static bool jit_make(struct soft_vcpu *v, const struct jit_place *p, u8 level)
{
	struct jit *j = v->jit;
	bool fits;

	j->u.code32 = p->code32;
	j->u.pin = p->pin;
	if (!unit_read(&j->u, v->rip & PAGE_MASK,
		       p->host - (v->rip & PAGE_MASK), p->next) ||
	    j->u.in[0].kind == UNIT_INTERP)
		return true;
	fits = space_fits(j, j->u.n);
	if (!fits)
		book_evict(v);
	jit_translate_at(v, p, level);
	return fits;
}

/*
 * Whether units at v->rip are made for that address only: those of a kernel in
 * the topmost 2 GiB, unless its mapping changes all the time. What may cross
 * into another page is not.
 */
static bool jit_pins(const struct soft_vcpu *v)
{
	return v->cpl == 0 && v->mode & MODE_CS64 &&
	       v->rip >= (u64) - (s64)(2 * GIB) && v->cr4 & CR4_PGE &&
	       v->jit->remaps < JIT_REMAPS && !unit_near_end((s64)v->rip);
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
	p->pin = jit_pins(v) ? v->rip & ~(u64)PAGE_MASK : 0;
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

	if (!jit_fetch(v, &p) || book_find(v, &p, UNIT_WINDOW))
		return;
	jit_hold(v, &p);
	jit_make(v, &p, UNIT_WINDOW);
}

static void jit_trim(struct soft_vcpu *v)
{
	struct jit *j = v->jit;
	u64 from = ALIGN_UP((u64)j->map, PAGE_SIZE);

	/* All zeros since they were cleared. */
	madvise((void *)from, ((u64)&j->unit & ~PAGE_MASK) - from,
		MADV_DONTNEED);
	space_trim(j);
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

struct jit_unit *jit_lookup(struct soft_vcpu *v)
{
	struct jit_entry *e = book_entry(v);
	const struct soft_block *b;
	struct jit_unit *t;
	struct jit_place p;

	v->code_page = v->rip & ~(u64)PAGE_MASK;
	if (e->lin == v->rip && e->key == v->fetch_key && e->unit)
		return e->unit;
	b = code_known(v);
	if (b && b->heat > 1)
		return NULL; /* still cold */
	t = jit_fetch(v, &p) ? book_find_any(v, &p) : NULL;
	if (t)
		book_map(v, e, t);
	return t;
}

/*
 * What v->jit_pending is to go to: units of other levels are made where
 * wanted, and so are in a kernel those that are not pinned beside one that is
 * not: whoever runs that may have another mapping. NULL too where that link is
 * gone.
 */
static struct jit_unit *jit_linked(struct soft_vcpu *v)
{
	const struct jit_link *l = v->jit_pending;
	struct jit_unit *t;
	struct jit_place p;

	if (!l->level && (l->cross || l->pinned || !jit_pins(v)))
		return jit_lookup(v);
	if (!jit_fetch(v, &p))
		return NULL;
	if (!l->pinned)
		p.pin = 0;
	t = book_find(v, &p, l->level);
	if (t)
		return t;
	return jit_make(v, &p, l->level) ? book_find(v, &p, l->level) : NULL;
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
	book_clear(v);
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
			book_link(v, v->jit_pending, t, page);
	} while (t);
	return JIT_RAN;
}

static const struct soft_jit_ops jit_ops = {
	.run = jit_run,
	.heat = jit_heat,
	.written = book_written,
	.granules = book_granules,
	.flush = book_clear,
	.trim = jit_trim,
	.remapped = book_remapped,
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
	space_fini(j);
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
	j = mmap(NULL, sizeof(*j), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (j == MAP_FAILED)
		return err_set(e, -ENOMEM, "no memory for the translator");
	v->jit = j;
	j->tr = calloc(1, sizeof(*j->tr));
	rc = codebuf_init(&j->buf, cache ? cache : JIT_CACHE_DEFAULT, e);
	if (!rc && (!j->tr || !space_init(j)))
		rc = err_set(e, -ENOMEM, "no memory for the translator");
	if (!rc && !jit_common(v, j))
		rc = err_set(e, -ENOSPC, "the code cache is too small");
	if (rc) {
		jit_fini(v);
		return rc;
	}
	space_clear(j);
	v->jit_map = j->map;
	v->heat = JIT_HEAT;
	v->jit_ops = &jit_ops;
	return v->vcpu.engine->config.lockstep ? jit_begin_lockstep(v, e) : 0;
}

const struct soft_translator jit_translator = {
	.init = jit_init,
	.fini = jit_fini,
};
