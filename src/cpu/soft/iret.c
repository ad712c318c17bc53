/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * IRET in all modes, and the far RET it shares most with (SDM volume 2, IRET,
 * RET).
 */
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

/* Where a return goes; all of it is checked before anything changes. */
struct ret_target {
	u64 rip, rflags, rsp;
	u16 cs_sel, ss_sel;
	unsigned cpl; /* new */
	struct seg_state cs, ss;
};

/* The bits of RFLAGS that IRET and POPF of this size may change here. */
static u64 iret_flags(const struct soft_vcpu *v, unsigned size)
{
	u64 may = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT;

	if (size > 2)
		may |= RFLAGS_RF | RFLAGS_AC | RFLAGS_ID;
	if (v->cpl <= (v->rflags >> 12 & 3))
		may |= RFLAGS_IF;
	if (v->cpl == 0) {
		may |= RFLAGS_IOPL;
		if (size > 2)
			may |= RFLAGS_VIF | RFLAGS_VIP;
	}
	return may;
}

/* RF matters only to instruction breakpoints; without them it is dropped. */
static void iret_set_flags(struct soft_vcpu *v, u64 val, u64 may)
{
	u64 rflags = (soft_rflags(v) & ~may) | (val & may);

	if (!(v->dr7 & 0xff))
		rflags &= ~(u64)RFLAGS_RF;
	soft_set_rflags(v, rflags);
}

static void iret_real(struct soft_vcpu *v, unsigned size)
{
	bool vm86 = v->mode & MODE_VM86;
	u64 may = iret_flags(v, size);
	struct soft_stack s;
	struct seg_state cs;
	u64 rip, rflags;
	u16 sel;

	if (vm86 && (v->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
		soft_fault_err(v, VEC_GP, 0);
	stack_current(v, &s);
	rip = stack_pop(v, &s, size);
	sel = (u16)stack_pop(v, &s, size);
	rflags = stack_pop(v, &s, size);
	cs = vm86 ? seg_vm86(sel) : seg_real(sel, &v->seg[SEG_CS]);
	soft_check_rip(v, &cs, rip, 0);
	stack_commit(v, &s);
	iret_set_flags(v, rflags, may);
	soft_set_cs(v, &cs, v->cpl, rip);
}

/* From protected mode at CPL 0 into virtual-8086 mode. */
static void iret_vm86(struct soft_vcpu *v, struct soft_stack *s,
		      const struct ret_target *t)
{
	static const u8 order[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
	u64 may = iret_flags(v, 4) | (u64)RFLAGS_VM;
	struct seg_state cs = seg_vm86(t->cs_sel);
	u32 esp = (u32)stack_pop(v, s, 4);
	u16 ss = (u16)stack_pop(v, s, 4);
	u16 sel[4];

	for (unsigned i = 0; i < 4; i++)
		sel[i] = (u16)stack_pop(v, s, 4);
	soft_check_rip(v, &cs, t->rip & 0xffff, 0);
	for (unsigned i = 0; i < 4; i++)
		v->seg[order[i]] = seg_vm86(sel[i]);
	v->seg[SEG_SS] = seg_vm86(ss);
	v->gpr[REG_SP] = esp;
	iret_set_flags(v, t->rflags, may);
	soft_set_cs(v, &cs, 3, t->rip & 0xffff);
}

/* CS of a far return; sets t->cpl. */
static void ret_check_cs(struct soft_vcpu *v, struct ret_target *t)
{
	u16 sel = t->cs_sel;
	struct desc d;

	if (!(sel & 0xfffc))
		soft_fault_err(v, VEC_GP, 0);
	desc_read(v, sel, VEC_GP, 0, &d);
	t->cpl = sel & 3;
	if (!desc_code(&d) || t->cpl < v->cpl ||
	    (desc_conforming(&d) ? desc_dpl(&d) > t->cpl
				 : desc_dpl(&d) != t->cpl) ||
	    (soft_long(v) && desc_l(&d) && desc_db(&d)))
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
	if (!desc_present(&d))
		soft_fault_err(v, VEC_NP, sel & 0xfffc);
	desc_accessed(v, &d);
	t->cs = desc_segment(&d, sel);
}

static void ret_check_ss(struct soft_vcpu *v, struct ret_target *t)
{
	bool to64 = soft_long(v) && t->cs.attr & SEG_ATTR_L;

	if (!(t->ss_sel & 0xfffc) && to64 && t->cpl != 3 &&
	    (t->ss_sel & 3u) == t->cpl)
		t->ss = seg_null(t->ss_sel, t->cpl);
	else
		t->ss = seg_stack_check(v, t->ss_sel, t->cpl, VEC_GP, 0);
}

/* Data segments that the outer level may not use become null. */
static void ret_drop_segments(struct soft_vcpu *v)
{
	static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned i = 0; i < 4; i++) {
		struct seg_state *s = &v->seg[data[i]];

		if (!(s->attr & SEG_ATTR_UNUSABLE) && (s->attr & 0xc) != 0xc &&
		    SEG_ATTR_DPL(s->attr) < v->cpl)
			*s = seg_null(0, 0);
	}
}

/* RSP of the new stack, by the width of its segment. */
static void ret_set_sp(struct soft_vcpu *v, const struct ret_target *t)
{
	if (soft_long(v) && t->cs.attr & SEG_ATTR_L)
		v->gpr[REG_SP] = t->rsp;
	else if (t->ss.attr & SEG_ATTR_DB)
		v->gpr[REG_SP] = (u32)t->rsp;
	else
		v->gpr[REG_SP] =
			(v->gpr[REG_SP] & ~0xffffull) | (t->rsp & 0xffff);
}

static void iret_protected(struct soft_vcpu *v, unsigned size)
{
	struct ret_target t = {0};
	u64 may = iret_flags(v, size);
	unsigned old_cpl = v->cpl;
	struct soft_stack s;
	bool new_stack;

	stack_current(v, &s);
	t.rip = stack_pop(v, &s, size);
	t.cs_sel = (u16)stack_pop(v, &s, size);
	t.rflags = stack_pop(v, &s, size);
	if (t.rflags & RFLAGS_VM && size == 4 && !soft_long(v) && !v->cpl) {
		iret_vm86(v, &s, &t);
		return;
	}
	ret_check_cs(v, &t);
	new_stack = t.cpl > old_cpl || v->mode & MODE_CS64;
	if (new_stack) {
		t.rsp = stack_pop(v, &s, size);
		t.ss_sel = (u16)stack_pop(v, &s, size);
		ret_check_ss(v, &t);
	}
	soft_check_rip(v, &t.cs, t.rip, 0);
	if (new_stack) {
		v->seg[SEG_SS] = t.ss;
		ret_set_sp(v, &t);
	} else {
		stack_commit(v, &s);
	}
	v->cpl = (u8)t.cpl;
	if (t.cpl > old_cpl)
		ret_drop_segments(v);
	iret_set_flags(v, t.rflags, may);
	soft_set_cs(v, &t.cs, t.cpl, t.rip);
}

/* NT: back to the task that the current one was nested in. */
static void iret_task(struct soft_vcpu *v, const struct insn *i)
{
	u16 link;

	if (soft_long(v))
		soft_fault_err(v, VEC_GP, 0);
	link = (u16)soft_ld_sys(v, v->tr.base, 2);
	task_switch(v, link, TASK_IRET, insn_next(v, i), false, 0);
}

static void sys_iret(struct soft_vcpu *v, const struct insn *i)
{
	v->nmi_masked = false;
	if (v->nmi_pending)
		soft_attention(v, ATTN_IRQ);
	if (!soft_protected(v))
		iret_real(v, i->opsize);
	else if (v->rflags & RFLAGS_NT)
		iret_task(v, i);
	else
		iret_protected(v, i->opsize);
}

static void ret_far_real(struct soft_vcpu *v, unsigned size, u64 release)
{
	struct soft_stack s;
	struct seg_state cs;
	u64 rip;
	u16 sel;

	stack_current(v, &s);
	rip = stack_pop(v, &s, size);
	sel = (u16)stack_pop(v, &s, size);
	s.sp = (s.sp & ~s.mask) | ((s.sp + release) & s.mask);
	cs = v->mode & MODE_VM86 ? seg_vm86(sel)
				 : seg_real(sel, &v->seg[SEG_CS]);
	soft_check_rip(v, &cs, rip, 0);
	stack_commit(v, &s);
	soft_set_cs(v, &cs, v->cpl, rip);
}

static void ret_far_protected(struct soft_vcpu *v, unsigned size, u64 release)
{
	struct ret_target t = {0};
	struct soft_stack s;
	bool outer;

	stack_current(v, &s);
	t.rip = stack_pop(v, &s, size);
	t.cs_sel = (u16)stack_pop(v, &s, size);
	ret_check_cs(v, &t);
	s.sp = (s.sp & ~s.mask) | ((s.sp + release) & s.mask);
	outer = t.cpl > v->cpl;
	if (outer) {
		t.rsp = stack_pop(v, &s, size) + release;
		t.ss_sel = (u16)stack_pop(v, &s, size);
		ret_check_ss(v, &t);
	}
	soft_check_rip(v, &t.cs, t.rip, 0);
	if (outer) {
		v->seg[SEG_SS] = t.ss;
		ret_set_sp(v, &t);
		v->cpl = (u8)t.cpl;
		ret_drop_segments(v);
	} else {
		stack_commit(v, &s);
	}
	soft_set_cs(v, &t.cs, t.cpl, t.rip);
}

static void sys_ret_far(struct soft_vcpu *v, const struct insn *i)
{
	u64 release = i->form == FORM_I ? (u16)i->imm : 0;

	if (soft_protected(v))
		ret_far_protected(v, i->opsize, release);
	else
		ret_far_real(v, i->opsize, release);
}

const struct sys_op sys_ops_ret[] = {
	{OP_IRET, sys_iret},
	{OP_RET_FAR, sys_ret_far},
	{0, NULL},
};
