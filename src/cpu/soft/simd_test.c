/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What SIMD and x87 instructions do apart from computing: control-register
 * checks, faults half way, memory that masks leave out, environments by mode,
 * state going in and out. thunk_test.c has the results.
 */
#include "cpu/soft/simd_bed.h"

static struct soft_vcpu *vcpu;
static struct insn insn;
static bool stay_live; /* x87 state may stay in the host's x87 */

static int setup(void **state)
{
	(void)state;
	vcpu = test_vcpu_new();
	memset(test_page, 0, 2 * PAGE_SIZE);
	test_slow = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	test_vcpu_free(vcpu);
	return 0;
}

static enum decode_mode decode_mode(void)
{
	if (vcpu->mode & MODE_CS64)
		return DECODE_64;
	return vcpu->mode & MODE_CS32 ? DECODE_32 : DECODE_16;
}

/* Runs the instruction; the vector of its fault, or -1. */
static int run_bytes(const u8 *bytes, unsigned n)
{
	int vector;

	assert_int_equal(insn_decode(&insn, bytes, n, decode_mode()),
			 DECODE_OK);
	assert_int_equal(insn.len, n);
	if (insn.op == OP_INVALID)
		return VEC_UD;
	insn.fn = simd_bind(vcpu, &insn, bytes);
	vector = test_run(vcpu, &insn);
	if (!stay_live)
		simd_leave(vcpu);
	return vector;
}

#define RUN(...) \
	run_bytes((const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

/* ---- Control registers ---- */

#define SSE_INSN  0x0f, 0x58, 0xc1       /* addps xmm0, xmm1 */
#define MOVE_INSN 0x0f, 0x28, 0xc1       /* movaps xmm0, xmm1 */
#define VEX_INSN  0xc5, 0xf4, 0x58, 0xc1 /* vaddps ymm0, ymm1, ymm1 */
#define MMX_INSN  0x0f, 0xfc, 0xc1       /* paddb mm0, mm1 */
#define X87_INSN  0xd9, 0xe8             /* fld1 */
#define FWAIT     0x9b
#define STMXCSR   0x0f, 0xae, 0x1b                   /* stmxcsr [rbx] */
#define FXSAVE    0x0f, 0xae, 0x03                   /* fxsave [rbx] */
#define XSAVE     0x0f, 0xae, 0x23                   /* xsave [rbx] */
#define GATHER    0xc4, 0xe2, 0x6d, 0x92, 0x04, 0x0b /* vgatherdps */

struct denied {
	u64 cr0, cr4_clear, xcr0;
	int sse, vex, mmx, x87, fwait, fxsave, xsave;
};

static void test_denied(void **state)
{
	enum { UD = VEC_UD, NM = VEC_NM };
	static const struct denied table[] = {
		{0, 0, 7, -1, -1, -1, -1, -1, -1, -1},
		{CR0_TS, 0, 7, NM, NM, NM, NM, NM, NM, NM},
		{CR0_EM, 0, 7, UD, -1, UD, NM, -1, NM, -1},
		{CR0_EM | CR0_TS, 0, 7, UD, NM, UD, NM, NM, NM, NM},
		{0, CR4_OSFXSR, 7, UD, -1, -1, -1, -1, -1, -1},
		{0, CR4_OSXSAVE, 7, -1, UD, -1, -1, -1, -1, UD},
		{0, 0, 3, -1, UD, -1, -1, -1, -1, -1},
		{0, 0, 1, -1, UD, -1, -1, -1, -1, -1},
		{CR0_TS, CR4_OSFXSR | CR4_OSXSAVE, 7, UD, UD, NM, NM, NM, NM,
		 UD},
	};

	(void)state;
	vcpu->gpr[REG_BX] = (u64)test_page;
	vcpu->gpr[REG_AX] = 7;
	for (unsigned k = 0; k < ARRAY_LEN(table); k++) {
		const struct denied *d = &table[k];

		vcpu->cr0 = CR0_PE | CR0_NE | CR0_MP | d->cr0;
		vcpu->cr4 = (CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE) &
			    ~d->cr4_clear;
		vcpu->xcr0 = d->xcr0;
		simd_init_components(vcpu, XF_X87);
		assert_int_equal(RUN(SSE_INSN), d->sse);
		assert_int_equal(RUN(MOVE_INSN), d->sse);
		assert_int_equal(RUN(STMXCSR), d->sse);
		assert_int_equal(RUN(VEX_INSN), d->vex);
		assert_int_equal(RUN(GATHER), d->vex);
		assert_int_equal(RUN(MMX_INSN), d->mmx);
		assert_int_equal(RUN(X87_INSN), d->x87);
		assert_int_equal(RUN(FWAIT), d->fwait);
		assert_int_equal(RUN(FXSAVE), d->fxsave);
		assert_int_equal(RUN(XSAVE), d->xsave);
	}
}

/* ---- Memory ---- */

static u64 page_end(void)
{
	return (u64)test_page + 2 * PAGE_SIZE;
}

static void test_straddling_fault(void **state)
{
	u8 before[XSAVE_AREA_SIZE];

	(void)state;
	memset(vcpu->xsave + FX_XMM, 0x5a, 256);
	memcpy(before, vcpu->xsave, sizeof(before));
	vcpu->gpr[REG_BX] = page_end() - 8;
	assert_int_equal(RUN(0x0f, 0x10, 0x03), VEC_PF); /* movups */
	assert_int_equal(RUN(0x0f, 0x11, 0x03), VEC_PF);
	assert_int_equal(RUN(0xc5, 0xf8, 0x58, 0x03), VEC_PF); /* vaddps */
	assert_int_equal(RUN(0x0f, 0x58, 0x03), VEC_GP);       /* addps */
	assert_int_equal(RUN(0xd9, 0x63, 0x00), VEC_PF);       /* fldenv */
	assert_int_equal(RUN(0x0f, 0x13, 0x03), -1);           /* movlps */
	assert_int_equal(RUN(0x0f, 0xae, 0x03), VEC_GP);       /* fxsave */
	vcpu->gpr[REG_BX] = page_end() - 64;
	assert_int_equal(RUN(0x0f, 0xae, 0x03), VEC_PF);
	assert_int_equal(RUN(0x0f, 0xae, 0x23), VEC_PF); /* xsave */
	assert_memory_equal(before, vcpu->xsave, sizeof(before));
}

/* Elements that are masked off may lie anywhere. */
static void test_masked_moves(void **state)
{
	u32 *mask = (u32 *)simd_xmm(vcpu, 1), *data = (u32 *)simd_xmm(vcpu, 0);
	u32 *mem = (u32 *)(page_end() - 8);

	(void)state;
	mask[0] = mask[1] = 0x80000000;
	mask[2] = mask[3] = 0x7fffffff;
	vcpu->gpr[REG_BX] = (u64)mem;
	vcpu->gpr[REG_DI] = (u64)mem;
	mem[0] = 0x11111111;
	mem[1] = 0x22222222;
	/* vmaskmovps xmm0, xmm1, [rbx] */
	assert_int_equal(RUN(0xc4, 0xe2, 0x71, 0x2c, 0x03), -1);
	assert_int_equal(data[0], 0x11111111);
	assert_int_equal(data[1], 0x22222222);
	assert_int_equal(data[2] | data[3], 0);
	data[0] = 0x33333333;
	data[3] = 0x44444444;
	/* and back */
	assert_int_equal(RUN(0xc4, 0xe2, 0x71, 0x2e, 0x03), -1);
	assert_int_equal(mem[0], 0x33333333);
	/* One more: the store faults and changes nothing. */
	mask[2] = ~0u;
	data[0] = 0x55555555;
	assert_int_equal(RUN(0xc4, 0xe2, 0x71, 0x2e, 0x03), VEC_PF);
	assert_int_equal(mem[0], 0x33333333);
	assert_int_equal(RUN(0xc4, 0xe2, 0x71, 0x2c, 0x03), VEC_PF);
	assert_int_equal(data[0], 0x55555555);
	/* maskmovdqu xmm0, xmm1 at [rdi]: bytes 3, 7 and 8..11 */
	assert_int_equal(RUN(0x66, 0x0f, 0xf7, 0xc1), VEC_PF);
	assert_int_equal(mem[0], 0x33333333);
	mask[2] = mask[3] = 0;
	assert_int_equal(RUN(0x66, 0x0f, 0xf7, 0xc1), -1);
	assert_int_equal(mem[0], 0x55333333);
}

/* A gather that faults has done the elements before, and can go on. */
static void test_gather_restart(void **state)
{
	u32 *index = (u32 *)simd_xmm(vcpu, 1), *mask = (u32 *)simd_xmm(vcpu, 2);
	u32 *dst = (u32 *)simd_xmm(vcpu, 0), *mem = (u32 *)test_page;

	(void)state;
	for (unsigned k = 0; k < 4; k++) {
		index[k] = k;
		mask[k] = ~0u;
		dst[k] = 0x99;
		mem[k] = 100 + k;
	}
	mask[1] = 0;
	index[2] = 2 * PAGE_SIZE / 4;
	memset(simd_ymmh(vcpu, 0), 0xff, 16);
	vcpu->gpr[REG_BX] = (u64)test_page;
	/* vpgatherdd xmm0, [rbx + xmm1 * 4], xmm2 */
	assert_int_equal(RUN(0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b), VEC_PF);
	assert_int_equal(dst[0], 100);
	assert_int_equal(dst[1], 0x99);
	assert_int_equal(dst[2], 0x99);
	assert_int_equal(mask[0], 0);
	assert_int_equal(mask[2], ~0u);
	assert_int_equal(mask[3], ~0u);
	index[2] = 2;
	mem[0] = 1; /* must not be read again */
	assert_int_equal(RUN(0xc4, 0xe2, 0x69, 0x90, 0x04, 0x8b), -1);
	assert_int_equal(dst[0], 100);
	assert_int_equal(dst[2], 102);
	assert_int_equal(dst[3], 103);
	assert_int_equal(mask[3], 0);
	assert_int_equal(simd_ymmh(vcpu, 0)[5], 0);
}

/* ---- SIMD exceptions ---- */

static void test_xm_vector(void **state)
{
	float one = 1;

	(void)state;
	memcpy(simd_xmm(vcpu, 0), &one, 4);
	vcpu->gpr[REG_BX] = (u64)test_page;
	*(u32 *)test_page = MXCSR_MASKS & ~0x200u;
	assert_int_equal(RUN(0x0f, 0xae, 0x13), -1); /* ldmxcsr [rbx] */
	/* divss xmm0, xmm1: 1 / 0 */
	assert_int_equal(RUN(0xf3, 0x0f, 0x5e, 0xc1), VEC_XM);
	assert_int_equal(xs32(vcpu, FX_MXCSR), (MXCSR_MASKS & ~0x200u) | 4);
	assert_memory_equal(simd_xmm(vcpu, 0), &one, 4);
	vcpu->cr4 &= ~CR4_OSXMMEXCPT;
	assert_int_equal(RUN(0xf3, 0x0f, 0x5e, 0xc1), VEC_UD);
	*(u32 *)test_page = 0x10000;
	assert_int_equal(RUN(0x0f, 0xae, 0x13), VEC_GP);
}

/* ---- x87 ---- */

#define FLDCW_RBX 0xd9, 0x2b
#define FDIV_ZERO 0xd8, 0xf1 /* fdiv st, st(1) */
#define FLDZ      0xd9, 0xee
#define FLD1      0xd9, 0xe8

static void make_pending(void)
{
	vcpu->gpr[REG_BX] = (u64)test_page;
	*(u16 *)test_page = 0x37b; /* zero divide unmasked */
	assert_int_equal(RUN(0xdb, 0xe3), -1);
	assert_int_equal(RUN(FLDCW_RBX), -1);
	assert_int_equal(RUN(FLDZ), -1);
	assert_int_equal(RUN(FLD1), -1);
	vcpu->rip = 0x1234567;
	assert_int_equal(RUN(FDIV_ZERO), -1);
}

static void test_pending(void **state)
{
	(void)state;
	make_pending();
	assert_int_equal(RUN(FLD1), VEC_MF);
	assert_int_equal(RUN(FWAIT), VEC_MF);
	assert_int_equal(RUN(MMX_INSN), VEC_MF);
	assert_int_equal(RUN(0x0f, 0x77), VEC_MF); /* emms */
	assert_int_equal(RUN(0xd9, 0x23), VEC_MF); /* fldenv */
	assert_int_equal(RUN(0xdf, 0xe0), -1);     /* fnstsw ax */
	assert_int_equal(vcpu->gpr[REG_AX] & 0x84, 0x84);
	assert_int_equal(RUN(0xd9, 0x33), -1); /* fnstenv [rbx] */
	assert_int_equal(*(u32 *)(test_page + 12), 0x1234567);
	/* FNSTENV masks all, so that nothing is pending any more. */
	assert_int_equal(RUN(FLD1), -1);

	make_pending();
	assert_int_equal(RUN(0xdb, 0xe2), -1); /* fnclex */
	assert_int_equal(RUN(FLD1), -1);

	/* Errors that go to a pin of which nobody knows. */
	make_pending();
	vcpu->cr0 &= ~CR0_NE;
	assert_int_equal(RUN(FLD1), -1);
	assert_int_equal(RUN(FWAIT), -1);
	assert_int_equal(RUN(0xd9, 0x33), -1);
	assert_int_equal(*(u16 *)(test_page + 4) & 0x84, 0x84);
}

/* SDM 1, figures 8-9 to 8-12. */
static void test_environments(void **state)
{
	u8 *env = test_page;

	(void)state;
	make_pending();
	xs_set64(vcpu, FX_FIP, 0x89abcdef);
	xs_set64(vcpu, FX_FDP, 0x76543210);
	xs_set16(vcpu, FX_FOP, 0x0f1);
	vcpu->gpr[REG_BX] = vcpu->gpr[REG_DI] = (u64)env;
	assert_int_equal(RUN(0x66, 0xd9, 0x33), -1);
	assert_int_equal(*(u16 *)(env + 6), 0xcdef);
	assert_int_equal(*(u16 *)(env + 8), 0);
	assert_int_equal(*(u16 *)(env + 10), 0x3210);

	vcpu->mode = 0; /* real mode; the stand-in for an MMU has no limits */
	make_pending();
	xs_set64(vcpu, FX_FIP, 0x0009abcd);
	xs_set64(vcpu, FX_FDP, 0x00054321);
	xs_set16(vcpu, FX_FOP, 0x0f1);
	assert_int_equal(RUN(0xd9, 0x35), -1); /* fnstenv [di] */
	assert_int_equal(*(u16 *)env, 0x37b);
	assert_int_equal(*(u16 *)(env + 6), 0xabcd);
	assert_int_equal(*(u16 *)(env + 8), 0x90f1);
	assert_int_equal(*(u16 *)(env + 10), 0x4321);
	assert_int_equal(*(u16 *)(env + 12), 0x5000);
	xs_set64(vcpu, FX_FIP, 0);
	xs_set64(vcpu, FX_FDP, 0);
	xs_set16(vcpu, FX_FOP, 0);
	assert_int_equal(RUN(0xd9, 0x25), -1); /* fldenv [di] */
	assert_int_equal(xs64(vcpu, FX_FIP), 0x9abcd);
	assert_int_equal(xs64(vcpu, FX_FDP), 0x54321);
	assert_int_equal(xs16(vcpu, FX_FOP), 0x0f1);
	assert_int_equal(RUN(0x66, 0xd9, 0x35), -1);
	assert_int_equal(*(u32 *)(env + 12), 0xffffabcd);
	assert_int_equal(*(u32 *)(env + 16), 0x000090f1);
	assert_int_equal(*(u32 *)(env + 24), 0x00005000);
}

/* MMX registers are physical: TOP must not shift them. */
static void test_mmx_alias(void **state)
{
	u64 x = 0x0123456789abcdef;

	(void)state;
	assert_int_equal(RUN(0xdb, 0xe3), -1);
	assert_int_equal(RUN(FLD1), -1); /* in R7 */
	vcpu->gpr[REG_AX] = x;
	assert_int_equal(RUN(0x48, 0x0f, 0x6e, 0xd0), -1); /* movq mm2, rax */
	assert_int_equal(xs16(vcpu, FX_FSW) >> 11 & 7, 0);
	assert_int_equal(vcpu->xsave[FX_FTW], 0xff);
	assert_int_equal(xs64(vcpu, FX_ST + 16 * 2), x);
	assert_int_equal(xs16(vcpu, FX_ST + 16 * 2 + 8), 0xffff);
	assert_int_equal(xs64(vcpu, FX_ST + 16 * 7), 1ull << 63);
	assert_int_equal(xs16(vcpu, FX_ST + 16 * 7 + 8), 0x3fff);
	assert_int_equal(RUN(0x0f, 0x77), -1);
	assert_int_equal(vcpu->xsave[FX_FTW], 0);
	assert_int_equal(xs64(vcpu, FX_ST + 16 * 2), x);
}

/* ---- 32-bit code: W widens nothing ---- */

static void test_vex_w_32(void **state)
{
	(void)state;
	vcpu->mode = MODE_CS32 | MODE_PE;
	memset(simd_xmm(vcpu, 0), 0x77, 16);
	/* vpextrd eax, xmm0, 1 with VEX.W; vmovd ecx, xmm0 with VEX.W */
	assert_int_equal(RUN(0xc4, 0xe3, 0xf9, 0x16, 0xc0, 1), -1);
	assert_int_equal(vcpu->gpr[REG_AX], 0x77777777);
	assert_int_equal(RUN(0xc4, 0xe1, 0xf9, 0x7e, 0xc1), -1);
	assert_int_equal(vcpu->gpr[REG_CX], 0x77777777);
	/* vcvtsi2sd xmm0, xmm0, eax with VEX.W */
	vcpu->gpr[REG_AX] = 0xffffffff;
	assert_int_equal(RUN(0xc4, 0xe1, 0xfb, 0x2a, 0xc0), -1);
	assert_int_equal(xs64(vcpu, FX_XMM), 0xbff0000000000000);
	vcpu->mode |= MODE_VM86;
	assert_int_equal(RUN(0xc4, 0xe1, 0xfb, 0x2a, 0xc0), VEC_UD);
}

/* Only eight registers are there to be saved, restored and cleared. */
static void test_registers_32(void **state)
{
	(void)state;
	memset(vcpu->xsave + FX_XMM, 0x11, 256);
	memset(vcpu->xsave + XS_YMMH, 0x22, 256);
	memset(test_page, 0xee, 1024);
	vcpu->mode = MODE_CS32 | MODE_PE;
	vcpu->gpr[REG_BX] = (u64)test_page;
	assert_int_equal(RUN(FXSAVE), -1);
	assert_int_equal(test_page[FX_XMM + 127], 0x11);
	assert_int_equal(test_page[FX_XMM + 128], 0xee);
	assert_int_equal(RUN(0xc5, 0xf8, 0x77), -1); /* vzeroupper */
	assert_int_equal(simd_ymmh(vcpu, 7)[0], 0);
	assert_int_equal(simd_ymmh(vcpu, 8)[0], 0x22);
}

/* ---- State in and out ---- */

static void test_state(void **state)
{
	(void)state;
	/* After RESET: what snapshots keep says all that differs. */
	simd_saved(vcpu);
	assert_int_equal(vcpu->xsave[XS_HEADER], XF_X87);
	assert_int_equal(xs16(vcpu, FX_FCW), 0x40);
	assert_int_equal(xs32(vcpu, FX_MXCSR), MXCSR_INIT);
	/* Components left out are initial, whatever their bytes say. */
	memset(vcpu->xsave, 0xff, sizeof(vcpu->xsave));
	memset(vcpu->xsave + XS_HEADER, 0, 64);
	vcpu->xsave[XS_HEADER] = XF_AVX;
	xs_set32(vcpu, FX_MXCSR, 0x9f80);
	simd_loaded(vcpu);
	assert_int_equal(xs16(vcpu, FX_FCW), 0x37f);
	assert_int_equal(xs32(vcpu, FX_MXCSR), 0x9f80);
	assert_int_equal(xs64(vcpu, FX_XMM), 0);
	assert_int_equal(xs64(vcpu, XS_YMMH), ~0ull);
	assert_int_equal(simd_xinuse(vcpu), XF_AVX);
	/* Hostile: reserved bits must reach neither MXCSR nor the x87. */
	memset(vcpu->xsave, 0xff, sizeof(vcpu->xsave));
	simd_loaded(vcpu);
	assert_int_equal(xs32(vcpu, FX_MXCSR), MXCSR_INIT);
	assert_int_equal(xs16(vcpu, FX_FCW), 0x1f7f);
	assert_int_equal(RUN(FLD1), -1);
}

/* More forms than there is room for thunks; they go on being right. */
static void test_many_forms(void **state)
{
	/* Opcodes with an immediate: each is 256 forms. */
	static const u8 prefix[][4] = {
		{0x66, 0x0f, 0x3a, 0x08}, {0x66, 0x0f, 0x3a, 0x09},
		{0x66, 0x0f, 0x3a, 0x0a}, {0x66, 0x0f, 0x3a, 0x0b},
		{0x66, 0x0f, 0x3a, 0x0c}, {0x66, 0x0f, 0x3a, 0x0d},
		{0x66, 0x0f, 0x3a, 0x0e}, {0x66, 0x0f, 0x3a, 0x0f},
		{0x66, 0x0f, 0x3a, 0x21}, {0x66, 0x0f, 0x3a, 0x40},
		{0x66, 0x0f, 0x3a, 0x41}, {0x66, 0x0f, 0x3a, 0x42},
		{0x66, 0x40, 0x0f, 0x70}, {0xf2, 0x40, 0x0f, 0x70},
		{0xf3, 0x40, 0x0f, 0x70}, {0x66, 0x40, 0x0f, 0xc2},
		{0xf2, 0x40, 0x0f, 0xc2}, {0xf3, 0x40, 0x0f, 0xc2},
	};
	u32 *x = (u32 *)simd_xmm(vcpu, 0), *y = (u32 *)simd_xmm(vcpu, 1);

	(void)state;
	for (unsigned op = 0; op < ARRAY_LEN(prefix); op++)
		for (unsigned imm = 0; imm < 256; imm++) {
			u8 b[6] = {0, 0, 0, 0, 0xd1, (u8)imm};

			memcpy(b, prefix[op], 4);
			run_bytes(b, 6);
		}
	assert_int_equal(vcpu->simd->thunks, THUNKS);
	for (unsigned k = 0; k < 4; k++)
		y[k] = k + 1;
	for (unsigned imm = 0; imm < 512; imm++) {
		x[0] = x[1] = x[2] = x[3] = 0;
		/* shufps xmm0, xmm1, imm */
		assert_int_equal(RUN(0x0f, 0xc6, 0xc1, (u8)imm), -1);
		assert_int_equal(x[2], (imm >> 4 & 3) + 1);
		assert_int_equal(x[3], (imm >> 6 & 3) + 1);
	}
	assert_true(vcpu->simd->slow_runs >= 512);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_denied),       T(test_straddling_fault),
		T(test_masked_moves), T(test_gather_restart),
		T(test_xm_vector),    T(test_pending),
		T(test_environments), T(test_mmx_alias),
		T(test_vex_w_32),     T(test_registers_32),
		T(test_state),        T(test_many_forms),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
