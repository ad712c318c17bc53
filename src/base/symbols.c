/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "base/symbols.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct symbol {
	u64 at;
	char *name;
};

struct symbols {
	struct symbol *sym;
	size_t n, room;
};

static int symbol_compare(const void *a, const void *b)
{
	const struct symbol *x = a, *y = b;

	return (x->at > y->at) - (x->at < y->at);
}

static bool symbols_add(struct symbols *s, u64 at, const char *name)
{
	if (s->n == s->room) {
		size_t room = s->room ? 2 * s->room : 4096;
		void *p = realloc(s->sym, room * sizeof(*s->sym));

		if (!p)
			return false;
		s->sym = p;
		s->room = room;
	}
	s->sym[s->n] = (struct symbol){at, strdup(name)};
	return s->sym[s->n++].name;
}

/* Code and weak symbols of "ffffffff81000000 T _text". */
static bool symbols_read(struct symbols *s, FILE *f)
{
	unsigned long long at;
	char line[512], name[256], type;

	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%llx %c %255s", &at, &type, name) == 3 &&
		    strchr("tTwW", type) && !symbols_add(s, at, name))
			return false;
	qsort(s->sym, s->n, sizeof(*s->sym), symbol_compare);
	return true;
}

struct symbols *symbols_load(const char *path, struct err *e)
{
	struct symbols *s = calloc(1, sizeof(*s));
	FILE *f = fopen(path, "re");
	bool ok = false;

	if (!f)
		err_errno(e, -errno, "cannot read symbols from %s", path);
	else if (!s || !symbols_read(s, f))
		err_set(e, -ENOMEM, "no memory for symbols");
	else if (!s->n)
		err_set(e, -EINVAL, "%s has no symbols of code", path);
	else
		ok = true;
	if (f)
		fclose(f);
	if (ok)
		return s;
	symbols_free(s);
	return NULL;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n; i++)
		free(s->sym[i].name);
	free(s->sym);
	free(s);
}

const char *symbols_find(const struct symbols *s, u64 addr, u64 *off)
{
	size_t lo = 0, hi = s ? s->n : 0;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (s->sym[mid].at <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (!lo)
		return NULL;
	*off = addr - s->sym[lo - 1].at;
	return s->sym[lo - 1].name;
}

bool symbols_range(const struct symbols *s, const char *name, u64 *from,
		   u64 *to)
{
	for (size_t i = 0; s && i < s->n; i++) {
		size_t k = i;

		if (strcmp(s->sym[i].name, name))
			continue;
		while (k < s->n && s->sym[k].at == s->sym[i].at)
			k++;
		*from = s->sym[i].at;
		*to = k < s->n ? s->sym[k].at : ~0ull;
		return true;
	}
	return false;
}
