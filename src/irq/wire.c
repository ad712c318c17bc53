/* SPDX-License-Identifier: BSD-2-Clause */
#include "irq/wire.h"

void irq_or_init(struct irq_or *o, struct irq_line out)
{
	o->out = out;
	o->high = 0;
	pthread_mutex_init(&o->lock, NULL);
}

void irq_or_fini(struct irq_or *o)
{
	pthread_mutex_destroy(&o->lock);
}

static void irq_or_set(void *arg, unsigned n, bool level)
{
	struct irq_or *o = arg;
	u64 was;

	pthread_mutex_lock(&o->lock);
	was = o->high;
	o->high = level ? was | BIT64(n) : was & ~BIT64(n);
	if (!was != !o->high)
		irq_set(&o->out, level);
	pthread_mutex_unlock(&o->lock);
}

struct irq_line irq_or_input(struct irq_or *o, unsigned input)
{
	ASSERT(input < 64);
	return (struct irq_line){irq_or_set, o, input};
}

static void irq_split_set(void *arg, unsigned n, bool level)
{
	struct irq_split *s = arg;

	(void)n;
	irq_set(&s->out[0], level);
	irq_set(&s->out[1], level);
}

struct irq_line irq_split_input(struct irq_split *s)
{
	return (struct irq_line){irq_split_set, s, 0};
}
