/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit for people: a line of what it is, its guest instructions with the
 * host code made of each, an entry for perf. Both sides are written by
 * insn_format(): host code is of the same instruction set.
 */
#include "cpu/jit/show.h"

#include <string.h>

#include "cpu/jit/translate.h"

/* Fields of soft_vcpu that host code reaches through GS, by offset. */
static const struct {
	u32 off, size;
	const char *name;
} show_fields[] = {
#define FIELD(f)                                               \
	{                                                      \
		offsetof(struct soft_vcpu, f),                 \
			sizeof(((struct soft_vcpu *)0)->f), #f \
	}
	FIELD(gpr[10]),     FIELD(gpr[11]),   FIELD(gpr[14]),
	FIELD(gpr[15]),     FIELD(gpr),       FIELD(rip),
	FIELD(fl),          FIELD(tlb),       FIELD(attention),
	FIELD(fetch_key),   FIELD(seg),       FIELD(xsave),
	FIELD(jit_map),     FIELD(jit_tmp),   FIELD(jit_pending),
	FIELD(jit_no_simd), FIELD(code_page),
#undef FIELD
};

static const char *show_field(u32 off)
{
	for (unsigned k = 0; k < ARRAY_LEN(show_fields); k++)
		if (off - show_fields[k].off < show_fields[k].size)
			return show_fields[k].name;
	return NULL;
}

const char *jit_exit_name(enum jit_exit why)
{
	static const char *const names[JIT_EXITS] = {
		[JIT_EXIT_POLL] = "poll",     [JIT_EXIT_INDIRECT] = "indirect",
		[JIT_EXIT_LINK] = "link",     [JIT_EXIT_OP] = "op",
		[JIT_EXIT_ACCESS] = "access", [JIT_EXIT_VALUE] = "value",
		[JIT_EXIT_SIMD] = "simd",     [JIT_EXIT_ADDRESS] = "address",
		[JIT_EXIT_NONE] = "none",     [JIT_EXIT_FAULT] = "fault",
	};

	return why < JIT_EXITS && names[why] ? names[why] : "?";
}

static const char *show_common(const struct jit *j, const u8 *to)
{
	for (unsigned k = 0; k < JIT_EXITS; k++)
		if (to == j->out[k] || to == j->way[0].out[k] ||
		    to == j->way[1].out[k])
			return jit_exit_name(k);
	for (unsigned k = 0; k < 2; k++) {
		if (to == j->way[k].link || to == j->way[k].pinned)
			return "link";
		if (to == j->way[k].other)
			return "other mapping";
	}
	for (unsigned s = 0; s < JIT_FILL_SIZES; s++)
		if (to == j->fill[0][s] || to == j->fill[1][s])
			return to == j->fill[0][s] ? "fill read" : "fill write";
	return NULL;
}

/* What stands behind the instruction: the field or the exit it goes to. */
static const char *show_note(const struct jit *j, const struct insn *i,
			     const u8 *at)
{
	if (i->mem && i->seg == SEG_GS && i->base == INSN_REG_NONE)
		return show_field((u32)i->disp);
	if (i->form == FORM_REL)
		return show_common(j, at + i->len + (s64)i->imm);
	return NULL;
}

/* Host code [from, to) of the writable view. */
static void show_host(const struct soft_vcpu *v, const struct trace *tr,
		      const u8 *from, const u8 *to)
{
	const struct codebuf *b = &v->jit->buf;
	struct insn i;
	char text[96];
	unsigned n;

	for (; from < to; from += n) {
		u64 rip = (u64)codebuf_exec(b, from);
		const char *note;

		if (insn_decode(&i, from, MIN(15u, (size_t)(to - from)),
				DECODE_64) != DECODE_OK)
			return;
		n = i.len;
		insn_format(&i, rip, text, sizeof(text));
		note = show_note(v->jit, &i, from);
		trace_line(tr, "\t\t%016lx  %s%s%s", rip, text,
			   note ? "\t; " : "", note ? note : "");
	}
}

/* Where the host code of instruction k ends. */
static const u8 *show_end(const struct unit *u, unsigned k, const u8 *end)
{
	return k + 1 < u->n && u->in[k + 1].code ? u->in[k + 1].code : end;
}

static void show_code(const struct soft_vcpu *v, const struct trace *tr,
		      const struct jit_unit *t)
{
	const struct unit *u = &v->jit->u;
	const u8 *end = v->jit->tr->e.p;
	const u8 *tail = v->jit->tr->tail;
	u64 page = v->rip & ~(u64)PAGE_MASK;
	char at[128], text[96];

	show_host(v, tr, t->entry_fl, u->in[0].code);
	for (unsigned k = 0; k < u->n; k++) {
		const struct unit_insn *x = &u->in[k];

		insn_format(&x->i, page + x->off, text, sizeof(text));
		trace_line(tr, "\t%s  %s%s",
			   trace_name(tr, page + x->off, at, sizeof(at)), text,
			   x->label ? "\t; branched to" : "");
		show_host(v, tr, x->code, show_end(u, k, tail));
	}
	trace_line(tr, "\tout of line");
	show_host(v, tr, tail, end);
}

static bool show_wanted(const struct trace *tr, u64 rip, unsigned len)
{
	return tr->what & TRACE_CODE && rip < tr->code_to &&
	       rip + len > tr->code_from;
}

void jit_show(const struct soft_vcpu *v, const struct trace *tr,
	      const struct jit_unit *t, u64 ns)
{
	const struct unit *u = &v->jit->u;
	size_t size = (size_t)(v->jit->tr->e.p - t->entry_fl);
	bool code = show_wanted(tr, v->rip, u->len);
	char at[128];

	trace_name(tr, v->rip, at, sizeof(at));
	if (code || tr->what & TRACE_BLOCKS)
		trace_line(tr,
			   "vCPU %u unit %s: page %x, %u instructions, %u "
			   "bytes, host %p, %zu bytes, %lu ns",
			   v->vcpu.id, at, t->page, u->n, u->len,
			   codebuf_exec(&v->jit->buf, t->entry_fl), size, ns);
	if (code)
		show_code(v, tr, t);
	if (tr->perfmap) {
		const char *name = strchr(at, ' ');

		fprintf(tr->perfmap, "%lx %zx guest:%s\n",
			(u64)codebuf_exec(&v->jit->buf, t->entry_fl), size,
			name ? name + 1 : at);
	}
}
