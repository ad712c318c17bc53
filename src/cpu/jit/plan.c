/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/jit/plan.h"

#include "cpu/jit/unit.h"

/* The destination of an integer instruction, by mnemonic; 0: not translated. */
enum {
	DST_RW = 1, /* read and written */
	DST_W,      /* written */
	DST_R,      /* only read (CMP) */
	DST_BOTH,   /* destination and source are both read and written */
};

static const u8 plan_dst[X86_OPS] = {
	[OP_ADD] = DST_RW,    [OP_OR] = DST_RW,      [OP_ADC] = DST_RW,
	[OP_SBB] = DST_RW,    [OP_AND] = DST_RW,     [OP_SUB] = DST_RW,
	[OP_XOR] = DST_RW,    [OP_CMP] = DST_R,      [OP_TEST] = DST_R,
	[OP_MOV] = DST_W,     [OP_LEA] = DST_W,      [OP_MOVZX] = DST_W,
	[OP_MOVSX] = DST_W,   [OP_MOVSXD] = DST_W,   [OP_INC] = DST_RW,
	[OP_DEC] = DST_RW,    [OP_NOT] = DST_RW,     [OP_NEG] = DST_RW,
	[OP_SHL] = DST_RW,    [OP_SHR] = DST_RW,     [OP_SAR] = DST_RW,
	[OP_ROL] = DST_RW,    [OP_ROR] = DST_RW,     [OP_RCL] = DST_RW,
	[OP_RCR] = DST_RW,    [OP_SHLD] = DST_RW,    [OP_SHRD] = DST_RW,
	[OP_IMUL] = DST_RW,   [OP_MUL] = DST_R,      [OP_BT] = DST_R,
	[OP_BTS] = DST_RW,    [OP_BTR] = DST_RW,     [OP_BTC] = DST_RW,
	[OP_BSF] = DST_RW,    [OP_BSR] = DST_RW,     [OP_LZCNT] = DST_W,
	[OP_TZCNT] = DST_W,   [OP_POPCNT] = DST_W,   [OP_CMOVCC] = DST_RW,
	[OP_SETCC] = DST_RW,  [OP_BSWAP] = DST_RW,   [OP_XCHG] = DST_BOTH,
	[OP_XADD] = DST_BOTH, [OP_CMPXCHG] = DST_RW, [OP_MOVBE] = DST_W,
	[OP_CRC32] = DST_RW,  [OP_ADCX] = DST_RW,    [OP_ADOX] = DST_RW,
	[OP_MOVNTI] = DST_W,  [OP_ANDN] = DST_W,     [OP_BLSR] = DST_W,
	[OP_BLSMSK] = DST_W,  [OP_BLSI] = DST_W,     [OP_BZHI] = DST_W,
	[OP_PEXT] = DST_W,    [OP_PDEP] = DST_W,     [OP_MULX] = DST_W,
	[OP_BEXTR] = DST_W,   [OP_SHLX] = DST_W,     [OP_SARX] = DST_W,
	[OP_SHRX] = DST_W,    [OP_RORX] = DST_W,     [OP_CBW] = DST_RW,
	[OP_CWD] = DST_RW,    [OP_LAHF] = DST_RW,    [OP_SAHF] = DST_RW,
	[OP_CMC] = DST_RW,    [OP_CLC] = DST_RW,     [OP_STC] = DST_RW,
	[OP_LFENCE] = DST_RW, [OP_MFENCE] = DST_RW,  [OP_SFENCE] = DST_RW,
	[OP_PAUSE] = DST_RW,
};

static u8 plan_dst_use(const struct insn *i)
{
	u8 dst = plan_dst[i->op];

	if (i->op == OP_IMUL && i->form != FORM_R_RM)
		dst = i->form == FORM_RM ? DST_R : DST_W;
	if (dst == DST_R)
		return USE_R;
	if (dst == DST_W && i->opsize >= 4)
		return USE_W;
	return USE_RW;
}

static struct plan_use plan_simd_use(const struct insn *i)
{
	const struct op_row *row = &op_rows[i->row];
	struct plan_use u = {0, 0, 0};

	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		u8 opnd = row->opnd[k], use = USE_NONE;

		if (opnd & OPK_READ)
			use |= USE_R;
		if (opnd & OPK_WRITE)
			use |= USE_W;
		if ((opnd & OPK_KIND) == OPK_G)
			u.reg = use;
		else if ((opnd & OPK_KIND) == OPK_E && !i->mem)
			u.rm = use;
	}
	return u;
}

struct plan_use plan_use(const struct insn *i)
{
	u8 dst = plan_dst_use(i);
	u8 src = plan_dst[i->op] == DST_BOTH ? USE_RW : USE_R;

	switch (i->form) {
	case FORM_RM_R:
	case FORM_RM_R_I:
	case FORM_RM_R_CL: return (struct plan_use){src, dst, 0};
	case FORM_R_RM:
	case FORM_R_RM_I: return (struct plan_use){dst, USE_R, 0};
	case FORM_RM_I:
	case FORM_RM:
	case FORM_RM_1:
	case FORM_RM_CL:
	case FORM_R:
	case FORM_R_I: return (struct plan_use){0, dst, 0};
	case FORM_VEX_R_V_RM:
		return (struct plan_use){dst, USE_R,
					 i->op == OP_MULX ? USE_W : USE_R};
	case FORM_VEX_R_RM_V: return (struct plan_use){dst, USE_R, USE_R};
	case FORM_VEX_V_RM: return (struct plan_use){0, USE_R, dst};
	case FORM_SIMD: return plan_simd_use(i);
	default: return (struct plan_use){0, 0, 0};
	}
}

/* Vector instructions whose operands are registers and plain memory. */
static bool plan_simd_ok(const struct insn *i)
{
	const struct op_row *row = &op_rows[i->row];

	if (i->op == OP_VZEROUPPER)
		return true;
	if (row->opnd[0] == OPK_NONE ||
	    row->attr & (OPA_MMX | OPA_MASKED | OPA_VSIB | OPA_STRI | OPA_ESTR |
			 OPA_SYSTEM | OPA_X87) ||
	    i->form != FORM_SIMD || (i->mem && !i->memsize))
		return false;
	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		u8 kind = row->opnd[k] & OPK_KIND;

		if (kind == OPK_P || kind == OPK_Q || kind == OPK_RDI)
			return false;
	}
	return true;
}

static bool plan_plain_ok(const struct insn *i)
{
	bool bit_string = i->op == OP_BT || i->op == OP_BTS ||
			  i->op == OP_BTR || i->op == OP_BTC;

	if (!plan_dst[i->op] || (i->mem && i->adsize == 2))
		return false;
	if (bit_string && i->mem && i->form == FORM_RM_R)
		return false;
	return i->op != OP_CRC32 || !(i->prefix & PFX_66);
}

/* Those with a way of their own. */
static u8 plan_special(const struct insn *i)
{
	switch (i->op) {
	case OP_NOP:
	case OP_ENDBR32:
	case OP_ENDBR64:
	case OP_PREFETCHW:
	case OP_PREFETCHNTA:
	case OP_PREFETCHT0:
	case OP_PREFETCHT1:
	case OP_PREFETCHT2: return UNIT_NOP;
	case OP_JCC: return UNIT_JCC;
	case OP_JMP: return i->form == FORM_REL ? UNIT_JMP : UNIT_JMP_IND;
	case OP_LOOP:
	case OP_LOOPE:
	case OP_LOOPNE:
	case OP_JCXZ: return i->adsize != 2 ? UNIT_LOOP : UNIT_INTERP;
	case OP_CALL: return i->form == FORM_REL ? UNIT_CALL : UNIT_CALL_IND;
	case OP_RET: return UNIT_RET;
	case OP_PUSH: return i->opsize != 2 ? UNIT_PUSH : UNIT_INTERP;
	case OP_POP: return i->opsize != 2 && !i->mem ? UNIT_POP : UNIT_INTERP;
	case OP_LEAVE: return i->opsize != 2 ? UNIT_LEAVE : UNIT_INTERP;
	case OP_DIV:
	case OP_IDIV: return i->opsize >= 4 ? UNIT_DIV : UNIT_INTERP;
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B: return UNIT_CX;
	default: return UNIT_INTERP;
	}
}

static bool plan_sys(const struct insn *i)
{
	switch (i->op) {
	case OP_CLI:
	case OP_STI:
	case OP_PUSHF:
	case OP_RDTSC:
	case OP_RDTSCP:
	case OP_SWAPGS:
	case OP_MOV_FROM_CR: return true;
	default: return false;
	}
}

/* BT... of memory by a register */
static bool plan_bits(const struct insn *i)
{
	return (i->op == OP_BT || i->op == OP_BTS || i->op == OP_BTR ||
		i->op == OP_BTC) &&
	       i->mem && i->form == FORM_RM_R && i->adsize == 8;
}

/* Of what is not translated: whether its handler can be called. */
static u8 plan_called(const struct insn *i)
{
	const u32 attr = op_rows[i->row].attr;

	if (i->op == OP_INVALID)
		return UNIT_INTERP;
	if (plan_sys(i))
		return UNIT_SYS;
	if (plan_bits(i))
		return UNIT_BITS;
	if (!(attr & OPA_BRANCH))
		return UNIT_CALLED;
	return attr & OPA_SYSTEM ? UNIT_CALLED_END : UNIT_INTERP;
}

static u8 plan_translated(const struct insn *i)
{
	const u32 attr = op_rows[i->row].attr;

	if (i->op == OP_INVALID || attr & (OPA_SYSTEM | OPA_STRING | OPA_X87))
		return UNIT_INTERP;
	if (attr & OPA_SIMD)
		return plan_simd_ok(i) ? UNIT_SIMD : UNIT_INTERP;
	return plan_plain_ok(i) ? UNIT_PLAIN : plan_special(i);
}

u8 plan_insn(const struct insn *i)
{
	u8 kind = plan_translated(i);

	return kind == UNIT_INTERP ? plan_called(i) : kind;
}

/*
 * What is not written as in 64-bit code: CS as a segment of data, 16-bit
 * addresses, opcodes that are others there, and VEX.W, which is ignored where
 * it would choose 64-bit registers.
 */
static bool plan_only32(const struct insn *i)
{
	const u32 attr = op_rows[i->row].attr;
	bool one_byte =
		(i->op == OP_INC || i->op == OP_DEC) && i->form == FORM_R;

	if (i->mem && (i->adsize == 2 || i->seg == SEG_CS))
		return true;
	if (attr & OPA_NO64 && !one_byte)
		return true;
	return i->prefix & PFX_VEX && i->prefix & PFX_REXW &&
	       (!(attr & OPA_SIMD) || attr & (OPA_GPR_DST | OPA_GPR_SRC));
}

u8 plan_insn32(const struct insn *i)
{
	const u32 attr = op_rows[i->row].attr;
	u8 kind;

	if (attr & OPA_BRANCH && !(attr & OPA_SYSTEM) && i->opsize == 2)
		return UNIT_INTERP;
	kind = plan_only32(i) ? plan_called(i) : plan_insn(i);
	if (kind == UNIT_SYS && i->op != OP_CLI && i->op != OP_STI &&
	    i->op != OP_RDTSC)
		return UNIT_CALLED;
	return kind == UNIT_BITS ? UNIT_CALLED : kind;
}
