/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where units are: memory for their code, their records and those of their
 * links. It is divided into JIT_SEGMENTS parts, which are filled in turn. When
 * the last is full the first is emptied and filled again, and so on: what goes
 * is what was made longest ago, a part at a time.
 *
 * Records have numbers, of half the size of an address. Number 0 is none.
 */
#ifndef CPU_JIT_SPACE_H
#define CPU_JIT_SPACE_H

#include "cpu/jit/jit_priv.h"

/* For j->buf, in front of which the code that all units share is written before
 * space_clear(). False: no memory for the tables. */
bool space_init(struct jit *j);
void space_fini(struct jit *j);

/* Everything is free again; memory stays with the process until trimmed. */
void space_clear(struct jit *j);
void space_trim(struct jit *j);

/* The sum of all segments. */
struct jit_segment space_used(const struct jit *j);

/* Whether a unit of n instructions has room in the present segment. */
bool space_fits(const struct jit *j, unsigned n);

/* What is in the segment that is filled next: its first unit, how many. Its
 * owner drops them, then says that it is empty. */
struct jit_unit *space_oldest(const struct jit *j, u32 *n);
void space_next(struct jit *j);

/* In the present segment; not NULL after space_fits(). Not cleared. */
struct jit_unit *space_new_unit(struct jit *j);
struct jit_link *space_new_link(struct jit *j);
/* The number that the next link gets. */
u32 space_links(const struct jit *j);

/* Where the next unit's code begins, and where that of n instructions ends at
 * the latest; writable view. What was written up to "end" is kept. */
u8 *space_code(const struct jit *j);
size_t space_code_max(unsigned n);
void space_keep_code(struct jit *j, const u8 *end);

/* Of an address in the writable view: from the cache's beginning. */
static inline u32 space_place(const struct jit *j, const u8 *p)
{
	return (u32)(p - j->buf.write);
}

static inline struct jit_unit *space_unit(const struct jit *j, u32 number)
{
	return &j->unit[number];
}

static inline struct jit_link *space_link(const struct jit *j, u32 number)
{
	return &j->link[number];
}

#endif
