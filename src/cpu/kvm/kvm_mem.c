/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory slots, and the pages that guest stores made dirty: KVM's bitmap for
 * each slot, or a ring for each vCPU (api.rst 8.29).
 *
 * A slot keeps its number as long as it exists; a changed one is deleted
 * first, because KVM cannot change place or size.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/kvm/kvm_priv.h"

#define RING_OFFSET (KVM_DIRTY_LOG_PAGE_OFFSET * PAGE_SIZE)

static bool kmem_same(const struct mem_slot *a, const struct mem_slot *b)
{
	return a->gpa == b->gpa && a->size == b->size && a->host == b->host &&
	       a->readonly == b->readonly;
}

static bool kmem_has(const struct mem_slot *s, unsigned n,
		     const struct mem_slot *what)
{
	for (unsigned i = 0; i < n; i++)
		if (kmem_same(&s[i], what))
			return true;
	return false;
}

static int kmem_set(struct kvm_engine *k, unsigned id, const struct mem_slot *s)
{
	struct kvm_userspace_memory_region r = {
		.slot = id,
		.flags = (s->readonly ? KVM_MEM_READONLY : 0) |
			 (k->log_dirty && !s->readonly ? KVM_MEM_LOG_DIRTY_PAGES
						       : 0),
		.guest_phys_addr = s->gpa,
		.memory_size = s->size,
		.userspace_addr = (u64)(uintptr_t)s->host,
	};

	return kvm_ioctl(k->fd, KVM_SET_USER_MEMORY_REGION, &r);
}

static int kmem_add(struct kvm_engine *k, const struct mem_slot *s,
		    struct err *e)
{
	unsigned id = 0;
	int rc;

	while (k->slot[id].size)
		id++;
	ASSERT(id < MEM_SLOTS);
	rc = kmem_set(k, id, s);
	if (rc < 0)
		return err_errno(e, rc, "kvm: cannot add memory %#lx+%#lx",
				 s->gpa, s->size);
	k->slot[id] = *s;
	return 0;
}

int kmem_changed(struct engine *g, struct err *e)
{
	struct kvm_engine *k = kvm_of(g);
	const struct mem *m = g->config.mem;

	for (unsigned i = 0; i < MEM_SLOTS; i++) {
		if (!k->slot[i].size ||
		    kmem_has(m->slot, m->nslots, &k->slot[i]))
			continue;
		k->slot[i].size = 0;
		kmem_set(k, i, &k->slot[i]);
	}
	for (unsigned i = 0; i < m->nslots; i++) {
		int rc;

		if (kmem_has(k->slot, MEM_SLOTS, &m->slot[i]))
			continue;
		rc = kmem_add(k, &m->slot[i], e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* Switches logging of stores for all slots. */
static int kmem_log(struct kvm_engine *k, bool on)
{
	int rc = 0;

	k->log_dirty = on;
	for (unsigned i = 0; i < MEM_SLOTS && !rc; i++)
		if (k->slot[i].size && !k->slot[i].readonly)
			rc = kmem_set(k, i, &k->slot[i]);
	return rc;
}

int kmem_dirty_start(struct engine *g, struct err *e)
{
	int rc = kmem_log(kvm_of(g), true);

	if (rc < 0)
		return err_errno(e, rc, "kvm: cannot log dirty pages");
	return 0;
}

void kmem_dirty_stop(struct engine *g)
{
	kmem_log(kvm_of(g), false);
}

static void kmem_mark(struct mem *m, const struct mem_slot *s, u64 page)
{
	u64 bit = (s->offset >> PAGE_SHIFT) + page;

	if (m->dirty && page < s->size >> PAGE_SHIFT)
		__atomic_fetch_or(&m->dirty[bit / 64], 1ul << bit % 64,
				  __ATOMIC_RELAXED);
}

static void kmem_fold(struct mem *m, const struct mem_slot *s, const u64 *log)
{
	u64 words = ALIGN_UP(s->size >> PAGE_SHIFT, 64) / 64;

	for (u64 w = 0; w < words; w++)
		for (u64 b = log[w]; b; b &= b - 1)
			kmem_mark(m, s, w * 64 + (u64)__builtin_ctzll(b));
}

static int kmem_sync_slot(struct kvm_engine *k, unsigned id)
{
	const struct mem_slot *s = &k->slot[id];
	u64 *log = calloc(ALIGN_UP(s->size >> PAGE_SHIFT, 64) / 64, 8);
	struct kvm_dirty_log d = {.slot = id, .dirty_bitmap = log};
	int rc;

	if (!log)
		return -ENOMEM;
	rc = kvm_ioctl(k->fd, KVM_GET_DIRTY_LOG, &d);
	if (!rc)
		kmem_fold(k->engine.config.mem, s, log);
	free(log);
	return rc;
}

/* Takes what is in a vCPU's ring; its own thread, or with the vCPU paused or
 * running: KVM only appends. Guarded by the engine's lock. */
static void kmem_harvest(struct kvm_engine *k, struct kvm_vcpu *v)
{
	for (;;) {
		struct kvm_dirty_gfn *d = &v->ring[v->ring_next % k->ring_size];
		u32 id = d->slot;

		if (!(__atomic_load_n(&d->flags, __ATOMIC_ACQUIRE) &
		      KVM_DIRTY_GFN_F_DIRTY))
			return;
		if (id < MEM_SLOTS)
			kmem_mark(k->engine.config.mem, &k->slot[id],
				  d->offset);
		__atomic_store_n(&d->flags, KVM_DIRTY_GFN_F_RESET,
				 __ATOMIC_RELEASE);
		v->ring_next++;
	}
}

static void kmem_sync_rings(struct kvm_engine *k)
{
	pthread_mutex_lock(&k->lock);
	for (unsigned i = 0; i < k->engine.config.cpus; i++)
		if (k->vcpus[i])
			kmem_harvest(k, k->vcpus[i]);
	kvm_ioctl(k->fd, KVM_RESET_DIRTY_RINGS, NULL);
	pthread_mutex_unlock(&k->lock);
}

int kmem_dirty_sync(struct engine *g, struct err *e)
{
	struct kvm_engine *k = kvm_of(g);

	if (k->ring_size) {
		kmem_sync_rings(k);
		return 0;
	}
	for (unsigned i = 0; i < MEM_SLOTS; i++) {
		int rc;

		if (!k->slot[i].size || k->slot[i].readonly)
			continue;
		rc = kmem_sync_slot(k, i);
		if (rc < 0)
			return err_errno(e, rc, "kvm: cannot read dirty log");
	}
	return 0;
}

void kmem_ring_full(struct kvm_vcpu *v)
{
	kmem_sync_rings(kvm_of_vcpu(v));
}

int kmem_ring_map(struct kvm_vcpu *v, struct err *e)
{
	struct kvm_engine *k = kvm_of_vcpu(v);
	void *p = mmap(NULL, k->ring_size * sizeof(struct kvm_dirty_gfn),
		       PROT_READ | PROT_WRITE, MAP_SHARED, v->fd, RING_OFFSET);

	if (p == MAP_FAILED)
		return err_errno(e, -errno, "kvm: cannot map the dirty ring");
	v->ring = p;
	return 0;
}

void kmem_ring_unmap(struct kvm_vcpu *v)
{
	if (v->ring)
		munmap(v->ring, kvm_of_vcpu(v)->ring_size *
					sizeof(struct kvm_dirty_gfn));
	v->ring = NULL;
}
