/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks: random requests against a model in memory, raw and overlay, io_uring
 * and threads; what the host refuses; locks; odd files.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "backend/disk.h"

#define SIZE    (4 * MIB)
#define SECTORS (SIZE / DISK_SECTOR)
#define DEPTH   16

struct op {
	struct disk_req r;
	struct rig *rig;
	struct iovec iov[4];
	u8 *buf;
	u64 off, len;
	int rc;
	bool busy;
	enum disk_op what;
};

struct rig {
	struct loop *loop;
	struct disk *d;
	char path[64];
	u8 *model;
	struct op op[DEPTH];
	unsigned left, settled, running;
	u32 seed;
	bool exact_discard; /* discarded sectors read as zero */
	bool discarded[SECTORS];
	u8 *mirror; /* kept by tracked blocks; or NULL */
};

static u32 rnd(struct rig *r, u32 below)
{
	r->seed = r->seed * 1664525 + 1013904223;
	return (u32)((u64)(r->seed >> 4) * below >> 28);
}

static void make_file(char *path, const u8 *data, u64 len)
{
	int fd;

	strcpy(path, "/tmp/disk_test.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
}

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->loop = loop_new(NULL);
	r->model = malloc(SIZE);
	r->seed = 42;
	for (unsigned i = 0; i < SIZE; i++)
		r->model[i] = (u8)(i / 509);
	make_file(r->path, r->model, SIZE);
	for (unsigned i = 0; i < DEPTH; i++) {
		r->op[i].rig = r;
		r->op[i].buf = malloc(64 * KIB);
	}
	return r;
}

static void rig_free(struct rig *r)
{
	disk_free(r->d);
	loop_free(r->loop);
	unlink(r->path);
	for (unsigned i = 0; i < DEPTH; i++)
		free(r->op[i].buf);
	free(r->model);
	free(r);
}

static void rig_settled(void *arg)
{
	((struct rig *)arg)->settled++;
}

static void rig_start(struct rig *r)
{
	struct err e;

	assert_non_null(r->d);
	r->d->settled = rig_settled;
	r->d->settled_arg = r;
	assert_int_equal(disk_start(r->d, r->loop, &e), 0);
}

static bool overlaps(struct rig *r, u64 off, u64 len)
{
	for (unsigned i = 0; i < DEPTH; i++)
		if (r->op[i].busy && off < r->op[i].off + r->op[i].len &&
		    r->op[i].off < off + len)
			return true;
	return false;
}

static void verify(struct op *o)
{
	struct rig *r = o->rig;

	for (u64 s = o->off / 512; s < (o->off + o->len) / 512; s++)
		if (!r->discarded[s])
			assert_memory_equal(o->buf + s * 512 - o->off,
					    r->model + s * 512, 512);
}

static void op_done(struct disk_req *q, int rc)
{
	struct op *o = container_of(q, struct op, r);
	struct rig *r = o->rig;
	u64 first = o->off / 512, n = o->len / 512;

	assert_int_equal(rc, 0);
	o->busy = false;
	if (o->what == DISK_READ)
		verify(o);
	if (o->what == DISK_WRITE)
		memcpy(r->model + o->off, o->buf, o->len);
	if (o->what == DISK_ZERO ||
	    (o->what == DISK_DISCARD && r->exact_discard))
		memset(r->model + o->off, 0, o->len);
	if (o->what != DISK_READ && o->what != DISK_FLUSH)
		memset(r->discarded + first,
		       o->what == DISK_DISCARD && !r->exact_discard, n);
	r->running--;
}

static void op_begin(struct rig *r, struct op *o)
{
	static const enum disk_op kinds[] = {
		DISK_READ,  DISK_READ,  DISK_READ, DISK_WRITE,
		DISK_WRITE, DISK_FLUSH, DISK_ZERO, DISK_DISCARD};
	unsigned cut = 0;

	o->what = kinds[rnd(r, ARRAY_LEN(kinds))];
	o->len = (1 + rnd(r, 100)) * 512;
	o->off = rnd(r, (u32)(SECTORS - o->len / 512) + 1) * 512;
	if (o->what == DISK_FLUSH)
		o->off = o->len = 0;
	if (overlaps(r, o->off, o->len))
		return;
	memset(o->buf, (int)rnd(r, 256), o->len);
	for (unsigned i = 0; i < 3; i++) {
		unsigned to = cut + rnd(r, (u32)o->len - cut + 1);

		o->iov[i] = (struct iovec){o->buf + cut, to - cut};
		cut = to;
	}
	o->iov[3] = (struct iovec){o->buf + cut, o->len - cut};
	o->r = (struct disk_req){
		.op = o->what,
		.sync = rnd(r, 2),
		.unmap = rnd(r, 2),
		.off = o->off,
		.len = o->len,
		.iov = o->iov,
		.niov = 4,
		.done = op_done,
	};
	o->busy = true;
	r->running++;
	r->left--;
	disk_submit(r->d, &o->r);
}

/* As a migration does it, with requests under way; how many blocks. */
static unsigned mirror_update(struct rig *r)
{
	unsigned long bits[SIZE / DISK_TRACK_BLOCK / 64] = {0};
	unsigned n = 0;

	disk_track_collect(r->d, bits);
	for (u64 b = 0; b < disk_track_blocks(r->d); b++) {
		u64 off = b * DISK_TRACK_BLOCK;

		if (!(bits[b / 64] >> (b % 64) & 1))
			continue;
		n++;
		assert_int_equal(
			disk_peek(r->d, off, r->mirror + off, DISK_TRACK_BLOCK),
			0);
	}
	return n;
}

/* Keeps requests under way until all are done. */
static void pump(void *arg)
{
	struct rig *r = arg;

	for (unsigned i = 0; i < DEPTH && r->left; i++)
		if (!r->op[i].busy)
			op_begin(r, &r->op[i]);
	disk_kick(r->d);
	if (r->mirror && r->left % 7 == 0)
		mirror_update(r);
	if (!r->left && !r->running)
		loop_stop(r->loop);
	else
		loop_call(r->loop, pump, r);
}

static void run_random(struct rig *r, unsigned n)
{
	r->left = n;
	loop_call(r->loop, pump, r);
	loop_run(r->loop);
	assert_int_not_equal(r->settled, 0);
}

static void check_file(struct rig *r)
{
	int fd = open(r->path, O_RDONLY);
	u8 *data = malloc(SIZE);

	assert_int_equal(pread(fd, data, SIZE, 0), SIZE);
	for (u64 s = 0; s < SECTORS; s++)
		if (!r->discarded[s])
			assert_memory_equal(data + s * 512, r->model + s * 512,
					    512);
	close(fd);
	free(data);
}

static void raw_random(void)
{
	struct rig *r = rig_new();

	r->d = disk_raw_open(r->path, false, NULL);
	rig_start(r);
	run_random(r, 3000);
	check_file(r);
	rig_free(r);
}

static void overlay_random(const char *dir)
{
	struct rig *r = rig_new();
	u8 *before = malloc(SIZE), *after = malloc(SIZE);
	int fd;

	memcpy(before, r->model, SIZE);
	r->exact_discard = true;
	r->d = disk_overlay_new(disk_raw_open(r->path, true, NULL), dir, NULL);
	assert_false(r->d->readonly);
	rig_start(r);
	run_random(r, 5000);
	fd = open(r->path, O_RDONLY);
	assert_int_equal(pread(fd, after, SIZE, 0), SIZE);
	assert_memory_equal(before, after, SIZE);
	assert_memory_not_equal(before, r->model, SIZE);
	close(fd);
	free(before);
	free(after);
	rig_free(r);
}

/* What is told of writes is enough to keep a copy. */
static void mirror_random(bool overlay)
{
	struct rig *r = rig_new();
	u8 *now = malloc(SIZE);

	r->d = disk_raw_open(r->path, overlay, NULL);
	if (overlay)
		r->d = disk_overlay_new(r->d, NULL, NULL);
	rig_start(r);
	assert_int_equal(disk_track_start(r->d, NULL), 0);
	r->mirror = malloc(SIZE);
	assert_int_equal(disk_peek(r->d, 0, r->mirror, SIZE), 0);
	run_random(r, 2000);
	mirror_update(r);
	assert_int_equal(mirror_update(r), 0);
	assert_int_equal(disk_peek(r->d, 0, now, SIZE), 0);
	assert_memory_equal(now, r->mirror, SIZE);
	disk_track_stop(r->d);
	run_random(r, 100);
	assert_int_equal(mirror_update(r), 0);
	free(r->mirror);
	free(now);
	rig_free(r);
}

static void test_mirror(void **state)
{
	(void)state;
	mirror_random(false);
	mirror_random(true);
	setenv("SUBLET_AIO", "threads", 1);
	mirror_random(false);
	mirror_random(true);
	unsetenv("SUBLET_AIO");
}

static void test_raw(void **state)
{
	(void)state;
	raw_random();
	setenv("SUBLET_AIO", "threads", 1);
	raw_random();
	unsetenv("SUBLET_AIO");
}

static void test_overlay(void **state)
{
	(void)state;
	overlay_random(NULL);
	overlay_random("/nonexistent"); /* memory: cannot zero ranges */
	setenv("SUBLET_AIO", "threads", 1);
	overlay_random("/tmp");
	overlay_random("/nonexistent");
	unsetenv("SUBLET_AIO");
}

static int last_rc;

static void one_done(struct disk_req *q, int rc)
{
	struct op *o = container_of(q, struct op, r);

	last_rc = rc;
	loop_stop(o->rig->loop);
}

static int one(struct rig *r, enum disk_op what, u64 off, u64 len)
{
	struct op *o = &r->op[0];

	o->iov[0] = (struct iovec){o->buf, len};
	o->r = (struct disk_req){
		.op = what,
		.off = off,
		.len = len,
		.iov = o->iov,
		.niov = 1,
		.done = one_done,
	};
	last_rc = 1;
	disk_submit(r->d, &o->r);
	disk_kick(r->d);
	loop_run(r->loop);
	return last_rc;
}

static void test_refused(void **state)
{
	struct rig *r = rig_new();

	(void)state;
	r->d = disk_raw_open(r->path, true, NULL);
	rig_start(r);
	assert_int_equal(one(r, DISK_READ, 0, 512), 0);
	assert_int_equal(one(r, DISK_WRITE, 0, 512), -EROFS);
	assert_int_equal(one(r, DISK_ZERO, 0, 512), -EROFS);
	assert_int_equal(one(r, DISK_DISCARD, 0, 512), -EROFS);
	assert_int_equal(one(r, DISK_READ, SIZE, 512), -EINVAL);
	assert_int_equal(one(r, DISK_READ, SIZE - 512, 1024), -EINVAL);
	assert_int_equal(one(r, DISK_READ, ~511ull, 512), -EINVAL);
	assert_int_equal(one(r, DISK_READ, 1, 512), -EINVAL);
	assert_int_equal(one(r, DISK_FLUSH, 0, 0), 0);
	rig_free(r);
}

/* The host's errors reach the guest; data that was there stays. */
static void host_errors(void)
{
	struct rlimit lim, old;
	struct rig *r = rig_new();

	r->d = disk_raw_open(r->path, false, NULL);
	rig_start(r);
	getrlimit(RLIMIT_FSIZE, &old);
	lim = (struct rlimit){SIZE / 2, old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &lim), 0);
	memset(r->op[0].buf, 0x5a, 4096);
	assert_int_equal(one(r, DISK_WRITE, 0, 4096), 0);
	assert_int_equal(one(r, DISK_WRITE, SIZE / 2, 4096), -EFBIG);
	/* half of it fits: the rest fails */
	assert_int_equal(one(r, DISK_WRITE, SIZE / 2 - 2048, 4096), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(one(r, DISK_READ, SIZE / 2, 4096), 0);
	assert_memory_equal(r->op[0].buf, r->model + SIZE / 2, 4096);
	/* the file gets shorter behind our back */
	assert_int_equal(truncate(r->path, SIZE / 2 + 1024), 0);
	assert_int_equal(one(r, DISK_READ, SIZE / 2, 4096), -EIO);
	rig_free(r);
}

static void test_host_errors(void **state)
{
	(void)state;
	host_errors();
	setenv("SUBLET_AIO", "threads", 1);
	host_errors();
	unsetenv("SUBLET_AIO");
}

/* A write that failed leaves the base's data in sight. */
static void test_overlay_full(void **state)
{
	struct rlimit lim, old;
	struct rig *r = rig_new();

	(void)state;
	r->d = disk_overlay_new(disk_raw_open(r->path, true, NULL), "/tmp",
				NULL);
	rig_start(r);
	getrlimit(RLIMIT_FSIZE, &old);
	lim = (struct rlimit){SIZE / 2, old.rlim_max};
	signal(SIGXFSZ, SIG_IGN);
	setrlimit(RLIMIT_FSIZE, &lim);
	memset(r->op[0].buf, 0x5a, 4096);
	assert_int_equal(one(r, DISK_WRITE, SIZE / 2 - 2048, 4096), -EFBIG);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(one(r, DISK_READ, SIZE / 2 - 2048, 4096), 0);
	assert_memory_equal(r->op[0].buf, r->model + SIZE / 2 - 2048, 4096);
	rig_free(r);
}

/* What was tracked belongs to the top, though what it was moves down. */
static void test_tracked_then_frozen(void **state)
{
	struct rig *r = rig_new();

	(void)state;
	r->d = disk_overlay_new(disk_raw_open(r->path, true, NULL), "/tmp",
				NULL);
	assert_int_equal(disk_track_start(r->d, NULL), 0);
	disk_track_stop(r->d);
	assert_int_equal(disk_overlay_freeze(r->d, NULL), 0);
	rig_free(r);
}

static void test_locks(void **state)
{
	struct rig *r = rig_new();
	struct disk *a, *b;
	struct err e = {""};

	(void)state;
	a = disk_raw_open(r->path, false, &e);
	assert_non_null(a);
	assert_null(disk_raw_open(r->path, false, &e));
	assert_non_null(strstr(e.text, "in use"));
	assert_null(disk_raw_open(r->path, true, &e));
	disk_free(a);
	a = disk_raw_open(r->path, true, &e);
	b = disk_raw_open(r->path, true, &e);
	assert_non_null(a);
	assert_non_null(b);
	assert_null(disk_raw_open(r->path, false, &e));
	disk_free(a);
	disk_free(b);
	r->d = disk_raw_open(r->path, false, &e);
	assert_non_null(r->d);
	rig_free(r);
}

static void test_odd_files(void **state)
{
	static const char *const names[] = {"/tmp", "/nonexistent/x",
					    "/dev/null", "/dev/zero"};
	char path[64];
	struct disk *d;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		e.text[0] = 0;
		assert_null(disk_raw_open(names[i], true, &e));
		assert_non_null(strstr(e.text, names[i]));
	}
	make_file(path, (const u8 *)"x", 0);
	assert_null(disk_raw_open(path, false, &e));
	assert_non_null(strstr(e.text, "empty"));
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_null(disk_raw_open(path, true, &e));
	unlink(path);
	make_file(path, (const u8 *)path, 0);
	assert_int_equal(truncate(path, 5 * 512 + 100), 0);
	d = disk_raw_open(path, false, &e);
	assert_int_equal(d->size, 5 * 512);
	disk_free(d);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raw),
		cmocka_unit_test(test_overlay),
		cmocka_unit_test(test_mirror),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_host_errors),
		cmocka_unit_test(test_overlay_full),
		cmocka_unit_test(test_tracked_then_frozen),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_odd_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
