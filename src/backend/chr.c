/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/chr.h"

void chr_write(struct chr *c, const void *buf, size_t n)
{
	if (c && c->ops->write)
		c->ops->write(c, buf, n);
}

/* The argument first: input may run as soon as it is seen. */
void chr_receive(struct chr *c,
		 size_t (*fn)(void *arg, const u8 *buf, size_t n), void *arg)
{
	if (!c)
		return;
	__atomic_store_n(&c->input_arg, arg, __ATOMIC_RELEASE);
	__atomic_store_n(&c->input, fn, __ATOMIC_RELEASE);
	chr_input_ready(c);
}

void chr_input_ready(struct chr *c)
{
	if (c && c->room)
		c->room(c);
}

void chr_free(struct chr *c)
{
	if (c)
		c->ops->free(c);
}

void chr_haste(struct chr *c, bool on)
{
	if (c && c->ops->haste)
		c->ops->haste(c, on);
}
