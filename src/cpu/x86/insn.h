/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One decoded instruction, and the decoder that fills it in.
 *
 * ops.def (and the ops_*.def it lists) has one row an opcode; everything that
 * reads instructions (decoder, interpreter, translator, disassembler, test
 * generator) derives from it. enum x86_op has one value for each mnemonic of
 * the SDM: OP_ADD, OP_MOVAPS, OP_VADDPS. Families by condition are one op with
 * the condition in cc: OP_JCC, OP_SETCC, OP_CMOVCC. Families by operand size
 * are one op, with the size in opsize: OP_CBW (CWDE, CDQE), OP_CWD (CDQ, CQO),
 * OP_MOVS, OP_PUSHA, OP_IRET; OP_JCXZ goes by adsize. Forms of MOV, PUSH, POP
 * and of transfers that have little in common are ops of their own:
 * OP_MOV_TO_CR, OP_PUSH_SREG, OP_CALL_FAR.
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
	FORM_RM_SREG,    /* MOV r/m, sreg: sreg in reg, 0..5 */
	FORM_SREG_RM,    /* MOV sreg, r/m */
	FORM_RM_CR,      /* MOV r, CRn/DRn: number in reg, register in rm */
	FORM_CR_RM,      /* MOV CRn/DRn, r */
	FORM_VEX_R_V_RM, /* BMI: reg, vreg, r/m */
	FORM_VEX_R_RM_V, /* BMI: reg, r/m, vreg */
	FORM_VEX_V_RM,   /* BLSR...: vreg, r/m */
	FORM_SIMD,       /* op_row.opnd tells */
	FORM_X87,        /* modrm tells: memory operand, or st(modrm & 7) */
};

struct insn;
struct soft_vcpu;
typedef void insn_fn(struct soft_vcpu *v, const struct insn *i);

/* Small, for there are many of them; the first INSN_HEAD bytes are all that the
 * engine needs of an entry that is no instruction. */
struct insn {
	insn_fn *fn; /* interpreter's handler; the engine's */
	union {
		u64 imm;   /* immediate, sign-extended */
		void *aux; /* engine's, for ops without an immediate */
	};
	s32 disp;     /* of the memory operand */
	u16 off;      /* engine's: offset in its block */
	u8 len;       /* bytes, 1..15 */
	u8 form;      /* enum insn_form */
	u32 op : 12;  /* enum x86_op */
	u32 row : 12; /* row of ops.def */
	u32 reg4 : 4; /* FORM_SIMD: register in imm8[7:4] (VBLENDVPS...) */
	u8 opsize;    /* 1, 2, 4, 8: size of the operation; SIMD: 16 or 32 */
	u8 memsize;   /* bytes that the memory operand moves (0: none/varies) */
	u8 prefix;    /* PFX_* */
	u8 reg;       /* ModRM.reg with REX.R */
	u8 rm;        /* register r/m with REX.B, or opcode register */
	u8 base, index;
	u8 modrm;       /* the byte itself, for x87 and thunks */
	u8 mem : 1;     /* 1: r/m is memory */
	u8 vsib : 1;    /* 1: index is a vector register (gathers) */
	u8 scale : 2;   /* shift 0..3 */
	u8 seg : 4;     /* effective segment of the memory operand, SEG_*; of
			   the source of string instructions, XLAT and MASKMOV
			   too */
	u8 vreg : 4;    /* VEX.vvvv */
	u8 cc : 4;      /* condition 0..15 */
	u8 adsize : 4;  /* 2, 4, 8 */
	u8 srcsize : 4; /* MOVZX/MOVSX/MOVSXD/CRC32: size of the source; SIMD:
			   size of a general register operand, 4 or 8 */
	u8 opc_off : 4; /* where in the bytes the opcode (after 0f...) is */
	u8 immsize : 4; /* bytes of immediate, at the end of the instruction */
};
#define INSN_HEAD offsetof(struct insn, opsize)

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

/*
 * Where an operand of a SIMD row is and what happens to it. The memory operand
 * (E, M, Q, W with insn.mem set) moves insn.memsize bytes.
 */
enum {
	OPK_NONE,
	OPK_V,    /* XMM/YMM insn.reg */
	OPK_W,    /* XMM/YMM insn.rm, or memory */
	OPK_H,    /* XMM/YMM insn.vreg */
	OPK_L,    /* XMM/YMM insn.reg4 */
	OPK_XMM0, /* XMM0, implicit */
	OPK_P,    /* MMX insn.reg & 7 */
	OPK_Q,    /* MMX insn.rm & 7, or memory */
	OPK_G,    /* general register insn.reg, insn.srcsize bytes */
	OPK_E,    /* general register insn.rm, or memory */
	OPK_M,    /* memory (never a register); with VSIB: gathers */
	OPK_RDI,  /* memory at seg:rDI, insn.memsize bytes: MASKMOVQ/DQU */
	OPK_I,    /* imm8 */
	OPK_KIND = 0x3f,
	OPK_READ = 0x40,
	OPK_WRITE = 0x80,
};

#define OP_OPERANDS 4

/* Per-row facts for all readers; ops.def explains how rows are written. */
struct op_row {
	const char *name; /* mnemonic, upper case: the X of OP_X */
	u16 op;           /* enum x86_op */
	/*
	 * RFLAGS, low 16 bits. written includes undef, and is what may change:
	 * with OPA_CONDFLAGS the instruction may leave flags as they were.
	 */
	u16 flags_read, flags_written, flags_undef;
	u32 attr;    /* OPA_* */
	u32 feature; /* FEAT_*: CPUID feature that must be announced */
	u32 sel;     /* decoder's: what besides the opcode selects the row */
	u8 map;      /* enum op_map */
	u8 opcode;   /* first, of */
	u8 span;     /* 1, 8 or 16 opcodes */
	u8 form;     /* enum insn_form */
	u8 size;     /* enum op_size: insn.opsize */
	u8 mem;      /* enum op_mem: insn.memsize */
	u8 imm;      /* enum op_imm */
	u8 opnd[OP_OPERANDS]; /* SIMD: OPK_*, destination first */
};

extern const struct op_row op_rows[];
extern const unsigned op_row_count;

enum op_map {
	MAP_1B,
	MAP_0F,
	MAP_38,  /* 0f 38 */
	MAP_3A,  /* 0f 3a */
	MAP_V0F, /* VEX.mmmmm = 1 */
	MAP_V38,
	MAP_V3A,
	MAP_X87M, /* d8..df, memory: opcode is (byte & 7) << 3 | digit */
	MAP_X87R, /* d8..df, register: the same */
	MAPS
};

enum op_size {
	SZ_0,   /* none: opsize is 0 */
	SZ_B,   /* 1 */
	SZ_W,   /* 2 */
	SZ_D,   /* 4 */
	SZ_Q,   /* 8; also MMX */
	SZ_V,   /* 2, 4, 8 by 66 and REX.W */
	SZ_Z,   /* 2, 4 by 66; 4 with REX.W */
	SZ_Y,   /* 4, 8 by REX.W or VEX.W */
	SZ_V64, /* push, pop: 8 or 2 in 64-bit mode, else 2, 4 */
	SZ_F64, /* near branches: 8 in 64-bit mode, else 2, 4 */
	SZ_N,   /* MOV CR: 8 in 64-bit mode, else 4 */
	SZ_X,   /* 16: XMM */
	SZ_L,   /* 16 or 32 by VEX.L */
};

enum op_mem {
	MS_OP, /* as opsize */
	MS_0,  /* none (LEA, prefetch) or varying (FXSAVE, XSAVE, masked) */
	MS_1,  /* the number of bytes */
	MS_2,
	MS_4,
	MS_6,
	MS_8,
	MS_10,
	MS_16,
	MS_32,
	MS_V,  /* 2, 4, 8, and not as opsize: CRC32 */
	MS_Y,  /* 4, 8 by W */
	MS_Z,  /* 2 if opsize is, else 4: MOVSXD */
	MS_L2, /* opsize / 2, / 4, / 8 */
	MS_L4,
	MS_L8,
	MS_DUP, /* VMOVDDUP: 8, or 32 with VEX.L */
	MS_FAR, /* far pointer: opsize + 2 */
	MS_2OP, /* BOUND, CMPXCHG8B/16B: 2 * opsize */
	MS_DT,  /* LGDT...: 2 + 8 in 64-bit mode, else 2 + 4 */
	MS_ENV, /* FLDENV: 14 or 28 */
	MS_SAV, /* FRSTOR: 94 or 108 */
};

enum op_imm {
	IMM_0,
	IMM_IB,    /* 8 bits, sign-extended */
	IMM_UB,    /* 8 bits, zero-extended */
	IMM_UW,    /* 16 bits, zero-extended */
	IMM_IZ,    /* 16 or 32 bits, sign-extended */
	IMM_IV,    /* 16, 32 or 64 bits */
	IMM_FAR,   /* offset and selector */
	IMM_ENTER, /* 16 and 8 bits */
	IMM_MOFFS, /* as adsize */
};

/*
 * op_row.attr. LOAD and STORE are about the memory operand (r/m, moffs), not
 * the stack; a string instruction has them for what it does to memory.
 */
enum {
	OPA_LOCK = BIT(0),   /* LOCK allowed with a memory destination */
	OPA_SYSTEM = BIT(1), /* segments, control, privileged: op_sys_* */
	OPA_SIMD = BIT(2),   /* runs as a thunk on vector registers; with
				SYSTEM: XSAVE and its like, LDMXCSR */
	OPA_X87 = BIT(3),    /* runs as a thunk on the x87 */
	OPA_MMX = BIT(4),    /* MMX registers involved (with OPA_SIMD) */
	OPA_ALIGN = BIT(5),  /* memory operand aligned to its size, else #GP */
	OPA_BRANCH = BIT(6), /* ends a block */
	OPA_STRING = BIT(7), /* string instruction, REP-able */
	OPA_STORE = BIT(8),  /* writes its memory operand */
	OPA_LOAD = BIT(9),   /* reads its memory operand */
	OPA_GPR_DST = BIT(10),   /* SIMD: a general register is written */
	OPA_GPR_SRC = BIT(11),   /* SIMD: a general register is read */
	OPA_NO64 = BIT(12),      /* #UD in 64-bit mode */
	OPA_ONLY64 = BIT(13),    /* #UD outside 64-bit mode */
	OPA_FLAGS = BIT(14),     /* SIMD, x87: writes or reads RFLAGS */
	OPA_MXCSR = BIT(15),     /* SIMD: may raise #XM */
	OPA_PRIV = BIT(16),      /* #GP(0) unless CPL 0 */
	OPA_CONDFLAGS = BIT(17), /* flags may stay (count 0) */
	OPA_STACK = BIT(18),     /* implicit stack access */
	OPA_MASKED = BIT(19), /* memory elements masked off are not touched */
	OPA_NONDET = BIT(20), /* result depends on time or chance */
	/* Implicit general registers of SIMD rows */
	OPA_STRI = BIT(21),   /* PCMPxSTRI: ECX written */
	OPA_ESTR = BIT(22),   /* PCMPESTRx: EAX, EDX read (RAX, RDX by W) */
	OPA_VSIB = BIT(23),   /* gather: dest, vector index, mask differ */
	OPA_AVX = BIT(24),    /* VEX: zeroes the upper part; needs XCR0.AVX */
	OPA_X87CTL = BIT(25), /* x87: control, no #MF of a pending exception */
	OPA_NOVVVV = BIT(26), /* VEX.vvvv must be 1111, else #UD */
};

/* op_row.feature */
enum op_feature {
	FEAT_NONE,
#define X86_FEATURE(name, leaf, reg, bit) FEAT_##name,
#include "cpu/x86/features.def"
#undef X86_FEATURE
	FEATURES
};

/* Where CPUID announces it: EAX=leaf, ECX=0, bit of EAX..EDX (reg 0..3). */
struct op_feature_bit {
	const char *name;
	u32 leaf;
	u8 reg, bit;
};

extern const struct op_feature_bit op_features[FEATURES];

/* Text as Intel writes it, for traces and reports; at rip. */
void insn_format(const struct insn *i, u64 rip, char *buf, size_t size);

#endif
