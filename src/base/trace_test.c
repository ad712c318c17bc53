/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/trace.h"

static void test_parse(void **state)
{
	struct trace t = {0};
	struct err e;

	(void)state;
	assert_int_equal(trace_parse(&t, "exits", &e), 0);
	assert_int_equal(t.what, TRACE_EXITS);
	assert_int_not_equal(trace_parse(&t, "exits,", &e), 0);
	assert_int_not_equal(trace_parse(&t, "exit", &e), 0);
	assert_non_null(strstr(e.text, "'exit' is none of exits"));
}

static void test_file(void **state)
{
	char path[] = "/tmp/trace_test_XXXXXX", line[64] = "";
	struct trace t = {0};
	struct err e;
	FILE *f;

	(void)state;
	close(mkstemp(path));
	assert_int_equal(trace_open(&t, path, &e), 0);
	trace_line(&t, "%s %d", "line", 1);
	trace_close(&t);
	f = fopen(path, "r");
	assert_non_null(fgets(line, sizeof(line), f));
	assert_string_equal(line, "line 1\n");
	fclose(f);
	unlink(path);
	assert_int_not_equal(trace_open(&t, "/nowhere/x", &e), 0);
	assert_non_null(strstr(e.text, "/nowhere/x"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
