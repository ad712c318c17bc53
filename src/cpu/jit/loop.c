/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * LOOP, LOOPE, LOOPNE and JCXZ: branches by RCX or ECX, which is as wide as
 * addresses are. They change no flags; those that live go along in the host's.
 */
#include "cpu/jit/translate.h"

/* A short branch from here, if the guest's RCX or ECX is 0. */
static u8 *loop_if_zero(struct tr *t, bool w)
{
	emit_rr(&t->e, 0x89, w, JIT_GCX, JIT_S1);
	t->addend_loaded = t->addend_kept = false;
	return w ? emit_jrcxz(&t->e) : emit_jecxz(&t->e);
}

static void loop_jcxz(struct tr *t, bool w)
{
	u8 *zero = loop_if_zero(t, w), *on = emit_jmp(&t->e);

	emit_patch8(&t->e, zero, t->e.p);
	tr_branch_to(t, emit_jmp(&t->e));
	if (!t->e.full)
		emit_patch32(on, t->e.p);
}

void tr_loop(struct tr *t)
{
	const struct insn *i = &t->x->i;
	bool w = i->adsize == 8;
	struct emit *e = &t->e;
	u8 *end;

	tr_need_flags(t);
	if (i->op == OP_JCXZ) {
		loop_jcxz(t, w);
		return;
	}
	emit_lea(e, JIT_GCX, rm_mem(JIT_GCX, -1), w);
	end = loop_if_zero(t, w);
	if (i->op == OP_LOOP)
		tr_branch_to(t, emit_jmp(e));
	else
		tr_branch_to(t, emit_jcc(e, i->op == OP_LOOPE ? 4 : 5));
	emit_patch8(e, end, e->p);
}
