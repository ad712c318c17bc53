/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/jit/lockstep.h"

#include <stdlib.h>
#include <string.h>

#include "cpu/soft/access.h"
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"

#define LOCK_TRIES 3

struct lockstep *lockstep_new(struct soft_vcpu *v, u64 insns)
{
	struct lockstep *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->until = v->insns + insns;
	v->undo = &l->by_interp;
	return l;
}

void lockstep_free(struct soft_vcpu *v, struct lockstep *l)
{
	v->undo = NULL;
	free(l);
}

/* ---- Registers ---- */

static void lock_save(struct soft_vcpu *v, struct lock_regs *r)
{
	simd_leave(v);
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->rip = v->rip;
	r->rflags = v->rflags;
	r->gs_base = v->seg[SEG_GS].base;
	r->kernel_gs_base = v->msr.kernel_gs_base;
	r->fl = v->fl;
	memcpy(r->xsave, v->xsave, sizeof(r->xsave));
}

static void lock_restore(struct soft_vcpu *v, const struct lock_regs *r)
{
	simd_leave(v);
	memcpy(v->gpr, r->gpr, sizeof(r->gpr));
	v->rip = r->rip;
	v->rflags = r->rflags;
	v->seg[SEG_GS].base = r->gs_base;
	v->msr.kernel_gs_base = r->kernel_gs_base;
	v->fl = r->fl;
	memcpy(v->xsave, r->xsave, sizeof(r->xsave));
}

/* The arithmetic flags as in RFLAGS. */
static u16 lock_flags(u16 fl)
{
	return (u16)((fl >> 8 & 0xd5) | (fl & 1) << 11);
}

static bool lock_same_flags(struct soft_vcpu *v, const struct lockstep *l)
{
	u16 diff = lock_flags(v->fl) ^ lock_flags(l->code.fl);

	diff &= (u16)~l->undefined;
	return !diff || !lockstep_live(v, v->rip, diff);
}

/*
 * x87 control, then registers and MXCSR, then upper halves: all but the last
 * instruction's addresses and opcode, and the header.
 */
static bool lock_same_vectors(const u8 *a, const u8 *b)
{
	return !memcmp(a, b, 6) && !memcmp(a + 24, b + 24, 4) &&
	       !memcmp(a + 32, b + 32, 384) && !memcmp(a + 576, b + 576, 256);
}

/* Whether the interpreter stands where the code was left. */
static bool lock_same(struct soft_vcpu *v, const struct lockstep *l)
{
	const struct lock_regs *c = &l->code;

	if (memcmp(v->gpr, c->gpr, sizeof(c->gpr)) ||
	    (v->rflags ^ c->rflags) & ~(u64)RFLAGS_RF ||
	    v->seg[SEG_GS].base != c->gs_base ||
	    v->msr.kernel_gs_base != c->kernel_gs_base)
		return false;
	simd_leave(v);
	return lock_same_vectors(v->xsave, c->xsave) && lock_same_flags(v, l);
}

/* ---- Memory ---- */

/* What the code wrote stands there now, by the interpreter. */
static bool lock_code_wrote(struct lockstep *l)
{
	const struct soft_undo *u = &l->by_code;

	for (u32 k = 0; k < u->n; k++) {
		const struct undo_write *w = &u->w[k];
		const u8 *after = u->after + w->at;

		if (!memcmp(after, w->host, w->n))
			continue;
		l->bad = w;
		for (l->bad_at = w->host; *l->bad_at == *after; after++)
			l->bad_at++;
		return false;
	}
	return true;
}

/* What the interpreter changed the code wrote too. */
static bool lock_interp_wrote(struct lockstep *l)
{
	const struct soft_undo *u = &l->by_interp;

	for (u32 k = 0; k < u->n; k++) {
		const struct undo_write *w = &u->w[k];

		for (u32 i = 0; i < w->n; i++) {
			if (u->before[w->at + i] == w->host[i] ||
			    undo_has(&l->by_code, w->host + i))
				continue;
			l->bad = NULL;
			l->bad_at = w->host + i;
			return false;
		}
	}
	return true;
}

/* ---- Running ---- */

static enum jit_exit lock_faulted(struct soft_vcpu *v)
{
	jit_left_by_fault(v);
	return JIT_EXIT_VALUE;
}

static bool lock_by_code(struct soft_vcpu *v, struct lockstep *l,
			 const void *code)
{
	sigjmp_buf env;

	memcpy(&env, &v->fault_env, sizeof(env));
	v->undo = &l->by_code;
	v->code_page = l->before.rip & ~(u64)PAGE_MASK;
	undo_begin(&l->by_code);
	if (!sigsetjmp(v->fault_env, 0))
		l->why = jit_go(v, code);
	else /* in a handler called from there, which changed nothing */
		l->why = lock_faulted(v);
	memcpy(&v->fault_env, &env, sizeof(env));
	v->jit_fault = false; /* the interpreter will raise it */
	undo_end(&l->by_code);
	mmu_noted_pages_done(v);
	v->undo = &l->by_interp;
	lock_save(v, &l->code);
	undo_roll_back(&l->by_code);
	lock_restore(v, &l->before);
	if (l->by_code.walked)
		mmu_flush_all(v);
	return !l->by_code.full;
}

/* What one executed instruction leaves undefined. */
static void lock_note_flags(struct lockstep *l, const struct op_row *row)
{
	u16 written = row->flags_written;

	if (row->attr & OPA_CONDFLAGS)
		written = 0;
	l->undefined = (u16)((l->undefined & ~written) | row->flags_undef) &
		       RFLAGS_ARITH;
}

/* Whether generated code could have run the instruction at v->rip. */
static bool lock_can_step(struct soft_vcpu *v)
{
	struct unit_insn x;

	return lockstep_look(v, &x, v->rip) && x.kind != UNIT_INTERP;
}

/*
 * l->path is kept up to the first time at the place where the code left. A loop
 * may come there several times with the same registers and other memory.
 */
static enum lock_result lock_steps(struct soft_vcpu *v, struct lockstep *l)
{
	enum lock_result r = LOCK_PLACE;

	for (unsigned k = 0; k < LOCK_STEPS && lock_can_step(v); k++) {
		if (r == LOCK_PLACE)
			l->path[l->steps++ % LOCK_PATH] = v->rip;
		lock_note_flags(l, &op_rows[soft_step_plain(v)]);
		if (v->rip != l->code.rip)
			continue;
		if (r == LOCK_PLACE) {
			lock_save(v, &l->interp);
			r = LOCK_REGS;
		}
		if (!lock_same(v, l))
			continue;
		if (lock_code_wrote(l) && lock_interp_wrote(l))
			return LOCK_SAME;
		r = LOCK_MEMORY;
	}
	return r;
}

/* Faults of the interpreter end here, for the code had none. */
static enum lock_result lock_by_interp(struct soft_vcpu *v, struct lockstep *l)
{
	volatile enum lock_result r = LOCK_FAULT;
	sigjmp_buf env;

	memcpy(&env, &v->fault_env, sizeof(env));
	l->undefined = 0;
	l->steps = 0;
	undo_begin(&l->by_interp);
	if (!sigsetjmp(v->fault_env, 0))
		r = lock_steps(v, l);
	v->block = NULL;
	v->block_pc = NULL;
	undo_end(&l->by_interp);
	memcpy(&v->fault_env, &env, sizeof(env));
	if (r == LOCK_FAULT)
		lock_save(v, &l->interp);
	return r;
}

static bool lock_did_nothing(const struct lockstep *l)
{
	const struct soft_undo *u = &l->by_code;

	return !memcmp(u->before, u->after, u->used) &&
	       l->code.rip == l->before.rip &&
	       l->code.rflags == l->before.rflags &&
	       l->code.gs_base == l->before.gs_base &&
	       !memcmp(l->code.gpr, l->before.gpr, sizeof(l->code.gpr)) &&
	       lock_same_vectors(l->code.xsave, l->before.xsave);
}

static enum lock_result lock_try(struct soft_vcpu *v, struct lockstep *l,
				 const void *code)
{
	enum lock_result r;

	/* Enough to enter a loop whose head polls. */
	v->jit_budget = 2 + l->turn++ % 4;
	if (!lock_by_code(v, l, code))
		return LOCK_FULL;
	if (lock_did_nothing(l))
		return LOCK_IDLE;
	r = lock_by_interp(v, l);
	if (r != LOCK_SAME && !l->by_interp.full) {
		undo_roll_back(&l->by_interp);
		lock_restore(v, &l->before);
		if (l->by_interp.walked)
			mmu_flush_all(v);
	}
	return r;
}

enum jit_exit lockstep_run(struct soft_vcpu *v, struct lockstep *l,
			   const void *code)
{
	enum lock_result r = LOCK_SAME;

	l->runs++;
	lock_save(v, &l->before);
	for (unsigned k = 0; k < LOCK_TRIES; k++) {
		r = lock_try(v, l, code);
		if (r == LOCK_SAME || r == LOCK_IDLE)
			break;
	}
	if (r == LOCK_SAME)
		l->checks++;
	else if (r != LOCK_IDLE)
		lockstep_report(v, l, r);
	else if (l->why < JIT_EXIT_LINK)
		l->why = JIT_EXIT_OP; /* must not be entered again at once */
	return l->why;
}
