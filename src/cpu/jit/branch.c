/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Branches, and the ways out of a unit.
 *
 * Code does not know the linear address it runs at: that is v->code_page, which
 * every way into another page sets.
 *
 * A direct branch within the page goes straight to its target once that has
 * been translated: the page that executes is the page it was translated from.
 * One to another page compares v->fetch_key first, which changes with every
 * flush of the TLB and with mode and privilege, and the page it is made from;
 * in pinned units it need not: the monitor unlinks it when a mapping changes.
 * Indirect branches look their target up in jit.map. Attention is looked at on
 * every way backwards and on every indirect branch, so no loop runs without.
 */
#include <string.h>

#include "cpu/jit/space.h"
#include "cpu/jit/translate.h"

static const struct vec_state vec_none;

void tr_way(struct tr *t, u8 *from, enum way_kind kind, s64 off, u16 live)
{
	if (t->nway == TR_WAYS) {
		t->e.full = true;
		return;
	}
	t->way[t->nway++] = (struct way_out){.from = from,
					     .off = off,
					     .live = live,
					     .kind = (u8)kind,
					     .in_fl = !t->fl_host,
					     .vec = t->vec};
}

static void branch_fix(struct tr *t, u8 *at, s16 target)
{
	if (t->nfix == ARRAY_LEN(t->fix)) {
		t->e.full = true;
		return;
	}
	t->fix[t->nfix].at = at;
	t->fix[t->nfix++].target = target;
}

/* Whether vector registers must be stored or loaded before instruction k. */
static bool branch_vec_differs(const struct tr *t, s16 k)
{
	struct vec_state to = vec_at(&t->u->in[k]);

	return t->vec.dirty_low != to.dirty_low || t->vec.dirty_full ||
	       (to.low & ~t->vec.low);
}

/* Lock step: so many polls, and the code is left. Flags stay. */
static void branch_poll_budget(struct tr *t, s64 off, u16 live)
{
	struct rm budget = rm_v(V(jit_budget));
	u8 *out, *on;

	emit_op(&t->e, (struct opc){.code = 0x8b}, JIT_S1, budget);
	emit_lea(&t->e, JIT_S1, rm_mem(JIT_S1, -1), false);
	emit_op(&t->e, (struct opc){.code = 0x89}, JIT_S1, budget);
	out = emit_jecxz(&t->e);
	on = emit_jmp(&t->e);
	emit_patch8(&t->e, out, t->e.p);
	tr_way(t, emit_jmp(&t->e), WAY_POLL, off, live);
	if (!t->e.full)
		emit_patch32(on, t->e.p);
}

void tr_poll(struct tr *t, s64 off, u16 live)
{
	u8 *over;

	if (t->j->lock) {
		branch_poll_budget(t, off, live);
		return;
	}
	emit_op(&t->e, (struct opc){.code = 0x8b}, JIT_S1, rm_v(V(attention)));
	over = emit_jecxz(&t->e);
	tr_way(t, emit_jmp(&t->e), WAY_POLL, off, live);
	emit_patch8(&t->e, over, t->e.p);
}

void tr_branch_to(struct tr *t, u8 *at)
{
	const struct unit_insn *x = t->x;

	if (x->target < 0) {
		tr_way(t, at, WAY_LINK, unit_target(x), x->live_after);
	} else if (branch_vec_differs(t, x->target)) {
		tr_way(t, at, WAY_LABEL, unit_target(x), 0);
		t->way[t->nway - 1].label = x->target;
	} else
		branch_fix(t, at, x->target);
}

void tr_jcc(struct tr *t)
{
	tr_need_flags(t);
	tr_branch_to(t, emit_jcc(&t->e, t->x->i.cc));
}

void tr_jmp(struct tr *t)
{
	struct unit_insn *x = t->x;
	struct vec_state to = vec_none;

	if (x->target >= 0)
		to = vec_at(&t->u->in[x->target]);
	if (x->target < 0 || branch_vec_differs(t, x->target)) {
		vec_store_all(t, &t->vec);
		vec_load_all(t, &to);
		t->vec = to;
	}
	if (x->target >= 0) {
		tr_need_flags(t);
		branch_fix(t, emit_jmp(&t->e), x->target);
	} else {
		tr_way(t, emit_jmp(&t->e), WAY_LINK, unit_target(x),
		       x->live_after);
	}
}

/* Stores an address; R11 is clobbered if it is not in the topmost 2 GiB. */
static void branch_store_imm(struct tr *t, u64 address, struct rm at)
{
	if (address == (u64)(s64)(s32)address) {
		emit_op(&t->e, (struct opc){.code = 0xc7, .w = 1}, 0, at);
		emit_u32(&t->e, (u32)address);
	} else {
		emit_mov_imm(&t->e, JIT_S2, address);
		emit_store(&t->e, JIT_S2, at);
	}
}

/* Pushes the address of the next instruction; RCX and R11 are clobbered. */
static void branch_push_next(struct tr *t)
{
	struct rm at = tr_stack(t, -tr_slot(t), true);
	s64 next = (s64)t->x->off + t->x->i.len;

	if (t->u->pin) {
		branch_store_imm(t, t->u->pin + (u64)next, at);
	} else {
		tr_rip(t, JIT_S2, next);
		tr_store_slot(t, JIT_S2, at);
	}
	tr_move_sp(t, -tr_slot(t));
}

void tr_call(struct tr *t)
{
	struct unit_insn *x = t->x;

	vec_store_all(t, &t->vec);
	t->vec = vec_none;
	branch_push_next(t);
	tr_way(t, emit_jmp(&t->e), WAY_LINK, unit_target(x), x->live_after);
}

/* To the monitor at off, for that reason. */
static void way_exit(struct tr *t, s64 off, enum jit_exit why)
{
	emit_mov_imm(&t->e, JIT_S1, (u64)off);
	emit_jmp_to(&t->e, t->j->way[t->u->code32].out[why]);
}

/*
 * To the linear address in RCX if jit.map has it; else goes on after this with
 * RCX as it was. R11, R14 and the host's flags are clobbered.
 */
static void branch_lookup(struct emit *e)
{
	u8 *other, *stale;

	emit_load(e, JIT_S3, rm_v(V(fetch_key)));
	emit_rorx(e, true, JIT_S2, JIT_S1, JIT_MAP_BITS);
	emit_rr(e, 0x31, false, JIT_S1, JIT_S2);
	emit_rr(e, 0x31, false, JIT_S3, JIT_S2);
	emit_alu_imm(e, 4, false, JIT_S2, (JIT_MAP_SIZE - 1) << JIT_MAP_SHIFT);
	emit_op(e, (struct opc){.code = 0xc1}, 4, rm_reg(JIT_S2)); /* SHL */
	emit_u8(e, 5 - JIT_MAP_SHIFT);
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, JIT_S2,
		rm_v(V(jit_map)));
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S1,
		rm_mem(JIT_S2, offsetof(struct jit_entry, lin)));
	other = emit_jcc(e, 5);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S3,
		rm_mem(JIT_S2, offsetof(struct jit_entry, key)));
	stale = emit_jcc(e, 5);
	emit_alu_imm(e, 4, true, JIT_S1, -(s32)PAGE_SIZE);
	emit_store(e, JIT_S1, rm_v(V(code_page)));
	emit_op(e, (struct opc){.code = 0xff}, 4,
		rm_mem(JIT_S2, offsetof(struct jit_entry, code)));
	if (e->full)
		return;
	emit_patch32(other, e->p);
	emit_patch32(stale, e->p);
}

/* reg += v->code_page, of off from there */
static void common_rip(struct emit *e, u8 reg, bool code32)
{
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, reg, rm_v(V(code_page)));
	if (code32)
		emit_rr(e, 0x89, false, reg, reg);
}

/* reg = linear address of the target of the link that "link" points to */
static void common_target(struct emit *e, u8 reg, u8 link, bool code32)
{
	emit_op(e, (struct opc){.code = 0x63, .w = 1}, reg, /* MOVSXD */
		rm_mem(link, offsetof(struct jit_link, off)));
	common_rip(e, reg, code32);
}

/* RCX = the link whose number is in RCX */
static void common_link(struct emit *e, const struct jit *j)
{
	emit_op(e, (struct opc){.code = 0x69, .w = 1}, JIT_S1, rm_reg(JIT_S1));
	emit_u32(e, sizeof(struct jit_link)); /* IMUL */
	emit_mov_imm(e, JIT_S2, (u64)j->link);
	emit_rr(e, 0x01, true, JIT_S2, JIT_S1);
}

void jit_common_ways(struct emit *e, const struct jit *j, struct jit_ways *w,
		     bool code32)
{
	u8 *ask, *known;

	for (unsigned k = 0; k < JIT_EXITS; k++) {
		w->out[k] = e->p;
		common_rip(e, JIT_S1, code32);
		emit_store(e, JIT_S1, rm_v(V(rip)));
		emit_jmp_to(e, j->out[k]);
	}
	w->link = e->p;
	common_link(e, j);
	known = e->p;
	common_target(e, JIT_S2, JIT_S1, code32);
	emit_store(e, JIT_S2, rm_v(V(rip)));
	emit_jmp_to(e, j->out[JIT_EXIT_LINK]);
	w->pinned = e->p;
	common_link(e, j);
	emit_load(e, JIT_S2, rm_mem(JIT_S1, offsetof(struct jit_link, page)));
	emit_store(e, JIT_S2, rm_v(V(code_page)));
	emit_jmp_to(e, known);
	w->other = e->p;
	emit_op(e, (struct opc){.code = 0x83}, 5,
		rm_mem(JIT_S2, offsetof(struct jit_link, patience)));
	emit_u8(e, 1); /* SUB */
	ask = emit_jcc(e, 8);
	common_target(e, JIT_S1, JIT_S2, code32);
	emit_jmp_to(e, j->branch);
	if (e->full)
		return;
	emit_patch32(ask, e->p);
	emit_mov(e, JIT_S1, JIT_S2);
	emit_jmp_to(e, known);
}

u8 *jit_common_branch(struct emit *e, const struct jit *j)
{
	u8 *at = e->p;

	branch_lookup(e);
	emit_store(e, JIT_S1, rm_v(V(rip)));
	emit_jmp_to(e, j->out[JIT_EXIT_INDIRECT]);
	return at;
}

/*
 * To the linear address in RCX; the flags are in v->fl. RSP has been moved up
 * by popped: if the address is not canonical that is undone, and the
 * interpreter raises the fault. (What is in the map is canonical.)
 */
static void branch_indirect(struct tr *t, s32 popped)
{
	struct emit *e = &t->e;
	u8 *attention, *bad;

	emit_op(e, (struct opc){.code = 0x83}, 7, rm_v(V(attention)));
	emit_u8(e, 0); /* CMP */
	attention = emit_jcc(e, 5);
	branch_lookup(e);
	if (e->full)
		return;
	emit_patch32(attention, e->p);
	emit_store(e, JIT_S1, rm_v(V(rip)));
	emit_mov(e, JIT_S2, JIT_S1);
	emit_op(e, (struct opc){.code = 0xc1, .w = 1}, 4, rm_reg(JIT_S2));
	emit_u8(e, 16); /* SHL */
	emit_op(e, (struct opc){.code = 0xc1, .w = 1}, 7, rm_reg(JIT_S2));
	emit_u8(e, 16); /* SAR */
	emit_rr(e, 0x39, true, JIT_S1, JIT_S2);
	bad = emit_jcc(e, 5);
	emit_jmp_to(e, t->j->out[JIT_EXIT_INDIRECT]);
	if (e->full)
		return;
	emit_patch32(bad, e->p);
	if (popped)
		emit_lea(e, JIT_SP, rm_mem(JIT_SP, -popped), true);
	way_exit(t, t->x->off, JIT_EXIT_ADDRESS);
}

void tr_ret(struct tr *t)
{
	const struct insn *i = &t->x->i;
	s32 pop = tr_slot(t) + (i->form == FORM_I ? (s32)(u16)i->imm : 0);

	vec_store_all(t, &t->vec);
	t->vec = vec_none;
	tr_guard_flags(t);
	tr_load_slot(t, JIT_S1, tr_stack(t, 0, false));
	tr_move_sp(t, pop);
	branch_indirect(t, pop);
}

/* The target of an indirect branch in RCX. Flags are saved. */
static void branch_target(struct tr *t)
{
	const struct insn *i = &t->x->i;

	tr_guard_flags(t);
	if (i->mem)
		tr_load_slot(t, JIT_S1,
			     tr_operand(t, (unsigned)tr_slot(t), false));
	else
		tr_get(t, JIT_S1, i->rm);
	tr_cut(t, JIT_S1);
	t->addend_loaded = false;
}

void tr_jmp_ind(struct tr *t)
{
	vec_store_all(t, &t->vec);
	t->vec = vec_none;
	branch_target(t);
	branch_indirect(t, 0);
}

void tr_call_ind(struct tr *t)
{
	vec_store_all(t, &t->vec);
	t->vec = vec_none;
	branch_target(t);
	emit_store(&t->e, JIT_S1, rm_v(V(jit_tmp)));
	branch_push_next(t);
	emit_load(&t->e, JIT_S1, rm_v(V(jit_tmp)));
	branch_indirect(t, -tr_slot(t));
}

void tr_interp(struct tr *t)
{
	tr_way(t, emit_jmp(&t->e), WAY_OP, t->x->off, t->x->live);
}

/* Past the last instruction: goes on as by a jump. */
void tr_fall_off(struct tr *t)
{
	vec_store_all(t, &t->vec);
	t->vec = vec_none;
	tr_way(t, emit_jmp(&t->e), WAY_LINK, t->u->off + t->u->len,
	       t->u->live_out);
}

static struct jit_link *way_new_link(struct tr *t, s64 off, bool cross,
				     bool in_fl)
{
	struct jit_link *l = space_new_link(t->j);

	if (!l) {
		t->e.full = true;
		return NULL;
	}
	*l = (struct jit_link){.off = (s32)off,
			       .page = t->u->pin,
			       .cross = cross,
			       .pinned = t->u->pin != 0,
			       .in_fl = in_fl};
	t->t->nlinks++;
	return l;
}

/*
 * The jump of a link to another page: its target is right for one mapping.
 * Under others the map may know better; the monitor is asked to make the link
 * anew after some patience, for two processes may take turns.
 */
static void way_cross(struct tr *t, const struct way_out *w, struct jit_link *l)
{
	struct emit *e = &t->e;
	u8 *key, *page;

	emit_load(e, JIT_S1, rm_v(V(fetch_key)));
	emit_mov_imm(e, JIT_S2, (u64)l);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S1,
		rm_mem(JIT_S2, offsetof(struct jit_link, key)));
	key = emit_jcc(e, 5);
	emit_load(e, JIT_S1, rm_v(V(code_page)));
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S1,
		rm_mem(JIT_S2, offsetof(struct jit_link, page)));
	page = emit_jcc(e, 5);
	tr_add(t, JIT_S1, w->off & -(s64)PAGE_SIZE);
	tr_cut(t, JIT_S1);
	emit_store(e, JIT_S1, rm_v(V(code_page)));
	l->site = space_place(t->j, emit_jmp(e));
	if (e->full)
		return;
	emit_patch32(key, t->j->way[t->u->code32].other);
	emit_patch32(page, t->j->way[t->u->code32].other);
}

/* The same of a pinned unit: nothing to check. Keeps the flags. */
static void way_cross_pinned(struct tr *t, s64 off, struct jit_link *l)
{
	branch_store_imm(t, (t->u->pin + (u64)off) & ~(u64)PAGE_MASK,
			 rm_v(V(code_page)));
	l->site = space_place(t->j, emit_jmp(&t->e));
}

/* Where a link goes until it is made. */
static void way_unlinked(struct tr *t, const struct jit_link *l)
{
	const struct jit_ways *to = &t->j->way[t->u->code32];

	emit_mov_imm(&t->e, JIT_S1, (u64)(l - t->j->link));
	emit_jmp_to(&t->e, l->pinned && l->cross ? to->pinned : to->link);
}

/* Whether nothing lies between the branch and here: it may be linked itself. */
static bool way_is_here(const struct emit *e, const struct way_out *w)
{
	s32 rel;

	memcpy(&rel, w->from, 4);
	return w->from + 4 + rel == e->p;
}

/* Further than a link can say: by the map. */
static void way_far(struct tr *t, const struct way_out *w)
{
	if (w->live && !w->in_fl)
		tr_save_flags(t);
	way_exit(t, w->off, JIT_EXIT_INDIRECT);
}

/* "site" is a jump that goes to the rest until the link is made. */
static void way_link(struct tr *t, const struct way_out *w)
{
	bool cross = !unit_in_page(w->off) || unit_near_end(w->off);
	bool check = cross && !t->u->pin;
	struct emit *e = &t->e;
	struct jit_link *l;

	if (w->off != (s32)w->off) {
		way_far(t, w);
		return;
	}
	l = way_new_link(t, w->off, cross, check || w->in_fl);
	if (!l)
		return;
	if (w->off <= t->u->off + t->u->len) {
		/* The poll's own way out comes later in the list. */
		t->vec = vec_none;
		t->fl_host = !w->in_fl;
		tr_poll(t, w->off, w->live);
	}
	if (check) {
		if (w->live && !w->in_fl)
			tr_save_flags(t);
		way_cross(t, w, l);
	} else if (cross) {
		way_cross_pinned(t, w->off, l);
	} else if (way_is_here(e, w)) {
		l->site = space_place(t->j, w->from);
	} else {
		l->site = space_place(t->j, emit_jmp(e));
	}
	if (e->full)
		return;
	l->unlinked = space_place(t->j, e->p);
	emit_patch32(t->j->buf.write + l->site, e->p);
	if (w->live && !check && !w->in_fl)
		tr_save_flags(t);
	way_unlinked(t, l);
}

void tr_link_plain(struct tr *t, s64 off, enum unit_level level)
{
	struct jit_link *l = way_new_link(t, off, false, true);

	if (!l)
		return;
	l->level = (u8)level;
	l->site = space_place(t->j, emit_jmp(&t->e));
	if (t->e.full)
		return;
	l->unlinked = space_place(t->j, t->e.p);
	emit_patch32(t->j->buf.write + l->site, t->e.p);
	way_unlinked(t, l);
}

static void way_leave(struct tr *t, const struct way_out *w)
{
	static const u8 exit[] = {
		[WAY_OP] = JIT_EXIT_OP,
		[WAY_VALUE] = JIT_EXIT_VALUE,
		[WAY_SIMD] = JIT_EXIT_SIMD,
		[WAY_POLL] = JIT_EXIT_POLL,
	};

	if (w->live && !w->in_fl)
		tr_save_flags(t);
	way_exit(t, w->off, exit[w->kind]);
}

/* To an instruction of this unit; vector registers have been stored. */
static void way_label(struct tr *t, const struct way_out *w)
{
	struct vec_state to = vec_at(&t->u->in[w->label]);

	vec_load_all(t, &to);
	branch_fix(t, emit_jmp(&t->e), w->label);
}

void tr_ways_out(struct tr *t)
{
	for (unsigned k = 0; k < t->nway && !t->e.full; k++) {
		struct way_out w = t->way[k];

		emit_patch32(w.from, t->e.p);
		vec_store_all(t, &w.vec);
		switch (w.kind) {
		case WAY_LINK: way_link(t, &w); break;
		case WAY_SHARE: tr_share_out(t, &w); break;
		case WAY_WINDOW: tr_window_out(t, &w); break;
		case WAY_LABEL: way_label(t, &w); break;
		default: way_leave(t, &w); break;
		}
	}
	for (unsigned k = 0; k < t->nfix && !t->e.full; k++)
		emit_patch32(t->fix[k].at, t->u->in[t->fix[k].target].code);
}
