/* SPDX-License-Identifier: BSD-2-Clause */
/* ADD, ADC, SUB, SBB, CMP. */
#include "cpu/soft/int_alu.h"

ALU_DEFINE(alu_add, ALU_ADD)
ALU_DEFINE(alu_adc, ALU_ADC)
ALU_DEFINE(alu_sub, ALU_SUB)
ALU_DEFINE(alu_sbb, ALU_SBB)
ALU_DEFINE(alu_cmp, ALU_CMP)
