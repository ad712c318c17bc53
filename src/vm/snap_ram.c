/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "vm/snap_ram.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"
#include "vm/pager.h"
#include "vm/snap_wp.h"
#include "vm/vm_priv.h"
#include "vm/vm_track.h"

#define RAM_SLICE  16   /* pages copied with the lock held */
#define RAM_PASSES 4    /* of copying ahead, at most */
#define RAM_FEW    1024 /* pages: not worth another pass */

struct snap_ram {
	struct vm *vm;
	struct mem *m;
	int fd;
	u64 pages, chunks;
	unsigned long *data; /* pages that are not certainly zero */
	unsigned long *done; /* pages that are in the file; lock */
	unsigned long *only; /* NULL, or the caller's */
	unsigned long *todo; /* without protection: written meanwhile */
	u32 *sums;
	u8 *stage;          /* a chunk */
	u64 stored;         /* lock */
	struct snap_wp *wp; /* NULL: copying ahead */
	struct vm_track *track;
	int failed; /* lock; -errno of a write to the file */
	pthread_mutex_t lock;
};

static bool bit(const unsigned long *map, u64 n)
{
	return map[n / 64] >> (n % 64) & 1;
}

static void bit_set(unsigned long *map, u64 n)
{
	map[n / 64] |= BIT64(n % 64);
}

bool snap_is_zero(const void *p, u64 n)
{
	const u64 *w = p;

	for (u64 i = 0; i < n / 8; i += 8)
		if (w[i] | w[i + 1] | w[i + 2] | w[i + 3] | w[i + 4] |
		    w[i + 5] | w[i + 6] | w[i + 7])
			return false;
	return true;
}

/* ---- which pages may be other than zero ---- */

/* Parts of the file behind the memory that were ever written. */
static void ram_find_file(struct snap_ram *r)
{
	off_t at = 0, end;

	while ((at = lseek(r->m->fd, at, SEEK_DATA)) >= 0) {
		end = lseek(r->m->fd, at, SEEK_HOLE);
		if (end < 0)
			break;
		for (u64 p = (u64)at >> PAGE_SHIFT;
		     p <
		     MIN(ALIGN_UP((u64)end, PAGE_SIZE) >> PAGE_SHIFT, r->pages);
		     p++)
			bit_set(r->data, p);
		at = end;
	}
}

/* Where only the pages of a file's private mapping differ from it. */
static int ram_find_private(struct snap_ram *r, struct err *e)
{
	struct mem_walk w = {.mem = r->m};
	u64 page;
	int rc;

	while ((rc = mem_private_next(&w, &page)) > 0)
		bit_set(r->data, page);
	return rc ? err_errno(e, rc, "cannot tell which memory was written")
		  : 0;
}

static int ram_find(struct snap_ram *r, struct err *e)
{
	ram_find_file(r);
	return r->m->private ? ram_find_private(r, e) : 0;
}

/* ---- pages into the file ---- */

/* With the lock held: page p as it is now, if it is not there yet. */
static void ram_take(struct snap_ram *r, u64 p)
{
	const u8 *from = r->m->base + p * PAGE_SIZE;
	int rc;

	if (bit(r->done, p) || (r->only && !bit(r->only, p)))
		return;
	bit_set(r->done, p);
	if (!bit(r->data, p) || snap_is_zero(from, PAGE_SIZE))
		return;
	rc = file_write_at(r->fd, from, PAGE_SIZE, p * PAGE_SIZE);
	if (rc && !r->failed)
		r->failed = rc;
	r->stored += PAGE_SIZE;
}

/* A store is waiting for page p. */
static void ram_before_write(void *arg, u64 p)
{
	struct snap_ram *r = arg;

	pthread_mutex_lock(&r->lock);
	ram_take(r, p);
	pthread_mutex_unlock(&r->lock);
}

/* Pages [from, to) of a chunk that are wanted now, into the stage; fresh gets
 * their bits. */
static void ram_stage(struct snap_ram *r, u64 chunk, unsigned from, unsigned to,
		      unsigned long *fresh)
{
	u64 first = chunk * SNAP_CHUNK_PAGES;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = from; i < to && first + i < r->pages; i++) {
		u64 p = first + i;

		if (bit(r->done, p) || (r->only && !bit(r->only, p)))
			continue;
		bit_set(r->done, p);
		bit_set(fresh, i);
		if (bit(r->data, p))
			memcpy(r->stage + i * PAGE_SIZE,
			       r->m->base + p * PAGE_SIZE, PAGE_SIZE);
	}
	pthread_mutex_unlock(&r->lock);
}

/* Runs of pages that are fresh and not zero. */
static int ram_flush(struct snap_ram *r, u64 chunk, const unsigned long *fresh)
{
	unsigned at = 0, n;
	int rc = 0;

	while (!rc && at < SNAP_CHUNK_PAGES) {
		for (n = at; n < SNAP_CHUNK_PAGES && bit(fresh, n) &&
			     !snap_is_zero(r->stage + n * PAGE_SIZE, PAGE_SIZE);
		     n++)
			;
		if (n > at) {
			rc = file_write_at(r->fd, r->stage + at * PAGE_SIZE,
					   (n - at) * PAGE_SIZE,
					   chunk * SNAP_CHUNK + at * PAGE_SIZE);
			r->stored += (n - at) * PAGE_SIZE;
		}
		at = n + 1;
	}
	return rc;
}

/* The checksum of what the file has of this chunk. */
static int ram_sum(struct snap_ram *r, u64 chunk, const unsigned long *fresh)
{
	u64 first = chunk * SNAP_CHUNK_PAGES;
	u32 sum = 0;

	for (unsigned i = 0; i < SNAP_CHUNK_PAGES && first + i < r->pages;
	     i++) {
		u8 *at = r->stage + i * PAGE_SIZE;

		if (!bit(r->done, first + i))
			continue;
		if (!bit(fresh, i) && pread(r->fd, at, PAGE_SIZE,
					    (off_t)((first + i) * PAGE_SIZE)) !=
					      (ssize_t)PAGE_SIZE)
			return -EIO;
		sum = crc32c(sum, at, PAGE_SIZE);
	}
	r->sums[chunk] = sum;
	return 0;
}

/* Nothing to read: none of its pages is wanted, or all are zero. */
static bool ram_chunk_empty(const struct snap_ram *r, u64 chunk)
{
	u64 from = chunk * SNAP_CHUNK_PAGES / 64;

	for (u64 i = from; i < from + SNAP_CHUNK_PAGES / 64; i++)
		if (r->data[i] || (r->only && r->only[i]))
			return false;
	return true;
}

static int ram_chunk(struct snap_ram *r, u64 chunk, bool sum)
{
	unsigned long fresh[SNAP_CHUNK_PAGES / 64] = {0};
	int rc;

	memset(r->stage, 0, SNAP_CHUNK);
	for (unsigned i = 0; i < SNAP_CHUNK_PAGES; i += RAM_SLICE)
		ram_stage(r, chunk, i, i + RAM_SLICE, fresh);
	if (r->wp)
		snap_wp_release(
			r->wp, chunk * SNAP_CHUNK,
			MIN(SNAP_CHUNK, r->m->size - chunk * SNAP_CHUNK));
	rc = ram_flush(r, chunk, fresh);
	if (!rc && sum)
		rc = ram_sum(r, chunk, fresh);
	return rc;
}

static int ram_failed(struct snap_ram *r, int rc, struct err *e)
{
	pthread_mutex_lock(&r->lock);
	rc = rc ? rc : r->failed;
	pthread_mutex_unlock(&r->lock);
	return rc ? err_errno(e, rc, "cannot write the memory of the snapshot")
		  : 0;
}

/* ---- copying ahead ---- */

/* Pages that were written since leave the file's good ones. */
static int ram_again(struct snap_ram *r, u64 *n, struct err *e)
{
	u64 words = vm_track_words(r->vm);
	int rc;

	memset(r->todo, 0, words * 8);
	rc = vm_track_collect(r->track, r->todo, e);
	*n = 0;
	for (u64 i = 0; !rc && i < words; i++) {
		*n += (u64)__builtin_popcountl(r->todo[i]);
		r->data[i] |= r->todo[i];
		r->done[i] &= ~r->todo[i];
		if (r->only)
			r->only[i] |= r->todo[i];
	}
	return rc;
}

/* What was zero and is written again, or the other way round, must not show
 * through: holes are made anew. */
static int ram_pass(struct snap_ram *r, struct err *e)
{
	int rc = 0;

	for (u64 p = 0; !rc && p < r->pages; p++) {
		if (!bit(r->data, p) || bit(r->done, p) ||
		    (r->only && !bit(r->only, p)))
			continue;
		bit_set(r->done, p);
		rc = file_write_at(r->fd, r->m->base + p * PAGE_SIZE, PAGE_SIZE,
				   p * PAGE_SIZE);
		r->stored += PAGE_SIZE;
	}
	return ram_failed(r, rc, e);
}

static int ram_ahead(struct snap_ram *r, struct err *e)
{
	u64 n = RAM_FEW + 1;
	int rc;

	r->todo = calloc(vm_track_words(r->vm), 8);
	if (!r->todo)
		return err_set(e, -ENOMEM, "no memory for a snapshot");
	r->track = vm_track_new(r->vm, e);
	if (!r->track)
		return -ENOMEM;
	rc = ram_find(r, e);
	for (int i = 0; !rc && i < RAM_PASSES && n > RAM_FEW; i++) {
		rc = ram_pass(r, e);
		if (!rc)
			rc = ram_again(r, &n, e);
	}
	return rc;
}

/* ---- as a whole ---- */

static int ram_start(struct snap_ram *r, struct err *e)
{
	struct err why = {{0}};

	int rc = pager_finish(r->vm->pager, e);

	if (rc)
		return rc;
	if (ftruncate(r->fd, (off_t)r->m->size))
		return err_errno(e, -errno, "cannot make the memory file");
	if (!r->m->private)
		r->wp = snap_wp_new(r->m, ram_before_write, r, &why);
	if (r->wp)
		return ram_find(r, e);
	if (*why.text)
		log_info("snapshot: %s; copying ahead instead", why.text);
	return ram_ahead(r, e);
}

struct snap_ram *snap_ram_new(struct vm *vm, int fd, unsigned long *only,
			      struct err *e)
{
	struct snap_ram *r = calloc(1, sizeof(*r));
	u64 words = vm_track_words(vm);

	if (!r) {
		err_set(e, -ENOMEM, "no memory for a snapshot");
		return NULL;
	}
	r->vm = vm;
	r->m = &vm->mem;
	r->fd = fd;
	r->only = only;
	r->pages = r->m->size >> PAGE_SHIFT;
	r->chunks = ALIGN_UP(r->m->size, SNAP_CHUNK) / SNAP_CHUNK;
	words = ALIGN_UP(words, SNAP_CHUNK_PAGES / 64);
	pthread_mutex_init(&r->lock, NULL);
	r->data = calloc(words, 8);
	r->done = calloc(words, 8);
	r->sums = calloc(r->chunks, sizeof(*r->sums));
	r->stage = malloc(SNAP_CHUNK);
	if (!r->data || !r->done || !r->sums || !r->stage)
		err_set(e, -ENOMEM, "no memory for a snapshot");
	else if (!ram_start(r, e))
		return r;
	snap_ram_free(r);
	return NULL;
}

int snap_ram_freeze(struct snap_ram *r, struct err *e)
{
	unsigned long *dirty;
	u64 n;
	int rc;

	if (!r->wp) {
		rc = ram_again(r, &n, e);
		return rc ? rc : ram_pass(r, e);
	}
	rc = snap_wp_freeze(r->wp, &dirty, e);
	for (u64 i = 0; !rc && i < vm_track_words(r->vm); i++) {
		r->data[i] |= dirty[i];
		if (r->only)
			r->only[i] |= dirty[i];
	}
	if (!rc)
		snap_wp_thaw(r->wp);
	return rc;
}

int snap_ram_copy(struct snap_ram *r, bool (*stop)(void *arg), void *arg,
		  struct err *e)
{
	u32 zero;
	int rc = 0;

	memset(r->stage, 0, SNAP_CHUNK);
	zero = crc32c(0, r->stage, SNAP_CHUNK);
	for (u64 c = 0; !rc && c < r->chunks; c++) {
		if (stop && stop(arg))
			return err_set(e, -ECANCELED,
				       "the snapshot was given up");
		if (!ram_chunk_empty(r, c) ||
		    (c == r->chunks - 1 && r->m->size % SNAP_CHUNK))
			rc = ram_chunk(r, c, true);
		else
			r->sums[c] = r->only ? 0 : zero;
	}
	return ram_failed(r, rc, e);
}

void snap_ram_free(struct snap_ram *r)
{
	if (!r)
		return;
	snap_wp_free(r->wp);
	vm_track_free(r->track);
	free(r->data);
	free(r->done);
	free(r->todo);
	free(r->sums);
	free(r->stage);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

const u32 *snap_ram_sums(const struct snap_ram *r, u64 *n)
{
	*n = r->chunks;
	return r->sums;
}

u64 snap_ram_stored(const struct snap_ram *r)
{
	return r->stored;
}

bool snap_ram_protects(const struct snap_ram *r)
{
	return r->wp;
}
