/* SPDX-License-Identifier: BSD-2-Clause */
/* Where memory operands of a differential test go; see diff.h. */
#ifndef CPU_SOFT_DIFF_PLACE_H
#define CPU_SOFT_DIFF_PLACE_H

#include "cpu/soft/diff_gen.h"

/*
 * Solves for registers or displacement so that the memory operand is at a good
 * place; returns the linear address that was aimed at.
 */
u64 diff_place(struct diff_gen *g, struct diff_case *c);
/*
 * Whether the memory operand is where a test may be: not across 4 GiB outside
 * 64-bit mode, and with LOCK not across a cache line.
 */
bool diff_placed(const struct diff_case *c);
/* Makes register reg an offset in segment seg of a good place. */
void diff_place_reg(struct diff_gen *g, struct diff_case *c, unsigned reg,
		    unsigned seg, unsigned size);
void diff_place_stack(struct diff_gen *g, struct diff_case *c);
/* Linear address of the top of the stack. */
u64 diff_stack_lin(const struct diff_case *c);
/* Changes the part of n bytes at lin that is in DIFF_DATA. */
void diff_put(struct diff_gen *g, u64 lin, const void *p, unsigned n);

#endif
