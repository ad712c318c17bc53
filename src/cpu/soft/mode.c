/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * RFLAGS put together and taken apart, and what is derived from the control
 * registers: v->mode, the TLB in use, single stepping.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segment.h"

u64 soft_rflags(const struct soft_vcpu *v)
{
	return v->rflags | (v->fl >> 8 & 0xd5) | (u64)(v->fl & 1) << 11;
}

void soft_set_rflags(struct soft_vcpu *v, u64 rflags)
{
	u64 old = v->rflags;
	u64 changed;

	v->fl = (u16)(((rflags & 0xd5) | 2) << 8 | (rflags >> 11 & 1));
	v->rflags = (rflags & ~(u64)RFLAGS_ARITH) | RFLAGS_FIXED;
	changed = old ^ v->rflags;
	if (changed & (RFLAGS_TF | RFLAGS_VM | RFLAGS_AC | RFLAGS_RF))
		soft_update_mode(v);
	if (changed & v->rflags & RFLAGS_IF && lapic_pending(v->vcpu.lapic))
		soft_attention(v, ATTN_IRQ);
}

static bool mode_flat_segment(const struct seg_state *s)
{
	u32 want = SEG_ATTR_P | SEG_ATTR_S | 2; /* present, writable data */

	return !s->base && s->limit == 0xffffffff &&
	       (s->attr & (want | SEG_ATTR_UNUSABLE | 0xc)) == want;
}

static u32 mode_of_segments(const struct soft_vcpu *v)
{
	u32 mode = 0;

	if (v->efer & EFER_LMA && v->seg[SEG_CS].attr & SEG_ATTR_L)
		mode |= MODE_CS64;
	else if (v->seg[SEG_CS].attr & SEG_ATTR_DB)
		mode |= MODE_CS32;
	if (v->seg[SEG_SS].attr & SEG_ATTR_DB)
		mode |= MODE_SS32;
	if (!(mode & MODE_CS64) && mode_flat_segment(&v->seg[SEG_DS]) &&
	    mode_flat_segment(&v->seg[SEG_ES]) &&
	    mode_flat_segment(&v->seg[SEG_SS]))
		mode |= MODE_FLAT;
	return mode;
}

void soft_update_mode(struct soft_vcpu *v)
{
	u32 mode = mode_of_segments(v);

	if (v->cr0 & CR0_PE)
		mode |= MODE_PE;
	if (v->rflags & RFLAGS_VM)
		mode |= MODE_VM86;
	if (v->efer & EFER_LMA)
		mode |= MODE_LMA;
	if (v->cr0 & CR0_PG)
		mode |= MODE_PG;
	if (v->cpl == 3) {
		mode |= MODE_CPL3;
		if (v->cr0 & CR0_AM && v->rflags & RFLAGS_AC)
			mode |= MODE_AC;
	}
	v->mode = mode;
	mmu_select(v);
	if (unlikely(v->rflags & RFLAGS_TF || v->dr7 & 0xff))
		soft_attention(v, ATTN_STEP);
	else if (unlikely(v->attention & ATTN_STEP))
		__atomic_and_fetch(&v->attention, ~(u32)ATTN_STEP,
				   __ATOMIC_SEQ_CST);
	soft_code_rekey(v);
}

void soft_fault(struct soft_vcpu *v, u8 vector)
{
	v->fault_vector = vector;
	v->fault_has_error = false;
	v->fault_error = 0;
	siglongjmp(v->fault_env, 1);
}

void soft_fault_err(struct soft_vcpu *v, u8 vector, u32 error)
{
	v->fault_vector = vector;
	v->fault_has_error = true;
	v->fault_error = error;
	siglongjmp(v->fault_env, 1);
}
