/* SPDX-License-Identifier: BSD-2-Clause */
/* Running while all other vCPUs of the engine stand still. */
#ifndef CPU_SOFT_EXCLUSIVE_H
#define CPU_SOFT_EXCLUSIVE_H

#include "cpu/soft/soft.h"

/* On v's thread, within an instruction; what is between must not fault. */
void soft_exclusive_begin(struct soft_vcpu *v);
void soft_exclusive_end(struct soft_vcpu *v);

/* ATTN_SYNC; the bit is already cleared. v stands until it may go on. */
void soft_exclusive_answer(struct soft_vcpu *v);

#endif
