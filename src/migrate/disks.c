/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "migrate/disks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backend/disk.h"
#include "base/file.h"
#include "migrate/pages.h"
#include "vm/vm_priv.h"

#define HEAD 16u
/* A disk's name ends so until it is whole. */
#define PARTIAL ".partial"

static u64 disk_words(const struct disk *d)
{
	return ALIGN_UP(disk_track_blocks(d), 64u) / 64;
}

/* ---- source ---- */

int mig_disks_start(struct mig_disks *m, struct vm *vm, struct err *e)
{
	m->frame = malloc(HEAD + DISK_TRACK_BLOCK);
	if (!m->frame)
		return err_set(e, -ENOMEM, "no memory to send disks");
	for (; m->n < vm->config.ndisks; m->n++) {
		struct mig_disk *k = &m->disk[m->n];
		u64 blocks;
		int rc;

		*k = (struct mig_disk){.d = vm->disk[m->n], .fresh = true};
		blocks = disk_track_blocks(k->d);
		k->todo = calloc(disk_words(k->d), 8);
		if (!k->todo)
			return err_set(e, -ENOMEM, "no memory to send disks");
		rc = disk_track_start(k->d, e);
		if (rc)
			return rc;
		for (u64 b = 0; b < blocks; b++)
			k->todo[b / 64] |= BIT64(b % 64);
	}
	return 0;
}

void mig_disks_stop(struct mig_disks *m)
{
	for (unsigned i = 0; i < VM_DISKS; i++) {
		if (m->disk[i].d)
			disk_track_stop(m->disk[i].d);
		free(m->disk[i].todo);
		m->disk[i] = (struct mig_disk){0};
	}
	free(m->frame);
	m->frame = NULL;
	m->n = 0;
}

u64 mig_disks_left(struct mig_disks *m)
{
	u64 n = 0;

	for (unsigned i = 0; i < m->n; i++) {
		struct mig_disk *k = &m->disk[i];

		disk_track_collect(k->d, k->todo);
		for (u64 w = 0; w < disk_words(k->d); w++)
			n += (u64)__builtin_popcountl(k->todo[w]);
	}
	return n * DISK_TRACK_BLOCK;
}

static bool block_zero(const u8 *p, u32 len)
{
	while (len >= PAGE_SIZE && mig_page_zero(p)) {
		p += PAGE_SIZE;
		len -= PAGE_SIZE;
	}
	while (len && !*p) {
		p++;
		len--;
	}
	return !len;
}

static int disk_send_block(struct mig_disks *m, unsigned i, u64 block,
			   struct mig_chan *c, struct err *e)
{
	struct mig_disk *k = &m->disk[i];
	u64 off = block * DISK_TRACK_BLOCK;
	u32 len = (u32)MIN(DISK_TRACK_BLOCK, k->d->size - off);
	bool zero;
	int rc = disk_peek(k->d, off, m->frame + HEAD, len);

	if (rc)
		return err_errno(e, rc, "cannot read disk %u", i);
	zero = block_zero(m->frame + HEAD, len);
	if (zero && k->fresh)
		return 0;
	mig_put(mig_put(mig_put(m->frame, i, 4), len, 4), off, 8);
	return mig_send(c, MIG_DISK, m->frame, HEAD + (zero ? 0 : len), e);
}

static int disk_send(struct mig_disks *m, unsigned i, struct mig_chan *c,
		     struct err *e)
{
	struct mig_disk *k = &m->disk[i];
	int rc = 0;

	for (u64 w = 0; w < disk_words(k->d); w++)
		for (; k->todo[w] && !rc; k->todo[w] &= k->todo[w] - 1)
			rc = disk_send_block(
				m, i, w * 64 + (u64)__builtin_ctzl(k->todo[w]),
				c, e);
	k->fresh = false;
	return rc;
}

int mig_disks_send(struct mig_disks *m, struct mig_chan *c, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < m->n; i++)
		rc = disk_send(m, i, c, e);
	return rc;
}

/* ---- target ---- */

int mig_disk_in_new(struct mig_disk_in *d, const char *dir, const char *name,
		    unsigned n, u64 size, struct err *e)
{
	*d = (struct mig_disk_in){.fd = -1, .size = size};
	if (strchr(name, '/') ||
	    asprintf(&d->path, "%s/%s-disk%u.raw" PARTIAL, dir, name, n) < 0) {
		d->path = NULL;
		return err_set(e, -EINVAL, "'%s' is no name for a disk", name);
	}
	d->final = strlen(d->path) - strlen(PARTIAL);
	d->path[d->final] = 0;
	if (!access(d->path, F_OK))
		return err_set(e, -EEXIST, "the disk %s is there already",
			       d->path);
	d->path[d->final] = PARTIAL[0];
	d->fd = open(d->path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (d->fd < 0 || ftruncate(d->fd, (off_t)size))
		return err_errno(e, -errno, "cannot make the disk %s", d->path);
	return 0;
}

int mig_disk_in_keep(struct mig_disk_in *d, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++) {
		char *partial = strdup(d[i].path);
		int rc = 0;

		d[i].path[d[i].final] = 0;
		if (!partial || rename(partial, d[i].path))
			rc = -errno;
		free(partial);
		if (rc)
			return err_errno(e, rc, "cannot name the disk %s",
					 d[i].path);
	}
	return 0;
}

int mig_disk_in_frame(struct mig_disk_in *d, unsigned n,
		      const struct mig_frame *f, struct err *e)
{
	u32 i = (u32)mig_get(f->data, 4), len = (u32)mig_get(f->data + 4, 4);
	u64 off = mig_get(f->data + 8, 8);
	int rc = 0;

	if (f->len < HEAD || i >= n || off > d[i].size ||
	    len > d[i].size - off || len > DISK_TRACK_BLOCK ||
	    (f->len != HEAD && f->len != HEAD + len))
		return err_set(e, -EPROTO,
			       "the migration stream has a piece of a disk "
			       "that does not exist");
	if (f->len > HEAD)
		rc = file_write_at(d[i].fd, f->data + HEAD, len, off);
	else if (len &&
		 fallocate(d[i].fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			   (off_t)off, len))
		rc = -errno;
	return rc ? err_errno(e, rc, "cannot write the disk %s", d[i].path) : 0;
}

int mig_disk_in_sync(struct mig_disk_in *d, unsigned n, struct err *e)
{
	for (unsigned i = 0; i < n; i++)
		if (fdatasync(d[i].fd))
			return err_errno(e, -errno, "disk %s", d[i].path);
	return 0;
}

void mig_disk_in_free(struct mig_disk_in *d, bool keep)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->fd >= 0 && !keep)
		unlink(d->path);
	free(d->path);
	*d = (struct mig_disk_in){.fd = -1};
}
