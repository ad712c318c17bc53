/* SPDX-License-Identifier: BSD-2-Clause */
/* Can a guest that has seen one CPU model go on with what another has? */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vm_state.h"

enum { EAX, EBX, ECX, EDX };

struct cpu_bits {
	u32 leaf, subleaf;
	unsigned reg;
	const char *names; /* "bit:name bit:name ..." */
};

/* The features that kernels and programs choose by; SDM volume 2, CPUID. */
static const struct cpu_bits cpu_bits[] = {
	{1, 0, ECX,
	 "0:sse3 1:pclmulqdq 9:ssse3 12:fma 13:cx16 17:pcid 19:sse4_1 "
	 "20:sse4_2 21:x2apic 22:movbe 23:popcnt 24:tsc_deadline 25:aes "
	 "26:xsave 28:avx 29:f16c 30:rdrand 5:vmx"},
	{1, 0, EDX,
	 "0:fpu 2:de 3:pse 4:tsc 5:msr 6:pae 8:cx8 9:apic 11:sep 12:mtrr "
	 "13:pge 15:cmov 16:pat 17:pse36 19:clflush 23:mmx 24:fxsr 25:sse "
	 "26:sse2"},
	{7, 0, EBX,
	 "0:fsgsbase 1:tsc_adjust 3:bmi1 5:avx2 6:fdp_excptn_only 7:smep "
	 "8:bmi2 9:erms 10:invpcid 13:zero_fcs_fds 18:rdseed 19:adx 20:smap "
	 "23:clflushopt 24:clwb 29:sha"},
	{7, 0, ECX, "2:umip 22:rdpid"},
	{7, 0, EDX,
	 "4:fsrm 26:spec_ctrl 27:stibp 29:arch_capabilities 31:ssbd"},
	{7, 2, EDX, "4:bhi_ctrl"},
	{0xd, 1, EAX, "0:xsaveopt 1:xsavec 2:xgetbv1 3:xsaves"},
	{0x40000001, 0, EAX,
	 "0:kvm_clock_old 1:kvm_nop_io_delay 3:kvm_clock 4:kvm_async_pf "
	 "5:kvm_steal_time 6:kvm_pv_eoi 7:kvm_pv_unhalt 9:kvm_tlb_flush "
	 "10:kvm_async_pf_vmexit 11:kvm_send_ipi 12:kvm_poll_control "
	 "13:kvm_sched_yield 14:kvm_async_pf_int 24:kvm_clock_stable"},
	{0x80000001, 0, ECX, "0:lahf_lm 2:svm 5:lzcnt 8:prefetchw"},
	{0x80000001, 0, EDX, "11:syscall 20:nx 26:pdpe1gb 27:rdtscp 29:lm"},
	{0x80000007, 0, EDX, "8:invariant_tsc"},
};

static u32 cpu_reg(const struct cpuid_model *m, const struct cpu_bits *b)
{
	struct cpuid_regs r = cpuid_model_get(m, b->leaf, b->subleaf, 0);
	const u32 reg[] = {r.eax, r.ebx, r.ecx, r.edx};

	return reg[b->reg];
}

/* " name" of one bit, or its number. */
static void cpu_bit_name(const struct cpu_bits *b, unsigned bit, char *out,
			 size_t size)
{
	size_t used = strlen(out);

	for (const char *p = b->names; *p;) {
		char *name;
		unsigned n = (unsigned)strtoul(p, &name, 10);
		int len = (int)strcspn(name + 1, " ");

		if (n == bit) {
			snprintf(out + used, size - used, " %.*s", len,
				 name + 1);
			return;
		}
		p = name + 1 + len;
		p += *p == ' ';
	}
	snprintf(out + used, size - used, " %#x.%u", b->leaf, bit);
}

static void cpu_missing(const struct cpuid_model *saved,
			const struct cpuid_model *here, char *out, size_t size)
{
	for (size_t i = 0; i < ARRAY_LEN(cpu_bits); i++) {
		const struct cpu_bits *b = &cpu_bits[i];
		u32 more = cpu_reg(saved, b) & ~cpu_reg(here, b);

		if (b->leaf == 1 && b->reg == EDX)
			more &= ~BIT(28); /* several CPUs, not a feature */
		if (b->leaf == 1 && b->reg == ECX)
			more &= ~(BIT(31) | BIT(27)); /* OSXSAVE is CR4's */
		for (unsigned bit = 0; bit < 32; bit++)
			if (more & BIT(bit))
				cpu_bit_name(b, bit, out, size);
	}
	if (saved->xcr0_mask & ~here->xcr0_mask)
		snprintf(out + strlen(out), size - strlen(out), " xcr0");
}

/* KVM says itself, when a vCPU is made, whether it can scale. Measured
 * frequencies of one machine differ by less than this. */
static int cpu_check_tsc(const struct cpuid_model *saved,
			 const struct cpuid_model *here, struct err *e)
{
	u64 a = cpuid_model_get(saved, 0x40000010, 0, 0).eax;
	u64 b = cpuid_model_get(here, 0x40000010, 0, 0).eax;

	if (!a || !b || (a > b ? a - b : b - a) <= b / 1000)
		return 0;
	return err_set(e, -ENOTSUP,
		       "the guest's time stamp counter runs at %lu kHz, here "
		       "it would at %lu kHz",
		       a, b);
}

int vm_state_check_cpu(const struct cpuid_model *saved, unsigned cpus,
		       const struct engine_class *c, struct err *e)
{
	struct cpuid_model here;
	char names[400] = "";
	int rc = c->model(&here, cpus, e);

	if (rc)
		return rc;
	cpu_missing(saved, &here, names, sizeof(names));
	if (*names)
		return err_set(e, -ENOTSUP,
			       "the guest's CPU has features that the %s "
			       "engine lacks here:%s",
			       c->name, names);
	return strcmp(c->name, "soft") ? 0 : cpu_check_tsc(saved, &here, e);
}
