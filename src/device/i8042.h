/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8042 keyboard controller at ports 0x60 and 0x64, with or without a PS/2
 * keyboard behind it that nobody types on. Here for the reset line (command
 * 0xfe), the A20 line and for probing. A board that does not want an OS to
 * probe it clears "8042" in the FADT's boot flags; the reset works anyway.
 */
#ifndef DEVICE_I8042_H
#define DEVICE_I8042_H

#include "bus/dev.h"
#include "irq/irq.h"

struct i8042;

struct i8042_config {
	struct irq_line irq1, irq12;
	bool keyboard;            /* attached; answers commands */
	void (*reset)(void *arg); /* dev.lock is held; must not call back */
	void *arg;
};

struct i8042 *i8042_new(const struct i8042_config *c);
static inline struct dev *i8042_dev(struct i8042 *k)
{
	return (struct dev *)k;
}
int i8042_map(struct i8042 *k, struct io_space *ports, struct err *e);

#endif
