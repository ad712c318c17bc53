/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the two files for x87 instructions share: x87.c runs them, x87_env.c
 * has control instructions and environments.
 */
#ifndef CPU_SOFT_X87_PRIV_H
#define CPU_SOFT_X87_PRIV_H

#include "cpu/soft/simd_priv.h"

/* NULL if i is not a control instruction. */
insn_fn *x87_control_bind(const struct insn *i);
/* Whether its handler wants the thunk of the instruction in i->aux. */
bool x87_control_has_thunk(const struct insn *i);

/* Runs i's thunk on mem, keeping pointers as the guest must see them. */
void x87_call(struct soft_vcpu *v, const struct insn *i, void *mem);

#endif
