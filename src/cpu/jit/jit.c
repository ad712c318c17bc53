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

#include "base/clock.h"
#include "cpu/jit/translate.h"
#include "cpu/soft/access.h"
#include "cpu/soft/code.h"
#include "cpu/x86/cpuid.h"

#define HWCAP2_FSGSBASE BIT(1)

static unsigned jit_hash(u64 rip, u64 at)
{
	return (unsigned)((rip ^ rip >> 14 ^ at << 3) % JIT_HASH_SIZE);
}

static struct jit_entry *jit_slot(struct jit *j, u64 lin)
{
	return &j->map[(lin ^ lin >> JIT_MAP_BITS) & (JIT_MAP_SIZE - 1)];
}

static struct jit_unit *jit_find(struct jit *j, u64 rip, u64 at, bool plain)
{
	struct jit_unit *t = j->hash[jit_hash(rip, at)];

	while (t && (t->rip != rip || t->at != at || t->plain != plain))
		t = t->hash_next;
	return t;
}

/* ---- Links ---- */

static void jit_patch(struct jit_link *l, const u8 *target)
{
	emit_patch32(l->site, target);
}

static void jit_link(struct jit_link *l, struct jit_unit *to, u64 key)
{
	l->key = key;
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
	struct jit_unit **at = &j->hash[jit_hash(t->rip, t->at)];
	struct jit_entry *e = jit_slot(j, t->rip);

	j->changed = true;
	while (*at != t)
		at = &(*at)->hash_next;
	*at = t->hash_next;
	while (t->incoming)
		jit_unlink(t->incoming);
	for (u32 k = 0; k < t->nlinks; k++)
		if (j->link[t->links + k].to)
			jit_unlink(&j->link[t->links + k]);
	if (e->unit == t)
		memset(e, 0, sizeof(*e));
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

/* ---- Pages ---- */

static void jit_written(struct soft_vcpu *v, u64 page, u64 off, u64 n)
{
	struct jit_unit **at = &v->jit->pages[page % JIT_PAGE_HASH];
	u64 granules =
		(~0ull << off / 64) & (~0ull >> (63 - (off + n - 1) / 64));

	while (*at) {
		struct jit_unit *t = *at;

		if (t->page == page && t->granules & granules) {
			*at = t->page_next;
			jit_drop(v->jit, t);
		} else {
			at = &t->page_next;
		}
	}
}

static u64 jit_granules(struct soft_vcpu *v, u64 page)
{
	struct jit_unit *t = v->jit->pages[page % JIT_PAGE_HASH];
	u64 granules = 0;

	for (; t; t = t->page_next)
		if (t->page == page)
			granules |= t->granules;
	return granules;
}

/* ---- Translating ---- */

static bool jit_mode_ok(const struct soft_vcpu *v)
{
	return (v->mode & (MODE_CS64 | MODE_AC)) == MODE_CS64;
}

static bool jit_make(struct soft_vcpu *v, u64 at, const u8 *host, bool plain)
{
	struct jit *j = v->jit;
	struct jit_unit *t;
	u64 begin = soft_trace(v) ? clock_ns() : 0;

	if (!unit_read(&j->u, v->rip, host - (v->rip & PAGE_MASK)) ||
	    j->u.in[0].kind == UNIT_INTERP)
		return true;
	if (j->nunits == JIT_UNITS)
		return false;
	t = &j->unit[j->nunits++];
	*t = (struct jit_unit){.rip = v->rip,
			       .at = at,
			       .page = (u32)(at >> PAGE_SHIFT),
			       .granules = j->u.granules,
			       .plain = plain};
	if (!jit_translate(v, j, t))
		return false;
	t->hash_next = j->hash[jit_hash(t->rip, at)];
	j->hash[jit_hash(t->rip, at)] = t;
	t->page_next = j->pages[t->page % JIT_PAGE_HASH];
	j->pages[t->page % JIT_PAGE_HASH] = t;
	v->vcpu.stat[VCPU_STAT_UNITS]++;
	v->vcpu.stat[VCPU_STAT_TRANSLATED] += j->u.n;
	soft_code_hold(v, t->page, t->granules);
	if (trace_on(soft_trace(v), JIT_TRACES))
		jit_show(v, t, clock_ns() - begin);
	return true;
}

/*
 * The page of v->rip, which the interpreter has decoded code of (so it is
 * marked), or NULL.
 */
static const u8 *jit_fetch(struct soft_vcpu *v, u64 *at)
{
	const u8 *host;

	if (!jit_mode_ok(v) || !lin_canonical(v->rip))
		return NULL;
	host = soft_host(v, v->rip, 1, MMU_EXEC);
	if (host)
		*at = (u64)(host - soft_mem(v)->base);
	return host;
}

static void jit_heat(struct soft_vcpu *v)
{
	const u8 *host;
	u64 at;

	host = jit_fetch(v, &at);
	if (!host || jit_find(v->jit, v->rip, at, false))
		return;
	soft_code_hold(v, at >> PAGE_SHIFT, 0);
	if (!jit_make(v, at, host, false)) {
		jit_flush(v);
		jit_make(v, at, host, false);
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
	struct jit_entry *e = jit_slot(v->jit, v->rip);
	struct jit_unit *t;
	const u8 *host;
	u64 at;

	if (e->lin == v->rip && e->key == v->fetch_key && e->unit)
		return e->unit;
	host = jit_fetch(v, &at);
	t = host ? jit_find(v->jit, v->rip, at, false) : NULL;
	if (t)
		*e = (struct jit_entry){
			.lin = v->rip,
			.key = v->fetch_key,
			.code = codebuf_exec(&v->jit->buf, t->entry_fl),
			.unit = t};
	return t;
}

/* What is to be linked: the plain unit is made where it is wanted. */
static struct jit_unit *jit_linked(struct soft_vcpu *v)
{
	const struct jit_link *l = v->jit_pending;
	struct jit_unit *t;
	const u8 *host;
	u64 at;

	if (!l->plain)
		return jit_lookup(v);
	host = jit_fetch(v, &at);
	t = host ? jit_find(v->jit, v->rip, at, true) : NULL;
	if (t || !host)
		return t;
	if (jit_make(v, at, host, true))
		return jit_find(v->jit, v->rip, at, true);
	jit_flush(v); /* the link is gone as well */
	return NULL;
}

static enum soft_jit_result jit_run(struct soft_vcpu *v)
{
	struct jit *j = v->jit;
	struct jit_unit *t = jit_lookup(v);
	enum jit_exit (*enter)(struct soft_vcpu *, const void *);
	const void *code = codebuf_exec(&j->buf, j->enter);
	enum jit_exit why;
	bool attention;

	if (!t) {
		v->jit_left = j->left[JIT_EXIT_NONE];
		return JIT_NONE;
	}
	memcpy(&enter, &code, sizeof(enter));
	asm volatile("wrgsbase %0" : : "r"(v));
	v->jit_no_simd = jit_no_simd(v);
	do {
		why = enter(v, codebuf_exec(&j->buf, t->entry_fl));
		attention = __atomic_load_n(&v->attention, __ATOMIC_RELAXED);
		jit_count(v, why, attention);
		if (why >= JIT_EXIT_INTERP)
			return JIT_INTERP;
		if (attention)
			break;
		t = why == JIT_EXIT_LINK ? jit_linked(v) : jit_lookup(v);
		if (t && why == JIT_EXIT_LINK)
			jit_link(v->jit_pending, t, v->fetch_key);
	} while (t);
	return JIT_RAN;
}

static const struct soft_jit_ops jit_ops = {
	.run = jit_run,
	.heat = jit_heat,
	.written = jit_written,
	.granules = jit_granules,
	.flush = jit_flush,
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
	codebuf_fini(&j->buf);
	free(j->unit);
	free(j->link);
	free(j->tr);
	free(j);
	v->jit = NULL;
}

static int jit_init(struct soft_vcpu *v, u64 cache, struct err *e)
{
	struct jit *j;
	int rc = jit_host_check(e);

	if (rc)
		return rc;
	j = calloc(1, sizeof(*j));
	if (!j)
		return err_set(e, -ENOMEM, "no memory for the translator");
	j->unit = calloc(JIT_UNITS, sizeof(*j->unit));
	j->link = calloc(JIT_LINKS, sizeof(*j->link));
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
	return 0;
}

const struct soft_translator jit_translator = {
	.init = jit_init,
	.fini = jit_fini,
};
