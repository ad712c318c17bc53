/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Choosing the handler of an integer instruction: each int_*.c has a binder,
 * which returns NULL for what is not its own.
 */
#ifndef CPU_SOFT_INT_BIND_H
#define CPU_SOFT_INT_BIND_H

#include "cpu/soft/soft.h"

insn_fn *int_bind_alu(const struct insn *i);
insn_fn *int_bind_mov(const struct insn *i);
insn_fn *int_bind_branch(const struct insn *i);
insn_fn *int_bind_stack(const struct insn *i);
insn_fn *int_bind_shift(const struct insn *i);
insn_fn *int_bind_mul(const struct insn *i);
insn_fn *int_bind_bit(const struct insn *i);
insn_fn *int_bind_bmi(const struct insn *i);
insn_fn *int_bind_lock(const struct insn *i);
insn_fn *int_bind_misc(const struct insn *i);
insn_fn *int_bind_bcd(const struct insn *i);
insn_fn *int_bind_string(const struct insn *i);

/* Index of an operand size in tables */
static inline unsigned int_size_index(unsigned size)
{
	return (unsigned)__builtin_ctz(size);
}

/* DO for each condition code */
/* clang-format off */
#define INT_CONDITIONS(DO)                                      \
	DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7)         \
	DO(8) DO(9) DO(10) DO(11) DO(12) DO(13) DO(14) DO(15)
/* clang-format on */

/* Rows of tables: the handlers of one name for all sizes, and all kinds. */
#define INT_SIZES(name)                            \
	{                                          \
		name##1, name##2, name##4, name##8 \
	}
#define INT_KINDS(name)                                               \
	{                                                             \
		name##EA_BD, name##EA_BID, name##EA_X64, name##EA_ANY \
	}
/* Words are rare in memory: one handler does for all kinds of address. */
#define INT_ANY(name)                                                  \
	{                                                              \
		name##EA_ANY, name##EA_ANY, name##EA_ANY, name##EA_ANY \
	}
#define INT_SIZES_KINDS(name)                                             \
	{                                                                 \
		INT_KINDS(name##1), INT_ANY(name##2), INT_KINDS(name##4), \
			INT_KINDS(name##8)                                \
	}

#endif
