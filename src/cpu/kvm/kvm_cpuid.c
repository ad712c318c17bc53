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
#include <unistd.h>

#include "base/clock.h"
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

static void kcpuid_from_model(struct kvm_vcpu *v, struct kcpuid_list *out)
{
	const struct cpuid_model *m = &kvm_of_vcpu(v)->cpuid;

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

static int kcpuid_supported(int sys, struct kcpuid_list *l)
{
	l->head.nent = KCPUID_MAX;
	return kvm_ioctl(sys, KVM_GET_SUPPORTED_CPUID, l);
}

static int kcpuid_build(int sys, struct cpuid_model *m, unsigned cpus,
			u64 tsc_hz, struct err *e)
{
	struct kcpuid_list *l = calloc(1, sizeof(*l));
	const struct kvm_cpuid_entry2 *pv;
	int rc;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	rc = kcpuid_supported(sys, l);
	pv = kcpuid_find(l, KVM_CPUID_FEATURES, 0);
	if (!rc)
		cpuid_model_build(m, kcpuid_host, l, cpus, tsc_hz,
				  pv ? pv->eax & KCPUID_PV : 0);
	free(l);
	return rc < 0 ? err_errno(e, rc, "kvm: cannot read CPUID") : 0;
}

/* Of a guest's TSC if nobody asks for another; old kernels do not tell. */
static u64 kcpuid_tsc_hz(int vm)
{
	int khz = kvm_ioctl(vm, KVM_GET_TSC_KHZ, NULL);

	return khz > 0 ? (u64)khz * 1000 : clock_tsc_hz();
}

int kcpuid_model(struct cpuid_model *m, unsigned cpus, struct err *e)
{
	int sys = kprobe_open(KVM_PATH, e), vm, rc;

	if (sys < 0)
		return sys;
	vm = rc = kvm_ioctl(sys, KVM_CREATE_VM, NULL);
	if (vm < 0) {
		err_errno(e, rc, "kvm: cannot make a VM");
	} else {
		rc = kcpuid_build(sys, m, cpus, kcpuid_tsc_hz(vm), e);
		close(vm);
	}
	close(sys);
	return rc;
}

int kcpuid_init(struct kvm_engine *k, struct err *e)
{
	struct engine_config *c = &k->engine.config;
	const struct cpuid_model *given = c->cpuid;

	c->cpuid = &k->cpuid;
	if (!given)
		return kcpuid_build(k->sys, &k->cpuid, c->cpus,
				    kcpuid_tsc_hz(k->fd), e);
	k->cpuid = *given;
	return 0;
}

/*
 * The guest's TSC is to run at the frequency that CPUID tells. Where hardware
 * cannot scale, KVM refuses; one part in a thousand off is a measuring error
 * of somebody's and hurts less than not to run.
 */
static int kcpuid_tsc(struct kvm_vcpu *v)
{
	const struct cpuid_model *m = &kvm_of_vcpu(v)->cpuid;
	long want = cpuid_model_get(m, 0x40000010, 0, 0).eax;
	long have = kvm_ioctl(v->fd, KVM_GET_TSC_KHZ, NULL);
	int rc;

	if (!want || have <= 0 || want == have)
		return 0;
	rc = kvm_ioctl(v->fd, KVM_SET_TSC_KHZ, (void *)want);
	return labs(want - have) < have / 1000 ? 0 : rc;
}

static int kcpuid_capabilities(struct kvm_vcpu *v)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} m = {
		.head.nmsrs = 1,
		.entry = {.index = MSR_ARCH_CAPABILITIES,
			  .data = kvm_of_vcpu(v)->cpuid.arch_capabilities},
	};

	return m.entry.data ? kvm_ioctl(v->fd, KVM_SET_MSRS, &m) : 0;
}

static int kcpuid_fill(struct kvm_vcpu *v, struct kcpuid_list *l)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	int rc;

	if (!k->engine.config.nested) {
		kcpuid_from_model(v, l);
		return 0;
	}
	rc = kcpuid_supported(k->sys, l);
	kcpuid_nested(v, l);
	return rc;
}

int kcpuid_set(struct kvm_vcpu *v, struct err *e)
{
	struct kcpuid_list *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(e, -ENOMEM, "out of memory");
	rc = kcpuid_fill(v, l);
	if (!rc)
		rc = kvm_ioctl(v->fd, KVM_SET_CPUID2, l);
	free(l);
	if (rc < 0)
		return err_errno(e, rc, "kvm: cannot set CPUID");
	rc = kcpuid_capabilities(v);
	if (rc < 0)
		return err_errno(e, rc, "kvm: cannot set capabilities");
	rc = kcpuid_tsc(v);
	if (rc < 0)
		return err_errno(e, rc,
				 "kvm: this host cannot run the guest's TSC at "
				 "its frequency");
	return 0;
}
