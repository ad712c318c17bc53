/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stack's way to memory. Where RSP moves by known amounts only, all that a
 * unit does relative to RSP is in a range known beforehand. One check at the
 * unit's entry proves that v->window holds all of it; the accesses are then
 * made at RSP plus v->window.addend, without a check and without touching the
 * flags. What RSP points to is all the same tracked in its register, so that a
 * unit can be left anywhere.
 *
 * Where the window holds another page it is moved. Where the range is not in
 * one writable page, a second unit (enum unit_level) runs, made on first need,
 * which does without.
 */
#include "cpu/jit/plan.h"
#include "cpu/jit/translate.h"

#define WINDOW_MAX WINDOW_SPAN(WINDOW_SPANS - 1)

/* RSP relative to its value at the unit's entry, while that is known. */
struct window_sp {
	s64 at;
	bool known;
};

static bool window_writes_sp(const struct insn *i)
{
	struct plan_use use = plan_use(i);

	return (use.reg & USE_W && i->reg == REG_SP) ||
	       (use.rm & USE_W && !i->mem && i->rm == REG_SP) ||
	       (use.v & USE_W && i->vreg == REG_SP);
}

/*
 * After the handlers of these RSP or what is where may be anything. Those of
 * vector, x87 and string instructions leave both alone.
 */
static bool window_lost(const struct unit_insn *x)
{
	const struct insn *i = &x->i;

	if (x->kind == UNIT_CALLED)
		return !(op_rows[i->row].attr &
			 (OPA_SIMD | OPA_X87 | OPA_STRING));
	return x->kind == UNIT_SYS &&
	       (i->op == OP_PUSHF ||
		(i->op == OP_MOV_FROM_CR && i->rm == REG_SP));
}

/* After x, which is no transfer. */
static void window_step(struct window_sp *sp, const struct unit_insn *x)
{
	const struct insn *i = &x->i;
	bool wide = i->opsize == 8;

	if (x->kind == UNIT_PUSH)
		sp->at -= 8;
	else if (x->kind == UNIT_POP && i->rm != REG_SP)
		sp->at += 8;
	else if (x->kind == UNIT_SYS && i->op == OP_PUSHF && wide)
		sp->at -= 8;
	else if (x->kind == UNIT_POP || x->kind == UNIT_LEAVE || window_lost(x))
		sp->known = false;
	else if ((x->kind != UNIT_PLAIN && x->kind != UNIT_SIMD) ||
		 !window_writes_sp(i))
		return;
	else if (wide && i->form == FORM_RM_I && i->op == OP_ADD)
		sp->at += (s64)i->imm;
	else if (wide && i->form == FORM_RM_I && i->op == OP_SUB)
		sp->at -= (s64)i->imm;
	else if (wide && i->op == OP_LEA && i->base == REG_SP &&
		 i->index == INSN_REG_NONE && i->adsize == 8)
		sp->at += i->disp;
	else
		sp->known = false;
}

/* Whether RSP is the same on all ways to where branches lead. */
static bool window_follow(const struct unit *u, struct window_sp *sp)
{
	sp[0] = (struct window_sp){0, true};
	for (unsigned k = 0; k + 1 < u->n; k++) {
		sp[k + 1] = sp[k];
		window_step(&sp[k + 1], &u->in[k]);
		if (sp[k + 1].at != (s32)sp[k + 1].at)
			return false;
	}
	for (unsigned k = 0; k < u->n; k++) {
		s16 to = u->in[k].target;

		if (to >= 0 &&
		    (!sp[k].known || !sp[to].known || sp[k].at != sp[to].at))
			return false;
	}
	return true;
}

/* Makes the range hold n bytes at "at" as well, unless it gets too long. */
static bool window_add(struct unit *u, s64 at, unsigned n)
{
	s64 low = at, high = at + n;

	if (u->window_end > u->window_low) {
		low = MIN(low, u->window_low);
		high = MAX(high, u->window_end);
	}
	if (high - low > (s64)WINDOW_MAX || low != (s32)low)
		return false;
	u->window_low = low;
	u->window_end = high;
	return true;
}

/* Bytes that x accesses at its memory operand by RSP; 0: none. */
static unsigned window_operand(const struct unit_insn *x)
{
	const struct insn *i = &x->i;

	if (!i->mem || i->base != REG_SP || i->index != INSN_REG_NONE ||
	    i->adsize != 8 || i->seg == SEG_FS || i->seg == SEG_GS)
		return 0;
	switch (x->kind) {
	case UNIT_PLAIN: return i->op == OP_LEA ? 0 : i->memsize;
	case UNIT_SIMD:
	case UNIT_DIV: return i->memsize;
	case UNIT_CX: return i->op == OP_CMPXCHG16B ? 16 : 8;
	case UNIT_PUSH:
	case UNIT_JMP_IND:
	case UNIT_CALL_IND: return 8;
	default: return 0;
	}
}

void window_plan(struct unit *u)
{
	struct window_sp sp[UNIT_INSNS];

	u->window_low = u->window_end = 0;
	if (u->code32 || !window_follow(u, sp))
		return;
	for (unsigned k = 0; k < u->n && sp[k].known; k++) {
		struct unit_insn *x = &u->in[k];
		unsigned n = window_operand(x);

		x->window_mem = n && window_add(u, sp[k].at + x->i.disp, n);
		switch (x->kind) {
		case UNIT_PUSH:
		case UNIT_CALL:
		case UNIT_CALL_IND:
			x->window = window_add(u, sp[k].at - 8, 8);
			break;
		case UNIT_SYS:
			x->window = x->i.op == OP_PUSHF && x->i.opsize == 8 &&
				    window_add(u, sp[k].at - 8, 8);
			break;
		case UNIT_POP:
		case UNIT_RET: x->window = window_add(u, sp[k].at, 8); break;
		default: break;
		}
	}
}

/* ---- Code ---- */

static unsigned window_class(const struct unit *u)
{
	unsigned k = 0;

	while ((s64)WINDOW_SPAN(k) < u->window_end - u->window_low)
		k++;
	return k;
}

void tr_window_check(struct tr *t)
{
	const struct unit *u = t->u;
	struct emit *e = &t->e;
	unsigned k = window_class(u);

	emit_lea(e, JIT_S2, rm_mem(JIT_SP, (s32)u->window_low), true);
	emit_op(e, (struct opc){.code = 0x2b, .w = 1}, JIT_S2,
		rm_v(V(window.page))); /* SUB */
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S2,
		rm_v(V(window.limit) + 8 * k));
	tr_way(t, emit_jcc(e, 3), WAY_WINDOW, u->off, u->in[0].live);
	t->window_ok = e->p;
}

/* The check failed: moves the window, or goes to the plain unit. */
void tr_window_out(struct tr *t, const struct way_out *w)
{
	struct emit *e = &t->e;
	u8 *none;

	emit_lea(e, JIT_S1, rm_mem(JIT_SP, (s32)t->u->window_low), true);
	emit_call_to(e, t->j->window[window_class(t->u)]);
	none = emit_jecxz(e);
	emit_jmp_to(e, t->window_ok);
	emit_patch8(e, none, e->p);
	tr_link_plain(t, w->off, UNIT_SHARES);
}

struct rm tr_window(struct tr *t, s32 disp)
{
	if (!t->addend_loaded)
		emit_load(&t->e, JIT_S1, rm_v(V(window.addend)));
	t->addend_kept = true;
	return rm_sib(JIT_S1, JIT_SP, 0, disp);
}

struct rm tr_stack(struct tr *t, s32 disp, bool write)
{
	if (t->x->window)
		return tr_window(t, disp);
	emit_lea(&t->e, JIT_S1, rm_mem(JIT_SP, disp), !t->u->code32);
	tr_access(t, (unsigned)tr_slot(t), write);
	return rm_mem(JIT_S1, 0);
}
