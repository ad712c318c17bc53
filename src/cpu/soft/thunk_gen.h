/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For thunk_test.c: random registers, and encodings of rows of the opcode
 * table with random operands.
 */
#ifndef CPU_SOFT_THUNK_GEN_H
#define CPU_SOFT_THUNK_GEN_H

#include "cpu/soft/thunk_native.h"
#include "cpu/x86/optable.h"

static unsigned test_rounds = 40;
static const char *test_only;
static u64 test_seed = 0x1234567;

static u64 rnd(void)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return test_seed * 0x2545f4914f6cdd1dull;
}

static const u64 special64[] = {
	0,
	1ull << 63,
	0x3ff0000000000000,
	0xbff8000000000000,
	0x7ff0000000000000,
	0xfff0000000000000,
	0x7ff8000000000001,
	0x7ff0000000000001,
	1,
	0x000fffffffffffff,
	0x0010000000000000,
	0x7fefffffffffffff,
	0x41dfffffffc00000,
	0xc1e0000000200000,
	0x43e0000000000000,
	0x3810000000000000,
	0x36a0000000000000,
	0x47efffffe0000000,
	~0ull,
	0x8000000080000000,
	0x3fe0000000000000,
};

static const u32 special32[] = {
	0,          0x80000000, 0x3f800000, 0xbfc00000, 0x7f800000, 0xff800000,
	0x7fc00001, 0x7f800001, 1,          0x007fffff, 0x00800000, 0x7f7fffff,
	0x4f000000, 0xcf000000, 0x3fc00000, 0x40490fdb, 0xffffffff, 7,
};

static void random_lanes(u8 *p, unsigned n)
{
	for (unsigned k = 0; k < n; k += 8) {
		u64 x;

		switch (rnd() % 5) {
		case 0: x = special64[rnd() % ARRAY_LEN(special64)]; break;
		case 1:
			x = special32[rnd() % ARRAY_LEN(special32)] |
			    (u64)special32[rnd() % ARRAY_LEN(special32)] << 32;
			break;
		case 2: x = rnd() & 0x0101010101010101; break;
		case 3: { /* doubles near one another */
			double d = (double)(s64)rnd() / 65536.0 /
				   (double)(rnd() | 1);

			memcpy(&x, &d, 8);
			break;
		}
		default: x = rnd(); break;
		}
		memcpy(p + k, &x, 8);
	}
}

static void random_x87(u8 *xs)
{
	static const u16 exps[] = {0,      1,      0x3fff, 0x3ffe, 0x4000,
				   0x7fff, 0x7ffe, 0xbfff, 0xffff, 0x8000,
				   0x403e, 0x401e, 0x3c01};
	u16 fcw = 0x37f, fsw = (u16)(rnd() & 0x7f00);

	if (rnd() & 1)
		fcw = (u16)(0x40 | (rnd() & 0xf00) | 0x3f);
	if (!(rnd() & 3))
		fcw &= (u16) ~(rnd() & 0x3f);
	if (!(rnd() & 3))
		fsw |= (u16)(rnd() & 0x3f);
	memcpy(xs + FX_FCW, &fcw, 2);
	memcpy(xs + FX_FSW, &fsw, 2);
	xs[FX_FTW] = rnd() & 1 ? 0xff : (u8)rnd();
	for (unsigned k = 0; k < 8; k++) {
		u8 *st = xs + FX_ST + 16 * k;
		u16 e = exps[rnd() % ARRAY_LEN(exps)];

		random_lanes(st, 8);
		if (rnd() & 1)
			st[7] |= 0x80;
		if (rnd() & 1)
			e = (u16)(0x3fff - 20 + rnd() % 90);
		memcpy(st + 8, &e, 2);
	}
}

static void random_regs(struct regs *r)
{
	u32 mxcsr = MXCSR_INIT;
	u64 bv = XF_ALL;

	memset(r, 0, sizeof(*r));
	for (unsigned n = 0; n < 16; n++)
		r->gpr[n] = rnd() & 1 ? rnd()
				      : (u64)(s64)(s32)rnd() >> (rnd() & 31);
	r->flags = RFLAGS_FIXED | RFLAGS_IF | (rnd() & RFLAGS_ARITH);
	random_x87(r->xsave);
	random_lanes(r->xsave + FX_XMM, 256);
	random_lanes(r->xsave + XS_YMMH, 256);
	random_lanes(r->mem, TEST_MEM);
	if (!(rnd() & 3)) {
		memset(r->xsave + FX_FSW, 0, 22);
		memset(r->xsave + FX_ST, 0, 128);
		r->xsave[FX_FCW] = 0x7f;
		r->xsave[FX_FCW + 1] = 3;
		bv &= ~(u64)XF_X87;
	}
	if (rnd() & 1)
		mxcsr = (u32)rnd() & MXCSR_VALID;
	if (rnd() & 1)
		mxcsr |= MXCSR_MASKS;
	memcpy(r->xsave + FX_MXCSR, &mxcsr, 4);
	memcpy(r->xsave + XS_HEADER, &bv, 8);
}

/* An encoding of a row; memory operands are [rbx + disp8]. */
struct encoding {
	u8 bytes[16];
	unsigned len;
	bool mem;
};

static u8 row_prefix(const struct op_row *o)
{
	static const u8 prefix[] = {0, 0x66, 0xf3, 0xf2};

	return prefix[o->sel & o->sel >> 16 & 3];
}

/* A value for a field of the selector: as demanded, or random. */
static unsigned row_choice(const struct op_row *o, unsigned bit, unsigned bits)
{
	unsigned mask = BIT(bits) - 1;
	unsigned fixed = o->sel >> 16 >> bit & mask;

	return ((o->sel >> bit & fixed) | ((unsigned)rnd() & ~fixed)) & mask;
}

static unsigned gpr_number(void)
{
	unsigned n;

	do
		n = rnd() % 15;
	while (n == 4);
	return n;
}

static bool row_operand(const struct op_row *o, unsigned kind)
{
	for (unsigned k = 0; k < OP_OPERANDS; k++)
		if ((o->opnd[k] & OPK_KIND) == kind)
			return true;
	return false;
}

static bool row_is_vex(const struct op_row *o)
{
	return o->map == MAP_V0F || o->map == MAP_V38 || o->map == MAP_V3A;
}

static bool encode_x87(struct encoding *e, const struct op_row *o)
{
	u8 *p = e->bytes;

	if (o->map == MAP_1B) { /* FWAIT */
		e->bytes[0] = o->opcode;
		e->len = 1;
		return true;
	}
	e->mem = o->map == MAP_X87M;
	if (e->mem && !(rnd() & 7))
		p = PUT(p, 0x66);
	p = PUT(p, (u8)(0xd8 | o->opcode >> 3));
	if (e->mem)
		p = PUT(p, (u8)(0x43 | (o->opcode & 7) << 3), 0x10);
	else
		p = PUT(p, (u8)(0xc0 | (o->opcode & 7) << 3 |
				row_choice(o, KEY_RM_BIT, 3)));
	e->len = (unsigned)(p - e->bytes);
	return true;
}

static void encode(struct encoding *e, const struct op_row *o)
{
	u8 *p = e->bytes;
	unsigned w, reg, rm, vreg = 0, l;
	bool gpr_reg = row_operand(o, OPK_G), gpr_rm = row_operand(o, OPK_E);
	unsigned fixed = o->sel >> 16;

	memset(e, 0, sizeof(*e));
	if (o->map == MAP_X87M || o->map == MAP_X87R || o->map == MAP_1B) {
		encode_x87(e, o);
		return;
	}
	w = fixed & KEY_W     ? !!(o->sel & KEY_W)
	    : fixed & KEY_W64 ? !!(o->sel & KEY_W64)
			      : rnd() & 1;
	l = fixed & KEY_L ? !!(o->sel & KEY_L) : rnd() & 1;
	e->mem = fixed & KEY_REG ? !(o->sel & KEY_REG) : rnd() & 1;
	reg = gpr_reg ? gpr_number() : rnd() & 15;
	rm = gpr_rm ? gpr_number() : rnd() & 15;
	if (fixed >> KEY_DIGIT_BIT & 7)
		reg = row_choice(o, KEY_DIGIT_BIT, 3);
	if (fixed >> KEY_RM_BIT & 7)
		rm = row_choice(o, KEY_RM_BIT, 3);
	if (!(o->attr & OPA_NOVVVV))
		vreg = rnd() & 15;
	if (row_is_vex(o)) {
		static const u8 pps[] = {0, 1, 2, 3};
		unsigned map = o->map == MAP_V0F   ? 1
			       : o->map == MAP_V38 ? 2
						   : 3;

		p = PUT(p, 0xc4,
			(u8)((reg & 8 ? 0 : 0x80) | 0x40 |
			     (!e->mem && rm & 8 ? 0 : 0x20) | map),
			(u8)(w << 7 | (~vreg & 15) << 3 | l << 2 |
			     pps[o->sel & o->sel >> 16 & 3]));
	} else {
		unsigned rex =
			0x40 | w << 3 | reg >> 3 << 2 | (e->mem ? 0 : rm >> 3);

		if (row_prefix(o))
			p = PUT(p, row_prefix(o));
		if (rex != 0x40)
			p = PUT(p, (u8)rex);
		p = PUT(p, 0x0f);
		if (o->map == MAP_38)
			p = PUT(p, 0x38);
		if (o->map == MAP_3A)
			p = PUT(p, 0x3a);
	}
	p = PUT(p, o->opcode);
	if (o->attr & OPA_VSIB) /* [rbx + xmm * scale + 16] */
		p = PUT(p, (u8)(0x44 | (reg & 7) << 3),
			(u8)((rnd() & 3) << 6 | (rnd() & 7) << 3 | 3), 0x10);
	else if (o->opcode == 0x77 && (o->map == MAP_0F || o->map == MAP_V0F))
		; /* EMMS, VZEROUPPER: no ModRM */
	else if (e->mem)
		p = PUT(p, (u8)(0x43 | (reg & 7) << 3), 0x10);
	else
		p = PUT(p, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
	if (o->imm)
		p = PUT(p, (u8)rnd());
	e->len = (unsigned)(p - e->bytes);
}

#endif
