/* SPDX-License-Identifier: BSD-2-Clause */
#include "bus/io.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/dev.h"

struct probe {
	u8 bytes[16];
	unsigned reads, writes, last_len;
};

static u64 probe_read(void *arg, u64 off, unsigned len)
{
	struct probe *p = arg;
	u64 v = 0;

	p->reads++;
	p->last_len = len;
	memcpy(&v, p->bytes + off, len);
	return v | ~0ull << (len < 8 ? 8 * len : 63);
}

static void probe_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct probe *p = arg;

	p->writes++;
	p->last_len = len;
	memcpy(p->bytes + off, &val, len);
}

static const struct io_ops probe_ops = {probe_read, probe_write};

static void test_dispatch(void **state)
{
	struct probe a = {.bytes = {1, 2, 3, 4}}, b = {.bytes = {9, 8}};
	struct io_space *s = io_space_new("port");

	(void)state;
	assert_int_equal(io_map(s, 0x100, 4, &probe_ops, &a, "a", NULL), 0);
	assert_int_equal(io_map(s, 0x104, 2, &probe_ops, &b, "b", NULL), 0);
	assert_int_equal(io_read(s, 0x100, 4), 0x04030201);
	assert_int_equal(io_read(s, 0x103, 1), 4);
	assert_int_equal(io_read(s, 0x104, 2), 0x0809);
	assert_int_equal(io_unclaimed(s), 0);
	assert_int_equal(io_read(s, 0xff, 1), 0xff);
	assert_int_equal(io_read(s, 0x106, 4), 0xffffffff);
	assert_true(io_read(s, 0x200, 8) == ~0ull);
	assert_int_equal(io_unclaimed(s), 3);
	/* over the end of b: one byte of it, ones behind it */
	assert_int_equal(io_read(s, 0x105, 4), 0xffffff08);
	/* from a into b, byte by byte */
	io_write(s, 0x102, 0xa3a2a1a0, 4);
	assert_int_equal(io_read(s, 0x102, 2), 0xa1a0);
	assert_int_equal(io_read(s, 0x104, 2), 0xa3a2);
	io_unmap(s, 0x100);
	assert_int_equal(io_read(s, 0x100, 1), 0xff);
	assert_int_equal(io_read(s, 0x104, 1), 0xa2);
	io_space_free(s);
}

static void test_overlap(void **state)
{
	struct io_space *s = io_space_new("mmio");
	struct probe p = {0};
	struct err e;

	(void)state;
	assert_int_equal(io_map(s, 0x1000, 0x1000, &probe_ops, &p, "p", &e), 0);
	assert_int_equal(io_map(s, 0x1fff, 1, &probe_ops, &p, "q", &e),
			 -EEXIST);
	assert_string_equal(e.text, "mmio: q at 0x1fff+0x1 overlaps p");
	assert_int_equal(io_map(s, 0x800, 0x801, &probe_ops, &p, "q", &e),
			 -EEXIST);
	assert_int_equal(io_map(s, 0, 0, &probe_ops, &p, "q", &e), -EINVAL);
	assert_int_equal(io_map(s, ~0ull, 2, &probe_ops, &p, "q", &e), -EINVAL);
	assert_int_equal(io_map(s, 0x800, 0x800, &probe_ops, &p, "q", &e), 0);
	assert_int_equal(io_map(s, ~0ull, 1, &probe_ops, &p, "r", &e), 0);
	assert_int_equal(io_read(s, ~0ull, 1), 0);
	io_space_free(s);
}

static void count_range(void *arg, u64 base, u64 len, const char *name)
{
	u64 *last = arg;

	assert_string_equal(name, "many");
	assert_int_equal(len, 16);
	assert_true(base > *last);
	*last = base;
}

struct churn {
	struct io_space *s;
	struct probe moving;
	bool stop;
};

static void *churn_run(void *arg)
{
	struct churn *c = arg;

	while (!__atomic_load_n(&c->stop, __ATOMIC_RELAXED))
		for (u64 base = 0x10; base < 0x20000; base += 0x1000) {
			io_map(c->s, base, 16, &probe_ops, &c->moving, "many",
			       NULL);
			io_unmap(c->s, base);
		}
	return NULL;
}

/* Ranges that stay are found at any moment while others come and go. */
static void test_concurrent(void **state)
{
	struct churn c = {.s = io_space_new("port")};
	struct probe p = {.bytes = {0x5a}};
	pthread_t t;
	u64 last = 0;

	(void)state;
	for (u64 i = 200; i; i--)
		assert_int_equal(io_map(c.s, i * 0x100, 16, &probe_ops, &p,
					"many", NULL),
				 0);
	io_walk(c.s, count_range, &last);
	assert_int_equal(last, 200 * 0x100);
	pthread_create(&t, NULL, churn_run, &c);
	for (unsigned i = 0; i < 300000; i++)
		assert_int_equal(io_read(c.s, (i % 200 + 1) * 0x100, 1), 0x5a);
	__atomic_store_n(&c.stop, true, __ATOMIC_RELAXED);
	pthread_join(t, NULL);
	assert_int_equal(io_unclaimed(c.s), 0);
	io_space_free(c.s);
}

static unsigned freed[4], nfreed;

static void unit_free(struct dev *d)
{
	freed[nfreed++] = d->instance;
}

static void unit_reset(struct dev *d)
{
	*(u32 *)d->regs = 7;
}

static u64 unit_read(struct dev *d, u64 off, unsigned len)
{
	(void)len;
	/* held by the dispatcher */
	assert_int_equal(pthread_mutex_trylock(&d->lock), EBUSY);
	return *(u32 *)d->regs + off;
}

static const struct dev_class unit_class = {
	.name = "unit",
	.read = unit_read,
	.reset = unit_reset,
	.free = unit_free,
};
static const struct dev_class mute_class = {.name = "mute"};

static void test_dev_list(void **state)
{
	struct io_space *s = io_space_new("port");
	static const struct dev_window windows[] = {
		{0, 2, 0, "low"},
		{0x80, 2, 0x10, "high"},
	};
	struct dev *d[3] = {0};
	struct dev_list l = {0};
	u32 regs[3] = {0};

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		d[i] = calloc(1, sizeof(*d[i]));
		dev_init(d[i], i == 1 ? &mute_class : &unit_class, &regs[i]);
		dev_add(&l, d[i]);
	}
	assert_ptr_equal(l.first, d[0]);
	assert_int_equal(d[1]->instance, 0);
	assert_int_equal(d[2]->instance, 1);
	dev_list_reset(&l);
	assert_int_equal(regs[2], 7);
	assert_int_equal(regs[1], 0);
	io_map(s, 0x60, 8, &dev_io_ops, d[2], "unit", NULL);
	io_map(s, 0x70, 8, &dev_io_ops, d[1], "mute", NULL);
	assert_int_equal(io_read(s, 0x62, 1), 9);
	assert_int_equal(io_read(s, 0x70, 2), 0xffff);
	io_write(s, 0x60, 1, 1);
	assert_int_equal(dev_map(d[2], s, 0x100, windows, 2, NULL), 0);
	assert_int_equal(io_read(s, 0x100, 1), 7);
	assert_int_equal(io_read(s, 0x181, 1), 7 + 0x11);
	io_space_free(s);
	dev_list_free(&l);
	assert_int_equal(nfreed, 2);
	assert_int_equal(freed[0], 1);
	assert_int_equal(freed[1], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dispatch),
		cmocka_unit_test(test_overlap),
		cmocka_unit_test(test_concurrent),
		cmocka_unit_test(test_dev_list),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
