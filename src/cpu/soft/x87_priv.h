/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files for x87 instructions share: x87.c runs them, x87_live.c knows
 * where the state is, x87_env.c has control instructions and environments.
 */
#ifndef CPU_SOFT_X87_PRIV_H
#define CPU_SOFT_X87_PRIV_H

#include "cpu/soft/simd_priv.h"

/* NULL if i is not a control instruction. */
insn_fn *x87_control_bind(const struct insn *i);
/* Whether its handler wants the thunk of the instruction in i->aux. */
bool x87_control_has_thunk(const struct insn *i);

/* Runs i's thunk on mem, with the state in v->xsave before and after. */
void x87_alone(struct soft_vcpu *v, const struct insn *i, void *mem);

/* x87_live.c: v->xsave to the host's x87; it is not live yet. */
void x87_go_live(struct soft_vcpu *v);
void x87_clear_pointers(struct soft_vcpu *v);

#endif
