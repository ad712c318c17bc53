/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory that threads write all over while it is protected: the copy, of pages
 * before they are written and of the rest afterwards, is memory as it was at
 * the freeze.
 */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mem/mem.h"
#include "vm/snap_wp.h"

#define MEMORY  (24 * MIB)
#define PAGES   (MEMORY / PAGE_SIZE)
#define WRITERS 3
#define ROUNDS  8

struct rig {
	struct mem m;
	pthread_rwlock_t run; /* writers hold it for reading, freezes do not */
	bool end;             /* atomic */
	u64 written;          /* atomic */
	pthread_mutex_t lock;
	bool done[PAGES]; /* lock */
	u8 *copy;         /* lock */
};

static void before(void *arg, u64 page)
{
	struct rig *r = arg;

	pthread_mutex_lock(&r->lock);
	if (!r->done[page])
		memcpy(r->copy + page * PAGE_SIZE, r->m.base + page * PAGE_SIZE,
		       PAGE_SIZE);
	r->done[page] = true;
	pthread_mutex_unlock(&r->lock);
}

/* Few pages are hot, so that several wait for the same. */
static void *writer(void *arg)
{
	struct rig *r = arg;
	u64 x = (u64)pthread_self() | 1;

	while (!__atomic_load_n(&r->end, __ATOMIC_SEQ_CST)) {
		pthread_rwlock_rdlock(&r->run);
		for (int i = 0; i < 64; i++) {
			x = x * 6364136223846793005u + 1442695040888963407u;
			u64 page =
				x >> 40 & 1 ? (x >> 33) % 8 : (x >> 33) % PAGES;

			__atomic_add_fetch(
				(u64 *)(r->m.base + page * PAGE_SIZE), 1,
				__ATOMIC_RELAXED);
		}
		pthread_rwlock_unlock(&r->run);
		__atomic_add_fetch(&r->written, 64, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void wait_writers(struct rig *r, u64 more)
{
	u64 want = __atomic_load_n(&r->written, __ATOMIC_SEQ_CST) + more;

	while (__atomic_load_n(&r->written, __ATOMIC_SEQ_CST) < want)
		usleep(100);
}

static void round_of(struct rig *r, struct snap_wp *w, u8 *want)
{
	unsigned long *dirty;

	wait_writers(r, 2000);
	pthread_rwlock_wrlock(&r->run);
	assert_int_equal(snap_wp_freeze(w, &dirty, NULL), 0);
	memcpy(want, r->m.base, MEMORY);
	snap_wp_thaw(w);
	pthread_rwlock_unlock(&r->run);
	wait_writers(r, 2000);
	for (u64 p = 0; p < PAGES; p++)
		before(r, p);
	assert_memory_equal(r->copy, want, MEMORY);
}

static void test_as_it_was(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	u8 *want = malloc(MEMORY);
	pthread_rwlockattr_t prefer;
	pthread_t thread[WRITERS];
	struct err e = {{0}};

	(void)state;
	r->copy = malloc(MEMORY);
	pthread_rwlockattr_init(&prefer);
	pthread_rwlockattr_setkind_np(
		&prefer, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&r->run, &prefer);
	pthread_mutex_init(&r->lock, NULL);
	assert_int_equal(mem_init(&r->m, MEMORY, &e), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&thread[i], NULL, writer, r);
	for (int i = 0; i < ROUNDS; i++) {
		struct snap_wp *w = snap_wp_new(&r->m, before, r, &e);

		if (!w) {
			print_message("skipped: %s\n", e.text);
			break;
		}
		memset(r->done, 0, sizeof(r->done));
		round_of(r, w, want);
		snap_wp_free(w);
	}
	__atomic_store_n(&r->end, true, __ATOMIC_SEQ_CST);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	mem_fini(&r->m);
	free(r->copy);
	free(r);
	free(want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_as_it_was)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
