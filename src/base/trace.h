/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces for those who work on the monitor: what is traced, and where lines
 * go. Off, a trace costs its caller one look at a word (trace_on()).
 *
 *	trace_parse(&t, "blocks,code=do_idle", e), t.path = ...
 *	trace_open(&t, e)    before the machine is made
 *	trace_close(&t)      after it is gone
 *
 * A struct trace does not change in between. Lines are written whole, from
 * any thread, and in the order of each thread.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdio.h>

#include "base/err.h"
#include "base/symbols.h"
#include "base/types.h"

enum {
	TRACE_EXITS = BIT(0),   /* at the end: why generated code was left */
	TRACE_BLOCKS = BIT(1),  /* each unit of translation made */
	TRACE_CODE = BIT(2),    /* ... with the code of both sides */
	TRACE_FAULTS = BIT(3),  /* exceptions delivered */
	TRACE_IRQS = BIT(4),    /* interrupts delivered */
	TRACE_PERFMAP = BIT(5), /* /tmp/perf-PID.map, for perf */
};

struct trace {
	u32 what;                 /* TRACE_* */
	const char *path;         /* lines go there; NULL: stderr */
	const char *symbols_path; /* NULL: no names */
	const char *code;         /* TRACE_CODE: of this; NULL: of all */
	/* Made by trace_open(): */
	FILE *to, *perfmap;
	struct symbols *symbols;
	u64 code_from, code_to; /* [from, to) */
};

/* Adds "exits,code=0xffffffff81000000" to t; keeps pointers into list.
 * -EINVAL with a sentence. */
int trace_parse(struct trace *t, char *list, struct err *e);
/* Opens files and finds the names. */
int trace_open(struct trace *t, struct err *e);
void trace_close(struct trace *t); /* also one never opened */

static inline bool trace_on(const struct trace *t, u32 what)
{
	return t && unlikely(t->what & what);
}

static inline FILE *trace_file(const struct trace *t)
{
	return t->to ? t->to : stderr;
}

void trace_line(const struct trace *t, const char *fmt, ...) PRINTF(2, 3);
/* "ffffffff81234567 do_idle+0x17", or without a name. */
const char *trace_name(const struct trace *t, u64 addr, char *buf, size_t size);

#endif
