/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int err_set(struct err *e, int rc, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return rc;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return rc;
}

int err_errno(struct err *e, int rc, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!e)
		return rc;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	n = strlen(e->text);
	snprintf(e->text + n, sizeof(e->text) - n, ": %s", strerror(-rc));
	return rc;
}

void assert_failed(const char *what, const char *file, int line,
		   const char *func)
{
	fprintf(stderr, "sublet: bug: %s:%d: %s: %s does not hold\n", file,
		line, func, what);
	abort();
}
