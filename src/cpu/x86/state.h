/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole architectural state of one vCPU, as snapshots keep it and both
 * engines get and set it. Plain integers only; described by cpu_state_desc.
 */
#ifndef CPU_X86_STATE_H
#define CPU_X86_STATE_H

#include "base/types.h"
#include "irq/lapic.h"
#include "state/state.h"

/* Registers 8 to 15 have no name: it would be their number, and <ucontext.h>
 * has claimed REG_R8 and the rest for another order. */
enum {
	REG_AX,
	REG_CX,
	REG_DX,
	REG_BX,
	REG_SP,
	REG_BP,
	REG_SI,
	REG_DI,
};

/* In the order of the sreg field of instructions. */
enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_NONE };

/*
 * attr is in the format of VMX and SVM access rights (SDM table 25-2): type
 * 3:0, S 4, DPL 6:5, P 7, AVL 12, L 13, D/B 14, G 15, unusable 16.
 */
struct seg_state {
	u64 base;
	u32 limit; /* in bytes, granularity applied */
	u32 attr;
	u32 sel;
	u32 pad; /* zero */
};

#define SEG_ATTR_TYPE     0xfu
#define SEG_ATTR_S        BIT(4)
#define SEG_ATTR_DPL(a)   (((a) >> 5) & 3)
#define SEG_ATTR_P        BIT(7)
#define SEG_ATTR_AVL      BIT(12)
#define SEG_ATTR_L        BIT(13)
#define SEG_ATTR_DB       BIT(14)
#define SEG_ATTR_G        BIT(15)
#define SEG_ATTR_UNUSABLE BIT(16)

struct dtable_state {
	u64 base;
	u64 limit;
};

enum mp_state { MP_RUNNABLE, MP_HALTED, MP_WAIT_SIPI };

/* Standard-format XSAVE area: legacy 512, header 64, AVX 256 at 576. */
#define XSAVE_AREA_SIZE 832

/* struct kvm_nested_state with VMX's two VMCS pages; SVM's is smaller. */
#define NESTED_STATE_SIZE (128 + 2 * 4096)

struct cpu_state {
	u64 gpr[16];
	u64 rip, rflags;
	struct seg_state seg[6], ldtr, tr;
	struct dtable_state gdt, idt;
	u64 cr0, cr2, cr3, cr4, cr8, efer, xcr0;
	u64 dr[4], dr6, dr7;
	u8 xsave[XSAVE_AREA_SIZE];

	/* MSRs, by their SDM names */
	u64 tsc; /* value at the moment of saving */
	u64 tsc_adjust, tsc_aux, tsc_deadline;
	u64 star, lstar, cstar, sfmask, kernel_gs_base;
	u64 sysenter_cs, sysenter_esp, sysenter_eip;
	u64 pat, misc_enable, spec_ctrl, xss, debugctl;
	u64 mtrr_def_type, mtrr_fixed[11], mtrr_base[8], mtrr_mask[8];
	/* Paravirtual MSRs (Linux KVM documentation, "KVM-specific MSRs") */
	u64 pv_wall_clock, pv_system_time, pv_async_pf, pv_async_pf_int;
	u64 pv_steal_time, pv_eoi, pv_poll_control;

	/* Event under delivery when the vCPU stopped (KVM_GET_VCPU_EVENTS) */
	u8 exception_injected, exception_nr, exception_has_error;
	u8 interrupt_injected, interrupt_nr, interrupt_soft;
	u8 shadow; /* 1: after STI, 2: after MOV SS / POP SS */
	u8 nmi_injected, nmi_pending, nmi_masked;
	u8 smm;
	u8 mp_state; /* enum mp_state */
	u32 exception_error;
	u32 sipi_vector;
	u32 pad; /* zero */

	/* Of a VM that runs VMs of its own (--nested): SVM's host save area,
	 * and what KVM_GET_NESTED_STATE gave. Only KVM can go on from it. */
	u64 vm_hsave;
	u32 nested_size; /* bytes of nested in use; 0: none */
	u32 nested_pad;  /* zero */
	u8 nested[NESTED_STATE_SIZE];
	struct lapic_regs lapic;
};

extern const struct state_desc cpu_state_desc;

/* Power-on state (SDM table 10-1); id 0 is the boot processor. */
void cpu_state_reset(struct cpu_state *s, unsigned id);

#endif
