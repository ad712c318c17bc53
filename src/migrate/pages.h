/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Batches of guest pages as the stream carries them: which pages, which of
 * them are zero, and the others' bytes, compressed as one block.
 *
 * Wire: round 4, codec 1, zero 1, pages 2, then for each page its guest
 * physical address with bit 0 set if it is all zeros, then the block.
 */
#ifndef MIGRATE_PAGES_H
#define MIGRATE_PAGES_H

#include "base/err.h"
#include "base/types.h"

#define MIG_BATCH 64u

enum mig_codec { MIG_CODEC_NONE, MIG_CODEC_LZ4, MIG_CODEC_ZSTD, MIG_CODECS };
extern const char *const mig_codec_names[MIG_CODECS];

struct mig_pages {
	u32 round; /* the source's count of rounds: never goes back */
	u32 n, ndata;
	gpa_t gpa[MIG_BATCH];
	bool zero[MIG_BATCH];
	/* of those that are not zero, in order */
	u8 data[MIG_BATCH * PAGE_SIZE] __attribute__((aligned(64)));
};

#define MIG_PAGES_HEAD (8 + MIG_BATCH * 8)
#define MIG_PAGES_MAX  (MIG_PAGES_HEAD + MIG_BATCH * PAGE_SIZE)

bool mig_page_zero(const void *page);

/* Copies the page, which the guest may be writing. n < MIG_BATCH. */
void mig_pages_add(struct mig_pages *p, gpa_t gpa, const void *page);
/* Into out, MIG_PAGES_MAX bytes; returns the length. A block that does not
 * become smaller goes as it is. */
u32 mig_pages_encode(const struct mig_pages *p, enum mig_codec codec, u8 *out);
/* -EPROTO for what encode cannot have made. */
int mig_pages_decode(struct mig_pages *p, const u8 *in, u32 len, struct err *e);

#endif
