/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Whether /dev/kvm can be used here.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "cpu/kvm/kvm_priv.h"

static const struct kprobe_need {
	u32 cap;
	const char *what;
} kprobe_needs[] = {
	{KVM_CAP_USER_MEMORY, "memory slots"},
	{KVM_CAP_SPLIT_IRQCHIP, "a split interrupt controller"},
	{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
	{KVM_CAP_SIGNAL_MSI, "MSI injection"},
	{KVM_CAP_IRQ_ROUTING, "interrupt routing"},
	{KVM_CAP_READONLY_MEM, "read-only memory"},
	{KVM_CAP_VCPU_EVENTS, "vCPU events"},
	{KVM_CAP_MP_STATE, "MP state"},
	{KVM_CAP_XSAVE, "XSAVE"},
	{KVM_CAP_DEBUGREGS, "debug registers"},
	{KVM_CAP_TSC_DEADLINE_TIMER, "the TSC deadline timer"},
};

int kprobe_enough(int version, int (*cap)(int fd, unsigned long cap), int fd,
		  struct err *e)
{
	if (version != KVM_API_VERSION)
		return err_set(e, -ENOTSUP,
			       "/dev/kvm speaks version %d, not %d", version,
			       KVM_API_VERSION);
	for (size_t i = 0; i < ARRAY_LEN(kprobe_needs); i++)
		if (cap(fd, kprobe_needs[i].cap) <= 0)
			return err_set(e, -ENOTSUP,
				       "/dev/kvm of this kernel lacks %s",
				       kprobe_needs[i].what);
	return 0;
}

int kprobe_check(int sys, struct err *e)
{
	return kprobe_enough(kvm_ioctl(sys, KVM_GET_API_VERSION, NULL), kvm_cap,
			     sys, e);
}

int kprobe_open(const char *path, struct err *e)
{
	int sys = open(path, O_RDWR | O_CLOEXEC), rc = -errno;

	if (sys >= 0)
		return sys;
	switch (rc) {
	case -EACCES:
	case -EPERM:
		return err_set(e, rc,
			       "no permission to open /dev/kvm: it takes root "
			       "or, as a rule, the group kvm");
	case -ENOENT:
		return err_set(e, rc,
			       "there is no /dev/kvm: hardware virtualization "
			       "is off, or its kernel module is not loaded");
	case -ENODEV:
	case -ENXIO:
		return err_set(e, rc,
			       "/dev/kvm leads nowhere: this kernel has no "
			       "KVM");
	}
	return err_errno(e, rc, "cannot open /dev/kvm");
}

int kprobe(struct err *e)
{
	int sys = kprobe_open(KVM_PATH, e);
	int rc;

	if (sys < 0)
		return sys;
	rc = kprobe_check(sys, e);
	if (!rc)
		rc = kself_test(sys, e);
	close(sys);
	return rc;
}
