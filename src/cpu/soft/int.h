/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the handlers of integer instructions are made of.
 *
 * Handlers are threaded: each ends with NEXT(), a jump to the handler of the
 * following entry, so they must be compiled to a tail call, with no local
 * whose address is taken. v->rip is not kept while a block runs: it is
 * block_rip + insn.off, stored (int_sync()) before anything that may look at
 * it. The fast paths below need no call-saved register: where the TLB misses
 * they call an assembly stub that preserves all registers.
 *
 * Where sanitizers keep the compiler from making tail calls, NEXT() returns
 * to a loop (interp.c).
 */
#ifndef CPU_SOFT_INT_H
#define CPU_SOFT_INT_H

#include "cpu/soft/access.h"
#include "cpu/soft/code.h"

#ifndef INT_THREADED /* the build sets it to 0 with sanitizers */
#ifdef __OPTIMIZE__
#define INT_THREADED 1
#else
#define INT_THREADED 0
#endif
#endif

#define HANDLER(name) void name(struct soft_vcpu *v, const struct insn *i)

/* Goes on at entry n; the last statement of a handler. */
static ALWAYS_INLINE void int_go(struct soft_vcpu *v, const struct insn *n)
{
	if (INT_THREADED)
		n->fn(v, n);
	else
		v->block_pc = n;
}
#define NEXT() int_go(v, i + 1)

/* Runs entries from i on, for those who are no handlers themselves. */
static inline void int_run(struct soft_vcpu *v, const struct insn *i)
{
	if (INT_THREADED) {
		i->fn(v, i);
		return;
	}
	while (i) {
		v->block_pc = NULL;
		i->fn(v, i);
		i = v->block_pc;
	}
}

/* v->rip of instruction i, for all that may fault or look at it. */
static ALWAYS_INLINE void int_sync(struct soft_vcpu *v, const struct insn *i)
{
	v->rip = v->block_rip + i->off;
}

/* Entries that are no instructions, and callers of foreign handlers */
HANDLER(int_fall);
HANDLER(int_dropped);
HANDLER(int_undefined);
HANDLER(int_too_long);
HANDLER(int_call);
HANDLER(int_call_end);

/* Raises #GP(0), or any vector without error code, at i. */
NORETURN void int_gp(struct soft_vcpu *v, const struct insn *i);
NORETURN void int_fault(struct soft_vcpu *v, const struct insn *i, u8 vector);

/* Leaves the block before instruction i: v->rip, and the count put right. */
void int_leave(struct soft_vcpu *v, const struct insn *i);
/* Takes what of the block comes from i on off the count. */
void int_uncount(struct soft_vcpu *v, const struct insn *i);

/*
 * Enters block b at rip; the last statement of a handler. If there is
 * something to attend to, returns to the loop instead.
 */
static ALWAYS_INLINE void int_enter(struct soft_vcpu *v, struct soft_block *b,
				    u64 rip)
{
	if (unlikely(__atomic_load_n(&v->attention, __ATOMIC_RELAXED))) {
		v->rip = rip;
		return;
	}
	if (unlikely(--b->heat == 0)) {
		b->heat = 1;
		v->rip = rip;
		return;
	}
	v->block = b;
	v->block_rip = rip;
	v->insns += b->n;
	int_go(v, b->insn);
}

/*
 * Goes to rip, which is canonical, through the map of entry points or else
 * back to the loop.
 */
static ALWAYS_INLINE void int_jump(struct soft_vcpu *v, u64 rip)
{
	const struct code_entry *e = code_slot(v, rip);

	if (likely(e->tag == code_tag(v, rip)))
		int_enter(v, e->block, rip);
	else
		v->rip = rip;
}

/* ---- Registers ---- */

static ALWAYS_INLINE u64 int_mask(unsigned size, u64 val)
{
	return size == 8 ? val : val & (BIT64(size * 8 % 64) - 1);
}

static ALWAYS_INLINE u64 *int_gpr(struct soft_vcpu *v, unsigned r)
{
	return (u64 *)((u8 *)v + offsetof(struct soft_vcpu, gpr)) + r;
}

/* Register r at a size; for bytes AH..BH are 16..19. */
static ALWAYS_INLINE u64 reg_get(struct soft_vcpu *v, unsigned r, unsigned size)
{
	switch (size) {
	case 1: return ((u8 *)v->gpr)[(r & 15) * 8 + (r >> 4)];
	case 2: return (u16)*int_gpr(v, r);
	case 4: return (u32)*int_gpr(v, r);
	default: return *int_gpr(v, r);
	}
}

/* Always one store of the whole register: narrow ones stall later loads. */
static ALWAYS_INLINE void reg_set(struct soft_vcpu *v, unsigned r,
				  unsigned size, u64 val)
{
	switch (size) {
	case 1: {
		u64 *p = int_gpr(v, r & 15);
		unsigned shift = (r >> 4) * 8;

		*p = (*p & ~(0xffull << shift)) | (u64)(u8)val << shift;
		break;
	}
	case 2: {
		u64 *p = int_gpr(v, r);

		*p = (*p & ~0xffffull) | (u16)val;
		break;
	}
	case 4: *int_gpr(v, r) = (u32)val; break;
	default: *int_gpr(v, r) = val;
	}
}

/* ---- Addresses ---- */

/* How a memory operand's address is formed; chosen by int_ea_kind(). */
enum ea_kind {
	EA_BD,  /* 64-bit, flat: base + disp */
	EA_BID, /* 64-bit, flat: base + index * scale + disp */
	EA_X64, /* 64-bit: also RIP, FS, GS */
	EA_ANY,
	EA_KINDS
};

static inline enum ea_kind int_ea_kind(const struct insn *i)
{
	if (i->adsize != 8)
		return EA_ANY;
	if (i->seg == SEG_FS || i->seg == SEG_GS || i->base == INSN_REG_RIP)
		return EA_X64;
	if (i->base == INSN_REG_NONE || i->index != INSN_REG_NONE)
		return EA_BID;
	return EA_BD;
}

static ALWAYS_INLINE u64 int_ea64(struct soft_vcpu *v, const struct insn *i)
{
	v->ea_rip = v->block_rip + i->off + i->len;
	return *int_gpr(v, i->base) + (*int_gpr(v, i->index) << i->scale) +
	       (u64)(s64)i->disp;
}

/* The offset of the memory operand in its segment. */
static ALWAYS_INLINE u64 int_ea(struct soft_vcpu *v, const struct insn *i)
{
	u64 ea = int_ea64(v, i);

	return i->adsize == 8 ? ea : i->adsize == 4 ? (u32)ea : (u16)ea;
}

/* EA_ANY, out of line: see int_lin_at(). */
gva_t int_lin_any(struct soft_vcpu *v, const struct insn *i, unsigned size,
		  enum mmu_access access, u64 delta);

/*
 * The linear address of the memory operand plus delta. EA_ANY is fully
 * checked; of the others only what the TLB finds: the slow paths check.
 */
static ALWAYS_INLINE gva_t int_lin_at(struct soft_vcpu *v, const struct insn *i,
				      enum ea_kind kind, unsigned size,
				      enum mmu_access access, u64 delta)
{
	u64 lin;

	switch (kind) {
	case EA_BD: return *int_gpr(v, i->base) + (u64)(s64)i->disp + delta;
	case EA_BID:
		return *int_gpr(v, i->base) +
		       (*int_gpr(v, i->index) << i->scale) + (u64)(s64)i->disp +
		       delta;
	case EA_X64:
		lin = int_ea64(v, i) + delta;
		if (i->seg >= SEG_FS)
			lin += v->seg[i->seg].base;
		return lin;
	default: return int_lin_any(v, i, size, access, delta);
	}
}

static ALWAYS_INLINE gva_t int_lin(struct soft_vcpu *v, const struct insn *i,
				   enum ea_kind kind, unsigned size,
				   enum mmu_access access)
{
	return int_lin_at(v, i, kind, size, access, 0);
}

/* ---- Memory ---- */

/*
 * The slow paths, called from the stubs below. how: size in the low byte,
 * and what is known of lin.
 */
enum {
	HOW_CHECKED = 0x100, /* segment and canonical checks are done */
	HOW_STACK = 0x200,   /* through SS */
};
u64 int_ld_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		unsigned how);
void int_st_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		 unsigned how, u64 val);
void *int_rmw_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		   unsigned how);
void int_rmw_end_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		      unsigned how);

/*
 * A stub takes (rdi, rsi, rdx, rcx) and how in eax, and preserves all but
 * rax and flags. The red zone is stepped over.
 */
#define INT_STUB(name, out, ...)                                               \
	asm volatile("lea -128(%%rsp), %%rsp; call " name                      \
		     "; lea 128(%%rsp), %%rsp"                                 \
		     : "=a"(out)                                               \
		     : "D"(v), "S"(i), "d"(lin), __VA_ARGS__                   \
		     : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", \
		       "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",        \
		       "xmm11", "xmm12", "xmm13", "xmm14", "xmm15")

#define HOW_KIND(kind) ((kind) == EA_ANY ? HOW_CHECKED : 0)

static ALWAYS_INLINE u64 int_ld(struct soft_vcpu *v, const struct insn *i,
				u64 lin, unsigned size, unsigned how)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	u64 out;

	if (tlb_hit(t->tag_read, lin, size))
		return host_ld((void *)(lin + t->addend), size);
	INT_STUB("int_ld_stub", out, "a"((u64)(size | how)));
	return out;
}

static ALWAYS_INLINE void int_st(struct soft_vcpu *v, const struct insn *i,
				 u64 lin, unsigned size, unsigned how, u64 val)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	u64 out;

	if (tlb_hit(t->tag_write, lin, size)) {
		host_st((void *)(lin + t->addend), size, val);
		return;
	}
	INT_STUB("int_st_stub", out, "a"((u64)(size | how)), "c"(val));
}

/*
 * A pointer to read, change and write the operand in place. If it is not
 * directly accessible it is a copy (v->rmw), which int_rmw_end() writes back;
 * that it may be written is checked first.
 */
static ALWAYS_INLINE void *int_rmw(struct soft_vcpu *v, const struct insn *i,
				   u64 lin, unsigned size, unsigned how)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	void *out;

	if (tlb_hit(t->tag_write, lin, size))
		return (void *)(lin + t->addend);
	INT_STUB("int_rmw_stub", out, "a"((u64)(size | how)));
	return out;
}

static ALWAYS_INLINE void int_rmw_end(struct soft_vcpu *v, const struct insn *i,
				      u64 lin, unsigned size, unsigned how,
				      void *p)
{
	u64 out;

	if (unlikely(p == &v->rmw))
		INT_STUB("int_rmw_end_stub", out, "a"((u64)(size | how)));
}

/* The memory operand of i, which has size bytes. */
static ALWAYS_INLINE u64 int_ld_rm(struct soft_vcpu *v, const struct insn *i,
				   enum ea_kind kind, unsigned size)
{
	u64 lin = int_lin(v, i, kind, size, MMU_READ);

	return int_ld(v, i, lin, size, HOW_KIND(kind));
}

static ALWAYS_INLINE void int_st_rm(struct soft_vcpu *v, const struct insn *i,
				    enum ea_kind kind, unsigned size, u64 val)
{
	u64 lin = int_lin(v, i, kind, size, MMU_WRITE);

	int_st(v, i, lin, size, HOW_KIND(kind), val);
}

/* r/m of either kind, for handlers that are not worth a special form */
static inline u64 int_get_rm(struct soft_vcpu *v, const struct insn *i,
			     unsigned size)
{
	return i->mem ? int_ld_rm(v, i, EA_ANY, size) : reg_get(v, i->rm, size);
}

#endif
