/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/ns16550.h"

#include "bus/dev_testing.h"

/* A chr that keeps what is written and feeds what a test types. */
struct fake {
	struct chr chr;
	u8 out[65536];
	size_t n;
	unsigned ready;
	bool freed;
};

struct fix {
	struct ns16550 *u;
	struct fake f;
	bool irq;
	unsigned edges;
};

static size_t fake_write(struct chr *c, const void *buf, size_t n)
{
	struct fake *f = (struct fake *)c;

	for (size_t i = 0; i < n; i++)
		f->out[f->n++ % sizeof(f->out)] = ((const u8 *)buf)[i];
	return n;
}

static void fake_free(struct chr *c)
{
	((struct fake *)c)->freed = true;
}

static void fake_room(struct chr *c)
{
	((struct fake *)c)->ready++;
}

static const struct chr_ops fake_ops = {.write = fake_write, .free = fake_free};

static void line_set(void *arg, unsigned n, bool level)
{
	struct fix *x = arg;

	(void)n;
	x->edges += level && !x->irq;
	x->irq = level;
}

static int setup(void **state)
{
	struct fix *x = calloc(1, sizeof(*x));

	x->f.chr.ops = &fake_ops;
	x->f.chr.room = fake_room;
	x->u = ns16550_new(&x->f.chr, (struct irq_line){line_set, x, 4});
	dev_io_ops.write(x->u, 4, 0x0b, 1);
	x->f.ready = 0;
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fix *x = *state;

	dev_free(ns16550_dev(x->u));
	assert_true(x->f.freed);
	free(x);
	return 0;
}

static u8 in(struct fix *x, unsigned reg)
{
	return (u8)dev_io_ops.read(x->u, reg, 1);
}

static void out(struct fix *x, unsigned reg, u8 val)
{
	dev_io_ops.write(x->u, reg, val, 1);
}

static size_t type(struct fix *x, const char *text)
{
	return x->f.chr.input(x->f.chr.input_arg, (const u8 *)text,
			      strlen(text));
}

static void test_output(void **state)
{
	struct fix *x = *state;

	assert_int_equal(in(x, 5), 0x60);
	out(x, 0, 'h');
	out(x, 0, 'i');
	assert_int_equal(x->f.n, 2);
	assert_memory_equal(x->f.out, "hi", 2);
	assert_int_equal(in(x, 5), 0x60);
	assert_false(x->irq);
	/* the divisor hides behind DLAB */
	out(x, 3, 0x83);
	assert_int_equal(in(x, 0), 12);
	out(x, 0, 1);
	out(x, 1, 2);
	assert_int_equal(dev_io_ops.read(x->u, 0, 2), 0x0201);
	out(x, 3, 0x03);
	assert_int_equal(in(x, 1), 0);
	assert_int_equal(x->f.n, 2);
	out(x, 7, 0xa5);
	assert_int_equal(in(x, 7), 0xa5);
}

static void test_thre_interrupt(void **state)
{
	struct fix *x = *state;

	assert_int_equal(in(x, 2), 0x01);
	out(x, 1, 0x02); /* enabled with THR empty: at once */
	assert_true(x->irq);
	assert_int_equal(in(x, 2), 0x02); /* reading it ends it */
	assert_false(x->irq);
	assert_int_equal(in(x, 2), 0x01);
	out(x, 0, 'a');
	assert_true(x->irq);
	out(x, 0, 'b'); /* each byte is a new edge */
	assert_int_equal(x->edges, 3);
	out(x, 1, 0x00);
	assert_false(x->irq);
	out(x, 1, 0x02); /* on again: again due */
	assert_true(x->irq);
	assert_int_equal(in(x, 2), 0x02);
	out(x, 1, 0x02); /* no change of the bit: not due */
	assert_false(x->irq);
}

static void test_input_plain(void **state)
{
	struct fix *x = *state;

	out(x, 1, 0x01);
	assert_int_equal(type(x, "xyz"), 1);
	assert_true(x->irq);
	assert_int_equal(in(x, 2), 0x04);
	assert_int_equal(in(x, 5), 0x61);
	assert_int_equal(x->f.ready, 0);
	assert_int_equal(in(x, 0), 'x');
	assert_int_equal(x->f.ready, 1);
	assert_false(x->irq);
	assert_int_equal(in(x, 5), 0x60);
	assert_int_equal(in(x, 0), 'x');
	assert_int_equal(type(x, "y"), 1);
	assert_int_equal(in(x, 0), 'y');
	assert_int_equal(x->f.ready, 1); /* nothing was held back */
}

static void test_input_fifo(void **state)
{
	struct fix *x = *state;
	char got[17] = "";

	out(x, 2, 0x81); /* trigger level 8 */
	assert_int_equal(in(x, 2), 0xc1);
	out(x, 1, 0x01);
	assert_int_equal(type(x, "1234567"), 7);
	assert_int_equal(in(x, 2), 0xcc);
	assert_int_equal(type(x, "8"), 1);
	assert_int_equal(in(x, 2), 0xc4);
	assert_int_equal(type(x, "abcdefghijk"), 8);
	assert_int_equal(type(x, "i"), 0);
	for (unsigned i = 0; i < 16; i++) {
		assert_int_equal(x->f.ready, 0);
		assert_true(x->irq);
		got[i] = (char)in(x, 0);
	}
	assert_string_equal(got, "12345678abcdefgh");
	assert_int_equal(x->f.ready, 1);
	assert_false(x->irq);
	assert_int_equal(in(x, 5), 0x60); /* never an overrun */
	type(x, "zz");
	out(x, 2, 0x83);
	assert_int_equal(in(x, 5), 0x60);
	type(x, "zz");
	out(x, 2, 0x00);
	assert_int_equal(in(x, 5), 0x60);
	assert_int_equal(in(x, 2), 0x01);
}

static void test_loopback(void **state)
{
	struct fix *x = *state;

	assert_int_equal(in(x, 6), 0xb0);
	out(x, 4, 0x1a); /* what Linux looks for: RTS and OUT2 come back */
	assert_int_equal(in(x, 6) & 0xf0, 0x90);
	out(x, 4, 0x15);
	assert_int_equal(in(x, 6), 0x6b); /* RI and DSR; CTS DSR DCD moved */
	assert_int_equal(in(x, 6), 0x60);
	out(x, 1, 0x0c);
	out(x, 4, 0x10);
	assert_true(x->irq);
	assert_int_equal(in(x, 2), 0x00);
	assert_int_equal(in(x, 6), 0x06); /* trailing edge of RI */
	assert_false(x->irq);
	out(x, 0, 'l');
	assert_int_equal(x->f.n, 0);
	assert_int_equal(in(x, 5), 0x61);
	out(x, 0, 'm'); /* one too many */
	assert_true(x->irq);
	assert_int_equal(in(x, 2), 0x06);
	assert_int_equal(in(x, 5), 0x63);
	assert_int_equal(in(x, 5), 0x61);
	assert_false(x->irq);
	assert_int_equal(type(x, "t"), 0); /* the line is cut */
	assert_int_equal(in(x, 0), 'l');
	x->f.ready = 0;
	type(x, "t");
	out(x, 4, 0x0b);
	assert_int_equal(x->f.ready, 1);
	assert_int_equal(in(x, 6), 0xbb);
}

/* Typed before anybody listens: kept. */
static void test_type_ahead(void **state)
{
	struct fix *x = *state;

	out(x, 4, 0x01); /* DTR alone, as Linux has it until the port opens */
	assert_int_equal(type(x, "early"), 0);
	in(x, 5);
	assert_int_equal(x->f.ready, 0);
	out(x, 4, 0x03);
	assert_int_equal(x->f.ready, 1);
	assert_int_equal(type(x, "e"), 1);
	dev_reset(ns16550_dev(x->u));
	assert_int_equal(type(x, "p"), 0);
	x->f.ready = 0;
	assert_int_equal(in(x, 5), 0x60); /* polls, and knows no modem */
	assert_int_equal(x->f.ready, 1);
	assert_int_equal(type(x, "p"), 1);
	assert_int_equal(in(x, 5), 0x61);
}

static void poke(void *arg, u64 random)
{
	char text[] = "the quick brown fox";

	text[random % sizeof(text)] = 0;
	type(arg, text);
}

static void test_generic(void **state)
{
	struct fix *x = *state;

	dev_test(&(struct dev_test){
		.dev = ns16550_dev(x->u),
		.range = {{.size = 8}},
		.poke = poke,
		.poke_arg = x,
	});
}

static void test_no_chr(void **state)
{
	struct ns16550 *u = ns16550_new(NULL, (struct irq_line){0});

	(void)state;
	dev_test(&(struct dev_test){ns16550_dev(u), .range = {{.size = 8}}});
	dev_free(ns16550_dev(u));
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_output),      T(test_thre_interrupt),
		T(test_input_plain), T(test_input_fifo),
		T(test_loopback),    T(test_type_ahead),
		T(test_generic),     cmocka_unit_test(test_no_chr),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
