/* SPDX-License-Identifier: BSD-2-Clause */
/* op_rows[], op_last[] and op_features[], made from ops.def. */
#include "cpu/x86/optable.h"

#include "cpu/x86/x86.h"

/* Selectors: mask in the upper half, value in the lower. */
#define SEL(mask, val) ((u32)(mask) << 16 | (val))
#define D(n)           SEL(7 << KEY_DIGIT_BIT, (n) << KEY_DIGIT_BIT)
#define R(n)           SEL(7 << KEY_RM_BIT, (n) << KEY_RM_BIT)
#define NP             SEL(3, 0)
#define P66            SEL(3, 1)
#define PF3            SEL(3, 2)
#define PF2            SEL(3, 3)
#define NF             SEL(2, 0)
#define REG            SEL(KEY_REG, KEY_REG)
#define MEM            SEL(KEY_REG, 0)
#define W0             SEL(KEY_W, 0)
#define W1             SEL(KEY_W, KEY_W)
#define W64_0          SEL(KEY_W64, 0)
#define W64_1          SEL(KEY_W64, KEY_W64)
#define L0             SEL(KEY_L, 0)
#define L1             SEL(KEY_L, KEY_L)
#define M64            SEL(KEY_M64, KEY_M64)
#define N64            SEL(KEY_M64, 0)
#define B0             SEL(KEY_B, 0)

/* Opcodes of the x87 maps */
#define D8(n) (0 << 3 | (n))
#define D9(n) (1 << 3 | (n))
#define DA(n) (2 << 3 | (n))
#define DB(n) (3 << 3 | (n))
#define DC(n) (4 << 3 | (n))
#define DD(n) (5 << 3 | (n))
#define DE(n) (6 << 3 | (n))
#define DF(n) (7 << 3 | (n))

/* Attributes under their short names; enumerators, as they are pasted too. */
enum {
	LOCK = OPA_LOCK,
	SYSTEM = OPA_SYSTEM,
	SIMD = OPA_SIMD,
	X87 = OPA_X87,
	MMX = OPA_MMX,
	ALIGN = OPA_ALIGN,
	BRANCH = OPA_BRANCH,
	STRING = OPA_STRING,
	STORE = OPA_STORE,
	LOAD = OPA_LOAD,
	GPR_DST = OPA_GPR_DST,
	GPR_SRC = OPA_GPR_SRC,
	NO64 = OPA_NO64,
	ONLY64 = OPA_ONLY64,
	FLAGS = OPA_FLAGS,
	MXCSR = OPA_MXCSR,
	PRIV = OPA_PRIV,
	CONDFLAGS = OPA_CONDFLAGS,
	STACK = OPA_STACK,
	MASKED = OPA_MASKED,
	NONDET = OPA_NONDET,
	STRI = OPA_STRI,
	ESTR = OPA_ESTR,
	VSIB = OPA_VSIB,
	AVX = OPA_AVX,
	X87CTL = OPA_X87CTL,
	NOVVVV = OPA_NOVVVV,
};

/* clang-format off */
#define OPERAND(k) \
	R_##k = OPK_##k | OPK_READ, \
	W_##k = OPK_##k | OPK_WRITE, \
	RW_##k = OPK_##k | OPK_READ | OPK_WRITE
enum {
	NONE = OPK_NONE,
	OPERAND(V), OPERAND(W), OPERAND(H), OPERAND(L), OPERAND(XMM0),
	OPERAND(P), OPERAND(Q), OPERAND(G), OPERAND(E), OPERAND(M),
	OPERAND(I), OPERAND(RDI),
};
/* clang-format on */

/* Classes of flags: read, written (undefined ones too), undefined. */
#define FC    RFLAGS_CF
#define FP    RFLAGS_PF
#define FA    RFLAGS_AF
#define FZ    RFLAGS_ZF
#define FS    RFLAGS_SF
#define FO    RFLAGS_OF
#define ARITH RFLAGS_ARITH

#define CLASS(r, w, u) ((u64)(r) | (u64)(w) << 16 | (u64)(u) << 32)

#define F_0      CLASS(0, 0, 0)
#define F_ARITH  CLASS(0, ARITH, 0)
#define F_ADC    CLASS(FC, ARITH, 0)
#define F_LOGIC  CLASS(0, ARITH, FA)
#define F_INC    CLASS(0, ARITH & ~FC, 0)
#define F_SHIFT1 CLASS(0, ARITH, FA)
#define F_SHIFT  CLASS(0, ARITH, FA | FO)
#define F_ROT1   CLASS(0, FC | FO, 0)
#define F_ROT    CLASS(0, FC | FO, FO)
#define F_RCX1   CLASS(FC, FC | FO, 0)
#define F_RCX    CLASS(FC, FC | FO, FO)
#define F_MUL    CLASS(0, ARITH, FS | FZ | FA | FP)
#define F_DIV    CLASS(0, ARITH, ARITH)
#define F_BSF    CLASS(0, ARITH, ARITH & ~FZ)
#define F_XZCNT  CLASS(0, ARITH, ARITH & ~(FC | FZ))
#define F_BT     CLASS(0, ARITH & ~FZ, ARITH & ~(FC | FZ))
#define F_CC     CLASS(ARITH & ~FA, 0, 0)
#define F_AAA    CLASS(FA, ARITH, ARITH & ~(FA | FC))
#define F_DAA    CLASS(FA | FC, ARITH, FO)
#define F_AAM    CLASS(0, ARITH, FO | FA | FC)
#define F_SAHF   CLASS(0, ARITH & ~FO, 0)
#define F_LAHF   CLASS(ARITH & ~FO, 0, 0)
#define F_CMC    CLASS(FC, FC, 0)
#define F_WC     CLASS(0, FC, 0)
#define F_RC     CLASS(FC, 0, 0)
#define F_RZ     CLASS(FZ, 0, 0)
#define F_RO     CLASS(FO, 0, 0)
#define F_RP     CLASS(FP, 0, 0)
#define F_RCZ    CLASS(FC | FZ, 0, 0)
#define F_ZF     CLASS(0, FZ, 0)
#define F_STR    CLASS(RFLAGS_DF, 0, 0)
#define F_STRC   CLASS(RFLAGS_DF, ARITH, 0)
#define F_PUSHF  CLASS(0xffff, 0, 0)
#define F_POPF   CLASS(0xffff, 0xffff, 0)
#define F_DF     CLASS(0, RFLAGS_DF, 0)
#define F_IF     CLASS(0, RFLAGS_IF, 0)
#define F_UNDEF  CLASS(0, ARITH, ARITH)
#define F_ADCX   CLASS(FC, FC, 0)
#define F_ADOX   CLASS(FO, FO, 0)
#define F_ANDN   CLASS(0, ARITH, FA | FP)
#define F_BEXTR  CLASS(0, ARITH, FS | FA | FP)

#define ROW(m, opc, n, NAME, se, sz, me, im, fl, at, fe)                      \
	.name = #NAME, .op = OP_##NAME, .flags_read = (u16)(fl),              \
	.flags_written = (u16)((fl) >> 16), .flags_undef = (u16)((fl) >> 32), \
	.attr = (at), .feature = FEAT_##fe, .sel = (se), .map = MAP_##m,      \
	.opcode = (opc), .span = (n), .size = SZ_##sz, .mem = MS_##me,        \
	.imm = IMM_##im

#define X(m, opc, NAME, se, frm, sz, me, im, fl, at, fe) \
	{ROW(m, opc, 1, NAME, se, sz, me, im, fl, at, fe), .form = FORM_##frm},
#define X8(m, opc, NAME, se, frm, sz, me, im, fl, at, fe) \
	{ROW(m, opc, 8, NAME, se, sz, me, im, fl, at, fe), .form = FORM_##frm},
#define X16(m, opc, NAME, se, frm, sz, me, im, fl, at, fe) \
	{ROW(m, opc, 16, NAME, se, sz, me, im, fl, at, fe), .form = FORM_##frm},
#define S(m, opc, NAME, se, o1, o2, o3, o4, sz, me, im, fl, at, fe)     \
	{ROW(m, opc, 1, NAME, se, sz, me, im, fl, (at) | OPA_SIMD, fe), \
	 .form = FORM_SIMD, .opnd = {o1, o2, o3, o4}},

const struct op_row op_rows[] = {
	{.name = "(bad)", .op = OP_INVALID},
#include "cpu/x86/ops.def"
};
const unsigned op_row_count = ARRAY_LEN(op_rows);

#undef X
#undef X8
#undef X16
#undef S

/* Each row takes the next number; the last row of an opcode stays. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
enum { BEFORE = __COUNTER__ };
#define AT(m, opc, n)    [MAP_##m][(opc)...(opc) + (n)-1] = __COUNTER__ - BEFORE,
#define X(m, opc, ...)   AT(m, opc, 1)
#define X8(m, opc, ...)  AT(m, opc, 8)
#define X16(m, opc, ...) AT(m, opc, 16)
#define S(m, opc, ...)   AT(m, opc, 1)
const u16 op_last[MAPS][256] = {
#include "cpu/x86/ops.def"
};
#pragma GCC diagnostic pop

const struct op_feature_bit op_features[FEATURES] = {
#define X86_FEATURE(n, l, r, b) \
	[FEAT_##n] = {.name = #n, .leaf = (l), .reg = (r), .bit = (b)},
#include "cpu/x86/features.def"
};
