/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The pair of 8259A interrupt controllers of a PC with their edge/level
 * registers: ports 0x20, 0xa0, 0x4d0, the second chained to input 2.
 */
#ifndef DEVICE_I8259_H
#define DEVICE_I8259_H

#include "bus/dev.h"
#include "irq/irq.h"

struct i8259;

/* intr: the INTR pin; apic_bus_extint() or the engine's extint(). */
struct i8259 *i8259_new(struct irq_line intr);
static inline struct dev *i8259_dev(struct i8259 *p)
{
	return (struct dev *)p;
}
int i8259_map(struct i8259 *p, struct io_space *ports, struct err *e);

/* Inputs 0..15; 2 is the cascade and not wired. */
struct irq_line i8259_line(struct i8259 *p, unsigned irq);

/* INTA cycle: the vector (a spurious one if the request went away), or -1
 * where INTR is not raised. Any thread. */
int i8259_ack(struct i8259 *p);

#endif
