/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "vm/snap_file.h"
#include "vm/snap_pack.h"

#define PIECES 5
#define SIZE   ((PIECES - 1) * SNAP_PACK + 3 * PAGE_SIZE) /* a short last */

struct packed {
	char dir[32];
	int fd, memory;
	u8 *bytes; /* what the memory has */
	struct snap_packed p;
};

/* Noise, zeros, text, one byte, and a short piece. */
static int setup(void **state)
{
	struct packed *t = calloc(1, sizeof(*t));
	struct err e = {{0}};

	strcpy(t->dir, "/tmp/snap-pack.XXXXXX");
	assert_non_null(mkdtemp(t->dir));
	t->fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t->memory = memfd_create("memory", MFD_CLOEXEC);
	t->bytes = calloc(1, SIZE);
	for (u64 i = 0; i < SNAP_PACK; i++) {
		t->bytes[i] = (u8)(random() >> 5);
		t->bytes[2 * SNAP_PACK + i] = "sublet "[i % 7];
	}
	t->bytes[3 * SNAP_PACK + 4711] = 1;
	memset(t->bytes + 4 * SNAP_PACK, 0x5a, 3 * PAGE_SIZE);
	assert_int_equal(file_write_at(t->memory, t->bytes, SIZE, 0), 0);
	assert_int_equal(
		snap_pack_write(t->fd, t->memory, SIZE, &t->p, NULL, NULL, &e),
		0);
	*state = t;
	return 0;
}

static int teardown(void **state)
{
	struct packed *t = *state;

	close(t->fd);
	close(t->memory);
	snap_remove(t->dir);
	free(t->bytes);
	free(t);
	return 0;
}

static struct snap_pack *reopen(struct packed *t, struct err *e)
{
	return snap_pack_open(t->fd, SIZE, &t->p, e);
}

static void flip(struct packed *t, const char *name, off_t at)
{
	int fd = openat(t->fd, name, O_RDWR | O_CLOEXEC);
	u8 b;

	assert_int_equal(pread(fd, &b, 1, at), 1);
	b ^= 0x10;
	assert_int_equal(pwrite(fd, &b, 1, at), 1);
	close(fd);
}

static void test_same(void **state)
{
	struct packed *t = *state;
	struct err e = {{0}};
	struct snap_pack *p = reopen(t, &e);
	u8 *buf = malloc(SNAP_PACK);

	assert_non_null(p);
	assert_true(t->p.bytes < SNAP_PACK + SNAP_PACK / 2);
	for (u64 n = 0; n < PIECES; n++) {
		u64 len = MIN(SNAP_PACK, SIZE - n * SNAP_PACK);
		int rc = snap_pack_read(p, n, buf, &e);

		assert_int_equal(rc, n == 1);
		if (!rc)
			assert_memory_equal(buf, t->bytes + n * SNAP_PACK, len);
	}
	snap_pack_free(p);
	free(buf);
}

static void test_damaged_frame(void **state)
{
	struct packed *t = *state;
	struct err e = {{0}};
	struct snap_pack *p;
	u8 *buf = malloc(SNAP_PACK);

	flip(t, "memory.zst", 1000);
	p = reopen(t, &e);
	assert_non_null(p);
	assert_int_equal(snap_pack_read(p, 0, buf, &e), -EBADMSG);
	assert_non_null(strstr(e.text, "between 0 and 64 KiB"));
	assert_int_equal(snap_pack_read(p, 2, buf, &e), 0);
	snap_pack_free(p);
	free(buf);
}

static void test_damaged_index(void **state)
{
	struct packed *t = *state;
	struct err e = {{0}};

	flip(t, "memory.index", 8);
	assert_null(reopen(t, &e));
	assert_non_null(strstr(e.text, "memory.index is damaged"));
}

static void test_truncated(void **state)
{
	struct packed *t = *state;
	struct err e = {{0}};
	int fd = openat(t->fd, "memory.zst", O_RDWR | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)t->p.bytes - 1), 0);
	close(fd);
	assert_null(reopen(t, &e));
	assert_non_null(strstr(e.text, "memory.zst has"));
}

static bool at_once(void *arg)
{
	(void)arg;
	return true;
}

static void test_given_up(void **state)
{
	struct packed *t = *state;
	struct err e = {{0}};

	unlinkat(t->fd, "memory.zst", 0);
	assert_int_equal(snap_pack_write(t->fd, t->memory, SIZE, &t->p, at_once,
					 NULL, &e),
			 -ECANCELED);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_damaged_frame, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_damaged_index, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_truncated, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_given_up, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
