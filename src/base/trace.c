/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/trace.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const struct {
	const char *name;
	u32 bit;
} trace_names[] = {
	{"exits", TRACE_EXITS},
};

static int trace_unknown(const char *name, size_t n, struct err *e)
{
	char all[128] = "";

	for (size_t k = 0; k < ARRAY_LEN(trace_names); k++) {
		strcat(all, k ? ", " : "");
		strcat(all, trace_names[k].name);
	}
	return err_set(e, -EINVAL, "--trace: '%.*s' is none of %s", (int)n,
		       name, all);
}

static u32 trace_bit(const char *name, size_t n)
{
	for (size_t k = 0; k < ARRAY_LEN(trace_names); k++)
		if (strlen(trace_names[k].name) == n &&
		    !memcmp(trace_names[k].name, name, n))
			return trace_names[k].bit;
	return 0;
}

int trace_parse(struct trace *t, const char *list, struct err *e)
{
	for (;;) {
		size_t n = strcspn(list, ",");
		u32 bit = trace_bit(list, n);

		if (!bit)
			return trace_unknown(list, n, e);
		t->what |= bit;
		if (!list[n])
			return 0;
		list += n + 1;
	}
}

int trace_open(struct trace *t, const char *path, struct err *e)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return err_errno(e, -errno, "cannot write the trace to %s",
				 path);
	setvbuf(f, NULL, _IOFBF, 1 << 16);
	trace_close(t);
	t->to = f;
	t->to_close = true;
	return 0;
}

void trace_close(struct trace *t)
{
	if (t->to_close)
		fclose(t->to);
	t->to = NULL;
	t->to_close = false;
}

void trace_line(const struct trace *t, const char *fmt, ...)
{
	FILE *f = trace_file(t);
	va_list ap;

	flockfile(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	putc_unlocked('\n', f);
	funlockfile(f);
}
