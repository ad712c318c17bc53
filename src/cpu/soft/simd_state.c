/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vector and x87 state as a whole: reset, what is in use, and the ways in
 * and out for the engine and snapshots (SDM 1, 13.6: initial configurations).
 */
#include "cpu/soft/simd_priv.h"

static bool state_zero(const u8 *p, size_t n)
{
	u64 x = 0, y;

	for (size_t k = 0; k < n; k += 8) {
		memcpy(&y, p + k, 8);
		x |= y;
	}
	return !x;
}

static bool state_x87_init(const struct soft_vcpu *v)
{
	return xs64(v, FX_FCW) == 0x37f && state_zero(v->xsave + FX_FIP, 16) &&
	       state_zero(v->xsave + FX_ST, 128);
}

u64 simd_xinuse(struct soft_vcpu *v)
{
	u64 bits = 0;

	x87_sync(v);
	if (!state_x87_init(v))
		bits |= XF_X87;
	if (!state_zero(v->xsave + FX_XMM, 256))
		bits |= XF_SSE;
	if (!state_zero(v->xsave + XS_YMMH, 256))
		bits |= XF_AVX;
	return bits;
}

void simd_init_components(struct soft_vcpu *v, u64 bits)
{
	if (bits & XF_X87) {
		memset(v->xsave, 0, FX_MXCSR);
		memset(v->xsave + FX_ST, 0, 128);
		xs_set16(v, FX_FCW, 0x37f);
	}
	if (bits & XF_SSE)
		memset(v->xsave + FX_XMM, 0, 256);
	if (bits & XF_AVX)
		memset(v->xsave + XS_YMMH, 0, 256);
}

void simd_loaded(struct soft_vcpu *v)
{
	u64 bv = xs64(v, XS_HEADER);

	x87_drop(v);
	simd_init_components(v, ~bv & XF_ALL);
	/* MXCSR is there whenever SSE or AVX is; else it is initial too. */
	if (!(bv & (XF_SSE | XF_AVX)) || xs32(v, FX_MXCSR) & ~MXCSR_VALID)
		xs_set32(v, FX_MXCSR, MXCSR_INIT);
	x87_clean(v);
	simd_mxcsr_changed(v);
}

void simd_leave(struct soft_vcpu *v)
{
	x87_sync(v);
}

void simd_saved(struct soft_vcpu *v)
{
	u64 bv = simd_xinuse(v);

	if (xs32(v, FX_MXCSR) != MXCSR_INIT)
		bv |= XF_SSE;
	memset(v->xsave + XS_HEADER, 0, 64);
	xs_set64(v, XS_HEADER, bv);
	xs_set32(v, FX_MXCSR_MASK, MXCSR_VALID);
}

void simd_reset(struct soft_vcpu *v, bool init)
{
	if (init) /* x87, SSE and AVX state is kept (SDM table 10-1) */
		return;
	x87_drop(v);
	memset(v->xsave, 0, sizeof(v->xsave));
	simd_init_components(v, XF_ALL);
	/* RESET, unlike FNINIT: FCW 40h, tag word 5555h, all +0.0 */
	xs_set16(v, FX_FCW, 0x40);
	v->xsave[FX_FTW] = 0xff;
	xs_set32(v, FX_MXCSR, MXCSR_INIT);
	simd_mxcsr_changed(v);
}
