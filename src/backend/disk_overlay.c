/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copy-on-write: a base that is only read and an upper disk for what was
 * written, with a bit for each sector that says where it is. As the unit is
 * the sector, no write ever has to read and copy the rest of a block; the
 * bitmap is memory that is only there once touched (4 KiB for 16 MiB of
 * disk).
 *
 * The bit is set when the write has ended: a read at the same time sees the
 * old data or the new, a write that failed leaves the old.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/disk.h"
#include "base/log.h"

struct overlay {
	struct disk d;
	struct disk *base, *upper;
	u64 *written; /* bitmap */
	u64 written_len;
};

/* A guest's request that was split. */
struct whole {
	struct disk_req *r;
	struct overlay *o;
	u64 off, len;
	unsigned left; /* parts under way, and one while splitting */
	int rc;
};

struct part {
	struct disk_req r;
	struct whole *whole;
	struct iovec iov[];
};

static bool overlay_written(const struct overlay *o, u64 sector)
{
	return o->written[sector / 64] >> (sector % 64) & 1;
}

static void overlay_mark(struct overlay *o, u64 off, u64 len)
{
	u64 s = off / DISK_SECTOR, end = (off + len) / DISK_SECTOR;

	for (; s < end && s % 64; s++)
		o->written[s / 64] |= BIT64(s % 64);
	for (; s + 64 <= end; s += 64)
		o->written[s / 64] = ~0ull;
	for (; s < end; s++)
		o->written[s / 64] |= BIT64(s % 64);
}

static void whole_put(struct whole *w, int rc)
{
	if (rc && !w->rc)
		w->rc = rc;
	if (--w->left)
		return;
	if (!w->rc && w->r->op != DISK_READ)
		overlay_mark(w->o, w->off, w->len);
	w->r->done(w->r, w->rc);
	free(w);
}

static void part_done(struct disk_req *r, int rc)
{
	struct part *p = container_of(r, struct part, r);
	struct whole *w = p->whole;

	free(p);
	whole_put(w, rc);
}

static void whole_part(struct whole *w, struct disk *to, u64 off, u64 len)
{
	struct disk_req *r = w->r;
	struct part *p = calloc(1, sizeof(*p) + r->niov * sizeof(p->iov[0]));

	w->left++;
	if (!p) {
		whole_put(w, -ENOMEM);
		return;
	}
	p->whole = w;
	p->r = (struct disk_req){
		.op = r->op == DISK_DISCARD ? DISK_ZERO : r->op,
		.unmap = true,
		.off = off,
		.len = len,
		.iov = p->iov,
		.niov = disk_iov_slice(p->iov, r->iov, r->niov, off - w->off,
				       len),
		.done = part_done,
	};
	disk_submit(to, &p->r);
}

static void overlay_read(struct whole *w)
{
	struct overlay *o = w->o;
	u64 s = w->off / DISK_SECTOR, end = (w->off + w->len) / DISK_SECTOR;

	while (s < end) {
		bool upper = overlay_written(o, s);
		u64 from = s;

		while (s < end && overlay_written(o, s) == upper)
			s++;
		whole_part(w, upper ? o->upper : o->base, from * DISK_SECTOR,
			   (s - from) * DISK_SECTOR);
	}
}

/* What is private and gone with the disk needs no flush. */
static void overlay_submit(struct disk *d, struct disk_req *r)
{
	struct whole *w;

	if (r->op == DISK_FLUSH) {
		r->done(r, 0);
		return;
	}
	w = calloc(1, sizeof(*w));
	if (!w) {
		r->done(r, -ENOMEM);
		return;
	}
	w->r = r;
	w->o = (struct overlay *)d;
	w->off = r->off;
	w->len = r->len;
	w->left = 1;
	if (r->op == DISK_READ)
		overlay_read(w);
	else
		whole_part(w, w->o->upper, w->off, w->len);
	whole_put(w, 0);
}

static void overlay_kick(struct disk *d)
{
	struct overlay *o = (struct overlay *)d;

	disk_kick(o->base);
	disk_kick(o->upper);
}

static void overlay_settled(void *arg)
{
	struct overlay *o = arg;

	if (o->d.settled)
		o->d.settled(o->d.settled_arg);
}

static int overlay_start(struct disk *d, struct loop *l, struct err *e)
{
	struct overlay *o = (struct overlay *)d;
	int rc;

	o->base->settled = o->upper->settled = overlay_settled;
	o->base->settled_arg = o->upper->settled_arg = o;
	rc = disk_start(o->base, l, e);
	return rc ? rc : disk_start(o->upper, l, e);
}

static void overlay_free(struct disk *d)
{
	struct overlay *o = (struct overlay *)d;

	disk_free(o->base);
	disk_free(o->upper);
	if (o->written)
		munmap(o->written, o->written_len);
}

static const struct disk_ops overlay_ops = {
	.start = overlay_start,
	.submit = overlay_submit,
	.kick = overlay_kick,
	.free = overlay_free,
};

/* An unlinked file of this size, or memory. */
static int overlay_file(const char *dir, u64 size, struct err *e)
{
	int fd, rc;

	if (!dir)
		dir = getenv("TMPDIR");
	if (!dir || !*dir)
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd < 0) {
		log_debug("no file in %s: what disks write is in memory", dir);
		fd = memfd_create("sublet-overlay", MFD_CLOEXEC);
	}
	if (fd < 0)
		return err_errno(e, -errno, "cannot make a file in %s", dir);
	if (!ftruncate(fd, (off_t)size))
		return fd;
	rc = err_errno(e, -errno, "cannot make a file of %llu MiB in %s",
		       size / MIB, dir);
	close(fd);
	return rc;
}

static int overlay_open(struct overlay *o, const char *dir, struct err *e)
{
	u64 size = o->base->size;
	int fd = overlay_file(dir, size, e);

	if (fd < 0)
		return fd;
	o->upper = disk_raw_new(fd, size, e);
	if (!o->upper)
		return -ENOMEM;
	o->written_len = ALIGN_UP(size / DISK_SECTOR / 8 + 8, PAGE_SIZE);
	o->written = mmap(NULL, o->written_len, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (o->written != MAP_FAILED)
		return 0;
	o->written = NULL;
	return err_errno(e, -errno, "no memory for the map of a disk");
}

struct disk *disk_overlay_new(struct disk *base, const char *dir, struct err *e)
{
	struct overlay *o = calloc(1, sizeof(*o));

	if (!o) {
		disk_free(base);
		err_set(e, -ENOMEM, "no memory for a disk");
		return NULL;
	}
	o->base = base;
	o->d.ops = &overlay_ops;
	o->d.size = base->size;
	o->d.block = base->block;
	o->d.physical = base->physical;
	if (overlay_open(o, dir, e)) {
		disk_free(&o->d);
		return NULL;
	}
	return &o->d;
}
