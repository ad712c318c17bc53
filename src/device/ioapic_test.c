/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/ioapic.h"

#include <sched.h>
#include <unistd.h>

#include "bus/dev_testing.h"
#include "irq/lapic.h"

struct fix {
	struct ioapic *a;
	unsigned n;
	u64 address;
	u32 data;
};

static void sink(void *arg, u64 address, u32 data)
{
	struct fix *f = arg;

	f->n++;
	f->address = address;
	f->data = data;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	f->a = ioapic_new((struct msi_sink){sink, f});
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	dev_free(ioapic_dev(f->a));
	free(f);
	return 0;
}

static void wr(struct ioapic *a, u32 index, u32 val)
{
	dev_io_ops.write(a, 0, index, 4);
	dev_io_ops.write(a, 0x10, val, 4);
}

static u32 rd(struct ioapic *a, u32 index)
{
	dev_io_ops.write(a, 0, index, 4);
	return (u32)dev_io_ops.read(a, 0x10, 4);
}

static void pin(struct ioapic *a, unsigned n, bool level)
{
	struct irq_line l = ioapic_line(a, n);

	irq_set(&l, level);
}

static void test_registers(void **state)
{
	struct fix *f = *state;

	assert_int_equal(rd(f->a, 1), 0x170020);
	wr(f->a, 0, 0xffffffff);
	assert_int_equal(rd(f->a, 0), 0x0f000000);
	assert_int_equal(rd(f->a, 2), 0x0f000000);
	assert_int_equal(rd(f->a, 0x10), 0x10000);
	assert_int_equal(rd(f->a, 0x3f), 0);
	assert_int_equal(rd(f->a, 0x40), 0);
	wr(f->a, 0x3e, 0xffffffff);
	wr(f->a, 0x3f, 0xffffffff);
	assert_int_equal(rd(f->a, 0x3e), 0x1afff);
	assert_int_equal(rd(f->a, 0x3f), 0xfffe0000);
	assert_int_equal(dev_io_ops.read(f->a, 0, 4), 0x3f);
	assert_int_equal(f->n, 0);
}

static void test_edge(void **state)
{
	struct fix *f = *state;

	pin(f->a, 4, true); /* masked: lost, as the data sheet says */
	pin(f->a, 4, false);
	wr(f->a, 0x19, 3u << 24);
	wr(f->a, 0x18, 0x34);
	assert_int_equal(f->n, 0);
	pin(f->a, 4, true);
	assert_int_equal(f->n, 1);
	assert_int_equal(f->address, 0xfee03000);
	assert_int_equal(f->data, 0x34);
	pin(f->a, 4, true);
	assert_int_equal(f->n, 1);
	pin(f->a, 4, false);
	pin(f->a, 4, true);
	assert_int_equal(f->n, 2);
	/* logical, lowest priority, extended destination 0x1ff */
	wr(f->a, 0x19, 0xff020000);
	wr(f->a, 0x18, 0x935);
	pin(f->a, 4, false);
	pin(f->a, 4, true);
	assert_int_equal(f->address, 0xfee00000 | 0xff << 12 | 1 << 5 | 0xc);
	assert_int_equal(f->data, 0x135);
}

static void test_level(void **state)
{
	struct fix *f = *state;

	wr(f->a, 0x32, 0x1a040); /* pin 17, masked */
	pin(f->a, 17, true);
	assert_int_equal(f->n, 0);
	wr(f->a, 0x32, 0xa040); /* asserted when it is unmasked */
	assert_int_equal(f->n, 1);
	assert_int_equal(f->data, 0xc040);
	assert_int_equal(rd(f->a, 0x32), 0xe040);
	pin(f->a, 17, false);
	pin(f->a, 17, true); /* not before the EOI */
	wr(f->a, 0x32, 0xa040);
	assert_int_equal(f->n, 1);
	ioapic_eoi(f->a, 0x41);
	assert_int_equal(f->n, 1);
	ioapic_eoi(f->a, 0x40);
	assert_int_equal(f->n, 2); /* still asserted: again */
	pin(f->a, 17, false);
	ioapic_eoi(f->a, 0x40);
	assert_int_equal(f->n, 2);
	assert_int_equal(rd(f->a, 0x32), 0xa040);
	/* the EOI register does the same */
	pin(f->a, 17, true);
	dev_io_ops.write(f->a, 0x40, 0x40, 4);
	assert_int_equal(f->n, 4);
	/* made an edge, the pin forgets what is not yet ended */
	wr(f->a, 0x32, 0x12040);
	assert_int_equal(rd(f->a, 0x32), 0x12040);
}

/* ---- with real local APICs ---- */

static void kick(void *arg)
{
	(void)arg;
}

static void timer(void *arg, u64 deadline)
{
	(void)arg;
	(void)deadline;
}

static u64 tsc(void *arg)
{
	(void)arg;
	return 0;
}

/* The bus and the I/O APIC name each other: the board's knot. */
static struct ioapic *knot;

static void knot_eoi(void *arg, u8 vector)
{
	(void)arg;
	ioapic_eoi(knot, vector);
}

static void test_with_lapic(void **state)
{
	const struct lapic_host h = {kick, timer, tsc, 1000000000, NULL};
	struct apic_bus *bus = apic_bus_new(knot_eoi, NULL);
	struct lapic *l = lapic_new(bus, 0, &h);
	struct ioapic *a = ioapic_new((struct msi_sink){apic_bus_msi, bus});

	(void)state;
	knot = a;
	lapic_write(l, 0xf0, 0x1ff);
	wr(a, 0x32, 0xa050);
	pin(a, 17, true);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(lapic_highest(l), 0x50);
		lapic_accept(l, 0x50);
		assert_int_equal(lapic_highest(l), -1);
		if (i == 2)
			pin(a, 17, false);
		lapic_write(l, 0xb0, 0);
	}
	assert_int_equal(lapic_highest(l), -1);
	assert_int_equal(rd(a, 0x32), 0xa050);
	dev_free(ioapic_dev(a));
	lapic_free(l);
	apic_bus_free(bus);
}

/* ---- a level line between threads ---- */

#define HANDSHAKES 30000u

struct handshake {
	struct ioapic *a;
	struct lapic *l;
	u32 asked, served; /* atomic */
};

static void *handshake_device(void *arg)
{
	struct handshake *h = arg;

	for (u32 i = 1; i <= HANDSHAKES; i++) {
		__atomic_store_n(&h->asked, i, __ATOMIC_SEQ_CST);
		pin(h->a, 17, true);
		while (__atomic_load_n(&h->served, __ATOMIC_SEQ_CST) != i)
			sched_yield();
	}
	return NULL;
}

/* The device raises its line from one thread, the processor lowers it in the
 * handler and ends the interrupt on another: the next must not get lost
 * however the two meet. */
static void test_level_threads(void **state)
{
	const struct lapic_host host = {kick, timer, tsc, 1000000000, NULL};
	struct apic_bus *bus = apic_bus_new(knot_eoi, NULL);
	struct handshake h = {.l = lapic_new(bus, 0, &host)};
	pthread_t t;
	u32 served = 0;

	(void)state;
	h.a = knot = ioapic_new((struct msi_sink){apic_bus_msi, bus});
	lapic_write(h.l, 0xf0, 0x1ff);
	wr(h.a, 0x32, 0xa050);
	pthread_create(&t, NULL, handshake_device, &h);
	alarm(60);
	while (served != HANDSHAKES) {
		if (!lapic_pending(h.l) || lapic_highest(h.l) < 0) {
			sched_yield();
			continue;
		}
		lapic_accept(h.l, 0x50);
		if (__atomic_load_n(&h.asked, __ATOMIC_SEQ_CST) != served) {
			pin(h.a, 17, false);
			__atomic_store_n(&h.served, ++served, __ATOMIC_SEQ_CST);
		}
		lapic_eoi(h.l);
	}
	pthread_join(t, NULL);
	alarm(0);
	dev_free(ioapic_dev(h.a));
	lapic_free(h.l);
	apic_bus_free(bus);
}

static void poke(void *arg, u64 random)
{
	struct fix *f = arg;

	pin(f->a, random % IOAPIC_PINS, random >> 8 & 1);
	ioapic_eoi(f->a, (u8)(random >> 16));
}

static void test_generic(void **state)
{
	struct fix *f = *state;

	dev_test(&(struct dev_test){
		.dev = ioapic_dev(f->a),
		.range = {{.size = 0x60}, {.size = IOAPIC_SIZE}},
		.volatile_fields = {"level"},
		.poke = poke,
		.poke_arg = f,
	});
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_registers),
		T(test_edge),
		T(test_level),

		cmocka_unit_test(test_with_lapic),
		cmocka_unit_test(test_level_threads),
		T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
