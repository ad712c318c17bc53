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

static int parse(struct trace *t, const char *list, struct err *e)
{
	static char copy[64];

	*t = (struct trace){0};
	strcpy(copy, list);
	return trace_parse(t, copy, e);
}

static void test_parse(void **state)
{
	struct trace t;
	struct err e;

	(void)state;
	assert_int_equal(parse(&t, "exits", &e), 0);
	assert_int_equal(t.what, TRACE_EXITS);
	assert_int_equal(parse(&t, "irqs,code=12ab,faults", &e), 0);
	assert_int_equal(t.what, TRACE_IRQS | TRACE_CODE | TRACE_FAULTS);
	assert_string_equal(t.code, "12ab");
	assert_int_not_equal(parse(&t, "exits,", &e), 0);
	assert_int_not_equal(parse(&t, "exits=3", &e), 0);
	assert_int_not_equal(parse(&t, "exit", &e), 0);
	assert_non_null(strstr(e.text, "'exit' is none of exits, blocks"));
}

static char *temp_file(const char *text)
{
	static char path[2][32];
	static int which;
	char *p = path[which ^= 1];
	FILE *f;

	strcpy(p, "/tmp/trace_test_XXXXXX");
	f = fdopen(mkstemp(p), "w");
	fputs(text, f);
	fclose(f);
	return p;
}

static void test_file(void **state)
{
	char line[64] = "", buf[64];
	struct trace t = {.path = temp_file("old")};
	struct err e;
	FILE *f;

	(void)state;
	assert_int_equal(trace_open(&t, &e), 0);
	trace_line(&t, "%s %d", "line", 1);
	assert_string_equal(trace_name(&t, 0x1234, buf, sizeof(buf)),
			    "0000000000001234");
	trace_close(&t);
	f = fopen(t.path, "r");
	assert_non_null(fgets(line, sizeof(line), f));
	assert_string_equal(line, "line 1\n");
	fclose(f);
	unlink(t.path);
	t.path = "/nowhere/x";
	assert_int_not_equal(trace_open(&t, &e), 0);
	assert_non_null(strstr(e.text, "/nowhere/x"));
	trace_close(&t);
}

static void test_symbols(void **state)
{
	char *path = temp_file("0000000000002000 T second\n"
			       "0000000000001000 t first\nrubbish\n"
			       "0000000000001800 d data\n"
			       "0000000000003000 T third [module]\n");
	struct trace t = {.symbols_path = path, .code = "second"};
	struct err e;
	char buf[64];

	(void)state;
	assert_int_equal(trace_open(&t, &e), 0);
	assert_int_equal(t.code_from, 0x2000);
	assert_int_equal(t.code_to, 0x3000);
	assert_string_equal(trace_name(&t, 0x1fff, buf, sizeof(buf)),
			    "0000000000001fff first+0xfff");
	assert_string_equal(trace_name(&t, 0x3001, buf, sizeof(buf)),
			    "0000000000003001 third+0x1");
	assert_string_equal(trace_name(&t, 0xfff, buf, sizeof(buf)),
			    "0000000000000fff");
	trace_close(&t);
	t.code = "nosuch";
	assert_int_not_equal(trace_open(&t, &e), 0);
	assert_non_null(strstr(e.text, "code=nosuch"));
	trace_close(&t);
	unlink(path);
	assert_int_not_equal(trace_open(&t, &e), 0);
}

static void test_perfmap(void **state)
{
	struct trace t = {.what = TRACE_PERFMAP};
	struct err e;
	char path[64];

	(void)state;
	snprintf(path, sizeof(path), "/tmp/perf-%d.map", getpid());
	assert_int_equal(trace_open(&t, &e), 0);
	assert_int_equal(access(path, R_OK), 0);
	trace_close(&t);
	unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_file),
		cmocka_unit_test(test_symbols),
		cmocka_unit_test(test_perfmap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
