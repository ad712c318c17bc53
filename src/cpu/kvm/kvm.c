/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Making and ending VMs and vCPUs, and the table of the engine's functions.
 */
#include "cpu/kvm/kvm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cpu/kvm/kvm_priv.h"

/* Four pages that VMX without unrestricted guest needs below 4 GiB, out of
 * the way of RAM, APICs and firmware. */
#define KVM_IDENTITY_MAP 0xfeffc000ull
#define KVM_TSS_ADDR     0xfeffd000ul

int kvm_ioctl(int fd, unsigned long nr, void *arg)
{
	int rc;

	do
		rc = ioctl(fd, nr, arg);
	while (rc < 0 && errno == EINTR);
	return rc < 0 ? -errno : rc;
}

int kvm_cap(int fd, unsigned long cap)
{
	int rc = kvm_ioctl(fd, KVM_CHECK_EXTENSION, (void *)cap);

	return rc < 0 ? 0 : rc;
}

int kvm_enable_cap(int fd, u32 cap, u64 arg0, u64 arg1)
{
	struct kvm_enable_cap c = {.cap = cap, .args = {arg0, arg1}};

	return kvm_ioctl(fd, KVM_ENABLE_CAP, &c);
}

static void kvm_kicked(int sig)
{
	(void)sig;
}

static void kvm_catch_kicks(void)
{
	struct sigaction sa = {
		.sa_handler = kvm_kicked,
		.sa_flags = SA_RESTART,
	};

	sigaction(KVM_KICK_SIGNAL, &sa, NULL);
}

/* Before the first vCPU. */
static void kvm_want_ring(struct kvm_engine *k)
{
	static const u32 caps[] = {KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
				   KVM_CAP_DIRTY_LOG_RING};
	u32 bytes = KVM_RING_ENTRIES * sizeof(struct kvm_dirty_gfn);

	for (size_t i = 0; i < ARRAY_LEN(caps) && !k->ring_size; i++)
		if (kvm_cap(k->fd, caps[i]) >= (int)bytes &&
		    !kvm_enable_cap(k->fd, caps[i], bytes, 0))
			k->ring_size = KVM_RING_ENTRIES;
}

/* What the VM is to be like, before it has a vCPU. */
static int kvm_configure(struct kvm_engine *k, struct err *e)
{
	u64 identity = KVM_IDENTITY_MAP;
	int rc;

	rc = kvm_ioctl(k->fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
	if (!rc)
		rc = kvm_ioctl(k->fd, KVM_SET_TSS_ADDR, (void *)KVM_TSS_ADDR);
	if (rc < 0)
		return err_errno(e, rc, "kvm: cannot place the TSS");
	rc = kvm_enable_cap(k->fd, KVM_CAP_SPLIT_IRQCHIP, KVM_IOAPIC_PINS, 0);
	if (rc < 0)
		return err_errno(e, rc, "kvm: no split interrupt controller");
	/* 32-bit APIC ids; harmless to miss with fewer than 255 vCPUs. */
	kvm_enable_cap(k->fd, KVM_CAP_X2APIC_API,
		       KVM_X2APIC_API_USE_32BIT_IDS |
			       KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK,
		       0);
	if (!k->engine.config.nested && kvm_cap(k->fd, KVM_CAP_PMU_CAPABILITY))
		kvm_enable_cap(k->fd, KVM_CAP_PMU_CAPABILITY,
			       KVM_PMU_CAP_DISABLE, 0);
	if (k->engine.config.halt_poll_ns)
		kvm_enable_cap(k->fd, KVM_CAP_HALT_POLL,
			       k->engine.config.halt_poll_ns, 0);
	if (k->engine.config.dirty_ring)
		kvm_want_ring(k);
	return kmsr_init(k, e);
}

static int kvm_clock_get(struct engine *g, u64 *ns)
{
	struct kvm_clock_data c = {0};
	int rc = kvm_ioctl(kvm_of(g)->fd, KVM_GET_CLOCK, &c);

	*ns = c.clock;
	return rc;
}

static int kvm_clock_set(struct engine *g, u64 ns)
{
	struct kvm_clock_data c = {.clock = ns};

	return kvm_ioctl(kvm_of(g)->fd, KVM_SET_CLOCK, &c);
}

static void kvm_free(struct engine *g)
{
	struct kvm_engine *k = kvm_of(g);

	if (k->fd >= 0)
		close(k->fd);
	if (k->sys >= 0)
		close(k->sys);
	pthread_mutex_destroy(&k->lock);
	free(k->vcpus);
	free(k);
}

static int kvm_open(struct kvm_engine *k, struct err *e)
{
	int rc;

	k->sys = kprobe_open(KVM_PATH, e);
	if (k->sys < 0)
		return k->sys;
	rc = kprobe_check(k->sys, e);
	if (rc < 0)
		return rc;
	k->run_size = kvm_ioctl(k->sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	k->fd = kvm_ioctl(k->sys, KVM_CREATE_VM, NULL);
	if (k->fd < 0)
		return err_errno(e, k->fd, "kvm: cannot make a VM");
	rc = kvm_configure(k, e);
	return rc < 0 ? rc : kcpuid_init(k, e);
}

static struct engine *kvm_new(const struct engine_config *c, struct err *e)
{
	struct kvm_engine *k = calloc(1, sizeof(*k));

	if (!k) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	k->engine.class = &kvm_engine;
	k->engine.config = *c;
	k->sys = k->fd = -1;
	kirq_init(k);
	kvm_catch_kicks();
	k->vcpus = calloc(c->cpus, sizeof(*k->vcpus));
	if (!k->vcpus) {
		err_set(e, -ENOMEM, "out of memory");
		goto fail;
	}
	if (kvm_open(k, e) < 0 || kmem_changed(&k->engine, e) < 0)
		goto fail;
	return &k->engine;
fail:
	kvm_free(&k->engine);
	return NULL;
}

static void kvm_vcpu_free(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = (struct kvm_vcpu *)vcpu;
	struct kvm_engine *k = kvm_of_vcpu(v);

	kmem_ring_unmap(v);
	if (v->run)
		munmap(v->run, (size_t)k->run_size);
	if (v->fd >= 0)
		close(v->fd);
	k->vcpus[vcpu->id] = NULL;
	free(v);
}

static int kvm_vcpu_open(struct kvm_vcpu *v, struct err *e)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	unsigned long id = v->vcpu.id;

	v->fd = kvm_ioctl(k->fd, KVM_CREATE_VCPU, (void *)id);
	if (v->fd < 0)
		return err_errno(e, v->fd, "kvm: cannot make vCPU %lu", id);
	v->run = mmap(NULL, (size_t)k->run_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED, v->fd, 0);
	if (v->run == MAP_FAILED) {
		v->run = NULL;
		return err_errno(e, -errno, "kvm: cannot map vCPU %lu", id);
	}
	/* No paravirtual MSR that CPUID does not show. */
	kvm_enable_cap(v->fd, KVM_CAP_ENFORCE_PV_FEATURE_CPUID, 1, 0);
	if (k->ring_size && kmem_ring_map(v, e) < 0)
		return -ENOMEM;
	return kcpuid_set(v, e);
}

static struct vcpu *kvm_vcpu_new(struct engine *g, unsigned id, struct err *e)
{
	struct kvm_engine *k = kvm_of(g);
	struct kvm_vcpu *v;

	ASSERT(id < g->config.cpus && !k->vcpus[id]);
	v = calloc(1, sizeof(*v));
	if (!v) {
		err_set(e, -ENOMEM, "out of memory");
		return NULL;
	}
	v->vcpu.class = &kvm_engine;
	v->vcpu.engine = g;
	v->vcpu.id = id;
	v->fd = -1;
	k->vcpus[id] = v;
	if (kvm_vcpu_open(v, e) < 0) {
		kvm_vcpu_free(&v->vcpu);
		return NULL;
	}
	return &v->vcpu;
}

const struct engine_class kvm_engine = {
	.name = "kvm",
	.probe = kprobe,
	.model = kcpuid_model,
	.new = kvm_new,
	.free = kvm_free,
	.mem_changed = kmem_changed,
	.dirty_start = kmem_dirty_start,
	.dirty_sync = kmem_dirty_sync,
	.dirty_stop = kmem_dirty_stop,
	.vcpu_new = kvm_vcpu_new,
	.vcpu_free = kvm_vcpu_free,
	.vcpu_run = krun,
	.vcpu_get = kstate_get,
	.vcpu_set = kstate_set,
	.vcpu_kick = krun_kick,
	.msi = kirq_msi,
	.extint = kirq_extint,
	.nmi = kirq_nmi,
	.ioeventfd = kirq_ioeventfd,
	.irqfd = kirq_irqfd,
	.clock_get = kvm_clock_get,
	.clock_set = kvm_clock_set,
};
