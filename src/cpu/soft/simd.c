/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIMD and MMX instructions by thunk: what happens around the thunk.
 *
 * Order (SDM 3A 6.9): #UD and #NM, then #MF for MMX, then the memory operand
 * (#GP for alignment, #SS, #PF, #AC), then the instruction and its #XM. A
 * memory destination is probed first, so nothing can fault once the thunk has
 * changed a register.
 */
#include "cpu/soft/simd_priv.h"

#include <errno.h>
#include <stdlib.h>

#include "cpu/soft/event.h"

void simd_denied_sse(struct soft_vcpu *v)
{
	if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR))
		soft_fault(v, VEC_UD);
	soft_fault(v, VEC_NM);
}

void simd_denied_vex(struct soft_vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE) ||
	    (v->xcr0 & (XF_SSE | XF_AVX)) != (XF_SSE | XF_AVX) ||
	    (v->mode & (MODE_PE | MODE_VM86)) != MODE_PE)
		soft_fault(v, VEC_UD);
	soft_fault(v, VEC_NM);
}

/* An unmasked exception: flags were raised, nothing else was changed. */
static NORETURN void simd_exception(struct soft_vcpu *v, u32 flags)
{
	xs_set32(v, FX_MXCSR, xs32(v, FX_MXCSR) | (flags & MXCSR_FLAGS));
	soft_fault(v, v->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
}

void simd_mxcsr_changed(struct soft_vcpu *v)
{
	struct soft_simd *s = v->simd;
	u32 mxcsr = xs32(v, FX_MXCSR);

	s->mxcsr_run = (mxcsr & ~MXCSR_FLAGS) | MXCSR_MASKS;
	s->unmasked = ~(mxcsr >> 7) & MXCSR_FLAGS;
}

/*
 * A run that found an unmasked exception left everything as it was. It is
 * done again unmasked, for the flags to be exactly what the CPU sets: they
 * depend on which operations it gets to. With underflow unmasked a masked run
 * cannot even tell whether there is an exception.
 */
static void simd_call(struct soft_vcpu *v, const struct thunk *t, void *reg,
		      void *rm, void *vex)
{
	u32 flags;

	if (unlikely(v->simd->unmasked & MXCSR_UE) && t->skip)
		flags = simd_trapped_run(v, t, reg, rm, vex);
	else if (likely(!(flags = t->fn(reg, rm, vex, v))))
		return;
	else
		flags = simd_trapped_run(v, t, reg, rm, vex);
	if (flags)
		simd_exception(v, flags);
}

static void *simd_operand(struct soft_vcpu *v, const struct thunk *t,
			  unsigned which, unsigned n)
{
	return (u8 *)v + t->base[which] + ((size_t)n << t->shift[which]);
}

/* Registers only. */
static ALWAYS_INLINE void
simd_run_regs(struct soft_vcpu *v, const struct insn *i, const struct thunk *t)
{
	simd_call(v, t, simd_operand(v, t, 0, i->reg),
		  simd_operand(v, t, 1, i->rm), simd_operand(v, t, 2, i->vreg));
}

static ALWAYS_INLINE gva_t simd_checked_lin(struct soft_vcpu *v,
					    const struct insn *i,
					    enum mmu_access access)
{
	gva_t lin = simd_lin(v, i, i->memsize, access);

	if ((op_rows[i->row].attr & OPA_ALIGN) &&
	    unlikely(lin & (i->memsize - 1u)))
		soft_fault_err(v, VEC_GP, 0);
	return lin;
}

/*
 * A memory operand is accessed in place where that may be: by the very
 * instruction of the guest, so once, and as atomically as on hardware.
 */
static ALWAYS_INLINE void
simd_run_load(struct soft_vcpu *v, const struct insn *i, const struct thunk *t)
{
	gva_t lin = simd_checked_lin(v, i, MMU_READ);
	void *p = soft_host(v, lin, i->memsize, MMU_READ);

	if (unlikely(!p)) {
		soft_ld_bytes(v, lin, v->simd->bounce, i->memsize);
		p = v->simd->bounce;
	}
	simd_call(v, t, simd_operand(v, t, 0, i->reg), p,
		  simd_operand(v, t, 2, i->vreg));
}

static ALWAYS_INLINE void
simd_run_store(struct soft_vcpu *v, const struct insn *i, const struct thunk *t)
{
	gva_t lin = simd_checked_lin(v, i, MMU_WRITE);
	void *host = soft_host(v, lin, i->memsize, MMU_WRITE);
	void *p = host ? host : v->simd->bounce;

	if (unlikely(!host))
		soft_probe(v, lin, i->memsize, MMU_WRITE);
	simd_call(v, t, simd_operand(v, t, 0, i->reg), p,
		  simd_operand(v, t, 2, i->vreg));
	if (unlikely(!host))
		soft_st_bytes(v, lin, p, i->memsize);
}

/*
 * VCVTPS2PH, a store that can raise exceptions: they come before those of the
 * access, and nothing may be in memory then.
 */
static void simd_run_store_late(struct soft_vcpu *v, const struct insn *i,
				const struct thunk *t)
{
	simd_call(v, t, simd_operand(v, t, 0, i->reg), v->simd->bounce,
		  simd_operand(v, t, 2, i->vreg));
	soft_st_bytes(v, simd_checked_lin(v, i, MMU_WRITE), v->simd->bounce,
		      i->memsize);
}

static bool simd_stores_late(const struct op_row *r)
{
	return r->attr & OPA_STORE && r->attr & OPA_MXCSR;
}

static void avx_store_late(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter_vex(v);
	simd_run_store_late(v, i, i->aux);
}

#define SIMD_HANDLERS(name, enter)                                          \
	static void name##_regs(struct soft_vcpu *v, const struct insn *i)  \
	{                                                                   \
		enter(v);                                                   \
		simd_run_regs(v, i, i->aux);                                \
	}                                                                   \
	static void name##_load(struct soft_vcpu *v, const struct insn *i)  \
	{                                                                   \
		enter(v);                                                   \
		simd_run_load(v, i, i->aux);                                \
	}                                                                   \
	static void name##_store(struct soft_vcpu *v, const struct insn *i) \
	{                                                                   \
		enter(v);                                                   \
		simd_run_store(v, i, i->aux);                               \
	}

SIMD_HANDLERS(sse, simd_enter_sse)
SIMD_HANDLERS(avx, simd_enter_vex)

/* Any form, with t given. */
static void simd_run(struct soft_vcpu *v, const struct insn *i,
		     const struct thunk *t)
{
	if (!i->mem)
		simd_run_regs(v, i, t);
	else if (simd_stores_late(&op_rows[i->row]))
		simd_run_store_late(v, i, t);
	else if (op_rows[i->row].attr & OPA_STORE)
		simd_run_store(v, i, t);
	else
		simd_run_load(v, i, t);
}

/* ---- MMX ---- */

/* CVTPI2PS and CVTPI2PD of a memory operand use no MMX register. */
static bool mmx_touches_x87(const struct insn *i)
{
	return !(i->mem && (i->op == OP_CVTPI2PD || i->op == OP_CVTPI2PS));
}

static bool mmx_has_xmm(const struct op_row *r)
{
	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		unsigned kind = r->opnd[k] & OPK_KIND;

		if (kind == OPK_V || kind == OPK_W)
			return true;
	}
	return false;
}

/* Register numbers of MMX operands have three bits. */
static void mmx_narrow(struct insn *i)
{
	const struct op_row *r = &op_rows[i->row];

	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		unsigned kind = r->opnd[k] & OPK_KIND;

		if (kind == OPK_P)
			i->reg &= 7;
		if (kind == OPK_Q)
			i->rm &= 7;
	}
}

/*
 * The state before MMX may only change when nothing can fault any more. An
 * operand is fetched twice on the slow path; the second time it cannot fault.
 */
static void mmx_run(struct soft_vcpu *v, const struct insn *i)
{
	const struct thunk *t = i->aux;
	bool store = op_rows[i->row].attr & OPA_STORE;

	if (mmx_has_xmm(&op_rows[i->row]))
		simd_enter_sse(v);
	if (!mmx_touches_x87(i)) {
		x87_sync(v); /* the thunk ends with EMMS */
		simd_run(v, i, t);
		return;
	}
	mmx_check(v);
	if (i->mem) {
		enum mmu_access access = store ? MMU_WRITE : MMU_READ;
		gva_t lin = simd_checked_lin(v, i, access);

		soft_probe(v, lin, i->memsize, access);
	}
	mmx_enter(v);
	simd_run(v, i, t);
}

/* ---- The table of thunks is full ---- */

static void simd_slow(struct soft_vcpu *v, const struct insn *i)
{
	struct insn copy = *i;

	copy.aux = (void *)thunk_slow(v->simd, i->imm);
	if (op_rows[i->row].attr & OPA_MMX) {
		mmx_run(v, &copy);
		return;
	}
	simd_enter(v, i);
	simd_run(v, &copy, copy.aux);
}

/* ---- Binding ---- */

static insn_fn *simd_bind_thunk(struct soft_vcpu *v, struct insn *i,
				const u8 *bytes)
{
	const struct op_row *r = &op_rows[i->row];
	u64 key = thunk_key(v, i, bytes);
	const struct thunk *t = thunk_find(v->simd, key);

	if (r->attr & OPA_MMX)
		mmx_narrow(i);
	if (!t) {
		i->imm = key;
		return simd_slow;
	}
	i->aux = (void *)t;
	if (r->attr & OPA_MMX)
		return mmx_run;
	if (i->mem && simd_stores_late(r))
		return avx_store_late;
	if (i->prefix & PFX_VEX)
		return !i->mem               ? avx_regs
		       : r->attr & OPA_STORE ? avx_store
					     : avx_load;
	return !i->mem ? sse_regs : r->attr & OPA_STORE ? sse_store : sse_load;
}

static void simd_undefined(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	soft_fault(v, VEC_UD);
}

insn_fn *simd_bind(struct soft_vcpu *v, struct insn *i, const u8 *bytes)
{
	insn_fn *fn;

	if (!v->simd->feature[op_rows[i->row].feature])
		return simd_undefined;
	if (op_rows[i->row].attr & OPA_X87)
		return x87_bind(v, i, bytes);
	if ((fn = xsave_bind(i)) || (fn = move_bind(i)) ||
	    (fn = special_bind(i)))
		return fn;
	return simd_bind_thunk(v, i, bytes);
}

int simd_init(struct soft_vcpu *v, struct err *e)
{
	struct soft_simd *s = aligned_alloc(64, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a vCPU");
	memset(s, 0, sizeof(*s));
	s->mxcsr_host = MXCSR_INIT;
	rc = codebuf_init(&s->code, THUNK_CODE, e);
	if (rc) {
		free(s);
		return rc;
	}
	s->thunk = calloc(THUNKS, sizeof(*s->thunk));
	s->bucket = calloc(THUNK_BUCKETS, sizeof(*s->bucket));
	v->simd = s;
	if (!s->thunk || !s->bucket) {
		simd_fini(v);
		return err_set(e, -ENOMEM, "no memory for a vCPU");
	}
	soft_features(v, v->simd->feature);
	thunk_init(s);
	x87_init(s);
	simd_reset(v, false);
	return 0;
}

void simd_fini(struct soft_vcpu *v)
{
	struct soft_simd *s = v->simd;

	if (!s)
		return;
	codebuf_fini(&s->code);
	free(s->thunk);
	free(s->bucket);
	free(s);
	v->simd = NULL;
}
