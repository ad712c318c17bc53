/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole state of a vCPU in and out (struct cpu_state), and INIT (SDM
 * volume 3, table 10-1).
 */
#include <string.h>

#include "base/clock.h"
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/sys.h"

static void state_save_registers(struct soft_vcpu *v, struct cpu_state *s)
{
	memcpy(s->gpr, v->gpr, sizeof(s->gpr));
	memcpy(s->seg, v->seg, sizeof(s->seg));
	memcpy(s->dr, v->dr, sizeof(s->dr));
	s->rip = v->rip;
	s->rflags = soft_rflags(v);
	s->ldtr = v->ldtr;
	s->tr = v->tr;
	s->gdt = v->gdt;
	s->idt = v->idt;
	s->cr0 = v->cr0;
	s->cr2 = v->cr2;
	s->cr3 = v->cr3;
	s->cr4 = v->cr4;
	s->efer = v->efer;
	s->xcr0 = v->xcr0;
	s->dr6 = v->dr6;
	s->dr7 = v->dr7;
}

static void state_save_event(const struct soft_vcpu *v, struct cpu_state *s)
{
	const struct soft_sys *y = v->sys;

	s->exception_injected = y->inject && y->inject_exception;
	s->interrupt_injected = y->inject && !y->inject_exception;
	s->exception_nr = s->exception_injected ? y->inject_vector : 0;
	s->exception_has_error = s->exception_injected && y->inject_has_error;
	s->exception_error = s->exception_has_error ? y->inject_error : 0;
	s->interrupt_nr = s->interrupt_injected ? y->inject_vector : 0;
	s->interrupt_soft = s->interrupt_injected && y->inject_soft;
	s->shadow = v->shadow;
	s->nmi_injected = 0;
	s->nmi_pending = v->nmi_pending;
	s->nmi_masked = v->nmi_masked;
	s->smm = 0;
	s->mp_state = v->mp_state;
	s->sipi_vector = 0;
}

void soft_save_state(struct soft_vcpu *v, struct cpu_state *s)
{
	soft_take_messages(v);
	pv_eoi_collect(v);
	*s = v->msr; /* the MSRs; all else follows */
	state_save_registers(v, s);
	simd_saved(v);
	memcpy(s->xsave, v->xsave, sizeof(s->xsave));
	s->tsc = soft_tsc(v);
	s->cr8 = lapic_get_cr8(v->vcpu.lapic);
	state_save_event(v, s);
	lapic_get_regs(v->vcpu.lapic, &s->lapic);
	s->tsc_deadline = s->lapic.tsc_deadline;
	s->pad = 0;
}

static void state_load_registers(struct soft_vcpu *v, const struct cpu_state *s)
{
	memcpy(v->gpr, s->gpr, sizeof(v->gpr));
	memcpy(v->seg, s->seg, sizeof(v->seg));
	memcpy(v->dr, s->dr, sizeof(v->dr));
	v->rip = s->rip;
	v->ldtr = s->ldtr;
	v->tr = s->tr;
	v->gdt = s->gdt;
	v->idt = s->idt;
	v->cr0 = s->cr0;
	v->cr2 = s->cr2;
	v->cr3 = s->cr3;
	v->cr4 = s->cr4;
	v->efer = s->efer;
	v->xcr0 = s->xcr0;
	v->dr6 = s->dr6;
	v->dr7 = s->dr7;
	v->cpl = 0;
	if (s->cr0 & CR0_PE)
		v->cpl = s->rflags & RFLAGS_VM
				 ? 3
				 : (u8)SEG_ATTR_DPL(s->seg[SEG_SS].attr);
	v->shadow = s->shadow;
	v->nmi_masked = s->nmi_masked;
	v->nmi_pending = s->nmi_pending;
	v->mp_state = s->mp_state;
	v->db_pending = 0;
	v->delivering = 0;
}

/* Everything that is derived from registers, made anew. */
static void state_loaded(struct soft_vcpu *v, u64 rflags)
{
	soft_set_rflags(v, rflags);
	mmu_mode_changed(v);
	if (v->cr0 & CR0_PG && v->cr4 & CR4_PAE && !(v->efer & EFER_LMA))
		mmu_load_pdptes(v, v->cr3);
	soft_update_mode(v);
	soft_attention(v, ATTN_IRQ | ATTN_MODE);
}

static void state_load_event(struct soft_vcpu *v, const struct cpu_state *s)
{
	struct soft_sys *y = v->sys;

	y->pv_eoi_set = false;
	y->inject = s->exception_injected || s->interrupt_injected ||
		    s->nmi_injected;
	y->inject_exception = s->exception_injected;
	y->inject_soft = !s->exception_injected && s->interrupt_injected &&
			 s->interrupt_soft;
	y->inject_has_error = s->exception_has_error;
	y->inject_error = s->exception_error;
	y->inject_vector = s->exception_injected   ? s->exception_nr
			   : s->interrupt_injected ? s->interrupt_nr
						   : VEC_NMI;
	if (y->inject)
		v->mp_state = MP_RUNNABLE;
}

static void state_load_tsc(struct soft_vcpu *v, const struct cpu_state *s)
{
	u64 moment = soft_engine_of(v)->tsc_moment;

	v->tsc_offset = s->tsc - (moment ? moment : clock_tsc());
}

void soft_load_state(struct soft_vcpu *v, const struct cpu_state *s)
{
	v->stop = STOP_NONE;
	v->msr = *s;
	state_load_registers(v, s);
	state_load_event(v, s);
	memcpy(v->xsave, s->xsave, sizeof(v->xsave));
	simd_loaded(v);
	state_load_tsc(v, s);
	lapic_set_regs(v->vcpu.lapic, &s->lapic);
	lapic_set_tsc(v->vcpu.lapic);
	sys_apic_base_changed(v);
	state_loaded(v, s->rflags);
	pv_continue_clock(v, s->tsc);
	pv_loaded(v);
}

void soft_init(struct soft_vcpu *v)
{
	struct cpu_state s;
	u64 xcr0 = v->xcr0, cd = v->cr0 & (CR0_CD | CR0_NW);

	cpu_state_reset(&s, v->vcpu.id);
	s.cr0 = CR0_ET | cd;
	s.xcr0 = xcr0;
	v->sys->inject = false;
	v->sys->pv_eoi_set = false;
	state_load_registers(v, &s);
	simd_reset(v, true);
	state_loaded(v, s.rflags);
}
