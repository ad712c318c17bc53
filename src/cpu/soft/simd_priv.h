/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files for vector, MMX and x87 instructions share.
 *
 * v->xsave is the register file: FXSAVE64 image at 0, upper halves of the YMM
 * registers at 576. Every component is always there in full; the XSAVE header
 * is only made by simd_saved().
 */
#ifndef CPU_SOFT_SIMD_PRIV_H
#define CPU_SOFT_SIMD_PRIV_H

#include <string.h>

#include "cpu/soft/access.h"
#include "cpu/soft/codebuf.h"
#include "cpu/soft/soft.h"

enum {
	FX_FCW = 0,
	FX_FSW = 2,
	FX_FTW = 4, /* abridged: a bit for each physical register */
	FX_FOP = 6,
	FX_FIP = 8,
	FX_FDP = 16,
	FX_MXCSR = 24,
	FX_MXCSR_MASK = 28,
	FX_ST = 32, /* ST(0).., 16 bytes each */
	FX_XMM = 160,
	FX_SIZE = 416, /* the rest of the 512 bytes is not used */
	XS_HEADER = 512,
	XS_YMMH = 576,
	XS_YMMH_FROM_XMM = XS_YMMH - FX_XMM,
};

enum { XF_X87 = 1, XF_SSE = 2, XF_AVX = 4, XF_ALL = 7 };

enum { FSW_ES = 0x80, FSW_B = 0x8000, FSW_TOP_SHIFT = 11 };

#define MXCSR_INIT  0x1f80u
#define MXCSR_VALID 0xffffu
#define MXCSR_FLAGS 0x3fu
#define MXCSR_MASKS 0x1f80u
#define MXCSR_UE    0x10u

/*
 * A thunk: host code for one normalised instruction. reg, rm and vex point to
 * what ModRM.reg, ModRM.rm (register or memory operand) and VEX.vvvv name.
 * Returns 0, or the MXCSR flags of a run that changed nothing because one of
 * them is unmasked.
 */
typedef u32 thunk_fn(void *reg, void *rm, void *vex, struct soft_vcpu *v);

struct thunk {
	thunk_fn *fn;
	const void *skip; /* where a trapped run goes on */
	u64 key;          /* thunk.c */
	u32 next;         /* in its hash chain; 0 ends it */
	u16 base[3];      /* of reg, rm, vex in struct soft_vcpu */
	u8 shift[3];      /* log2 of the size of a register there */
};

#define THUNKS        4096
#define THUNK_BUCKETS 1024
#define THUNK_CODE    (640 * KIB)
#define X87_THUNKS    640
#define SIMD_BOUNCE   1024

/* x87_live.c */
struct x87_state {
	bool live;   /* in the host's x87; v->xsave has FCW and FSW only */
	u16 fop;     /* the last computing instruction, and where it and its */
	u64 rip, ea; /* memory operand are: recorded if the CPU does so */
	u8 image[512] __attribute__((aligned(64)));
};

struct soft_simd {
	/* Used by generated code, at fixed offsets. */
	u32 mxcsr_run; /* guest's control bits, masks as the run needs them */
	u32 mxcsr_out;
	u32 mxcsr_host;
	u32 unmasked; /* flags that the guest has unmasked */

	bool trap_ready;
	bool x87_made[X87_THUNKS];
	bool feature[FEATURES]; /* shown to the guest */
	struct codebuf code;
	struct thunk *thunk; /* [THUNKS]; 0 is not used */
	unsigned thunks;
	u32 *bucket;       /* [THUNK_BUCKETS] */
	struct thunk slow; /* remade for each run once thunk[] is full */
	u8 *slow_code, *x87_code;
	u64 slow_runs;
	struct x87_state x87;
	u8 bounce[SIMD_BOUNCE] __attribute__((aligned(64)));
};

/* thunk.c */
void thunk_init(struct soft_simd *s);
/* The encoding without registers and addresses; never 0. */
u64 thunk_key(const struct soft_vcpu *v, const struct insn *i, const u8 *bytes);
/* NULL: no room for another one. slow: made anew for this run if so. */
const struct thunk *thunk_find(struct soft_simd *s, u64 key);
const struct thunk *thunk_slow(struct soft_simd *s, u64 key);

/* simd_trap.c */
u32 simd_trapped_run(struct soft_vcpu *v, const struct thunk *t, void *reg,
		     void *rm, void *vex);

/* Binders of parts; NULL: not one of theirs. */
insn_fn *move_bind(const struct insn *i);
insn_fn *special_bind(const struct insn *i);
insn_fn *xsave_bind(const struct insn *i);
insn_fn *x87_bind(struct soft_vcpu *v, struct insn *i, const u8 *bytes);

void x87_init(struct soft_simd *s);
void simd_init_components(struct soft_vcpu *v, u64 bits);
/* x87 state to v->xsave, if it is live; and to be forgotten. */
void x87_sync(struct soft_vcpu *v);
void x87_drop(struct soft_vcpu *v);
/* After the x87 part was loaded from outside: ES and B follow from the rest. */
void x87_clean(struct soft_vcpu *v);

/* To be called when MXCSR was set by other means than a thunk. */
void simd_mxcsr_changed(struct soft_vcpu *v);

static inline u16 xs16(const struct soft_vcpu *v, unsigned off)
{
	u16 x;

	memcpy(&x, v->xsave + off, 2);
	return x;
}

static inline u32 xs32(const struct soft_vcpu *v, unsigned off)
{
	u32 x;

	memcpy(&x, v->xsave + off, 4);
	return x;
}

static inline u64 xs64(const struct soft_vcpu *v, unsigned off)
{
	u64 x;

	memcpy(&x, v->xsave + off, 8);
	return x;
}

static inline void xs_set16(struct soft_vcpu *v, unsigned off, u16 x)
{
	memcpy(v->xsave + off, &x, 2);
}

static inline void xs_set32(struct soft_vcpu *v, unsigned off, u32 x)
{
	memcpy(v->xsave + off, &x, 4);
}

static inline void xs_set64(struct soft_vcpu *v, unsigned off, u64 x)
{
	memcpy(v->xsave + off, &x, 8);
}

static inline u8 *simd_xmm(struct soft_vcpu *v, unsigned n)
{
	return v->xsave + FX_XMM + 16 * n;
}

static inline u8 *simd_ymmh(struct soft_vcpu *v, unsigned n)
{
	return v->xsave + XS_YMMH + 16 * n;
}

/* MMX register n & 7, wherever TOP has it. */
static inline u8 *mmx_reg(struct soft_vcpu *v, unsigned n)
{
	unsigned top = xs16(v, FX_FSW) >> FSW_TOP_SHIFT;

	return v->xsave + FX_ST + 16 * ((n - top) & 7);
}

/* #NM and #UD checks (SDM 2B tables 2-20 ff., 3A 13.1); return if all is well.
 */
NORETURN void simd_denied_sse(struct soft_vcpu *v);
NORETURN void simd_denied_vex(struct soft_vcpu *v);
void x87_enter(struct soft_vcpu *v, bool wait); /* #NM, #MF */
void mmx_check(struct soft_vcpu *v); /* the same for MMX: #UD, #NM, #MF */
void mmx_emms(struct soft_vcpu *v, const struct insn *i);
void mmx_enter(struct soft_vcpu *v); /* to MMX state: TOP 0, all valid */

static inline void simd_enter_sse(struct soft_vcpu *v)
{
	if (unlikely((v->cr0 & (CR0_EM | CR0_TS)) || !(v->cr4 & CR4_OSFXSR)))
		simd_denied_sse(v);
}

static inline void simd_enter_vex(struct soft_vcpu *v)
{
	if (unlikely((v->cr0 & CR0_TS) || !(v->cr4 & CR4_OSXSAVE) ||
		     (v->xcr0 & (XF_SSE | XF_AVX)) != (XF_SSE | XF_AVX) ||
		     (v->mode & (MODE_PE | MODE_VM86)) != MODE_PE))
		simd_denied_vex(v);
}

static inline void simd_enter(struct soft_vcpu *v, const struct insn *i)
{
	if (i->prefix & PFX_VEX)
		simd_enter_vex(v);
	else
		simd_enter_sse(v);
}

/* Address of the memory operand of size bytes, checked. */
static inline gva_t simd_lin(struct soft_vcpu *v, const struct insn *i,
			     u64 size, enum mmu_access access)
{
	return soft_lin(v, i->seg, soft_ea(v, i), size, access);
}

#endif
