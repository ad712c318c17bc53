/* SPDX-License-Identifier: BSD-2-Clause */
/* INC, DEC, NEG, NOT; and which handler a two-operand instruction has. */
#include "cpu/soft/int_alu.h"

enum unary_op { UN_INC, UN_DEC, UN_NEG, UN_NOT };

static ALWAYS_INLINE u64 unary(struct soft_vcpu *v, enum unary_op op,
			       unsigned size, u64 a)
{
	switch (op) {
	case UN_INC: return FL_UNARY("inc", size, a, v->fl);
	case UN_DEC: return FL_UNARY("dec", size, a, v->fl);
	case UN_NEG: return FL_UNARY("neg", size, a, v->fl);
	default: return ~a;
	}
}

static ALWAYS_INLINE void unary_reg(struct soft_vcpu *v, const struct insn *i,
				    enum unary_op op, unsigned size)
{
	reg_set(v, i->rm, size, unary(v, op, size, reg_get(v, i->rm, size)));
	NEXT();
}

static ALWAYS_INLINE void unary_mem(struct soft_vcpu *v, const struct insn *i,
				    enum unary_op op, unsigned size,
				    enum ea_kind kind)
{
	u64 lin = int_lin(v, i, kind, size, MMU_WRITE);
	void *p = int_rmw(v, i, lin, size, HOW_KIND(kind));

	host_st(p, size, unary(v, op, size, host_ld(p, size)));
	int_rmw_end(v, i, lin, size, HOW_KIND(kind), p);
	NEXT();
}

#define UNARY_KIND(name, op, size, kind)         \
	static HANDLER(name##_m##size##kind)     \
	{                                        \
		unary_mem(v, i, op, size, kind); \
	}
#define UNARY_SIZE(name, op, size)         \
	static HANDLER(name##_r##size)     \
	{                                  \
		unary_reg(v, i, op, size); \
	}                                  \
	UNARY_KIND(name, op, size, EA_ANY)
#define UNARY_KINDS(name, op, size)        \
	UNARY_KIND(name, op, size, EA_BD)  \
	UNARY_KIND(name, op, size, EA_BID) \
	UNARY_KIND(name, op, size, EA_X64)
#define UNARY_DEFINE(name, op)                  \
	UNARY_SIZE(name, op, 1)                 \
	UNARY_SIZE(name, op, 2)                 \
	UNARY_SIZE(name, op, 4)                 \
	UNARY_SIZE(name, op, 8)                 \
	UNARY_KINDS(name, op, 1)                \
	UNARY_KINDS(name, op, 4)                \
	UNARY_KINDS(name, op, 8)                \
	static const struct unary_fns name = {  \
		.r = INT_SIZES(name##_r),       \
		.m = INT_SIZES_KINDS(name##_m), \
	};

struct unary_fns {
	insn_fn *r[4];
	insn_fn *m[4][EA_KINDS];
};

UNARY_DEFINE(alu_inc, UN_INC)
UNARY_DEFINE(alu_dec, UN_DEC)
UNARY_DEFINE(alu_neg, UN_NEG)
UNARY_DEFINE(alu_not, UN_NOT)

static insn_fn *alu_pick_unary(const struct unary_fns *f, const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);

	return i->mem ? f->m[s][int_ea_kind(i)] : f->r[s];
}

static insn_fn *alu_pick(const struct alu_fns *f, const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);
	enum ea_kind kind = int_ea_kind(i);

	switch (i->form) {
	case FORM_RM_R: return i->mem ? f->mr[s][kind] : f->rr[s];
	case FORM_R_RM: return i->mem ? f->rm[s][kind] : f->rq[s];
	case FORM_RM_I: return i->mem ? f->mi[s][kind] : f->ri[s];
	case FORM_A_I: return f->ri[s];
	default: return NULL;
	}
}

insn_fn *int_bind_alu(const struct insn *i)
{
	switch (i->op) {
	case OP_ADD: return alu_pick(&alu_add, i);
	case OP_OR: return alu_pick(&alu_or, i);
	case OP_ADC: return alu_pick(&alu_adc, i);
	case OP_SBB: return alu_pick(&alu_sbb, i);
	case OP_AND: return alu_pick(&alu_and, i);
	case OP_SUB: return alu_pick(&alu_sub, i);
	case OP_XOR: return alu_pick(&alu_xor, i);
	case OP_CMP: return alu_pick(&alu_cmp, i);
	case OP_TEST: return alu_pick(&alu_test, i);
	case OP_INC: return alu_pick_unary(&alu_inc, i);
	case OP_DEC: return alu_pick_unary(&alu_dec, i);
	case OP_NEG: return alu_pick_unary(&alu_neg, i);
	case OP_NOT: return alu_pick_unary(&alu_not, i);
	default: return NULL;
	}
}
