/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoding of blocks (block.c), and the part of the cache that it fills
 * (code.c).
 */
#ifndef CPU_SOFT_BLOCK_H
#define CPU_SOFT_BLOCK_H

#include "cpu/soft/code.h"

#define BLOCK_MAX_SIZE \
	(sizeof(struct soft_block) + BLOCK_MAX_SLOTS * sizeof(struct insn))

/*
 * The block whose first byte is at host, decoded and kept. Not in RAM: the one
 * instruction there, kept nowhere, valid until the next such call. Both may
 * fault on the page after.
 */
struct soft_block *block_decode(struct soft_vcpu *v, gva_t lin, const u8 *host,
				u32 key);
struct soft_block *block_volatile(struct soft_vcpu *v, gva_t lin, u32 key);

/*
 * Makes room in the arena (which may drop all blocks) and marks the pages;
 * the bytes are read after this. Then code_keep() the block that was built at
 * arena + arena_used.
 */
void code_reserve(struct soft_vcpu *v, u64 page, u64 page2);
void code_keep(struct soft_vcpu *v, struct soft_block *b);

#endif
