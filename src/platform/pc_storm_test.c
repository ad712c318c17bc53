/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole board under processors that write nonsense into everything at
 * once, with interrupts, timers and the terminal going on: nothing crashes,
 * nothing waits for ever, every device stays in a state it would load again,
 * and after a reset the machine works.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "bus/dev_testing.h"
#include "bus/pci.h"
#include "device/acpi_pm.h"
#include "device/virtio_blk.h"
#include "device/virtio_console.h"
#include "device/virtio_rng.h"
#include "irq/lapic.h"
#include "platform/pc_priv.h"

#define CPUS     3u
#define ACCESSES 150000u
#define RANGES   64u

struct range {
	u64 base, len;
	bool mmio;
};

struct storm {
	struct mem mem;
	struct loop *loop;
	pthread_t thread;
	struct pc *pc;
	int out[2], in[2];
	struct range range[RANGES];
	unsigned ranges;
	bool mmio;   /* what collect() is told of */
	bool over;   /* atomic */
	u32 events;  /* atomic */
	u32 vectors; /* atomic; interrupts taken */
};

struct cpu {
	struct storm *s;
	struct lapic *l;
	pthread_t thread;
	u64 seed;
};

static void on_event(void *arg, enum pc_event ev, u32 val)
{
	(void)ev;
	(void)val;
	__atomic_add_fetch(&((struct storm *)arg)->events, 1, __ATOMIC_RELAXED);
}

static void on_wake(void *arg, unsigned id)
{
	(void)arg;
	(void)id;
}

static void on_timer(void *arg, unsigned id, u64 deadline)
{
	(void)arg;
	(void)id;
	(void)deadline;
}

static void collect(void *arg, u64 base, u64 len, const char *name)
{
	struct storm *s = arg;

	(void)name;
	assert_true(s->ranges < RANGES);
	s->range[s->ranges++] = (struct range){base, len, s->mmio};
}

/* ---- a processor ---- */

static void kick(void *arg)
{
	(void)arg;
}

static void arm(void *arg, u64 deadline)
{
	(void)arg;
	(void)deadline;
}

static u64 tsc(void *arg)
{
	(void)arg;
	return 0;
}

/* Most accesses go where a device is; the configuration space of the first
 * slots counts as eight ranges more. */
static u64 cpu_address(struct cpu *c, bool *mmio)
{
	struct storm *s = c->s;
	u64 r = dev_test_random(&c->seed), off = r >> 16;
	unsigned n = (unsigned)(r & 0xffff) % (s->ranges + 9);

	if (n < s->ranges) {
		*mmio = s->range[n].mmio;
		return s->range[n].base + off % s->range[n].len;
	}
	*mmio = n != s->ranges;
	if (!*mmio)
		return off & 0xffff;
	if (n == s->ranges + 1) /* where BARs may have been moved to */
		return PC_MMIO32_BASE + off % PC_MMIO32_SIZE;
	return PC_ECAM_BASE + ((u64)(n & 7) << 15) + (off & 0x1ff);
}

static void cpu_access(struct cpu *c)
{
	u64 r = dev_test_random(&c->seed), val = dev_test_random(&c->seed);
	unsigned len = 1u << (r & 3);
	bool mmio, write = r & 16;
	u64 at = cpu_address(c, &mmio);

	if ((r >> 8 & 7) == 0)
		val &= c->s->mem.size - 1; /* like an address */
	if ((r >> 8 & 7) == 1)
		val &= 0xf;
	if (!mmio && len == 8)
		len = 4;
	val &= len < 8 ? BIT64(8 * len) - 1 : ~0ull;
	if (mmio && write)
		pc_cpu_ops.mmio_write(c->s->pc, at, val, len);
	else if (mmio)
		pc_cpu_ops.mmio_read(c->s->pc, at, len);
	else if (write)
		pc_cpu_ops.pio_write(c->s->pc, (u16)at, val, len);
	else
		pc_cpu_ops.pio_read(c->s->pc, (u16)at, len);
}

static void cpu_interrupts(struct cpu *c)
{
	int n;

	lapic_take_events(c->l);
	n = lapic_highest(c->l);
	if (n < 0)
		return;
	__atomic_add_fetch(&c->s->vectors, 1, __ATOMIC_RELAXED);
	if (n == LAPIC_EXTINT)
		pc_cpu_ops.extint_ack(c->s->pc);
	else
		lapic_accept(c->l, (u8)n);
	lapic_eoi(c->l);
}

static void *cpu_run(void *arg)
{
	struct cpu *c = arg;

	for (u32 i = 0; i < ACCESSES; i++) {
		cpu_access(c);
		cpu_interrupts(c);
	}
	return NULL;
}

/* ---- the world around it ---- */

static void *loop_thread(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void *world_run(void *arg)
{
	struct storm *s = arg;
	char buf[4096];

	while (!__atomic_load_n(&s->over, __ATOMIC_RELAXED)) {
		acpi_pm_power_button(s->pc->pm);
		acpi_pm_gpe(s->pc->pm, 3);
		if (write(s->in[1], "typing\n", 7) < 0)
			usleep(100);
		if (read(s->out[0], buf, sizeof(buf)) < 0)
			usleep(100);
	}
	return NULL;
}

static void storm_init(struct storm *s, struct cpu *cpus)
{
	struct lapic_host h = {kick, arm, tsc, 1000000000, NULL};
	struct pc_config c = {
		.mem = &s->mem,
		.cpus = CPUS,
		.debug_exit_port = 0xf4,
		.host = {on_event, on_wake, on_timer, s},
	};
	u64 seed = 4711;
	char path[] = "/tmp/pc_stormXXXXXX";
	int fd = mkstemp(path);
	struct err e;

	assert_int_equal(pc_memory(&s->mem, 32 * MIB, &e), 0);
	for (u64 i = 0; i < 4 * MIB; i += 8)
		*(u64 *)(s->mem.base + i) = dev_test_random(&seed);
	s->loop = loop_new(&e);
	assert_int_equal(pipe2(s->out, O_NONBLOCK | O_CLOEXEC), 0);
	assert_int_equal(pipe2(s->in, O_NONBLOCK | O_CLOEXEC), 0);
	c.loop = s->loop;
	c.com1 = chr_fd_new(s->loop, s->in[0], s->out[1], NULL, NULL, &e);
	s->pc = pc_new(&c, &e);
	assert_non_null(s->pc);
	assert_int_equal(ftruncate(fd, 1 * MIB), 0);
	close(fd);
	assert_int_equal(
		pc_add_virtio(s->pc,
			      vblk_new(&s->mem, disk_raw_open(path, false, &e),
				       2, "storm", &e),
			      &e),
		0);
	unlink(path);
	assert_int_equal(
		pc_add_virtio(s->pc, vcon_new(&s->mem, NULL, NULL, 0, &e), &e),
		0);
	assert_int_equal(
		pc_add_virtio(s->pc, vrng_new(&s->mem, s->loop, &e), &e), 0);
	for (u32 i = 0; i < CPUS; i++) {
		cpus[i] = (struct cpu){.s = s, .seed = 1000003 * (i + 1)};
		cpus[i].l = lapic_new(pc_apics(s->pc), i, &h);
		lapic_write(cpus[i].l, 0xf0, 0x1ff);
	}
	io_walk(s->pc->pio, collect, s);
	s->mmio = true;
	io_walk(s->pc->mmio, collect, s);
	pthread_create(&s->thread, NULL, loop_thread, s->loop);
}

static void storm_fini(struct storm *s, struct cpu *cpus)
{
	for (u32 i = 0; i < CPUS; i++)
		lapic_free(cpus[i].l);
	pc_free(s->pc);
	loop_stop(s->loop);
	pthread_join(s->thread, NULL);
	loop_free(s->loop);
	mem_fini(&s->mem);
	for (unsigned i = 0; i < 2; i++) {
		close(s->in[i]);
		close(s->out[i]);
	}
}

/* Every state that was reached is one that would be loaded. */
static void storm_states(struct storm *s)
{
	for (struct dev *d = s->pc->devs.first; d; d = d->next) {
		const struct state_desc *desc = d->class->state;
		struct err e = {"(no sentence)"};
		u8 *record, *scratch;
		int rc;

		if (!desc)
			continue;
		record = dev_test_save(d);
		scratch = calloc(1, desc->size);
		rc = state_load(desc, scratch, record, state_size(desc),
				desc->version, &e);
		free(record);
		free(scratch);
		if (rc)
			fail_msg("%s: %s", d->class->name, e.text);
	}
}

static void out(struct storm *s, u16 port, u8 val)
{
	pc_cpu_ops.pio_write(s->pc, port, val, 1);
}

/* What the serial port prints comes out, behind all that is still on its way
 * from the storm. */
static bool storm_prints(struct storm *s)
{
	static const char word[] = "still here\n";
	char buf[4096];
	size_t at = 0;

	for (const char *p = word; *p; p++)
		out(s, 0x3f8, (u8)*p);
	for (unsigned i = 0; i < 10000; i++) {
		ssize_t n = read(s->out[0], buf, sizeof(buf));

		if (n <= 0)
			usleep(1000);
		for (ssize_t k = 0; k < n; k++) {
			at = buf[k] == word[at] ? at + 1 : buf[k] == word[0];
			if (!word[at])
				return true;
		}
	}
	return false;
}

static void test_storm(void **state)
{
	struct storm s = {0};
	struct cpu cpus[CPUS];
	pthread_t world;

	(void)state;
	storm_init(&s, cpus);
	pthread_create(&world, NULL, world_run, &s);
	for (u32 i = 0; i < CPUS; i++)
		pthread_create(&cpus[i].thread, NULL, cpu_run, &cpus[i]);
	for (u32 i = 0; i < CPUS; i++)
		pthread_join(cpus[i].thread, NULL);
	__atomic_store_n(&s.over, true, __ATOMIC_RELAXED);
	pthread_join(world, NULL);
	assert_true(s.events > 0);
	assert_true(s.vectors > 0);
	storm_states(&s);
	pc_reset(s.pc);
	storm_states(&s);
	assert_true(storm_prints(&s));
	storm_fini(&s, cpus);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_storm)};

	alarm(120); /* a deadlock ends here */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
