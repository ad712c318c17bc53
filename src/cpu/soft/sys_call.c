/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SYSCALL, SYSRET, SYSENTER, SYSEXIT as Intel processors do them (SDM volume
 * 2): no descriptor is read, the segments are flat by definition.
 */
#include "cpu/soft/direct.h"
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

enum { FLAT_CODE64 = 0xa09b, FLAT_CODE32 = 0xc09b, FLAT_DATA = 0xc093 };

/* Field by field: a copy of what was just built waits for its parts. */
static void flat_segment(struct seg_state *s, u16 sel, u32 attr, unsigned dpl)
{
	s->base = 0;
	s->limit = 0xffffffff;
	s->attr = attr | dpl << 5;
	s->sel = sel;
	s->pad = 0;
}

/* Sets CS and SS for the new level; the mode follows from them. */
static void flat_enter(struct soft_vcpu *v, u16 cs_sel, u16 ss_sel, u32 code,
		       unsigned cpl, u64 rip)
{
	flat_segment(&v->seg[SEG_SS], ss_sel, FLAT_DATA, cpl);
	flat_segment(&v->seg[SEG_CS], cs_sel, code, cpl);
	v->cpl = (u8)cpl;
	v->rip = rip;
	soft_update_mode(v);
}

static void sys_syscall(struct soft_vcpu *v, const struct insn *i)
{
	u16 sel = (u16)(v->msr.star >> 32 & 0xfffc);
	u64 rflags = soft_rflags(v) & ~(u64)RFLAGS_RF;

	if (!(v->mode & MODE_CS64) || !(v->efer & EFER_SCE))
		soft_fault(v, VEC_UD);
	v->gpr[REG_CX] = insn_next(v, i);
	v->gpr[11] = rflags;
	v->sys->skip_step = v->msr.sfmask & RFLAGS_TF;
	soft_user_left(v);
	v->cpl = 0;
	soft_set_rflags(v, rflags & ~v->msr.sfmask);
	flat_enter(v, sel, sel + 8, FLAT_CODE64, 0, v->msr.lstar);
}

static void sys_sysret(struct soft_vcpu *v, const struct insn *i)
{
	u16 sel = (u16)(v->msr.star >> 48) | 3;
	u64 rip = v->gpr[REG_CX];

	if (!(v->mode & MODE_CS64) || !(v->efer & EFER_SCE))
		soft_fault(v, VEC_UD);
	sys_need_cpl0(v);
	if (i->opsize == 8 && !lin_canonical(rip))
		soft_fault_err(v, VEC_GP, 0);
	v->cpl = 3;
	soft_set_rflags(v, v->gpr[11] & 0x3c7fd7);
	if (i->opsize == 8)
		flat_enter(v, sel + 16, sel + 8, FLAT_CODE64, 3, rip);
	else
		flat_enter(v, sel, sel + 8, FLAT_CODE32, 3, (u32)rip);
}

static void sys_sysenter(struct soft_vcpu *v, const struct insn *i)
{
	u16 sel = v->msr.sysenter_cs & 0xfffc;
	bool lma = v->efer & EFER_LMA;

	(void)i;
	if (!(v->cr0 & CR0_PE) || !sel)
		soft_fault_err(v, VEC_GP, 0);
	v->cpl = 0;
	soft_set_rflags(v, soft_rflags(v) & ~(u64)(RFLAGS_VM | RFLAGS_IF));
	v->gpr[REG_SP] = lma ? v->msr.sysenter_esp : (u32)v->msr.sysenter_esp;
	flat_enter(v, sel, sel + 8, lma ? FLAT_CODE64 : FLAT_CODE32, 0,
		   lma ? v->msr.sysenter_eip : (u32)v->msr.sysenter_eip);
}

static void sys_sysexit(struct soft_vcpu *v, const struct insn *i)
{
	u16 sel = v->msr.sysenter_cs & 0xfffc;
	u64 rip = v->gpr[REG_DX], rsp = v->gpr[REG_CX];

	if (!(v->cr0 & CR0_PE) || !sel)
		soft_fault_err(v, VEC_GP, 0);
	sys_need_cpl0(v);
	if (i->opsize == 8) {
		if (!lin_canonical(rip) || !lin_canonical(rsp))
			soft_fault_err(v, VEC_GP, 0);
		v->gpr[REG_SP] = rsp;
		flat_enter(v, (sel + 32) | 3, (sel + 40) | 3, FLAT_CODE64, 3,
			   rip);
	} else {
		v->gpr[REG_SP] = (u32)rsp;
		flat_enter(v, (sel + 16) | 3, (sel + 24) | 3, FLAT_CODE32, 3,
			   (u32)rip);
	}
}

const struct sys_op sys_ops_call[] = {
	{OP_SYSCALL, sys_syscall},
	{OP_SYSRET, sys_sysret},
	{OP_SYSENTER, sys_sysenter},
	{OP_SYSEXIT, sys_sysexit},
	{0, NULL},
};
