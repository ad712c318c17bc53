/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/i8254.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bus/dev_testing.h"
#include "device/timer_testing.h"

#define MS 1000000ull

struct fix {
	struct testing t;
	struct i8254 *p;
	struct io_space *s;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	testing_init(&f->t);
	f->p = i8254_new(f->t.loop, testing_wire(&f->t));
	f->s = io_space_new("ports");
	assert_int_equal(i8254_map(f->p, f->s, NULL), 0);
	testing_start(&f->t);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	io_space_free(f->s);
	dev_free(i8254_dev(f->p));
	testing_stop(&f->t);
	free(f);
	return 0;
}

static void out(struct fix *f, u16 port, u8 val)
{
	io_write(f->s, port, val, 1);
}

static u8 in(struct fix *f, u16 port)
{
	return (u8)io_read(f->s, port, 1);
}

static u16 in16(struct fix *f, u16 port)
{
	u16 low = in(f, port);

	return (u16)(low | in(f, port) << 8);
}

static u32 edges(struct fix *f)
{
	return testing_edges(&f->t);
}

/* Waits until there were n edges; the machine may be busy. */
static void await(struct fix *f, u32 n)
{
	for (unsigned i = 0; i < 10000 && edges(f) < n; i++)
		usleep(1000);
	assert_true(edges(f) >= n);
}

/* 1000 Hz, as an old kernel's tick: never too many, and they go on. */
static void test_tick(void **state)
{
	static const u8 modes[] = {0x34, 0x36};
	struct fix *f = *state;

	for (unsigned i = 0; i < 2; i++) {
		u64 t0 = clock_ns(), want;
		u32 e0 = edges(f);

		out(f, 0x43, modes[i]);
		out(f, 0x40, 1193 & 0xff);
		out(f, 0x40, 1193 >> 8);
		assert_int_equal(edges(f), e0); /* not before its period */
		await(f, e0 + 20);
		out(f, 0x43, 0x30); /* another mode: no more edges */
		want = (clock_ns() - t0) / MS;
		assert_in_range(edges(f) - e0, 20, want + 1);
	}
	f->t.edges = 0;
	usleep(5000);
	assert_int_equal(edges(f), 0);
}

static void test_one_shot(void **state)
{
	struct fix *f = *state;

	out(f, 0x43, 0x30); /* mode 0: OUT rises once and stays */
	out(f, 0x40, 0);
	out(f, 0x40, 4); /* 0.86 ms */
	await(f, 1);
	usleep(5000);
	assert_int_equal(edges(f), 1);
	assert_true(testing_level(&f->t));
	out(f, 0x43, 0xe2); /* read back the status only */
	assert_int_equal(in(f, 0x40), 0xb0);
	out(f, 0x40, 0); /* counts again */
	out(f, 0x40, 0xff);
	assert_false(testing_level(&f->t));
	out(f, 0x43, 0xe2);
	assert_int_equal(in(f, 0x40), 0x30);
	out(f, 0x43, 0x38); /* mode 4, one strobe */
	out(f, 0x40, 100);
	out(f, 0x40, 0);
	await(f, 2);
	usleep(5000);
	assert_int_equal(edges(f), 2);
}

/* A guest without another clock measures 10 ms like this. */
static void test_calibrate(void **state)
{
	struct fix *f = *state;
	u64 t0, t1;

	out(f, 0x61, (in(f, 0x61) & ~2) | 1);
	out(f, 0x43, 0xb0);
	out(f, 0x42, 11931 & 0xff);
	t0 = clock_ns();
	out(f, 0x42, 11931 >> 8);
	assert_int_equal(in(f, 0x61) & 0x21, 0x01);
	while (!(in(f, 0x61) & 0x20))
		;
	t1 = clock_ns();
	assert_true(t1 - t0 >= 9999000);
	assert_true(t1 - t0 < 60 * MS);
}

static void test_gate(void **state)
{
	struct fix *f = *state;
	u16 a, b;

	out(f, 0x61, 0);
	out(f, 0x43, 0xb0);
	out(f, 0x42, 0xff);
	out(f, 0x42, 0xff);
	a = in16(f, 0x42); /* the gate is low: it stands */
	usleep(2000);
	assert_int_equal(in16(f, 0x42), a);
	assert_int_equal(a, 0xffff);
	out(f, 0x61, 1);
	usleep(2000);
	out(f, 0x61, 0);
	a = in16(f, 0x42);
	assert_true(a <= 0xffff - 2386);
	usleep(2000);
	b = in16(f, 0x42);
	assert_int_equal(a, b);
	/* mode 1 starts with the gate's edge */
	out(f, 0x43, 0xb2);
	out(f, 0x42, 0);
	out(f, 0x42, 2);
	usleep(2000);
	assert_int_equal(in(f, 0x61) & 0x20, 0x20);
	out(f, 0x61, 1);
	assert_int_equal(in(f, 0x61) & 0x20, 0);
	usleep(2000);
	assert_int_equal(in(f, 0x61) & 0x20, 0x20);
}

static void test_latch(void **state)
{
	struct fix *f = *state;
	u16 v, w;

	out(f, 0x43, 0x34);
	out(f, 0x40, 0);
	out(f, 0x40, 0);
	usleep(1000);
	out(f, 0x43, 0x00);
	usleep(1000);
	out(f, 0x43, 0x00); /* the first stays until it is read */
	v = in16(f, 0x40);
	w = in16(f, 0x40);
	assert_true((u16)(v - w) >= 1193);
	/* count and status together: status comes first */
	out(f, 0x43, 0xc2);
	assert_int_equal(in(f, 0x40) & 0x3f, 0x34);
	v = in16(f, 0x40);
	assert_true((u16)(w - v) < 60000);
	/* BCD: every digit is one */
	out(f, 0x43, 0x35);
	out(f, 0x40, 0x00);
	out(f, 0x40, 0x50);
	for (unsigned i = 0; i < 50; i++) {
		v = in16(f, 0x40);
		for (unsigned k = 0; k < 4; k++)
			assert_true((v >> 4 * k & 15) <= 9);
		assert_true(v <= 0x5000);
	}
	v = 0;
	/* low and high byte only; a busy machine may need several tries */
	out(f, 0x43, 0x54);
	out(f, 0x41, 0x80);
	assert_true(in(f, 0x41) <= 0x80);
	for (unsigned i = 0; i < 1000 && v < 0xfe; i++) {
		out(f, 0x43, 0x64);
		out(f, 0x41, 0xff);
		v = in(f, 0x41);
	}
	assert_in_range(v, 0xfe, 0xff);
}

static void test_refresh(void **state)
{
	struct fix *f = *state;
	unsigned changes = 0;
	u64 t0 = clock_ns();
	u8 was = in(f, 0x61) & 0x10;

	while (changes < 20 && clock_ns() - t0 < 1000 * MS) {
		u8 now = in(f, 0x61) & 0x10;

		changes += now != was;
		was = now;
	}
	assert_int_equal(changes, 20);
	assert_true(clock_ns() - t0 >= 19 * 15000);
}

/* The fastest rate asked for does not drown the host. */
static void test_storm(void **state)
{
	struct fix *f = *state;
	u64 t0 = clock_ns();

	out(f, 0x43, 0x14);
	out(f, 0x40, 1);
	await(f, 20);
	out(f, 0x43, 0x30);
	assert_in_range(edges(f), 20, (clock_ns() - t0) / 50000 + 1);
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = i8254_dev(f->p),
		.range = {{.size = 5}},
		.volatile_fields = {"age_ns"},
	});
}

/* What is saved while it counts goes on counting from there. The time that
 * the counter saw is known up to how long the steps took. */
static bool resumes(struct fix *f)
{
	u64 t[4], seen;
	u16 v, w;
	u8 *record;

	out(f, 0x43, 0x34);
	out(f, 0x40, 0);
	out(f, 0x40, 0);
	t[0] = clock_ns();
	out(f, 0x43, 0x00);
	v = in16(f, 0x40);
	record = dev_test_save(i8254_dev(f->p));
	t[1] = clock_ns();
	usleep(20000);
	t[2] = clock_ns();
	dev_test_load(i8254_dev(f->p), record);
	out(f, 0x43, 0x00);
	w = in16(f, 0x40);
	t[3] = clock_ns();
	free(record);
	seen = t[1] - t[0] + t[3] - t[2];
	if (seen > 15 * MS)
		return false; /* too busy to tell */
	assert_true((u16)(v - w) <= seen * I8254_HZ / 1000000000 + 2);
	return true;
}

static void test_resume(void **state)
{
	for (unsigned i = 0; i < 100; i++)
		if (resumes(*state))
			return;
	fail();
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tick),  T(test_one_shot), T(test_calibrate),
		T(test_gate),  T(test_latch),    T(test_refresh),
		T(test_storm), T(test_generic),  T(test_resume),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
