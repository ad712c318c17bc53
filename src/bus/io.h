/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Port and MMIO dispatch: address ranges to functions given an offset.
 *
 * Look-ups may come from every vCPU at once; a range is called without the
 * space's lock held, so a handler may map and unmap ranges (PCI BARs). A
 * device is freed only when no vCPU runs.
 *
 * Accesses no range claims read as all ones and are dropped on write, and are
 * counted. An access that a range cannot take (len too long) is the range's
 * own affair: read() returns what hardware would.
 */
#ifndef BUS_IO_H
#define BUS_IO_H

#include "base/err.h"
#include "base/types.h"

struct io_ops {
	/* off: from the range's base; len: 1, 2, 4 or 8 bytes. */
	u64 (*read)(void *arg, u64 off, unsigned len);
	void (*write)(void *arg, u64 off, u64 val, unsigned len);
};

struct io_space;

struct io_space *io_space_new(const char *name);
void io_space_free(struct io_space *s);

/* Ranges must not overlap: -EEXIST. name must outlive the range. */
int io_map(struct io_space *s, u64 base, u64 len, const struct io_ops *ops,
	   void *arg, const char *name, struct err *e);
void io_unmap(struct io_space *s, u64 base);

u64 io_read(struct io_space *s, u64 addr, unsigned len);
void io_write(struct io_space *s, u64 addr, u64 val, unsigned len);

u64 io_unclaimed(const struct io_space *s); /* accesses that hit nothing */

/* Calls fn for each range in address order (for dumps and tests). */
void io_walk(struct io_space *s,
	     void (*fn)(void *arg, u64 base, u64 len, const char *name),
	     void *arg);

#endif
