/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Copies guest RAM as it is at one moment into a file, while the guest runs.
 *
 * Where the host allows it (userfaultfd on a memfd, Linux 5.19), all pages are
 * write-protected beforehand; the moment costs only as much as was written
 * since. A store that comes before its page was copied waits for that. Else
 * pages are copied ahead and those written meanwhile again, and the moment
 * takes as long as copying what is left.
 *
 *   snap_ram_new()      any thread; the guest runs
 *   snap_ram_freeze()   the VM is quiesced and its state was saved
 *   snap_ram_copy()     the guest may run again; the rest is copied
 *   snap_ram_free()     in any case
 *
 * The file has the pages at their offset in the memfd, holes for zero pages,
 * and beside it a checksum for each SNAP_CHUNK.
 */
#ifndef VM_SNAP_RAM_H
#define VM_SNAP_RAM_H

#include "base/err.h"
#include "vm/vm.h"

#define SNAP_CHUNK       (2 * MIB)
#define SNAP_CHUNK_PAGES (SNAP_CHUNK / PAGE_SIZE)

struct snap_ram;

/*
 * fd: an empty file, not taken over. only: NULL, or a bit for each page that
 * shall be in the file (a differential snapshot); what is written until the
 * freeze is added to it.
 */
struct snap_ram *snap_ram_new(struct vm *vm, int fd, unsigned long *only,
			      struct err *e);
int snap_ram_freeze(struct snap_ram *r, struct err *e);
/* stop, if not NULL, is asked now and then whether to give up: -ECANCELED. */
int snap_ram_copy(struct snap_ram *r, bool (*stop)(void *arg), void *arg,
		  struct err *e);
void snap_ram_free(struct snap_ram *r);

/* One for each chunk, of the pages that are in the file; after the copy. */
const u32 *snap_ram_sums(const struct snap_ram *r, u64 *n);
u64 snap_ram_stored(const struct snap_ram *r); /* bytes in the file */
bool snap_ram_protects(const struct snap_ram *r);

/* n is a multiple of 64. */
bool snap_is_zero(const void *p, u64 n);

#endif
