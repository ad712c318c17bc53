/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Sets of pages in MISSING and FETCH frames: runs, each the guest physical
 * address of the first page and their number, 8 bytes each.
 */
#ifndef MIGRATE_MISSING_H
#define MIGRATE_MISSING_H

#include "mem/mem.h"
#include "migrate/wire.h"

/* The pages of bits (of the memfd) in as many MISSING frames as it takes, the
 * last of them empty. */
int mig_missing_send(struct mig_chan *c, const struct mem *m,
		     const unsigned long *bits, struct err *e);
/* Adds the pages of a frame to bits; -EPROTO where there is no memory. */
int mig_missing_add(const struct mem *m, const struct mig_frame *f,
		    unsigned long *bits, struct err *e);

#endif
