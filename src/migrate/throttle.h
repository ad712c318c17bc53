/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slows a guest down gently: all vCPUs stand still for a share of each 20 ms,
 * and never for more than that of the time since it began.
 */
#ifndef MIGRATE_THROTTLE_H
#define MIGRATE_THROTTLE_H

#include "base/err.h"
#include "vm/vm.h"

struct mig_throttle {
	struct vm *vm;
	struct loop_timer *timer;
	unsigned percent;
	bool paused;
	u64 stood_ns, ran_ns; /* since the percentage was set */
	u64 since_ns;         /* the last tick, which began what is now */
};

/* How long the guest has to run after a pause, so that it has stood still for
 * no more than its share, though ticks come late. percent is not 0. */
u64 mig_throttle_run_ns(const struct mig_throttle *t);

/* All on the loop's thread. */
int mig_throttle_init(struct mig_throttle *t, struct vm *vm, struct loop *l,
		      struct err *e);
void mig_throttle_set(struct mig_throttle *t, unsigned percent); /* 0..99 */
void mig_throttle_fini(struct mig_throttle *t); /* runs at full speed again */

#endif
