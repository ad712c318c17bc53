/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Short cuts past the monitor that an engine may offer (KVM's ioeventfd and
 * irqfd). A bus or device works without them: with ops NULL, or where a call
 * fails with -ENOTSUP, it takes the ordinary way.
 */
#ifndef BUS_ACCEL_H
#define BUS_ACCEL_H

#include "base/types.h"

struct accel_ops {
	/* A guest write of any value of len bytes (0: any length) at gpa
	 * signals fd instead of reaching io_write(). */
	int (*ioeventfd)(void *arg, gpa_t gpa, unsigned len, int fd, bool add);
	/* Signals of fd become this MSI; called again to change or, with
	 * address 0, to end it. */
	int (*irqfd)(void *arg, int fd, u64 address, u32 data);
};

struct accel {
	const struct accel_ops *ops;
	void *arg;
};

#endif
