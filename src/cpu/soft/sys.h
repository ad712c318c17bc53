/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System instructions: their tables of handlers, and what exceptions, MSRs
 * and the paravirtual interface keep for one vCPU.
 */
#ifndef CPU_SOFT_SYS_H
#define CPU_SOFT_SYS_H

#include "cpu/soft/soft.h"

#define SYS_LAST 8

struct sys_exception {
	u8 vector;
	u32 error;
	u64 rip;
};

struct soft_sys {
	struct sys_exception last[SYS_LAST]; /* ring, for reports */
	u64 exceptions;
	bool skip_step;    /* this instruction gives no single-step trap */
	bool pv_eoi_set;   /* the guest may end the interrupt by its flag */
	u64 pv_steal_from; /* time not run, ns, when last looked at */
	u64 left_tsc;      /* host's, at the end of vcpu_run() */
	u64 pv_steal_tick; /* host TSC then */
	struct lapic_regs pv_regs; /* scratch */
	bool inject;               /* reinject was under way at vcpu_get */
	u8 inject_vector;
	bool inject_soft, inject_exception, inject_has_error;
	u32 inject_error;
};

/* One handler; a table of them ends with fn NULL. */
struct sys_op {
	u16 op; /* enum x86_op */
	insn_fn *fn;
};
extern const struct sys_op sys_ops_ret[];  /* iret.c */
extern const struct sys_op sys_ops_far[];  /* far.c */
extern const struct sys_op sys_ops_seg[];  /* sys_segment.c */
extern const struct sys_op sys_ops_call[]; /* sys_call.c */
extern const struct sys_op sys_ops_cr[];   /* sys_cr.c */
extern const struct sys_op sys_ops_misc[]; /* sys_misc.c */
extern const struct sys_op sys_ops_io[];   /* sys_io.c */
extern const struct sys_op sys_ops_int[];  /* sys_int.c */

/* #GP(0) unless CPL is 0. */
void sys_need_cpl0(struct soft_vcpu *v);
/* #GP(0) if UMIP forbids SGDT, SIDT, SLDT, STR, SMSW here. */
void sys_need_umip(struct soft_vcpu *v);

/* Operands of the table's forms, at i->opsize or the size given. */
u64 sys_rm_get(struct soft_vcpu *v, const struct insn *i, unsigned size);
void sys_rm_set(struct soft_vcpu *v, const struct insn *i, unsigned size,
		u64 val);
void sys_reg_set(struct soft_vcpu *v, unsigned reg, unsigned size, u64 val);

/* Control registers, also for tasks, tests and state. */
void sys_set_cr0(struct soft_vcpu *v, u64 val); /* may fault */
void sys_set_cr3(struct soft_vcpu *v, u64 val);
void sys_set_cr4(struct soft_vcpu *v, u64 val);

/* MSRs (msr.c); false: #GP. */
bool msr_read(struct soft_vcpu *v, u32 msr, u64 *val);
bool msr_write(struct soft_vcpu *v, u32 msr, u64 val);
u64 soft_tsc(const struct soft_vcpu *v);
/* After APIC_BASE changed or was loaded. */
void sys_apic_base_changed(struct soft_vcpu *v);

/* CPUID (sys_misc.c): what this vCPU shows now. */
struct cpuid_regs sys_cpuid(const struct soft_vcpu *v, u32 leaf, u32 subleaf);

/* Paravirtual interface (pv.c) */
bool pv_msr_read(struct soft_vcpu *v, u32 msr, u64 *val);
bool pv_msr_write(struct soft_vcpu *v, u32 msr, u64 val);
u64 pv_hypercall(struct soft_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3);
void pv_eoi_offer(struct soft_vcpu *v, u8 vector); /* after accepting it */
void pv_eoi_collect(struct soft_vcpu *v); /* before looking at the lapic */
void pv_steal_tick(struct soft_vcpu *v);  /* now and then while it runs */
void pv_enter(struct soft_vcpu *v);       /* vcpu_run() begins: steal time */
void pv_leave(struct soft_vcpu *v);       /* it ends or halts: preempted */
u64 pv_clock_get(const struct soft_engine *g); /* ns */
/* vcpu_run() begins and ends: tells the guest's watchdogs of long pauses. */
void pv_run_begin(struct soft_vcpu *v);
void pv_run_end(struct soft_vcpu *v);
void pv_loaded(struct soft_vcpu *v); /* state was set: refresh clocks */
void pv_continue_clock(struct soft_vcpu *v, u64 tsc); /* before that */

/* Whole state (vcpu_state.c); load: the lapic too. */
void soft_load_state(struct soft_vcpu *v, const struct cpu_state *s);
void soft_save_state(struct soft_vcpu *v, struct cpu_state *s);
void soft_init(struct soft_vcpu *v); /* INIT, without the lapic */

#endif
