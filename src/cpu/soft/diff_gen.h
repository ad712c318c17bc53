/* SPDX-License-Identifier: BSD-2-Clause */
/* Private to the generator of differential tests; see diff.h. */
#ifndef CPU_SOFT_DIFF_GEN_H
#define CPU_SOFT_DIFF_GEN_H

#include "cpu/soft/diff.h"

struct diff_gen {
	struct diff_rng r;
	u8 base[DIFF_DATA_SIZE]; /* as filled */
	u8 data[DIFF_DATA_SIZE]; /* for this case */
	unsigned age;            /* cases since base was filled */
	struct diff_regs regs;   /* xsave of the last case */
};

/* diff_state.c */
u64 diff_value(struct diff_rng *r);
void diff_fill_vector(struct diff_rng *r, u8 *p, unsigned n);
void diff_fill_xsave(struct diff_rng *r, u8 *x);
u64 diff_flags(struct diff_rng *r);

/* diff_bytes.c: an encoding of the row at c->bytes; c->insn, c->len. */
bool diff_gen_bytes(struct diff_gen *g, struct diff_case *c);

/* diff_operand.c: what the instruction needs in registers and memory. */
void diff_gen_operands(struct diff_gen *g, struct diff_case *c);

#endif
