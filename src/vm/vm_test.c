/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of a VM, with guests of a few instructions, on each engine that
 * this host has.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "platform/pc_map.h"
#include "vm/vm.h"
#include "vm/vm_priv.h"

#define LOAD    0x100000u
#define CODE    32u
#define COUNTER 0x90000u
#define EXIT    0xf4

struct fixture {
	const char *engine;
	char path[32];
	struct loop *loop;
	struct vm *vm;
	struct vm_config config;
	struct err err;
};

static const char *const engines[] = {"soft", "kvm"};

static int setup_engine(void **state, const char *engine)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int fd;

	strcpy(f->path, "/tmp/vm_test.XXXXXX");
	fd = mkstemp(f->path);
	assert_true(fd >= 0);
	close(fd);
	f->engine = engine;
	f->loop = loop_new(&f->err);
	assert_non_null(f->loop);
	vm_config_init(&f->config);
	f->config.engine = engine;
	f->config.memory = 16 * MIB;
	f->config.net = VM_NET_NONE;
	f->config.boot.kernel = f->path;
	f->config.debug_exit_port = EXIT;
	*state = f;
	return 0;
}

static int setup_soft(void **state)
{
	return setup_engine(state, engines[0]);
}

static int setup_kvm(void **state)
{
	return setup_engine(state, engines[1]);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (f->vm)
		vm_free(f->vm);
	loop_free(f->loop);
	unlink(f->path);
	free(f);
	return 0;
}

/* A multiboot kernel of these instructions, 32-bit. */
static void kernel(struct fixture *f, const u8 *code, size_t n)
{
	u32 header[8] = {0x1badb002, 0x10000,    -(0x1badb002u + 0x10000),
			 LOAD,       LOAD,       0,
			 0,          LOAD + CODE};
	FILE *out = fopen(f->path, "w");

	assert_non_null(out);
	assert_int_equal(fwrite(header, 1, sizeof(header), out), CODE);
	assert_int_equal(fwrite(code, 1, n, out), n);
	fclose(out);
}

/* False if this host does not have the engine. */
static bool build(struct fixture *f)
{
	struct vm_backends b = {.loop = f->loop};

	if (!strcmp(f->engine, "kvm") && access("/dev/kvm", R_OK | W_OK))
		return false;
	f->vm = vm_new(&f->config, &b, &f->err);
	if (!f->vm && strstr(f->err.text, "there is no CPU engine"))
		return false;
	if (!f->vm)
		fail_msg("%s", f->err.text);
	return true;
}

#define RUN(f, code)                           \
	do {                                   \
		kernel(f, code, sizeof(code)); \
		if (!build(f))                 \
			skip();                \
	} while (0)

static void debug_exit(void **state)
{
	/* mov $0x21, %al; out %al, $0xf4; hlt */
	static const u8 code[] = {0xb0, 0x21, 0xe6, EXIT, 0xf4};
	struct fixture *f = *state;

	RUN(f, code);
	assert_int_equal(vm_run(f->vm), VM_END_DEBUG_EXIT);
	assert_int_equal(vm_exit_code(f->vm), 0x43);
}

static void triple_fault(void **state)
{
	/* push $0; push $0; lidt (%esp); int3 */
	static const u8 code[] = {0x6a, 0,    0x6a, 0,   0x0f,
				  0x01, 0x1c, 0x24, 0xcc};
	struct fixture *f = *state;
	struct err e;

	/* A KVM without hardware behind it may not even deliver int3. */
	if (engine_find(f->engine, &e, &e) &&
	    engine_find(f->engine, &e, &e)->probe(&e))
		skip();
	RUN(f, code);
	assert_int_equal(vm_run(f->vm), VM_END_SHUTDOWN);
	assert_non_null(strstr(vm_report(f->vm), "triple fault"));
}

/* Counts in memory that is not loaded again, until it ends the VM. */
static const u8 reboots[] = {
	0xff, 0x05, 0,    0,    0x09, 0,    /* incl COUNTER */
	0x83, 0x3d, 0,    0,    0x09, 0, 3, /* cmpl $3, COUNTER */
	0x74, 0x0a,                         /* je end */
	0x66, 0xba, 0xf9, 0x0c,             /* mov $0xcf9, %dx */
	0xb0, 0x06, 0xee,                   /* mov $6, %al; out %al, %dx */
	0xf4, 0xeb, 0xfd,                   /* hlt; jmp . - 1 */
	0xa0, 0,    0,    0x09, 0,          /* end: mov COUNTER, %al */
	0xe6, EXIT, 0xf4,
};

static void reset_boots_again(void **state)
{
	struct fixture *f = *state;

	RUN(f, reboots);
	assert_int_equal(vm_run(f->vm), VM_END_DEBUG_EXIT);
	assert_int_equal(vm_exit_code(f->vm), 3 << 1 | 1);
}

static void reset_ends(void **state)
{
	struct fixture *f = *state;

	f->config.no_reboot = true;
	RUN(f, reboots);
	assert_int_equal(vm_run(f->vm), VM_END_RESET);
}

static void power_off(void **state)
{
	/* mov $0x604, %dx; mov $0x3400, %ax; out %ax, %dx; hlt: SLP_EN, S5 */
	static const u8 code[] = {0x66, 0xba, PC_PM_BASE + 4 - 0x600,
				  0x06, 0x66, 0xb8,
				  0,    0x34, 0x66,
				  0xef, 0xf4};
	struct fixture *f = *state;

	RUN(f, code);
	assert_int_equal(vm_run(f->vm), VM_END_POWER_OFF);
}

static void stop_later(void *arg)
{
	vm_stop(arg);
}

static void stops_while_halted(void **state)
{
	static const u8 code[] = {0xf4, 0xeb, 0xfd};
	struct fixture *f = *state;
	struct loop_timer *t;
	u64 start = clock_ns();

	f->config.cpus = 2; /* the other waits for SIPI */
	RUN(f, code);
	t = loop_timer_new(f->loop, stop_later, f->vm);
	loop_timer_arm(t, start + 50000000);
	assert_int_equal(vm_run(f->vm), VM_END_STOPPED);
	assert_true(clock_ns() - start < 5000000000);
	loop_timer_free(t);
}

struct pausing {
	struct fixture *f;
	struct loop_timer *timer;
	unsigned round;
};

static u32 counter(struct fixture *f)
{
	u32 v = 0;

	assert_true(mem_read(&f->vm->mem, COUNTER, &v, 4));
	return v;
}

static void pause_and_look(void *arg)
{
	struct pausing *p = arg;
	u32 v;

	vm_pause(p->f->vm);
	vm_pause(p->f->vm); /* they nest */
	v = counter(p->f);
	usleep(2000);
	assert_int_equal(counter(p->f), v);
	vm_resume(p->f->vm);
	assert_int_equal(counter(p->f), v);
	vm_resume(p->f->vm);
	for (unsigned i = 0; i < 1000 && counter(p->f) == v; i++)
		usleep(1000);
	assert_int_not_equal(counter(p->f), v);
	if (++p->round == 20)
		vm_stop(p->f->vm);
	else
		loop_timer_arm(p->timer, clock_ns() + 1000000);
}

static void pause_stands_still(void **state)
{
	/* 1: incl COUNTER; jmp 1b */
	static const u8 code[] = {0xff, 0x05, 0, 0, 0x09, 0, 0xeb, 0xf8};
	struct fixture *f = *state;
	struct pausing p = {.f = f};

	RUN(f, code);
	p.timer = loop_timer_new(f->loop, pause_and_look, &p);
	loop_timer_arm(p.timer, clock_ns() + 1000000);
	assert_int_equal(vm_run(f->vm), VM_END_STOPPED);
	assert_int_equal(p.round, 20);
	loop_timer_free(p.timer);
}

static void bad_config(void **state)
{
	struct fixture *f = *state;
	struct vm_backends b = {.loop = f->loop};

	f->config.cpus = 0;
	assert_null(vm_new(&f->config, &b, &f->err));
	assert_non_null(strstr(f->err.text, "1 to 64 CPUs"));
	f->config.cpus = 1;
	f->config.memory = MIB;
	assert_null(vm_new(&f->config, &b, &f->err));
	assert_non_null(strstr(f->err.text, "16 MiB"));
	f->config.memory = 64 * MIB;
	f->config.boot.kernel = NULL;
	assert_null(vm_new(&f->config, &b, &f->err));
	f->config.boot.kernel = f->path;
	f->config.disks[0].path = f->config.disks[1].path = "same";
	f->config.ndisks = 2;
	assert_null(vm_new(&f->config, &b, &f->err));
	assert_non_null(strstr(f->err.text, "given twice"));
	f->config.ndisks = 1;
	assert_null(vm_new(&f->config, &b, &f->err));
	assert_non_null(strstr(f->err.text, "same"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define BOTH(t)                                         \
	{#t " on soft", t, setup_soft, teardown, NULL}, \
		{#t " on kvm", t, setup_kvm, teardown, NULL}
		BOTH(debug_exit),
		BOTH(triple_fault),
		BOTH(reset_boots_again),
		BOTH(reset_ends),
		BOTH(power_off),
		BOTH(stops_while_halted),
		BOTH(pause_stands_still),
		cmocka_unit_test_setup_teardown(bad_config, setup_soft,
						teardown),
	};

	alarm(100); /* a guest that does not end */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
