/* SPDX-License-Identifier: BSD-2-Clause */
/* Code that was dropped leaves the resident set and still runs. */
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/types.h"

/* Reads all code of the C library, or says how much of it is mapped: KiB. */
static unsigned libc_text(bool touch)
{
	FILE *f = fopen("/proc/self/smaps", "re");
	unsigned long start = 0, end = 0;
	unsigned total = 0, rss;
	bool mine = false;
	char line[300];

	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		if (strstr(line, "r-xp ")) {
			mine = strstr(line, "libc.so");
			sscanf(line, "%lx-%lx", &start, &end);
		} else if (strstr(line, "-p ") || strstr(line, "-s ")) {
			mine = false;
		} else if (mine && sscanf(line, "Rss: %u kB", &rss) == 1) {
			total += rss;
			for (u64 at = start; touch && at < end; at += PAGE_SIZE)
				(void)*(volatile u8 *)at;
		}
	}
	fclose(f);
	return total;
}

static void dropped_code_comes_back(void **state)
{
	unsigned all;

	(void)state;
	libc_text(true);
	all = libc_text(false);
	assert_true(all > 1000);
	text_drop();
	assert_in_range(libc_text(false), 4, all - 400);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(dropped_code_comes_back),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
