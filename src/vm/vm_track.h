/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which pages of guest memory were written since one looked last. Several may
 * track at the same time (a migration and a chain of snapshots); each misses
 * nothing. The VM may run all the while.
 */
#ifndef VM_VM_TRACK_H
#define VM_VM_TRACK_H

#include "base/err.h"
#include "base/types.h"

struct vm;
struct vm_track;

/* Everything is clean from now on; the first one slows guest stores down.
 * Any thread. NULL and a sentence on failure. */
struct vm_track *vm_track_new(struct vm *vm, struct err *e);
void vm_track_free(struct vm_track *t); /* NULL: nothing */

/*
 * Sets in dirty (a bit a page of the memfd, vm_track_words() words) what was
 * written since the last call, and leaves its other bits. With the VM
 * quiesced: all of it; else a store that happens meanwhile may come with the
 * next call.
 */
int vm_track_collect(struct vm_track *t, unsigned long *dirty, struct err *e);

u64 vm_track_words(struct vm *vm);

#endif
