/* SPDX-License-Identifier: BSD-2-Clause */
/* What the vCPUs counted, for people. */
#include "vm/vm_priv.h"

#define STAT_LEFT 24

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
}
