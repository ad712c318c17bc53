/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Passive parts of the interrupt wiring: an OR of several sources on one pin
 * (shared PCI INTx, SCI) and a wire that goes to two places (each ISA
 * interrupt reaches both the 8259 and the I/O APIC). They live as long as
 * what they are wired to; set() may come from any thread.
 */
#ifndef IRQ_WIRE_H
#define IRQ_WIRE_H

#include <pthread.h>

#include "irq/irq.h"

/* The output is high while any of 64 inputs is. */
struct irq_or {
	struct irq_line out;
	pthread_mutex_t lock; /* so that out sees the levels in order */
	u64 high;             /* inputs; lock */
};

void irq_or_init(struct irq_or *o, struct irq_line out);
void irq_or_fini(struct irq_or *o);
struct irq_line irq_or_input(struct irq_or *o, unsigned input);

struct irq_split {
	struct irq_line out[2];
};

struct irq_line irq_split_input(struct irq_split *s);

#endif
