/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BT, BTS, BTR, BTC, BSF, BSR, LZCNT, TZCNT, POPCNT, CRC32. With a bit offset
 * in a register the memory operand is a bit string around the address.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"
#include "cpu/soft/int_lock.h"

enum bit_op { BIT_BT, BIT_BTS, BIT_BTR, BIT_BTC };

static ALWAYS_INLINE u64 bit_do(struct soft_vcpu *v, enum bit_op op,
				unsigned size, u64 a, u64 bit)
{
	bit &= size * 8 - 1;
	switch (op) {
	case BIT_BT: return FL_KEEP("bt", size, a, bit, v->fl);
	case BIT_BTS: return FL_KEEP("bts", size, a, bit, v->fl);
	case BIT_BTR: return FL_KEEP("btr", size, a, bit, v->fl);
	default: return FL_KEEP("btc", size, a, bit, v->fl);
	}
}

/* The bit offset: immediate, or the register's signed value */
static ALWAYS_INLINE s64 bit_offset(struct soft_vcpu *v, const struct insn *i,
				    unsigned size)
{
	if (i->form == FORM_RM_I)
		return (s64)(i->imm & (size * 8 - 1));
	switch (size) {
	case 2: return (s16)v->gpr[i->reg];
	case 4: return (s32)v->gpr[i->reg];
	default: return (s64)v->gpr[i->reg];
	}
}

/* Bytes from the operand's address to the unit that holds the bit */
u64 int_bit_delta(struct soft_vcpu *v, const struct insn *i, unsigned size)
{
	s64 units = bit_offset(v, i, size) >> (3 + int_size_index(size));

	return (u64)units * size;
}

static ALWAYS_INLINE void bit_reg(struct soft_vcpu *v, const struct insn *i,
				  enum bit_op op, unsigned size)
{
	u64 a = reg_get(v, i->rm, size);

	a = bit_do(v, op, size, a, (u64)bit_offset(v, i, size));
	if (op != BIT_BT)
		reg_set(v, i->rm, size, a);
	NEXT();
}

static ALWAYS_INLINE void bit_mem(struct soft_vcpu *v, const struct insn *i,
				  enum bit_op op, unsigned size)
{
	u64 bit = (u64)bit_offset(v, i, size);
	u64 delta = int_bit_delta(v, i, size);
	u64 lin;
	void *p;

	if (op == BIT_BT) {
		lin = int_lin_at(v, i, EA_ANY, size, MMU_READ, delta);
		bit_do(v, op, size, int_ld(v, i, lin, size, HOW_CHECKED), bit);
	} else {
		lin = int_lin_at(v, i, EA_ANY, size, MMU_WRITE, delta);
		p = int_rmw(v, i, lin, size, HOW_CHECKED);
		host_st(p, size, bit_do(v, op, size, host_ld(p, size), bit));
		int_rmw_end(v, i, lin, size, HOW_CHECKED, p);
	}
	NEXT();
}

#define BIT_SIZE(name, op, size)         \
	static HANDLER(name##_r##size)   \
	{                                \
		bit_reg(v, i, op, size); \
	}                                \
	static HANDLER(name##_m##size)   \
	{                                \
		bit_mem(v, i, op, size); \
	}
#define BIT_DEFINE(name, op)                                  \
	BIT_SIZE(name, op, 2)                                 \
	BIT_SIZE(name, op, 4)                                 \
	BIT_SIZE(name, op, 8)                                 \
	static const struct bit_fns name = {                  \
		.r = {NULL, name##_r2, name##_r4, name##_r8}, \
		.m = {NULL, name##_m2, name##_m4, name##_m8}, \
	};

struct bit_fns {
	insn_fn *r[4], *m[4];
};

BIT_DEFINE(bit_bt, BIT_BT)
BIT_DEFINE(bit_bts, BIT_BTS)
BIT_DEFINE(bit_btr, BIT_BTR)
BIT_DEFINE(bit_btc, BIT_BTC)

/*
 * BSF, BSR: of zero, the destination stays as it is, by what the host does
 * with all its 64 bits.
 */
#define SCAN_ASM(op, k)                        \
	asm(op " %" k "2, %" k "0\n\t" FL_SAVE \
	    : "+&r"(d), "=&a"(fl)              \
	    : "r"(s)                           \
	    : "cc")

#define SCAN_SIZE(name, size, suffix, k)        \
	static HANDLER(name##size)              \
	{                                       \
		u64 s = int_get_rm(v, i, size); \
		u64 d = *int_gpr(v, i->reg);    \
		u16 fl;                         \
		SCAN_ASM(#name suffix, k);      \
		v->fl = fl;                     \
		*int_gpr(v, i->reg) = d;        \
		NEXT();                         \
	}
#define SCAN_DEFINE(name)            \
	SCAN_SIZE(name, 2, "w", "w") \
	SCAN_SIZE(name, 4, "l", "k") \
	SCAN_SIZE(name, 8, "q", "q") \
	static insn_fn *const name##_fns[] = {NULL, name##2, name##4, name##8};

SCAN_DEFINE(bsf)
SCAN_DEFINE(bsr)
SCAN_DEFINE(lzcnt)
SCAN_DEFINE(tzcnt)
SCAN_DEFINE(popcnt)

static HANDLER(bit_crc32)
{
	u64 s = int_get_rm(v, i, i->srcsize);
	u64 d = (u32)*int_gpr(v, i->reg);

	switch (i->srcsize) {
	case 1: asm("crc32b %b1, %k0" : "+r"(d) : "q"(s)); break;
	case 2: asm("crc32w %w1, %k0" : "+r"(d) : "r"(s)); break;
	case 4: asm("crc32l %k1, %k0" : "+r"(d) : "r"(s)); break;
	case 8: asm("crc32q %1, %0" : "+r"(d) : "r"(s)); break;
	}
	*int_gpr(v, i->reg) = d;
	NEXT();
}

static insn_fn *bit_pick(const struct bit_fns *f, const struct insn *i)
{
	unsigned s = int_size_index(i->opsize);

	if (i->prefix & PFX_LOCK)
		return NULL; /* int_lock.c */
	return i->mem ? f->m[s] : f->r[s];
}

insn_fn *int_bind_bit(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize | 16) & 3;

	switch (i->op) {
	case OP_BT: return bit_pick(&bit_bt, i);
	case OP_BTS: return bit_pick(&bit_bts, i);
	case OP_BTR: return bit_pick(&bit_btr, i);
	case OP_BTC: return bit_pick(&bit_btc, i);
	case OP_BSF: return bsf_fns[s];
	case OP_BSR: return bsr_fns[s];
	case OP_LZCNT: return lzcnt_fns[s];
	case OP_TZCNT: return tzcnt_fns[s];
	case OP_POPCNT: return popcnt_fns[s];
	case OP_CRC32: return bit_crc32;
	default: return NULL;
	}
}
