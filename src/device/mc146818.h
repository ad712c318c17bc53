/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MC146818 real-time clock with 128 bytes of NVRAM. The board maps 2 bytes
 * at port 0x70 with dev_io_ops. Time is the host's, UTC; what the guest sets
 * is kept as an offset to it.
 */
#ifndef DEVICE_MC146818_H
#define DEVICE_MC146818_H

#include "base/loop.h"
#include "bus/dev.h"
#include "irq/irq.h"

struct mc146818;

/* ram_low, ram_high: bytes of RAM below and above 4 GiB, told to firmware in
 * the NVRAM cells that PC BIOSes use. */
struct mc146818 *mc146818_new(struct loop *l, struct irq_line irq8, u64 ram_low,
			      u64 ram_high);
static inline struct dev *mc146818_dev(struct mc146818 *m)
{
	return (struct dev *)m;
}

#endif
