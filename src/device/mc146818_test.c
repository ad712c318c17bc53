/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/mc146818.h"

#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "bus/dev_testing.h"
#include "device/calendar.h"
#include "device/timer_testing.h"

#define MS 1000000ull

struct fix {
	struct testing t;
	struct mc146818 *m;
};

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	testing_init(&f->t);
	f->m = mc146818_new(f->t.loop, testing_wire(&f->t), 3 * GIB, 5 * GIB);
	testing_start(&f->t);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	dev_free(mc146818_dev(f->m));
	testing_stop(&f->t);
	free(f);
	return 0;
}

static u8 rd(struct fix *f, u8 cell)
{
	dev_io_ops.write(f->m, 0, cell, 1);
	return (u8)dev_io_ops.read(f->m, 1, 1);
}

static void wr(struct fix *f, u8 cell, u8 val)
{
	dev_io_ops.write(f->m, 0, cell, 1);
	dev_io_ops.write(f->m, 1, val, 1);
}

/* Reads as careful guests do: not while an update is near. */
static s64 read_time(struct fix *f, bool bcd)
{
	static const u8 cells[] = {0x32, 9, 8, 7, 4, 2, 0};
	struct calendar c;
	unsigned v[7];

	while (rd(f, 10) & 0x80)
		;
	for (unsigned i = 0; i < 7; i++) {
		v[i] = rd(f, cells[i]);
		if (bcd)
			v[i] = (v[i] >> 4) * 10 + (v[i] & 15);
	}
	c = (struct calendar){
		v[6], v[5], v[4], v[3], v[2], 0, (int)(v[0] * 100 + v[1])};
	return calendar_to_seconds(&c);
}

static void test_calendar(void **state)
{
	struct calendar c;
	struct tm tm;

	(void)state;
	for (s64 s = -62135596800; s < 253402300800; s += 86400 * 37 + 12345) {
		time_t t = (time_t)s;

		gmtime_r(&t, &tm);
		calendar_from_seconds(&c, s);
		assert_int_equal(c.year, tm.tm_year + 1900);
		assert_int_equal(c.month, tm.tm_mon + 1);
		assert_int_equal(c.day, tm.tm_mday);
		assert_int_equal(c.hour, tm.tm_hour);
		assert_int_equal(c.minute, tm.tm_min);
		assert_int_equal(c.second, tm.tm_sec);
		assert_int_equal(c.weekday, tm.tm_wday);
		assert_int_equal(calendar_to_seconds(&c), s);
	}
}

static void test_time(void **state)
{
	struct fix *f = *state;
	s64 host = time(NULL), diff;

	diff = read_time(f, true) - host;
	assert_in_range(diff + 1, 0, 3);
	wr(f, 11, 0x06); /* binary */
	diff = read_time(f, false) - host;
	assert_in_range(diff + 1, 0, 4);
	assert_int_equal(rd(f, 13), 0x80);
	assert_int_equal(rd(f, 10) & 0x7f, 0x26);
	assert_int_equal(dev_io_ops.read(f->m, 0, 1), 0xff);
}

static void test_set(void **state)
{
	struct fix *f = *state;
	struct calendar c = {58, 59, 23, 28, 2, 0, 2032};
	s64 want = calendar_to_seconds(&c), got;

	wr(f, 11, 0x82);
	wr(f, 0x32, 0x20);
	wr(f, 9, 0x32);
	wr(f, 8, 0x02);
	wr(f, 7, 0x28);
	wr(f, 4, 0x23);
	wr(f, 2, 0x59);
	wr(f, 0, 0x58);
	usleep(1000);
	assert_int_equal(rd(f, 0), 0x58);
	wr(f, 11, 0x02);
	got = read_time(f, true);
	assert_in_range(got - want, 0, 2);
	assert_int_equal(rd(f, 6), got - want < 2 ? 7 : 1); /* a Saturday */
	wr(f, 8, 0x03); /* a cell alone, while the clock runs */
	assert_in_range(read_time(f, true) - got, 29 * 86400 - 1,
			29 * 86400 + 86400);
	/* the last year it knows */
	wr(f, 0x32, 0x99);
	assert_int_equal(rd(f, 0x32) << 8 | rd(f, 9), 0x2225);
	/* the same hour on a 12-hour dial */
	wr(f, 4, 0x23);
	wr(f, 11, 0x00);
	assert_int_equal(rd(f, 4), 0x91);
	wr(f, 4, 0x12);
	wr(f, 11, 0x02);
	assert_int_equal(rd(f, 4), 0x00);
}

static bool wait_level(struct fix *f, unsigned ms)
{
	while (ms-- && !testing_level(&f->t))
		usleep(1000);
	return testing_level(&f->t);
}

static void test_periodic(void **state)
{
	struct fix *f = *state;
	u64 t0;

	rd(f, 12);
	wr(f, 11, 0x42); /* 1024 Hz */
	t0 = clock_ns();
	for (unsigned i = 0; i < 20; i++) {
		assert_true(wait_level(f, 2000));
		assert_int_equal(rd(f, 12) & 0xc0, 0xc0);
		assert_false(testing_level(&f->t));
	}
	assert_true(clock_ns() - t0 >= 18 * MS);
	/* not read: no more edges, and the host is left alone */
	assert_true(wait_level(f, 2000));
	f->t.edges = 0;
	usleep(10000);
	assert_int_equal(testing_edges(&f->t), 0);
	wr(f, 11, 0x02);
	assert_false(testing_level(&f->t));
	assert_int_equal(rd(f, 12) & 0x40, 0x40);
	/* the flag comes without the interrupt, too */
	usleep(2000);
	assert_int_equal(rd(f, 12) & 0xc0, 0x40);
}

/* Update-ended and alarm, with the clock set close to the second's end. */
static void test_update_and_alarm(void **state)
{
	struct fix *f = *state;
	u8 s;

	rd(f, 12);
	wr(f, 11, 0x12);
	assert_true(wait_level(f, 3000));
	assert_int_equal(rd(f, 12) & 0x90, 0x90);
	s = rd(f, 0);
	s = (s >> 4) * 10 + (s & 15);
	s = (s + 1) % 60;
	wr(f, 1, (u8)(s / 10 << 4 | s % 10));
	wr(f, 3, 0xff);
	wr(f, 5, 0xc0);
	wr(f, 11, 0x22);
	assert_true(wait_level(f, 3000));
	assert_int_equal(rd(f, 12) & 0xb0, 0xb0);
	assert_false(testing_level(&f->t));
	wr(f, 1, (u8)((s + 30) % 60 / 10 << 4 | s % 10));
	assert_false(wait_level(f, 1100));
}

static void test_memory_cells(void **state)
{
	struct fix *f = *state;
	unsigned sum = 0;

	assert_int_equal(rd(f, 0x15) | rd(f, 0x16) << 8, 640);
	assert_int_equal(rd(f, 0x17) | rd(f, 0x18) << 8, 0xffff);
	assert_int_equal(rd(f, 0x34) | rd(f, 0x35) << 8, (3072 - 16) * 16);
	assert_int_equal(rd(f, 0x5b) | rd(f, 0x5c) << 8 | rd(f, 0x5d) << 16,
			 5120 * 16);
	for (u8 i = 0x10; i < 0x2e; i++)
		sum += rd(f, i);
	assert_int_equal(rd(f, 0x2e) << 8 | rd(f, 0x2f), sum);
	wr(f, 0x7f, 0x77);
	dev_reset(mc146818_dev(f->m));
	assert_int_equal(rd(f, 0x7f), 0x77); /* the battery */
	dev_io_ops.write(f->m, 0, 0xff, 1);  /* with NMI masked */
	assert_int_equal(dev_io_ops.read(f->m, 1, 1), 0x77);
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = mc146818_dev(f->m),
		.range = {{.size = 2}},
		.volatile_fields = {"cell", "seen_ns", "offset_ns"},
	});
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_calendar),
		T(test_time),
		T(test_set),
		T(test_periodic),
		T(test_update_and_alarm),
		T(test_memory_cells),
		T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
