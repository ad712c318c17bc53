/* SPDX-License-Identifier: BSD-2-Clause */
/* Asks each int_*.c in turn, the most frequent first. */
#include "cpu/soft/int_bind.h"

static insn_fn *(*const int_binders[])(const struct insn *i) = {
	int_bind_lock, /* before int_bind_alu: LOCK forms */
	int_bind_mov,    int_bind_alu, int_bind_branch, int_bind_stack,
	int_bind_shift,  int_bind_mul, int_bind_bit,    int_bind_misc,
	int_bind_string, int_bind_bmi, int_bind_bcd,
};

insn_fn *int_bind(const struct insn *i)
{
	insn_fn *fn = NULL;

	for (unsigned n = 0; !fn && n < ARRAY_LEN(int_binders); n++)
		fn = int_binders[n](i);
	return fn;
}
