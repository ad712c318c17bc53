/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Encodings for the differential test: random bytes that the decoder takes for
 * a given row of the opcode table, with all prefixes that may go with it and a
 * few that may not.
 */
#include "cpu/soft/diff_gen.h"

#include <string.h>

#include "cpu/x86/optable.h"

/* The value that the row wants of a part of the key, or -1. */
static int bytes_sel(const struct op_row *o, unsigned bit, unsigned mask)
{
	if ((o->sel >> 16 >> bit & mask) != mask)
		return -1;
	return (int)(o->sel >> bit & mask);
}

static bool bytes_is_vex(const struct op_row *o)
{
	return o->map >= MAP_V0F && o->map <= MAP_V3A;
}

/* Whether W is to be set. */
static bool bytes_w(struct diff_gen *g, const struct op_row *o)
{
	if (o->sel >> 16 & KEY_W)
		return o->sel & KEY_W;
	if (o->sel >> 16 & KEY_W64)
		return o->sel & KEY_W64;
	return diff_chance(&g->r, 3);
}

/* Legacy prefixes in any order; returns their number. */
static unsigned bytes_prefixes(struct diff_gen *g, const struct diff_case *c,
			       u8 *p)
{
	static const u8 segs[] = {0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65};
	const struct op_row *o = c->row;
	struct diff_rng *r = &g->r;
	int pp = bytes_sel(o, KEY_PREFIX_BIT, 3);
	bool nf = (o->sel >> 16 & 3) == 2;
	unsigned n = 0;

	while (n < 2 && diff_chance(r, 8))
		p[n++] = segs[diff_pick(r, 6)];
	if (diff_chance(r, 10))
		p[n++] = 0x67;
	if (bytes_is_vex(o))
		return n;
	if (pp == 1 || (pp != 0 && diff_chance(r, 4)))
		p[n++] = 0x66;
	if (pp >= 2)
		p[n++] = pp == 2 ? 0xf3 : 0xf2;
	else if (pp < 0 && !nf && diff_chance(r, o->attr & OPA_STRING ? 2 : 16))
		p[n++] = diff_chance(r, 2) ? 0xf3 : 0xf2;
	if (o->attr & OPA_LOCK && diff_chance(r, 4))
		p[n++] = 0xf0;
	for (unsigned k = 1; k < n; k++) {
		unsigned at = diff_pick(r, k + 1);
		u8 t = p[k];

		p[k] = p[at];
		p[at] = t;
	}
	return n;
}

static unsigned bytes_vex(struct diff_gen *g, const struct diff_case *c, u8 *p)
{
	const struct op_row *o = c->row;
	struct diff_rng *r = &g->r;
	int pp = bytes_sel(o, KEY_PREFIX_BIT, 3), l = bytes_sel(o, 11, 1);
	u8 vvvv = 15, rxb = 7, w = bytes_w(g, o), tail;

	if (!(o->attr & OPA_NOVVVV))
		vvvv = (u8)diff_pick(r, 16);
	if (c->mode == DECODE_64)
		rxb = (u8)diff_pick(r, 8);
	else
		vvvv |= 8;
	if (l < 0)
		l = diff_chance(r, o->size == SZ_L ? 2 : 8);
	tail = (u8)(vvvv << 3 | l << 2 | MAX(pp, 0));
	if (o->map == MAP_V0F && !w && (rxb & 3) == 3 && diff_chance(r, 2)) {
		p[0] = 0xc5;
		p[1] = (u8)((rxb & 4) << 5 | tail);
		return 2;
	}
	p[0] = 0xc4;
	p[1] = (u8)(rxb << 5 | (o->map - MAP_V0F + 1));
	p[2] = (u8)(w << 7 | tail);
	return 3;
}

static unsigned bytes_escape(struct diff_gen *g, const struct diff_case *c,
			     u8 *p)
{
	const struct op_row *o = c->row;
	unsigned n = 0;

	if (bytes_is_vex(o))
		return bytes_vex(g, c, p);
	if (c->mode == DECODE_64 &&
	    (diff_chance(&g->r, 2) || o->sel & (KEY_W | KEY_W64))) {
		u8 rex = 0x40 | (u8)diff_pick(&g->r, 8);

		p[n++] = rex | (bytes_w(g, o) ? 8 : 0);
	}
	if (o->map == MAP_0F || o->map == MAP_38 || o->map == MAP_3A)
		p[n++] = 0x0f;
	if (o->map == MAP_38 || o->map == MAP_3A)
		p[n++] = o->map == MAP_38 ? 0x38 : 0x3a;
	return n;
}

/* A ModRM byte for the row; where it has none, a random byte is as good. */
static u8 bytes_modrm(struct diff_gen *g, const struct op_row *o)
{
	int digit = bytes_sel(o, KEY_DIGIT_BIT, 7);
	int rm = bytes_sel(o, KEY_RM_BIT, 7), reg = bytes_sel(o, 8, 1);
	unsigned mod = diff_pick(&g->r, 3);

	if (o->map == MAP_X87M || o->map == MAP_X87R) {
		digit = o->opcode & 7;
		reg = o->map == MAP_X87R;
	}
	if (digit < 0)
		digit = (int)diff_pick(&g->r, 8);
	if (rm < 0)
		rm = (int)diff_pick(&g->r, 8);
	if (o->attr & OPA_VSIB)
		rm = 4;
	if (reg == 1 || (reg < 0 && diff_chance(&g->r, 2)))
		mod = 3;
	return (u8)(mod << 6 | (unsigned)digit << 3 | (unsigned)rm);
}

static void bytes_random(struct diff_gen *g, struct diff_case *c)
{
	const struct op_row *o = c->row;
	unsigned n;

	n = bytes_prefixes(g, c, c->bytes);
	n += bytes_escape(g, c, c->bytes + n);
	if (o->map == MAP_X87M || o->map == MAP_X87R)
		c->bytes[n++] = 0xd8 | o->opcode >> 3;
	else
		c->bytes[n++] = (u8)(o->opcode + diff_pick(&g->r, o->span));
	c->bytes[n++] = bytes_modrm(g, o);
	while (n < sizeof(c->bytes))
		c->bytes[n++] = (u8)diff_rnd(&g->r);
}

/*
 * Sometimes makes a good encoding undefined, by a LOCK or by VEX.vvvv. Operands
 * are made as for the good one, and both sides have to say #UD.
 */
static void bytes_spoil(struct diff_gen *g, struct diff_case *c)
{
	struct insn i;
	u8 b[sizeof(c->bytes)];

	memcpy(b, c->bytes, sizeof(b));
	if (c->row->attr & OPA_NOVVVV) {
		b[c->insn.opc_off - 1] ^= 8u << diff_pick(&g->r, 3);
	} else if (!(c->insn.prefix & PFX_LOCK) && c->insn.len < 15) {
		b[0] = 0xf0;
		memcpy(b + 1, c->bytes, sizeof(b) - 1);
		c->insn.len++;
	}
	if (insn_decode(&i, b, 15, c->mode) == DECODE_OK) {
		memcpy(c->bytes, b, sizeof(b));
		c->spoilt = i.op == OP_INVALID;
	}
}

bool diff_gen_bytes(struct diff_gen *g, struct diff_case *c)
{
	for (unsigned k = 0; k < 20; k++) {
		bytes_random(g, c);
		if (insn_decode(&c->insn, c->bytes, 15, c->mode) != DECODE_OK ||
		    c->insn.row != c->row_number)
			continue;
		c->spoilt = false;
		if (diff_chance(&g->r, 100))
			bytes_spoil(g, c);
		c->len = c->insn.len;
		return true;
	}
	return false;
}
