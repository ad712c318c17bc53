/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Shifts and rotates: SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD. A count
 * of 0 (after masking) leaves value and flags, but a memory operand is
 * accessed and a 32-bit register zero-extended all the same.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

enum shift_op { SH_ROL, SH_ROR, SH_RCL, SH_RCR, SH_SHL, SH_SHR, SH_SAR };
enum shift_count { COUNT_1, COUNT_I, COUNT_CL };

static ALWAYS_INLINE u64 shift(struct soft_vcpu *v, enum shift_op op,
			       unsigned size, u64 a, u8 count)
{
	switch (op) {
	case SH_ROL: return FL_ROTATE("rol", size, a, count, v->fl);
	case SH_ROR: return FL_ROTATE("ror", size, a, count, v->fl);
	case SH_RCL: return FL_ROTATE("rcl", size, a, count, v->fl);
	case SH_RCR: return FL_ROTATE("rcr", size, a, count, v->fl);
	case SH_SHL: return FL_SHIFT("shl", size, a, count, v->fl);
	case SH_SHR: return FL_SHIFT("shr", size, a, count, v->fl);
	default: return FL_SHIFT("sar", size, a, count, v->fl);
	}
}

static ALWAYS_INLINE u8 shift_count(struct soft_vcpu *v, const struct insn *i,
				    enum shift_count from, unsigned size)
{
	u64 n = from == COUNT_1 ? 1 : from == COUNT_I ? i->imm : v->gpr[REG_CX];

	return n & (size == 8 ? 63 : 31);
}

static ALWAYS_INLINE void shift_reg(struct soft_vcpu *v, const struct insn *i,
				    enum shift_op op, unsigned size,
				    enum shift_count from)
{
	u8 n = shift_count(v, i, from, size);
	u64 a = reg_get(v, i->rm, size);

	reg_set(v, i->rm, size, n ? shift(v, op, size, a, n) : a);
	NEXT();
}

static ALWAYS_INLINE void shift_mem(struct soft_vcpu *v, const struct insn *i,
				    enum shift_op op, unsigned size)
{
	u8 n = i->form == FORM_RM_1
		       ? 1
		       : shift_count(v, i,
				     i->form == FORM_RM_I ? COUNT_I : COUNT_CL,
				     size);
	u64 lin = int_lin(v, i, EA_ANY, size, MMU_WRITE);
	void *p = int_rmw(v, i, lin, size, HOW_CHECKED);

	if (n)
		host_st(p, size, shift(v, op, size, host_ld(p, size), n));
	int_rmw_end(v, i, lin, size, HOW_CHECKED, p);
	NEXT();
}

#define SHIFT_SIZE(name, op, size)                   \
	static HANDLER(name##_r1_##size)             \
	{                                            \
		shift_reg(v, i, op, size, COUNT_1);  \
	}                                            \
	static HANDLER(name##_ri_##size)             \
	{                                            \
		shift_reg(v, i, op, size, COUNT_I);  \
	}                                            \
	static HANDLER(name##_rc_##size)             \
	{                                            \
		shift_reg(v, i, op, size, COUNT_CL); \
	}                                            \
	static HANDLER(name##_m_##size)              \
	{                                            \
		shift_mem(v, i, op, size);           \
	}

#define SHIFT_DEFINE(name, op)                 \
	SHIFT_SIZE(name, op, 1)                \
	SHIFT_SIZE(name, op, 2)                \
	SHIFT_SIZE(name, op, 4)                \
	SHIFT_SIZE(name, op, 8)                \
	static const struct shift_fns name = { \
		.r1 = INT_SIZES(name##_r1_),   \
		.ri = INT_SIZES(name##_ri_),   \
		.rc = INT_SIZES(name##_rc_),   \
		.m = INT_SIZES(name##_m_),     \
	};

struct shift_fns {
	insn_fn *r1[4], *ri[4], *rc[4], *m[4];
};

SHIFT_DEFINE(shift_rol, SH_ROL)
SHIFT_DEFINE(shift_ror, SH_ROR)
SHIFT_DEFINE(shift_rcl, SH_RCL)
SHIFT_DEFINE(shift_rcr, SH_RCR)
SHIFT_DEFINE(shift_shl, SH_SHL)
SHIFT_DEFINE(shift_shr, SH_SHR)
SHIFT_DEFINE(shift_sar, SH_SAR)

/* ---- Double shifts ---- */

#define DOUBLE_ASM(op, type)                       \
	{                                          \
		type d = (type)a;                  \
		asm(op " %%cl, %2, %0\n\t" FL_SAVE \
		    : "+&r"(d), "=&a"(fl)          \
		    : "r"((type)b), "c"(n)         \
		    : "cc");                       \
		a = d;                             \
		break;                             \
	}

static ALWAYS_INLINE u64 shift_double(struct soft_vcpu *v, bool left,
				      unsigned size, u64 a, u64 b, u8 n)
{
	u16 fl = v->fl;

	switch (left ? size : size + 1) {
	case 2: DOUBLE_ASM("shldw", u16)
	case 4: DOUBLE_ASM("shldl", u32)
	case 8: DOUBLE_ASM("shldq", u64)
	case 3: DOUBLE_ASM("shrdw", u16)
	case 5: DOUBLE_ASM("shrdl", u32)
	case 9: DOUBLE_ASM("shrdq", u64)
	}
	v->fl = fl;
	return a;
}

static ALWAYS_INLINE void shift_double_rm(struct soft_vcpu *v,
					  const struct insn *i, bool left,
					  unsigned size)
{
	enum shift_count from = i->form == FORM_RM_R_I ? COUNT_I : COUNT_CL;
	u8 n = shift_count(v, i, from, size);
	u64 b = reg_get(v, i->reg, size);
	u64 lin, a;
	void *p;

	if (!i->mem) {
		a = reg_get(v, i->rm, size);
		if (n)
			a = shift_double(v, left, size, a, b, n);
		reg_set(v, i->rm, size, a);
	} else {
		lin = int_lin(v, i, EA_ANY, size, MMU_WRITE);
		p = int_rmw(v, i, lin, size, HOW_CHECKED);
		if (n)
			host_st(p, size,
				shift_double(v, left, size, host_ld(p, size), b,
					     n));
		int_rmw_end(v, i, lin, size, HOW_CHECKED, p);
	}
	NEXT();
}

#define DOUBLE_SIZE(size)                           \
	static HANDLER(shld##size)                  \
	{                                           \
		shift_double_rm(v, i, true, size);  \
	}                                           \
	static HANDLER(shrd##size)                  \
	{                                           \
		shift_double_rm(v, i, false, size); \
	}
DOUBLE_SIZE(2)
DOUBLE_SIZE(4)
DOUBLE_SIZE(8)
#define shld1 NULL
#define shrd1 NULL
static insn_fn *const shift_shld[] = INT_SIZES(shld);
static insn_fn *const shift_shrd[] = INT_SIZES(shrd);

static insn_fn *shift_pick(const struct shift_fns *f, const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);

	if (i->mem)
		return f->m[s];
	switch (i->form) {
	case FORM_RM_1: return f->r1[s];
	case FORM_RM_I: return f->ri[s];
	default: return f->rc[s];
	}
}

insn_fn *int_bind_shift(const struct insn *i)
{
	switch (i->op) {
	case OP_ROL: return shift_pick(&shift_rol, i);
	case OP_ROR: return shift_pick(&shift_ror, i);
	case OP_RCL: return shift_pick(&shift_rcl, i);
	case OP_RCR: return shift_pick(&shift_rcr, i);
	case OP_SHL: return shift_pick(&shift_shl, i);
	case OP_SHR: return shift_pick(&shift_shr, i);
	case OP_SAR: return shift_pick(&shift_sar, i);
	case OP_SHLD: return shift_shld[int_size_index(i->opsize)];
	case OP_SHRD: return shift_shrd[int_size_index(i->opsize)];
	default: return NULL;
	}
}
