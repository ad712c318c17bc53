/* SPDX-License-Identifier: BSD-2-Clause */
#include "irq/lapic.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"

#define MS 1000000ull

struct fix {
	struct apic_bus *bus;
	struct lapic *l[3];
	unsigned kicks;
	u64 deadline, tsc;
	u8 eoi[8];
	unsigned eois;
};

static void fix_kick(void *arg)
{
	((struct fix *)arg)->kicks++;
}

static void fix_timer(void *arg, u64 deadline)
{
	((struct fix *)arg)->deadline = deadline;
}

static u64 fix_tsc(void *arg)
{
	return ((struct fix *)arg)->tsc;
}

static void fix_eoi(void *arg, u8 vector)
{
	struct fix *f = arg;

	f->eoi[f->eois++ % 8] = vector;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct lapic_host h = {fix_kick, fix_timer, fix_tsc, 1000000000, f};

	f->bus = apic_bus_new(fix_eoi, f);
	for (u32 i = 0; i < 3; i++) {
		f->l[i] = lapic_new(f->bus, i, &h);
		lapic_write(f->l[i], 0xf0, 0x1ff);
	}
	assert_null(lapic_new(f->bus, 1, &h)); /* the id is taken */
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	for (u32 i = 0; i < 3; i++)
		lapic_free(f->l[i]);
	apic_bus_free(f->bus);
	free(f);
	return 0;
}

static void msi(struct fix *f, u32 dest, u32 data)
{
	apic_bus_msi(f->bus, LAPIC_BASE | dest << 12, data);
}

#define LEVEL 0xc000u

/* ---- registers ---- */

static void test_power_on(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];
	u64 v;

	assert_int_equal(lapic_read(l, 0x20), 1 << 24);
	assert_int_equal(lapic_read(l, 0x30), 0x01050014);
	assert_int_equal(lapic_read(l, 0xe0), 0xffffffff);
	assert_int_equal(lapic_read(l, 0x350), 0x10000);
	assert_int_equal(lapic_read(f->l[0], 0x350), 0x700);
	assert_true(lapic_msr_read(l, 0x1b, &v));
	assert_int_equal(v, 0xfee00800);
	assert_true(lapic_msr_read(f->l[0], 0x1b, &v));
	assert_int_equal(v, 0xfee00900);
	lapic_write(l, 0x20, 0);
	assert_int_equal(lapic_read(l, 0x20), 1 << 24);
	lapic_write(l, 0x80, 0xfff);
	assert_int_equal(lapic_read(l, 0x80), 0xff);
	assert_int_equal(lapic_read(l, 0xa0), 0xff);
	assert_int_equal(lapic_get_cr8(l), 15);
	lapic_set_cr8(l, 3);
	assert_int_equal(lapic_read(l, 0x80), 0x30);
	assert_false(lapic_pending(l));
	/* nothing of this is a register: noted as an error */
	lapic_read(l, 0x40);
	lapic_write(l, 0x2f0, 1);
	lapic_write(l, 0x280, 0);
	assert_int_equal(lapic_read(l, 0x280), 0x80);
	lapic_write(l, 0x280, 0);
	assert_int_equal(lapic_read(l, 0x280), 0);
}

static void test_soft_disable(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];

	lapic_write(l, 0x320, 0x40);
	lapic_write(l, 0xf0, 0xff);
	assert_int_equal(lapic_read(l, 0x320), 0x10040);
	lapic_write(l, 0x320, 0x40);
	assert_int_equal(lapic_read(l, 0x320), 0x10040);
	msi(f, 1, 0x55);
	assert_int_equal(lapic_highest(l), -1);
	msi(f, 1, 0x400); /* NMI comes through */
	assert_int_equal(lapic_take_events(l), LAPIC_EVENT_NMI);
	assert_int_equal(lapic_take_events(l), 0);
}

static void test_modes(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[2];
	u64 base = 0xfee00000, v;

	assert_false(lapic_msr_read(l, 0x802, &v));
	assert_false(lapic_msr_write(l, 0x1b, base | 0x400));
	assert_false(lapic_msr_write(l, 0x1b, base | 0x801));
	assert_false(lapic_msr_write(l, 0x1b, base | 0x800 | 1ull << 52));
	assert_true(lapic_msr_write(l, 0x1b, base | 0xc00));
	assert_false(lapic_msr_write(l, 0x1b, base | 0x800));
	assert_int_equal(lapic_read(l, 0x20), 0xffffffff);
	assert_true(lapic_msr_read(l, 0x802, &v));
	assert_int_equal(v, 2);
	assert_true(lapic_msr_read(l, 0x80d, &v));
	assert_int_equal(v, 4);
	/* read-only, write-only, absent, reserved bits */
	assert_false(lapic_msr_write(l, 0x802, 2));
	assert_false(lapic_msr_write(l, 0x80d, 4));
	assert_false(lapic_msr_read(l, 0x80b, &v));
	assert_false(lapic_msr_read(l, 0x80e, &v));
	assert_false(lapic_msr_read(l, 0x831, &v));
	assert_false(lapic_msr_read(l, 0x83f, &v));
	assert_false(lapic_msr_read(l, 0x8ff, &v));
	assert_false(lapic_msr_write(l, 0x808, 0x100));
	assert_false(lapic_msr_write(l, 0x80b, 1));
	assert_false(lapic_msr_write(l, 0x828, 1));
	assert_false(lapic_msr_write(l, 0x80f, 1ull << 32));
	assert_true(lapic_msr_write(l, 0x808, 0x20));
	assert_true(lapic_msr_write(l, 0x80f, 0x1ff));
	assert_true(lapic_msr_write(l, 0x83f, 0x77));
	assert_int_equal(lapic_highest(l), 0x77);
	assert_true(lapic_msr_write(l, 0x830, 0x500000000ull | 0x33));
	assert_true(lapic_msr_read(l, 0x830, &v));
	assert_true(v == (0x500000000ull | 0x33));
	/* off, and only from there xAPIC again; the state is lost */
	assert_true(lapic_msr_write(l, 0x1b, base));
	assert_false(lapic_msr_read(l, 0x802, &v));
	assert_false(lapic_msr_write(l, 0x1b, base | 0xc00));
	assert_int_equal(lapic_highest(l), -1);
	msi(f, 2, 0x400);
	assert_int_equal(lapic_take_events(l), 0);
	assert_true(lapic_msr_write(l, 0x1b, base | 0x800));
	assert_int_equal(lapic_read(l, 0x20), 2 << 24);
	assert_int_equal(lapic_read(l, 0xf0), 0xff);
}

/* ---- priorities ---- */

static void test_priority(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];

	assert_false(lapic_pending(l));
	msi(f, 1, 0x41);
	msi(f, 1, 0x55);
	msi(f, 1, 0x53);
	assert_true(lapic_pending(l));
	assert_int_equal(lapic_read(l, 0x220), 0x00280002);
	assert_int_equal(lapic_highest(l), 0x55);
	assert_true(lapic_pending(l)); /* not yet taken: IF may be clear */
	lapic_accept(l, 0x55);
	assert_int_equal(lapic_read(l, 0xa0), 0x50);
	assert_int_equal(lapic_highest(l), -1); /* 0x53: the same class */
	assert_false(lapic_pending(l));
	msi(f, 1, 0x60);
	assert_int_equal(lapic_highest(l), 0x60);
	lapic_accept(l, 0x60);
	assert_int_equal(lapic_read(l, 0x130), 1);
	lapic_write(l, 0xb0, 0);
	assert_int_equal(lapic_read(l, 0x130), 0);
	assert_int_equal(lapic_highest(l), -1);
	lapic_write(l, 0xb0, 0);
	assert_int_equal(lapic_highest(l), 0x53);
	lapic_write(l, 0x80, 0x50);
	assert_int_equal(lapic_highest(l), -1);
	assert_false(lapic_pending(l));
	lapic_write(l, 0x80, 0x40);
	assert_true(lapic_pending(l));
	assert_int_equal(lapic_highest(l), 0x53);
	lapic_accept(l, 0x53);
	lapic_eoi(l);
	assert_int_equal(lapic_highest(l), -1); /* 0x41 is masked by TPR */
	lapic_set_cr8(l, 0);
	assert_int_equal(lapic_highest(l), 0x41);
	assert_int_equal(f->eois, 0); /* all were edges */
}

static void test_level_eoi(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[0];

	msi(f, 0, LEVEL | 0x90);
	assert_int_equal(lapic_read(l, 0x1c0), 1 << 16);
	lapic_accept(l, (u8)lapic_highest(l));
	lapic_eoi(l);
	assert_int_equal(f->eois, 1);
	assert_int_equal(f->eoi[0], 0x90);
	lapic_eoi(l); /* nothing in service */
	assert_int_equal(f->eois, 1);
	/* suppressed broadcast */
	lapic_write(l, 0xf0, 0x11ff);
	msi(f, 0, LEVEL | 0x90);
	lapic_accept(l, (u8)lapic_highest(l));
	lapic_eoi(l);
	assert_int_equal(f->eois, 1);
	/* the vector comes as an edge now */
	lapic_write(l, 0xf0, 0x1ff);
	msi(f, 0, 0x90);
	lapic_accept(l, (u8)lapic_highest(l));
	lapic_eoi(l);
	assert_int_equal(f->eois, 1);
}

static void test_errors(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[0];

	lapic_write(l, 0x370, 0xfe);
	msi(f, 0, 0x0f); /* vectors below 16 are illegal */
	assert_int_equal(lapic_highest(l), 0xfe);
	lapic_accept(l, 0xfe);
	msi(f, 0, 0x0f); /* no second interrupt for the same */
	assert_int_equal(lapic_read(l, 0x270), 0);
	assert_int_equal(lapic_read(l, 0x280), 0);
	lapic_write(l, 0x280, 0);
	assert_int_equal(lapic_read(l, 0x280), 0x40);
	lapic_write(l, 0x310, 1 << 24);
	lapic_write(l, 0x300, 0x05);
	lapic_write(l, 0x280, 0);
	assert_int_equal(lapic_read(l, 0x280), 0x20);
}

/* ---- LINT0, LINT1 ---- */

static void test_extint(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[0];

	apic_bus_extint(f->bus, 0, true);
	assert_true(lapic_pending(l));
	assert_false(lapic_pending(f->l[1]));
	assert_int_equal(lapic_highest(l), LAPIC_EXTINT);
	apic_bus_extint(f->bus, 0, false);
	assert_int_equal(lapic_highest(l), -1);
	assert_false(lapic_pending(l));
	lapic_write(l, 0x350, 0x10700);
	apic_bus_extint(f->bus, 0, true);
	assert_int_equal(lapic_highest(l), -1);
	lapic_write(l, 0x350, 0x700);
	assert_int_equal(lapic_highest(l), LAPIC_EXTINT);
	apic_bus_extint(f->bus, 0, false);
	/* as a fixed interrupt, on the rising edge */
	lapic_write(l, 0x350, 0x31);
	apic_bus_extint(f->bus, 0, true);
	assert_int_equal(lapic_highest(l), 0x31);
	lapic_accept(l, 0x31);
	lapic_eoi(l);
	apic_bus_extint(f->bus, 0, true);
	assert_int_equal(lapic_highest(l), -1);
	/* switched off, the wire goes past the local APIC */
	lapic_msr_write(l, 0x1b, 0xfee00100);
	assert_int_equal(lapic_highest(l), LAPIC_EXTINT);
	apic_bus_extint(f->bus, 0, false);
	assert_int_equal(lapic_highest(l), -1);
	/* an I/O APIC's ExtINT message names another processor */
	apic_bus_extint(f->bus, 0, true);
	msi(f, 1, 0x700);
	assert_int_equal(lapic_highest(f->l[1]), LAPIC_EXTINT);
	apic_bus_extint(f->bus, 0, false);
	assert_int_equal(lapic_highest(f->l[1]), -1);
	assert_false(lapic_pending(f->l[1]));
}

static void test_nmi_wire(void **state)
{
	struct fix *f = *state;

	lapic_write(f->l[0], 0x360, 0x400);
	lapic_write(f->l[2], 0x360, 0x400);
	apic_bus_nmi(f->bus);
	assert_int_equal(lapic_take_events(f->l[0]), LAPIC_EVENT_NMI);
	assert_int_equal(lapic_take_events(f->l[1]), 0);
	assert_int_equal(lapic_take_events(f->l[2]), LAPIC_EVENT_NMI);
}

/* ---- timer ---- */

static void sleep_until(u64 ns)
{
	struct timespec ts = {(time_t)(ns / 1000000000),
			      (long)(ns % 1000000000)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void test_timer_one_shot(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];
	u64 t0 = clock_ns();
	u32 left;

	lapic_write(l, 0x320, 0x60);
	lapic_write(l, 0x3e0, 0x3); /* divide by 16 */
	lapic_write(l, 0x380, 2 * MS / 16);
	assert_in_range(f->deadline, t0 + 2 * MS, clock_ns() + 2 * MS);
	left = lapic_read(l, 0x390);
	assert_in_range(left, 1, 2 * MS / 16);
	lapic_timer_fired(l); /* too soon: armed again, no interrupt */
	f->deadline = 0;
	assert_int_equal(lapic_highest(l), -1);
	assert_true(f->deadline >= t0 + 2 * MS);
	sleep_until(f->deadline);
	lapic_timer_fired(l);
	assert_true(lapic_pending(l));
	assert_int_equal(lapic_highest(l), 0x60);
	lapic_accept(l, 0x60);
	lapic_eoi(l);
	assert_int_equal(lapic_read(l, 0x390), 0);
	lapic_timer_fired(l);
	assert_int_equal(lapic_highest(l), -1);
	/* masked: it counts, but nothing comes */
	lapic_write(l, 0x320, 0x10060);
	lapic_write(l, 0x380, 1);
	sleep_until(f->deadline);
	lapic_timer_fired(l);
	assert_int_equal(lapic_highest(l), -1);
	lapic_write(l, 0x380, 1000);
	lapic_write(l, 0x380, 0);
	assert_int_equal(f->deadline, 0);
}

static void test_timer_divide(void **state)
{
	static const u8 dcr[8] = {0xb, 0, 1, 2, 3, 8, 9, 0xa};
	struct fix *f = *state;
	struct lapic *l = f->l[1];

	for (unsigned i = 0; i < 8; i++) {
		u64 t0, want = (u64)100000 * MS;

		lapic_write(l, 0x3e0, dcr[i]);
		t0 = clock_ns();
		lapic_write(l, 0x380, (u32)(want >> i > ~0u ? ~0u : want >> i));
		if (want >> i <= ~0u)
			assert_in_range(f->deadline, t0 + want - 128,
					clock_ns() + want);
	}
	/* halfway to another speed: the count goes on from where it is */
	lapic_write(l, 0x380, 4000000000);
	lapic_write(l, 0x3e0, 0xb);
	assert_in_range(lapic_read(l, 0x390), 3000000000, 4000000000);
}

static void test_timer_periodic(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];
	u64 first;

	lapic_write(l, 0x3e0, 0xb);
	lapic_write(l, 0x320, 0x20060);
	lapic_write(l, 0x380, MS);
	first = f->deadline;
	for (unsigned i = 0; i < 3; i++) {
		sleep_until(f->deadline);
		lapic_timer_fired(l);
		assert_int_equal(lapic_highest(l), 0x60);
		lapic_accept(l, 0x60);
		lapic_eoi(l);
		/* on the grid of the first, whatever was missed */
		assert_true(f->deadline > first);
		assert_int_equal((f->deadline - first) % MS, 0);
	}
	/* a storm is slowed down */
	lapic_write(l, 0x380, 1);
	assert_true(f->deadline > clock_ns() + 10000);
}

static void test_timer_deadline(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];
	u64 t0, v;

	f->tsc = 1000000;
	lapic_msr_write(l, 0x6e0, 5); /* not in this mode: ignored */
	assert_true(lapic_msr_read(l, 0x6e0, &v));
	assert_int_equal(v, 0);
	lapic_write(l, 0x320, 0x40061);
	t0 = clock_ns();
	lapic_msr_write(l, 0x6e0, 1000000 + 3 * MS);
	assert_in_range(f->deadline, t0 + 3 * MS, clock_ns() + 3 * MS + 1);
	lapic_write(l, 0x380, 7777); /* means nothing here */
	assert_int_equal(lapic_read(l, 0x390), 0);
	sleep_until(f->deadline);
	lapic_timer_fired(l); /* by the clock, but the TSC is not there */
	assert_int_equal(lapic_highest(l), -1);
	f->tsc = 1000000 + 3 * MS;
	lapic_set_tsc(l);
	sleep_until(f->deadline);
	lapic_timer_fired(l);
	assert_int_equal(lapic_highest(l), 0x61);
	lapic_msr_read(l, 0x6e0, &v);
	assert_int_equal(v, 0);
	/* of the past: at once; leaving the mode disarms */
	lapic_msr_write(l, 0x6e0, 1);
	assert_true(f->deadline <= clock_ns());
	lapic_msr_write(l, 0x6e0, ~0ull);
	assert_true(f->deadline > clock_ns());
	lapic_write(l, 0x320, 0x61);
	assert_int_equal(f->deadline, 0);
	lapic_msr_read(l, 0x6e0, &v);
	assert_int_equal(v, 0);
}

/* ---- state ---- */

static void test_state(void **state)
{
	struct fix *f = *state;
	struct lapic_regs r, back;
	u8 record[512], page[1024];
	u64 left;

	assert_true(state_covers(&lapic_state));
	lapic_write(f->l[1], 0x3e0, 0xb);
	lapic_write(f->l[1], 0x320, 0x60);
	lapic_write(f->l[1], 0x380, 4000 * MS);
	left = f->deadline - clock_ns();
	msi(f, 1, LEVEL | 0x44);
	msi(f, 1, 0x99);
	lapic_accept(f->l[1], (u8)lapic_highest(f->l[1]));
	lapic_get_regs(f->l[1], &r);
	assert_true(r.timer_ns < 2000 * MS); /* an age, not a host time */
	state_save(&lapic_state, &r, record);
	assert_int_equal(state_load(&lapic_state, &back, record,
				    state_size(&lapic_state), 1, NULL),
			 0);
	assert_memory_equal(&r, &back, sizeof(r));
	/* through KVM's page, and into another local APIC */
	lapic_regs_to_page(&r, page);
	assert_int_equal(page[0x14 * 16 + 3], 2); /* ISR of 0x99 */
	memset(&back, 0, sizeof(back));
	back.apic_base = r.apic_base;
	lapic_regs_from_page(&back, page);
	lapic_set_regs(f->l[2], &back);
	assert_in_range(f->deadline - clock_ns(), left - 2000 * MS,
			left + 100000);
	back.timer_ns = r.timer_ns;
	assert_memory_equal(&r, &back, sizeof(r));
	assert_int_equal(lapic_highest(f->l[2]), -1);
	lapic_eoi(f->l[2]);
	assert_true(lapic_pending(f->l[2]));
	assert_int_equal(lapic_highest(f->l[2]), 0x44);
	lapic_accept(f->l[2], 0x44);
	lapic_eoi(f->l[2]);
	assert_int_equal(f->eoi[0], 0x44);
	/* no processor can be in such states */
	r.apic_base = 0xfee00400;
	state_save(&lapic_state, &r, record);
	assert_int_equal(state_load(&lapic_state, &back, record,
				    state_size(&lapic_state), 1, NULL),
			 -EDOM);
}

static void test_init_reset(void **state)
{
	struct fix *f = *state;
	struct lapic *l = f->l[1];
	u64 v;

	lapic_msr_write(l, 0x1b, 0xfee00c00);
	lapic_msr_write(l, 0x838, 1000000);
	msi(f, 1, 0x44);
	lapic_reset(l, true);
	assert_int_equal(f->deadline, 0);
	assert_int_equal(lapic_highest(l), -1);
	assert_true(lapic_msr_read(l, 0x80d, &v)); /* still x2APIC */
	assert_int_equal(v, 2);
	lapic_reset(l, false);
	assert_int_equal(lapic_read(l, 0x20), 1 << 24);
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_power_on),       T(test_soft_disable),
		T(test_modes),          T(test_priority),
		T(test_level_eoi),      T(test_errors),
		T(test_extint),         T(test_nmi_wire),
		T(test_timer_one_shot), T(test_timer_divide),
		T(test_timer_periodic), T(test_timer_deadline),
		T(test_state),          T(test_init_reset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
