/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory of a snapshot, compressed: memory.zst has a zstd frame for each
 * SNAP_PACK bytes that are not all zero, one after another; memory.index has
 * an entry for each SNAP_PACK bytes, little-endian: offset of the frame (8),
 * its length (4; 0: zeros), its CRC-32C (4).
 */
#ifndef VM_SNAP_PACK_H
#define VM_SNAP_PACK_H

#include "base/err.h"
#include "base/types.h"

#define SNAP_PACK (64 * KIB)

/* What the manifest says of both files. */
struct snap_packed {
	u64 bytes;     /* of memory.zst */
	u32 index_sum; /* CRC-32C of memory.index */
};

/* Packs the first size bytes of the file memory into new files in dirfd, on
 * stable storage. stop as in snap_ram_copy(). */
int snap_pack_write(int dirfd, int memory, u64 size, struct snap_packed *out,
		    bool (*stop)(void *arg), void *arg, struct err *e);

struct snap_pack;
/* NULL and a sentence on failure. The index is checked, frames are when they
 * are read. */
struct snap_pack *snap_pack_open(int dirfd, u64 size,
				 const struct snap_packed *want, struct err *e);
void snap_pack_free(struct snap_pack *p); /* NULL: nothing */
/* The n-th SNAP_PACK bytes, or what there is of them at the end. 1: zeros, and
 * buf was not touched. One thread at a time. */
int snap_pack_read(struct snap_pack *p, u64 n, u8 *buf, struct err *e);

#endif
