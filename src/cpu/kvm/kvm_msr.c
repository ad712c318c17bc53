/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers that KVM would serve but guests are not to have:
 * those of features that CPUID does not show, most of all interfaces of the
 * host's kernel that only make its attack surface larger. A filter gives them
 * to us, like those that KVM does not know. Both are looked for in the table
 * of constants that the soft engine has too, else they are #GP.
 */
#include "cpu/kvm/kvm_priv.h"
#include "cpu/x86/msr.h"

#define KMSR_PMU_COUNTERS 12

/* Of at most this many registers each: bits of the shared, empty bitmap. */
#define KMSR_RANGE_MAX 512

static const struct kmsr_range {
	u32 base, n;
	bool nested; /* denied with --nested too, whose CPUID is the host's */
} kmsr_denied[] = {
	{0x40000000, KMSR_RANGE_MAX, true}, /* Hyper-V's interface */
	{0x0c1, 8, false},                  /* performance counters, */
	{0x186, 8, false},                  /* their events, */
	{0x309, 3, false},                  /* fixed counters, */
	{0x345, 1, false},                  /* capabilities, */
	{0x38d, 6, false},                  /* global control, */
	{0x4c1, 8, false},                  /* full-width counters */
	{0xc0010000, 8, false},             /* the same of AMD, */
	{0xc0010200, KMSR_PMU_COUNTERS, false},
	{0x480, 18, false},     /* VMX capabilities */
	{0xc0010114, 4, false}, /* SVM: control, host save area */
	{0xc0010015, 1, false}, /* AMD's hardware configuration */
};

static u8 kmsr_none[KMSR_RANGE_MAX / 8]; /* never written: nothing allowed */

int kmsr_init(struct kvm_engine *k, struct err *e)
{
	struct kvm_msr_filter f = {.flags = KVM_MSR_FILTER_DEFAULT_ALLOW};
	u32 n = 0;
	int rc;

	kvm_enable_cap(k->fd, KVM_CAP_X86_USER_SPACE_MSR,
		       KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER,
		       0);
	if (!kvm_cap(k->fd, KVM_CAP_X86_MSR_FILTER))
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(kmsr_denied); i++) {
		const struct kmsr_range *r = &kmsr_denied[i];

		if (k->engine.config.nested && !r->nested)
			continue;
		f.ranges[n++] = (struct kvm_msr_filter_range){
			.flags = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE,
			.base = r->base,
			.nmsrs = r->n,
			.bitmap = kmsr_none,
		};
	}
	rc = kvm_ioctl(k->fd, KVM_X86_SET_MSR_FILTER, &f);
	return rc < 0 ? err_errno(e, rc, "kvm: cannot filter MSRs") : 0;
}

void kmsr_exit(struct kvm_vcpu *v)
{
	struct kvm_run *r = v->run;
	bool good;

	if (r->exit_reason == KVM_EXIT_X86_WRMSR) {
		good = x86_msr_write(r->msr.index);
	} else {
		u64 val;

		good = x86_msr_read(r->msr.index, &val);
		r->msr.data = val;
	}
	r->msr.error = !good;
}
