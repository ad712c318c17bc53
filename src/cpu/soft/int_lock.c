/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Read-modify-write instructions that are atomic: the LOCK forms, XCHG with
 * memory, and (always, to have them once) XADD and CMPXCHG with memory. Each
 * runs the host's LOCK instruction on the operand in place.
 */
#include "cpu/soft/int_lock.h"

#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

/* "lock op src, *p" with the guest's flags before and after. */
#define LOCK_BINARY_(op, type, cons)                              \
	asm volatile(FL_RESTORE "lock; " op " %2, %0\n\t" FL_SAVE \
		     : "+m"(*(type *)p), "+a"(fl)                 \
		     : cons((type)b)                              \
		     : "cc", "memory")
#define LOCK_UNARY_(op, type)                                 \
	asm volatile(FL_RESTORE "lock; " op " %0\n\t" FL_SAVE \
		     : "+m"(*(type *)p), "+a"(fl)             \
		     :                                        \
		     : "cc", "memory")

#define LOCK_SIZES(DO, op)               \
	switch (size) {                  \
	case 1: DO(op "b", u8); break;   \
	case 2: DO(op "w", u16); break;  \
	case 4: DO(op "l", u32); break;  \
	default: DO(op "q", u64); break; \
	}

#define LOCK_BINARY(op, type) LOCK_BINARY_(op, type, "q")
#define LOCK_UNARY(op, type)  LOCK_UNARY_(op, type)

/* The operation on size bytes at p; flags in and out by fl. */
#define LOCK_DO(name, DO, op)                                  \
	static u16 name(void *p, unsigned size, u64 b, u16 fl) \
	{                                                      \
		(void)b;                                       \
		LOCK_SIZES(DO, op)                             \
		return fl;                                     \
	}

LOCK_DO(lock_add, LOCK_BINARY, "add")
LOCK_DO(lock_or, LOCK_BINARY, "or")
LOCK_DO(lock_adc, LOCK_BINARY, "adc")
LOCK_DO(lock_sbb, LOCK_BINARY, "sbb")
LOCK_DO(lock_and, LOCK_BINARY, "and")
LOCK_DO(lock_sub, LOCK_BINARY, "sub")
LOCK_DO(lock_xor, LOCK_BINARY, "xor")
LOCK_DO(lock_inc, LOCK_UNARY, "inc")
LOCK_DO(lock_dec, LOCK_UNARY, "dec")
LOCK_DO(lock_neg, LOCK_UNARY, "neg")
LOCK_DO(lock_not, LOCK_UNARY, "not")

/* Bit operations have no byte form; the offset is within the operand. */
#define LOCK_BIT(name, op)                                     \
	static u16 name(void *p, unsigned size, u64 b, u16 fl) \
	{                                                      \
		b &= size * 8 - 1;                             \
		switch (size) {                                \
		case 2: LOCK_BINARY(op "w", u16); break;       \
		case 4: LOCK_BINARY(op "l", u32); break;       \
		default: LOCK_BINARY(op "q", u64); break;      \
		}                                              \
		return fl;                                     \
	}

LOCK_BIT(lock_bts, "bts")
LOCK_BIT(lock_btr, "btr")
LOCK_BIT(lock_btc, "btc")

typedef u16 lock_fn(void *p, unsigned size, u64 b, u16 fl);

static ALWAYS_INLINE void lock_run(struct soft_vcpu *v, const struct insn *i,
				   lock_fn *fn, u64 b, u64 delta)
{
	unsigned size = i->opsize;
	u64 lin = int_lin_at(v, i, EA_ANY, size, MMU_WRITE, delta);
	void *p = soft_atomic_begin(v, lin, size);

	v->fl = fn(p, size, b, v->fl);
	soft_atomic_end(v, lin, size, p);
	NEXT();
}

#define LOCK_HANDLERS(name)                                             \
	static HANDLER(name##_r)                                        \
	{                                                               \
		lock_run(v, i, name, reg_get(v, i->reg, i->opsize), 0); \
	}                                                               \
	static HANDLER(name##_i)                                        \
	{                                                               \
		lock_run(v, i, name, i->imm, 0);                        \
	}
LOCK_HANDLERS(lock_add)
LOCK_HANDLERS(lock_or)
LOCK_HANDLERS(lock_adc)
LOCK_HANDLERS(lock_sbb)
LOCK_HANDLERS(lock_and)
LOCK_HANDLERS(lock_sub)
LOCK_HANDLERS(lock_xor)

#define LOCK_HANDLER(name)                  \
	static HANDLER(name##_m)            \
	{                                   \
		lock_run(v, i, name, 0, 0); \
	}
LOCK_HANDLER(lock_inc)
LOCK_HANDLER(lock_dec)
LOCK_HANDLER(lock_neg)
LOCK_HANDLER(lock_not)

#define LOCK_BIT_HANDLER(name)                                           \
	static HANDLER(name##_m)                                         \
	{                                                                \
		u64 b = i->form == FORM_RM_I ? i->imm : v->gpr[i->reg];  \
		lock_run(v, i, name, b, int_bit_delta(v, i, i->opsize)); \
	}
LOCK_BIT_HANDLER(lock_bts)
LOCK_BIT_HANDLER(lock_btr)
LOCK_BIT_HANDLER(lock_btc)

/* ---- XCHG, XADD, CMPXCHG ---- */

#define XCHG_SIZE(size, type)                                                 \
	static HANDLER(xchg##size)                                            \
	{                                                                     \
		u64 lin = int_lin(v, i, EA_ANY, size, MMU_WRITE);             \
		type *p = soft_atomic_begin(v, lin, size);                    \
		type b = (type)reg_get(v, i->reg, size);                      \
		asm volatile("xchg %0, %1" : "+q"(b), "+m"(*p) : : "memory"); \
		soft_atomic_end(v, lin, size, p);                             \
		reg_set(v, i->reg, size, b);                                  \
		NEXT();                                                       \
	}                                                                     \
	static HANDLER(xadd_m##size)                                          \
	{                                                                     \
		u64 lin = int_lin(v, i, EA_ANY, size, MMU_WRITE);             \
		type *p = soft_atomic_begin(v, lin, size);                    \
		type b = (type)reg_get(v, i->reg, size);                      \
		u16 fl;                                                       \
		asm volatile("lock; xadd %0, %1\n\t" FL_SAVE                  \
			     : "+q"(b), "+m"(*p), "=&a"(fl)                   \
			     :                                                \
			     : "cc", "memory");                               \
		soft_atomic_end(v, lin, size, p);                             \
		v->fl = fl;                                                   \
		reg_set(v, i->reg, size, b);                                  \
		NEXT();                                                       \
	}                                                                     \
	static HANDLER(xadd_r##size)                                          \
	{                                                                     \
		u64 a = reg_get(v, i->rm, size);                              \
		u64 b = reg_get(v, i->reg, size);                             \
		u64 sum = FL_BINARY("add", size, a, b, v->fl);                \
		reg_set(v, i->reg, size, a);                                  \
		reg_set(v, i->rm, size, sum);                                 \
		NEXT();                                                       \
	}
XCHG_SIZE(1, u8)
XCHG_SIZE(2, u16)
XCHG_SIZE(4, u32)
XCHG_SIZE(8, u64)

/*
 * On whole registers, so that what becomes of the upper halves is what the
 * host does. mod: the operand modifier of the size.
 */
#define CMPXCHG_SIZE(size, type, mod, suffix)                                 \
	static HANDLER(cmpxchg_m##size)                                       \
	{                                                                     \
		u64 lin = int_lin(v, i, EA_ANY, size, MMU_WRITE);             \
		type *p = soft_atomic_begin(v, lin, size);                    \
		u64 b = reg_get(v, i->reg, size);                             \
		u64 acc = v->gpr[REG_AX];                                     \
		u16 fl;                                                       \
		asm volatile("mov %2, %%rax\n\tlock; cmpxchg" suffix " %" mod \
			     "3, %1\n\tmov %%rax, %2\n\t" FL_SAVE             \
			     : "=&a"(fl), "+m"(*p), "+&r"(acc)                \
			     : "q"(b)                                         \
			     : "cc", "memory");                               \
		soft_atomic_end(v, lin, size, p);                             \
		v->fl = fl;                                                   \
		v->gpr[REG_AX] = acc;                                         \
		NEXT();                                                       \
	}                                                                     \
	static HANDLER(cmpxchg_r##size)                                       \
	{                                                                     \
		unsigned shift = size == 1 ? (i->rm >> 4) * 8 : 0;            \
		u64 *rm = int_gpr(v, size == 1 ? i->rm & 15 : i->rm);         \
		u64 b = reg_get(v, i->reg, size);                             \
		u64 acc = v->gpr[REG_AX];                                     \
		u64 d = rotr64(*rm, shift);                                   \
		u16 fl;                                                       \
		asm volatile("mov %2, %%rax\n\tcmpxchg" suffix " %" mod       \
			     "3, %" mod "1\n\tmov %%rax, %2\n\t" FL_SAVE      \
			     : "=&a"(fl), "+&q"(d), "+&r"(acc)                \
			     : "q"(b)                                         \
			     : "cc");                                         \
		v->fl = fl;                                                   \
		if ((fl & FL_ZF) || rm != &v->gpr[REG_AX])                    \
			*rm = rotr64(d, -shift & 63);                         \
		if (!(fl & FL_ZF))                                            \
			v->gpr[REG_AX] = acc;                                 \
		NEXT();                                                       \
	}

static ALWAYS_INLINE u64 rotr64(u64 a, unsigned n)
{
	return n ? a >> n | a << (64 - n) : a;
}

CMPXCHG_SIZE(1, u8, "b", "b")
CMPXCHG_SIZE(2, u16, "w", "w")
CMPXCHG_SIZE(4, u32, "k", "l")
CMPXCHG_SIZE(8, u64, "q", "q")

static void lock_set_zf(struct soft_vcpu *v, bool zf)
{
	v->fl = zf ? v->fl | FL_ZF : v->fl & (u16)~FL_ZF;
}

static HANDLER(cmpxchg8b)
{
	u64 lin = int_lin(v, i, EA_ANY, 8, MMU_WRITE);
	u64 *p = soft_atomic_begin(v, lin, 8);
	u64 old = (u32)v->gpr[REG_AX] | v->gpr[REG_DX] << 32;
	u64 new = (u32)v->gpr[REG_BX] | v->gpr[REG_CX] << 32;
	bool zf;

	asm volatile("lock; cmpxchgq %3, %1"
		     : "+a"(old), "+m"(*p), "=@ccz"(zf)
		     : "r"(new)
		     : "memory");
	soft_atomic_end(v, lin, 8, p);
	if (!zf) {
		reg_set(v, REG_AX, 4, old);
		reg_set(v, REG_DX, 4, old >> 32);
	}
	lock_set_zf(v, zf);
	NEXT();
}

static HANDLER(cmpxchg16b)
{
	u64 lin = int_lin(v, i, EA_ANY, 16, MMU_WRITE);
	u64 *p;
	bool zf;

	if (lin & 15)
		int_gp(v, i);
	p = soft_atomic_begin(v, lin, 16);
	asm volatile("lock; cmpxchg16b %2"
		     : "+a"(v->gpr[REG_AX]), "+d"(v->gpr[REG_DX]),
		       "+m"(*(unsigned __int128 *)p), "=@ccz"(zf)
		     : "b"(v->gpr[REG_BX]), "c"(v->gpr[REG_CX])
		     : "memory");
	soft_atomic_end(v, lin, 16, p);
	lock_set_zf(v, zf);
	NEXT();
}

static insn_fn *const xchg_fns[] = INT_SIZES(xchg);
static insn_fn *const xadd_m[] = INT_SIZES(xadd_m);
static insn_fn *const xadd_r[] = INT_SIZES(xadd_r);
static insn_fn *const cmpxchg_m[] = INT_SIZES(cmpxchg_m);
static insn_fn *const cmpxchg_r[] = INT_SIZES(cmpxchg_r);

static insn_fn *lock_bind_locked(const struct insn *i)
{
	bool r = i->form == FORM_RM_R;

	switch (i->op) {
	case OP_ADD: return r ? lock_add_r : lock_add_i;
	case OP_OR: return r ? lock_or_r : lock_or_i;
	case OP_ADC: return r ? lock_adc_r : lock_adc_i;
	case OP_SBB: return r ? lock_sbb_r : lock_sbb_i;
	case OP_AND: return r ? lock_and_r : lock_and_i;
	case OP_SUB: return r ? lock_sub_r : lock_sub_i;
	case OP_XOR: return r ? lock_xor_r : lock_xor_i;
	case OP_INC: return lock_inc_m;
	case OP_DEC: return lock_dec_m;
	case OP_NEG: return lock_neg_m;
	case OP_NOT: return lock_not_m;
	case OP_BTS: return lock_bts_m;
	case OP_BTR: return lock_btr_m;
	case OP_BTC: return lock_btc_m;
	default: return NULL;
	}
}

insn_fn *int_bind_lock(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize | 16) & 3;

	switch (i->op) {
	case OP_XCHG: return i->mem ? xchg_fns[s] : NULL;
	case OP_XADD: return i->mem ? xadd_m[s] : xadd_r[s];
	case OP_CMPXCHG: return i->mem ? cmpxchg_m[s] : cmpxchg_r[s];
	case OP_CMPXCHG8B: return cmpxchg8b;
	case OP_CMPXCHG16B: return cmpxchg16b;
	default: return i->prefix & PFX_LOCK ? lock_bind_locked(i) : NULL;
	}
}
