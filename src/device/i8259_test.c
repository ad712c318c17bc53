/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/i8259.h"

#include "bus/dev_testing.h"

struct fix {
	struct i8259 *p;
	struct io_space *s;
	bool intr;
	unsigned edges;
};

static void intr_set(void *arg, unsigned n, bool level)
{
	struct fix *f = arg;

	(void)n;
	f->edges += level && !f->intr;
	f->intr = level;
}

static void out(struct fix *f, u16 port, u8 val)
{
	io_write(f->s, port, val, 1);
}

static u8 in(struct fix *f, u16 port)
{
	return (u8)io_read(f->s, port, 1);
}

static void line(struct fix *f, unsigned irq, bool level)
{
	struct irq_line l = i8259_line(f->p, irq);

	irq_set(&l, level);
}

static void pulse(struct fix *f, unsigned irq)
{
	line(f, irq, true);
	line(f, irq, false);
}

/* As every PC operating system does it: vectors 0x20 and 0x28. */
static void init(struct fix *f, u8 icw4)
{
	out(f, 0x20, 0x11);
	out(f, 0xa0, 0x11);
	out(f, 0x21, 0x20);
	out(f, 0xa1, 0x28);
	out(f, 0x21, 0x04);
	out(f, 0xa1, 0x02);
	out(f, 0x21, icw4);
	out(f, 0xa1, icw4);
	out(f, 0x21, 0);
	out(f, 0xa1, 0);
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	f->p = i8259_new((struct irq_line){intr_set, f, 0});
	f->s = io_space_new("ports");
	assert_int_equal(i8259_map(f->p, f->s, NULL), 0);
	init(f, 0x01);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	io_space_free(f->s);
	dev_free(i8259_dev(f->p));
	free(f);
	return 0;
}

static void test_priority(void **state)
{
	struct fix *f = *state;

	assert_int_equal(i8259_ack(f->p), -1);
	pulse(f, 4);
	assert_true(f->intr);
	pulse(f, 1);
	pulse(f, 12);
	assert_int_equal(in(f, 0x20), 0x16);
	assert_int_equal(i8259_ack(f->p), 0x21);
	assert_false(f->intr); /* the rest is of lower priority */
	assert_int_equal(i8259_ack(f->p), -1);
	pulse(f, 0); /* a higher one nests */
	assert_true(f->intr);
	assert_int_equal(i8259_ack(f->p), 0x20);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x03);
	out(f, 0x20, 0x20);
	assert_int_equal(in(f, 0x20), 0x02);
	assert_false(f->intr);
	out(f, 0x20, 0x20);
	assert_true(f->intr);
	assert_int_equal(i8259_ack(f->p), 0x2c);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x62); /* specific, as Linux ends the cascade */
	assert_int_equal(i8259_ack(f->p), 0x24);
	out(f, 0x20, 0x64);
	assert_false(f->intr);
	out(f, 0x20, 0x0a);
	assert_int_equal(in(f, 0x20), 0);
}

static void test_mask(void **state)
{
	struct fix *f = *state;

	out(f, 0x21, 0xfb);
	out(f, 0xa1, 0xfe);
	pulse(f, 3);
	pulse(f, 9);
	assert_false(f->intr);
	pulse(f, 8);
	assert_true(f->intr);
	out(f, 0xa1, 0xff); /* masked between INTR and INTA */
	assert_false(f->intr);
	assert_int_equal(i8259_ack(f->p), -1);
	out(f, 0xa1, 0xfc);
	assert_int_equal(i8259_ack(f->p), 0x28);
	assert_int_equal(i8259_ack(f->p), -1); /* the cascade is in service */
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	assert_int_equal(i8259_ack(f->p), 0x29);
	assert_int_equal(in(f, 0x21), 0xfb);
}

static void test_level(void **state)
{
	struct fix *f = *state;

	out(f, 0x4d0, 0xff);
	out(f, 0x4d1, 0xff);
	assert_int_equal(in(f, 0x4d0), 0xf8); /* timers are edges for ever */
	assert_int_equal(in(f, 0x4d1), 0xde);
	line(f, 11, true);
	assert_int_equal(i8259_ack(f->p), 0x2b);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	assert_true(f->intr); /* still asserted */
	assert_int_equal(i8259_ack(f->p), 0x2b);
	line(f, 11, false);
	out(f, 0xa0, 0x20);
	out(f, 0x20, 0x20);
	assert_false(f->intr);
	/* a level that goes away is forgotten, an edge is not */
	line(f, 11, true);
	line(f, 11, false);
	assert_false(f->intr);
	pulse(f, 1);
	assert_true(f->intr);
	/* held high, an edge input interrupts once */
	line(f, 0, true);
	assert_int_equal(i8259_ack(f->p), 0x20);
	out(f, 0x20, 0x20);
	assert_int_equal(i8259_ack(f->p), 0x21);
	out(f, 0x20, 0x20);
	assert_false(f->intr);
}

static void test_auto_eoi_and_rotation(void **state)
{
	struct fix *f = *state;

	init(f, 0x03);
	pulse(f, 5);
	pulse(f, 5);
	assert_int_equal(i8259_ack(f->p), 0x25);
	pulse(f, 5);
	assert_int_equal(i8259_ack(f->p), 0x25);
	/* rotation in automatic EOI: the one just served becomes the last */
	out(f, 0x20, 0x80);
	pulse(f, 3);
	assert_int_equal(i8259_ack(f->p), 0x23);
	pulse(f, 3);
	pulse(f, 7);
	assert_int_equal(i8259_ack(f->p), 0x27);
	pulse(f, 0);
	assert_int_equal(i8259_ack(f->p), 0x20);
	assert_int_equal(i8259_ack(f->p), 0x23);
	/* fixed again, with 5 as the lowest */
	init(f, 0x01);
	out(f, 0x20, 0xc5);
	pulse(f, 5);
	pulse(f, 0);
	pulse(f, 6);
	assert_int_equal(i8259_ack(f->p), 0x26);
	out(f, 0x20, 0xa0); /* rotate on EOI: 6 is the lowest now */
	pulse(f, 7);
	pulse(f, 6);
	assert_int_equal(i8259_ack(f->p), 0x27);
	out(f, 0x20, 0x20);
	assert_int_equal(i8259_ack(f->p), 0x20);
	out(f, 0x20, 0x20);
	assert_int_equal(i8259_ack(f->p), 0x25);
	out(f, 0x20, 0x20);
	assert_int_equal(i8259_ack(f->p), 0x26);
}

static void test_special_modes(void **state)
{
	struct fix *f = *state;

	/* special mask: a masked input in service blocks nobody */
	pulse(f, 1);
	assert_int_equal(i8259_ack(f->p), 0x21);
	pulse(f, 4);
	assert_false(f->intr);
	out(f, 0x20, 0x68);
	assert_false(f->intr);
	out(f, 0x21, 0x02);
	assert_true(f->intr);
	assert_int_equal(i8259_ack(f->p), 0x24);
	/* fully nested: a higher input of the second chip gets through */
	init(f, 0x11);
	pulse(f, 12);
	assert_int_equal(i8259_ack(f->p), 0x2c);
	pulse(f, 9);
	assert_true(f->intr);
	assert_int_equal(i8259_ack(f->p), 0x29);
	/* poll */
	init(f, 0x01);
	out(f, 0x20, 0x0c);
	assert_int_equal(in(f, 0x20), 0);
	pulse(f, 6);
	out(f, 0x20, 0x0c);
	assert_int_equal(in(f, 0x20), 0x86);
	assert_false(f->intr);
	out(f, 0x20, 0x0b);
	assert_int_equal(in(f, 0x20), 0x40);
}

static void poke(void *arg, u64 random)
{
	unsigned irq = random & 15;

	if (irq != 2)
		line(arg, irq, random >> 8 & 1);
	if ((random >> 9 & 3) == 0)
		i8259_ack(((struct fix *)arg)->p);
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = i8259_dev(f->p),
		.range = {{.size = 6}},
		.volatile_fields = {"lines"},
		.poke = poke,
		.poke_arg = f,
	});
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_priority),      T(test_mask),
		T(test_level),         T(test_auto_eoi_and_rotation),
		T(test_special_modes), T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
