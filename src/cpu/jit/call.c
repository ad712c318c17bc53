/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions whose handler in the interpreter is called from generated code:
 * strings, x87, and what is about the system. All guest registers are in the
 * vCPU then, so a handler may do all it likes: change registers, flags, mode
 * and mappings, drop the unit that called it, or fault, which leaves generated
 * code by longjmp (jit_left_by_fault()).
 *
 * Most come back and the unit goes on. One that branches (SYSCALL, IRET) ends
 * its unit; where it leads is looked up here and jumped to.
 */
#include <string.h>

#include "cpu/jit/jit.h"
#include "cpu/jit/translate.h"
#include "cpu/soft/int.h"
#include "cpu/soft/simd_priv.h"

/* What a call needs to know; lies in the code cache, after its unit. */
struct jit_call {
	u32 off;       /* in its page */
	bool sets_rip; /* else the handler leaves v->rip as it was */
	bool ends;     /* of its unit: nothing comes after it there */
	bool vectors;  /* it may look at x87 or vector state */
	struct insn i[2];
};

static void call_load_mxcsr(const void *p)
{
	asm volatile("ldmxcsr %0" : : "m"(*(const u32 *)p));
}

static void call_store_mxcsr(void *p)
{
	asm volatile("stmxcsr %0" : "=m"(*(u32 *)p));
}

/* Generated code runs with the guest's MXCSR, handlers with the host's. */
static void call_mxcsr_out(struct soft_vcpu *v)
{
	call_store_mxcsr(v->xsave + FX_MXCSR);
	call_load_mxcsr(&v->jit_host_mxcsr);
	v->jit_inside = false;
}

static void call_mxcsr_in(struct soft_vcpu *v)
{
	call_load_mxcsr(v->xsave + FX_MXCSR);
	v->jit_inside = true;
	v->jit_no_simd = jit_no_simd(v);
}

void jit_left_by_fault(struct soft_vcpu *v)
{
	if (v->jit_inside)
		call_mxcsr_out(v);
}

static const void *call_out(struct soft_vcpu *v, enum jit_exit why)
{
	return codebuf_exec(&v->jit->buf, v->jit->out[why]);
}

/* Whether generated code must not just go on at v->rip. */
static bool call_interrupted(const struct soft_vcpu *v)
{
	return __atomic_load_n(&v->attention, __ATOMIC_RELAXED) | v->shadow |
	       v->jit->changed;
}

/*
 * A handler that changed what code depends on asks for attention, to end the
 * interpreter's block. Here it is enough to look up where to go on.
 */
static bool call_changed_mode(struct soft_vcpu *v)
{
	if (likely(__atomic_load_n(&v->attention, __ATOMIC_RELAXED) !=
		   ATTN_MODE) ||
	    v->stop)
		return false;
	__atomic_and_fetch(&v->attention, ~(u32)ATTN_MODE, __ATOMIC_SEQ_CST);
	v->jit_no_simd = jit_no_simd(v);
	return true;
}

/* Called by generated code: where to go on; NULL: after the call. */
static const void *call_run(struct soft_vcpu *v, const struct jit_call *c)
{
	u64 rip = v->code_page + c->off, next = rip + c->i->len;
	struct jit_unit *t;
	u32 mode = v->mode;
	bool changed;

	v->rip = v->block_rip = rip;
	v->jit->changed = false;
	if (c->vectors)
		call_mxcsr_out(v);
	int_run(v, c->i);
	if (c->vectors)
		call_mxcsr_in(v);
	if (!c->sets_rip)
		v->rip = next;
	changed = call_changed_mode(v);
	if (unlikely(call_interrupted(v)))
		return call_out(v, JIT_EXIT_POLL);
	if (!c->ends && !changed && v->rip == next && v->mode == mode &&
	    !(c->vectors && v->jit_no_simd))
		return NULL;
	if (unlikely(v->direct_on) && v->cpl == 3)
		return call_out(v, JIT_EXIT_POLL);
	t = jit_lookup(v);
	return t ? codebuf_exec(&v->jit->buf, t->entry_fl)
		 : call_out(v, JIT_EXIT_INDIRECT);
}

/* Common code: calls with the jit_call's address in RCX. */
u8 *jit_common_call(struct emit *e, struct soft_vcpu *v)
{
	u8 *at = e->p, *out;

	for (u8 g = 0; g < 16; g++)
		if (jit_host[g] != H_NONE)
			emit_store(e, jit_host[g], rm_v(V_GPR(g)));
	emit_mov_imm(e, H_DI, (u64)v);
	emit_mov(e, H_SI, JIT_S1);
	emit_alu_imm(e, 5, true, H_SP, 8);
	emit_mov_imm(e, H_AX, (u64)&call_run);
	emit_op(e, (struct opc){.code = 0xff}, 2, rm_reg(H_AX));
	emit_alu_imm(e, 0, true, H_SP, 8);
	emit_mov(e, JIT_S1, H_AX);
	emit_rr(e, 0x85, true, H_AX, H_AX);
	for (u8 g = 0; g < 16; g++)
		if (jit_host[g] != H_NONE)
			emit_load(e, jit_host[g], rm_v(V_GPR(g)));
	out = emit_jcc(e, 5);
	emit_u8(e, 0xc3);
	if (e->full)
		return at;
	emit_patch32(out, e->p);
	emit_alu_imm(e, 0, true, H_SP, 8);
	emit_op(e, (struct opc){.code = 0xff}, 4, rm_reg(JIT_S1));
	return at;
}

void tr_called(struct tr *t)
{
	static const struct vec_state none;
	struct emit *e = &t->e;

	tr_guard_flags(t);
	vec_store_all(t, &t->vec);
	t->vec = none;
	if (t->u->avx)
		emit_bytes(e, "\xc5\xf8\x77", 3); /* VZEROUPPER */
	emit_bytes(e, "\x48\x8d\x0d\0\0\0", 7);   /* LEA RCX, [RIP + ...] */
	t->call[t->ncall].at = e->p - 4;
	t->call[t->ncall++].x = t->x;
	emit_call_to(e, t->j->call);
	t->fl_host = false;
	t->fl_mem = true;
	t->called = true;
}

/* An instruction that the CPU model does not have, among others. */
static void call_undefined(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	soft_fault(v, VEC_UD);
}

static struct jit_call call_make(struct tr *t, const struct unit_insn *x)
{
	u32 attr = op_rows[x->i.row].attr;
	struct jit_call c = {
		.off = x->off,
		.ends = x->kind == UNIT_CALLED_END,
		.vectors = attr & (OPA_SIMD | OPA_X87),
		.i = {x->i, {.fn = int_stop, .off = x->i.len}},
	};
	bool threaded = false;

	c.i->off = 0;
	c.i->fn = soft_bind_insn(t->v, c.i, x->bytes, &threaded);
	if (!c.i->fn)
		c.i->fn = call_undefined;
	c.sets_rip = threaded || attr & (OPA_BRANCH | OPA_STRING);
	return c;
}

void tr_calls(struct tr *t)
{
	for (unsigned k = 0; k < t->ncall && !t->e.full; k++) {
		struct jit_call c = call_make(t, t->call[k].x);

		while ((u64)t->e.p % _Alignof(struct jit_call) && !t->e.full)
			emit_u8(&t->e, 0xcc);
		emit_patch32(t->call[k].at, t->e.p);
		emit_bytes(&t->e, &c, sizeof(c));
	}
}
