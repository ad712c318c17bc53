/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the two files of thunks share: thunk.c keeps them by key, thunk_emit.c
 * writes their code.
 */
#ifndef CPU_SOFT_THUNK_PRIV_H
#define CPU_SOFT_THUNK_PRIV_H

#include "cpu/soft/simd_priv.h"

#define THUNK_MAX 192 /* bytes of code, at most */

/* The key: everything of the encoding but the registers and the address. */
enum thunk_key_bits {
	KEY_OP = 0,
	KEY_IMM = 8,
	KEY_ROW = 16,
	KEY_PP = 32,  /* 0, 66, F3, F2 */
	KEY_EXT = 34, /* ModRM.reg where it extends the opcode */
	KEY_REG4 = 37,
	KEY_W = 41,
	KEY_L = 42,
	KEY_MEM = 43,
	KEY_HAS_IMM = 44,
	KEY_VALID = 63,
};

static inline unsigned key_field(u64 key, unsigned at, unsigned bits)
{
	return (unsigned)(key >> at) & (BIT(bits) - 1);
}

/* What the operands of a row are, by place in the encoding. */
struct thunk_shape {
	u8 reg, rm, vex, reg4; /* OPK_* with READ and WRITE; 0: none */
	bool xmm0;
};

/*
 * Writes the code of key's thunk, of this shape, at *p and moves it on.
 * Returns where a trapped run goes on, or NULL.
 */
u8 *thunk_emit(u8 **p, u64 key, const struct thunk_shape *s);

#endif
