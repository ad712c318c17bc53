/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/acpi_pm.h"

#include <unistd.h>

#include "base/clock.h"
#include "bus/dev_testing.h"

#define BASE 0x600u

struct fix {
	struct loop *l;
	struct acpi_pm *p;
	struct io_space *s;
	bool sci;
	unsigned offs;
};

static void sci(void *arg, unsigned n, bool level)
{
	(void)n;
	((struct fix *)arg)->sci = level;
}

static void power_off(void *arg)
{
	((struct fix *)arg)->offs++;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct acpi_pm_config c = {{sci, f, 9}, power_off, f};

	f->l = loop_new(NULL);
	f->p = acpi_pm_new(f->l, &c);
	f->s = io_space_new("ports");
	assert_int_equal(acpi_pm_map(f->p, f->s, BASE, NULL), 0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	io_space_free(f->s);
	dev_free(acpi_pm_dev(f->p));
	loop_free(f->l);
	free(f);
	return 0;
}

static void test_power_button(void **state)
{
	struct fix *f = *state;

	acpi_pm_power_button(f->p);
	assert_false(f->sci); /* not enabled */
	assert_int_equal(io_read(f->s, BASE, 2), 0x100);
	io_write(f->s, BASE + 2, 0xffff, 2);
	assert_int_equal(io_read(f->s, BASE + 2, 2), 0x0721);
	assert_true(f->sci);
	io_write(f->s, BASE, 0x0001, 2);
	assert_true(f->sci);
	io_write(f->s, BASE + 1, 0x01, 1); /* write one to clear */
	assert_false(f->sci);
	assert_int_equal(io_read(f->s, BASE, 4), 0x07210000);
}

static void test_gpe(void **state)
{
	struct fix *f = *state;

	io_write(f->s, BASE + 18, 0x8001, 2);
	acpi_pm_gpe(f->p, 1);
	assert_false(f->sci);
	acpi_pm_gpe(f->p, 15);
	assert_true(f->sci);
	assert_int_equal(io_read(f->s, BASE + 16, 4), 0x80018002);
	io_write(f->s, BASE + 16, 0xffff, 2);
	assert_false(f->sci);
	assert_int_equal(io_read(f->s, BASE + 16, 2), 0);
}

static void test_s5(void **state)
{
	struct fix *f = *state;

	assert_int_equal(io_read(f->s, BASE + 4, 2), 1); /* SCI_EN */
	io_write(f->s, BASE + 4, 5 << 10, 2);
	assert_int_equal(f->offs, 0);
	io_write(f->s, BASE + 4, 0x2000 | 1 << 10, 2); /* S1: not offered */
	assert_int_equal(f->offs, 0);
	io_write(f->s, BASE + 4, 5 << 10 | 0x2000, 2);
	assert_int_equal(f->offs, 1);
	assert_int_equal(io_read(f->s, BASE + 4, 2), 5 << 10 | 1);
}

static void test_timer(void **state)
{
	struct fix *f = *state;
	u64 t0 = clock_ns(), t1;
	u32 a = (u32)io_read(f->s, BASE + 8, 4), b;

	usleep(10000);
	b = (u32)io_read(f->s, BASE + 8, 4);
	t1 = clock_ns();
	assert_true(b - a >= 35795);
	assert_true(b - a <= (t1 - t0) * 3579545 / 1000000000 + 2);
	io_write(f->s, BASE + 8, 0, 4); /* read-only */
	assert_true((u32)io_read(f->s, BASE + 8, 4) >= b);
}

static void poke(void *arg, u64 random)
{
	struct fix *f = arg;

	acpi_pm_gpe(f->p, random & 15);
	if (random & 16)
		acpi_pm_power_button(f->p);
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = acpi_pm_dev(f->p),
		.range = {{.size = ACPI_PM_SIZE}},
		.volatile_fields = {"age_ns"},
		.poke = poke,
		.poke_arg = f,
	});
	assert_true(f->offs);
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_power_button), T(test_gpe), T(test_s5), T(test_timer),

		T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
