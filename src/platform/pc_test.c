/* SPDX-License-Identifier: BSD-2-Clause */
/* The board without a processor: what is where, and nonsense to all of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "platform/pc_priv.h"

#define NONSENSE 300000

struct fixture {
	struct mem mem;
	struct loop *loop;
	struct pc *pc;
	unsigned events[3];
	/* Claimed ranges, as found by io_walk() */
	struct {
		u64 base, len;
	} ranges[64];
	unsigned nranges;
	char map[2048];
};

static void event(void *arg, enum pc_event ev, u32 val)
{
	struct fixture *f = arg;

	(void)val;
	f->events[ev]++;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct pc_config c = {
		.mem = &f->mem,
		.cpus = 2,
		.debug_exit_port = 0xf4,
		.debug_chr_port = 0xe9,
		.host = {.event = event, .arg = f},
	};
	struct err e = {{0}};

	assert_int_equal(pc_memory(&f->mem, 32 * MIB, &e), 0);
	f->loop = c.loop = loop_new(&e);
	f->pc = pc_new(&c, &e);
	if (!f->pc)
		fail_msg("%s", e.text);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pc_free(f->pc);
	loop_free(f->loop);
	mem_fini(&f->mem);
	free(f);
	return 0;
}

static void note(void *arg, u64 base, u64 len, const char *name)
{
	struct fixture *f = arg;
	size_t n = strlen(f->map);

	assert_true(f->nranges < ARRAY_LEN(f->ranges));
	f->ranges[f->nranges].base = base;
	f->ranges[f->nranges++].len = len;
	snprintf(f->map + n, sizeof(f->map) - n, "%lx+%lx %s\n", base, len,
		 name);
}

static u64 in(struct fixture *f, u16 port, unsigned len)
{
	return pc_cpu_ops.pio_read(f->pc, port, len);
}

static void out(struct fixture *f, u16 port, u64 val, unsigned len)
{
	pc_cpu_ops.pio_write(f->pc, port, val, len);
}

static void addresses(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(in(f, 0x3fd, 1) & 0x60, 0x60); /* COM1 can send */
	out(f, 0x21, 0xa5, 1);
	assert_int_equal(in(f, 0x21, 1), 0xa5); /* 8259 mask */
	out(f, 0xcf8, 0x80000000, 4);
	assert_int_not_equal(in(f, 0xcfc, 4) & 0xffff, 0xffff); /* 0:0.0 */
	assert_int_equal(pc_cpu_ops.mmio_read(f->pc, PC_ECAM_BASE, 2),
			 in(f, 0xcfc, 2));
	pc_cpu_ops.mmio_write(f->pc, PC_IOAPIC_BASE, 1, 4);
	assert_int_equal(pc_cpu_ops.mmio_read(f->pc, PC_IOAPIC_BASE + 16, 4) >>
					 16 &
				 0xff,
			 PC_IOAPIC_PINS - 1);
	assert_int_equal(in(f, 0xe9, 1), 0xe9);
	out(f, 0x510, 0, 2); /* fw_cfg's signature */
	assert_int_equal(in(f, 0x511, 1), 'Q');
	assert_int_equal(in(f, 0x1234, 2), 0xffff); /* nobody */
}

static void events(void **state)
{
	struct fixture *f = *state;

	out(f, PC_RESET_PORT, PC_RESET_VALUE, 1);
	assert_int_equal(f->events[PC_EVENT_RESET], 1);
	out(f, 0x64, 0xfe, 1);
	assert_int_equal(f->events[PC_EVENT_RESET], 2);
	out(f, 0x92, 1, 1);
	assert_int_equal(f->events[PC_EVENT_RESET], 3);
	out(f, PC_PM_BASE + 4, 0x3400, 2);
	assert_int_equal(f->events[PC_EVENT_POWER_OFF], 1);
	out(f, 0xf4, 3, 1);
	assert_int_equal(f->events[PC_EVENT_DEBUG_EXIT], 1);
}

static u64 any(void)
{
	return (u64)rand() << 33 ^ (u64)rand() << 12 ^ (u64)rand();
}

/* An address in or just past one of the ranges. */
static u64 somewhere(struct fixture *f)
{
	unsigned i = (unsigned)rand() % f->nranges;

	return f->ranges[i].base + any() % (f->ranges[i].len + 2);
}

static void one_access(struct fixture *f, bool port, u64 at)
{
	unsigned len = 1u << rand() % (port ? 3 : 4);

	if (rand() % 2) {
		if (port)
			out(f, (u16)at, any(), len);
		else
			pc_cpu_ops.mmio_write(f->pc, at, any(), len);
	} else {
		if (port)
			in(f, (u16)at, len);
		else
			pc_cpu_ops.mmio_read(f->pc, at, len);
	}
}

static void nonsense(struct fixture *f, bool port)
{
	io_walk(port ? f->pc->pio : f->pc->mmio, note, f);
	assert_true(f->nranges);
	for (unsigned i = 0; i < NONSENSE; i++) {
		one_access(f, port, somewhere(f));
		if (rand() % 5000 == 0)
			pc_reset(f->pc);
	}
}

static void nonsense_to_ports(void **state)
{
	srand(1);
	nonsense(*state, true);
	assert_true(((struct fixture *)*state)->events[PC_EVENT_RESET] > 10);
}

static void nonsense_to_memory(void **state)
{
	srand(2);
	nonsense(*state, false);
}

/* Reset undoes what nonsense did: the board is as it was. */
static void reset_restores(void **state)
{
	struct fixture *f = *state;
	char before[sizeof(f->map)];

	io_walk(f->pc->pio, note, f);
	strcpy(before, f->map);
	srand(3);
	for (unsigned i = 0; i < 20000; i++)
		one_access(f, true, somewhere(f));
	pc_reset(f->pc);
	f->map[0] = 0;
	f->nranges = 0;
	io_walk(f->pc->pio, note, f);
	assert_string_equal(f->map, before);
	addresses(state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(addresses),          T(events),         T(nonsense_to_ports),
		T(nonsense_to_memory), T(reset_restores),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
