/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "base/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct {
	const char *name;
	u32 bit;
} trace_names[] = {
	{"exits", TRACE_EXITS}, {"blocks", TRACE_BLOCKS},
	{"code", TRACE_CODE},   {"faults", TRACE_FAULTS},
	{"irqs", TRACE_IRQS},   {"perfmap", TRACE_PERFMAP},
};

static int trace_unknown(const char *name, struct err *e)
{
	char all[128] = "";

	for (size_t k = 0; k < ARRAY_LEN(trace_names); k++) {
		strcat(all, k ? ", " : "");
		strcat(all, trace_names[k].name);
	}
	return err_set(e, -EINVAL, "--trace: '%s' is none of %s", name, all);
}

static int trace_parse_one(struct trace *t, char *name, struct err *e)
{
	char *value = strchr(name, '=');
	u32 bit = 0;

	if (value)
		*value++ = 0;
	for (size_t k = 0; k < ARRAY_LEN(trace_names); k++)
		if (!strcmp(trace_names[k].name, name))
			bit = trace_names[k].bit;
	if (!bit)
		return trace_unknown(name, e);
	if (value && bit != TRACE_CODE)
		return err_set(e, -EINVAL, "--trace: %s takes no value", name);
	if (value)
		t->code = value;
	t->what |= bit;
	return 0;
}

int trace_parse(struct trace *t, char *list, struct err *e)
{
	int rc = 0;

	while (!rc && list) {
		char *next = strchr(list, ',');

		if (next)
			*next++ = 0;
		rc = trace_parse_one(t, list, e);
		list = next;
	}
	return rc;
}

/* t->code is an address or a symbol. */
static int trace_find_code(struct trace *t, struct err *e)
{
	char *end;

	t->code_to = ~0ull;
	if (!t->code)
		return 0;
	t->code_from = strtoull(t->code, &end, 16);
	t->code_to = t->code_from + 1;
	if ((*t->code && !*end) ||
	    symbols_range(t->symbols, t->code, &t->code_from, &t->code_to))
		return 0;
	return err_set(e, -EINVAL,
		       "--trace: code=%s is neither a hexadecimal address nor "
		       "a name in the file of --trace-symbols",
		       t->code);
}

/* Where perf looks for the names of code that belongs to no file. */
static int trace_open_perfmap(struct trace *t, struct err *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
		  0644);
	if (fd < 0)
		return err_errno(e, -errno, "cannot write %s", path);
	t->perfmap = fdopen(fd, "w");
	if (!t->perfmap) {
		close(fd);
		return err_set(e, -ENOMEM, "no memory for %s", path);
	}
	return 0;
}

int trace_open(struct trace *t, struct err *e)
{
	int rc;

	if (t->symbols_path) {
		t->symbols = symbols_load(t->symbols_path, e);
		if (!t->symbols)
			return -EINVAL;
	}
	rc = trace_find_code(t, e);
	if (!rc && t->what & TRACE_PERFMAP)
		rc = trace_open_perfmap(t, e);
	if (rc || !t->path)
		return rc;
	t->to = fopen(t->path, "we");
	if (!t->to)
		return err_errno(e, -errno, "cannot write the trace to %s",
				 t->path);
	return 0;
}

void trace_close(struct trace *t)
{
	if (t->to)
		fclose(t->to);
	if (t->perfmap)
		fclose(t->perfmap);
	symbols_free(t->symbols);
	t->to = t->perfmap = NULL;
	t->symbols = NULL;
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

const char *trace_name(const struct trace *t, u64 addr, char *buf, size_t size)
{
	u64 off = 0;
	const char *name = symbols_find(t->symbols, addr, &off);

	if (name)
		snprintf(buf, size, "%016lx %s+0x%lx", addr, name, off);
	else
		snprintf(buf, size, "%016lx", addr);
	return buf;
}
