/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The TSC's frequency must be the same whatever else the host does: processes
 * that measure it at the same time, more than there are CPUs, agree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define PROCESSES 24

static void frequency_is_one(void **state)
{
	u64 lo = ~0ull, hi = 0, hz;
	int p[2];

	(void)state;
	assert_int_equal(pipe(p), 0);
	for (unsigned i = 0; i < PROCESSES; i++)
		if (!fork()) {
			hz = clock_tsc_hz();
			_exit(write(p[1], &hz, sizeof(hz)) != sizeof(hz));
		}
	for (unsigned i = 0; i < PROCESSES; i++) {
		assert_int_equal(read(p[0], &hz, sizeof(hz)), sizeof(hz));
		lo = MIN(lo, hz);
		hi = MAX(hi, hz);
	}
	while (wait(NULL) > 0)
		;
	assert_in_range(lo, 100000000, 20000000000);
	assert_true(hi - lo <= lo / 1000);
	close(p[0]);
	close(p[1]);
}

static void mul_div_is_wide(void **state)
{
	(void)state;
	assert_true(mul_div(~0ull, 1000, 1000) == ~0ull);
	assert_int_equal(mul_div(7, 5, 2), 17);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(frequency_is_one),
		cmocka_unit_test(mul_div_is_wide),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
