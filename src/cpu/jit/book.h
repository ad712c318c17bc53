/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator's books: units by where they are in memory, by page, and by
 * linear address in the map that branches look into; and the links between
 * them.
 */
#ifndef CPU_JIT_BOOK_H
#define CPU_JIT_BOOK_H

#include "cpu/jit/jit_priv.h"

/* Where v->rip is in memory, and the page after, where that matters. */
struct jit_place {
	const u8 *host, *next; /* next: NULL if not known */
	u64 at;                /* offset in the memfd */
	u64 pin;               /* of the units wanted (struct jit_unit) */
	bool code32;
};

/* The unit of that level there, or NULL. */
struct jit_unit *book_find(struct soft_vcpu *v, const struct jit_place *p,
			   u8 level);
/* One to run now: pinned or, from times when it could not be, not. */
struct jit_unit *book_find_any(struct soft_vcpu *v, struct jit_place *p);
/* Enters a new one, whose record is complete. */
void book_add(struct jit *j, struct jit_unit *t);
/* In the page where the instruction of a unit ends; t->twin is that unit. */
void book_add_second(struct jit *j, struct jit_unit *t);

/* The entry of the map for v->rip. */
struct jit_entry *book_entry(struct soft_vcpu *v);
/* From v->rip the map leads to t by that entry. */
void book_map(struct soft_vcpu *v, struct jit_entry *e, struct jit_unit *t);

/* The branch l, which is in that page, goes to t: v->rip is there. What crosses
 * pages is entered only with its key checked, so it may stay as it was. */
void book_link(struct soft_vcpu *v, struct jit_link *l, struct jit_unit *t,
	       u64 page);

/* The kernel's mappings may be others: links that do not check are undone. */
void book_remapped(struct soft_vcpu *v);

/* Drops all units that depend on [off, off + n) of a page. */
void book_written(struct soft_vcpu *v, u64 page, u64 off, u64 n);
/* 64-byte pieces of the page that units depend on; a bit each. */
u64 book_granules(struct soft_vcpu *v, u64 page);

/* Drops the oldest part of all units, which makes room; drops everything. */
void book_evict(struct soft_vcpu *v);
void book_clear(struct soft_vcpu *v);

#endif
