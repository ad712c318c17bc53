/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt wires and messages as values.
 *
 * A device is handed an irq_line (where its pin is soldered) or an msi_sink
 * and neither knows nor cares what is behind. Both may be used from any
 * thread, with the device's own lock held; what is behind takes only irq
 * locks (lock order: vm > dev > irq).
 */
#ifndef IRQ_IRQ_H
#define IRQ_IRQ_H

#include "base/types.h"

struct irq_line {
	void (*set)(void *arg, unsigned n, bool level); /* NULL: not wired */
	void *arg;
	unsigned n;
};

static inline void irq_set(const struct irq_line *l, bool level)
{
	if (l->set)
		l->set(l->arg, l->n, level);
}

/* Message-signalled interrupts: a write of data to address (SDM 11.11). */
struct msi_sink {
	void (*send)(void *arg, u64 address, u32 data);
	void *arg;
};

static inline void msi_send(const struct msi_sink *s, u64 address, u32 data)
{
	if (s->send)
		s->send(s->arg, address, data);
}

#endif
