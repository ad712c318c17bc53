/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers that kernels touch without asking CPUID, and which
 * here are constants: reads give them, writes are swallowed. Both engines.
 */
#ifndef CPU_X86_MSR_H
#define CPU_X86_MSR_H

#include "base/types.h"

/* False: not one of these, or not to be written: #GP. Any thread. */
bool x86_msr_read(u32 msr, u64 *val);
bool x86_msr_write(u32 msr);

#endif
