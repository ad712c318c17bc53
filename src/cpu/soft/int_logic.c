/* SPDX-License-Identifier: BSD-2-Clause */
/* AND, OR, XOR, TEST. */
#include "cpu/soft/int_alu.h"

ALU_DEFINE(alu_and, ALU_AND)
ALU_DEFINE(alu_or, ALU_OR)
ALU_DEFINE(alu_xor, ALU_XOR)
ALU_DEFINE(alu_test, ALU_TEST)
