/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Far JMP and CALL: code segments, call gates, task gates and TSSs (SDM
 * volume 2, JMP, CALL; volume 3, 5.8).
 */
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

struct far {
	u16 sel;
	u64 off;
	unsigned size; /* operand size */
	bool call;
	u64 next; /* return address */
};

static NORETURN void far_fault(struct soft_vcpu *v, u8 vector, u16 sel)
{
	soft_fault_err(v, vector, sel & 0xfffc);
}

static void far_real(struct soft_vcpu *v, const struct far *f)
{
	struct seg_state cs = v->mode & MODE_VM86
				      ? seg_vm86(f->sel)
				      : seg_real(f->sel, &v->seg[SEG_CS]);
	struct soft_stack s;

	stack_current(v, &s);
	if (f->call) {
		stack_push(v, &s, f->size, v->seg[SEG_CS].sel);
		stack_push(v, &s, f->size, f->next);
	}
	soft_check_rip(v, &cs, f->off, 0);
	stack_commit(v, &s);
	soft_set_cs(v, &cs, v->cpl, f->off);
}

static void far_check_code(struct soft_vcpu *v, const struct desc *d, u16 sel)
{
	if (desc_conforming(d) ? desc_dpl(d) > v->cpl
			       : (sel & 3u) > v->cpl || desc_dpl(d) != v->cpl)
		far_fault(v, VEC_GP, sel);
	if (soft_long(v) && desc_l(d) && desc_db(d))
		far_fault(v, VEC_GP, sel);
	if (!desc_present(d))
		far_fault(v, VEC_NP, sel);
}

/* Straight to a code segment at the same privilege. */
static void far_code(struct soft_vcpu *v, const struct far *f,
		     const struct desc *d)
{
	struct seg_state cs;
	struct soft_stack s;
	/* To compatibility mode the offset is cut, not checked. */
	u64 off = soft_long(v) && !desc_l(d) ? (u32)f->off : f->off;

	far_check_code(v, d, f->sel);
	cs = desc_segment(d, (u16)((f->sel & 0xfffc) | v->cpl));
	stack_current(v, &s);
	if (f->call) {
		stack_push(v, &s, f->size, v->seg[SEG_CS].sel);
		stack_push(v, &s, f->size, f->next);
	}
	soft_check_rip(v, &cs, off, 0);
	desc_accessed(v, d);
	stack_commit(v, &s);
	soft_set_cs(v, &cs, v->cpl, off);
}

/* A call gate, taken apart, and the code segment behind it. */
struct far_gate {
	unsigned size; /* of what is pushed */
	unsigned params;
	u16 sel;
	u64 off;
	struct desc code;
	unsigned cpl; /* new */
};

static void far_gate_read(struct soft_vcpu *v, const struct far *f,
			  const struct desc *d, struct far_gate *g)
{
	bool wide = desc_type(d) & 8;

	if (desc_dpl(d) < v->cpl || desc_dpl(d) < (f->sel & 3u))
		far_fault(v, VEC_GP, f->sel);
	if (!desc_present(d))
		far_fault(v, VEC_NP, f->sel);
	g->sel = (u16)(d->lo >> 16);
	g->off = d->lo & 0xffff;
	g->params = d->hi & 31;
	g->size = wide ? 4 : 2;
	if (wide)
		g->off |= d->hi & 0xffff0000;
	if (soft_long(v)) {
		if (d->hi3 >> 8 & 31)
			far_fault(v, VEC_GP, f->sel);
		g->off |= (u64)d->hi2 << 32;
		g->size = 8;
		g->params = 0;
	}
}

static void far_gate_code(struct soft_vcpu *v, const struct far *f,
			  struct far_gate *g)
{
	struct desc *c = &g->code;
	bool ok;

	if (!(g->sel & 0xfffc))
		soft_fault_err(v, VEC_GP, 0);
	desc_read(v, g->sel, VEC_GP, 0, c);
	ok = desc_code(c) && desc_dpl(c) <= v->cpl;
	if (!f->call && !desc_conforming(c) && desc_dpl(c) != v->cpl)
		ok = false;
	if (soft_long(v) && (!desc_l(c) || desc_db(c)))
		ok = false;
	if (!ok)
		far_fault(v, VEC_GP, g->sel);
	if (!desc_present(c))
		far_fault(v, VEC_NP, g->sel);
	g->cpl = desc_conforming(c) ? v->cpl : desc_dpl(c);
}

/* The inner stack: old SS:SP, parameters copied from the old stack. */
static void far_gate_stack(struct soft_vcpu *v, const struct far_gate *g,
			   struct soft_stack *s)
{
	u64 param[32] = {0};
	struct soft_stack old;

	tss_stack(v, g->cpl, 0, 0, s);
	stack_current(v, &old);
	for (unsigned i = 0; i < g->params; i++)
		param[i] = stack_pop(v, &old, g->size);
	stack_push(v, s, g->size, v->seg[SEG_SS].sel);
	stack_push(v, s, g->size, v->gpr[REG_SP]);
	for (unsigned i = g->params; i > 0; i--)
		stack_push(v, s, g->size, param[i - 1]);
}

static void far_gate(struct soft_vcpu *v, const struct far *f,
		     const struct desc *d)
{
	struct far_gate g;
	struct soft_stack s;
	struct seg_state cs;
	bool inner;

	far_gate_read(v, f, d, &g);
	far_gate_code(v, f, &g);
	cs = desc_segment(&g.code, (u16)((g.sel & 0xfffc) | g.cpl));
	inner = g.cpl < v->cpl;
	if (inner)
		far_gate_stack(v, &g, &s);
	else
		stack_current(v, &s);
	if (soft_long(v)) {
		s.wide = true;
		s.mask = ~0ull;
	}
	if (f->call) {
		stack_push(v, &s, g.size, v->seg[SEG_CS].sel);
		stack_push(v, &s, g.size, f->next);
	}
	soft_check_rip(v, &cs, g.off, 0);
	desc_accessed(v, &g.code);
	if (inner) {
		v->seg[SEG_SS] = s.ss;
		v->gpr[REG_SP] = s.sp;
	} else {
		stack_commit(v, &s);
	}
	soft_set_cs(v, &cs, g.cpl, g.off);
}

static void far_task(struct soft_vcpu *v, const struct far *f,
		     const struct desc *d)
{
	u16 sel = f->sel;

	if (desc_dpl(d) < v->cpl || desc_dpl(d) < (f->sel & 3u))
		far_fault(v, VEC_GP, f->sel);
	if (!desc_present(d))
		far_fault(v, VEC_NP, f->sel);
	if (desc_type(d) == DESC_TASK)
		sel = (u16)(d->lo >> 16);
	task_switch(v, sel, f->call ? TASK_CALL : TASK_JUMP, f->next, false, 0);
}

static void far_system(struct soft_vcpu *v, const struct far *f, struct desc *d)
{
	switch (desc_type(d)) {
	case DESC_CALL:
		if (soft_long(v))
			desc_read_system(v, f->sel, VEC_GP, 0, d);
		far_gate(v, f, d);
		return;
	case DESC_CALL16:
		if (!soft_long(v)) {
			far_gate(v, f, d);
			return;
		}
		break;
	case DESC_TASK:
	case DESC_TSS:
	case DESC_TSS16:
		if (!soft_long(v)) {
			far_task(v, f, d);
			return;
		}
		break;
	}
	far_fault(v, VEC_GP, f->sel);
}

static void far_transfer(struct soft_vcpu *v, const struct far *f)
{
	struct desc d;

	if (!soft_protected(v)) {
		far_real(v, f);
		return;
	}
	if (!(f->sel & 0xfffc))
		soft_fault_err(v, VEC_GP, 0);
	desc_read(v, f->sel, VEC_GP, 0, &d);
	if (desc_code(&d))
		far_code(v, f, &d);
	else if (!desc_s(&d))
		far_system(v, f, &d);
	else
		far_fault(v, VEC_GP, f->sel);
}

/* The target: from the instruction, or m16:16/32/64. */
static void far_decode(struct soft_vcpu *v, const struct insn *i, bool call)
{
	struct far f = {
		.size = i->opsize,
		.call = call,
		.next = insn_next(v, i),
	};

	if (i->form == FORM_FAR) {
		f.off = (u32)i->imm;
		f.sel = (u16)(i->imm >> 32);
	} else {
		u64 ea = soft_ea(v, i);
		gva_t lin = soft_lin(v, i->seg, ea, i->opsize + 2u, MMU_READ);
		u8 buf[10];

		soft_ld_bytes(v, lin, buf, i->opsize + 2u);
		f.off = host_ld(buf, i->opsize);
		f.sel = (u16)host_ld(buf + i->opsize, 2);
	}
	if (i->opsize == 2)
		f.off &= 0xffff;
	far_transfer(v, &f);
}

static void sys_jmp_far(struct soft_vcpu *v, const struct insn *i)
{
	far_decode(v, i, false);
}

static void sys_call_far(struct soft_vcpu *v, const struct insn *i)
{
	far_decode(v, i, true);
}

const struct sys_op sys_ops_far[] = {
	{OP_JMP_FAR, sys_jmp_far},
	{OP_CALL_FAR, sys_call_far},
	{0, NULL},
};
