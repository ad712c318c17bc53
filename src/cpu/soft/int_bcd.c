/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decimal adjustments, which 64-bit hosts lack: AAA, AAS, AAM, AAD, DAA, DAS
 * (SDM volume 2). Undefined flags: OF 0, the rest from the result.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

/* SF, ZF, PF from AL; CF and AF as given. */
static void bcd_flags(struct soft_vcpu *v, bool cf, bool af)
{
	u8 al = (u8)v->gpr[REG_AX];
	u16 fl;

	FL_BINARY("test", 1, al, al, fl);
	fl &= (u16) ~(FL_CF | FL_AF | FL_OF);
	v->fl = fl | (cf ? FL_CF : 0) | (af ? FL_AF : 0);
}

static bool bcd_low(const struct soft_vcpu *v)
{
	return (v->gpr[REG_AX] & 15) > 9 || (v->fl & FL_AF);
}

static HANDLER(bcd_daa)
{
	u8 old = (u8)v->gpr[REG_AX], al = old;
	bool low = bcd_low(v);
	bool high = old > 0x99 || (v->fl & FL_CF);

	if (low)
		al += 6;
	if (high)
		al += 0x60;
	reg_set(v, REG_AX, 1, al);
	bcd_flags(v, high, low);
	NEXT();
}

static HANDLER(bcd_das)
{
	u8 old = (u8)v->gpr[REG_AX], al = old;
	bool low = bcd_low(v);
	bool high = old > 0x99 || (v->fl & FL_CF);
	bool cf = high || (low && old < 6);

	if (low)
		al -= 6;
	if (high)
		al -= 0x60;
	reg_set(v, REG_AX, 1, al);
	bcd_flags(v, cf, low);
	NEXT();
}

static void bcd_ascii(struct soft_vcpu *v, int sign)
{
	bool low = bcd_low(v);
	u16 ax = (u16)v->gpr[REG_AX];

	if (low)
		ax = sign > 0 ? ax + 0x106 : ax - 0x106;
	reg_set(v, REG_AX, 2, ax & 0xff0f);
	bcd_flags(v, low, low);
}

static HANDLER(bcd_aaa)
{
	bcd_ascii(v, 1);
	NEXT();
}

static HANDLER(bcd_aas)
{
	bcd_ascii(v, -1);
	NEXT();
}

static HANDLER(bcd_aam)
{
	u8 al = (u8)v->gpr[REG_AX], base = (u8)i->imm;

	if (!base)
		int_fault(v, i, VEC_DE);
	reg_set(v, REG_AX, 2, (u16)(al / base) << 8 | al % base);
	bcd_flags(v, false, false);
	NEXT();
}

static HANDLER(bcd_aad)
{
	u16 ax = (u16)v->gpr[REG_AX];

	reg_set(v, REG_AX, 2, (u8)(ax + (ax >> 8) * (u8)i->imm));
	bcd_flags(v, false, false);
	NEXT();
}

insn_fn *int_bind_bcd(const struct insn *i)
{
	switch (i->op) {
	case OP_AAA: return bcd_aaa;
	case OP_AAS: return bcd_aas;
	case OP_AAM: return bcd_aam;
	case OP_AAD: return bcd_aad;
	case OP_DAA: return bcd_daa;
	case OP_DAS: return bcd_das;
	default: return NULL;
	}
}
