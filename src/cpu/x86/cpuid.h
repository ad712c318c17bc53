/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The named CPU model that a guest sees, the same on every engine.
 *
 * sublet-v1: GenuineIntel, x86-64-v3 plus AES, PCLMULQDQ, SHA, ADX, RDRAND,
 * RDSEED, FSGSBASE, SMEP, SMAP, UMIP, PCID, INVPCID, RDPID, XSAVE family,
 * as far as the host has them; no AVX-512, no TSX, no PKU, no CET, no LA57.
 * Hypervisor leaves are KVM's (0x40000000), with the TSC and APIC frequency
 * in 0x40000010 and 0x15.
 */
#ifndef CPU_X86_CPUID_H
#define CPU_X86_CPUID_H

#include "base/types.h"

struct cpuid_regs {
	u32 eax, ebx, ecx, edx;
};

struct cpuid_leaf {
	u32 leaf, subleaf;
	bool has_subleaf;
	struct cpuid_regs r; /* static part; see cpuid_dynamic() */
};

#define CPUID_LEAVES 48

struct cpuid_model {
	unsigned n;
	struct cpuid_leaf leaf[CPUID_LEAVES];
	u64 xcr0_mask; /* bits XSETBV may set */
	u64 arch_capabilities;
	u32 pv_features; /* KVM_FEATURE_* in 0x40000001 */
};

/*
 * Builds sublet-v1 for this host: every bit that the instructions of the host
 * cannot back is cleared. host(leaf, subleaf) is the real CPUID, or what KVM
 * supports. pv_features: what the engine provides.
 */
void cpuid_model_build(struct cpuid_model *m,
		       struct cpuid_regs (*host)(void *arg, u32 leaf,
						 u32 subleaf),
		       void *arg, unsigned cpus, u64 tsc_hz, u32 pv_features);

/*
 * What both a and b announce, so that a guest can move between their engines
 * or hosts. cpus, TSC and paravirtual interface are as in build.
 */
void cpuid_model_common(struct cpuid_model *m, const struct cpuid_model *a,
			const struct cpuid_model *b, unsigned cpus, u64 tsc_hz);

/* What CPUID returns on vCPU id, before the parts that depend on registers
 * (OSXSAVE, current XCR0 size), which the engine fills in. */
struct cpuid_regs cpuid_model_get(const struct cpuid_model *m, u32 leaf,
				  u32 subleaf, unsigned id);

struct cpuid_regs cpuid_host(void *unused, u32 leaf, u32 subleaf);

#endif
