/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/i8042.h"

#include "bus/dev_testing.h"

struct fix {
	struct i8042 *k;
	struct io_space *s;
	bool irq;
	unsigned edges, resets;
};

static void irq(void *arg, unsigned n, bool level)
{
	struct fix *f = arg;

	(void)n;
	f->edges += level && !f->irq;
	f->irq = level;
}

static void reset(void *arg)
{
	((struct fix *)arg)->resets++;
}

static struct fix *make(bool keyboard)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct i8042_config c = {
		.irq1 = {irq, f, 1},
		.keyboard = keyboard,
		.reset = reset,
		.arg = f,
	};

	f->k = i8042_new(&c);
	f->s = io_space_new("ports");
	assert_int_equal(i8042_map(f->k, f->s, NULL), 0);
	return f;
}

static int setup(void **state)
{
	*state = make(true);
	return 0;
}

static int setup_bare(void **state)
{
	*state = make(false);
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	io_space_free(f->s);
	dev_free(i8042_dev(f->k));
	free(f);
	return 0;
}

static u8 in(struct fix *f, u16 port)
{
	return (u8)io_read(f->s, port, 1);
}

static void out(struct fix *f, u16 port, u8 val)
{
	io_write(f->s, port, val, 1);
}

/* The next byte, which must be there already: nobody has to wait. */
static u8 next(struct fix *f)
{
	assert_int_equal(in(f, 0x64) & 1, 1);
	return in(f, 0x60);
}

static void test_controller(void **state)
{
	struct fix *f = *state;

	assert_int_equal(in(f, 0x64), 0x14);
	out(f, 0x64, 0xaa);
	assert_int_equal(in(f, 0x64), 0x1d);
	assert_int_equal(next(f), 0x55);
	assert_int_equal(in(f, 0x64) & 1, 0);
	out(f, 0x64, 0xab);
	assert_int_equal(next(f), 0);
	out(f, 0x64, 0x20);
	assert_int_equal(next(f), 0x64);
	out(f, 0x64, 0x60);
	out(f, 0x60, 0x45);
	out(f, 0x64, 0x20);
	assert_int_equal(next(f), 0x45);
	out(f, 0x64, 0xad);
	out(f, 0x64, 0x20);
	assert_int_equal(next(f), 0x55);
	/* no mouse: a loop that does not come back as a mouse's byte */
	out(f, 0x64, 0xd3);
	out(f, 0x60, 0x5a);
	assert_int_equal(in(f, 0x64) & 0x21, 0x01);
	assert_int_equal(next(f), 0x5a);
	out(f, 0x64, 0xa9);
	assert_int_equal(next(f), 1);
	out(f, 0x64, 0xd4);
	out(f, 0x60, 0xff);
	assert_int_equal(in(f, 0x64) & 0x41, 0x41);
	assert_int_equal(next(f), 0xfe);
	assert_int_equal(in(f, 0x64) & 0x41, 0);
}

static void test_keyboard(void **state)
{
	struct fix *f = *state;

	out(f, 0x64, 0x60);
	out(f, 0x60, 0x65); /* with interrupts */
	out(f, 0x60, 0xf2);
	assert_true(f->irq);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(f->edges, 2); /* one for each byte */
	assert_int_equal(next(f), 0xab);
	assert_int_equal(next(f), 0x41);
	assert_false(f->irq);
	out(f, 0x60, 0xff);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(next(f), 0xaa);
	out(f, 0x60, 0xed);
	assert_int_equal(next(f), 0xfa);
	out(f, 0x60, 0x02);
	assert_int_equal(next(f), 0xfa);
	out(f, 0x60, 0xf0);
	out(f, 0x60, 0x01);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(next(f), 0xfa);
	out(f, 0x60, 0xf0);
	out(f, 0x60, 0x00);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(next(f), 1);
	out(f, 0x60, 0xee);
	assert_int_equal(next(f), 0xee);
	out(f, 0x60, 0x77);
	assert_int_equal(next(f), 0xfe);
	assert_int_equal(in(f, 0x64) & 1, 0);
	/* switched off, the keyboard's bytes wait */
	out(f, 0x60, 0xf2);
	out(f, 0x64, 0xad);
	assert_int_equal(next(f), 0xfa);
	assert_int_equal(in(f, 0x64) & 1, 0);
	out(f, 0x64, 0xae);
	assert_int_equal(next(f), 0xab);
}

static void test_no_keyboard(void **state)
{
	struct fix *f = *state;

	out(f, 0x60, 0xff);
	assert_int_equal(in(f, 0x64) & 0x41, 0x41);
	assert_int_equal(next(f), 0xfe);
}

static void test_reset_and_a20(void **state)
{
	struct fix *f = *state;

	out(f, 0x64, 0xff); /* pulses nothing */
	assert_int_equal(f->resets, 0);
	out(f, 0x64, 0xfe);
	assert_int_equal(f->resets, 1);
	out(f, 0x64, 0xd1);
	out(f, 0x60, 0xdd); /* A20 off */
	assert_int_equal(f->resets, 1);
	out(f, 0x64, 0xd0);
	assert_int_equal(next(f) & 3, 1);
	out(f, 0x64, 0xd1);
	out(f, 0x60, 0xdf);
	out(f, 0x64, 0xd0);
	assert_int_equal(next(f) & 3, 3);
	out(f, 0x64, 0xd1);
	out(f, 0x60, 0xfe);
	assert_int_equal(f->resets, 2);
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = i8042_dev(f->k),
		.range = {{.size = 2}},
	});
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_controller),
		T(test_keyboard),
		cmocka_unit_test_setup_teardown(test_no_keyboard, setup_bare,
						teardown),
		T(test_reset_and_a20),
		T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
