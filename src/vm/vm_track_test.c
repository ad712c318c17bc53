/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Dirty pages of a guest that stores in every way it can (test/guest/writer.c):
 * a copy that is only brought up to date by tracked pages must be the same as
 * memory when the guest has stopped. Two trackers at a time, on each engine
 * that this host has.
 */
#include <libgen.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "vm/vm_priv.h"
#include "vm/vm_track.h"

#define MEMORY   (32 * MIB)
#define ROUNDS   60
#define ROUND_NS 4000000
#define TRACKERS 2

struct copy {
	struct vm_track *track;
	unsigned long *dirty;
	u8 *bytes;
	u64 pages; /* copied in all */
};

struct fixture {
	struct loop *loop;
	struct loop_timer *timer;
	struct vm *vm;
	struct copy copy[TRACKERS];
	unsigned round;
	bool same;
};

static void copy_start(struct fixture *f, struct copy *c)
{
	struct err e = {{0}};

	c->track = vm_track_new(f->vm, &e);
	if (!c->track)
		fail_msg("%s", e.text);
	c->dirty = calloc(vm_track_words(f->vm), 8);
	c->bytes = malloc(f->vm->mem.size);
	assert_non_null(c->dirty);
	assert_non_null(c->bytes);
	memcpy(c->bytes, f->vm->mem.base, f->vm->mem.size);
}

static void copy_update(struct fixture *f, struct copy *c)
{
	struct mem *m = &f->vm->mem;
	struct err e = {{0}};

	if (vm_track_collect(c->track, c->dirty, &e))
		fail_msg("%s", e.text);
	for (u64 p = 0; p < m->size >> PAGE_SHIFT; p++) {
		u64 at = p << PAGE_SHIFT;

		if (!(c->dirty[p / 64] >> (p % 64) & 1))
			continue;
		memcpy(c->bytes + at, m->base + at, PAGE_SIZE);
		c->pages++;
	}
	memset(c->dirty, 0, vm_track_words(f->vm) * 8);
}

static bool copy_same(struct fixture *f, struct copy *c)
{
	struct mem *m = &f->vm->mem;

	for (u64 at = 0; at < m->size; at += PAGE_SIZE)
		if (memcmp(c->bytes + at, m->base + at, PAGE_SIZE)) {
			print_message("page %#lx was missed\n", at);
			return false;
		}
	return true;
}

static void copy_end(struct copy *c)
{
	vm_track_free(c->track);
	free(c->dirty);
	free(c->bytes);
	*c = (struct copy){0};
}

/* The second tracker begins later, ends earlier and begins again. */
static void tick(void *arg)
{
	struct fixture *f = arg;

	if (f->round == 0)
		copy_start(f, &f->copy[0]);
	if (f->round == 10 || f->round == 40)
		copy_start(f, &f->copy[1]);
	if (f->round == 30) {
		vm_pause(f->vm);
		copy_update(f, &f->copy[1]);
		f->same = copy_same(f, &f->copy[1]);
		vm_resume(f->vm);
		copy_end(&f->copy[1]);
	}
	if (++f->round < ROUNDS) {
		for (unsigned i = 0; i < TRACKERS; i++)
			if (f->copy[i].track && f->round % (i + 1) == 0)
				copy_update(f, &f->copy[i]);
		loop_timer_arm(f->timer, clock_ns() + ROUND_NS);
		return;
	}
	vm_pause(f->vm);
	for (unsigned i = 0; i < TRACKERS; i++) {
		copy_update(f, &f->copy[i]);
		f->same = f->same && copy_same(f, &f->copy[i]);
		/* more than once each page that the guest ever writes */
		f->same = f->same && f->copy[i].pages > 200;
		copy_end(&f->copy[i]);
	}
	vm_resume(f->vm);
	vm_stop(f->vm);
}

static void writer(const char *engine, unsigned cpus, bool interpret)
{
	char self[4096] = {0}, path[4200];
	struct fixture f = {0};
	struct vm_config c;
	struct vm_backends b = {0};
	struct err e = {{0}};

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		fail();
	snprintf(path, sizeof(path), "%s/../guest/writer", dirname(self));
	f.loop = loop_new(&e);
	assert_non_null(f.loop);
	vm_config_init(&c);
	c.engine = engine;
	c.cpus = cpus;
	c.memory = MEMORY;
	c.net = VM_NET_NONE;
	c.interp_only = interpret;
	c.boot.kernel = path;
	b.loop = f.loop;
	f.vm = vm_new(&c, &b, &e);
	if (!f.vm)
		fail_msg("%s", e.text);
	f.timer = loop_timer_new(f.loop, tick, &f);
	loop_timer_arm(f.timer, clock_ns() + 5 * ROUND_NS);
	assert_int_equal(vm_run(f.vm), VM_END_STOPPED);
	loop_timer_free(f.timer);
	vm_free(f.vm);
	loop_free(f.loop);
	assert_true(f.same);
}

static void interpreter(void **state)
{
	(void)state;
	writer("soft", 1, true);
}

static void translator(void **state)
{
	(void)state;
	writer("soft", 1, false);
}

static void translator_smp(void **state)
{
	(void)state;
	writer("soft", 3, false);
}

static void kvm(void **state)
{
	struct err e;

	(void)state;
	if (engine_classes[0]->probe(&e))
		skip();
	writer("kvm", 2, false);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(interpreter),
		cmocka_unit_test(translator),
		cmocka_unit_test(translator_smp),
		cmocka_unit_test(kvm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
