/* SPDX-License-Identifier: BSD-2-Clause */
/* What int_lock.c and int_bit.c share. */
#ifndef CPU_SOFT_INT_LOCK_H
#define CPU_SOFT_INT_LOCK_H

#include "cpu/soft/soft.h"

u64 int_bit_delta(struct soft_vcpu *v, const struct insn *i, unsigned size);

#endif
