/* SPDX-License-Identifier: BSD-2-Clause */
#include "bus/dev.h"

#include <errno.h>
#include <stdlib.h>

/* A window onto a device's registers; the argument of its io_ops. */
struct dev_alias {
	struct dev *dev;
	u64 off;
	struct dev_alias *next;
};

void dev_init(struct dev *d, const struct dev_class *c, void *regs)
{
	d->class = c;
	d->instance = 0;
	d->regs = regs;
	d->next = NULL;
	d->aliases = NULL;
	pthread_mutex_init(&d->lock, NULL);
}

void dev_free(struct dev *d)
{
	struct dev_alias *a;

	if (!d)
		return;
	if (d->class->free)
		d->class->free(d);
	while ((a = d->aliases)) {
		d->aliases = a->next;
		free(a);
	}
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void dev_reset(struct dev *d)
{
	if (!d->class->reset)
		return;
	pthread_mutex_lock(&d->lock);
	d->class->reset(d);
	pthread_mutex_unlock(&d->lock);
}

void dev_add(struct dev_list *l, struct dev *d)
{
	struct dev **p;

	d->instance = 0;
	d->next = NULL;
	for (p = &l->first; *p; p = &(*p)->next)
		if ((*p)->class == d->class)
			d->instance++;
	*p = d;
}

void dev_list_reset(struct dev_list *l)
{
	for (struct dev *d = l->first; d; d = d->next)
		dev_reset(d);
}

void dev_list_free(struct dev_list *l)
{
	struct dev *d, *reversed = NULL;

	while ((d = l->first)) {
		l->first = d->next;
		d->next = reversed;
		reversed = d;
	}
	while ((d = reversed)) {
		reversed = d->next;
		dev_free(d);
	}
}

void dev_list_pause(struct dev_list *l)
{
	for (struct dev *d = l->first; d; d = d->next)
		if (d->class->pause)
			d->class->pause(d);
}

void dev_list_resume(struct dev_list *l)
{
	for (struct dev *d = l->first; d; d = d->next)
		if (d->class->resume)
			d->class->resume(d);
}

/* As ISA splits a wide access to a narrow card: in ascending order. */
static u64 dev_read_split(struct dev *d, u64 off, unsigned len)
{
	unsigned width = d->class->width;
	u64 val = 0;

	if (!width || len <= width)
		return d->class->read(d, off, len);
	for (unsigned i = 0; i < len; i += width)
		val |= (d->class->read(d, off + i, width) &
			(BIT64(8 * width) - 1))
		       << 8 * i;
	return val;
}

static void dev_write_split(struct dev *d, u64 off, u64 val, unsigned len)
{
	unsigned width = d->class->width;

	if (!width || len <= width) {
		d->class->write(d, off, val, len);
		return;
	}
	for (unsigned i = 0; i < len; i += width)
		d->class->write(d, off + i,
				val >> 8 * i & (BIT64(8 * width) - 1), width);
}

static u64 dev_io_read(void *arg, u64 off, unsigned len)
{
	struct dev *d = arg;
	u64 val;

	if (!d->class->read)
		return ~0ull;
	pthread_mutex_lock(&d->lock);
	val = dev_read_split(d, off, len);
	pthread_mutex_unlock(&d->lock);
	return val;
}

static void dev_io_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct dev *d = arg;

	if (!d->class->write)
		return;
	pthread_mutex_lock(&d->lock);
	dev_write_split(d, off, val, len);
	pthread_mutex_unlock(&d->lock);
}

const struct io_ops dev_io_ops = {
	.read = dev_io_read,
	.write = dev_io_write,
};

static u64 dev_alias_read(void *arg, u64 off, unsigned len)
{
	struct dev_alias *a = arg;

	return dev_io_read(a->dev, a->off + off, len);
}

static void dev_alias_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct dev_alias *a = arg;

	dev_io_write(a->dev, a->off + off, val, len);
}

static const struct io_ops dev_alias_ops = {
	.read = dev_alias_read,
	.write = dev_alias_write,
};

int dev_map(struct dev *d, struct io_space *s, u64 base,
	    const struct dev_window *windows, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		const struct dev_window *w = &windows[i];
		struct dev_alias *a = malloc(sizeof(*a));
		int rc;

		if (!a)
			return err_set(e, -ENOMEM, "no memory for %s", w->name);
		*a = (struct dev_alias){d, w->off, d->aliases};
		d->aliases = a;
		rc = io_map(s, base + w->base, w->len, &dev_alias_ops, a,
			    w->name, e);
		if (rc)
			return rc;
	}
	return 0;
}
