/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Vector instructions run as they are, with the guest's registers in the host
 * registers of the same number: loaded from v->xsave on first use, stored back
 * where the unit may be left. A memory operand is at [RCX].
 */
#include "cpu/jit/plan.h"
#include "cpu/jit/translate.h"

/*
 * VMOVUPS with the lower half. (Legacy MOVUPS waits for the upper half, where
 * that is in use.)
 */
static void vec_move(struct tr *t, u8 code, unsigned reg, size_t off)
{
	emit_op(&t->e, (struct opc){.code = code, .map = 1, .vex = 1}, (u8)reg,
		rm_v(off));
}

/* VINSERTF128 ymm, ymm, m128, 1 / VEXTRACTF128 m128, ymm, 1 */
static void vec_high(struct tr *t, bool store, unsigned reg)
{
	struct opc o = {.code = store ? 0x19 : 0x18,
			.map = 3,
			.pfx = 0x66,
			.vex = 1,
			.l = 1,
			.vvvv = store ? 0 : (u8)reg};

	emit_op(&t->e, o, (u8)reg, rm_v(V_YMM_HI(reg)));
	emit_u8(&t->e, 1);
}

void vec_store_all(struct tr *t, const struct vec_state *s)
{
	for (unsigned r = 0; r < 16; r++) {
		if ((s->dirty_low | s->dirty_full) & BIT(r))
			vec_move(t, 0x11, r, V_XMM(r));
		if (s->dirty_full & BIT(r))
			vec_high(t, true, r);
	}
}

void vec_load_all(struct tr *t, const struct vec_state *s)
{
	for (unsigned r = 0; r < 16; r++) {
		if (!((s->low | s->full) & BIT(r)))
			continue;
		vec_move(t, 0x10, r, V_XMM(r));
		if (s->full & BIT(r))
			vec_high(t, false, r);
	}
}

void vec_use(struct tr *t, unsigned reg, bool full, bool read)
{
	u16 bit = (u16)BIT(reg);

	if (read && full && !(t->vec.full & bit)) {
		if (!(t->vec.low & bit))
			vec_move(t, 0x10, reg, V_XMM(reg));
		vec_high(t, false, reg);
	} else if (read && !((t->vec.low | t->vec.full) & bit)) {
		vec_move(t, 0x10, reg, V_XMM(reg));
	}
	if (full) {
		t->vec.full |= bit;
		t->vec.low &= (u16)~bit;
	} else if (!(t->vec.full & bit)) {
		t->vec.low |= bit;
	}
}

void vec_dirty(struct tr *t, unsigned reg, bool full)
{
	u16 bit = (u16)BIT(reg);

	if (full) {
		t->vec.dirty_full |= bit;
		t->vec.dirty_low &= (u16)~bit;
	} else if (!(t->vec.dirty_full & bit)) {
		t->vec.dirty_low |= bit;
	}
}

/* The vector register that an operand names, or -1. */
static int vec_operand(const struct insn *i, u8 opnd)
{
	switch (opnd & OPK_KIND) {
	case OPK_V: return i->reg;
	case OPK_W: return i->mem ? -1 : i->rm;
	case OPK_H: return i->vreg;
	case OPK_L: return i->reg4;
	case OPK_XMM0: return 0;
	default: return -1;
	}
}

/* A legacy move that writes all of the lower half. */
static bool vec_whole_move(const struct insn *i)
{
	switch (i->op) {
	case OP_MOVAPS:
	case OP_MOVUPS:
	case OP_MOVAPD:
	case OP_MOVUPD:
	case OP_MOVDQA:
	case OP_MOVDQU: return true;
	default: return false;
	}
}

/*
 * Loads what is read. A legacy instruction that writes keeps what it does not
 * write, so its destination is loaded too, unless it is a whole move.
 */
static void vec_prepare(struct tr *t, const struct op_row *row, bool vex)
{
	const struct insn *i = &t->x->i;
	bool wide = vex && i->opsize == 32;

	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		int r = vec_operand(i, row->opnd[k]);
		bool read = row->opnd[k] & OPK_READ;
		bool write = row->opnd[k] & OPK_WRITE;

		if (r < 0)
			continue;
		if (read || (write && !vex && !vec_whole_move(i)))
			vec_use(t, (unsigned)r, wide, true);
	}
}

static void vec_finish(struct tr *t, const struct op_row *row, bool vex)
{
	const struct insn *i = &t->x->i;

	for (unsigned k = 0; k < OP_OPERANDS; k++) {
		int r = vec_operand(i, row->opnd[k]);

		if (r < 0 || !(row->opnd[k] & OPK_WRITE))
			continue;
		/* VEX.128 clears the upper half: the host's register is whole.
		 */
		vec_use(t, (unsigned)r, vex, false);
		vec_dirty(t, (unsigned)r, vex);
	}
}

/* What the instructions from x, the first, to last use, if they can keep it. */
static void vec_plan_loop(const struct unit *u, struct unit_insn *x,
			  unsigned first, unsigned last)
{
	u16 loaded = 0, dirty = 0;

	for (unsigned k = first; k <= last; k++) {
		const struct unit_insn *y = &u->in[k];
		const struct op_row *row = &op_rows[y->i.row];

		if (y->kind == UNIT_CALLED || (k != first && y->label) ||
		    (y->kind == UNIT_SIMD && y->i.prefix & PFX_VEX))
			return;
		for (unsigned o = 0; y->kind == UNIT_SIMD && o < OP_OPERANDS;
		     o++) {
			int r = vec_operand(&y->i, row->opnd[o]);

			if (r < 0)
				continue;
			loaded |= (u16)BIT(r);
			if (row->opnd[o] & OPK_WRITE)
				dirty |= (u16)BIT(r);
		}
	}
	x->vec_loaded = loaded;
	x->vec_dirty = dirty;
}

/*
 * Innermost loops without VEX keep the registers that they use in the host's
 * over their back edges: all of them are loaded where the loop begins.
 */
void vec_plan(struct unit *u)
{
	for (unsigned k = 0; k < u->n; k++) {
		int last = -1;

		if (!u->in[k].loop)
			continue;
		for (unsigned j = k; j < u->n; j++)
			if (u->in[j].target == (s16)k)
				last = (int)j;
		if (last >= 0)
			vec_plan_loop(u, &u->in[k], k, (unsigned)last);
	}
}

struct vec_state vec_at(const struct unit_insn *x)
{
	return (struct vec_state){.low = x->vec_loaded,
				  .dirty_low = x->vec_dirty};
}

static u8 simd_prefix(const struct unit_insn *x)
{
	const struct insn *i = &x->i;

	if (i->prefix & PFX_VEX)
		return jit_vex_prefix(x->bytes[i->opc_off - 1]);
	if (i->prefix & PFX_REPNE)
		return 0xf2;
	if (i->prefix & PFX_REP)
		return 0xf3;
	return i->prefix & PFX_66 ? 0x66 : 0;
}

/* A general register operand: its host register; scratch R11 stands in. */
static u8 simd_gpr(struct tr *t, u8 g, u8 use)
{
	if (use == USE_NONE)
		return g;
	if (jit_host[g] != H_NONE)
		return jit_host[g];
	if (use & USE_R)
		emit_load(&t->e, JIT_S2, rm_v(V_GPR(g)));
	return JIT_S2;
}

/* Raises #GP by the interpreter if the operand is not aligned. */
static void simd_check_alignment(struct tr *t, struct rm at)
{
	u8 reg = at.reg;

	tr_guard_flags(t);
	if (at.index != H_NONE || at.disp) {
		emit_lea(&t->e, JIT_S2, at, true);
		reg = JIT_S2;
	}
	emit_op(&t->e, (struct opc){.code = 0xf6}, 0, rm_reg(reg));
	emit_u8(&t->e, (u8)(t->x->i.memsize - 1));
	tr_way(t, emit_jcc(&t->e, 5), WAY_VALUE, t->x->off, t->x->live);
}

/* The upper halves live in v->xsave: zeros go there. */
static void simd_vzeroupper(struct tr *t)
{
	static const struct vec_state none;
	struct opc o = {.code = 0x57, .map = 1, .vex = 1}; /* VXORPS */

	vec_store_all(t, &t->vec);
	t->vec = none;
	emit_op(&t->e, o, 0, rm_reg(0));
	o = (struct opc){.code = 0x11, .map = 1, .vex = 1, .l = 1};
	for (unsigned r = 0; r < 16; r += 2)
		emit_op(&t->e, o, 0, rm_v(V_YMM_HI(r))); /* VMOVUPS */
	emit_bytes(&t->e, "\xc5\xf8\x77", 3);
}

void tr_simd(struct tr *t)
{
	const struct insn *i = &t->x->i;
	const struct op_row *row = &op_rows[i->row];
	bool vex = i->prefix & PFX_VEX;
	struct plan_use use = plan_use(i);
	struct opc o = {.code = t->x->bytes[i->opc_off],
			.pfx = simd_prefix(t->x),
			.w = !!(i->prefix & PFX_REXW),
			.vex = vex,
			.l = !!(i->prefix & PFX_VEXL),
			.vvvv = i->vreg};
	struct rm at = {0};
	u8 reg, rm;

	if (i->op == OP_VZEROUPPER) {
		simd_vzeroupper(t);
		return;
	}
	o.map = row->map == MAP_V0F   ? 1
		: row->map == MAP_V38 ? 2
		: row->map == MAP_V3A ? 3
		: row->map == MAP_0F  ? 1
		: row->map == MAP_38  ? 2
				      : 3;
	if (i->mem)
		at = tr_operand(t, i->memsize, row->attr & OPA_STORE);
	if (i->mem && row->attr & OPA_ALIGN)
		simd_check_alignment(t, at);
	vec_prepare(t, row, vex);
	tr_need_flags(t);
	reg = simd_gpr(t, i->reg, use.reg);
	rm = simd_gpr(t, i->rm, use.rm);
	emit_op(&t->e, o, reg, i->mem ? at : rm_reg(rm));
	emit_bytes(&t->e, t->x->bytes + i->len - i->immsize, i->immsize);
	if (use.reg & USE_W && reg == JIT_S2)
		tr_put(t, i->reg, JIT_S2);
	if (use.rm & USE_W && rm == JIT_S2)
		tr_put(t, i->rm, JIT_S2);
	vec_finish(t, row, vex);
}
