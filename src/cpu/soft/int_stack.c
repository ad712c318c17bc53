/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PUSH, POP, PUSHA, POPA, PUSHF, POPF, ENTER, LEAVE (SDM volume 2). Handlers
 * named 64 are for 64-bit code with the default operand size.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"
#include "cpu/soft/stack.h"

static HANDLER(push64_r)
{
	stack_push64(v, i, *int_gpr(v, i->rm));
	NEXT();
}

static HANDLER(push64_i)
{
	stack_push64(v, i, i->imm);
	NEXT();
}

static HANDLER(push64_m)
{
	stack_push64(v, i, int_ld_rm(v, i, EA_ANY, 8));
	NEXT();
}

/* POP RSP: the value read wins over the increment. */
static HANDLER(pop64_r)
{
	u64 sp = v->gpr[REG_SP];
	u64 val = int_ld(v, i, sp, 8, HOW_STACK);

	v->gpr[REG_SP] = sp + 8;
	*int_gpr(v, i->rm) = val;
	NEXT();
}

static HANDLER(push_rmi)
{
	u64 val = i->form == FORM_I ? i->imm : int_get_rm(v, i, i->opsize);

	stack_push(v, i, i->opsize, val);
	NEXT();
}

static HANDLER(pop_r)
{
	u64 val = stack_peek(v, i, i->opsize, 0);

	stack_drop(v, i->opsize);
	reg_set(v, i->rm, i->opsize, val);
	NEXT();
}

/*
 * An address that is based on RSP is formed with RSP already incremented; if
 * the store faults RSP is as before.
 */
static HANDLER(pop_m)
{
	u64 val = stack_peek(v, i, i->opsize, 0);
	u64 sp = v->gpr[REG_SP];
	gva_t lin;
	u64 ea;

	stack_drop(v, i->opsize);
	ea = int_ea(v, i);
	v->gpr[REG_SP] = sp;
	lin = soft_lin(v, i->seg, ea, i->opsize, MMU_WRITE);
	soft_st(v, lin, i->opsize, val);
	stack_drop(v, i->opsize);
	NEXT();
}

/* Eight stores, of which any may fault: all are checked first. */
static HANDLER(stack_pusha)
{
	unsigned size = i->opsize;
	u64 sp = v->gpr[REG_SP];

	int_sync(v, i);
	for (unsigned r = 0; r < 8; r++)
		soft_probe(v,
			   stack_lin(v, sp - (r + 1) * size, size, MMU_WRITE),
			   size, MMU_WRITE);
	for (unsigned r = 0; r < 8; r++)
		soft_st(v, stack_lin(v, sp - (r + 1) * size, size, MMU_WRITE),
			size, v->gpr[r]);
	stack_set(v, sp - 8 * size);
	NEXT();
}

static HANDLER(stack_popa)
{
	unsigned size = i->opsize;
	u64 val[8];

	for (unsigned r = 0; r < 8; r++)
		val[7 - r] = stack_peek(v, i, size, r * size);
	stack_drop(v, 8 * size);
	for (unsigned r = 0; r < 8; r++)
		if (r != REG_SP)
			reg_set(v, r, size, val[r]);
	NEXT();
}

/* In VM86 mode PUSHF and POPF need IOPL 3, or VME and 16 bits. */
static bool stack_vme(struct soft_vcpu *v, const struct insn *i)
{
	if (!(v->mode & MODE_VM86) || (v->rflags & RFLAGS_IOPL) == RFLAGS_IOPL)
		return false;
	if (!(v->cr4 & CR4_VME) || i->opsize != 2)
		int_gp(v, i);
	return true;
}

static HANDLER(stack_pushf)
{
	u64 fl = soft_rflags(v) & ~(u64)(RFLAGS_RF | RFLAGS_VM);

	if (stack_vme(v, i)) {
		fl = (fl & ~(u64)RFLAGS_IF) | RFLAGS_IOPL;
		if (v->rflags & RFLAGS_VIF)
			fl |= RFLAGS_IF;
	}
	stack_push(v, i, i->opsize, fl);
	NEXT();
}

/* Which flags POPF of this size may change here. */
static u64 stack_popf_mask(const struct soft_vcpu *v, const struct insn *i)
{
	unsigned iopl = (v->rflags & RFLAGS_IOPL) >> 12;
	u64 mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;

	if (i->opsize != 2)
		mask |= RFLAGS_AC | RFLAGS_ID;
	if (v->cpl == 0)
		mask |= RFLAGS_IOPL;
	if (v->cpl <= iopl)
		mask |= RFLAGS_IF;
	return mask;
}

/* A trap, an interrupt or another mode may follow: the block ends. */
static HANDLER(stack_popf)
{
	u64 old = soft_rflags(v);
	u64 mask = stack_popf_mask(v, i);
	u64 val = stack_peek(v, i, i->opsize, 0);

	if (stack_vme(v, i)) {
		if ((val & RFLAGS_TF) ||
		    ((val & RFLAGS_IF) && (old & RFLAGS_VIP)))
			int_gp(v, i);
		mask = (mask & ~(u64)RFLAGS_IF) | RFLAGS_VIF;
		val = val & RFLAGS_IF ? val | RFLAGS_VIF
				      : val & ~(u64)RFLAGS_VIF;
	}
	stack_drop(v, i->opsize);
	if (i->opsize != 2)
		old &= ~(u64)RFLAGS_RF;
	val = (old & ~mask) | (val & mask);
	if ((val ^ old) & ~(u64)RFLAGS_ARITH) {
		soft_set_rflags(v, val);
		int_leave(v, i + 1);
		return;
	}
	v->fl = fl_from_rflags(val);
	NEXT();
}

static HANDLER(stack_leave)
{
	u64 bp = v->gpr[REG_BP];
	u64 val;

	int_sync(v, i);
	val = soft_ld(v, stack_lin(v, bp, i->opsize, MMU_READ), i->opsize);
	stack_set(v, bp + i->opsize);
	reg_set(v, REG_BP, i->opsize, val);
	NEXT();
}

static HANDLER(leave64)
{
	u64 bp = v->gpr[REG_BP];

	v->gpr[REG_BP] = int_ld(v, i, bp, 8, HOW_STACK);
	v->gpr[REG_SP] = bp + 8;
	NEXT();
}

/* Copies the enclosing frames' pointers; at most 31 levels. */
static u64 enter_levels(struct soft_vcpu *v, unsigned size, unsigned level,
			u64 sp, u64 frame)
{
	u64 bp = v->gpr[REG_BP];

	for (unsigned n = 1; n < level; n++) {
		u64 val;

		bp -= size;
		val = soft_ld(v, stack_lin(v, bp, size, MMU_READ), size);
		sp -= size;
		soft_st(v, stack_lin(v, sp, size, MMU_WRITE), size, val);
	}
	if (level) {
		sp -= size;
		soft_st(v, stack_lin(v, sp, size, MMU_WRITE), size, frame);
	}
	return sp;
}

/* Writes below RSP before it faults, if it does, are seen by nobody. */
static HANDLER(stack_enter)
{
	unsigned size = i->opsize;
	unsigned level = (i->imm >> 16) & 31;
	u64 sp = v->gpr[REG_SP] - size;
	u64 frame = sp;

	int_sync(v, i);
	soft_st(v, stack_lin(v, sp, size, MMU_WRITE), size, v->gpr[REG_BP]);
	sp = enter_levels(v, size, level, sp, frame);
	sp -= (u16)i->imm;
	soft_probe(v, stack_lin(v, sp, size, MMU_WRITE), size, MMU_WRITE);
	stack_set(v, sp);
	reg_set(v, REG_BP, size,
		v->mode & MODE_CS64 ? frame : frame & stack_mask(v));
	NEXT();
}

insn_fn *int_bind_stack(const struct insn *i)
{
	bool is64 = i->opsize == 8;

	switch (i->op) {
	case OP_PUSH:
		if (!is64)
			return push_rmi;
		if (i->form == FORM_I)
			return push64_i;
		return i->mem ? push64_m : push64_r;
	case OP_POP:
		if (i->mem)
			return pop_m;
		return is64 ? pop64_r : pop_r;
	case OP_PUSHA: return stack_pusha;
	case OP_POPA: return stack_popa;
	case OP_PUSHF: return stack_pushf;
	case OP_POPF: return stack_popf;
	case OP_LEAVE: return is64 ? leave64 : stack_leave;
	case OP_ENTER: return stack_enter;
	default: return NULL;
	}
}
