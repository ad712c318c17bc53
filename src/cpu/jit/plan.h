/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the translator does with each instruction, from the opcode table: how
 * it is written and which general registers it reads and writes.
 */
#ifndef CPU_JIT_PLAN_H
#define CPU_JIT_PLAN_H

#include "cpu/x86/insn.h"

enum { USE_NONE, USE_R, USE_W, USE_RW };

/* Use of ModRM.reg, of r/m if a register, and of VEX.vvvv, as general ones. */
struct plan_use {
	u8 reg, rm, v;
};

/* enum unit_kind (unit.h) of an instruction. */
u8 plan_insn(const struct insn *i);
/* The same in 32-bit code with flat segments. */
u8 plan_insn32(const struct insn *i);
/* For UNIT_PLAIN and UNIT_SIMD. */
struct plan_use plan_use(const struct insn *i);

#endif
