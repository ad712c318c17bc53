/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The field table of struct cpu_state, what states hardware cannot be in, and
 * the power-on state (SDM volume 3, table 10-1).
 */
#include "cpu/x86/state.h"

#include <errno.h>
#include <string.h>

#include "cpu/x86/x86.h"

#define F(m)  STATE(struct cpu_state, m, 1)
#define F2(m) STATE(struct cpu_state, m, 2)
#define FA(m) STATE_ARRAY(struct cpu_state, m, 1)
/* clang-format off */
#define SEG(m) F(m.base), F(m.limit), F(m.attr), F(m.sel), F(m.pad)
#define REGS(m) \
	F(lapic.m)
#define REGSA(m) \
	FA(lapic.m)

static const struct state_field cpu_state_fields[] = {
	FA(gpr), F(rip), F(rflags),
	SEG(seg[0]), SEG(seg[1]), SEG(seg[2]), SEG(seg[3]), SEG(seg[4]),
	SEG(seg[5]), SEG(ldtr), SEG(tr),
	F(gdt.base), F(gdt.limit), F(idt.base), F(idt.limit),
	F(cr0), F(cr2), F(cr3), F(cr4), F(cr8), F(efer), F(xcr0),
	FA(dr), F(dr6), F(dr7),
	FA(xsave),
	F(tsc), F(tsc_adjust), F(tsc_aux), F(tsc_deadline),
	F(star), F(lstar), F(cstar), F(sfmask), F(kernel_gs_base),
	F(sysenter_cs), F(sysenter_esp), F(sysenter_eip),
	F(pat), F(misc_enable), F(spec_ctrl), F(xss), F(debugctl),
	F(mtrr_def_type), FA(mtrr_fixed), FA(mtrr_base), FA(mtrr_mask),
	F(pv_wall_clock), F(pv_system_time), F(pv_async_pf),
	F(pv_async_pf_int), F(pv_steal_time), F(pv_eoi), F(pv_poll_control),
	F(exception_injected), F(exception_nr), F(exception_has_error),
	F(interrupt_injected), F(interrupt_nr), F(interrupt_soft),
	F(shadow), F(nmi_injected), F(nmi_pending), F(nmi_masked),
	F(smm), F(mp_state), F(exception_error), F(sipi_vector), F(pad),
	F2(vm_hsave), F2(nested_size), F2(nested_pad),
	STATE_ARRAY(struct cpu_state, nested, 2),
	REGS(apic_base), REGS(tsc_deadline), REGS(timer_ns), REGS(id),
	REGS(ldr), REGS(dfr), REGS(tpr), REGS(svr), REGS(esr), REGS(icr_lo),
	REGS(icr_hi), REGSA(lvt), REGS(timer_icr), REGS(timer_dcr),
	REGS(esr_pending), REGSA(isr), REGSA(tmr), REGSA(irr),
};
/* clang-format on */

/* What no sequence of instructions leads to. */
static int cpu_state_check(const void *regs, struct err *e)
{
	const struct cpu_state *s = regs;

	if ((s->cr0 & CR0_PG && !(s->cr0 & CR0_PE)) ||
	    (s->cr0 & CR0_NW && !(s->cr0 & CR0_CD)))
		return err_set(e, -EDOM, "cpu: CR0 %#llx is not possible",
			       (unsigned long long)s->cr0);
	if (!(s->efer & EFER_LMA) != !(s->efer & EFER_LME && s->cr0 & CR0_PG))
		return err_set(e, -EDOM, "cpu: EFER %#llx is not possible",
			       (unsigned long long)s->efer);
	if (s->efer & EFER_LMA && !(s->cr4 & CR4_PAE))
		return err_set(e, -EDOM, "cpu: CR4 %#llx is not possible",
			       (unsigned long long)s->cr4);
	if (!(s->rflags & RFLAGS_FIXED))
		return err_set(e, -EDOM, "cpu: RFLAGS %#llx is not possible",
			       (unsigned long long)s->rflags);
	if (s->mp_state > MP_WAIT_SIPI || s->shadow > 2)
		return err_set(e, -EDOM, "cpu: unknown run state");
	if (s->nested_size > sizeof(s->nested))
		return err_set(e, -EDOM, "cpu: nested state is too long");
	return 0;
}

const struct state_desc cpu_state_desc = {
	.name = "cpu",
	.version = 2,
	.size = sizeof(struct cpu_state),
	.fields = cpu_state_fields,
	.nfields = ARRAY_LEN(cpu_state_fields),
	.check = cpu_state_check,
};

static struct seg_state reset_segment(u32 attr)
{
	return (struct seg_state){.limit = 0xffff, .attr = attr};
}

static void reset_segments(struct cpu_state *s)
{
	for (unsigned i = 0; i < 6; i++)
		s->seg[i] = reset_segment(0x93);
	s->seg[SEG_CS].sel = 0xf000;
	s->seg[SEG_CS].base = 0xffff0000;
	s->seg[SEG_CS].attr = 0x9b;
	s->ldtr = reset_segment(0x82);
	s->tr = reset_segment(0x8b);
	s->gdt.limit = s->idt.limit = 0xffff;
}

/* The local APIC after power-on: software-disabled, all LVTs masked. */
static void reset_lapic(struct lapic_regs *r, unsigned id)
{
	r->apic_base = LAPIC_BASE | BIT(11) | (id ? 0 : BIT(8));
	r->id = id << 24; /* as the xAPIC page has it */
	r->dfr = 0xffffffff;
	r->svr = 0xff;
	for (unsigned i = 0; i < ARRAY_LEN(r->lvt); i++)
		r->lvt[i] = BIT(16);
}

void cpu_state_reset(struct cpu_state *s, unsigned id)
{
	const u16 fcw = 0x37f;
	const u32 mxcsr = 0x1f80;

	memset(s, 0, sizeof(*s));
	s->gpr[REG_DX] = 0x000806f8; /* as CPUID leaf 1 */
	s->rip = 0xfff0;
	s->rflags = RFLAGS_FIXED;
	reset_segments(s);
	s->cr0 = CR0_CD | CR0_NW | CR0_ET;
	s->xcr0 = 1;
	s->dr6 = 0xffff0ff0;
	s->dr7 = 0x400;
	memcpy(s->xsave, &fcw, 2);
	memcpy(s->xsave + 24, &mxcsr, 4);
	s->pat = 0x0007040600070406;
	s->misc_enable = 0x1801; /* fast strings; no BTS, no PEBS */
	s->pv_poll_control = 1;
	s->mp_state = id ? MP_WAIT_SIPI : MP_RUNNABLE;
	reset_lapic(&s->lapic, id);
}
