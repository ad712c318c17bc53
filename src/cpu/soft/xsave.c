/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * FXSAVE, FXRSTOR, the XSAVE family (SDM 1, chapter 13), LDMXCSR, STMXCSR.
 *
 * State components are x87, SSE and AVX; there are no supervisor states
 * (IA32_XSS is 0), so that XSAVES is XSAVEC at CPL 0. The optimisation of
 * XSAVEOPT is the init optimisation alone; the modified optimisation is one
 * that a CPU is free not to make.
 *
 * Areas are put together in, and taken from, a local copy: what is checked is
 * what is used.
 */
#include "cpu/soft/simd_priv.h"

#define XCOMP_COMPACT BIT64(63)

enum { XAREA_SIZE = XSAVE_AREA_SIZE, XHEADER_SIZE = 64, XAVX_SIZE = 256 };

/* ---- MXCSR ---- */

static void mxcsr_load(struct soft_vcpu *v, const struct insn *i)
{
	u32 x;

	simd_enter(v, i);
	x = (u32)soft_ld(v, simd_lin(v, i, 4, MMU_READ), 4);
	if (x & ~MXCSR_VALID)
		soft_fault_err(v, VEC_GP, 0);
	xs_set32(v, FX_MXCSR, x);
	simd_mxcsr_changed(v);
}

static void mxcsr_store(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter(v, i);
	soft_st(v, simd_lin(v, i, 4, MMU_WRITE), 4, xs32(v, FX_MXCSR));
}

/* ---- Parts of the legacy area ---- */

/*
 * x87 state, in the 64-bit form with REX.W, else with selectors, which this
 * CPU model does not keep (CPUID 7.EBX[13]): they read as zero.
 */
static void area_put_x87(const struct soft_vcpu *v, u8 *area, bool rexw)
{
	memcpy(area, v->xsave, FX_MXCSR);
	memcpy(area + FX_ST, v->xsave + FX_ST, 128);
	if (!rexw) {
		memset(area + FX_FIP + 4, 0, 4);
		memset(area + FX_FDP + 4, 0, 4);
	}
}

static void area_get_x87(struct soft_vcpu *v, const u8 *area, bool rexw)
{
	memcpy(v->xsave, area, FX_MXCSR);
	memcpy(v->xsave + FX_ST, area + FX_ST, 128);
	v->xsave[FX_FTW + 1] = 0;
	xs_set16(v, FX_FOP, xs16(v, FX_FOP) & 0x7ff);
	for (unsigned k = 0; k < 8; k++)
		memset(v->xsave + FX_ST + 16 * k + 10, 0, 6);
	if (!rexw) {
		memset(v->xsave + FX_FIP + 4, 0, 4);
		memset(v->xsave + FX_FDP + 4, 0, 4);
	}
	x87_clean(v);
}

static void area_put_mxcsr(const struct soft_vcpu *v, u8 *area)
{
	u32 mask = MXCSR_VALID;

	memcpy(area + FX_MXCSR, v->xsave + FX_MXCSR, 4);
	memcpy(area + FX_MXCSR_MASK, &mask, 4);
}

static u32 area_mxcsr(const u8 *area)
{
	u32 x;

	memcpy(&x, area + FX_MXCSR, 4);
	return x;
}

static void area_set_mxcsr(struct soft_vcpu *v, u32 mxcsr)
{
	xs_set32(v, FX_MXCSR, mxcsr);
	simd_mxcsr_changed(v);
}

/* XMM8..15 exist in 64-bit mode only; elsewhere they stay as they are. */
static unsigned area_xmm_size(const struct soft_vcpu *v)
{
	return v->mode & MODE_CS64 ? 256 : 128;
}

static bool area_rexw(const struct insn *i)
{
	return i->prefix & PFX_REXW;
}

/* ---- FXSAVE, FXRSTOR ---- */

static void fx_enter(struct soft_vcpu *v)
{
	if (v->cr0 & (CR0_EM | CR0_TS))
		soft_fault(v, VEC_NM);
	x87_sync(v);
}

static gva_t area_lin(struct soft_vcpu *v, const struct insn *i, u64 size,
		      unsigned align, enum mmu_access access)
{
	/* By bytes: whether alignment faults are #GP or #AC is decided here. */
	u64 ea = soft_ea(v, i);
	gva_t lin = soft_lin(v, i->seg, ea, 1, access);

	if (lin & (align - 1)) {
		if (v->mode & MODE_AC && lin & 3)
			soft_fault_err(v, VEC_AC, 0);
		soft_fault_err(v, VEC_GP, 0);
	}
	(void)soft_lin(v, i->seg, ea + size - 1, 1, access);
	return lin;
}

/*
 * With OSFXSR clear, XMM registers are not touched. Bytes 464..511 are the
 * software's in either case, those between are reserved and left alone.
 */
static void fx_save(struct soft_vcpu *v, const struct insn *i)
{
	u8 area[FX_SIZE];
	unsigned size = FX_XMM;
	gva_t lin;

	fx_enter(v);
	lin = area_lin(v, i, 512, 16, MMU_WRITE);
	area_put_x87(v, area, area_rexw(i));
	area_put_mxcsr(v, area);
	if (v->cr4 & CR4_OSFXSR) {
		memcpy(area + FX_XMM, v->xsave + FX_XMM, area_xmm_size(v));
		size += area_xmm_size(v);
	}
	soft_probe(v, lin, 512, MMU_WRITE);
	soft_st_bytes(v, lin, area, size);
}

static void fx_restore(struct soft_vcpu *v, const struct insn *i)
{
	u8 area[512];
	gva_t lin;

	fx_enter(v);
	lin = area_lin(v, i, 512, 16, MMU_READ);
	soft_ld_bytes(v, lin, area, 512);
	if (area_mxcsr(area) & ~MXCSR_VALID)
		soft_fault_err(v, VEC_GP, 0);
	area_get_x87(v, area, area_rexw(i));
	if (!(v->cr4 & CR4_OSFXSR))
		return;
	area_set_mxcsr(v, area_mxcsr(area));
	memcpy(v->xsave + FX_XMM, area + FX_XMM, area_xmm_size(v));
}

/* ---- XSAVE ---- */

static u64 xs_rfbm(const struct soft_vcpu *v)
{
	return v->xcr0 & ((u32)v->gpr[REG_AX] | v->gpr[REG_DX] << 32);
}

static void xs_enter(struct soft_vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		soft_fault(v, VEC_UD);
	if (v->cr0 & CR0_TS)
		soft_fault(v, VEC_NM);
	x87_sync(v);
}

/* The CPL is checked before CR0.TS. */
static void xs_enter_supervisor(struct soft_vcpu *v)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		soft_fault(v, VEC_UD);
	if (v->cpl)
		soft_fault_err(v, VEC_GP, 0);
	if (v->cr0 & CR0_TS)
		soft_fault(v, VEC_NM);
	x87_sync(v);
}

/* Writes [from, to) of area. */
static void xs_out(struct soft_vcpu *v, gva_t lin, const u8 *area,
		   unsigned from, unsigned to)
{
	if (to > from)
		soft_st_bytes(v, lin + from, area + from, to - from);
}

static void xs_put_components(struct soft_vcpu *v, gva_t lin, u8 *area,
			      u64 bits, u64 mxcsr, bool rexw, unsigned avx)
{
	if (bits & XF_X87) {
		area_put_x87(v, area, rexw);
		xs_out(v, lin, area, 0, FX_MXCSR);
		xs_out(v, lin, area, FX_ST, FX_XMM);
	}
	if (mxcsr) {
		area_put_mxcsr(v, area);
		xs_out(v, lin, area, FX_MXCSR, FX_ST);
	}
	if (bits & XF_SSE) {
		memcpy(area + FX_XMM, v->xsave + FX_XMM, 256);
		xs_out(v, lin, area, FX_XMM, FX_XMM + area_xmm_size(v));
	}
	if (bits & XF_AVX) {
		memcpy(area + avx, v->xsave + XS_YMMH, 256);
		xs_out(v, lin, area, avx, avx + area_xmm_size(v));
	}
}

/*
 * Where the AVX component of the compacted format is: component 2 comes
 * first after the header, where it is in the standard format too.
 */
enum { XAVX_AT = 576 };

static unsigned xs_area_size(u64 rfbm)
{
	return rfbm & XF_AVX ? XAVX_AT + XAVX_SIZE : XS_HEADER + XHEADER_SIZE;
}

/* XSAVE and XSAVEOPT. */
static void xs_save_standard(struct soft_vcpu *v, const struct insn *i,
			     bool optimise)
{
	u8 area[XAREA_SIZE];
	u64 rfbm, inuse, bv, put;
	gva_t lin;

	xs_enter(v);
	rfbm = xs_rfbm(v);
	lin = area_lin(v, i, xs_area_size(rfbm), 64, MMU_WRITE);
	soft_probe(v, lin, xs_area_size(rfbm), MMU_WRITE);
	inuse = simd_xinuse(v);
	bv = soft_ld(v, lin + XS_HEADER, 8);
	put = optimise ? rfbm & inuse : rfbm;
	xs_put_components(v, lin, area, put, rfbm & (XF_SSE | XF_AVX),
			  area_rexw(i), XAVX_AT);
	soft_st(v, lin + XS_HEADER, 8, (bv & ~rfbm) | (inuse & rfbm));
}

/* XSAVEC, and XSAVES after its check. */
static void xs_save_compact(struct soft_vcpu *v, const struct insn *i)
{
	u8 area[XAREA_SIZE];
	u64 rfbm = xs_rfbm(v), bv, comp = rfbm | XCOMP_COMPACT;
	gva_t lin;

	lin = area_lin(v, i, xs_area_size(rfbm), 64, MMU_WRITE);
	soft_probe(v, lin, xs_area_size(rfbm), MMU_WRITE);
	bv = simd_xinuse(v) & rfbm;
	if ((rfbm & XF_SSE) && xs32(v, FX_MXCSR) != MXCSR_INIT)
		bv |= XF_SSE;
	xs_put_components(v, lin, area, bv, bv & XF_SSE, area_rexw(i), XAVX_AT);
	memset(area + XS_HEADER, 0, XHEADER_SIZE);
	memcpy(area + XS_HEADER, &bv, 8);
	memcpy(area + XS_HEADER + 8, &comp, 8);
	xs_out(v, lin, area, XS_HEADER, XS_HEADER + 16);
}

static void xs_save(struct soft_vcpu *v, const struct insn *i)
{
	xs_save_standard(v, i, false);
}

static void xs_saveopt(struct soft_vcpu *v, const struct insn *i)
{
	xs_save_standard(v, i, true);
}

static void xs_savec(struct soft_vcpu *v, const struct insn *i)
{
	xs_enter(v);
	xs_save_compact(v, i);
}

static void xs_saves(struct soft_vcpu *v, const struct insn *i)
{
	xs_enter_supervisor(v);
	xs_save_compact(v, i);
}

/* ---- XRSTOR ---- */

static bool xs_header_valid(const struct soft_vcpu *v, const u8 *header,
			    bool supervisor)
{
	u64 bv, comp, zero = 0, x;

	memcpy(&bv, header, 8);
	memcpy(&comp, header + 8, 8);
	for (unsigned k = 16; k < XHEADER_SIZE; k += 8) {
		memcpy(&x, header + k, 8);
		/* The standard form looks at bytes 23:8 only (13.8.1). */
		if (comp & XCOMP_COMPACT || k < 24)
			zero |= x;
	}
	if (zero)
		return false;
	if (comp & XCOMP_COMPACT)
		return !(comp & ~XCOMP_COMPACT & ~v->xcr0) &&
		       !(bv & ~(comp & ~XCOMP_COMPACT));
	return !supervisor && !comp && !(bv & ~v->xcr0);
}

/* Components of rfbm from area, or their initial values. */
static void xs_get_components(struct soft_vcpu *v, const u8 *area, u64 rfbm,
			      u64 bv, bool rexw)
{
	u64 init = rfbm & ~bv, get = rfbm & bv;
	unsigned size = area_xmm_size(v);

	if (init & XF_X87) {
		simd_init_components(v, XF_X87);
		x87_clean(v);
	}
	if (get & XF_X87)
		area_get_x87(v, area, rexw);
	if (init & XF_SSE)
		memset(v->xsave + FX_XMM, 0, size);
	if (get & XF_SSE)
		memcpy(v->xsave + FX_XMM, area + FX_XMM, size);
	if (init & XF_AVX)
		memset(v->xsave + XS_YMMH, 0, size);
	if (get & XF_AVX)
		memcpy(v->xsave + XS_YMMH, area + XAVX_AT, size);
}

static void xs_restore_area(struct soft_vcpu *v, const struct insn *i,
			    bool supervisor)
{
	u8 area[XAREA_SIZE];
	u64 rfbm = xs_rfbm(v), bv, comp, mxcsr;
	gva_t lin;

	lin = area_lin(v, i, XS_HEADER + XHEADER_SIZE, 64, MMU_READ);
	soft_ld_bytes(v, lin, area, XS_HEADER + XHEADER_SIZE);
	if (!xs_header_valid(v, area + XS_HEADER, supervisor))
		soft_fault_err(v, VEC_GP, 0);
	memcpy(&bv, area + XS_HEADER, 8);
	memcpy(&comp, area + XS_HEADER + 8, 8);
	/* Standard form: MXCSR is loaded with SSE or AVX, whatever XSTATE_BV
	 * says. Compacted: it is part of SSE. */
	if (comp & XCOMP_COMPACT)
		mxcsr = rfbm & bv & XF_SSE;
	else
		mxcsr = rfbm & (XF_SSE | XF_AVX);
	if (mxcsr && area_mxcsr(area) & ~MXCSR_VALID)
		soft_fault_err(v, VEC_GP, 0);
	if (rfbm & bv & XF_AVX) {
		(void)area_lin(v, i, XAVX_AT + XAVX_SIZE, 64, MMU_READ);
		soft_ld_bytes(v, lin + XAVX_AT, area + XAVX_AT, XAVX_SIZE);
	}
	xs_get_components(v, area, rfbm, bv, area_rexw(i));
	if (mxcsr)
		area_set_mxcsr(v, area_mxcsr(area));
	else if (rfbm & XF_SSE)
		area_set_mxcsr(v, MXCSR_INIT);
}

static void xs_restore(struct soft_vcpu *v, const struct insn *i)
{
	xs_enter(v);
	xs_restore_area(v, i, false);
}

static void xs_restores(struct soft_vcpu *v, const struct insn *i)
{
	xs_enter_supervisor(v);
	xs_restore_area(v, i, true);
}

insn_fn *xsave_bind(const struct insn *i)
{
	switch (i->op) {
	case OP_LDMXCSR:
	case OP_VLDMXCSR: return mxcsr_load;
	case OP_STMXCSR:
	case OP_VSTMXCSR: return mxcsr_store;
	case OP_FXSAVE: return fx_save;
	case OP_FXRSTOR: return fx_restore;
	case OP_XSAVE: return xs_save;
	case OP_XSAVEOPT: return xs_saveopt;
	case OP_XSAVEC: return xs_savec;
	case OP_XSAVES: return xs_saves;
	case OP_XRSTOR: return xs_restore;
	case OP_XRSTORS: return xs_restores;
	default: return NULL;
	}
}
