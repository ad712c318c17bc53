/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory on its way: rounds of pages over one or several streams.
 *
 * A page always goes over the same stream, so what arrives last on it is the
 * newest. A barrier on every stream ends a round; pages name the round they
 * belong to, and the receiver refuses any other.
 */
#ifndef MIGRATE_RAM_H
#define MIGRATE_RAM_H

#include "mem/mem.h"
#include "migrate/pages.h"
#include "migrate/wire.h"

/* ---- source ---- */

struct mig_ram {
	const struct mem *mem;
	struct mig_chan *chan; /* n of them; not owned */
	unsigned n;
	enum mig_codec codec;
	u32 round;
	unsigned long *todo; /* a bit a page of the memfd: to be sent */
	u64 words;
	u64 sent; /* atomic; pages */
};

int mig_ram_init(struct mig_ram *r, const struct mem *m, struct err *e);
void mig_ram_fini(struct mig_ram *r);

/* To be sent: every page that has ever been touched. The others are zero. */
int mig_ram_all(struct mig_ram *r, struct err *e);
u64 mig_ram_left(const struct mig_ram *r); /* pages */

/*
 * One round: sends the pages in todo, which may be written meanwhile, clears
 * them, and a barrier. The guest may run.
 */
int mig_ram_send(struct mig_ram *r, struct err *e);

/* Where a page of the memfd appears to the guest; ~0: nowhere. */
gpa_t mig_page_gpa(const struct mem *m, u64 page);

/* ---- target ---- */

struct mig_ram_in {
	struct mem *mem;
	unsigned long *known; /* atomic; pages that may not be zero */
};

int mig_ram_in_init(struct mig_ram_in *r, struct mem *m, struct err *e);
void mig_ram_in_fini(struct mig_ram_in *r);
/* Any thread, but a page by one. -EPROTO where there is no memory. */
int mig_ram_apply(struct mig_ram_in *r, const struct mig_pages *p,
		  struct err *e);

#endif
