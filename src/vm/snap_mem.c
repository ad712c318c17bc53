/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/snap_mem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "vm/pager.h"
#include "vm/snap_file.h"
#include "vm/snap_pack.h"
#include "vm/snap_ram.h"
#include "vm/vm_priv.h"

_Static_assert(PAGER_PIECE == SNAP_PACK, "a fault reads one frame");

static int mem_open_packed(struct snap *s, json_t *j, struct err *e)
{
	json_int_t bytes, sum;

	if (json_unpack(j, "{s:I, s:I}", "bytes", &bytes, "index_crc32c", &sum))
		return err_set(e, -EINVAL,
			       "the manifest has an incomplete packed memory");
	s->pack =
		snap_pack_open(s->dirfd, s->info.memory,
			       &(struct snap_packed){(u64)bytes, (u32)sum}, e);
	s->piece = malloc(SNAP_PACK);
	if (s->pack && !s->piece)
		return err_set(e, -ENOMEM, "no memory for a snapshot");
	return s->pack ? 0 : -EINVAL;
}

int snap_mem_open(struct snap *s, struct err *e)
{
	json_t *j = json_object_get(json_object_get(s->manifest, "memory"),
				    "packed");

	if (j)
		return mem_open_packed(s, j, e);
	s->memory = snap_open_file(s->dirfd, "memory", s->info.memory, e);
	return MIN(s->memory, 0);
}

void snap_mem_close(struct snap *s)
{
	if (s->memory >= 0)
		close(s->memory);
	s->memory = -1;
	snap_pack_free(s->pack);
	s->pack = NULL;
	free(s->piece);
	s->piece = NULL;
}

bool snap_mem_is_packed(const struct snap *s)
{
	for (; s; s = s->parent)
		if (s->pack)
			return true;
	return false;
}

int snap_mem_file(const struct snap *s)
{
	while (s->parent)
		s = s->parent;
	return s->memory;
}

u64 snap_mem_bits(const struct snap *s, u64 n)
{
	u64 word;

	memcpy(&word, s->map + 8 * n, 8);
	return word;
}

static bool mem_has(const struct snap *s, u64 page)
{
	return snap_mem_bits(s, page / 64) >> (page % 64) & 1;
}

int snap_mem_own(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e)
{
	if (s->pack)
		return snap_pack_read(s->pack, off / SNAP_PACK, buf, e);
	if (file_read_at(s->memory, buf, len, off))
		return err_set(e, -EIO, "its memory cannot be read");
	return snap_is_zero(buf, len);
}

/* Those pages of a difference that it has, over those of before. */
static int mem_overlay(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e)
{
	u64 first = off >> PAGE_SHIFT;
	u8 *own;
	int rc;

	if (!(snap_mem_bits(s, first / 64) >> (first % 64) &
	      (BIT64(SNAP_PACK / PAGE_SIZE) - 1)))
		return 0;
	if (!s->piece)
		s->piece = malloc(SNAP_PACK);
	own = s->piece;
	if (!own)
		return err_set(e, -ENOMEM, "no memory for a snapshot");
	rc = snap_mem_own(s, off, len, own, e);
	if (rc == 1)
		memset(own, 0, len);
	for (u64 i = 0; rc >= 0 && i < len; i += PAGE_SIZE)
		if (mem_has(s, first + i / PAGE_SIZE))
			memcpy(buf + i, own + i, PAGE_SIZE);
	return MIN(rc, 0);
}

int snap_mem_read(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e)
{
	int rc;

	if (!s->parent)
		return snap_mem_own(s, off, len, buf, e);
	rc = snap_mem_read(s->parent, off, len, buf, e);
	if (rc == 1)
		memset(buf, 0, len);
	if (rc >= 0)
		rc = mem_overlay(s, off, len, buf, e);
	return rc ? rc : snap_is_zero(buf, len);
}

/* ---- into a machine ---- */

/* Over the mapped file of the first: what was written since. */
static int mem_load_pages(struct snap *s, struct vm *vm, struct err *e)
{
	int rc;

	if (!s->parent)
		return 0;
	rc = mem_load_pages(s->parent, vm, e);
	for (u64 p = 0; !rc && p < s->info.memory >> PAGE_SHIFT; p++) {
		if (p % 64 == 0 && !snap_mem_bits(s, p / 64)) {
			p += 63;
			continue;
		}
		if (mem_has(s, p) &&
		    pread(s->memory, vm->mem.base + p * PAGE_SIZE, PAGE_SIZE,
			  (off_t)(p * PAGE_SIZE)) != (ssize_t)PAGE_SIZE)
			rc = err_set(e, -EIO, "its memory cannot be read");
	}
	return rc;
}

static int mem_source(void *arg, u64 off, u64 len, u8 *buf, struct err *e)
{
	struct snap *s = arg;
	struct err was;
	int rc = snap_mem_read(s, off, len, buf, e);

	if (rc >= 0)
		return rc;
	was = *e;
	return err_set(e, rc, "%s: %.400s", s->dir, was.text);
}

int snap_mem_load(struct snap *s, struct vm *vm, struct err *e)
{
	struct pager_source source = {mem_source, s};

	if (vm->config.ram_file)
		return mem_load_pages(s, vm, e);
	if (s->backend.kind == SNAP_MEMORY_UFFD)
		vm->pager = pager_new_handler(vm, s->backend.socket, e);
	else
		vm->pager = pager_new(vm, &source, e);
	return vm->pager ? 0 : -EIO;
}
