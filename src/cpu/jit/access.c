/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory operands by the inline software TLB: the address in RCX is looked up
 * in v->tlb; with a hit RCX becomes a host address, else out-of-line code
 * calls the monitor, which fills the TLB and gives the host address, or has
 * the interpreter run the whole instruction (MMIO, page crossing, faults,
 * pages with code).
 *
 * This is the one file that knows the strategy.
 */
#include "cpu/jit/translate.h"

static u8 access_log2(unsigned size)
{
	u8 n = 0;

	while (1u << n < size)
		n++;
	return n;
}

void tr_get(struct tr *t, u8 r, u8 g)
{
	if (jit_host[g] == H_NONE)
		emit_load(&t->e, r, rm_v(V_GPR(g)));
	else
		emit_mov(&t->e, r, jit_host[g]);
}

void tr_put(struct tr *t, u8 g, u8 r)
{
	if (jit_host[g] == H_NONE)
		emit_store(&t->e, r, rm_v(V_GPR(g)));
	else
		emit_mov(&t->e, jit_host[g], r);
}

/* The host register with guest register g, loaded to scratch if need be. */
static u8 access_reg(struct tr *t, u8 g, u8 scratch)
{
	if (jit_host[g] != H_NONE)
		return jit_host[g];
	emit_load(&t->e, scratch, rm_v(V_GPR(g)));
	return scratch;
}

#define V_SEG(s, field)                            \
	(V(seg) + (s) * sizeof(struct seg_state) + \
	 offsetof(struct seg_state, field))

/* With this flag the access is the interpreter's. */
static void access_leave(struct tr *t, u8 cc)
{
	tr_way(t, emit_jcc(&t->e, cc), WAY_VALUE, t->x->off, t->x->live);
}

/* Out unless the segment is writable data of 4 GiB, as that of threads is. */
static void access_check_segment(struct tr *t)
{
	const struct insn *i = &t->x->i;
	struct emit *e = &t->e;
	u32 want = SEG_ATTR_P | SEG_ATTR_S | 2;

	emit_alu_imm(e, 7, false, JIT_S1, -(s32)MAX(i->memsize, 1));
	access_leave(t, 7); /* JA */
	emit_op(e, (struct opc){.code = 0x83}, 7, rm_v(V_SEG(i->seg, limit)));
	emit_u8(e, 0xff);
	access_leave(t, 5); /* JNE */
	emit_op(e, (struct opc){.code = 0x8b}, JIT_S2,
		rm_v(V_SEG(i->seg, attr)));
	emit_alu_imm(e, 4, false, JIT_S2,
		     (s32)(want | SEG_ATTR_UNUSABLE | 0xc));
	emit_alu_imm(e, 7, false, JIT_S2, (s32)want);
	access_leave(t, 5);
}

/* Adds the base of FS or GS to RCX. */
static void access_segment(struct tr *t)
{
	if (t->u->code32)
		access_check_segment(t);
	emit_op(&t->e, (struct opc){.code = 0x03, .w = !t->u->code32}, JIT_S1,
		rm_v(V_SEG(t->x->i.seg, base)));
}

void tr_address(struct tr *t, bool linear)
{
	const struct insn *i = &t->x->i;
	bool w = i->adsize == 8;
	u8 base, index;

	t->addend_loaded = t->addend_kept = false;
	if (i->base == INSN_REG_RIP) {
		tr_rip(t, JIT_S1, (s64)t->x->off + i->len + i->disp);
		if (!w)
			emit_rr(&t->e, 0x89, false, JIT_S1, JIT_S1);
	} else if (i->base == INSN_REG_NONE && i->index == INSN_REG_NONE) {
		emit_mov_imm(&t->e, JIT_S1,
			     w ? (u64)(s64)i->disp : (u32)i->disp);
	} else {
		base = i->base == INSN_REG_NONE
			       ? H_NONE
			       : access_reg(t, i->base, JIT_S1);
		index = i->index == INSN_REG_NONE
				? H_NONE
				: access_reg(t, i->index, JIT_S2);
		if (index == H_NONE && !i->disp && w)
			emit_mov(&t->e, JIT_S1, base);
		else
			emit_lea(&t->e, JIT_S1,
				 rm_sib(base, index, i->scale, i->disp), w);
	}
	if (linear && (i->seg == SEG_FS || i->seg == SEG_GS))
		access_segment(t);
}

void jit_tlb_entry(struct emit *e)
{
	emit_rorx(e, false, JIT_S2, JIT_S1, PAGE_SHIFT - 5);
	emit_alu_imm(e, 4, false, JIT_S2, (TLB_SIZE - 1) << 5);
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, JIT_S2, rm_v(V(tlb)));
}

void tr_access(struct tr *t, unsigned size, bool write)
{
	size_t tag = write ? offsetof(struct tlb_entry, tag_write)
			   : offsetof(struct tlb_entry, tag_read);
	struct slow_access *s = &t->slow[t->nslow];
	struct emit *e = &t->e;

	if (t->nslow == TR_SLOWS) {
		e->full = true;
		return;
	}
	t->nslow++;
	t->addend_loaded = t->addend_kept = false;
	tr_guard_flags(t);
	jit_tlb_entry(e);
	if (size > 1)
		emit_lea(e, JIT_S3, rm_mem(JIT_S1, (s32)size - 1), true);
	else
		emit_mov(e, JIT_S3, JIT_S1);
	emit_alu_imm(e, 4, true, JIT_S3, -(s32)PAGE_SIZE);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S3,
		rm_mem(JIT_S2, (s32)tag));
	s->from = emit_jcc(e, 5); /* JNE */
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, JIT_S1,
		rm_mem(JIT_S2, offsetof(struct tlb_entry, addend)));
	s->back = e->p;
	s->off = t->x->off;
	s->size_log2 = access_log2(size);
	s->write = write;
	s->vec = t->vec;
}

struct rm tr_operand(struct tr *t, unsigned size, bool write)
{
	if (t->x->window_mem)
		return tr_window(t, t->x->i.disp);
	if (t->x->share)
		return tr_share(t, size, write);
	/* Adding a segment base clobbers the flags, so they go first. */
	tr_guard_flags(t);
	tr_address(t, true);
	tr_access(t, size, write);
	return rm_mem(JIT_S1, 0);
}

/* Asks the monitor for a host address and goes on. */
void tr_slow_accesses(struct tr *t)
{
	struct emit *e = &t->e;

	for (unsigned k = 0; k < t->nslow && !e->full; k++) {
		struct slow_access *s = &t->slow[k];

		emit_patch32(s->from, e->p);
		vec_store_all(t, &s->vec);
		emit_mov_imm(e, JIT_S2, s->off);
		emit_call_to(e, t->j->fill[s->write][s->size_log2]);
		vec_load_all(t, &s->vec);
		emit_jmp_to(e, s->back);
	}
}
