/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Near branches: Jcc, JMP, CALL, RET, LOOP, JCXZ (SDM volume 1, 6.4).
 *
 * A direct branch within its page goes by soft_block.link, set the first time
 * the map of entry points knows the target. The target is checked (canonical,
 * or within CS) before the branch changes anything.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"
#include "cpu/soft/stack.h"

static ALWAYS_INLINE void branch_check(struct soft_vcpu *v,
				       const struct insn *i, u64 rip)
{
	if (v->mode & MODE_CS64) {
		if (unlikely(!lin_canonical(rip)))
			int_gp(v, i);
	} else if (unlikely(rip > v->seg[SEG_CS].limit)) {
		int_gp(v, i);
	}
}

/* To rip, where there is no link yet. */
static void branch_unlinked(struct soft_vcpu *v, const struct insn *i, u64 rip,
			    unsigned slot)
{
	const struct code_entry *e = code_slot(v, rip);

	branch_check(v, i, rip);
	if (e->tag != code_tag(v, rip)) {
		v->rip = rip;
		return;
	}
	if (!((rip ^ v->block_rip) & ~PAGE_MASK))
		v->block->link[slot] = e->block;
	int_enter(v, e->block, rip);
}

/* The last statement of a handler. */
static ALWAYS_INLINE void branch_go(struct soft_vcpu *v, const struct insn *i,
				    u64 rip, unsigned slot)
{
	struct soft_block *b = v->block->link[slot];

	if (likely(b))
		int_enter(v, b, rip);
	else
		branch_unlinked(v, i, rip, slot);
}

static ALWAYS_INLINE u64 branch_next(const struct soft_vcpu *v,
				     const struct insn *i)
{
	return v->block_rip + i->off + i->len;
}

/* Target of a direct branch; the operand size cuts it. */
static ALWAYS_INLINE u64 branch_target(const struct soft_vcpu *v,
				       const struct insn *i)
{
	return int_mask(i->opsize, branch_next(v, i) + i->imm);
}

#define JCC(cc)                                           \
	static HANDLER(jcc64_##cc)                        \
	{                                                 \
		bool taken = fl_cond(v->fl, cc);          \
		u64 rip = branch_next(v, i);              \
		if (taken)                                \
			branch_go(v, i, rip + i->imm, 1); \
		else                                      \
			branch_go(v, i, rip, 0);          \
	}
INT_CONDITIONS(JCC)

#define FN(cc) jcc64_##cc,
static insn_fn *const jcc64[] = {INT_CONDITIONS(FN)};
#undef FN

static ALWAYS_INLINE void branch_if(struct soft_vcpu *v, const struct insn *i,
				    bool taken)
{
	u64 next = branch_next(v, i);

	if (taken)
		branch_go(v, i, branch_target(v, i), 1);
	else
		branch_go(v, i, v->mode & MODE_CS64 ? next : (u32)next, 0);
}

static HANDLER(jcc_any)
{
	branch_if(v, i, fl_cond(v->fl, i->cc));
}

static HANDLER(jmp_rel)
{
	branch_go(v, i, branch_target(v, i), 1);
}

static HANDLER(branch_jcxz)
{
	branch_if(v, i, !int_mask(i->adsize, v->gpr[REG_CX]));
}

/* LOOP, LOOPE, LOOPNE: the count is as wide as addresses are. */
static ALWAYS_INLINE void branch_loop(struct soft_vcpu *v, const struct insn *i,
				      bool cond)
{
	u64 count = int_mask(i->adsize, v->gpr[REG_CX] - 1);
	bool taken = count && cond;

	if (taken)
		branch_check(v, i, branch_target(v, i));
	reg_set(v, REG_CX, i->adsize, count);
	branch_if(v, i, taken);
}

static HANDLER(loop)
{
	branch_loop(v, i, true);
}

static HANDLER(loope)
{
	branch_loop(v, i, v->fl & FL_ZF);
}

static HANDLER(loopne)
{
	branch_loop(v, i, !(v->fl & FL_ZF));
}

/* ---- Indirect, CALL and RET: 64-bit, and any other ---- */

static HANDLER(jmp64_r)
{
	u64 rip = *int_gpr(v, i->rm);

	if (unlikely(!lin_canonical(rip)))
		int_gp(v, i);
	int_jump(v, rip);
}

static HANDLER(jmp64_m)
{
	u64 rip = int_ld_rm(v, i, EA_ANY, 8);

	if (unlikely(!lin_canonical(rip)))
		int_gp(v, i);
	int_jump(v, rip);
}

static HANDLER(jmp_rm)
{
	u64 rip = int_get_rm(v, i, i->opsize);

	branch_check(v, i, rip);
	int_jump(v, rip);
}

static HANDLER(call64_rel)
{
	u64 next = branch_next(v, i);

	if (unlikely(!lin_canonical(next + i->imm)))
		int_gp(v, i);
	stack_push64(v, i, next);
	branch_go(v, i, next + i->imm, 1);
}

static HANDLER(call64_r)
{
	u64 rip = *int_gpr(v, i->rm);

	if (unlikely(!lin_canonical(rip)))
		int_gp(v, i);
	stack_push64(v, i, branch_next(v, i));
	int_jump(v, rip);
}

static HANDLER(call64_m)
{
	u64 rip = int_ld_rm(v, i, EA_ANY, 8);

	if (unlikely(!lin_canonical(rip)))
		int_gp(v, i);
	stack_push64(v, i, branch_next(v, i));
	int_jump(v, rip);
}

static HANDLER(call_rel)
{
	u64 rip = branch_target(v, i);

	branch_check(v, i, rip);
	stack_push(v, i, i->opsize, branch_next(v, i));
	branch_go(v, i, rip, 1);
}

static HANDLER(call_rm)
{
	u64 rip = int_get_rm(v, i, i->opsize);

	branch_check(v, i, rip);
	stack_push(v, i, i->opsize, branch_next(v, i));
	int_jump(v, rip);
}

static HANDLER(ret64)
{
	u64 rip = int_ld(v, i, v->gpr[REG_SP], 8, HOW_STACK);

	if (unlikely(!lin_canonical(rip)))
		int_gp(v, i);
	v->gpr[REG_SP] += 8;
	int_jump(v, rip);
}

/* Also RET imm16, which drops that many more bytes. */
static HANDLER(ret_any)
{
	u64 rip = stack_peek(v, i, i->opsize, 0);

	branch_check(v, i, rip);
	stack_drop(v, i->opsize + (i->form == FORM_I ? (u16)i->imm : 0));
	int_jump(v, rip);
}

static insn_fn *branch_pick_call(const struct insn *i)
{
	if (i->form == FORM_REL)
		return i->opsize == 8 ? call64_rel : call_rel;
	if (i->opsize != 8)
		return call_rm;
	return i->mem ? call64_m : call64_r;
}

static insn_fn *branch_pick_jmp(const struct insn *i)
{
	if (i->form == FORM_REL)
		return jmp_rel;
	if (i->opsize != 8)
		return jmp_rm;
	return i->mem ? jmp64_m : jmp64_r;
}

insn_fn *int_bind_branch(const struct insn *i)
{
	switch (i->op) {
	case OP_JCC: return i->opsize == 8 ? jcc64[i->cc] : jcc_any;
	case OP_JMP: return branch_pick_jmp(i);
	case OP_CALL: return branch_pick_call(i);
	case OP_RET:
		return i->opsize == 8 && i->form == FORM_NONE ? ret64 : ret_any;
	case OP_LOOP: return loop;
	case OP_LOOPE: return loope;
	case OP_LOOPNE: return loopne;
	case OP_JCXZ: return branch_jcxz;
	default: return NULL;
	}
}
