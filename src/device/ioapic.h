/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APIC (82093AA, with the EOI register of version 0x20): 24 pins, each
 * with a redirection entry that makes a message for the local APICs.
 * The board maps IOAPIC_SIZE bytes at its address with dev_io_ops.
 */
#ifndef DEVICE_IOAPIC_H
#define DEVICE_IOAPIC_H

#include "bus/dev.h"
#include "irq/irq.h"

#define IOAPIC_PINS 24u
#define IOAPIC_SIZE 0x1000ull

struct ioapic;

/* out: where messages go, apic_bus_msi() or the engine's msi(). */
struct ioapic *ioapic_new(struct msi_sink out);
static inline struct dev *ioapic_dev(struct ioapic *a)
{
	return (struct dev *)a;
}

/* The input of a pin. One driver a pin: see irq_or in irq/wire.h. */
struct irq_line ioapic_line(struct ioapic *a, unsigned pin);

/* A local APIC ended a level-triggered vector. Any thread; the signature is
 * the one of apic_bus_new()'s callback. */
void ioapic_eoi(void *ioapic, u8 vector);

#endif
