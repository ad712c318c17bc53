/* SPDX-License-Identifier: BSD-2-Clause */
/* Neither port has state: what is written is gone. */
#include "device/debug_port.h"

#include <stdlib.h>

#define CONSOLE_ID 0xe9u

struct debug_exit {
	struct dev dev;
	void (*exit)(void *arg, unsigned status);
	void *arg;
};

struct debug_console {
	struct dev dev;
	struct chr *chr; /* owned; may be NULL */
};

static u64 debug_exit_read(struct dev *d, u64 off, unsigned len)
{
	(void)d;
	(void)off;
	(void)len;
	return 0;
}

/* A process has eight bits of exit status; the guest's value loses the rest. */
static void debug_exit_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct debug_exit *x = (struct debug_exit *)d;

	(void)len;
	if (off == 0)
		x->exit(x->arg, (unsigned)(val << 1 | 1) & 0xff);
}

static const struct dev_class debug_exit_class = {
	.name = "debug_exit",
	.read = debug_exit_read,
	.write = debug_exit_write,
};

struct dev *debug_exit_new(void (*exit)(void *arg, unsigned status), void *arg)
{
	struct debug_exit *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	dev_init(&x->dev, &debug_exit_class, NULL);
	x->exit = exit;
	x->arg = arg;
	return &x->dev;
}

static u64 debug_console_read(struct dev *d, u64 off, unsigned len)
{
	(void)d;
	(void)off;
	(void)len;
	return CONSOLE_ID;
}

static void debug_console_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	u8 byte = (u8)val;

	(void)len;
	if (off == 0)
		chr_write(((struct debug_console *)d)->chr, &byte, 1);
}

static void debug_console_free(struct dev *d)
{
	chr_free(((struct debug_console *)d)->chr);
}

static const struct dev_class debug_console_class = {
	.name = "debug_console",
	.width = 1,
	.read = debug_console_read,
	.write = debug_console_write,
	.free = debug_console_free,
};

struct dev *debug_console_new(struct chr *chr)
{
	struct debug_console *c = calloc(1, sizeof(*c));

	if (!c) {
		chr_free(chr);
		return NULL;
	}
	dev_init(&c->dev, &debug_console_class, NULL);
	c->chr = chr;
	return &c->dev;
}
