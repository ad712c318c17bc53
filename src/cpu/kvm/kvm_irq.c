/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts from outside: messages, the 8259's INTR wire, eventfds.
 *
 * With the split irqchip KVM reports the EOI of a level-triggered vector only
 * if a route of the first KVM_IOAPIC_PINS GSIs names it. So a level-triggered
 * message (only the I/O APIC sends them) is entered there when it is first
 * sent; the least recently sent one makes room.
 */
#include <errno.h>
#include <stdlib.h>

#include "cpu/kvm/kvm_priv.h"

#define MSI_DATA_LEVEL BIT(15)
#define MSI_DATA_NMI   (4u << 8)

#ifndef KVM_RUN_X86_GUEST_MODE
#define KVM_RUN_X86_GUEST_MODE (1 << 2)
#endif

void kirq_init(struct kvm_engine *k)
{
	pthread_mutex_init(&k->lock, NULL);
	for (unsigned i = 0; i < KVM_ROUTES; i++)
		k->route[i].fd = -1;
}

static int kirq_set_routes_locked(struct kvm_engine *k)
{
	struct kvm_irq_routing *t;
	int rc;

	t = calloc(1, sizeof(*t) + k->nroutes * sizeof(t->entries[0]));
	if (!t)
		return -ENOMEM;
	for (unsigned i = 0; i < k->nroutes; i++) {
		const struct kvm_route *r = &k->route[i];

		if (!r->address)
			continue;
		t->entries[t->nr++] = (struct kvm_irq_routing_entry){
			.gsi = i,
			.type = KVM_IRQ_ROUTING_MSI,
			.u.msi.address_lo = (u32)r->address,
			.u.msi.address_hi = (u32)(r->address >> 32),
			.u.msi.data = r->data,
		};
	}
	rc = kvm_ioctl(k->fd, KVM_SET_GSI_ROUTING, t);
	free(t);
	return rc;
}

static int kirq_route_locked(struct kvm_engine *k, unsigned gsi, u64 address,
			     u32 data)
{
	k->route[gsi].address = address;
	k->route[gsi].data = data;
	if (gsi >= k->nroutes)
		k->nroutes = gsi + 1;
	return kirq_set_routes_locked(k);
}

/* Makes sure that KVM will report the EOI of this message. */
static void kirq_level(struct kvm_engine *k, u64 address, u32 data)
{
	unsigned oldest = 0;

	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < KVM_IOAPIC_PINS; i++) {
		struct kvm_route *r = &k->route[i];

		if (r->address == address && r->data == data) {
			r->used = ++k->clock;
			goto out;
		}
		if (r->used < k->route[oldest].used)
			oldest = i;
	}
	k->route[oldest].used = ++k->clock;
	kirq_route_locked(k, oldest, address, data);
out:
	pthread_mutex_unlock(&k->lock);
}

void kirq_msi(struct engine *g, u64 address, u32 data)
{
	struct kvm_engine *k = kvm_of(g);
	struct kvm_msi msi = {
		.address_lo = (u32)address,
		.address_hi = (u32)(address >> 32),
		.data = data,
	};

	if (data & MSI_DATA_LEVEL)
		kirq_level(k, address, data);
	kvm_ioctl(k->fd, KVM_SIGNAL_MSI, &msi);
}

void kirq_nmi(struct vcpu *v)
{
	kirq_msi(v->engine, LAPIC_BASE | (u64)v->id << 12, MSI_DATA_NMI);
}

void kirq_extint(struct engine *g, bool level)
{
	struct kvm_engine *k = kvm_of(g);
	bool was = atomic_exchange(&k->extint, level);

	if (level && !was && k->vcpus[0])
		krun_wake(k->vcpus[0], KREQ_EXTINT);
}

/*
 * Enters vec as the interrupt under delivery. Other than with KVM_INTERRUPT
 * it is then part of the state that KVM_GET_VCPU_EVENTS shows, and cannot be
 * lost if the vCPU is stopped before it runs on.
 */
static void kirq_deliver(struct kvm_vcpu *v, u8 vec)
{
	struct kvm_mp_state mp;
	struct kvm_vcpu_events ev;

	if (v->run->flags & KVM_RUN_X86_GUEST_MODE) {
		struct kvm_interrupt irq = {.irq = vec};

		kvm_ioctl(v->fd, KVM_INTERRUPT, &irq);
		return;
	}
	if (kvm_ioctl(v->fd, KVM_GET_VCPU_EVENTS, &ev) < 0)
		return;
	ev.interrupt.injected = 1;
	ev.interrupt.nr = vec;
	ev.interrupt.soft = 0;
	ev.flags = 0;
	kvm_ioctl(v->fd, KVM_SET_VCPU_EVENTS, &ev);
	if (kvm_ioctl(v->fd, KVM_GET_MP_STATE, &mp) < 0 ||
	    mp.mp_state != KVM_MP_STATE_HALTED)
		return;
	mp.mp_state = KVM_MP_STATE_RUNNABLE;
	kvm_ioctl(v->fd, KVM_SET_MP_STATE, &mp);
}

void kirq_inject(struct kvm_vcpu *v)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	const struct engine_config *c = &k->engine.config;
	int vec;

	v->run->request_interrupt_window = 0;
	if (v->vcpu.id || !atomic_load(&k->extint))
		return;
	if (v->run->ready_for_interrupt_injection && !v->unfinished) {
		v->run->ready_for_interrupt_injection = 0;
		vec = c->ops->extint_ack(c->machine);
		if (vec >= 0) {
			kirq_deliver(v, (u8)vec);
			v->vcpu.stat[VCPU_STAT_IRQ]++;
		}
	}
	v->run->request_interrupt_window = atomic_load(&k->extint);
}

int kirq_ioeventfd(struct engine *g, gpa_t gpa, unsigned len, int fd, bool add)
{
	struct kvm_ioeventfd io = {
		.addr = gpa,
		.len = len,
		.fd = fd,
		.flags = add ? 0 : KVM_IOEVENTFD_FLAG_DEASSIGN,
	};
	int rc = kvm_ioctl(kvm_of(g)->fd, KVM_IOEVENTFD, &io);

	return rc < 0 ? rc : 0;
}

/* The GSI of fd's irqfd, or a free one, or -1. */
static int kirq_find_locked(struct kvm_engine *k, int fd)
{
	int unused = -1;

	for (int i = KVM_IOAPIC_PINS; i < KVM_ROUTES; i++) {
		if (k->route[i].fd == fd)
			return i;
		if (unused < 0 && k->route[i].fd < 0)
			unused = i;
	}
	return unused;
}

static int kirq_assign(struct kvm_engine *k, int fd, int gsi, u32 flags)
{
	struct kvm_irqfd irq = {
		.fd = (u32)fd,
		.gsi = (u32)gsi,
		.flags = flags,
	};

	return kvm_ioctl(k->fd, KVM_IRQFD, &irq);
}

static int kirq_irqfd_locked(struct kvm_engine *k, int fd, u64 address,
			     u32 data)
{
	int gsi = kirq_find_locked(k, fd);
	struct kvm_route *r = gsi < 0 ? NULL : &k->route[gsi];
	int rc;

	if (!r)
		return address ? -ENOSPC : 0;
	if (!address) {
		if (r->fd == fd)
			kirq_assign(k, fd, gsi, KVM_IRQFD_FLAG_DEASSIGN);
		r->fd = -1;
		r->address = 0;
		return 0;
	}
	if (r->fd == fd && r->address == address && r->data == data)
		return 0;
	rc = kirq_route_locked(k, (unsigned)gsi, address, data);
	if (!rc && r->fd < 0)
		rc = kirq_assign(k, fd, gsi, 0);
	if (rc < 0) {
		if (r->fd < 0)
			r->address = 0;
		return rc;
	}
	r->fd = fd;
	return 0;
}

int kirq_irqfd(struct engine *g, int fd, u64 address, u32 data)
{
	struct kvm_engine *k = kvm_of(g);
	int rc;

	pthread_mutex_lock(&k->lock);
	rc = kirq_irqfd_locked(k, fd, address, data);
	pthread_mutex_unlock(&k->lock);
	return rc;
}
