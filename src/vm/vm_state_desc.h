/* SPDX-License-Identifier: BSD-2-Clause */
/* Records that are not a device's: the machine as a whole, its CPU model. */
#ifndef VM_VM_STATE_DESC_H
#define VM_VM_STATE_DESC_H

#include "cpu/x86/cpuid.h"
#include "state/state.h"

struct vm_regs {
	u64 memory;   /* bytes */
	u64 clock_ns; /* paravirtual clock, if has_clock */
	u64 real_ns;  /* wall clock, since 1970 */
	u32 cpus;
	u32 has_clock;
	u32 console; /* VM_CONSOLE_*: who gets what is typed */
	u32 pad;     /* zero */
};

/* The format's own copy of struct cpuid_model; room for more leaves. */
#define VM_CPUID_LEAVES 64

struct vm_cpuid_regs {
	u64 xcr0_mask, arch_capabilities;
	u32 pv_features, n;
	u32 leaf[VM_CPUID_LEAVES], subleaf[VM_CPUID_LEAVES];
	u32 has_subleaf[VM_CPUID_LEAVES];
	u32 eax[VM_CPUID_LEAVES], ebx[VM_CPUID_LEAVES];
	u32 ecx[VM_CPUID_LEAVES], edx[VM_CPUID_LEAVES];
};

extern const struct state_desc vm_state_desc, vm_cpuid_desc;

void vm_cpuid_from_model(struct vm_cpuid_regs *r, const struct cpuid_model *m);
/* r was checked by its desc. */
void vm_cpuid_to_model(struct cpuid_model *m, const struct vm_cpuid_regs *r);

#endif
