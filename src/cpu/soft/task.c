/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Hardware task switches with 32-bit TSSs (SDM volume 3, chapter 7), as old
 * kernels use them for double faults. 16-bit TSSs are left out: #TS.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

#define TSS_MIN_LIMIT 0x67

/* The dynamic part of a 32-bit TSS, as it lies in memory. */
struct tss32 {
	u32 link;
	u32 inner[6];
	u32 cr3;
	u32 eip, eflags, gpr[8];
	u32 seg[6]; /* ES CS SS DS FS GS: as enum SEG_* */
	u32 ldt, trap_iomap;
};

_Static_assert(sizeof(struct tss32) == 104, "TSS is 104 bytes");

static void task_read(struct soft_vcpu *v, u16 sel, enum task_reason why,
		      struct desc *d)
{
	bool from_gate = why == TASK_GATE || why == TASK_IRET;
	u8 bad = why == TASK_IRET ? VEC_TS : VEC_GP;
	unsigned type;

	if (sel & 4 || !(sel & 0xfffc))
		soft_fault_err(v, from_gate ? VEC_TS : VEC_GP, sel & 0xfffc);
	desc_read(v, sel, bad, 0, d);
	type = desc_type(d);
	if (desc_s(d) || type != (why == TASK_IRET ? DESC_TSS_BUSY : DESC_TSS))
		soft_fault_err(v, type == DESC_TSS16 ? VEC_TS : bad,
			       sel & 0xfffc);
	if (!desc_present(d))
		soft_fault_err(v, VEC_NP, sel & 0xfffc);
	if (desc_limit(d) < TSS_MIN_LIMIT)
		soft_fault_err(v, VEC_TS, sel & 0xfffc);
}

static void task_set_busy(struct soft_vcpu *v, u16 sel, bool busy)
{
	gva_t lin;
	u8 type;

	if (!desc_addr(v, sel, 8, &lin))
		return;
	type = (u8)soft_ld_sys(v, lin + 5, 1);
	type = busy ? type | 2 : type & ~2;
	soft_st_sys(v, lin + 5, 1, type);
}

/* The registers of the old task into its TSS: 0x20 to 0x5f. */
static void task_save(struct soft_vcpu *v, u64 next_rip, enum task_reason why)
{
	struct tss32 t = {0};
	u64 rflags = soft_rflags(v);

	if (why == TASK_IRET)
		rflags &= ~(u64)RFLAGS_NT;
	t.eip = (u32)next_rip;
	t.eflags = (u32)rflags;
	for (unsigned i = 0; i < 8; i++)
		t.gpr[i] = (u32)v->gpr[i];
	for (unsigned i = 0; i < 6; i++)
		t.seg[i] = v->seg[i].sel;
	soft_st_bytes_sys(v, v->tr.base + 0x20, &t.eip, 0x60 - 0x20);
}

static void task_load_ldt(struct soft_vcpu *v, u16 sel)
{
	struct desc d;

	v->ldtr = seg_null(sel, 0);
	if (!(sel & 0xfffc))
		return;
	if (sel & 4)
		soft_fault_err(v, VEC_TS, sel & 0xfffc);
	desc_read(v, sel, VEC_TS, 0, &d);
	if (desc_s(&d) || desc_type(&d) != DESC_LDT || !desc_present(&d))
		soft_fault_err(v, VEC_TS, sel & 0xfffc);
	v->ldtr = desc_segment(&d, sel);
}

static void task_load_cs(struct soft_vcpu *v, u16 sel)
{
	struct seg_state cs;
	struct desc d;

	if (!(sel & 0xfffc))
		soft_fault_err(v, VEC_TS, 0);
	desc_read(v, sel, VEC_TS, 0, &d);
	if (!desc_code(&d) ||
	    (desc_conforming(&d) ? desc_dpl(&d) > (sel & 3u)
				 : desc_dpl(&d) != (sel & 3u)))
		soft_fault_err(v, VEC_TS, sel & 0xfffc);
	if (!desc_present(&d))
		soft_fault_err(v, VEC_NP, sel & 0xfffc);
	desc_accessed(v, &d);
	cs = desc_segment(&d, sel);
	soft_set_cs(v, &cs, sel & 3, v->rip);
}

/* In the new task: a fault is now its own. */
static void task_load_segments(struct soft_vcpu *v, const struct tss32 *t)
{
	static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	if (t->eflags & RFLAGS_VM) {
		for (unsigned i = 0; i < 6; i++)
			v->seg[i] = seg_vm86((u16)t->seg[i]);
		v->cpl = 3;
		soft_update_mode(v);
		return;
	}
	for (unsigned i = 0; i < 6; i++)
		v->seg[i] = seg_null((u16)t->seg[i], 0);
	v->cpl = t->seg[SEG_CS] & 3;
	soft_update_mode(v);
	task_load_ldt(v, (u16)t->ldt);
	task_load_cs(v, (u16)t->seg[SEG_CS]);
	v->seg[SEG_SS] =
		seg_stack_check(v, (u16)t->seg[SEG_SS], v->cpl, VEC_TS, 0);
	for (unsigned i = 0; i < 4; i++)
		v->seg[data[i]] =
			seg_load_check(v, data[i], (u16)t->seg[data[i]]);
	soft_update_mode(v);
}

static void task_load_registers(struct soft_vcpu *v, const struct tss32 *t,
				bool nested)
{
	u64 rflags = t->eflags & 0x3f7fd7;

	if (nested)
		rflags |= RFLAGS_NT;
	v->cr0 |= CR0_TS;
	if (v->cr0 & CR0_PG && v->cr3 != t->cr3) {
		v->cr3 = t->cr3;
		if (v->cr4 & CR4_PAE && !mmu_load_pdptes(v, v->cr3))
			soft_fault_err(v, VEC_GP, 0);
		mmu_cr3_changed(v, false);
	}
	for (unsigned i = 0; i < 8; i++)
		v->gpr[i] = t->gpr[i];
	v->rip = t->eip;
	soft_set_rflags(v, rflags);
}

static void task_push_error(struct soft_vcpu *v, u32 error)
{
	struct soft_stack s;

	stack_current(v, &s);
	stack_push(v, &s, 4, error);
	stack_commit(v, &s);
}

void task_switch(struct soft_vcpu *v, u16 sel, enum task_reason why,
		 u64 next_rip, bool has_error, u32 error)
{
	bool nested = why == TASK_CALL || why == TASK_GATE;
	u16 old = (u16)v->tr.sel;
	struct desc d;
	struct tss32 t;
	gva_t base;

	task_read(v, sel, why, &d);
	base = desc_base(v, &d);
	soft_ld_bytes_sys(v, base, &t, sizeof(t));
	task_save(v, next_rip, why);
	if (!nested)
		task_set_busy(v, old, false);
	if (nested)
		soft_st_sys(v, base, 2, old);
	if (why != TASK_IRET)
		task_set_busy(v, sel, true);
	v->tr = desc_segment(&d, sel);
	v->tr.attr |= 2;
	v->dr7 &= ~0x155ull;
	task_load_registers(v, &t, nested);
	task_load_segments(v, &t);
	soft_check_rip(v, &v->seg[SEG_CS], v->rip, 0);
	if (has_error)
		task_push_error(v, error);
	if (t.trap_iomap & 1) {
		v->dr6 |= BIT(15);
		soft_fault(v, VEC_DB);
	}
	soft_attention(v, ATTN_MODE);
}
