/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NS16550A serial port. The board maps 8 bytes with dev_io_ops.
 *
 * The transmitter is infinitely fast: what is written goes to the chr at
 * once and THR is empty again. Input waits in the chr while the FIFO is full.
 */
#ifndef DEVICE_NS16550_H
#define DEVICE_NS16550_H

#include "backend/chr.h"
#include "bus/dev.h"
#include "irq/irq.h"

struct ns16550;

/* chr: owned from now on (also if NULL is returned); may be NULL. */
struct ns16550 *ns16550_new(struct chr *chr, struct irq_line irq);
static inline struct dev *ns16550_dev(struct ns16550 *u)
{
	return (struct dev *)u;
}

#endif
