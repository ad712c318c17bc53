/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/jit/unit.h"

#include <string.h>

#include "cpu/jit/plan.h"

#define LOOK_AHEAD 6

static u16 unit_row_flags(u16 flags)
{
	return flags & RFLAGS_ARITH;
}

/*
 * A shift by an immediate count: 0 leaves the flags alone, others do not. (Of
 * small operands other kinds may turn all the way round.)
 */
static bool unit_keeps_flags(const struct insn *i)
{
	unsigned mask = i->opsize == 8 ? 63 : 31;
	bool shift = i->op == OP_SHL || i->op == OP_SHR || i->op == OP_SAR;

	if (!(op_rows[i->row].attr & OPA_CONDFLAGS))
		return false;
	return (i->form != FORM_RM_I && i->form != FORM_RM_R_I) ||
	       !(i->imm & mask) || (i->opsize < 4 && !shift);
}

static void unit_flags(struct unit_insn *x)
{
	const struct op_row *row = &op_rows[x->i.row];

	x->read = unit_row_flags(row->flags_read);
	x->write = unit_row_flags(row->flags_written);
	if (unit_keeps_flags(&x->i)) {
		x->read |= x->write;
		x->write = 0;
	}
	if (x->kind == UNIT_INTERP || row->attr & OPA_SYSTEM)
		x->read = RFLAGS_ARITH;
}

/*
 * What lock step cannot take back, or what would be another thing then. PUSHF
 * makes of undefined flags, which may differ, a number that may not.
 */
static bool unit_only_once(const struct insn *i)
{
	u32 attr = op_rows[i->row].attr;

	switch (i->op) {
	case OP_CLI:
	case OP_SWAPGS:
	case OP_MOV_FROM_CR: return false;
	default:
		if (attr & OPA_STRING && i->prefix & (PFX_REP | PFX_REPNE))
			return true; /* of any length */
		return attr & (OPA_SYSTEM | OPA_NONDET);
	}
}

bool unit_look(const struct unit *u, struct unit_insn *x, u32 off, unsigned n)
{
	x->off = off;
	if (insn_decode(&x->i, x->bytes, n,
			u->code32 ? DECODE_32 : DECODE_64) != DECODE_OK)
		return false;
	x->kind = u->code32 ? plan_insn32(&x->i) : plan_insn(&x->i);
	if (u->twice && unit_only_once(&x->i))
		x->kind = UNIT_INTERP;
	x->label = x->loop = x->window = x->window_mem = false;
	x->share = SHARE_NONE;
	x->vec_loaded = x->vec_dirty = 0;
	x->target = -1;
	x->code = NULL;
	unit_flags(x);
	return true;
}

static bool unit_decode(const struct unit *u, struct unit_insn *x, u32 off,
			const u8 *page)
{
	unsigned n = MIN(15u, PAGE_SIZE - off);

	memcpy(x->bytes, page + off, n);
	return unit_look(u, x, off, n);
}

/* The code is right only as long as these bytes stay as they are. */
static void unit_depends(struct unit *u, u32 off, unsigned len)
{
	unsigned first = off / 64, last = (off + len - 1) / 64;

	u->granules |= (~0ull << first) & (~0ull >> (63 - last));
}

/*
 * Flags live at off, outside the unit: looks at a few instructions of the
 * same page. What is not known is live.
 */
static u16 unit_live_at(struct unit *u, s64 off)
{
	u16 live = 0, killed = 0;

	for (int n = 0; n < LOOK_AHEAD; n++) {
		struct unit_insn x;

		if (!unit_in_page(off) ||
		    !unit_decode(u, &x, (u32)off, u->page))
			break;
		unit_depends(u, x.off, x.i.len);
		live |= x.read & ~killed;
		killed |= x.write;
		if (killed == RFLAGS_ARITH)
			return live;
		if (x.kind != UNIT_PLAIN && x.kind != UNIT_SIMD &&
		    x.kind != UNIT_PUSH && x.kind != UNIT_POP &&
		    x.kind != UNIT_NOP && x.kind != UNIT_CALLED &&
		    x.kind != UNIT_SYS && x.kind != UNIT_BITS)
			break;
		off += x.i.len;
	}
	return live | (RFLAGS_ARITH & ~killed);
}

/* Ends a unit: nothing falls through. */
static bool unit_ends(const struct unit_insn *x)
{
	switch (x->kind) {
	case UNIT_INTERP:
	case UNIT_JMP:
	case UNIT_CALL:
	case UNIT_JMP_IND:
	case UNIT_CALL_IND:
	case UNIT_CALLED_END:
	case UNIT_RET: return true;
	default: return false;
	}
}

static void unit_find_targets(struct unit *u)
{
	for (unsigned k = 0; k < u->n; k++) {
		struct unit_insn *x = &u->in[k];

		if (x->kind != UNIT_JCC && x->kind != UNIT_JMP &&
		    x->kind != UNIT_LOOP)
			continue;
		for (unsigned t = 0; t < u->n; t++) {
			if (u->in[t].off != unit_target(x))
				continue;
			x->target = (s16)t;
			u->in[t].label = true;
			u->in[t].loop |= t <= k;
			break;
		}
	}
}

/* Flags live after instruction k by what is known so far. */
static u16 unit_live_after(const struct unit *u, unsigned k, const u16 *outside)
{
	const struct unit_insn *x = &u->in[k];
	u16 next = k + 1 < u->n ? u->in[k + 1].live : u->live_out;
	u16 target = x->target >= 0 ? u->in[x->target].live : outside[k];

	switch (x->kind) {
	case UNIT_JCC:
	case UNIT_LOOP: return next | target;
	case UNIT_JMP:
	case UNIT_CALL: return target;
	case UNIT_INTERP:
	case UNIT_JMP_IND:
	case UNIT_CALL_IND:
	case UNIT_CALLED_END:
	case UNIT_RET: return RFLAGS_ARITH;
	default: return next;
	}
}

static void unit_liveness(struct unit *u)
{
	u16 outside[UNIT_INSNS];
	bool changed;

	for (unsigned k = 0; k < u->n; k++) {
		struct unit_insn *x = &u->in[k];
		bool direct = x->kind == UNIT_JCC || x->kind == UNIT_JMP ||
			      x->kind == UNIT_LOOP || x->kind == UNIT_CALL;

		outside[k] = direct && x->target < 0
				     ? unit_live_at(u, unit_target(x))
				     : 0;
		x->live = 0;
	}
	u->live_out = unit_live_at(u, u->off + u->len);
	do {
		changed = false;
		for (unsigned k = u->n; k-- > 0;) {
			struct unit_insn *x = &u->in[k];
			u16 live;

			x->live_after = unit_live_after(u, k, outside);
			live = (x->live_after & ~x->write) | x->read;
			changed |= live != x->live;
			x->live = live;
		}
	} while (changed);
}

/* Appends in[n], which is decoded; true if the unit ends with it. */
static bool unit_add(struct unit *u)
{
	struct unit_insn *x = &u->in[u->n++];

	u->len += x->i.len;
	if (x->kind == UNIT_SIMD) {
		u->simd = true;
		u->avx |= !!(op_rows[x->i.row].attr & OPA_AVX);
	}
	return unit_ends(x);
}

/* The one instruction that begins in the page and ends in the next. */
static void unit_read_crossing(struct unit *u, const u8 *next)
{
	struct unit_insn *x = &u->in[0];
	unsigned n = PAGE_SIZE - u->off;

	if (n >= sizeof(x->bytes))
		return;
	memcpy(x->bytes, u->page + u->off, n);
	memcpy(x->bytes + n, next, sizeof(x->bytes) - n);
	if (!unit_look(u, x, u->off, sizeof(x->bytes)) || x->i.len <= n)
		return;
	unit_depends(u, u->off, n);
	u->crosses = true;
	unit_add(u);
}

bool unit_read(struct unit *u, u32 off, const u8 *page, const u8 *next)
{
	u->off = off;
	u->page = page;
	u->n = u->len = 0;
	u->window_low = u->window_end = 0;
	u->granules = 0;
	u->simd = u->avx = u->crosses = false;
	while (u->n < UNIT_INSNS) {
		struct unit_insn *x = &u->in[u->n];

		if (!unit_in_page(off + u->len) ||
		    !unit_decode(u, x, off + u->len, page))
			break;
		unit_depends(u, x->off, x->i.len);
		if (unit_add(u))
			break;
	}
	if (!u->n && next)
		unit_read_crossing(u, next);
	if (!u->n)
		return false;
	unit_find_targets(u);
	unit_liveness(u);
	return true;
}
