/* SPDX-License-Identifier: BSD-2-Clause */
/* Who gets a message, and that none is lost between threads. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "irq/lapic.h"
#include "irq/wire.h"

#define CPUS 300u

struct board {
	struct apic_bus *bus;
	struct lapic *l[CPUS];
};

static void no_kick(void *arg)
{
	(void)arg;
}

static void no_timer(void *arg, u64 deadline)
{
	(void)arg;
	(void)deadline;
}

static u64 no_tsc(void *arg)
{
	(void)arg;
	return 0;
}

static const struct lapic_host no_host = {no_kick, no_timer, no_tsc, 1000000000,
					  NULL};

static int setup(void **state)
{
	struct board *b = calloc(1, sizeof(*b));

	b->bus = apic_bus_new(NULL, NULL);
	for (u32 i = 0; i < CPUS; i++) {
		b->l[i] = lapic_new(b->bus, i, &no_host);
		lapic_write(b->l[i], 0xf0, 0x1ff);
	}
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct board *b = *state;

	for (u32 i = 0; i < CPUS; i++)
		lapic_free(b->l[i]);
	apic_bus_free(b->bus);
	free(b);
	return 0;
}

static void x2apic(struct lapic *l)
{
	assert_true(lapic_msr_write(l, 0x1b, 0xfee00c00));
}

/* How many have vector, which is then ended; *which: one of them. */
static unsigned takers(struct board *b, u8 vector, u32 *which)
{
	unsigned n = 0;

	for (u32 i = 0; i < CPUS; i++) {
		int v = lapic_highest(b->l[i]);

		if (v < 0)
			continue;
		assert_int_equal(v, vector);
		lapic_accept(b->l[i], vector);
		lapic_eoi(b->l[i]);
		*which = i;
		n++;
	}
	return n;
}

static void ipi(struct lapic *l, u32 dest, u32 icr)
{
	lapic_write(l, 0x310, dest << 24);
	lapic_write(l, 0x300, icr);
}

static void test_physical(void **state)
{
	struct board *b = *state;
	u32 who = 0;

	ipi(b->l[3], 7, 0x4050);
	assert_int_equal(takers(b, 0x50, &who), 1);
	assert_int_equal(who, 7);
	ipi(b->l[3], 0xff, 0x4051);
	assert_int_equal(takers(b, 0x51, &who), CPUS);
	apic_bus_msi(b->bus, 0xfee00000 | 254 << 12, 0x52);
	assert_int_equal(takers(b, 0x52, &who), 1);
	assert_int_equal(who, 254);
	apic_bus_msi(b->bus, 0xfee00000 | 0x2b << 12 | 1 << 5, 0x53);
	assert_int_equal(takers(b, 0x53, &who), 1);
	assert_int_equal(who, 0x12b); /* the extended destination */
	apic_bus_msi(b->bus, 0xfee00000 | 0xf0 << 12 | 3 << 5, 0x53);
	apic_bus_msi(b->bus, 0xfed00000, 0x53); /* not for us */
	assert_int_equal(takers(b, 0x53, &who), 0);
}

static void test_shorthand(void **state)
{
	struct board *b = *state;
	u32 who = 0;

	ipi(b->l[9], 2, 0x44060);
	assert_int_equal(takers(b, 0x60, &who), 1);
	assert_int_equal(who, 9);
	ipi(b->l[9], 2, 0x84061);
	assert_int_equal(takers(b, 0x61, &who), CPUS);
	ipi(b->l[9], 2, 0xc4062);
	assert_int_equal(lapic_highest(b->l[9]), -1);
	assert_int_equal(takers(b, 0x62, &who), CPUS - 1);
}

static void test_logical(void **state)
{
	struct board *b = *state;
	u32 who = 0;

	for (u32 i = 0; i < 8; i++)
		lapic_write(b->l[i], 0xd0, 1u << (24 + i));
	ipi(b->l[0], 0x86, 0x4870);
	assert_int_equal(lapic_highest(b->l[1]), 0x70);
	assert_int_equal(lapic_highest(b->l[2]), 0x70);
	assert_int_equal(lapic_highest(b->l[7]), 0x70);
	assert_int_equal(takers(b, 0x70, &who), 3);
	ipi(b->l[0], 0xff, 0x4871);
	assert_int_equal(takers(b, 0x71, &who), CPUS);
	/* clusters of four */
	for (u32 i = 0; i < 8; i++) {
		lapic_write(b->l[i], 0xe0, 0x0fffffff);
		lapic_write(b->l[i], 0xd0, (i / 4 << 4 | 1u << i % 4) << 24);
	}
	ipi(b->l[0], 0x12, 0x4872);
	assert_int_equal(takers(b, 0x72, &who), 1);
	assert_int_equal(who, 5);
	/* x2APIC: cluster 4 is 64 to 79 */
	for (u32 i = 0; i < CPUS; i++)
		x2apic(b->l[i]);
	lapic_msr_write(b->l[1], 0x830, 0x0004000900000000ull | 0x4873);
	assert_int_equal(lapic_highest(b->l[64]), 0x73);
	assert_int_equal(lapic_highest(b->l[67]), 0x73);
	assert_int_equal(takers(b, 0x73, &who), 2);
	lapic_msr_write(b->l[1], 0x830, 299ull << 32 | 0x74);
	assert_int_equal(takers(b, 0x74, &who), 1);
	assert_int_equal(who, 299);
	lapic_msr_write(b->l[1], 0x830, 0xffull << 32 | 0x75);
	assert_int_equal(takers(b, 0x75, &who), 1);
	assert_int_equal(who, 0xff);
	lapic_msr_write(b->l[1], 0x830, 0xffffffffull << 32 | 0x76);
	assert_int_equal(takers(b, 0x76, &who), CPUS);
}

static void test_lowest(void **state)
{
	struct board *b = *state;
	bool seen[4] = {0};
	u32 who = 0;

	for (u32 i = 0; i < 4; i++)
		lapic_write(b->l[i], 0xd0, 1u << (24 + i));
	for (u32 i = 0; i < CPUS * 4; i++) {
		apic_bus_msi(b->bus, 0xfee0f004, 0x155);
		assert_int_equal(takers(b, 0x55, &who), 1);
		assert_true(who < 4);
		seen[who] = true;
	}
	assert_true(seen[0] && seen[1] && seen[2] && seen[3]);
	for (u32 i = 0; i < 4; i++)
		lapic_set_cr8(b->l[i], i == 2 ? 1 : 2);
	for (u32 i = 0; i < 8; i++) {
		apic_bus_msi(b->bus, 0xfee0f004, 0x155);
		assert_int_equal(takers(b, 0x55, &who), 1);
		assert_int_equal(who, 2);
	}
}

static void test_init_sipi(void **state)
{
	struct board *b = *state;

	ipi(b->l[0], 0, 0xc4500);
	assert_int_equal(lapic_take_events(b->l[0]), 0);
	for (u32 i = 1; i < CPUS; i++)
		assert_int_equal(lapic_take_events(b->l[i]), LAPIC_EVENT_INIT);
	ipi(b->l[0], 5, 0x8500); /* its de-assertion */
	assert_int_equal(lapic_take_events(b->l[5]), 0);
	ipi(b->l[0], 5, 0x469a);
	assert_true(lapic_pending(b->l[5]));
	assert_int_equal(lapic_take_events(b->l[5]), LAPIC_EVENT_SIPI);
	assert_int_equal(lapic_sipi_vector(b->l[5]), 0x9a);
	ipi(b->l[0], 6, 0x4400);
	ipi(b->l[0], 6, 0x4200);
	assert_int_equal(lapic_take_events(b->l[6]),
			 LAPIC_EVENT_NMI | LAPIC_EVENT_SMI);
	ipi(b->l[0], 6, 0x4601);
	ipi(b->l[0], 6, 0x4500);
	assert_int_equal(lapic_take_events(b->l[6]), LAPIC_EVENT_INIT);
}

static void test_pv_ipi(void **state)
{
	struct board *b = *state;
	u32 who;

	assert_int_equal(apic_bus_pv_ipi(b->bus, 0x11, 1, 100, 0xfd), 3);
	assert_int_equal(lapic_highest(b->l[100]), 0xfd);
	assert_int_equal(lapic_highest(b->l[104]), 0xfd);
	assert_int_equal(lapic_highest(b->l[164]), 0xfd);
	assert_int_equal(takers(b, 0xfd, &who), 3);
	assert_int_equal(apic_bus_pv_ipi(b->bus, ~0ull, ~0ull, 290, 0x400), 10);
	assert_int_equal(lapic_take_events(b->l[299]), LAPIC_EVENT_NMI);
	assert_int_equal(apic_bus_pv_ipi(b->bus, ~0ull, 0, ~0u - 3, 0x40), 0);
	assert_true((s64)apic_bus_pv_ipi(b->bus, 1, 0, 0, 0x500) < 0);
}

/* ---- threads ---- */

#define STRESS_CPUS 4u
#define ROUNDS      60000u /* shared evenly by the three others */

struct cpu {
	struct lapic *l;
	struct apic_bus *bus;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool kicked;
	u32 id;
	u32 sent[STRESS_CPUS]; /* to each other; this thread */
	u32 got[STRESS_CPUS];  /* from each other; atomic */
	u32 nmis, nmis_sent;   /* atomic */
};
static struct cpu cpus[STRESS_CPUS];

static void cpu_kick(void *arg)
{
	struct cpu *c = arg;

	pthread_mutex_lock(&c->lock);
	c->kicked = true;
	pthread_cond_signal(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void cpu_poll(struct cpu *c)
{
	unsigned k;
	int v;

	if (lapic_take_events(c->l) & LAPIC_EVENT_NMI)
		__atomic_add_fetch(&c->nmis, 1, __ATOMIC_SEQ_CST);
	while ((v = lapic_highest(c->l)) >= 0) {
		lapic_accept(c->l, (u8)v);
		k = (unsigned)v - 0x40;
		if (k < STRESS_CPUS)
			__atomic_add_fetch(&c->got[k], 1, __ATOMIC_SEQ_CST);
		lapic_eoi(c->l);
	}
}

static void cpu_wait(struct cpu *c)
{
	cpu_poll(c);
	sched_yield();
}

/* HLT: as an engine does it, sleeps only if nothing is pending. */
static void cpu_halt(struct cpu *c)
{
	pthread_mutex_lock(&c->lock);
	while (!c->kicked && !lapic_pending(c->l))
		pthread_cond_wait(&c->cond, &c->lock);
	c->kicked = false;
	pthread_mutex_unlock(&c->lock);
}

static bool cpu_acked(struct cpu *c, u32 to)
{
	return __atomic_load_n(&cpus[to].got[c->id], __ATOMIC_SEQ_CST) ==
	       c->sent[to];
}

/* Sends to each in turn, only when it has taken the last one: if a wake-up or
 * an interrupt is lost, everybody sleeps for ever and the alarm ends it. */
static void *cpu_run(void *arg)
{
	struct cpu *c = arg;
	u32 to = c->id;

	for (u32 i = 0; i < ROUNDS; i++) {
		do
			to = (to + 1) % STRESS_CPUS;
		while (to == c->id);
		while (!cpu_acked(c, to))
			cpu_wait(c);
		c->sent[to]++;
		ipi(c->l, to, 0x4040 + c->id);
		if (i % 64 == 0) {
			__atomic_add_fetch(&cpus[to].nmis_sent, 1,
					   __ATOMIC_SEQ_CST);
			ipi(c->l, to, 0x4400);
		}
		cpu_poll(c);
	}
	for (to = 0; to < STRESS_CPUS; to++)
		while (to != c->id && !cpu_acked(c, to))
			cpu_wait(c);
	/* the others may still be sending: serve until the last message */
	for (;;) {
		u32 got = 0;

		cpu_poll(c);
		for (u32 from = 0; from < STRESS_CPUS; from++)
			got += __atomic_load_n(&c->got[from], __ATOMIC_SEQ_CST);
		if (got == ROUNDS)
			return NULL;
		cpu_halt(c);
	}
	return NULL;
}

static void test_stress(void **state)
{
	struct apic_bus *bus = apic_bus_new(NULL, NULL);

	(void)state;
	for (u32 i = 0; i < STRESS_CPUS; i++) {
		struct cpu *c = &cpus[i];
		struct lapic_host h = {cpu_kick, no_timer, no_tsc, 1, c};

		c->id = i;
		c->bus = bus;
		pthread_mutex_init(&c->lock, NULL);
		pthread_cond_init(&c->cond, NULL);
		c->l = lapic_new(bus, i, &h);
		lapic_write(c->l, 0xf0, 0x1ff);
	}
	for (u32 i = 0; i < STRESS_CPUS; i++)
		pthread_create(&cpus[i].thread, NULL, cpu_run, &cpus[i]);
	for (u32 i = 0; i < STRESS_CPUS; i++)
		pthread_join(cpus[i].thread, NULL);
	for (u32 i = 0; i < STRESS_CPUS; i++) {
		u32 n = 0;

		cpu_poll(&cpus[i]);
		for (u32 k = 0; k < STRESS_CPUS; k++)
			n += cpus[i].got[k];
		assert_int_equal(n, ROUNDS);
		/* NMIs may merge, but never vanish or multiply */
		assert_in_range(cpus[i].nmis, 1, cpus[i].nmis_sent);
		lapic_free(cpus[i].l);
	}
	apic_bus_free(bus);
}

/* ---- wires ---- */

static void wire_set(void *arg, unsigned n, bool level)
{
	int *seen = arg;

	seen[n] = level ? seen[n] + 1 : -1;
}

static void test_wires(void **state)
{
	int seen[2] = {0};
	struct irq_split s = {{{wire_set, seen, 0}, {wire_set, seen, 1}}};
	struct irq_line in[2];
	struct irq_or o;

	(void)state;
	irq_or_init(&o, irq_split_input(&s));
	in[0] = irq_or_input(&o, 0);
	in[1] = irq_or_input(&o, 63);
	irq_set(&in[1], false);
	assert_int_equal(seen[0], 0);
	irq_set(&in[0], true);
	irq_set(&in[1], true);
	irq_set(&in[1], true);
	assert_int_equal(seen[0], 1);
	assert_int_equal(seen[1], 1);
	irq_set(&in[0], false);
	assert_int_equal(seen[0], 1);
	irq_set(&in[1], false);
	assert_int_equal(seen[1], -1);
	irq_or_fini(&o);
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_physical),
		T(test_shorthand),
		T(test_logical),
		T(test_lowest),
		T(test_init_sipi),
		T(test_pv_ipi),
		cmocka_unit_test(test_stress),
		cmocka_unit_test(test_wires),
	};
	alarm(120);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
