/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Delivery through the IVT or IDT: real mode, protected mode and VM86 (16-
 * and 32-bit gates, task gates), IA-32e mode (SDM volume 3, chapter 6).
 *
 * All reads and checks and the pushes come first, then the registers change.
 */
#include "cpu/soft/direct.h"
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"

#define FLAGS_CLEARED (RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | (u64)RFLAGS_VM)

struct gate {
	unsigned type, dpl;
	bool present;
	u16 sel;
	u64 off;
	unsigned ist;
};

/* Everything about one delivery that is decided before registers change. */
struct delivery {
	const struct event *e;
	struct gate gate;
	unsigned ext; /* EXT bit of error codes raised meanwhile */
	unsigned cpl; /* new */
	struct seg_state cs;
	struct soft_stack stack;
	bool switched; /* stack is from the TSS */
};

static NORETURN void gate_fault(struct soft_vcpu *v, const struct delivery *d,
				u8 vector)
{
	soft_fault_err(v, vector, d->e->vector * 8u + 2 + d->ext);
}

static void gate_read(struct soft_vcpu *v, struct delivery *d)
{
	unsigned size = soft_long(v) ? 16 : 8;
	u64 off = (u64)d->e->vector * size;
	struct gate *g = &d->gate;
	u64 lo;

	if (off + size - 1 > v->idt.limit)
		gate_fault(v, d, VEC_GP);
	lo = soft_ld_sys(v, v->idt.base + off, 8);
	*g = (struct gate){
		.type = lo >> 40 & 31,
		.dpl = lo >> 45 & 3,
		.present = lo >> 47 & 1,
		.sel = (u16)(lo >> 16),
		.off = (lo & 0xffff) | (lo >> 32 & 0xffff0000),
	};
	if (size == 16) {
		g->ist = lo >> 32 & 7;
		g->off |= soft_ld_sys(v, v->idt.base + off + 8, 4) << 32;
	}
}

static bool gate_type_ok(const struct soft_vcpu *v, const struct gate *g)
{
	switch (g->type) {
	case DESC_INT:
	case DESC_TRAP: return true;
	case DESC_INT16:
	case DESC_TRAP16:
	case DESC_TASK: return !soft_long(v);
	}
	return false;
}

static void gate_check(struct soft_vcpu *v, const struct delivery *d)
{
	if (!gate_type_ok(v, &d->gate))
		gate_fault(v, d, VEC_GP);
	if (d->e->kind == EVENT_SOFT && d->gate.dpl < v->cpl)
		gate_fault(v, d, VEC_GP);
	if (!d->gate.present)
		gate_fault(v, d, VEC_NP);
}

/* The code segment that a gate leads to, and with it the new CPL. */
static void gate_target(struct soft_vcpu *v, struct delivery *d)
{
	u16 sel = d->gate.sel;
	u32 error = (sel & 0xfffcu) | d->ext;
	struct desc code;

	if (!(sel & 0xfffc))
		soft_fault_err(v, VEC_GP, d->ext);
	desc_read(v, sel, VEC_GP, d->ext, &code);
	if (!desc_code(&code) || desc_dpl(&code) > v->cpl)
		soft_fault_err(v, VEC_GP, error);
	if (soft_long(v) && (!desc_l(&code) || desc_db(&code)))
		soft_fault_err(v, VEC_GP, error);
	if (!desc_present(&code))
		soft_fault_err(v, VEC_NP, error);
	d->cpl = desc_conforming(&code) ? v->cpl : desc_dpl(&code);
	if (v->mode & MODE_VM86 && d->cpl)
		soft_fault_err(v, VEC_GP, error);
	desc_accessed(v, &code);
	d->cs = desc_segment(&code, (u16)((sel & 0xfffc) | d->cpl));
}

static void delivery_stack(struct soft_vcpu *v, struct delivery *d)
{
	d->switched = d->cpl < v->cpl || d->gate.ist;
	if (d->switched) {
		tss_stack(v, d->cpl, d->gate.ist, d->ext, &d->stack);
	} else {
		stack_current(v, &d->stack);
		d->stack.error = d->ext;
	}
	if (soft_long(v)) {
		d->stack.wide = true;
		d->stack.mask = ~0ull;
		d->stack.sp &= ~15ull;
	}
}

static void delivery_push(struct soft_vcpu *v, struct delivery *d)
{
	struct soft_stack *s = &d->stack;
	unsigned size = soft_long(v) ? 8 : d->gate.type & 8 ? 4 : 2;

	if (v->mode & MODE_VM86) {
		stack_push(v, s, size, v->seg[SEG_GS].sel);
		stack_push(v, s, size, v->seg[SEG_FS].sel);
		stack_push(v, s, size, v->seg[SEG_DS].sel);
		stack_push(v, s, size, v->seg[SEG_ES].sel);
	}
	if (d->switched || soft_long(v)) {
		stack_push(v, s, size, v->seg[SEG_SS].sel);
		stack_push(v, s, size, v->gpr[REG_SP]);
	}
	stack_push(v, s, size, d->e->rflags);
	stack_push(v, s, size, v->seg[SEG_CS].sel);
	stack_push(v, s, size, d->e->rip);
	if (d->e->has_error)
		stack_push(v, s, size, d->e->error);
}

/* From here on nothing faults. */
static void delivery_enter(struct soft_vcpu *v, const struct delivery *d)
{
	u64 rflags = soft_rflags(v) & ~FLAGS_CLEARED;
	bool vm86 = v->mode & MODE_VM86;

	if (!(d->gate.type & 1))
		rflags &= ~(u64)RFLAGS_IF;
	if (d->switched && (d->cpl != v->cpl || !soft_long(v)))
		v->seg[SEG_SS] = d->stack.ss;
	if (vm86)
		for (unsigned i = SEG_ES; i <= SEG_GS; i++)
			if (i != SEG_CS && i != SEG_SS)
				v->seg[i] = seg_null(0, 0);
	v->cpl = (u8)d->cpl;
	soft_set_rflags(v, rflags);
	soft_set_cs(v, &d->cs, d->cpl, d->gate.off);
	if (d->switched)
		v->gpr[REG_SP] = d->stack.sp;
	else
		stack_commit(v, &d->stack);
}

static void event_protected(struct soft_vcpu *v, const struct event *e)
{
	struct delivery d = {
		.e = e,
		.ext = e->kind != EVENT_SOFT,
	};

	if (v->mode & MODE_VM86 && e->kind == EVENT_SOFT &&
	    e->vector != VEC_BP && e->vector != VEC_OF &&
	    (v->rflags & RFLAGS_IOPL) != RFLAGS_IOPL)
		soft_fault_err(v, VEC_GP, 0);
	gate_read(v, &d);
	gate_check(v, &d);
	if (d.gate.type == DESC_TASK) {
		task_switch(v, d.gate.sel, TASK_GATE, e->rip, e->has_error,
			    e->error);
		return;
	}
	gate_target(v, &d);
	delivery_stack(v, &d);
	delivery_push(v, &d);
	soft_check_rip(v, &d.cs, d.gate.off, d.ext);
	delivery_enter(v, &d);
}

static void event_real(struct soft_vcpu *v, const struct event *e)
{
	u64 off = (u64)e->vector * 4;
	struct soft_stack s;
	struct seg_state cs;
	u32 target;

	if (off + 3 > v->idt.limit)
		soft_fault_err(v, VEC_GP, e->vector * 8u + 2);
	target = (u32)soft_ld_sys(v, v->idt.base + off, 4);
	stack_current(v, &s);
	stack_push(v, &s, 2, e->rflags);
	stack_push(v, &s, 2, v->seg[SEG_CS].sel);
	stack_push(v, &s, 2, e->rip);
	cs = seg_real((u16)(target >> 16), &v->seg[SEG_CS]);
	soft_check_rip(v, &cs, target & 0xffff, 0);
	soft_set_rflags(v, soft_rflags(v) & ~(u64)(RFLAGS_IF | RFLAGS_TF |
						   RFLAGS_AC | RFLAGS_RF));
	soft_set_cs(v, &cs, 0, target & 0xffff);
	stack_commit(v, &s);
}

void event_deliver(struct soft_vcpu *v, const struct event *e)
{
	if (v->cpl == 3)
		soft_user_left(v);
	if (v->mode & MODE_PE)
		event_protected(v, e);
	else
		event_real(v, e);
}
