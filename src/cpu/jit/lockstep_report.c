/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The report of lock step: where, what differs, the way the interpreter went,
 * and both sides' code of the units on it.
 */
#include <string.h>

#include "cpu/jit/lockstep.h"
#include "cpu/jit/show.h"
#include "cpu/soft/access.h"
#include "cpu/soft/event.h"

static const char *const report_gpr[16] = {
	"RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
	"R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15",
};

static const char *const report_what[] = {
	[LOCK_PLACE] = "the interpreter does not come to where it was left",
	[LOCK_REGS] = "registers differ",
	[LOCK_MEMORY] = "memory differs",
	[LOCK_FAULT] = "the interpreter faults",
	[LOCK_FULL] = "it writes more than can be taken back",
};

static void report_u64(const struct trace *tr, const char *name, u64 before,
		       u64 interp, u64 code)
{
	if (interp != code)
		trace_line(tr,
			   "  %-10s before %016lx  interpreter %016lx  "
			   "translated %016lx",
			   name, before, interp, code);
}

static void report_vectors(const struct trace *tr, const struct lockstep *l)
{
	char name[32];

	for (unsigned off = 0; off < XSAVE_AREA_SIZE; off += 8) {
		u64 x[3];

		if ((off >= 8 && off < 24) || (off >= 416 && off < 576))
			continue;
		memcpy(&x[0], l->before.xsave + off, 8);
		memcpy(&x[1], l->interp.xsave + off, 8);
		memcpy(&x[2], l->code.xsave + off, 8);
		if (off >= 576)
			snprintf(name, sizeof(name), "YMM%u[%u]",
				 (off - 576) / 16, 2 + off / 8 % 2);
		else if (off >= 160)
			snprintf(name, sizeof(name), "XMM%u[%u]",
				 (off - 160) / 16, off / 8 % 2);
		else if (off >= 32)
			snprintf(name, sizeof(name), "ST%u[%u]",
				 (off - 32) / 16, off / 8 % 2);
		else
			snprintf(name, sizeof(name), "FXSAVE+%u", off);
		report_u64(tr, name, x[0], x[1], x[2]);
	}
}

static void report_regs(const struct trace *tr, const struct lockstep *l)
{
	for (unsigned g = 0; g < 16; g++)
		report_u64(tr, report_gpr[g], l->before.gpr[g],
			   l->interp.gpr[g], l->code.gpr[g]);
	report_u64(tr, "RFLAGS*", l->before.rflags, l->interp.rflags,
		   l->code.rflags);
	report_u64(tr, "GS base", l->before.gs_base, l->interp.gs_base,
		   l->code.gs_base);
	report_u64(tr, "KERNEL_GS", l->before.kernel_gs_base,
		   l->interp.kernel_gs_base, l->code.kernel_gs_base);
	report_u64(tr, "SF:ZF..OF", l->before.fl, l->interp.fl, l->code.fl);
	report_vectors(tr, l);
}

static void report_memory(const struct soft_vcpu *v, const struct trace *tr,
			  const struct lockstep *l)
{
	const struct undo_write *w = l->bad;

	trace_line(tr, "  at offset %lx of guest memory:",
		   (u64)(l->bad_at - soft_mem(v)->base));
	if (!w)
		trace_line(tr, "  the interpreter writes there, translated "
			       "code does not");
	else
		trace_line(tr,
			   "  translated code writes %02x; before it was %02x "
			   "(a store of %u bytes)",
			   l->by_code.after[w->at + (l->bad_at - w->host)],
			   l->by_code.before[w->at + (l->bad_at - w->host)],
			   w->n);
}

static void report_insn(struct soft_vcpu *v, const struct trace *tr, u64 rip)
{
	char at[128], text[96] = "?";
	struct unit_insn x;

	if (lockstep_look(v, &x, rip))
		insn_format(&x.i, rip, text, sizeof(text));
	trace_line(tr, "\t%s  %s", trace_name(tr, rip, at, sizeof(at)), text);
}

static void report_path(struct soft_vcpu *v, const struct trace *tr,
			const struct lockstep *l)
{
	u32 first = l->steps > LOCK_PATH ? l->steps - LOCK_PATH : 0;

	trace_line(tr, "  the interpreter's way, %u instructions%s:", l->steps,
		   first ? ", the last of them" : "");
	for (u32 k = first; k < l->steps; k++)
		report_insn(v, tr, l->path[k % LOCK_PATH]);
}

/* The unit that the run began with: made once more, for its two sides. */
static void report_unit(struct soft_vcpu *v, const struct trace *tr, u64 rip)
{
	const u8 *host = soft_host(v, rip, 1, MMU_EXEC);
	struct jit_unit t = {0};

	if (host &&
	    unit_read(&v->jit->u, rip & PAGE_MASK, host - (rip & PAGE_MASK),
		      NULL) &&
	    jit_translate(v, v->jit, &t))
		jit_show(v, tr, &t, 0);
}

void lockstep_report(struct soft_vcpu *v, const struct lockstep *l,
		     enum lock_result r)
{
	struct trace tr = {.what = TRACE_CODE, .code_to = ~0ull};
	const struct trace *given = soft_trace(v);
	char from[128], to[128];

	if (given) {
		tr.to = given->to;
		tr.symbols = given->symbols;
	}
	trace_name(&tr, l->before.rip, from, sizeof(from));
	trace_name(&tr, l->code.rip, to, sizeof(to));
	trace_line(&tr, "lock step: translated code is wrong: %s",
		   report_what[r]);
	trace_line(&tr,
		   "  run %lu, after %lu instructions; from %s to %s, left by "
		   "'%s'",
		   l->runs, v->insns, from, to, jit_exit_name(l->why));
	if (r == LOCK_REGS || r == LOCK_FAULT)
		report_regs(&tr, l);
	if (r == LOCK_MEMORY)
		report_memory(v, &tr, l);
	report_path(v, &tr, l);
	report_unit(v, &tr, l->before.rip);
	fflush(trace_file(&tr));
	soft_stop(v, STOP_ERROR,
		  "lock step: translated code from %s to %s is wrong: %s", from,
		  to, report_what[r]);
}
