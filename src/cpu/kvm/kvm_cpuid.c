/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPUID of a vCPU: what KVM supports, with the vCPU's own APIC id.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/kvm/kvm_priv.h"

#define KCPUID_MAX 256

#define CPUID_1_ECX_VMX          BIT(5)
#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_HYPERVISOR   BIT(31)
#define CPUID_80000001_ECX_SVM   BIT(2)

static void kcpuid_leaf(struct kvm_cpuid_entry2 *x, unsigned id, bool nested)
{
	switch (x->function) {
	case 1:
		x->ebx = (x->ebx & 0x00ffffff) | id << 24;
		x->ecx |= CPUID_1_ECX_TSC_DEADLINE | CPUID_1_ECX_HYPERVISOR;
		if (!nested)
			x->ecx &= ~CPUID_1_ECX_VMX;
		break;
	case 0xb:
	case 0x1f: x->edx = id; break;
	case 0x80000001:
		if (!nested)
			x->ecx &= ~CPUID_80000001_ECX_SVM;
		break;
	}
}

int kcpuid_set(struct kvm_vcpu *v, struct err *e)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	struct kvm_cpuid2 *c;
	int rc;

	c = calloc(1, sizeof(*c) + KCPUID_MAX * sizeof(c->entries[0]));
	if (!c)
		return err_set(e, -ENOMEM, "out of memory");
	c->nent = KCPUID_MAX;
	rc = kvm_ioctl(k->sys, KVM_GET_SUPPORTED_CPUID, c);
	for (u32 i = 0; i < c->nent && !rc; i++)
		kcpuid_leaf(&c->entries[i], v->vcpu.id,
			    k->engine.config.nested);
	if (!rc)
		rc = kvm_ioctl(v->fd, KVM_SET_CPUID2, c);
	free(c);
	return rc < 0 ? err_errno(e, rc, "kvm: cannot set CPUID") : 0;
}
