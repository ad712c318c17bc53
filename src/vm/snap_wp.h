/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Write protection of guest RAM through userfaultfd: first to learn which
 * pages are written, then, from one moment on, to do something with each page
 * before it is written. Stores of vCPUs, devices and the kernel are all held.
 *
 * snap_wp_new() protects everything while the guest runs; snap_wp_freeze() at
 * a quiesce point protects again what was written since and gives a bit for
 * each such page; snap_wp_thaw() follows, then the guest may go on.
 */
#ifndef VM_SNAP_WP_H
#define VM_SNAP_WP_H

#include "mem/mem.h"

struct snap_wp;

/* before(arg, page) on a thread of its own, after the thaw. NULL and the
 * reason where the host cannot do it. */
struct snap_wp *snap_wp_new(struct mem *m, void (*before)(void *arg, u64 page),
			    void *arg, struct err *e);
int snap_wp_freeze(struct snap_wp *w, unsigned long **dirty, struct err *e);
void snap_wp_thaw(struct snap_wp *w);
/* Stores to these bytes of the memfd need not wait any more. */
void snap_wp_release(struct snap_wp *w, u64 off, u64 len);
void snap_wp_free(struct snap_wp *w);

#endif
