/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Handlers of two-operand arithmetic, made once for each operation, size,
 * operand form and kind of address: ALU_DEFINE(), and the table of them.
 */
#ifndef CPU_SOFT_INT_ALU_H
#define CPU_SOFT_INT_ALU_H

#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

enum alu_op {
	ALU_ADD,
	ALU_OR,
	ALU_ADC,
	ALU_SBB,
	ALU_AND,
	ALU_SUB,
	ALU_XOR,
	ALU_CMP,
	ALU_TEST,
};

/* By size (1 << index), and kind of address. */
struct alu_fns {
	insn_fn *rr[4]; /* r/m register, reg */
	insn_fn *rq[4]; /* reg, r/m register */
	insn_fn *ri[4];
	insn_fn *rm[4][EA_KINDS];
	insn_fn *mr[4][EA_KINDS];
	insn_fn *mi[4][EA_KINDS];
};

extern const struct alu_fns alu_add, alu_or, alu_adc, alu_sbb, alu_and, alu_sub,
	alu_xor, alu_cmp, alu_test;

static ALWAYS_INLINE u64 alu(struct soft_vcpu *v, enum alu_op op, unsigned size,
			     u64 a, u64 b)
{
	switch (op) {
	case ALU_ADD: return FL_BINARY("add", size, a, b, v->fl);
	case ALU_OR: return FL_BINARY("or", size, a, b, v->fl);
	case ALU_ADC: return FL_CARRY("adc", size, a, b, v->fl);
	case ALU_SBB: return FL_CARRY("sbb", size, a, b, v->fl);
	case ALU_AND: return FL_BINARY("and", size, a, b, v->fl);
	case ALU_SUB: return FL_BINARY("sub", size, a, b, v->fl);
	case ALU_XOR: return FL_BINARY("xor", size, a, b, v->fl);
	case ALU_CMP: return FL_BINARY("cmp", size, a, b, v->fl);
	default: return FL_BINARY("test", size, a, b, v->fl);
	}
}

#define ALU_WRITES(op) ((op) != ALU_CMP && (op) != ALU_TEST)

/* dst is the number of a register */
static ALWAYS_INLINE void alu_reg(struct soft_vcpu *v, const struct insn *i,
				  enum alu_op op, unsigned size, unsigned dst,
				  u64 b)
{
	u64 r = alu(v, op, size, reg_get(v, dst, size), b);

	if (ALU_WRITES(op))
		reg_set(v, dst, size, r);
	NEXT();
}

static ALWAYS_INLINE void alu_mem(struct soft_vcpu *v, const struct insn *i,
				  enum alu_op op, unsigned size,
				  enum ea_kind kind, u64 b)
{
	u64 lin;
	void *p;

	if (ALU_WRITES(op)) {
		lin = int_lin(v, i, kind, size, MMU_WRITE);
		p = int_rmw(v, i, lin, size, HOW_KIND(kind));
		host_st(p, size, alu(v, op, size, host_ld(p, size), b));
		int_rmw_end(v, i, lin, size, HOW_KIND(kind), p);
	} else {
		alu(v, op, size, int_ld_rm(v, i, kind, size), b);
	}
	NEXT();
}

#define ALU_SIZE(name, op, size)                                          \
	static HANDLER(name##_rr##size)                                   \
	{                                                                 \
		alu_reg(v, i, op, size, i->rm, reg_get(v, i->reg, size)); \
	}                                                                 \
	static HANDLER(name##_rq##size)                                   \
	{                                                                 \
		alu_reg(v, i, op, size, i->reg, reg_get(v, i->rm, size)); \
	}                                                                 \
	static HANDLER(name##_ri##size)                                   \
	{                                                                 \
		alu_reg(v, i, op, size, i->rm, i->imm);                   \
	}                                                                 \
	ALU_KIND(name, op, size, EA_ANY)

#define ALU_KINDS(name, op, size)        \
	ALU_KIND(name, op, size, EA_BD)  \
	ALU_KIND(name, op, size, EA_BID) \
	ALU_KIND(name, op, size, EA_X64)

#define ALU_KIND(name, op, size, kind)                                        \
	static HANDLER(name##_rm##size##kind)                                 \
	{                                                                     \
		alu_reg(v, i, op, size, i->reg, int_ld_rm(v, i, kind, size)); \
	}                                                                     \
	static HANDLER(name##_mr##size##kind)                                 \
	{                                                                     \
		alu_mem(v, i, op, size, kind, reg_get(v, i->reg, size));      \
	}                                                                     \
	static HANDLER(name##_mi##size##kind)                                 \
	{                                                                     \
		alu_mem(v, i, op, size, kind, i->imm);                        \
	}

#define ALU_DEFINE(name, op)                      \
	ALU_SIZE(name, op, 1)                     \
	ALU_SIZE(name, op, 2)                     \
	ALU_SIZE(name, op, 4)                     \
	ALU_SIZE(name, op, 8)                     \
	ALU_KINDS(name, op, 1)                    \
	ALU_KINDS(name, op, 4)                    \
	ALU_KINDS(name, op, 8)                    \
	const struct alu_fns name = {             \
		.rr = INT_SIZES(name##_rr),       \
		.rq = INT_SIZES(name##_rq),       \
		.ri = INT_SIZES(name##_ri),       \
		.rm = INT_SIZES_KINDS(name##_rm), \
		.mr = INT_SIZES_KINDS(name##_mr), \
		.mi = INT_SIZES_KINDS(name##_mi), \
	};

#endif
