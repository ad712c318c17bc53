/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a vCPU's instructions wrote to guest memory, byte for byte, so that it
 * can be taken back: for running the same instructions twice (lock step).
 *
 * While v->undo is set a TLB entry has a write tag only if its whole page is
 * noted, so every other store comes to access.c, which notes it here before it
 * is made. Bytes that a device writes
 * meanwhile stay as they are unless the guest wrote the same ones. vCPU thread.
 */
#ifndef CPU_SOFT_UNDO_H
#define CPU_SOFT_UNDO_H

#include "base/types.h"

#define UNDO_WRITES 4096
#define UNDO_BYTES  (256 * KIB)
#define UNDO_TAGS   16

struct tlb_entry;

struct undo_write {
	u8 *host;
	u32 n, at; /* bytes; where they are in bytes[] */
};

struct soft_undo {
	bool on;     /* notes are taken */
	bool full;   /* some did not fit: nothing can be taken back */
	bool walked; /* a walk set A or D in an entry that is noted */
	u32 n, used;
	/* Write tags there are all the same: of pages noted as a whole */
	struct tlb_entry *tag[UNDO_TAGS];
	u32 tags;
	struct undo_write w[UNDO_WRITES];
	u8 before[UNDO_BYTES], after[UNDO_BYTES];
};

void undo_begin(struct soft_undo *u);
/* [host, host + n) is about to be written. */
void undo_note(struct soft_undo *u, void *host, u64 n);
/* No more notes; what was written is kept in after[]. */
void undo_end(struct soft_undo *u);
void undo_roll_back(struct soft_undo *u);
/* Whether the byte at host is noted. */
bool undo_has(const struct soft_undo *u, const void *host);

#endif
