/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The way from an opcode to the handler of a system instruction, and the
 * operands that those handlers share.
 */
#include "cpu/soft/sys.h"

#include "cpu/soft/access.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/simd_priv.h"

static const struct sys_op *const sys_tables[] = {
	sys_ops_ret, sys_ops_far,  sys_ops_seg, sys_ops_call,
	sys_ops_cr,  sys_ops_misc, sys_ops_io,  sys_ops_int,
};

/* Announced nowhere: VMX, SVM, MONITOR and what the tables above lack. */
static void sys_unknown(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	soft_fault(v, VEC_UD);
}

insn_fn *sys_bind(const struct insn *i)
{
	insn_fn *fn;

	for (unsigned t = 0; t < ARRAY_LEN(sys_tables); t++)
		for (const struct sys_op *o = sys_tables[t]; o->fn; o++)
			if (o->op == i->op)
				return o->fn;
	fn = xsave_bind(i);
	return fn ? fn : sys_unknown;
}

void sys_need_cpl0(struct soft_vcpu *v)
{
	if (v->cpl)
		soft_fault_err(v, VEC_GP, 0);
}

void sys_need_umip(struct soft_vcpu *v)
{
	if (v->cr4 & CR4_UMIP && v->cpl)
		soft_fault_err(v, VEC_GP, 0);
}

u64 sys_rm_get(struct soft_vcpu *v, const struct insn *i, unsigned size)
{
	gva_t lin;

	if (!i->mem)
		return size == 8 ? v->gpr[i->rm]
				 : v->gpr[i->rm] & (BIT64(size * 8) - 1);
	lin = soft_lin(v, i->seg, soft_ea(v, i), size, MMU_READ);
	return soft_ld(v, lin, size);
}

void sys_reg_set(struct soft_vcpu *v, unsigned reg, unsigned size, u64 val)
{
	switch (size) {
	case 1: v->gpr[reg] = (v->gpr[reg] & ~0xffull) | (u8)val; break;
	case 2: v->gpr[reg] = (v->gpr[reg] & ~0xffffull) | (u16)val; break;
	case 4: v->gpr[reg] = (u32)val; break;
	default: v->gpr[reg] = val;
	}
}

void sys_rm_set(struct soft_vcpu *v, const struct insn *i, unsigned size,
		u64 val)
{
	if (i->mem)
		soft_st(v, soft_lin(v, i->seg, soft_ea(v, i), size, MMU_WRITE),
			size, val);
	else
		sys_reg_set(v, i->rm, size, val);
}
