/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Traces for those who work on the monitor: what is traced, and where lines
 * go. Off, a trace costs its caller one look at a word (trace_on()).
 *
 * A struct trace does not change once the machine runs. Lines are written
 * whole, from any thread, and in the order of each thread.
 */
#ifndef BASE_TRACE_H
#define BASE_TRACE_H

#include <stdio.h>

#include "base/err.h"
#include "base/types.h"

enum {
	TRACE_EXITS = BIT(0), /* at the end: why generated code was left */
};

struct trace {
	u32 what;      /* TRACE_* */
	FILE *to;      /* NULL: stderr */
	bool to_close; /* ours */
};

/* Adds "exits,blocks" to t->what; -EINVAL with a sentence. */
int trace_parse(struct trace *t, const char *list, struct err *e);
/* Lines go to this file, which is made or emptied. */
int trace_open(struct trace *t, const char *path, struct err *e);
void trace_close(struct trace *t);

static inline bool trace_on(const struct trace *t, u32 what)
{
	return t && unlikely(t->what & what);
}

static inline FILE *trace_file(const struct trace *t)
{
	return t->to ? t->to : stderr;
}

void trace_line(const struct trace *t, const char *fmt, ...) PRINTF(2, 3);

#endif
