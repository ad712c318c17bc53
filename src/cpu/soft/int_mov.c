/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves: MOV, MOVZX, MOVSX, MOVSXD, LEA, XCHG of registers, BSWAP, MOVBE,
 * MOVNTI, XLAT, CBW, CWD, CMOVcc, SETcc.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

#define MOV_KIND(size, kind)                                           \
	static HANDLER(mov_rm##size##kind)                             \
	{                                                              \
		reg_set(v, i->reg, size, int_ld_rm(v, i, kind, size)); \
		NEXT();                                                \
	}                                                              \
	static HANDLER(mov_mr##size##kind)                             \
	{                                                              \
		int_st_rm(v, i, kind, size, reg_get(v, i->reg, size)); \
		NEXT();                                                \
	}                                                              \
	static HANDLER(mov_mi##size##kind)                             \
	{                                                              \
		int_st_rm(v, i, kind, size, i->imm);                   \
		NEXT();                                                \
	}

#define MOV_SIZE(size)                                              \
	static HANDLER(mov_rr##size)                                \
	{                                                           \
		reg_set(v, i->rm, size, reg_get(v, i->reg, size));  \
		NEXT();                                             \
	}                                                           \
	static HANDLER(mov_rq##size)                                \
	{                                                           \
		reg_set(v, i->reg, size, reg_get(v, i->rm, size));  \
		NEXT();                                             \
	}                                                           \
	static HANDLER(mov_ri##size)                                \
	{                                                           \
		reg_set(v, i->rm, size, i->imm);                    \
		NEXT();                                             \
	}                                                           \
	static HANDLER(xchg_rr##size)                               \
	{                                                           \
		u64 a = reg_get(v, i->rm, size);                    \
		u64 b = reg_get(v, i->reg, size);                   \
		reg_set(v, i->rm, size, b);                         \
		reg_set(v, i->reg, size, a);                        \
		NEXT();                                             \
	}                                                           \
	static HANDLER(xchg_ar##size)                               \
	{                                                           \
		u64 a = reg_get(v, REG_AX, size);                   \
		u64 b = reg_get(v, i->rm, size);                    \
		reg_set(v, REG_AX, size, b);                        \
		reg_set(v, i->rm, size, a);                         \
		NEXT();                                             \
	}                                                           \
	static HANDLER(mov_from_moffs##size)                        \
	{                                                           \
		u64 lin;                                            \
		int_sync(v, i);                                     \
		lin = soft_lin(v, i->seg, i->imm, size, MMU_READ);  \
		reg_set(v, REG_AX, size, soft_ld(v, lin, size));    \
		NEXT();                                             \
	}                                                           \
	static HANDLER(mov_to_moffs##size)                          \
	{                                                           \
		u64 lin;                                            \
		int_sync(v, i);                                     \
		lin = soft_lin(v, i->seg, i->imm, size, MMU_WRITE); \
		soft_st(v, lin, size, reg_get(v, REG_AX, size));    \
		NEXT();                                             \
	}                                                           \
	MOV_KIND(size, EA_ANY)

#define MOV_KINDS(size)        \
	MOV_KIND(size, EA_BD)  \
	MOV_KIND(size, EA_BID) \
	MOV_KIND(size, EA_X64)

MOV_SIZE(1)
MOV_SIZE(2)
MOV_SIZE(4)
MOV_SIZE(8)
MOV_KINDS(1)
MOV_KINDS(4)
MOV_KINDS(8)

static insn_fn *const mov_rr[] = INT_SIZES(mov_rr);
static insn_fn *const mov_rq[] = INT_SIZES(mov_rq);
static insn_fn *const mov_ri[] = INT_SIZES(mov_ri);
static insn_fn *const xchg_rr[] = INT_SIZES(xchg_rr);
static insn_fn *const xchg_ar[] = INT_SIZES(xchg_ar);
static insn_fn *const mov_from_moffs[] = INT_SIZES(mov_from_moffs);
static insn_fn *const mov_to_moffs[] = INT_SIZES(mov_to_moffs);
static insn_fn *const mov_rm[][EA_KINDS] = INT_SIZES_KINDS(mov_rm);
static insn_fn *const mov_mr[][EA_KINDS] = INT_SIZES_KINDS(mov_mr);
static insn_fn *const mov_mi[][EA_KINDS] = INT_SIZES_KINDS(mov_mi);

/* Sign-extends a value of size bytes. */
static ALWAYS_INLINE u64 mov_sign(u64 val, unsigned size)
{
	switch (size) {
	case 1: return (u64)(s64)(s8)val;
	case 2: return (u64)(s64)(s16)val;
	case 4: return (u64)(s64)(s32)val;
	default: return val;
	}
}

#define EXT_DST(sign, name, src, dst)                                 \
	static HANDLER(name##_r##src##_##dst)                         \
	{                                                             \
		u64 a = reg_get(v, i->rm, src);                       \
		reg_set(v, i->reg, dst, sign ? mov_sign(a, src) : a); \
		NEXT();                                               \
	}                                                             \
	EXT_KIND(sign, name, src, dst, EA_ANY)
#define EXT_KIND(sign, name, src, dst, kind)                          \
	static HANDLER(name##_m##src##_##dst##kind)                   \
	{                                                             \
		u64 a = int_ld_rm(v, i, kind, src);                   \
		reg_set(v, i->reg, dst, sign ? mov_sign(a, src) : a); \
		NEXT();                                               \
	}
#define EXT_KINDS(sign, name, src, dst)        \
	EXT_DST(sign, name, src, dst)          \
	EXT_KIND(sign, name, src, dst, EA_BD)  \
	EXT_KIND(sign, name, src, dst, EA_BID) \
	EXT_KIND(sign, name, src, dst, EA_X64)
#define EXT_SRC(sign, name, src)      \
	EXT_DST(sign, name, src, 2)   \
	EXT_KINDS(sign, name, src, 4) \
	EXT_KINDS(sign, name, src, 8)

EXT_SRC(false, movzx, 1)
EXT_SRC(false, movzx, 2)
EXT_SRC(true, movsx, 1)
EXT_SRC(true, movsx, 2)
EXT_SRC(true, movsx, 4)

/* By log2 of the destination's size, minus 1 */
struct mov_ext {
	insn_fn *r[3];
	insn_fn *m[3][EA_KINDS];
};
#define EXT_FNS(name, src)                                  \
	{                                                   \
		.r = {name##_r##src##_2, name##_r##src##_4, \
		      name##_r##src##_8},                   \
		.m = {INT_ANY(name##_m##src##_2),           \
		      INT_KINDS(name##_m##src##_4),         \
		      INT_KINDS(name##_m##src##_8)},        \
	}

static const struct mov_ext movzx_fns[] = {
	EXT_FNS(movzx, 1),
	EXT_FNS(movzx, 2),
};
static const struct mov_ext movsx_fns[] = {
	EXT_FNS(movsx, 1),
	EXT_FNS(movsx, 2),
	EXT_FNS(movsx, 4),
};

static insn_fn *mov_pick_ext(const struct mov_ext *f, const struct insn *i)
{
	unsigned d = int_size_index(i->opsize) - 1;

	f += int_size_index(i->srcsize);
	return i->mem ? f->m[d][int_ea_kind(i)] : f->r[d];
}

/* LEA: no segment; EA_X64 is for RIP. */
#define LEA_ANY(size)                                   \
	static HANDLER(lea##size##EA_ANY)               \
	{                                               \
		reg_set(v, i->reg, size, int_ea(v, i)); \
		NEXT();                                 \
	}
#define LEA_SIZE(size)                                          \
	LEA_ANY(size)                                           \
	static HANDLER(lea##size##EA_BD)                        \
	{                                                       \
		reg_set(v, i->reg, size,                        \
			int_lin(v, i, EA_BD, size, MMU_READ));  \
		NEXT();                                         \
	}                                                       \
	static HANDLER(lea##size##EA_BID)                       \
	{                                                       \
		reg_set(v, i->reg, size,                        \
			int_lin(v, i, EA_BID, size, MMU_READ)); \
		NEXT();                                         \
	}                                                       \
	static HANDLER(lea##size##EA_X64)                       \
	{                                                       \
		reg_set(v, i->reg, size, int_ea64(v, i));       \
		NEXT();                                         \
	}
LEA_ANY(2)
LEA_SIZE(4)
LEA_SIZE(8)
#define lea1EA_BD  NULL
#define lea1EA_BID NULL
#define lea1EA_X64 NULL
#define lea1EA_ANY NULL
static insn_fn *const lea_fns[][EA_KINDS] = INT_SIZES_KINDS(lea);

static HANDLER(bswap2) /* undefined; the CPU makes it zero */
{
	reg_set(v, i->rm, 2, 0);
	NEXT();
}

static HANDLER(bswap4)
{
	reg_set(v, i->rm, 4, __builtin_bswap32((u32)*int_gpr(v, i->rm)));
	NEXT();
}

static HANDLER(bswap8)
{
	reg_set(v, i->rm, 8, __builtin_bswap64(*int_gpr(v, i->rm)));
	NEXT();
}

static ALWAYS_INLINE u64 mov_swap(u64 val, unsigned size)
{
	return __builtin_bswap64(val) >> (64 - 8 * size);
}

#define MOVBE_SIZE(size)                                          \
	static HANDLER(movbe_rm##size)                            \
	{                                                         \
		u64 a = int_ld_rm(v, i, EA_ANY, size);            \
		reg_set(v, i->reg, size, mov_swap(a, size));      \
		NEXT();                                           \
	}                                                         \
	static HANDLER(movbe_mr##size)                            \
	{                                                         \
		u64 a = reg_get(v, i->reg, size);                 \
		int_st_rm(v, i, EA_ANY, size, mov_swap(a, size)); \
		NEXT();                                           \
	}
MOVBE_SIZE(2)
MOVBE_SIZE(4)
MOVBE_SIZE(8)
#define movbe_rm1 NULL
#define movbe_mr1 NULL
static insn_fn *const movbe_rm[] = INT_SIZES(movbe_rm);
static insn_fn *const movbe_mr[] = INT_SIZES(movbe_mr);

static HANDLER(mov_xlat)
{
	u64 off = v->gpr[REG_BX] + (u8)v->gpr[REG_AX];

	int_sync(v, i);
	off = int_mask(i->adsize, off);
	reg_set(v, REG_AX, 1,
		soft_ld(v, soft_lin(v, i->seg, off, 1, MMU_READ), 1));
	NEXT();
}

/* CBW, CWDE, CDQE: the accumulator from its lower half */
static HANDLER(mov_cbw)
{
	unsigned half = i->opsize / 2;
	u64 a = reg_get(v, REG_AX, half);

	a = (u64)((s64)(a << (64 - 8 * half)) >> (64 - 8 * half));
	reg_set(v, REG_AX, i->opsize, a);
	NEXT();
}

/* CWD, CDQ, CQO: DX is filled with the accumulator's sign */
static HANDLER(mov_cwd)
{
	u64 a = v->gpr[REG_AX] << (64 - 8 * i->opsize);

	reg_set(v, REG_DX, i->opsize, a >> 63 ? ~0ull : 0);
	NEXT();
}

/* The source is read, and may fault, whether the condition holds or not. */
static ALWAYS_INLINE void cmov(struct soft_vcpu *v, const struct insn *i,
			       unsigned size, bool taken, u64 a)
{
	u64 b = reg_get(v, i->reg, size);

	reg_set(v, i->reg, size, taken ? a : b);
	NEXT();
}

#define CMOV_M(size)                                        \
	static HANDLER(cmov_m##size)                        \
	{                                                   \
		u64 a = int_ld_rm(v, i, EA_ANY, size);      \
		cmov(v, i, size, fl_cond(v->fl, i->cc), a); \
	}
CMOV_M(2)
CMOV_M(4)
CMOV_M(8)
#define cmov_m1 NULL
static insn_fn *const cmov_m[] = INT_SIZES(cmov_m);

#define CMOV_R(cc, size)                                                       \
	static HANDLER(cmov_r##size##_##cc)                                    \
	{                                                                      \
		cmov(v, i, size, fl_cond(v->fl, cc), reg_get(v, i->rm, size)); \
	}
#define CONDITION(cc)                                     \
	CMOV_R(cc, 2)                                     \
	CMOV_R(cc, 4)                                     \
	CMOV_R(cc, 8)                                     \
	static HANDLER(setcc_r_##cc)                      \
	{                                                 \
		reg_set(v, i->rm, 1, fl_cond(v->fl, cc)); \
		NEXT();                                   \
	}
INT_CONDITIONS(CONDITION)

static HANDLER(setcc_m)
{
	int_st_rm(v, i, EA_ANY, 1, fl_cond(v->fl, i->cc));
	NEXT();
}

#define FN(cc) setcc_r_##cc,
static insn_fn *const setcc_r[] = {INT_CONDITIONS(FN)};
#undef FN
#define FN(cc) {NULL, cmov_r2_##cc, cmov_r4_##cc, cmov_r8_##cc},
static insn_fn *const cmov_r[][4] = {INT_CONDITIONS(FN)};
#undef FN

static insn_fn *mov_pick(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);
	enum ea_kind kind = int_ea_kind(i);

	switch (i->form) {
	case FORM_RM_R: return i->mem ? mov_mr[s][kind] : mov_rr[s];
	case FORM_R_RM: return i->mem ? mov_rm[s][kind] : mov_rq[s];
	case FORM_RM_I: return i->mem ? mov_mi[s][kind] : mov_ri[s];
	default: return mov_ri[s]; /* FORM_R_I */
	}
}

static insn_fn *mov_pick_bswap(const struct insn *i)
{
	return i->opsize == 8 ? bswap8 : i->opsize == 4 ? bswap4 : bswap2;
}

/* With a memory operand XCHG is a locked instruction: int_lock.c. */
static insn_fn *mov_pick_xchg(const struct insn *i)
{
	if (i->form == FORM_R)
		return xchg_ar[int_size_index(i->opsize)];
	return i->mem ? NULL : xchg_rr[int_size_index(i->opsize)];
}

insn_fn *int_bind_mov(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize | 16) & 3;

	switch (i->op) {
	case OP_MOV:
	case OP_MOVNTI: return mov_pick(i);
	case OP_LEA: return lea_fns[s][int_ea_kind(i)];
	case OP_MOVZX: return mov_pick_ext(movzx_fns, i);
	case OP_MOVSX:
	case OP_MOVSXD: return mov_pick_ext(movsx_fns, i);
	case OP_CMOVCC: return i->mem ? cmov_m[s] : cmov_r[i->cc][s];
	case OP_SETCC: return i->mem ? setcc_m : setcc_r[i->cc];
	case OP_XCHG: return mov_pick_xchg(i);
	case OP_BSWAP: return mov_pick_bswap(i);
	case OP_MOVBE: return i->form == FORM_R_RM ? movbe_rm[s] : movbe_mr[s];
	case OP_MOV_FROM_MOFFS: return mov_from_moffs[s];
	case OP_MOV_TO_MOFFS: return mov_to_moffs[s];
	case OP_XLAT: return mov_xlat;
	case OP_CBW: return mov_cbw;
	case OP_CWD: return mov_cwd;
	default: return NULL;
	}
}
