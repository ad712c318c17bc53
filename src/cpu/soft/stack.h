/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's stack as instructions see it. Its addresses are 64 bits wide in
 * 64-bit code, else 32 or 16 by SS.B.
 */
#ifndef CPU_SOFT_STACK_H
#define CPU_SOFT_STACK_H

#include "cpu/soft/int.h"

static inline u64 stack_mask(const struct soft_vcpu *v)
{
	if (v->mode & MODE_CS64)
		return ~0ull;
	return v->mode & MODE_SS32 ? 0xffffffff : 0xffff;
}

/* Sets those bits of RSP that the stack's width covers. */
static inline void stack_set(struct soft_vcpu *v, u64 sp)
{
	u64 mask = stack_mask(v);

	v->gpr[REG_SP] = (v->gpr[REG_SP] & ~mask) | (sp & mask);
}

static inline void stack_drop(struct soft_vcpu *v, u64 bytes)
{
	stack_set(v, v->gpr[REG_SP] + bytes);
}

/* Linear address of SS:sp for an access of size bytes. */
static inline gva_t stack_lin(struct soft_vcpu *v, u64 sp, unsigned size,
			      enum mmu_access access)
{
	return soft_lin(v, SEG_SS, sp & stack_mask(v), size, access);
}

/* RSP changes last, so that the store may fault. */
static inline void stack_push(struct soft_vcpu *v, const struct insn *i,
			      unsigned size, u64 val)
{
	u64 sp = v->gpr[REG_SP] - size;

	int_sync(v, i);
	soft_st(v, stack_lin(v, sp, size, MMU_WRITE), size, val);
	stack_set(v, sp);
}

/* The value of size bytes at RSP + delta. */
static inline u64 stack_peek(struct soft_vcpu *v, const struct insn *i,
			     unsigned size, u64 delta)
{
	int_sync(v, i);
	return soft_ld(v, stack_lin(v, v->gpr[REG_SP] + delta, size, MMU_READ),
		       size);
}

static ALWAYS_INLINE void stack_push64(struct soft_vcpu *v,
				       const struct insn *i, u64 val)
{
	u64 sp = v->gpr[REG_SP] - 8;

	int_st(v, i, sp, 8, HOW_STACK, val);
	v->gpr[REG_SP] = sp;
}

#endif
