/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Operands for the differential test: puts the memory operand where there is
 * memory (or, now and then, where there is none), and gives instructions that
 * want special values such ones: targets for branches, selectors, bit offsets,
 * dividends, images for XRSTOR.
 */
#include "cpu/soft/diff_gen.h"

#include <string.h>

#include "cpu/soft/diff_place.h"

/* Whether code at lin may be gone to: INT3, not the instruction itself. */
static bool operand_is_pad(const struct diff_case *c, u64 lin)
{
	return lin - (diff_code_lin(&c->in) - 16) > 32;
}

/* Code that any branch may go to: all of it is INT3. */
static u64 operand_target(struct diff_gen *g, const struct diff_case *c)
{
	u64 lin;

	do
		lin = DIFF_CODE + 64 + diff_pick(&g->r, DIFF_CODE_SIZE - 128);
	while (!operand_is_pad(c, lin));
	if (diff_chance(&g->r, 16))
		return diff_value(&g->r) & ~0x1fff0000ull;
	return c->in.cs == DIFF_CS16 ? lin - DIFF_CODE : lin;
}

static u16 operand_selector(struct diff_gen *g)
{
	static const u16 sels[] = {0,    3,    DIFF_DS, DIFF_DS, DIFF_DS16,
				   0x23, 0x33, 0x2a,    0x28,    DIFF_CS16,
				   0x10, 0x18, 0x1b,    0x40,    0x50,
				   0x60, 0x17, 0x0d,    0x83,    0xfffb};

	return sels[diff_pick(&g->r, ARRAY_LEN(sels))];
}

static u16 operand_code_selector(struct diff_gen *g, const struct diff_case *c)
{
	return diff_chance(&g->r, 4) ? operand_selector(g)
	       : diff_chance(&g->r, 2)
		       ? c->in.cs
		       : (u16[]){DIFF_CS64, DIFF_CS32}[diff_pick(&g->r, 2)];
}

static u64 *operand_gpr(struct diff_case *c, unsigned reg)
{
	return &c->in.gpr[reg & 15];
}

/* Writes the r/m operand's value, in the register or in memory at lin. */
static void operand_set_rm(struct diff_gen *g, struct diff_case *c, u64 lin,
			   u64 val, unsigned size)
{
	if (c->insn.mem)
		diff_put(g, lin, &val, size);
	else if (c->insn.rm < 16)
		*operand_gpr(c, c->insn.rm) = val;
}

static u64 operand_get_rm(const struct diff_gen *g, const struct diff_case *c,
			  u64 lin)
{
	u64 val = 0;

	if (!c->insn.mem)
		return c->in.gpr[c->insn.rm & 15];
	if (lin - DIFF_DATA <= DIFF_DATA_SIZE - 8)
		memcpy(&val, g->data + (lin - DIFF_DATA), 8);
	return val;
}

static void operand_string(struct diff_gen *g, struct diff_case *c)
{
	u64 *cx = &c->in.gpr[REG_CX];

	diff_place_reg(g, c, REG_SI, c->insn.seg, c->insn.opsize);
	diff_place_reg(g, c, REG_DI, SEG_ES, c->insn.opsize);
	if (diff_chance(&g->r, 8))
		c->in.gpr[REG_DI] =
			c->in.gpr[REG_SI] + diff_pick(&g->r, 32) - 16;
	*cx = diff_chance(&g->r, 16) ? diff_value(&g->r) : diff_pick(&g->r, 80);
	if (c->in.rflags & RFLAGS_TF)
		*cx &= 3;
	/* No run over all of memory: one of the two ends at its edge. */
	if ((c->insn.prefix & (PFX_REP | PFX_REPNE)) && c->insn.op == OP_LODS)
		*cx &= 0xfff;
	if (c->insn.adsize == 4 && c->mode == DECODE_64)
		*cx |= diff_rnd(&g->r) << 32;
	if (c->insn.op == OP_SCAS || c->insn.op == OP_CMPS) {
		u64 fill = c->in.gpr[REG_AX];
		u64 lin = ALIGN_DOWN(c->in.gpr[REG_DI], 8);

		for (unsigned k = 0; k < 16 && diff_chance(&g->r, 2); k++)
			diff_put(g, lin + 8 * k, &fill, 8);
	}
}

static void operand_compare(struct diff_gen *g, struct diff_case *c, u64 lin)
{
	bool wide = c->insn.opsize == 16;
	u64 v[2] = {0, 0};

	if (!diff_chance(&g->r, 2))
		return;
	if (c->insn.op == OP_CMPXCHG) {
		c->in.gpr[REG_AX] = operand_get_rm(g, c, lin);
		return;
	}
	if (lin - DIFF_DATA <= DIFF_DATA_SIZE - 16)
		memcpy(v, g->data + (lin - DIFF_DATA), 16);
	c->in.gpr[REG_AX] = v[0];
	c->in.gpr[REG_DX] = wide ? v[1] : v[0] >> 32;
}

static void operand_divide(struct diff_gen *g, struct diff_case *c)
{
	u64 *dx = &c->in.gpr[REG_DX], *ax = &c->in.gpr[REG_AX];

	if (diff_chance(&g->r, 4))
		return;
	if (c->insn.opsize == 1)
		*ax &= 0x1ff;
	else if (c->insn.op == OP_IDIV && diff_chance(&g->r, 2))
		*dx = *ax >> (8 * c->insn.opsize - 1) & 1 ? ~0ull : 0;
	else
		*dx = diff_pick(&g->r, 4);
}

/* XRSTOR and FXRSTOR want a good image, mostly. */
static void operand_image(struct diff_gen *g, struct diff_case *c, u64 lin)
{
	u8 x[XSAVE_AREA_SIZE];
	u64 bv = diff_pick(&g->r, 8);

	diff_fill_xsave(&g->r, x);
	memcpy(x + 512, &bv, 8);
	if (diff_chance(&g->r, 16)) /* XCOMP_BV, and what must be zero */
		x[520 + diff_pick(&g->r, 16)] ^= 1u << diff_pick(&g->r, 8);
	if (diff_chance(&g->r, 32))
		x[24 + diff_pick(&g->r, 4)] = (u8)diff_rnd(&g->r);
	diff_put(g, lin, x, sizeof(x));
	c->in.gpr[REG_AX] = diff_pick(&g->r, 8);
	c->in.gpr[REG_DX] = 0;
}

static void operand_far(struct diff_gen *g, struct diff_case *c, u64 lin)
{
	u64 off = operand_target(g, c);
	u16 sel = operand_code_selector(g, c);

	diff_put(g, lin, &off, c->insn.opsize);
	diff_put(g, lin + c->insn.opsize, &sel, 2);
}

/* RET, RET_FAR, IRET: what is popped. */
static void operand_frame(struct diff_gen *g, struct diff_case *c)
{
	unsigned size = c->insn.opsize;
	u64 v[5] = {operand_target(g, c), operand_code_selector(g, c),
		    diff_flags(&g->r) | (diff_rnd(&g->r) & 0x240ad5),
		    DIFF_DATA + diff_pick(&g->r, DIFF_DATA_SIZE),
		    diff_chance(&g->r, 4) ? operand_selector(g) : DIFF_DS};
	u64 sp = diff_stack_lin(c);

	/* IRET to AC on a stack that is not aligned raises #AC with AC clear in
	 * the flags pushed, which Linux takes for a split lock, for ever. */
	if (sp & 7)
		v[2] &= ~(u64)RFLAGS_AC;
	v[2] &= ~(u64)RFLAGS_RF;
	if (c->insn.op == OP_POPF)
		v[0] = v[2];
	for (unsigned k = 0; k < 5; k++)
		diff_put(g, sp + k * size, &v[k], size);
}

static void operand_gather(struct diff_gen *g, struct diff_case *c)
{
	bool q = (c->row->opcode & 1); /* 64-bit indices */
	u8 *x = c->in.xsave;
	unsigned reg = c->insn.index;

	for (unsigned k = 0; k < 8; k++) {
		u8 *half = k < 4 ? x + 160 + 16 * reg : x + 576 + 16 * reg;
		s64 v = (s64)diff_pick(&g->r, 64) - 32;
		s32 v32 = (s32)v;

		if (diff_chance(&g->r, 60))
			v = v32 = (s32)diff_rnd(&g->r);
		if (!q)
			memcpy(half + 4 * (k & 3), &v32, 4);
		else if (k & 1)
			memcpy(half + 4 * (k & 2), &v, 8);
	}
}

/* Lengths for PCMPESTRx, near the edges. */
static void operand_lengths(struct diff_gen *g, struct diff_case *c)
{
	c->in.gpr[REG_AX] = (u64)diff_pick(&g->r, 40) - 20;
	c->in.gpr[REG_DX] = (u64)diff_pick(&g->r, 40) - 20;
	if (diff_chance(&g->r, 8))
		c->in.gpr[REG_AX] = diff_value(&g->r);
}

static void operand_immediate(struct diff_gen *g, struct diff_case *c)
{
	u8 *imm = c->bytes + c->len - c->insn.immsize;
	u64 t;
	u16 sel;

	switch (c->insn.op) {
	case OP_INT:
		*imm = diff_chance(&g->r, 2) ? 3 + diff_pick(&g->r, 2)
					     : (u8)diff_rnd(&g->r);
		if (*imm == 0x80) /* Linux's system call */
			*imm = 0x81;
		break;
	case OP_ENTER: imm[2] &= diff_chance(&g->r, 4) ? 0x1f : 0x43; break;
	case OP_JMP_FAR:
	case OP_CALL_FAR:
		if (c->insn.form != FORM_FAR)
			break;
		t = operand_target(g, c);
		sel = operand_code_selector(g, c);
		memcpy(imm, &t, c->insn.opsize);
		memcpy(imm + c->insn.opsize, &sel, 2);
		break;
	}
	if (c->insn.form != FORM_REL)
		return;
	if (c->insn.immsize > 1) {
		t = operand_target(g, c) - (c->in.rip + c->len);
		memcpy(imm, &t, c->insn.immsize);
	} else if (!operand_is_pad(c, diff_code_lin(&c->in) + c->len +
					      (u64)(s64)(s8)*imm)) {
		*imm = 0x40;
	}
}

static void operand_special(struct diff_gen *g, struct diff_case *c, u64 lin)
{
	struct insn *i = &c->insn;
	u64 *gpr = c->in.gpr;
	u16 sel = operand_selector(g);
	u64 x;

	switch (i->op) {
	case OP_BT:
	case OP_BTS:
	case OP_BTR:
	case OP_BTC:
		if (i->mem && i->form == FORM_RM_R && !diff_chance(&g->r, 50))
			gpr[i->reg] = (u64)diff_pick(&g->r, 8192) - 4096;
		break;
	case OP_DIV:
	case OP_IDIV: operand_divide(g, c); break;
	case OP_CMPXCHG:
	case OP_CMPXCHG8B:
	case OP_CMPXCHG16B: operand_compare(g, c, lin); break;
	case OP_LOOP:
	case OP_LOOPE:
	case OP_LOOPNE:
	case OP_JCXZ:
		gpr[REG_CX] = diff_pick(&g->r, 3) | diff_rnd(&g->r) << 32;
		if (diff_chance(&g->r, 2))
			gpr[REG_CX] &= 0xffffffff;
		break;
	case OP_CALL:
	case OP_JMP:
		if (i->form == FORM_RM)
			operand_set_rm(g, c, lin, operand_target(g, c),
				       i->opsize);
		break;
	case OP_CALL_FAR:
	case OP_JMP_FAR:
		if (i->mem)
			operand_far(g, c, lin);
		break;
	case OP_LDS:
	case OP_LES:
	case OP_LFS:
	case OP_LGS:
	case OP_LSS: diff_put(g, lin + i->opsize, &sel, 2); break;
	case OP_RET:
	case OP_RET_FAR:
	case OP_IRET:
	case OP_POPF: operand_frame(g, c); break;
	case OP_POP_SREG: diff_put(g, diff_stack_lin(c), &sel, 2); break;
	case OP_MOV_TO_SREG:
	case OP_LAR:
	case OP_LSL:
	case OP_VERR:
	case OP_VERW:
	case OP_ARPL: operand_set_rm(g, c, lin, sel, 2); break;
	case OP_LDMXCSR:
	case OP_VLDMXCSR:
		x = diff_rnd(&g->r) & (diff_chance(&g->r, 8) ? ~0ull : 0xffff);
		diff_put(g, lin, &x, 4);
		break;
	case OP_FXRSTOR:
	case OP_XRSTOR:
	case OP_FXSAVE:
	case OP_XSAVE:
	case OP_XSAVEC:
	case OP_XSAVEOPT: operand_image(g, c, lin); break;
	case OP_FLDCW:
		x = 0x40 | (diff_rnd(&g->r) & 0xf3f);
		if (diff_chance(&g->r, 2))
			diff_put(g, lin, &x, 2);
		break;
	case OP_RDFSBASE:
	case OP_RDGSBASE:
	case OP_WRFSBASE:
	case OP_WRGSBASE:
		if (!diff_chance(&g->r, 4))
			gpr[i->rm] &= BIT64(47) - 1;
		break;
	}
	if (i->form == FORM_RM_CL || i->form == FORM_RM_R_CL)
		gpr[REG_CX] = diff_pick(&g->r, 80);
	if (c->row->attr & OPA_ESTR)
		operand_lengths(g, c);
	if (c->row->attr & OPA_VSIB)
		operand_gather(g, c);
}

void diff_gen_operands(struct diff_gen *g, struct diff_case *c)
{
	u64 lin = 0;

	if (c->row->attr & OPA_STACK || c->insn.op == OP_LEAVE)
		diff_place_stack(g, c);
	if (c->insn.op == OP_LEAVE || c->insn.op == OP_ENTER)
		diff_place_reg(g, c, REG_BP, SEG_SS, 8);
	lin = diff_place(g, c);
	operand_special(g, c, lin);
	if (c->row->attr & OPA_STRING)
		operand_string(g, c);
	operand_immediate(g, c);
}
