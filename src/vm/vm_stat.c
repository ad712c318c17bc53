/* SPDX-License-Identifier: BSD-2-Clause */
/* What the vCPUs counted, for people. */
#include "bus/virtio.h"
#include "vm/vm_priv.h"

#define STAT_LEFT   24
#define STAT_QUEUES 64

static void vm_print_left(const struct vcpu *v, FILE *f)
{
	struct vcpu_left left[STAT_LEFT];
	unsigned n = v->class->vcpu_left
			     ? v->class->vcpu_left(v, left, STAT_LEFT)
			     : 0;

	for (unsigned k = 0; k < n; k++)
		fprintf(f, "vCPU %u left %-12s %-12s %12lu\n", v->id,
			vcpu_stat_names[left[k].why], left[k].op, left[k].n);
}

unsigned vm_queue_stats(const struct vm *vm, struct vm_queue_stat *q,
			unsigned max)
{
	unsigned n = 0;

	for (unsigned i = 0; i < vm->nvirtio; i++) {
		const struct virtio *v = vm->virtio[i];

		for (unsigned k = 0; k < v->nqueues && n < max; k++) {
			const struct virtio_queue *vq = &v->queue[k];

			q[n] = (struct vm_queue_stat){
				.device = v->dev.class->name,
				.instance = v->dev.instance,
				.queue = k,
				.kicks = __atomic_load_n(&vq->kicks,
							 __ATOMIC_RELAXED),
				.exits = __atomic_load_n(&vq->kick_exits,
							 __ATOMIC_RELAXED),
			};
			n += q[n].kicks || q[n].exits;
		}
	}
	return n;
}

static void vm_print_queues(const struct vm *vm, FILE *f)
{
	struct vm_queue_stat q[STAT_QUEUES];
	unsigned n = vm_queue_stats(vm, q, STAT_QUEUES);

	for (unsigned i = 0; i < n; i++)
		fprintf(f, "%s%u queue %u: %lu wake-ups, %lu exits\n",
			q[i].device, q[i].instance, q[i].queue, q[i].kicks,
			q[i].exits);
}

static void vm_print_totals(const struct vm *vm, FILE *f)
{
	for (unsigned k = 0; k < VCPU_STATS; k++) {
		u64 n = 0;

		for (unsigned i = 0; i < vm->config.cpus; i++)
			n += __atomic_load_n(&vm->cpus[i].vcpu->stat[k],
					     __ATOMIC_RELAXED);
		if (n)
			fprintf(f, "all    %-30s %12lu\n", vcpu_stat_names[k],
				n);
	}
}

void vm_print_exits(const struct vm *vm, FILE *f)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		const struct vcpu *v = vm->cpus[i].vcpu;

		for (unsigned k = 0; k < VCPU_STATS; k++) {
			u64 n = __atomic_load_n(&v->stat[k], __ATOMIC_RELAXED);

			if (n)
				fprintf(f, "vCPU %u %-30s %12lu\n", v->id,
					vcpu_stat_names[k], n);
		}
		vm_print_left(v, f);
	}
	if (vm->config.cpus > 1)
		vm_print_totals(vm, f);
	vm_print_queues(vm, f);
}
