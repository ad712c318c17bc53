/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Translation of one unit: entries, its instructions in order, then the
 * out-of-line parts.
 */
#include "cpu/jit/translate.h"

#include <string.h>

#include "cpu/jit/space.h"

const u8 jit_host[16] = {
	[0] = H_AX,   [1] = JIT_GCX, [2] = H_DX,    [3] = H_BX,
	[4] = JIT_SP, [5] = H_BP,    [6] = H_SI,    [7] = H_DI,
	[8] = H_8,    [9] = H_9,     [10] = H_NONE, [11] = H_NONE,
	[12] = H_12,  [13] = H_13,   [14] = H_NONE, [15] = H_NONE,
};

void tr_add(struct tr *t, u8 reg, s64 n)
{
	for (; n > INT32_MAX; n -= INT32_MAX)
		emit_lea(&t->e, reg, rm_mem(reg, INT32_MAX), true);
	if (n)
		emit_lea(&t->e, reg, rm_mem(reg, (s32)n), true);
}

void tr_rip(struct tr *t, u8 reg, s64 off)
{
	if (t->u->pin) {
		emit_mov_imm(&t->e, reg, t->u->pin + (u64)off);
		return;
	}
	emit_load(&t->e, reg, rm_v(V(code_page)));
	tr_add(t, reg, off);
	tr_cut(t, reg);
}

void tr_cut(struct tr *t, u8 reg)
{
	if (t->u->code32)
		emit_rr(&t->e, 0x89, false, reg, reg);
}

void tr_load_slot(struct tr *t, u8 reg, struct rm m)
{
	emit_op(&t->e, (struct opc){.code = 0x8b, .w = !t->u->code32}, reg, m);
}

void tr_store_slot(struct tr *t, u8 reg, struct rm m)
{
	emit_op(&t->e, (struct opc){.code = 0x89, .w = !t->u->code32}, reg, m);
}

void tr_move_sp(struct tr *t, s32 n)
{
	emit_lea(&t->e, JIT_SP, rm_mem(JIT_SP, n), !t->u->code32);
}

void tr_save_flags(struct tr *t)
{
	struct emit *e = &t->e;

	emit_mov(e, JIT_S2, H_AX);
	emit_u8(e, 0x9f); /* LAHF */
	emit_op(e, (struct opc){.code = 0x90, .map = 1}, 0,
		rm_reg(H_AX)); /* SETO AL */
	emit_op(e, (struct opc){.code = 0x89, .pfx = 0x66}, H_AX, rm_v(V(fl)));
	emit_mov(e, H_AX, JIT_S2);
}

void tr_restore_flags(struct tr *t)
{
	struct emit *e = &t->e;

	emit_mov(e, JIT_S2, H_AX);
	emit_op(e, (struct opc){.code = 0xb7, .map = 1}, H_AX,
		rm_v(V(fl))); /* MOVZX */
	emit_u8(e, 0x04);     /* ADD AL, 127: OF */
	emit_u8(e, 0x7f);
	emit_u8(e, 0x9e); /* SAHF */
	emit_mov(e, H_AX, JIT_S2);
}

void tr_guard_flags(struct tr *t)
{
	if (t->x->live && !t->fl_mem) {
		tr_save_flags(t);
		t->fl_mem = true;
	}
	t->fl_host = false;
}

/* Flags that the instruction reads, or passes on while it writes others. */
void tr_need_flags(struct tr *t)
{
	const struct unit_insn *x = t->x;
	u16 touched = op_rows[x->i.row].flags_written & RFLAGS_ARITH;
	bool need = x->read || (touched && x->live_after & ~x->write);

	if (x->label || x->kind == UNIT_JMP || x->kind == UNIT_LOOP)
		need |= x->live;
	if (need && x->live && !t->fl_host) {
		tr_restore_flags(t);
		t->fl_host = true;
	}
}

/* With vector instructions: only if they may run as they are. */
static void tr_simd_gate(struct tr *t)
{
	u8 *ok;

	emit_op(&t->e, (struct opc){.code = 0x8b}, JIT_S1,
		rm_v(V(jit_no_simd)));
	ok = emit_jecxz(&t->e);
	tr_way(t, emit_jmp(&t->e), WAY_SIMD, t->u->off, t->u->in[0].live);
	emit_patch8(&t->e, ok, t->e.p);
}

static void tr_label(struct tr *t)
{
	if (!t->x->label)
		return;
	vec_store_all(t, &t->vec);
	t->vec = vec_at(t->x);
	vec_load_all(t, &t->vec);
	if (t->x->live && !t->fl_host)
		tr_restore_flags(t);
	t->fl_host = true;
	t->fl_mem = false;
}

static void tr_insn(struct tr *t)
{
	static void (*const translate[])(struct tr * t) = {
		[UNIT_INTERP] = tr_interp,
		[UNIT_PLAIN] = tr_plain,
		[UNIT_SIMD] = tr_simd,
		[UNIT_JCC] = tr_jcc,
		[UNIT_JMP] = tr_jmp,
		[UNIT_CALL] = tr_call,
		[UNIT_LOOP] = tr_loop,
		[UNIT_JMP_IND] = tr_jmp_ind,
		[UNIT_CALL_IND] = tr_call_ind,
		[UNIT_RET] = tr_ret,
		[UNIT_PUSH] = tr_push,
		[UNIT_POP] = tr_pop,
		[UNIT_LEAVE] = tr_leave,
		[UNIT_DIV] = tr_div,
		[UNIT_CX] = tr_cx,
		[UNIT_BITS] = tr_bits,
		[UNIT_SYS] = tr_sys,
		[UNIT_CALLED] = tr_called,
		[UNIT_CALLED_END] = tr_called,
	};
	struct unit_insn *x = t->x;

	t->addend_loaded = t->addend_kept && !x->label;
	t->addend_kept = false;
	tr_label(t);
	x->code = t->e.p;
	t->called = false;
	if (x->loop)
		tr_poll(t, x->off, x->live);
	if (translate[x->kind])
		translate[x->kind](t);
	if (op_rows[x->i.row].flags_written & RFLAGS_ARITH && !t->called &&
	    x->kind != UNIT_SYS) {
		t->fl_host = true;
		t->fl_mem = false;
	}
}

static bool tr_falls_off(const struct unit_insn *last)
{
	switch (last->kind) {
	case UNIT_INTERP:
	case UNIT_JMP:
	case UNIT_CALL:
	case UNIT_JMP_IND:
	case UNIT_CALL_IND:
	case UNIT_CALLED_END:
	case UNIT_RET: return false;
	default: return true;
	}
}

/* With flags in v->fl or the host's; then they are in the host's. */
static void tr_entries(struct tr *t)
{
	bool live = t->u->in[0].live;

	t->fl_host = false;
	if (t->u->window_end > t->u->window_low) {
		t->t->entry_host = t->e.p;
		if (live)
			tr_save_flags(t);
		t->t->entry_fl = t->e.p;
		tr_window_check(t);
		if (live)
			tr_restore_flags(t);
	} else {
		t->t->entry_fl = t->e.p;
		if (live)
			tr_restore_flags(t);
		t->t->entry_host = t->e.p;
	}
}

static void tr_unit(struct tr *t)
{
	tr_entries(t);
	t->fl_host = true;
	t->fl_mem = false;
	if (t->u->simd)
		tr_simd_gate(t);
	for (unsigned k = 0; k < t->u->n && !t->e.full; k++) {
		t->x = &t->u->in[k];
		tr_insn(t);
	}
	if (tr_falls_off(&t->u->in[t->u->n - 1]))
		tr_fall_off(t);
	t->tail = t->e.p;
	tr_ways_out(t);
	tr_slow_accesses(t);
	tr_calls(t);
}

bool jit_translate(struct soft_vcpu *v, struct jit *j, struct jit_unit *unit)
{
	struct tr *t = j->tr;
	u8 *at = space_code(j);

	memset(t, 0, offsetof(struct tr, slow));
	t->e = (struct emit){.p = at,
			     .end = at + space_code_max(j->u.n),
			     .to_exec = j->buf.exec - j->buf.write};
	t->u = &j->u;
	t->j = j;
	t->t = unit;
	t->v = v;
	unit->links = space_links(j);
	unit->nlinks = 0;
	if (t->u->simd)
		vec_plan(t->u);
	if (unit->level == UNIT_WINDOW)
		window_plan(t->u);
	if (unit->level != UNIT_CHECKED)
		share_plan(t->u);
	tr_unit(t);
	if (t->e.full)
		return false;
	space_keep_code(j, t->e.p);
	return true;
}
