/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The interpreter's loop: what happens between blocks.
 *
 * Blocks thread from one to the next by themselves (int.h) until something
 * wants attention, an entry point is not known, or an instruction faults.
 */
#include "cpu/soft/code.h"
#include "cpu/soft/direct.h"
#include "cpu/soft/event.h"
#include "cpu/soft/exclusive.h"
#include "cpu/soft/int.h"

static void interp_clear(struct soft_vcpu *v, u32 bits)
{
	__atomic_and_fetch(&v->attention, ~bits, __ATOMIC_SEQ_CST);
}

/* Runs from block b on, at v->rip. */
static void interp_block(struct soft_vcpu *v, struct soft_block *b)
{
	v->block = b;
	v->block_rip = v->rip;
	v->insns += b->n;
	int_run(v, b->insn);
	v->block = NULL;
}

/*
 * One instruction, with all that looks at single instructions. ATTN_MODE
 * keeps it from going on to the next block.
 */
static void interp_step(struct soft_vcpu *v)
{
	u64 begin = soft_step_begin(v);
	struct soft_block *b = code_lookup(v, true);

	soft_attention(v, ATTN_MODE);
	interp_block(v, b);
	interp_clear(v, ATTN_MODE);
	soft_step_end(v, begin);
}

unsigned soft_step_plain(struct soft_vcpu *v)
{
	struct soft_block *b = code_lookup(v, true);
	unsigned row = b->insn->row;

	soft_attention(v, ATTN_MODE);
	interp_block(v, b);
	interp_clear(v, ATTN_MODE);
	return row;
}

/* A fault in the middle of a block: those from there on did not run. */
static void interp_faulted(struct soft_vcpu *v)
{
	struct soft_block *b = v->block;
	const struct insn *i;

	if (v->jit)
		v->jit_ops->left_by_fault(v);
	v->block = NULL;
	v->block_pc = NULL;
	if (b) {
		u64 off = v->rip - v->block_rip;

		for (i = b->insn; i < b->insn + b->slots; i++)
			if (i->off >= off)
				break;
		for (; i < b->insn + b->slots; i++)
			if (i->len)
				v->insns--;
	}
	soft_deliver_exception(v);
}

/* Looks after what others asked for; -1, or the exit. */
static int interp_attend(struct soft_vcpu *v)
{
	u32 a = __atomic_load_n(&v->attention, __ATOMIC_SEQ_CST);

	if (a & ATTN_FLUSH) {
		interp_clear(v, ATTN_FLUSH);
		mmu_answer(v);
	}
	if (a & ATTN_CODE) {
		interp_clear(v, ATTN_CODE);
		soft_code_answer(v);
	}
	if (a & ATTN_SYNC) {
		interp_clear(v, ATTN_SYNC);
		soft_exclusive_answer(v);
	}
	if (a & ATTN_MODE)
		interp_clear(v, ATTN_MODE);
	if (a & ATTN_KICK) {
		interp_clear(v, ATTN_KICK);
		return VCPU_EXIT_KICKED;
	}
	if ((a & ATTN_IRQ) || v->mp_state != MP_RUNNABLE) {
		interp_clear(v, ATTN_IRQ);
		if (!soft_deliver_events(v))
			return VCPU_EXIT_HALTED;
	}
	return -1;
}

static enum vcpu_exit interp_stopped(struct soft_vcpu *v)
{
	return v->stop == STOP_SHUTDOWN ? VCPU_EXIT_SHUTDOWN : VCPU_EXIT_ERROR;
}

static struct soft_block *interp_find(struct soft_vcpu *v)
{
	struct soft_block *b = code_known(v);

	return b ? b : code_lookup(v, false);
}

/* Runs translated code at v->rip, which is made if block b there is hot. NULL:
 * no block is known; there may be code all the same. */
static enum soft_jit_result interp_translated(struct soft_vcpu *v,
					      struct soft_block *b)
{
	enum soft_jit_result r = JIT_NONE;

	if (b && b->heat > 1 && --b->heat > 1)
		return JIT_NONE;
	r = v->jit_ops->run(v);
	if (r == JIT_NONE && b) {
		v->jit_ops->heat(v);
		r = v->jit_ops->run(v);
		if (r == JIT_NONE) {
			v->vcpu.stat[VCPU_STAT_OUT_NONE]++;
			interp_find(v)->heat = SOFT_HEAT_AGAIN;
		}
	}
	return r;
}

/*
 * A block that a short look does not find, for it crosses pages or shares its
 * place there with another process's, gets hot here. True: b may be gone.
 */
static bool interp_heat(struct soft_vcpu *v, struct soft_block *b)
{
	if (b->heat <= 1 || --b->heat > 1)
		return false;
	v->jit_ops->heat(v);
	return true;
}

/* From v->rip on, by the translator where the code is hot. */
static void interp_go(struct soft_vcpu *v)
{
	struct soft_block *b = code_known(v);
	bool known = b != NULL;
	enum soft_jit_result r;

	if (v->jit) {
		r = interp_translated(v, b);
		if (r == JIT_RAN)
			return;
		b = interp_find(v);
		if (r == JIT_INTERP)
			v->jit_left[b->insn->op]++;
		else if (!known && interp_heat(v, b))
			b = interp_find(v);
	} else {
		if (!b)
			b = code_lookup(v, false);
		b->heat = SOFT_HEAT_NEVER;
	}
	interp_block(v, b);
}

static int interp_loop(struct soft_vcpu *v)
{
	u32 a;
	int rc;

	while (!v->stop) {
		a = __atomic_load_n(&v->attention, __ATOMIC_RELAXED);
		if (unlikely(a & ~ATTN_STEP) || v->mp_state != MP_RUNNABLE) {
			rc = interp_attend(v);
			if (rc >= 0)
				return rc;
			a = __atomic_load_n(&v->attention, __ATOMIC_RELAXED);
		}
		if (unlikely((a & ATTN_STEP) || v->shadow))
			interp_step(v);
		else if (!unlikely(v->direct_on) || v->cpl != 3 ||
			 !soft_direct_run(v))
			interp_go(v);
	}
	return interp_stopped(v);
}

enum vcpu_exit soft_run(struct soft_vcpu *v)
{
	int rc;

	if (sigsetjmp(v->fault_env, 0))
		interp_faulted(v);
	rc = interp_loop(v);
	simd_leave(v);
	v->vcpu.stat[VCPU_STAT_INSNS] = v->insns;
	return rc;
}
