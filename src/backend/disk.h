/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disk backends: what stands behind a block device. A raw file or block
 * device, a copy-on-write overlay over another disk; formats and protocols
 * can follow.
 *
 * Life: a function that opens makes the disk, disk_start() binds it to the
 * loop on whose thread everything else happens, disk_free() ends it when no
 * request is under way. Requests are asynchronous and in no order among each
 * other; a flush covers the writes that were done before it was submitted.
 */
#ifndef BACKEND_DISK_H
#define BACKEND_DISK_H

#include <sys/uio.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

#define DISK_SECTOR 512u

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZERO };

struct disk_req {
	enum disk_op op;
	bool sync;         /* write: on stable storage before it is done */
	bool unmap;        /* zero: may free the space */
	u64 off, len;      /* bytes, whole sectors, inside the disk */
	struct iovec *iov; /* read, write: len bytes; used up by the backend */
	unsigned niov;
	/* 0 or -errno. Also called from within disk_submit(). */
	void (*done)(struct disk_req *r, int rc);
	/* What follows is the backend's. */
	struct disk_req *next;
	int fd, rc;
	struct iovec zero;
	struct {
		struct disk *disk;
		u64 off, len;
		void (*done)(struct disk_req *r, int rc);
	} track; /* disk_track.c */
};

struct disk;

struct disk_ops {
	int (*start)(struct disk *d, struct loop *l, struct err *e);
	void (*submit)(struct disk *d, struct disk_req *r);
	void (*kick)(struct disk *d);                        /* NULL-able */
	int (*lock)(struct disk *d, bool on, struct err *e); /* NULL-able */
	int (*sync)(struct disk *d);                         /* NULL-able */
	/* What a read would find; any thread. NULL-able */
	int (*peek)(struct disk *d, u64 off, void *buf, u64 len);
	void (*free)(struct disk *d); /* all but the struct */
};

struct disk {
	const struct disk_ops *ops;
	u64 size;            /* bytes, whole sectors */
	u32 block, physical; /* bytes: smallest unit, best unit */
	bool readonly;
	/* After one or more done() that did not come from disk_submit(). */
	void (*settled)(void *arg);
	void *settled_arg;
	bool tracked; /* atomic; disk_track.c */
	unsigned long *track_bits;
};

int disk_start(struct disk *d, struct loop *l, struct err *e);
void disk_submit(struct disk *d, struct disk_req *r);
/* The end of a batch of submits: now go. */
void disk_kick(struct disk *d);
void disk_free(struct disk *d);
/* Takes or gives up the lock that keeps others off; no request is under way.
 * -EBUSY if another has it. Any thread. */
int disk_lock(struct disk *d, bool on, struct err *e);
/* What was written is on stable storage. Blocks; any thread. */
int disk_sync(struct disk *d);

/* Reads past the queue, while requests may be under way. 0 or -errno; any
 * thread. */
int disk_peek(struct disk *d, u64 off, void *buf, u64 len);

/*
 * Which blocks are written: start when no request is under way; collect moves
 * the bits of those that were written since into bits, and leaves its others.
 * Stop and collect: any thread.
 */
#define DISK_TRACK_BLOCK (64 * KIB)
u64 disk_track_blocks(const struct disk *d);
int disk_track_start(struct disk *d, struct err *e);
void disk_track_collect(struct disk *d, unsigned long *bits);
void disk_track_stop(struct disk *d);
void disk_track_req(struct disk *d, struct disk_req *r); /* disk_submit()'s */

/* The pieces of iov that make up [skip, skip + len); returns their number. */
unsigned disk_iov_slice(struct iovec *out, const struct iovec *iov, unsigned n,
			u64 skip, u64 len);

/*
 * A file or block device. Writable: locked against every other user; read-only:
 * against writers. -EBUSY if another has it.
 */
struct disk *disk_raw_open(const char *path, bool readonly, struct err *e);
/* The same, not yet locked: another still uses it. No request before
 * disk_lock(). */
struct disk *disk_raw_open_unlocked(const char *path, bool readonly,
				    struct err *e);
/* Takes over fd; no lock. */
struct disk *disk_raw_new(int fd, u64 size, struct err *e);

/*
 * A private writable view of base, which is taken over (also on failure) and
 * never written. What is written lives in an unlinked sparse file in dir
 * (NULL: $TMPDIR or /var/tmp), or in memory where there is none, and is gone
 * with the disk.
 */
struct disk *disk_overlay_new(struct disk *base, const char *dir,
			      struct err *e);
bool disk_is_overlay(const struct disk *d);

/*
 * Layers, for snapshots. freeze: what an overlay has so far will not change
 * any more, later writes go elsewhere; no request is under way. export: what
 * all frozen layers have, and a bit for each sector that they have, into two
 * empty files; any thread; sum: CRC-32C of each sector's offset and bytes.
 * disk_layer_open: a disk that is only read, base with such files before it;
 * base is taken over, the files are not.
 */
int disk_overlay_freeze(struct disk *d, struct err *e);
int disk_overlay_export(const struct disk *d, int data_fd, int map_fd, u32 *sum,
			struct err *e);
struct disk *disk_layer_open(struct disk *base, int data_fd, int map_fd,
			     struct err *e);
u64 disk_layer_map_size(u64 disk_size); /* bytes of the map's file */
/* The sum that export gave, of such files. */
int disk_layer_sum(int data_fd, int map_fd, u32 *sum, struct err *e);

#endif
