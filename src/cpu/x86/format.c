/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * insn_format(): an instruction as text in Intel's syntax, for traces and
 * reports. Names are the SDM's; a memory operand has its size in front where
 * it moves one, and its segment where that is not the default.
 */
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cpu/x86/insn.h"

struct text {
	char *buf;
	size_t size, n;
	unsigned operands;
	u64 next; /* address of the next instruction */
};

static void PRINTF(2, 3) text_add(struct text *t, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (t->n + 1 >= t->size)
		return;
	va_start(ap, fmt);
	n = vsnprintf(t->buf + t->n, t->size - t->n, fmt, ap);
	va_end(ap);
	t->n = MIN(t->n + (n > 0 ? (size_t)n : 0), t->size - 1);
}

static void text_lower(struct text *t, const char *s)
{
	for (; *s; s++)
		text_add(t, "%c", tolower((unsigned char)*s));
}

/* ", " or, before the first operand, " ". */
static void text_comma(struct text *t)
{
	text_add(t, t->operands++ ? ", " : " ");
}

/* ---- Mnemonic ---- */

static const char *const cc_names[16] = {"o",  "no",  "b",  "nb", "z", "nz",
					 "be", "nbe", "s",  "ns", "p", "np",
					 "l",  "nl",  "le", "nle"};

/* The letter of a string instruction, by operand size. */
static const char *format_letter(unsigned size)
{
	return size == 1 ? "b" : size == 2 ? "w" : size == 4 ? "d" : "q";
}

/* Mnemonics that are not simply the op's name, for sizes 2, 4, 8. */
static const struct format_special {
	u16 op;
	bool by_adsize;
	const char *name[3];
} format_specials[] = {
	{OP_CBW, false, {"cbw", "cwde", "cdqe"}},
	{OP_CWD, false, {"cwd", "cdq", "cqo"}},
	{OP_PUSHA, false, {"pusha", "pushad", ""}},
	{OP_POPA, false, {"popa", "popad", ""}},
	{OP_PUSHF, false, {"pushf", "pushfd", "pushfq"}},
	{OP_POPF, false, {"popf", "popfd", "popfq"}},
	{OP_IRET, false, {"iret", "iretd", "iretq"}},
	{OP_JCXZ, true, {"jcxz", "jecxz", "jrcxz"}},
	{OP_FXSAVE, false, {"", "fxsave", "fxsave64"}},
	{OP_FXRSTOR, false, {"", "fxrstor", "fxrstor64"}},
	{OP_XSAVE, false, {"", "xsave", "xsave64"}},
	{OP_XSAVEC, false, {"", "xsavec", "xsavec64"}},
	{OP_XSAVEOPT, false, {"", "xsaveopt", "xsaveopt64"}},
	{OP_XSAVES, false, {"", "xsaves", "xsaves64"}},
	{OP_XRSTOR, false, {"", "xrstor", "xrstor64"}},
	{OP_XRSTORS, false, {"", "xrstors", "xrstors64"}},
	{OP_CALL_FAR, false, {"call far", "call far", "call far"}},
	{OP_JMP_FAR, false, {"jmp far", "jmp far", "jmp far"}},
	{OP_RET_FAR, false, {"ret far", "ret far", "ret far"}},
	{OP_PUSH_SREG, false, {"push", "push", "push"}},
	{OP_POP_SREG, false, {"pop", "pop", "pop"}},
	{OP_MOV_FROM_SREG, false, {"mov", "mov", "mov"}},
	{OP_MOV_TO_SREG, false, {"mov", "mov", "mov"}},
	{OP_MOV_FROM_CR, false, {"mov", "mov", "mov"}},
	{OP_MOV_TO_CR, false, {"mov", "mov", "mov"}},
	{OP_MOV_FROM_DR, false, {"mov", "mov", "mov"}},
	{OP_MOV_TO_DR, false, {"mov", "mov", "mov"}},
	{OP_MOV_FROM_MOFFS, false, {"mov", "mov", "mov"}},
	{OP_MOV_TO_MOFFS, false, {"mov", "mov", "mov"}},
};

static const struct format_special *format_special(const struct insn *i)
{
	for (size_t k = 0; k < ARRAY_LEN(format_specials); k++)
		if (format_specials[k].op == i->op)
			return &format_specials[k];
	return NULL;
}

static void format_mnemonic(struct text *t, const struct insn *i)
{
	const struct format_special *s = format_special(i);
	unsigned size;

	if (s) {
		size = s->by_adsize ? i->adsize : i->opsize;
		text_add(t, "%s", s->name[size == 8 ? 2 : size == 4]);
		return;
	}
	switch (i->op) {
	case OP_JCC: text_add(t, "j%s", cc_names[i->cc]); return;
	case OP_SETCC: text_add(t, "set%s", cc_names[i->cc]); return;
	case OP_CMOVCC: text_add(t, "cmov%s", cc_names[i->cc]); return;
	}
	text_lower(t, op_rows[i->row].name);
	if (op_rows[i->row].attr & OPA_STRING)
		text_add(t, "%s", format_letter(i->opsize));
}

static void format_prefixes(struct text *t, const struct insn *i)
{
	bool flags = op_rows[i->row].flags_written;

	if (i->prefix & PFX_LOCK)
		text_add(t, "lock ");
	if (!(op_rows[i->row].attr & OPA_STRING))
		return;
	if (i->prefix & PFX_REP)
		text_add(t, flags ? "repe " : "rep ");
	else if (i->prefix & PFX_REPNE)
		text_add(t, flags ? "repne " : "rep ");
}

/* ---- Operands ---- */

static void format_gpr(struct text *t, unsigned reg, unsigned size)
{
	static const char *const names[8] = {"ax", "cx", "dx", "bx",
					     "sp", "bp", "si", "di"};
	static const char *const high[4] = {"ah", "ch", "dh", "bh"};

	if (size == 1 && reg >= INSN_REG_HIGH8)
		text_add(t, "%s", high[reg - INSN_REG_HIGH8]);
	else if (reg >= 8)
		text_add(t, "r%u%s", reg,
			 size == 8   ? ""
			 : size == 4 ? "d"
			 : size == 2 ? "w"
				     : "b");
	else if (size == 1)
		text_add(t, reg < 4 ? "%.1sl" : "%sl", names[reg]);
	else
		text_add(t, "%s%s",
			 size == 8   ? "r"
			 : size == 4 ? "e"
				     : "",
			 names[reg]);
}

static const char *const seg_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};

static void format_seg(struct text *t, const struct insn *i)
{
	bool stack = i->base == REG_SP || i->base == REG_BP;

	if (i->seg < SEG_NONE && i->seg != (stack ? SEG_SS : SEG_DS))
		text_add(t, "%s:", seg_names[i->seg]);
}

static void format_size(struct text *t, unsigned bytes)
{
	static const struct {
		unsigned bytes;
		const char *name;
	} sizes[] = {{1, "byte"},     {2, "word"},    {4, "dword"},
		     {6, "fword"},    {8, "qword"},   {10, "tbyte"},
		     {16, "xmmword"}, {32, "ymmword"}};

	for (size_t k = 0; k < ARRAY_LEN(sizes); k++)
		if (sizes[k].bytes == bytes)
			text_add(t, "%s ptr ", sizes[k].name);
}

static void format_index(struct text *t, const struct insn *i)
{
	if (i->vsib)
		text_add(t, "%cmm%u", i->prefix & PFX_VEXL ? 'y' : 'x',
			 i->index);
	else
		format_gpr(t, i->index, i->adsize);
	if (i->scale)
		text_add(t, "*%u", 1u << i->scale);
}

static u64 format_mask(unsigned adsize)
{
	return adsize == 8 ? ~0ull : BIT64(8 * adsize) - 1;
}

static void format_mem(struct text *t, const struct insn *i)
{
	s64 disp = i->disp;
	bool base = i->base != INSN_REG_NONE, index = i->index != INSN_REG_NONE;

	format_size(t, i->memsize);
	text_add(t, "[");
	format_seg(t, i);
	if (i->base == INSN_REG_RIP) {
		text_add(t, "0x%llx]",
			 (unsigned long long)((t->next + (u64)disp) &
					      format_mask(i->adsize)));
		return;
	}
	if (base)
		format_gpr(t, i->base, i->adsize);
	if (base && index)
		text_add(t, "+");
	if (index)
		format_index(t, i);
	if (!base && !index)
		text_add(t, "0x%llx",
			 (unsigned long long)((u64)disp &
					      format_mask(i->adsize)));
	else if (disp)
		text_add(t, "%c0x%llx", disp < 0 ? '-' : '+',
			 (unsigned long long)(disp < 0 ? -disp : disp));
	text_add(t, "]");
}

static void format_reg_operand(struct text *t, unsigned reg, unsigned size)
{
	text_comma(t);
	format_gpr(t, reg, size);
}

static void format_rm(struct text *t, const struct insn *i, unsigned size)
{
	text_comma(t);
	if (i->mem)
		format_mem(t, i);
	else
		format_gpr(t, i->rm, size);
}

static void format_imm(struct text *t, u64 imm, unsigned size)
{
	text_comma(t);
	text_add(t, "0x%llx",
		 (unsigned long long)(imm & format_mask(size ? size : 8)));
}

static void format_rel(struct text *t, const struct insn *i)
{
	text_comma(t);
	text_add(t, "0x%llx",
		 (unsigned long long)((t->next + i->imm) &
				      format_mask(i->opsize)));
}

/* The size of r/m where it is a register: BT m, r and such have one size. */
static unsigned format_rm_size(const struct insn *i)
{
	switch (i->op) {
	case OP_MOVZX:
	case OP_MOVSX:
	case OP_MOVSXD:
	case OP_CRC32: return i->srcsize;
	default: return i->opsize;
	}
}

static void format_moffs(struct text *t, const struct insn *i)
{
	bool load = i->op == OP_MOV_FROM_MOFFS;

	if (load)
		format_reg_operand(t, REG_AX, i->opsize);
	text_comma(t);
	format_size(t, i->memsize);
	text_add(t, "[");
	format_seg(t, i);
	text_add(t, "0x%llx]", (unsigned long long)i->imm);
	if (!load)
		format_reg_operand(t, REG_AX, i->opsize);
}

static void format_sreg(struct text *t, const struct insn *i)
{
	text_comma(t);
	text_add(t, "%s", seg_names[i->reg]);
}

static void format_control(struct text *t, const struct insn *i)
{
	bool dr = i->op == OP_MOV_FROM_DR || i->op == OP_MOV_TO_DR;

	text_comma(t);
	text_add(t, "%sr%u", dr ? "d" : "c", i->reg);
}

static void format_port(struct text *t, const struct insn *i)
{
	bool in = i->op == OP_IN;

	if (in)
		format_reg_operand(t, REG_AX, i->opsize);
	if (i->form == FORM_A_IB || i->form == FORM_IB_A)
		format_imm(t, i->imm, 1);
	else
		format_reg_operand(t, REG_DX, 2);
	if (!in)
		format_reg_operand(t, REG_AX, i->opsize);
}

static void format_integer(struct text *t, const struct insn *i)
{
	unsigned size = i->opsize, rm = format_rm_size(i);

	switch (i->form) {
	case FORM_RM_R:
		format_rm(t, i, size);
		format_reg_operand(t, i->reg, size);
		break;
	case FORM_R_RM:
		format_reg_operand(t, i->reg, size);
		format_rm(t, i, rm);
		break;
	case FORM_RM_I:
	case FORM_A_I:
	case FORM_R_I:
		format_rm(t, i, size);
		format_imm(t, i->imm, size);
		break;
	case FORM_RM:
	case FORM_R:
		format_rm(t, i, size);
		if (i->op == OP_XCHG)
			format_reg_operand(t, REG_AX, size);
		break;
	case FORM_R_RM_I:
		format_reg_operand(t, i->reg, size);
		format_rm(t, i, size);
		format_imm(t, i->imm, size);
		break;
	case FORM_RM_R_I:
	case FORM_RM_R_CL:
		format_rm(t, i, size);
		format_reg_operand(t, i->reg, size);
		if (i->form == FORM_RM_R_I)
			format_imm(t, i->imm, 1);
		else
			format_reg_operand(t, REG_CX, 1);
		break;
	case FORM_RM_1:
		format_rm(t, i, size);
		format_imm(t, 1, 1);
		break;
	case FORM_RM_CL:
		format_rm(t, i, size);
		format_reg_operand(t, REG_CX, 1);
		break;
	case FORM_I: format_imm(t, i->imm, size); break;
	case FORM_REL: format_rel(t, i); break;
	case FORM_MOFFS: format_moffs(t, i); break;
	case FORM_FAR:
		format_imm(t, i->imm >> 32, 2);
		text_add(t, ":0x%llx",
			 (unsigned long long)(i->imm & 0xffffffff));
		break;
	case FORM_I_I:
		format_imm(t, i->imm & 0xffff, 2);
		format_imm(t, i->imm >> 16, 1);
		break;
	case FORM_A_DX:
	case FORM_DX_A:
	case FORM_A_IB:
	case FORM_IB_A: format_port(t, i); break;
	case FORM_SREG: format_sreg(t, i); break;
	case FORM_RM_SREG:
		format_rm(t, i, size);
		format_sreg(t, i);
		break;
	case FORM_SREG_RM:
		format_sreg(t, i);
		format_rm(t, i, size);
		break;
	case FORM_RM_CR:
		format_rm(t, i, size);
		format_control(t, i);
		break;
	case FORM_CR_RM:
		format_control(t, i);
		format_rm(t, i, size);
		break;
	case FORM_VEX_R_V_RM:
		format_reg_operand(t, i->reg, size);
		format_reg_operand(t, i->vreg, size);
		format_rm(t, i, size);
		break;
	case FORM_VEX_R_RM_V:
		format_reg_operand(t, i->reg, size);
		format_rm(t, i, size);
		format_reg_operand(t, i->vreg, size);
		break;
	case FORM_VEX_V_RM:
		format_reg_operand(t, i->vreg, size);
		format_rm(t, i, size);
		break;
	default: break;
	}
}

static void format_vector(struct text *t, const struct insn *i, unsigned reg)
{
	text_comma(t);
	text_add(t, "%cmm%u", i->opsize == 32 ? 'y' : 'x', reg);
}

static void format_simd(struct text *t, const struct insn *i)
{
	const struct op_row *o = &op_rows[i->row];
	unsigned kind;

	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		kind = o->opnd[k] & OPK_KIND;
		if (i->mem && (kind == OPK_W || kind == OPK_Q ||
			       kind == OPK_E || kind == OPK_M)) {
			text_comma(t);
			format_mem(t, i);
			continue;
		}
		switch (kind) {
		case OPK_V: format_vector(t, i, i->reg); break;
		case OPK_W: format_vector(t, i, i->rm); break;
		case OPK_H: format_vector(t, i, i->vreg); break;
		case OPK_L: format_vector(t, i, i->reg4); break;
		case OPK_P:
		case OPK_Q:
			text_comma(t);
			text_add(t, "mm%u",
				 (kind == OPK_P ? i->reg : i->rm) & 7);
			break;
		case OPK_G: format_reg_operand(t, i->reg, i->srcsize); break;
		case OPK_E: format_reg_operand(t, i->rm, i->srcsize); break;
		case OPK_I: format_imm(t, i->imm, 1); break;
		}
	}
}

static void format_x87(struct text *t, const struct insn *i)
{
	if (i->mem) {
		text_comma(t);
		format_mem(t, i);
	} else if (i->op == OP_FNSTSW) {
		format_reg_operand(t, REG_AX, 2);
	} else if (op_rows[i->row].sel == 0 && i->op != OP_FWAIT) {
		text_comma(t);
		text_add(t, "st(%u)", i->modrm & 7);
	}
}

void insn_format(const struct insn *i, u64 rip, char *buf, size_t size)
{
	struct text t = {.buf = buf, .size = size, .next = rip + i->len};

	if (!size)
		return;
	buf[0] = 0;
	if (i->op == OP_INVALID) {
		text_add(&t, "(bad)");
		return;
	}
	format_prefixes(&t, i);
	format_mnemonic(&t, i);
	if (i->form == FORM_SIMD)
		format_simd(&t, i);
	else if (i->form == FORM_X87)
		format_x87(&t, i);
	else
		format_integer(&t, i);
}
