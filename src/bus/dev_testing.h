/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For unit tests (cmocka): what must hold of every device class. Each test of
 * a device calls dev_test() with how to make one and how it is reached:
 *
 *  - the field table covers the registers byte for byte,
 *  - any bit pattern survives saving and loading,
 *  - 100,000 hostile accesses of every length and offset do no harm, and never
 *    bring the device into a state that its own check() refuses to load,
 *  - loading what was saved changes nothing,
 *  - reset brings back the power-on state.
 */
#ifndef BUS_DEV_TESTING_H
#define BUS_DEV_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/dev.h"

struct dev_test {
	struct dev *dev;
	/* Ranges to hammer, through ops and arg (default: the device). */
	struct {
		u64 size;
		const struct io_ops *ops;
		void *arg;
	} range[4];
	/* Elements that may differ after a reset, "name" or "name[3]". */
	const char *volatile_fields[8];
	unsigned accesses; /* default 100,000 */
	/* NULL, or called now and then in between (timers, input). */
	void (*poke)(void *arg, u64 random);
	void *poke_arg;
};

static inline u64 dev_test_random(u64 *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* The record of the device's present state, as a snapshot takes it. */
static inline u8 *dev_test_save(struct dev *d)
{
	u8 *record = calloc(1, state_size(d->class->state) + 1);

	pthread_mutex_lock(&d->lock);
	if (d->class->saving)
		d->class->saving(d);
	state_save(d->class->state, d->regs, record);
	pthread_mutex_unlock(&d->lock);
	return record;
}

static inline void dev_test_load(struct dev *d, const u8 *record)
{
	const struct state_desc *desc = d->class->state;
	struct err e = {"(no sentence)"};
	int rc;

	pthread_mutex_lock(&d->lock);
	rc = state_load(desc, d->regs, record, state_size(desc), desc->version,
			&e);
	if (!rc && d->class->loaded)
		d->class->loaded(d);
	pthread_mutex_unlock(&d->lock);
	if (rc)
		fail_msg("%s: a reached state is refused: %s", d->class->name,
			 e.text);
}

static inline void dev_test_poison(const struct state_desc *desc)
{
	struct state_desc free_desc = *desc;
	u64 size = state_size(desc), seed = 88172645463325252ull;
	u8 *regs = malloc(desc->size), *back = calloc(1, desc->size);
	u8 *record = malloc(size);

	assert_true(state_covers(desc));
	free_desc.check = NULL;
	for (u32 i = 0; i < desc->size; i++)
		regs[i] = (u8)dev_test_random(&seed);
	state_save(desc, regs, record);
	assert_int_equal(
		state_load(&free_desc, back, record, size, desc->version, NULL),
		0);
	assert_memory_equal(regs, back, desc->size);
	/* a record that is too short or too long is refused */
	assert_true(state_load(&free_desc, back, record, size - 1,
			       desc->version, NULL) < 0);
	assert_memory_equal(regs, back, desc->size);
	free(regs);
	free(back);
	free(record);
}

static inline void dev_test_access(const struct dev_test *t, u64 *seed)
{
	static const u64 values[] = {0, ~0ull, 1, 0x80, 0x8000, 0x80000000};
	u64 r = dev_test_random(seed), val = dev_test_random(seed);
	unsigned len = 1u << (r & 3), n = 0;
	const struct io_ops *ops;
	void *arg;
	u64 off;

	while (n < ARRAY_LEN(t->range) && t->range[n].size)
		n++;
	n = (unsigned)(r >> 8) % n;
	ops = t->range[n].ops ? t->range[n].ops : &dev_io_ops;
	arg = t->range[n].arg ? t->range[n].arg : t->dev;
	if (len > t->range[n].size)
		len = 1;
	off = (r >> 16) % (t->range[n].size - len + 1);
	if ((r >> 4 & 3) == 0)
		val = values[val % ARRAY_LEN(values)];
	val &= len < 8 ? BIT64(8 * len) - 1 : ~0ull;
	if ((r >> 6 & 1) && ops->write)
		ops->write(arg, off, val, len);
	else if (ops->read)
		ops->read(arg, off, len);
	if (t->poke && (r >> 56) == 7)
		t->poke(t->poke_arg, dev_test_random(seed));
}

static inline bool dev_test_is_volatile(const struct dev_test *t,
					const char *text)
{
	for (unsigned i = 0; i < ARRAY_LEN(t->volatile_fields); i++) {
		const char *name = t->volatile_fields[i];
		size_t n = name ? strlen(name) : 0;

		if (n && !strncmp(text, name, n) &&
		    (text[n] == ' ' || text[n] == '['))
			return true;
	}
	return false;
}

static inline void dev_test_equal(const struct dev_test *t, const void *a,
				  const void *b)
{
	const struct state_desc *desc = t->dev->class->state;
	char ta[128], tb[128];

	for (u32 n = 0; state_text(desc, a, n, ta, sizeof(ta)); n++) {
		state_text(desc, b, n, tb, sizeof(tb));
		if (strcmp(ta, tb) && !dev_test_is_volatile(t, ta))
			fail_msg("%s: %s, and later %s", desc->name, ta, tb);
	}
}

static inline void *dev_test_regs(struct dev *d)
{
	void *copy = malloc(d->class->state->size);

	pthread_mutex_lock(&d->lock);
	if (d->class->saving)
		d->class->saving(d);
	memcpy(copy, d->regs, d->class->state->size);
	pthread_mutex_unlock(&d->lock);
	return copy;
}

static inline void dev_test(const struct dev_test *t)
{
	unsigned n = t->accesses ? t->accesses : 100000;
	struct dev *d = t->dev;
	u64 seed = 0x9e3779b97f4a7c15ull;
	void *fresh, *again;
	u8 *record;

	dev_test_poison(d->class->state);
	dev_reset(d);
	fresh = dev_test_regs(d);
	for (unsigned i = 1; i <= n; i++) {
		dev_test_access(t, &seed);
		if (i % 4096)
			continue;
		record = dev_test_save(d);
		dev_test_load(d, record);
		free(record);
	}
	record = dev_test_save(d);
	again = dev_test_regs(d);
	dev_test_load(d, record);
	free(record);
	dev_test_equal(t, again, d->regs);
	free(again);
	dev_reset(d);
	again = dev_test_regs(d);
	dev_test_equal(t, fresh, again);
	free(again);
	free(fresh);
}

#endif
