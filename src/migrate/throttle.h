/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Slows a guest down gently: all vCPUs stand still for a share of each 20 ms.
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
};

/* All on the loop's thread. */
int mig_throttle_init(struct mig_throttle *t, struct vm *vm, struct loop *l,
		      struct err *e);
void mig_throttle_set(struct mig_throttle *t, unsigned percent); /* 0..99 */
void mig_throttle_fini(struct mig_throttle *t); /* runs at full speed again */

#endif
