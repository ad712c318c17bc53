/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the guest's x87 state is: in v->xsave, or live in the host's x87 (from
 * the first x87 instruction until somebody needs it elsewhere, or the vCPU's
 * thread leaves the engine). C code of that thread must use neither x87 nor
 * MMX meanwhile; compiled for x86-64 it does so for long double only.
 *
 * FCW and FSW in v->xsave are right at all times. A pending error (FSW.ES) is
 * never live, so that nothing of the host's can trip over it.
 *
 * The CPU records host addresses as instruction and data pointers, and the
 * opcode with another ModRM. Values that it cannot record are loaded in their
 * place; where others are found afterwards (newer CPUs record less often),
 * the guest's own are put in.
 */
#include "cpu/soft/x87_priv.h"

#define FOP_NONE 0x7ffu /* of an undefined opcode */

static void live_restore(const u8 *image)
{
	__asm__ volatile("fxrstor64 %0"
			 :
			 : "m"(*(const u8(*)[512])image)
			 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
			   "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
			   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void live_save(u8 *image)
{
	__asm__ volatile("fxsave64 %0\n\t"
			 "fninit"
			 : "+m"(*(u8(*)[512])image)
			 :
			 : "memory");
}

/* The x87 part of v->xsave, with harmless values for the rest. */
static void live_image(const struct soft_vcpu *v, u8 *image)
{
	u32 mxcsr = MXCSR_INIT;

	memcpy(image, v->xsave, FX_XMM);
	memcpy(image + FX_MXCSR, &mxcsr, 4);
}

void x87_go_live(struct soft_vcpu *v)
{
	struct x87_state *x = &v->simd->x87;
	u16 fop = FOP_NONE;

	live_image(v, x->image);
	memset(x->image + FX_FIP, 0, 16);
	memcpy(x->image + FX_FOP, &fop, 2);
	live_restore(x->image);
	x->live = true;
}

static void live_take(struct soft_vcpu *v)
{
	struct x87_state *x = &v->simd->x87;
	u64 fip, fdp;
	u16 fop;

	live_save(x->image);
	x->live = false;
	memcpy(&fop, x->image + FX_FOP, 2);
	memcpy(&fip, x->image + FX_FIP, 8);
	memcpy(&fdp, x->image + FX_FDP, 8);
	memcpy(v->xsave, x->image, FX_FOP);
	memcpy(v->xsave + FX_ST, x->image + FX_ST, 128);
	if (fop != FOP_NONE)
		xs_set16(v, FX_FOP, x->fop);
	if (fip)
		xs_set64(v, FX_FIP, x->rip);
	if (fdp)
		xs_set64(v, FX_FDP, x->ea);
}

void x87_sync(struct soft_vcpu *v)
{
	if (v->simd->x87.live)
		live_take(v);
}

void x87_drop(struct soft_vcpu *v)
{
	if (v->simd->x87.live)
		live_save(v->simd->x87.image);
	v->simd->x87.live = false;
}

void x87_clear_pointers(struct soft_vcpu *v)
{
	xs_set64(v, FX_FIP, 0);
	xs_set64(v, FX_FDP, 0);
	xs_set16(v, FX_FOP, 0);
}

/*
 * What was loaded from outside is put through the CPU, which drops what it
 * does not keep and makes ES and B follow from flags and masks.
 */
void x87_clean(struct soft_vcpu *v)
{
	u8 image[512] __attribute__((aligned(16))) = {0};

	if (!(xs16(v, FX_FSW) & (FSW_B | FSW_ES | 0x3f)) &&
	    !((xs16(v, FX_FCW) ^ 0x40) & 0xf0c0))
		return;
	live_image(v, image);
	live_restore(image);
	live_save(image);
	memcpy(v->xsave, image, FX_MXCSR);
	memcpy(v->xsave + FX_ST, image + FX_ST, 128);
}

/* ---- Entering ---- */

void x87_enter(struct soft_vcpu *v, bool wait)
{
	if (unlikely(v->cr0 & (CR0_EM | CR0_TS)))
		soft_fault(v, VEC_NM);
	/* With NE clear the error goes to the interrupt controller (FERR#),
	 * where nobody is wired to it. */
	if (wait && unlikely(xs16(v, FX_FSW) & FSW_ES) && v->cr0 & CR0_NE)
		soft_fault(v, VEC_MF);
}

void mmx_check(struct soft_vcpu *v)
{
	if (unlikely(v->cr0 & CR0_EM))
		soft_fault(v, VEC_UD);
	x87_enter(v, true);
	x87_sync(v);
}

/* Brings physical register 0 to the front of the image: TOP becomes 0. */
static void x87_rotate_top(struct soft_vcpu *v)
{
	unsigned top = xs16(v, FX_FSW) >> FSW_TOP_SHIFT & 7;
	u8 st[128];

	if (!top)
		return;
	memcpy(st, v->xsave + FX_ST, sizeof(st));
	for (unsigned k = 0; k < 8; k++)
		memcpy(v->xsave + FX_ST + 16 * k, st + 16 * ((k - top) & 7),
		       16);
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) & (u16) ~(7 << FSW_TOP_SHIFT));
}

void mmx_enter(struct soft_vcpu *v)
{
	x87_rotate_top(v);
	v->xsave[FX_FTW] = 0xff;
}

void mmx_emms(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	mmx_check(v);
	mmx_enter(v);
	v->xsave[FX_FTW] = 0;
}
