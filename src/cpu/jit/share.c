/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One check for neighbouring accesses. Instructions that follow each other
 * without a label in between often access several places relative to one
 * register: fields of a structure, what RBP points to. The first of them proves
 * that all lie in one page with the permissions that any of them needs, and
 * keeps what leads from guest to host addresses there (v->jit_addend, by
 * register); the others use that, without a check and without touching the
 * flags.
 *
 * Where that cannot be proven, the first access is made possible for itself; if
 * that does not help, a unit goes on in which each access is checked.
 */
#include "cpu/jit/plan.h"
#include "cpu/jit/translate.h"

#define SHARE_SPAN 1024

/* Accesses by a register that have a check in common, so far. */
struct share {
	struct unit_insn *first;
	s64 moved;     /* the register's value now, less that at first */
	s64 low, high; /* relative to the latter */
	unsigned n;
	bool write;
};

/* General registers that x may write, a bit each. */
static u16 share_written(const struct unit_insn *x)
{
	const u16 ax_dx = BIT(REG_AX) | BIT(REG_DX);
	const struct insn *i = &x->i;
	struct plan_use use = plan_use(i);
	u16 set = 0;

	switch (x->kind) {
	case UNIT_JCC:
	case UNIT_NOP: return 0;
	case UNIT_PUSH: return BIT(REG_SP);
	case UNIT_POP: return (u16)(BIT(REG_SP) | BIT(i->rm & 15));
	case UNIT_DIV:
	case UNIT_CX: return ax_dx;
	case UNIT_SIMD:
	case UNIT_PLAIN: break;
	default: return 0xffff;
	}
	if (use.reg & USE_W)
		set |= (u16)BIT(i->reg % INSN_REG_HIGH8);
	if (use.rm & USE_W && !i->mem)
		set |= (u16)BIT(i->rm % INSN_REG_HIGH8);
	if (use.v & USE_W)
		set |= (u16)BIT(i->vreg);
	/* Those with a register that is not in the encoding. */
	if (i->form == FORM_NONE || i->form == FORM_A_I ||
	    i->form == FORM_MOFFS || i->op == OP_MUL || i->op == OP_IMUL ||
	    i->op == OP_CMPXCHG || i->op == OP_XCHG)
		set |= ax_dx;
	return set;
}

/* Whether x adds a known number to a register, and nothing else. */
static bool share_moves(const struct unit_insn *x, u8 *reg, s64 *by)
{
	const struct insn *i = &x->i;

	*reg = i->rm;
	if (x->kind == UNIT_PUSH || (x->kind == UNIT_POP && i->rm != REG_SP)) {
		*reg = REG_SP;
		*by = x->kind == UNIT_PUSH ? -8 : 8;
		return true;
	}
	if (x->kind != UNIT_PLAIN || i->opsize != 8)
		return false;
	if (i->op == OP_LEA && i->base == i->reg && i->index == INSN_REG_NONE &&
	    i->adsize == 8) {
		*reg = i->reg;
		*by = i->disp;
		return true;
	}
	if (i->mem)
		return false;
	if (i->form == FORM_RM_I && (i->op == OP_ADD || i->op == OP_SUB)) {
		*by = i->op == OP_ADD ? (s64)i->imm : -(s64)i->imm;
		return true;
	}
	*by = i->op == OP_INC ? 1 : -1;
	return i->form == FORM_RM && (i->op == OP_INC || i->op == OP_DEC);
}

/* Bytes that x accesses relative to a register only; 0: none. */
static unsigned share_operand(const struct unit_insn *x)
{
	const struct insn *i = &x->i;

	if (!i->mem || x->window_mem || i->base >= 16 ||
	    i->index != INSN_REG_NONE || i->adsize != 8 || i->seg == SEG_FS ||
	    i->seg == SEG_GS)
		return 0;
	switch (x->kind) {
	case UNIT_PLAIN: return i->op == OP_LEA ? 0 : i->memsize;
	case UNIT_SIMD:
	case UNIT_DIV: return i->memsize;
	case UNIT_PUSH:
	case UNIT_JMP_IND:
	case UNIT_CALL_IND: return 8;
	default: return 0;
	}
}

/* What is known now; a check for one access alone is left as it is. */
static void share_end(struct share *s)
{
	struct unit_insn *x = s->first;

	if (x) {
		x->share = s->n > 1 ? SHARE_FIRST : SHARE_NONE;
		x->share_low = (s32)s->low;
		x->share_span = (u16)(s->high - s->low);
		x->share_write = s->write;
	}
	s->first = NULL;
}

static void share_access(struct share *s, struct unit_insn *x, unsigned n)
{
	bool write = x->kind < UNIT_JCC && op_rows[x->i.row].attr & OPA_STORE;
	s64 low = s->moved + x->i.disp, high = low + n;

	if (s->first && MAX(high, s->high) - MIN(low, s->low) > (s64)SHARE_SPAN)
		share_end(s);
	if (!s->first) {
		low = x->i.disp;
		*s = (struct share){.first = x, .low = low, .high = low + n};
	} else {
		s->low = MIN(low, s->low);
		s->high = MAX(high, s->high);
		x->share = SHARE_NEXT;
	}
	s->write |= write;
	s->n++;
}

static void share_step(struct share *all, const struct unit_insn *x)
{
	u16 written = share_written(x);
	u8 reg;
	s64 by;

	if (share_moves(x, &reg, &by) && reg < 16 && by == (s32)by) {
		all[reg].moved += by;
		if (all[reg].moved == (s32)all[reg].moved)
			written &= (u16)~BIT(reg);
	}
	for (unsigned r = 0; r < 16; r++)
		if (written & BIT(r))
			share_end(&all[r]);
}

void share_plan(struct unit *u)
{
	struct share all[16] = {0};

	for (unsigned k = 0; k < u->n; k++) {
		struct unit_insn *x = &u->in[k];
		unsigned n = share_operand(x);

		for (unsigned r = 0; x->label && r < 16; r++)
			share_end(&all[r]);
		if (n)
			share_access(&all[x->i.base], x, n);
		share_step(all, x);
	}
	for (unsigned r = 0; r < 16; r++)
		share_end(&all[r]);
}

/* ---- Code ---- */

/* RCX = the register that x accesses by + disp */
static void share_address(struct tr *t, const struct unit_insn *x, s32 disp)
{
	u8 base = x->i.base;

	if (jit_host[base] == H_NONE) {
		emit_load(&t->e, JIT_S1, rm_v(V_GPR(base)));
		if (disp)
			emit_lea(&t->e, JIT_S1, rm_mem(JIT_S1, disp), true);
	} else {
		emit_lea(&t->e, JIT_S1, rm_mem(jit_host[base], disp), true);
	}
}

/* Where the instruction's operand is, with the addend in RCX. */
static struct rm share_at(struct tr *t)
{
	const struct insn *i = &t->x->i;

	if (jit_host[i->base] != H_NONE)
		return rm_sib(JIT_S1, jit_host[i->base], 0, i->disp);
	emit_load(&t->e, JIT_S2, rm_v(V_GPR(i->base)));
	emit_lea(&t->e, JIT_S1, rm_sib(JIT_S1, JIT_S2, 0, 0), true);
	return rm_mem(JIT_S1, i->disp);
}

/* R11 = the TLB entry of the range's page; taken if that has not the tag. */
static u8 *share_check(struct tr *t, const struct unit_insn *x)
{
	size_t tag = x->share_write ? offsetof(struct tlb_entry, tag_write)
				    : offsetof(struct tlb_entry, tag_read);
	struct emit *e = &t->e;

	share_address(t, x, x->share_low);
	jit_tlb_entry(e);
	emit_lea(e, JIT_S3, rm_mem(JIT_S1, x->share_span - 1), true);
	emit_alu_imm(e, 4, true, JIT_S3, -(s32)PAGE_SIZE);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S3,
		rm_mem(JIT_S2, (s32)tag));
	return emit_jcc(e, 5); /* JNE */
}

struct rm tr_share(struct tr *t, unsigned size, bool write)
{
	struct unit_insn *x = t->x;
	struct rm slot = rm_v(V(jit_addend) + 8u * x->i.base);
	u8 *none;

	t->addend_loaded = t->addend_kept = false;
	if (x->share == SHARE_NEXT) {
		emit_load(&t->e, JIT_S1, slot);
		return share_at(t);
	}
	tr_guard_flags(t);
	none = share_check(t, x);
	tr_way(t, none, WAY_SHARE, x->off, x->live);
	t->way[t->nway - 1].share = x;
	t->way[t->nway - 1].share_size = (u8)size;
	t->way[t->nway - 1].share_store = write;
	x->share_ok = t->e.p;
	emit_load(&t->e, JIT_S1,
		  rm_mem(JIT_S2, offsetof(struct tlb_entry, addend)));
	emit_store(&t->e, JIT_S1, slot);
	return share_at(t);
}

void tr_share_out(struct tr *t, const struct way_out *w)
{
	struct unit_insn *x = w->share;
	struct emit *e = &t->e;
	u8 *none, log2 = 0;

	while (1u << log2 < w->share_size)
		log2++;
	share_address(t, x, x->i.disp);
	emit_mov_imm(e, JIT_S2, (u64)x->off);
	emit_call_to(e, t->j->fill[w->share_store][log2]);
	none = share_check(t, x);
	vec_load_all(t, &w->vec);
	emit_jmp_to(e, x->share_ok);
	if (e->full)
		return;
	emit_patch32(none, e->p);
	tr_link_plain(t, w->off, UNIT_CHECKED);
}
