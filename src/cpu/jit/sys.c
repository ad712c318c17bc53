/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * System instructions that kernels execute all the time, in line: CLI, STI,
 * PUSHF, RDTSC, RDTSCP, SWAPGS, MOV from a control register. What is not the
 * plain case (not privileged, CR4.TSD, an interrupt waiting for STI) is the
 * interpreter's.
 */
#include "cpu/jit/translate.h"

#include "irq/lapic.h"

/* To the interpreter unless CPL is 0. Clobbers the host's flags. */
static void sys_cpl0(struct tr *t)
{
	tr_guard_flags(t);
	emit_op(&t->e, (struct opc){.code = 0x80}, 7, rm_v(V(cpl)));
	emit_u8(&t->e, 0);
	tr_way(t, emit_jcc(&t->e, 5), WAY_VALUE, t->x->off, t->x->live);
}

/* op dword gs:[off], imm32 */
static void sys_alu(struct tr *t, u8 digit, size_t off, u32 imm)
{
	emit_op(&t->e, (struct opc){.code = 0x81}, digit, rm_v(off));
	emit_u32(&t->e, imm);
}

static void sys_cli(struct tr *t)
{
	sys_cpl0(t);
	sys_alu(t, 4, V(rflags), ~(u32)RFLAGS_IF);
}

/*
 * No interrupt is taken before the next instruction is over: that needs no
 * care if it is in this unit and attention is not looked at before it.
 */
static bool sys_sti_covers(const struct tr *t)
{
	const struct unit_insn *next = t->x + 1;

	return next < &t->u->in[t->u->n] && !next->loop;
}

static void sys_sti(struct tr *t)
{
	struct emit *e = &t->e;

	if (!sys_sti_covers(t)) {
		tr_called(t);
		return;
	}
	sys_cpl0(t);
	emit_op(e, (struct opc){.code = 0x80}, 7, rm_v(V(nmi_pending)));
	emit_u8(e, 0);
	tr_way(t, emit_jcc(e, 5), WAY_VALUE, t->x->off, t->x->live);
	emit_mov_imm(e, JIT_S1, (u64)lapic_pending_word(t->v->vcpu.lapic));
	emit_op(e, (struct opc){.code = 0x83}, 7, rm_mem(JIT_S1, 0));
	emit_u8(e, 0);
	tr_way(t, emit_jcc(e, 5), WAY_VALUE, t->x->off, t->x->live);
	sys_alu(t, 1, V(rflags), RFLAGS_IF);
}

static void sys_pushf(struct tr *t)
{
	struct emit *e = &t->e;
	struct rm at;

	if (t->x->i.opsize != 8) {
		tr_called(t);
		return;
	}
	tr_need_flags(t);
	tr_guard_flags(t);            /* clobbers none of them */
	emit_u8(e, 0x9c);             /* PUSHFQ */
	emit_bytes(e, "\x41\x5b", 2); /* POP R11 */
	emit_alu_imm(e, 4, false, JIT_S2, RFLAGS_ARITH);
	emit_op(e, (struct opc){.code = 0x0b, .w = 1}, JIT_S2, rm_v(V(rflags)));
	emit_alu_imm(e, 4, true, JIT_S2, ~(s32)(RFLAGS_RF | RFLAGS_VM));
	emit_store(e, JIT_S2, rm_v(V(jit_tmp)));
	at = tr_stack(t, -8, true);
	emit_load(e, JIT_S2, rm_v(V(jit_tmp)));
	emit_store(e, JIT_S2, at);
	emit_lea(e, JIT_SP, rm_mem(JIT_SP, -8), true);
}

static void sys_shift(struct tr *t, u8 digit, u8 reg, u8 n)
{
	emit_op(&t->e, (struct opc){.code = 0xc1, .w = 1}, digit, rm_reg(reg));
	emit_u8(&t->e, n);
}

static void sys_rdtsc(struct tr *t)
{
	struct emit *e = &t->e;

	tr_guard_flags(t);
	emit_op(e, (struct opc){.code = 0xf6}, 0, rm_v(V(cr4)));
	emit_u8(e, CR4_TSD);
	tr_way(t, emit_jcc(e, 5), WAY_VALUE, t->x->off, t->x->live);
	if (t->x->i.op == OP_RDTSCP)
		emit_bytes(e, "\x0f\xae\xe8", 3); /* LFENCE */
	emit_bytes(e, "\x0f\x31", 2);             /* RDTSC */
	sys_shift(t, 4, H_DX, 32);
	emit_rr(e, 0x09, true, H_DX, H_AX);
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, H_AX,
		rm_v(V(tsc_offset)));
	emit_mov(e, H_DX, H_AX);
	sys_shift(t, 5, H_DX, 32);
	emit_rr(e, 0x89, false, H_AX, H_AX);
	if (t->x->i.op == OP_RDTSCP)
		emit_op(e, (struct opc){.code = 0x8b}, JIT_GCX,
			rm_v(V(msr.tsc_aux)));
}

static void sys_swapgs(struct tr *t)
{
	struct rm base = rm_v(V(seg[SEG_GS].base));
	struct rm kernel = rm_v(V(msr.kernel_gs_base));

	sys_cpl0(t);
	emit_load(&t->e, JIT_S1, base);
	emit_load(&t->e, JIT_S2, kernel);
	emit_store(&t->e, JIT_S1, kernel);
	emit_store(&t->e, JIT_S2, base);
}

static void sys_mov_from_cr(struct tr *t)
{
	static const u16 cr[] = {
		[0] = V(cr0), [2] = V(cr2), [3] = V(cr3), [4] = V(cr4)};
	const struct insn *i = &t->x->i;

	if (i->reg >= ARRAY_LEN(cr) || !cr[i->reg] || i->prefix & PFX_LOCK) {
		tr_called(t);
		return;
	}
	sys_cpl0(t);
	emit_load(&t->e, JIT_S1, rm_v(cr[i->reg]));
	tr_put(t, i->rm, JIT_S1);
}

void tr_sys(struct tr *t)
{
	switch (t->x->i.op) {
	case OP_CLI: sys_cli(t); break;
	case OP_STI: sys_sti(t); break;
	case OP_PUSHF: sys_pushf(t); break;
	case OP_RDTSC:
	case OP_RDTSCP: sys_rdtsc(t); break;
	case OP_SWAPGS: sys_swapgs(t); break;
	case OP_MOV_FROM_CR: sys_mov_from_cr(t); break;
	default: tr_called(t);
	}
}
