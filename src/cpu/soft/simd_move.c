/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The commonest SIMD instructions in C, without a thunk: moves of whole
 * registers, of their low and high parts, from and to general registers, and
 * bitwise logic.
 *
 * Handlers come in pairs, sse_ for the legacy encodings (the upper half of the
 * YMM register stays) and avx_ for VEX (zeroed, or moved with 256 bits).
 */
#include "cpu/soft/simd_priv.h"

typedef u64 v128 __attribute__((vector_size(16)));

static v128 *move_xmm(struct soft_vcpu *v, unsigned n)
{
	return (v128 *)simd_xmm(v, n);
}

static v128 *move_ymmh(struct soft_vcpu *v, unsigned n)
{
	return (v128 *)simd_ymmh(v, n);
}

static ALWAYS_INLINE gva_t move_lin(struct soft_vcpu *v, const struct insn *i,
				    unsigned size, enum mmu_access access,
				    bool aligned)
{
	gva_t lin = simd_lin(v, i, size, access);

	if (aligned && unlikely(lin & (size - 1)))
		soft_fault_err(v, VEC_GP, 0);
	return lin;
}

static ALWAYS_INLINE void move_ld(struct soft_vcpu *v, gva_t lin, void *to,
				  unsigned size)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_read, lin, size))
		memcpy(to, (void *)(lin + t->addend), size);
	else
		soft_ld_bytes(v, lin, to, size);
}

static ALWAYS_INLINE void move_st(struct soft_vcpu *v, gva_t lin,
				  const void *from, unsigned size)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_write, lin, size))
		memcpy((void *)(lin + t->addend), from, size);
	else
		soft_st_bytes(v, lin, from, size);
}

/* ---- Whole registers ---- */

static void sse_mov_regs(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter_sse(v);
	*move_xmm(v, i->reg) = *move_xmm(v, i->rm);
}

/* 29, 11, 7f: r/m is the destination. */
static void sse_mov_regs_back(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter_sse(v);
	*move_xmm(v, i->rm) = *move_xmm(v, i->reg);
}

static ALWAYS_INLINE void sse_mov_load(struct soft_vcpu *v,
				       const struct insn *i, bool aligned)
{
	u8 x[16];

	simd_enter_sse(v);
	move_ld(v, move_lin(v, i, 16, MMU_READ, aligned), x, 16);
	memcpy(simd_xmm(v, i->reg), x, 16);
}

static ALWAYS_INLINE void sse_mov_store(struct soft_vcpu *v,
					const struct insn *i, bool aligned)
{
	simd_enter_sse(v);
	move_st(v, move_lin(v, i, 16, MMU_WRITE, aligned), simd_xmm(v, i->reg),
		16);
}

static ALWAYS_INLINE void avx_mov(struct soft_vcpu *v, const struct insn *i,
				  unsigned to, unsigned from)
{
	*move_xmm(v, to) = *move_xmm(v, from);
	*move_ymmh(v, to) =
		i->prefix & PFX_VEXL ? *move_ymmh(v, from) : (v128){0};
}

static void avx_mov_regs(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter_vex(v);
	avx_mov(v, i, i->reg, i->rm);
}

static void avx_mov_regs_back(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter_vex(v);
	avx_mov(v, i, i->rm, i->reg);
}

static ALWAYS_INLINE void avx_mov_load(struct soft_vcpu *v,
				       const struct insn *i, bool aligned)
{
	u8 x[32] __attribute__((aligned(32)));

	simd_enter_vex(v);
	if (i->prefix & PFX_VEXL) {
		move_ld(v, move_lin(v, i, 32, MMU_READ, aligned), x, 32);
		memcpy(simd_xmm(v, i->reg), x, 16);
		memcpy(simd_ymmh(v, i->reg), x + 16, 16);
	} else {
		move_ld(v, move_lin(v, i, 16, MMU_READ, aligned), x, 16);
		memcpy(simd_xmm(v, i->reg), x, 16);
		*move_ymmh(v, i->reg) = (v128){0};
	}
}

static ALWAYS_INLINE void avx_mov_store(struct soft_vcpu *v,
					const struct insn *i, bool aligned)
{
	u8 x[32] __attribute__((aligned(32)));

	simd_enter_vex(v);
	memcpy(x, simd_xmm(v, i->reg), 16);
	if (i->prefix & PFX_VEXL) {
		memcpy(x + 16, simd_ymmh(v, i->reg), 16);
		move_st(v, move_lin(v, i, 32, MMU_WRITE, aligned), x, 32);
	} else {
		move_st(v, move_lin(v, i, 16, MMU_WRITE, aligned), x, 16);
	}
}

#define MOVE_VARIANT(fn, suffix, aligned)                                 \
	static void fn##suffix(struct soft_vcpu *v, const struct insn *i) \
	{                                                                 \
		fn(v, i, aligned);                                        \
	}

MOVE_VARIANT(sse_mov_load, _a, true)
MOVE_VARIANT(sse_mov_load, _u, false)
MOVE_VARIANT(sse_mov_store, _a, true)
MOVE_VARIANT(sse_mov_store, _u, false)
MOVE_VARIANT(avx_mov_load, _a, true)
MOVE_VARIANT(avx_mov_load, _u, false)
MOVE_VARIANT(avx_mov_store, _a, true)
MOVE_VARIANT(avx_mov_store, _u, false)

/* ---- Scalars in memory: MOVSS, MOVSD, MOVQ, MOVLPS, MOVHPS ---- */

/* Loads size bytes and zeroes the rest. */
static ALWAYS_INLINE void move_load_low(struct soft_vcpu *v,
					const struct insn *i, unsigned size)
{
	u64 x;

	simd_enter(v, i);
	x = soft_ld(v, simd_lin(v, i, size, MMU_READ), size);
	*move_xmm(v, i->reg) = (v128){x, 0};
	if (i->prefix & PFX_VEX)
		*move_ymmh(v, i->reg) = (v128){0};
}

static ALWAYS_INLINE void move_store_part(struct soft_vcpu *v,
					  const struct insn *i, unsigned size,
					  unsigned at)
{
	u64 x = 0;

	simd_enter(v, i);
	memcpy(&x, simd_xmm(v, i->reg) + at, size);
	soft_st(v, simd_lin(v, i, size, MMU_WRITE), size, x);
}

/* Legacy MOVLPS, MOVHPS: the other half stays. */
static ALWAYS_INLINE void move_load_half(struct soft_vcpu *v,
					 const struct insn *i, unsigned at)
{
	u64 x;

	simd_enter_sse(v);
	x = soft_ld(v, simd_lin(v, i, 8, MMU_READ), 8);
	memcpy(simd_xmm(v, i->reg) + at, &x, 8);
}

static void move_load4(struct soft_vcpu *v, const struct insn *i)
{
	move_load_low(v, i, 4);
}

static void move_load8(struct soft_vcpu *v, const struct insn *i)
{
	move_load_low(v, i, 8);
}

static void move_store4(struct soft_vcpu *v, const struct insn *i)
{
	move_store_part(v, i, 4, 0);
}

static void move_store8(struct soft_vcpu *v, const struct insn *i)
{
	move_store_part(v, i, 8, 0);
}

static void move_store_high(struct soft_vcpu *v, const struct insn *i)
{
	move_store_part(v, i, 8, 8);
}

static void move_load_lo(struct soft_vcpu *v, const struct insn *i)
{
	move_load_half(v, i, 0);
}

static void move_load_hi(struct soft_vcpu *v, const struct insn *i)
{
	move_load_half(v, i, 8);
}

/* ---- General registers: MOVD, MOVQ; MOVQ between vector registers ---- */

static ALWAYS_INLINE void move_set_low(struct soft_vcpu *v,
				       const struct insn *i, unsigned n, u64 x)
{
	*move_xmm(v, n) = (v128){x, 0};
	if (i->prefix & PFX_VEX)
		*move_ymmh(v, n) = (v128){0};
}

static void move_gpr_in(struct soft_vcpu *v, const struct insn *i)
{
	u64 x = v->gpr[i->rm];

	simd_enter(v, i);
	move_set_low(v, i, i->reg, i->srcsize == 8 ? x : (u32)x);
}

static void move_gpr_out(struct soft_vcpu *v, const struct insn *i)
{
	u64 x = (*move_xmm(v, i->reg))[0];

	simd_enter(v, i);
	v->gpr[i->rm] = i->srcsize == 8 ? x : (u32)x;
}

static void move_low_regs(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter(v, i);
	move_set_low(v, i, i->reg, (*move_xmm(v, i->rm))[0]);
}

static void move_low_regs_back(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter(v, i);
	move_set_low(v, i, i->rm, (*move_xmm(v, i->reg))[0]);
}

/* ---- Logic on registers ---- */

#define MOVE_LOGIC(name, expr)                                               \
	static void sse_##name(struct soft_vcpu *v, const struct insn *i)    \
	{                                                                    \
		v128 a = *move_xmm(v, i->reg), b = *move_xmm(v, i->rm);      \
                                                                             \
		simd_enter_sse(v);                                           \
		*move_xmm(v, i->reg) = (expr);                               \
	}                                                                    \
	static void avx_##name(struct soft_vcpu *v, const struct insn *i)    \
	{                                                                    \
		v128 a = *move_xmm(v, i->vreg), b = *move_xmm(v, i->rm), hi; \
                                                                             \
		simd_enter_vex(v);                                           \
		hi = (v128){0};                                              \
		if (i->prefix & PFX_VEXL) {                                  \
			v128 lo = (expr);                                    \
                                                                             \
			a = *move_ymmh(v, i->vreg);                          \
			b = *move_ymmh(v, i->rm);                            \
			hi = (expr);                                         \
			*move_xmm(v, i->reg) = lo;                           \
		} else {                                                     \
			*move_xmm(v, i->reg) = (expr);                       \
		}                                                            \
		*move_ymmh(v, i->reg) = hi;                                  \
	}

MOVE_LOGIC(xor, a ^ b)
MOVE_LOGIC(and, a &b)
MOVE_LOGIC(or, a | b)
MOVE_LOGIC(andn, ~a &b)

/* ---- Binding ---- */

static insn_fn *move_bind_whole(const struct insn *i, bool back)
{
	u32 attr = op_rows[i->row].attr;
	bool a = attr & OPA_ALIGN, store = attr & OPA_STORE;

	if (i->prefix & PFX_VEX) {
		if (!i->mem)
			return back ? avx_mov_regs_back : avx_mov_regs;
		if (store)
			return a ? avx_mov_store_a : avx_mov_store_u;
		return a ? avx_mov_load_a : avx_mov_load_u;
	}
	if (!i->mem)
		return back ? sse_mov_regs_back : sse_mov_regs;
	if (store)
		return a ? sse_mov_store_a : sse_mov_store_u;
	return a ? sse_mov_load_a : sse_mov_load_u;
}

/* MOVD and MOVQ: general register or memory on one side, or MOVQ xmm. */
static insn_fn *move_bind_low(const struct insn *i, bool back)
{
	const struct op_row *r = &op_rows[i->row];
	unsigned a = r->opnd[0] & OPK_KIND, b = r->opnd[1] & OPK_KIND;
	bool general = a == OPK_E || b == OPK_E;

	if (r->attr & OPA_MMX)
		return NULL;
	if (i->mem) {
		if (i->memsize == 4)
			return back ? move_store4 : move_load4;
		return back ? move_store8 : move_load8;
	}
	if (general)
		return back ? move_gpr_out : move_gpr_in;
	return back ? move_low_regs_back : move_low_regs;
}

#define BOTH(op)      \
	case OP_##op: \
	case OP_V##op

insn_fn *move_bind(const struct insn *i)
{
	const struct op_row *r = &op_rows[i->row];
	unsigned kind = r->opnd[0] & OPK_KIND;
	bool vex = i->prefix & PFX_VEX;
	bool back = kind == OPK_W || kind == OPK_E || kind == OPK_M;

	switch (i->op) {
		BOTH(MOVAPS)
		    : BOTH(MOVUPS)
		    : BOTH(MOVAPD)
		    : BOTH(MOVUPD)
		    : BOTH(MOVDQA)
		    : BOTH(MOVDQU)
		    : BOTH(LDDQU)
		    : BOTH(MOVNTPS)
		    : BOTH(MOVNTPD)
		    : BOTH(MOVNTDQ)
		    : BOTH(MOVNTDQA) : return move_bind_whole(i, back);
		BOTH(MOVD) : BOTH(MOVQ) : return move_bind_low(i, back);
		BOTH(MOVSS)
		    : return !i->mem
			? NULL
		: back ? move_store4
		       : move_load4;
	case OP_VMOVSD:
	case OP_MOVSD:
		return !i->mem ? NULL : back ? move_store8 : move_load8;
		BOTH(MOVLPS)
		    : BOTH(MOVLPD) : if (!i->mem || (vex && !back)) return NULL;
		return back ? move_store8 : move_load_lo;
		BOTH(MOVHPS)
		    : BOTH(MOVHPD) : if (!i->mem || (vex && !back)) return NULL;
		return back ? move_store_high : move_load_hi;
		BOTH(PXOR)
		    : BOTH(XORPS)
		    : BOTH(XORPD)
		    : if (i->mem || (r->attr & OPA_MMX)) return NULL;
		return vex ? avx_xor : sse_xor;
		BOTH(PAND)
		    : BOTH(ANDPS)
		    : BOTH(ANDPD)
		    : if (i->mem || (r->attr & OPA_MMX)) return NULL;
		return vex ? avx_and : sse_and;
		BOTH(POR)
		    : BOTH(ORPS)
		    : BOTH(ORPD)
		    : if (i->mem || (r->attr & OPA_MMX)) return NULL;
		return vex ? avx_or : sse_or;
		BOTH(PANDN)
		    : BOTH(ANDNPS)
		    : BOTH(ANDNPD)
		    : if (i->mem || (r->attr & OPA_MMX)) return NULL;
		return vex ? avx_andn : sse_andn;
	default: return NULL;
	}
}
