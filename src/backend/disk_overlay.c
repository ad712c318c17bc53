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
#include <sys/stat.h>
#include <unistd.h>

#include "backend/disk.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/log.h"

struct overlay {
	struct disk d;
	struct disk *base, *upper;
	int fd;       /* upper's */
	u64 *written; /* bitmap */
	u64 written_len;
	struct loop *loop; /* once started */
	/* What was written before a freeze; base and that of those before. */
	struct overlay *below;
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
	o->loop = l;
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

static int overlay_lock(struct disk *d, bool on, struct err *e)
{
	return disk_lock(((struct overlay *)d)->base, on, e);
}

/* A sector that is written meanwhile may be seen as it was. */
static int overlay_peek(struct disk *d, u64 off, void *buf, u64 len)
{
	struct overlay *o = (struct overlay *)d;
	u64 s = off / DISK_SECTOR, end = (off + len) / DISK_SECTOR, from;
	int rc = 0;

	while (!rc && s < end) {
		bool upper = overlay_written(o, s);

		for (from = s; s < end && overlay_written(o, s) == upper;)
			s++;
		rc = disk_peek(upper ? o->upper : o->base, from * DISK_SECTOR,
			       (u8 *)buf + (from * DISK_SECTOR - off),
			       (s - from) * DISK_SECTOR);
	}
	return rc;
}

static const struct disk_ops overlay_ops = {
	.start = overlay_start,
	.submit = overlay_submit,
	.kick = overlay_kick,
	.lock = overlay_lock,
	.peek = overlay_peek,
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

static u64 overlay_map_len(u64 size)
{
	return ALIGN_UP(size / DISK_SECTOR / 8 + 8, PAGE_SIZE);
}

/* fd is taken over; map_fd: a file with the bitmap, or -1: all clear. */
static int overlay_upper(struct overlay *o, int fd, int map_fd, struct err *e)
{
	int flags = MAP_PRIVATE | MAP_NORESERVE;

	o->fd = fd;
	o->upper = disk_raw_new(fd, o->base->size, e);
	if (!o->upper)
		return -ENOMEM;
	o->written_len = overlay_map_len(o->base->size);
	o->written =
		mmap(NULL, o->written_len, PROT_READ | PROT_WRITE,
		     map_fd < 0 ? flags | MAP_ANONYMOUS : flags, map_fd, 0);
	if (o->written != MAP_FAILED)
		return 0;
	o->written = NULL;
	return err_errno(e, -errno, "no memory for the map of a disk");
}

static int overlay_open(struct overlay *o, const char *dir, struct err *e)
{
	u64 size = o->base->size;
	int fd = overlay_file(dir, size, e);

	return fd < 0 ? fd : overlay_upper(o, fd, -1, e);
}

/* base is taken over. */
static struct overlay *overlay_alloc(struct disk *base, struct err *e)
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
	if (base->ops == &overlay_ops)
		o->below = (struct overlay *)base;
	return o;
}

struct disk *disk_overlay_new(struct disk *base, const char *dir, struct err *e)
{
	struct overlay *o = overlay_alloc(base, e);

	if (!o || !overlay_open(o, dir, e))
		return o ? &o->d : NULL;
	disk_free(&o->d);
	return NULL;
}

/* ---- layers ---- */

/* A file of just this size; the map is not to be touched past its end. */
static int layer_measure(int data, int map, u64 size, struct err *e)
{
	struct stat d, m;

	if (fstat(data, &d) || fstat(map, &m))
		return err_errno(e, -errno, "a saved disk");
	if ((u64)d.st_size != size || (u64)m.st_size != overlay_map_len(size))
		return err_set(e, -EINVAL,
			       "a saved disk does not have the size of the "
			       "disk it belongs to");
	return 0;
}

struct disk *disk_layer_open(struct disk *base, int data_fd, int map_fd,
			     struct err *e)
{
	struct overlay *o = overlay_alloc(base, e);
	int fd;

	if (!o)
		return NULL;
	fd = layer_measure(data_fd, map_fd, base->size, e)
		     ? -1
		     : fcntl(data_fd, F_DUPFD_CLOEXEC, 0);
	if (fd >= 0 && !overlay_upper(o, fd, map_fd, e))
		return &o->d;
	disk_free(&o->d);
	return NULL;
}

bool disk_is_overlay(const struct disk *d)
{
	return d->ops == &overlay_ops;
}

/* What o has moves into a disk below, and o begins anew. */
int disk_overlay_freeze(struct disk *d, struct err *e)
{
	struct overlay *o = (struct overlay *)d, was = *o;
	struct overlay *low = malloc(sizeof(*low));
	int rc;

	ASSERT(disk_is_overlay(d));
	if (!low)
		return err_set(e, -ENOMEM, "no memory for a disk");
	o->upper = NULL;
	o->written = NULL;
	rc = overlay_open(o, NULL, e);
	if (!rc && was.loop) {
		o->upper->settled = overlay_settled;
		o->upper->settled_arg = o;
		rc = disk_start(o->upper, was.loop, e);
	}
	if (rc) {
		disk_free(o->upper);
		if (o->written)
			munmap(o->written, o->written_len);
		*o = was;
		free(low);
		return rc;
	}
	*low = was;
	low->d.tracked = false; /* requests come in at the top */
	low->d.track_bits = NULL;
	low->base->settled_arg = low->upper->settled_arg = low;
	low->d.settled = overlay_settled;
	low->d.settled_arg = o;
	o->base = &low->d;
	o->below = low;
	return 0;
}

/* The layer that has the sector, from o downwards, or NULL. */
static const struct overlay *layer_of(const struct overlay *o, u64 sector)
{
	while (o && !overlay_written(o, sector))
		o = o->below;
	return o;
}

u64 disk_layer_map_size(u64 size)
{
	return overlay_map_len(size);
}

/* The sum covers the map too: a bit more is a sector more. */
static int layer_sum_word(int data, u64 at, u64 word, u32 *sum)
{
	u8 buf[DISK_SECTOR];

	for (unsigned i = 0; i < 64; i++) {
		u64 off = (at + i) * DISK_SECTOR;

		if (!(word >> i & 1))
			continue;
		if (file_read_at(data, buf, sizeof(buf), off))
			return -EIO;
		*sum = crc32c(*sum, &off, sizeof(off));
		*sum = crc32c(*sum, buf, sizeof(buf));
	}
	return 0;
}

int disk_layer_sum(int data, int map, u32 *sum, struct err *e)
{
	struct stat st;
	int rc = 0;

	*sum = 0;
	if (fstat(map, &st))
		return err_errno(e, -errno, "a saved disk");
	for (u64 at = 0; !rc && at < (u64)st.st_size; at += 8) {
		u64 word;

		rc = file_read_at(map, &word, 8, at);
		if (!rc && word)
			rc = layer_sum_word(data, at * 8, word, sum);
	}
	return rc ? err_errno(e, rc, "cannot read a saved disk") : 0;
}

static int layer_copy(const struct overlay *from, int fd, u64 off, u64 len)
{
	u8 buf[64 * KIB];
	int rc = 0;

	while (len && !rc) {
		u64 n = MIN(len, sizeof(buf));

		rc = file_read_at(from->fd, buf, n, off);
		if (!rc)
			rc = file_write_at(fd, buf, n, off);
		off += n;
		len -= n;
	}
	return rc;
}

int disk_overlay_export(const struct disk *d, int data_fd, int map_fd, u32 *sum,
			struct err *e)
{
	const struct overlay *o = ((const struct overlay *)d)->below;
	u64 end = d->size / DISK_SECTOR, len = overlay_map_len(d->size);
	int rc = 0;

	if (ftruncate(data_fd, (off_t)d->size) || ftruncate(map_fd, (off_t)len))
		return err_errno(e, -errno, "cannot save a disk");
	for (u64 s = 0; !rc && s < end; s += 64) {
		u64 word = 0;

		for (const struct overlay *l = o; l; l = l->below)
			word |= l->written[s / 64];
		if (word)
			rc = file_write_at(map_fd, &word, 8, s / 8);
		for (u64 i = s; !rc && word && i < MIN(s + 64, end); i++) {
			const struct overlay *l = layer_of(o, i);
			u64 from = i;

			if (!l)
				continue;
			while (i + 1 < MIN(s + 64, end) &&
			       layer_of(o, i + 1) == l)
				i++;
			errno = 0;
			rc = layer_copy(l, data_fd, from * DISK_SECTOR,
					(i + 1 - from) * DISK_SECTOR);
		}
	}
	return rc ? err_errno(e, rc, "cannot save a disk")
		  : disk_layer_sum(data_fd, map_fd, sum, e);
}
