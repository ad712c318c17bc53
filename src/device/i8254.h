/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 interval timer at ports 0x40..0x43 and the system control port 0x61
 * that gates counter 2 and shows its output.
 */
#ifndef DEVICE_I8254_H
#define DEVICE_I8254_H

#include "base/loop.h"
#include "bus/dev.h"
#include "irq/irq.h"

#define I8254_HZ 1193182u

struct i8254;

struct i8254 *i8254_new(struct loop *l, struct irq_line irq0);
static inline struct dev *i8254_dev(struct i8254 *p)
{
	return (struct dev *)p;
}
int i8254_map(struct i8254 *p, struct io_space *ports, struct err *e);

#endif
