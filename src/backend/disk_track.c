/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which blocks of a disk were written. A block is marked when the write has
 * ended: who then reads it sees the new data, and whoever read it before will
 * find it marked.
 */
#include <errno.h>
#include <stdlib.h>

#include "backend/disk.h"

u64 disk_track_blocks(const struct disk *d)
{
	return (d->size + DISK_TRACK_BLOCK - 1) / DISK_TRACK_BLOCK;
}

/* The bits stay until disk_free(): a request may be under way. */
int disk_track_start(struct disk *d, struct err *e)
{
	u64 words = ALIGN_UP(disk_track_blocks(d), 64u) / 64;

	if (!d->track_bits)
		d->track_bits = calloc(words, 8);
	if (!d->track_bits)
		return err_set(e, -ENOMEM, "no memory to track a disk");
	for (u64 i = 0; i < words; i++)
		d->track_bits[i] = 0;
	__atomic_store_n(&d->tracked, true, __ATOMIC_SEQ_CST);
	return 0;
}

void disk_track_stop(struct disk *d)
{
	__atomic_store_n(&d->tracked, false, __ATOMIC_SEQ_CST);
}

void disk_track_collect(struct disk *d, unsigned long *bits)
{
	u64 words = ALIGN_UP(disk_track_blocks(d), 64u) / 64;

	for (u64 i = 0; i < words; i++)
		bits[i] |= __atomic_exchange_n(&d->track_bits[i], 0,
					       __ATOMIC_SEQ_CST);
}

static void track_done(struct disk_req *r, int rc)
{
	struct disk *d = r->track.disk;
	u64 last = (r->track.off + r->track.len - 1) / DISK_TRACK_BLOCK;

	for (u64 b = r->track.off / DISK_TRACK_BLOCK; b <= last; b++)
		__atomic_fetch_or(&d->track_bits[b / 64], BIT64(b % 64),
				  __ATOMIC_SEQ_CST);
	r->done = r->track.done;
	r->done(r, rc);
}

void disk_track_req(struct disk *d, struct disk_req *r)
{
	r->track.disk = d;
	r->track.off = r->off;
	r->track.len = r->len;
	r->track.done = r->done;
	r->done = track_done;
}
