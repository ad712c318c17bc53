/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MUL, IMUL, DIV, IDIV. Quotients that do not fit are found before the host
 * divides, which would trap.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

#define MUL_ASM(op, type, acc)                           \
	{                                                \
		type l = (type)lo;                       \
		type h;                                  \
		asm("mov %0, %%" acc "\n\t" op " %3\n\t" \
		    "mov %%" acc ", %0\n\t" FL_SAVE      \
		    : "+&r"(l), "=&d"(h), "=&a"(fl)      \
		    : "r"((type)b)                       \
		    : "cc");                             \
		lo = l;                                  \
		hi = h;                                  \
		break;                                   \
	}

/* One-operand MUL and IMUL, sizes 2, 4, 8: DX:AX = AX * b. */
static ALWAYS_INLINE void mul_wide(struct soft_vcpu *v, bool sign,
				   unsigned size, u64 b)
{
	u64 lo = v->gpr[REG_AX], hi = 0;
	u16 fl = 0;

	switch (sign ? size + 1 : size) {
	case 2: MUL_ASM("mulw", u16, "ax")
	case 4: MUL_ASM("mull", u32, "eax")
	case 8: MUL_ASM("mulq", u64, "rax")
	case 3: MUL_ASM("imulw", u16, "ax")
	case 5: MUL_ASM("imull", u32, "eax")
	case 9: MUL_ASM("imulq", u64, "rax")
	}
	v->fl = fl;
	reg_set(v, REG_AX, size, lo);
	reg_set(v, REG_DX, size, hi);
}

/* AX = AL * b */
static ALWAYS_INLINE void mul_byte(struct soft_vcpu *v, bool sign, u8 b)
{
	u16 ax = (u8)v->gpr[REG_AX];
	u16 fl;

	if (sign)
		asm("movw %0, %%ax\n\timulb %2\n\tmovw %%ax, %0\n\t" FL_SAVE
		    : "+&r"(ax), "=&a"(fl)
		    : "q"(b)
		    : "cc");
	else
		asm("movw %0, %%ax\n\tmulb %2\n\tmovw %%ax, %0\n\t" FL_SAVE
		    : "+&r"(ax), "=&a"(fl)
		    : "q"(b)
		    : "cc");
	v->fl = fl;
	reg_set(v, REG_AX, 2, ax);
}

#define MUL_SIZE(size)                                                         \
	static HANDLER(mul##size)                                              \
	{                                                                      \
		mul_wide(v, false, size, int_get_rm(v, i, size));              \
		NEXT();                                                        \
	}                                                                      \
	static HANDLER(imul##size)                                             \
	{                                                                      \
		mul_wide(v, true, size, int_get_rm(v, i, size));               \
		NEXT();                                                        \
	}                                                                      \
	static HANDLER(imul_rr##size)                                          \
	{                                                                      \
		u64 a = reg_get(v, i->rm, size);                               \
		u64 b = reg_get(v, i->reg, size);                              \
		reg_set(v, i->reg, size, FL_FRESH("imul", size, b, a, v->fl)); \
		NEXT();                                                        \
	}                                                                      \
	static HANDLER(imul_rm##size)                                          \
	{                                                                      \
		u64 a = int_ld_rm(v, i, EA_ANY, size);                         \
		u64 b = reg_get(v, i->reg, size);                              \
		reg_set(v, i->reg, size, FL_FRESH("imul", size, b, a, v->fl)); \
		NEXT();                                                        \
	}                                                                      \
	static HANDLER(imul_i##size)                                           \
	{                                                                      \
		u64 a = int_get_rm(v, i, size);                                \
		reg_set(v, i->reg, size,                                       \
			FL_FRESH("imul", size, a, i->imm, v->fl));             \
		NEXT();                                                        \
	}
MUL_SIZE(2)
MUL_SIZE(4)
MUL_SIZE(8)

static HANDLER(mul1)
{
	mul_byte(v, false, (u8)int_get_rm(v, i, 1));
	NEXT();
}

static HANDLER(imul1)
{
	mul_byte(v, true, (u8)int_get_rm(v, i, 1));
	NEXT();
}

/* Whether hi:lo / b (size bytes each) does not fit: #DE. */
static ALWAYS_INLINE bool div_overflow(unsigned size, u64 hi, u64 b)
{
	return int_mask(size, hi) >= int_mask(size, b);
}

static ALWAYS_INLINE u64 div_sign(unsigned size, u64 val)
{
	unsigned shift = 64 - 8 * size;

	return (u64)((s64)(val << shift) >> shift);
}

/* The same for signed numbers, by their magnitudes. */
static ALWAYS_INLINE bool idiv_overflow(unsigned size, u64 lo, u64 hi, u64 b)
{
	bool neg_a = (s64)div_sign(size, hi) < 0;
	bool neg_b = (s64)div_sign(size, b) < 0;
	unsigned __int128 a;
	u64 m = neg_b ? -div_sign(size, b) : int_mask(size, b);
	u64 q;

	if (size == 8)
		a = (unsigned __int128)hi << 64 | lo;
	else
		a = (__int128)(s64)(div_sign(size, hi) << 8 * (size % 8)) |
		    int_mask(size, lo);
	if (neg_a)
		a = -a;
	if (size < 8) {
		if (!m)
			return true;
		q = (u64)a / m;
	} else {
		u64 rest;

		if ((u64)(a >> 64) >= m)
			return true;
		asm("divq %4"
		    : "=a"(q), "=d"(rest)
		    : "0"((u64)a), "1"((u64)(a >> 64)), "r"(m)
		    : "cc");
	}
	return q > (BIT64(8 * size - 1) - !(neg_a != neg_b));
}

#define DIV_ASM(op, type, acc)                                      \
	{                                                           \
		type l = (type)lo;                                  \
		type h = (type)hi;                                  \
		asm(FL_RESTORE "mov %0, %%" acc "\n\t" op " %3\n\t" \
			       "mov %%" acc ", %0\n\t" FL_SAVE      \
		    : "+&r"(l), "+&d"(h), "+&a"(fl)                 \
		    : "r"((type)b)                                  \
		    : "cc");                                        \
		lo = l;                                             \
		hi = h;                                             \
		break;                                              \
	}

static ALWAYS_INLINE void div_wide(struct soft_vcpu *v, const struct insn *i,
				   bool sign, unsigned size)
{
	u64 b = int_get_rm(v, i, size);
	u64 lo = v->gpr[REG_AX], hi = v->gpr[REG_DX];
	u16 fl = v->fl;

	if (sign ? idiv_overflow(size, lo, hi, b) : div_overflow(size, hi, b))
		int_fault(v, i, VEC_DE);
	switch (sign ? size + 1 : size) {
	case 2: DIV_ASM("divw", u16, "ax")
	case 4: DIV_ASM("divl", u32, "eax")
	case 8: DIV_ASM("divq", u64, "rax")
	case 3: DIV_ASM("idivw", u16, "ax")
	case 5: DIV_ASM("idivl", u32, "eax")
	case 9: DIV_ASM("idivq", u64, "rax")
	}
	v->fl = fl;
	reg_set(v, REG_AX, size, lo);
	reg_set(v, REG_DX, size, hi);
	NEXT();
}

#define DIV_SIZE(size)                       \
	static HANDLER(div##size)            \
	{                                    \
		div_wide(v, i, false, size); \
	}                                    \
	static HANDLER(idiv##size)           \
	{                                    \
		div_wide(v, i, true, size);  \
	}
DIV_SIZE(2)
DIV_SIZE(4)
DIV_SIZE(8)

/* AL = AX / b, AH = the remainder */
static ALWAYS_INLINE void div_byte(struct soft_vcpu *v, const struct insn *i,
				   bool sign)
{
	u8 b = (u8)int_get_rm(v, i, 1);
	u16 ax = (u16)v->gpr[REG_AX];
	u16 fl = v->fl;

	if (sign ? idiv_overflow(1, ax & 0xff, ax >> 8, b)
		 : div_overflow(1, ax >> 8, b))
		int_fault(v, i, VEC_DE);
	if (sign)
		asm(FL_RESTORE "movw %0, %%ax\n\tidivb %2\n\t"
			       "movw %%ax, %0\n\t" FL_SAVE
		    : "+&r"(ax), "+&a"(fl)
		    : "q"(b)
		    : "cc");
	else
		asm(FL_RESTORE "movw %0, %%ax\n\tdivb %2\n\t"
			       "movw %%ax, %0\n\t" FL_SAVE
		    : "+&r"(ax), "+&a"(fl)
		    : "q"(b)
		    : "cc");
	v->fl = fl;
	reg_set(v, REG_AX, 2, ax);
	NEXT();
}

static HANDLER(div1)
{
	div_byte(v, i, false);
}

static HANDLER(idiv1)
{
	div_byte(v, i, true);
}

#define imul_rr1 NULL
#define imul_rm1 NULL
#define imul_i1  NULL
static insn_fn *const mul_fns[] = INT_SIZES(mul);
static insn_fn *const imul_fns[] = INT_SIZES(imul);
static insn_fn *const imul_rr[] = INT_SIZES(imul_rr);
static insn_fn *const imul_rm[] = INT_SIZES(imul_rm);
static insn_fn *const imul_i[] = INT_SIZES(imul_i);
static insn_fn *const div_fns[] = INT_SIZES(div);
static insn_fn *const idiv_fns[] = INT_SIZES(idiv);

static insn_fn *mul_pick_imul(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);

	switch (i->form) {
	case FORM_R_RM: return i->mem ? imul_rm[s] : imul_rr[s];
	case FORM_R_RM_I: return imul_i[s];
	default: return imul_fns[s];
	}
}

insn_fn *int_bind_mul(const struct insn *i)
{
	switch (i->op) {
	case OP_MUL: return mul_fns[int_size_index(i->opsize)];
	case OP_IMUL: return mul_pick_imul(i);
	case OP_DIV: return div_fns[int_size_index(i->opsize)];
	case OP_IDIV: return idiv_fns[int_size_index(i->opsize)];
	default: return NULL;
	}
}
