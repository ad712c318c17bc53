/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writing host instructions: one general encoder for what has a ModRM byte,
 * and the few shapes that have none. Nothing here knows the guest.
 *
 * Code is written into a bounded buffer; past its end nothing is stored and
 * full is set, so that a caller checks once, at the end.
 */
#ifndef CPU_JIT_EMIT_H
#define CPU_JIT_EMIT_H

#include "base/types.h"

/* Host registers by their hardware numbers. */
enum {
	H_AX,
	H_CX,
	H_DX,
	H_BX,
	H_SP,
	H_BP,
	H_SI,
	H_DI,
	H_8,
	H_9,
	H_10,
	H_11,
	H_12,
	H_13,
	H_14,
	H_15,
	H_NONE,
};

struct emit {
	u8 *p, *end;
	bool full;
	s64 to_exec; /* where a byte written at p runs: p + to_exec */
};

static inline void emit_u8(struct emit *e, u8 b)
{
	if (e->p < e->end)
		*e->p++ = b;
	else
		e->full = true;
}

void emit_bytes(struct emit *e, const void *p, unsigned n);
void emit_u32(struct emit *e, u32 v);
void emit_u64(struct emit *e, u64 v);

/* The r/m operand: a register, memory, or memory at GS base + disp. */
enum rm_kind { RM_REG, RM_MEM, RM_GS };
struct rm {
	u8 kind, reg, index, scale; /* reg: the register, or the base */
	s32 disp;
};

static inline struct rm rm_reg(u8 reg)
{
	return (struct rm){.kind = RM_REG, .reg = reg, .index = H_NONE};
}

static inline struct rm rm_mem(u8 base, s32 disp)
{
	return (struct rm){RM_MEM, base, H_NONE, 0, disp};
}

static inline struct rm rm_sib(u8 base, u8 index, u8 scale, s32 disp)
{
	return (struct rm){RM_MEM, base, index, scale, disp};
}

static inline struct rm rm_gs(size_t off)
{
	return (struct rm){RM_GS, H_NONE, H_NONE, 0, (s32)off};
}

/* An opcode and what goes with it. */
struct opc {
	u8 code;
	u8 map;  /* 0: one byte, 1: 0f, 2: 0f 38, 3: 0f 3a */
	u8 pfx;  /* 0, 0x66, 0xf2, 0xf3 */
	u8 word; /* 66 as well: 16-bit operands */
	u8 w;    /* REX.W or VEX.W */
	u8 lock; /* f0 */
	u8 byte; /* 8-bit register operands: SPL..DIL need REX */
	u8 vex, l, vvvv;
};

/* reg: ModRM.reg, a register or an opcode extension. */
void emit_op(struct emit *e, struct opc o, u8 reg, struct rm rm);

/* 64-bit (w) or 32-bit one-byte opcodes with a register and r/m. */
static inline void emit_rr(struct emit *e, u8 code, bool w, u8 reg, u8 rm)
{
	emit_op(e, (struct opc){.code = code, .w = w}, reg, rm_reg(rm));
}

void emit_mov(struct emit *e, u8 dst, u8 src); /* 64 bits */
void emit_load(struct emit *e, u8 dst, struct rm m);
void emit_store(struct emit *e, u8 src, struct rm m);
void emit_lea(struct emit *e, u8 dst, struct rm m, bool w);
void emit_mov_imm(struct emit *e, u8 dst, u64 imm); /* shortest form */
/* op dst, imm32: op is the /digit of 81: 0 ADD, 4 AND, 7 CMP ... */
void emit_alu_imm(struct emit *e, u8 digit, bool w, u8 dst, s32 imm);

/* RORX: dst = src rotated right by n. Keeps the flags. */
void emit_rorx(struct emit *e, bool w, u8 dst, u8 src, u8 n);

/* Branches; return where the rel32 (or rel8) is, to be set later. */
u8 *emit_jmp(struct emit *e);
u8 *emit_jcc(struct emit *e, u8 cc);
u8 *emit_call(struct emit *e);
u8 *emit_jrcxz(struct emit *e);
u8 *emit_jecxz(struct emit *e);                      /* rel8 */
void emit_jmp_to(struct emit *e, const u8 *target);  /* written address */
void emit_call_to(struct emit *e, const u8 *target); /* written address */

/* Makes the branch whose displacement is at "at" go to target. Both are
 * addresses of the writable view. */
void emit_patch32(u8 *at, const u8 *target);
void emit_patch8(struct emit *e, u8 *at, const u8 *target);

#endif
