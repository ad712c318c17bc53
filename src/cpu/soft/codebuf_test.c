/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Generated code runs, is written through one view only, and is bounded.
 */
#include "cpu/soft/codebuf.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef u32 answer_fn(void);

static u8 *emit_answer(struct codebuf *b, u32 val)
{
	u8 *p = codebuf_alloc(b, 6, 16);

	if (!p)
		return NULL;
	p[0] = 0xb8; /* mov eax, val; ret */
	memcpy(p + 1, &val, 4);
	p[5] = 0xc3;
	return p;
}

static void test_runs(void **state)
{
	struct codebuf b;

	(void)state;
	assert_int_equal(codebuf_init(&b, 4096, NULL), 0);
	for (u32 i = 0; i < 256; i++) {
		u8 *p = emit_answer(&b, i * 77);
		answer_fn *f = (answer_fn *)codebuf_exec(&b, p);

		assert_int_equal((size_t)p & 15, 0);
		assert_true(codebuf_holds(&b, (const void *)f));
		assert_int_equal(f(), i * 77);
	}
	assert_null(emit_answer(&b, 1));
	assert_null(codebuf_alloc(&b, (size_t)-16, 1));
	codebuf_reset(&b);
	assert_int_equal(((answer_fn *)codebuf_exec(&b, emit_answer(&b, 3)))(),
			 3);
	codebuf_fini(&b);
}

/* The kernel's own list of our mappings: no code mapping may be writable. */
static void test_views(void **state)
{
	struct codebuf b;
	char line[512];
	unsigned seen = 0;
	size_t from;
	FILE *f;

	(void)state;
	assert_int_equal(codebuf_init(&b, 1 << 20, NULL), 0);
	f = fopen("/proc/self/maps", "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char *perm = strchr(line, ' ');

		assert_non_null(perm);
		assert_false(perm[2] == 'w' && perm[3] == 'x');
		from = strtoul(line, NULL, 16);
		if (from == (size_t)b.write || from == (size_t)b.exec)
			seen |= perm[2] == 'w' ? 1 : perm[3] == 'x' ? 2 : 4;
	}
	fclose(f);
	assert_int_equal(seen, 3);
	codebuf_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_views),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
