/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPUID of a vCPU: the model sublet-v1 as far as KVM and the host have it.
 *
 * With nested virtualization the guest sees the host's own vendor, model and
 * features instead: a guest's KVM chooses between VMX and SVM by the vendor,
 * so such a VM is tied to its kind of host anyway.
 */
#include <asm/kvm_para.h>
#include <errno.h>
#include <stdlib.h>

#include "cpu/kvm/kvm_priv.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/x86.h"

#define KCPUID_MAX 256

#define CPUID_1_ECX_TSC_DEADLINE BIT(24)
#define CPUID_1_ECX_HYPERVISOR   BIT(31)

/* The paravirtual features of the model; the rest of KVM's stays hidden. */
#define KCPUID_PV                                                       \
	(BIT(KVM_FEATURE_CLOCKSOURCE) | BIT(KVM_FEATURE_NOP_IO_DELAY) | \
	 BIT(KVM_FEATURE_CLOCKSOURCE2) | BIT(KVM_FEATURE_STEAL_TIME) |  \
	 BIT(KVM_FEATURE_PV_EOI) | BIT(KVM_FEATURE_PV_TLB_FLUSH) |      \
	 BIT(KVM_FEATURE_PV_SEND_IPI) | BIT(KVM_FEATURE_POLL_CONTROL) | \
	 BIT(KVM_FEATURE_PV_SCHED_YIELD) |                              \
	 BIT(KVM_FEATURE_CLOCKSOURCE_STABLE_BIT))

struct kcpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entry[KCPUID_MAX];
};

static const struct kvm_cpuid_entry2 *kcpuid_find(const struct kcpuid_list *l,
						  u32 leaf, u32 subleaf)
{
	for (u32 i = 0; i < l->head.nent; i++) {
		const struct kvm_cpuid_entry2 *x = &l->entry[i];

		if (x->function == leaf &&
		    (!(x->flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) ||
		     x->index == subleaf))
			return x;
	}
	return NULL;
}

/* What KVM can give; cpuid_model_build() takes from it what it wants. */
static struct cpuid_regs kcpuid_host(void *arg, u32 leaf, u32 subleaf)
{
	const struct kvm_cpuid_entry2 *x = kcpuid_find(arg, leaf, subleaf);
	struct cpuid_regs r = {0};

	if (x)
		r = (struct cpuid_regs){x->eax, x->ebx, x->ecx, x->edx};
	if (leaf == 1) /* KVM says so by a capability instead */
		r.ecx |= CPUID_1_ECX_TSC_DEADLINE;
	return r;
}

static u64 kcpuid_tsc_hz(struct kvm_vcpu *v)
{
	int khz = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);

	return khz > 0 ? (u64)khz * 1000 : 0;
}

static void kcpuid_from_model(struct kvm_vcpu *v, const struct cpuid_model *m,
			      struct kcpuid_list *out)
{
	out->head.nent = m->n;
	for (unsigned i = 0; i < m->n; i++) {
		const struct cpuid_leaf *l = &m->leaf[i];
		struct cpuid_regs r =
			cpuid_model_get(m, l->leaf, l->subleaf, v->vcpu.id);

		out->entry[i] = (struct kvm_cpuid_entry2){
			.function = l->leaf,
			.index = l->subleaf,
			.flags = l->has_subleaf
					 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX
					 : 0,
			.eax = r.eax,
			.ebx = r.ebx,
			.ecx = r.ecx,
			.edx = r.edx,
		};
	}
}

static void kcpuid_model(struct kvm_vcpu *v, struct kcpuid_list *l)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	const struct kvm_cpuid_entry2 *pv =
		kcpuid_find(l, KVM_CPUID_FEATURES, 0);
	struct cpuid_model m;

	cpuid_model_build(&m, kcpuid_host, l, k->engine.config.cpus,
			  kcpuid_tsc_hz(v), pv ? pv->eax & KCPUID_PV : 0);
	v->arch_capabilities = m.arch_capabilities;
	kcpuid_from_model(v, &m, l);
}

/* The host's CPUID, with what belongs to this vCPU. */
static void kcpuid_nested(struct kvm_vcpu *v, struct kcpuid_list *l)
{
	u32 id = v->vcpu.id;

	for (u32 i = 0; i < l->head.nent; i++) {
		struct kvm_cpuid_entry2 *x = &l->entry[i];

		if (x->function == 1) {
			x->ebx = (x->ebx & 0x00ffffff) | id << 24;
			x->ecx |= CPUID_1_ECX_TSC_DEADLINE |
				  CPUID_1_ECX_HYPERVISOR;
		} else if (x->function == 0xb || x->function == 0x1f)
			x->edx = id;
	}
}

static int kcpuid_capabilities(struct kvm_vcpu *v)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {
		.head.nmsrs = 1,
		.entry = {.index = MSR_ARCH_CAPABILITIES,
			  .data = v->arch_capabilities},
	};

	/* A host that has no such MSR announces none: nothing to set. */
	return kvm_ioctl(v->fd, KVM_SET_MSRS, &m);
}

int kcpuid_set(struct kvm_vcpu *v, struct err *e)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	struct kcpuid_list *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	l->head.nent = KCPUID_MAX;
	rc = kvm_ioctl(k->sys, KVM_GET_SUPPORTED_CPUID, l);
	if (!rc) {
		if (k->engine.config.nested)
			kcpuid_nested(v, l);
		else
			kcpuid_model(v, l);
		rc = kvm_ioctl(v->fd, KVM_SET_CPUID2, l);
	}
	free(l);
	if (rc >= 0 && v->arch_capabilities)
		rc = kcpuid_capabilities(v);
	return rc < 0 ? err_errno(e, rc, "kvm: cannot set CPUID") : 0;
}
