/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One decoded instruction, and the decoder that fills it in.
 *
 * ops.def has one row an opcode; everything that reads instructions (decoder,
 * interpreter, translator, disassembler, test generator) derives from it.
 * enum x86_op has one value for each mnemonic of the SDM: OP_ADD, OP_MOVAPS,
 * OP_VADDPS. Families by condition are one op with the condition in cc:
 * OP_JCC, OP_SETCC, OP_CMOVCC.
 */
#ifndef CPU_X86_INSN_H
#define CPU_X86_INSN_H

#include "base/types.h"
#include "cpu/x86/state.h"

enum x86_op {
	OP_INVALID, /* #UD */
#define X86_OP(name) OP_##name,
#include "cpu/x86/opnames.def"
#undef X86_OP
	X86_OPS
};

/* insn.prefix */
enum {
	PFX_LOCK = 1,
	PFX_REP = 2,   /* f3 */
	PFX_REPNE = 4, /* f2 */
	PFX_66 = 8,
	PFX_REX = 16,
	PFX_REXW = 32, /* also VEX.W */
	PFX_VEX = 64,
	PFX_VEXL = 128, /* 256 bits */
};

/* insn.base, insn.index where there is none, or RIP */
enum { INSN_REG_RIP = 16, INSN_REG_NONE = 17 };

/* 8-bit operands: 16..19 are AH, CH, DH, BH (bits 15:8 of registers 0..3) */
#define INSN_REG_HIGH8 16

/*
 * Where the explicit operands are, destination first (Intel's order), for
 * integer instructions. SIMD rows describe their operands in the table.
 */
enum insn_form {
	FORM_NONE,    /* none, or implicit ones */
	FORM_RM_R,    /* r/m, reg */
	FORM_R_RM,    /* reg, r/m */
	FORM_RM_I,    /* r/m, imm */
	FORM_A_I,     /* accumulator, imm: rm = REG_AX, not memory */
	FORM_RM,      /* r/m alone */
	FORM_R,       /* register in the opcode's low bits: rm, not memory */
	FORM_R_I,     /* that register, imm (B0+, B8+) */
	FORM_R_RM_I,  /* reg, r/m, imm (IMUL, RORX) */
	FORM_RM_R_I,  /* r/m, reg, imm (SHLD) */
	FORM_RM_R_CL, /* r/m, reg, CL */
	FORM_RM_1,    /* r/m, 1 (shifts) */
	FORM_RM_CL,   /* r/m, CL */
	FORM_I,       /* immediate alone (PUSH, INT, RET n) */
	FORM_REL,     /* branch target: imm is the displacement */
	FORM_MOFFS,   /* A0..A3: imm is the offset; op says the direction */
	FORM_FAR,     /* ptr16:16/32: imm = offset | selector << 32 */
	FORM_I_I,     /* ENTER: imm = imm16 | imm8 << 16 */
	FORM_A_DX,
	FORM_DX_A,
	FORM_A_IB,
	FORM_IB_A,       /* IN, OUT */
	FORM_SREG,       /* segment register in reg (PUSH/POP FS...) */
	FORM_VEX_R_V_RM, /* BMI: reg, vreg, r/m */
	FORM_VEX_R_RM_V, /* BMI: reg, r/m, vreg */
	FORM_VEX_V_RM,   /* BLSR...: vreg, r/m */
	FORM_SIMD,
	FORM_X87,
};

struct insn;
struct soft_vcpu;
typedef void insn_fn(struct soft_vcpu *v, const struct insn *i);

struct insn {
	insn_fn *fn; /* interpreter's handler; the engine's */
	union {
		u64 imm;   /* immediate, sign-extended */
		void *aux; /* engine's, for ops without an immediate */
	};
	s32 disp;   /* of the memory operand */
	u16 op;     /* enum x86_op */
	u16 row;    /* row of ops.def */
	u8 len;     /* bytes, 1..15 */
	u8 form;    /* enum insn_form */
	u8 opsize;  /* 1, 2, 4, 8: size of the operation; SIMD: 16 or 32 */
	u8 memsize; /* bytes that the memory operand moves (0: none/varies) */
	u8 adsize;  /* 2, 4, 8 */
	u8 prefix;  /* PFX_* */
	u8 mem;     /* 1: r/m is memory */
	u8 reg;     /* ModRM.reg with REX.R */
	u8 rm;      /* register r/m with REX.B, or opcode register */
	u8 base, index, scale; /* scale: shift 0..3 */
	u8 seg;     /* effective segment of the memory operand, SEG_* */
	u8 vreg;    /* VEX.vvvv */
	u8 cc;      /* condition 0..15 */
	u8 srcsize; /* MOVZX/MOVSX/MOVSXD/CRC32: size of the source */
	u16 off;    /* engine's: offset in its block */
	u8 modrm;   /* the byte itself, for x87 and thunks */
	u8 vsib;    /* 1: index is a vector register (gathers) */
};

/* What decoding depends on besides the bytes. */
enum decode_mode { DECODE_16, DECODE_32, DECODE_64 };

enum decode_result {
	DECODE_OK,
	DECODE_MORE,     /* bytes ran out: needs more than n (at most 15) */
	DECODE_TOO_LONG, /* over 15 bytes: #GP(0) */
};

/*
 * Decodes the instruction at bytes[0..n). With DECODE_OK *i is filled in; an
 * undefined opcode has op OP_INVALID (and its length). Never reads past n.
 * Pure: any thread.
 */
enum decode_result insn_decode(struct insn *i, const u8 *bytes, size_t n,
			       enum decode_mode mode);

/* Per-row facts for all readers; see ops.def for the columns. */
struct op_row {
	const char *name; /* mnemonic, lower case */
	u16 op;
	u16 flags_read, flags_written, flags_undef; /* RFLAGS low 16 bits */
	u32 attr;                                   /* OPA_* */
	u32 feature; /* FEAT_*: CPUID feature that must be announced */
	/* FORM_SIMD: what ModRM.reg, ModRM.rm (where it is a register) and
	 * VEX.vvvv name: enum simd_operand. NONE too where ModRM.reg extends
	 * the opcode. */
	u8 simd_reg, simd_rm, simd_vex;
};

/* A general register is never named twice in one SIMD row. */
enum simd_operand {
	SIMD_NONE,
	SIMD_GPR,
	SIMD_XMM, /* XMM or YMM, by insn.opsize */
	SIMD_MMX,
	SIMD_CLASS = 3,
	SIMD_W = 4, /* written (and perhaps read); else read only */
};

extern const struct op_row op_rows[];
extern const unsigned op_row_count;

/* op_row.attr; more as the table needs them */
enum {
	OPA_LOCK = BIT(0),   /* LOCK allowed with a memory destination */
	OPA_SYSTEM = BIT(1), /* segments, control, privileged: op_sys_* */
	OPA_SIMD = BIT(2),   /* runs as a thunk on vector registers */
	OPA_X87 = BIT(3),    /* runs as a thunk on the x87 */
	OPA_MMX = BIT(4),    /* MMX registers involved (with OPA_SIMD) */
	OPA_ALIGN = BIT(5),  /* memory operand aligned to its size, else #GP */
	OPA_BRANCH = BIT(6), /* ends a block */
	OPA_STRING = BIT(7), /* string instruction, REP-able */
	OPA_STORE = BIT(8),  /* writes its memory operand */
	OPA_LOAD = BIT(9),   /* reads its memory operand */
	OPA_GPR_DST = BIT(10), /* SIMD: a general register is written */
	OPA_GPR_SRC = BIT(11), /* SIMD: a general register is read */
	OPA_NO64 = BIT(12),    /* #UD in 64-bit mode */
	OPA_ONLY64 = BIT(13),  /* #UD outside 64-bit mode */
	OPA_FLAGS = BIT(14),   /* SIMD: writes RFLAGS (COMISS, PTEST) */
	OPA_MXCSR = BIT(15),   /* SIMD: may raise #XM */
	OPA_XMM0 = BIT(16),    /* reads XMM0: legacy BLENDVPS, SHA256RNDS2 */
	OPA_IS4 = BIT(17),     /* imm8[7:4] names an XMM register: VBLENDVPS */
};
/*
 * OPA_SIMD also marks what touches vector state without operands of the
 * common shape: EMMS, VZEROUPPER, LDMXCSR, FXSAVE, XSAVE and their like
 * (memsize 4, 512 or 0), MASKMOVQ, gathers (memsize: one element), VMASKMOV
 * (opsize bytes), PCMPxSTRx. OPA_X87 marks D8..DF and FWAIT; their memsize is
 * 2, 4, 8, 10, or 0 for environments.
 */

/* Text as Intel writes it, for traces and reports; at rip. */
void insn_format(const struct insn *i, u64 rip, char *buf, size_t size);

#endif
