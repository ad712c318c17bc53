/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator: a second executor of the soft engine's vCPU, for hot 32-
 * and 64-bit code. The interpreter's loop calls it through struct soft_jit_ops.
 */
#ifndef CPU_JIT_JIT_H
#define CPU_JIT_JIT_H

#include "cpu/soft/soft.h"

/*
 * Gives a vCPU a translator with a code cache of that many bytes (taken as
 * used; 0: the default). Fails with a sentence where the host lacks what it
 * needs (FSGSBASE, AVX2, BMI2): the interpreter alone will do then.
 */
extern const struct soft_translator jit_translator;

/* What it did so far, a line for people. */
void jit_report(const struct soft_vcpu *v, char *buf, size_t size);

#endif
