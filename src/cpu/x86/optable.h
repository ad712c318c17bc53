/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The opcode table as the decoder looks things up in it.
 *
 * All rows that share a map and an opcode stand next to each other in op_rows;
 * op_last has the last of them (0: none). Which of them it is depends on a key
 * made of prefixes and ModRM: op_row.sel has the bits of the key that matter in
 * its upper half and their values in its lower.
 */
#ifndef CPU_X86_OPTABLE_H
#define CPU_X86_OPTABLE_H

#include "cpu/x86/insn.h"

/* The key. Prefix: 0 none, 1 66, 2 F3, 3 F2. */
enum {
	KEY_PREFIX_BIT = 0,
	KEY_DIGIT_BIT = 2,
	KEY_RM_BIT = 5,
	KEY_REG = BIT(8), /* mod is 3 */
	KEY_W = BIT(9),
	KEY_W64 = BIT(10),
	KEY_L = BIT(11),
	KEY_M64 = BIT(12),
	KEY_B = BIT(13),
};

extern const u16 op_last[MAPS][256];

/* The row for an opcode and a key, 0 if it is undefined. */
static inline unsigned op_find(enum op_map map, u8 opcode, u32 key)
{
	unsigned r = op_last[map][opcode];
	const struct op_row *o = &op_rows[r];

	for (; r && o->map == map && (u8)(opcode - o->opcode) < o->span;
	     r--, o--) {
		if (!((key ^ o->sel) & o->sel >> 16))
			return r;
	}
	return 0;
}

#endif
