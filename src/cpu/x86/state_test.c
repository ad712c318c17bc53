/* SPDX-License-Identifier: BSD-2-Clause */
/* The CPU's state table: coverage, round trip, states that cannot be. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/x86/state.h"
#include "cpu/x86/x86.h"

static void test_covers(void **unused)
{
	(void)unused;
	assert_true(state_covers(&cpu_state_desc));
}

static void test_round_trip(void **unused)
{
	struct cpu_state *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	u64 n = state_size(&cpu_state_desc);
	u8 *buf = malloc(n);
	struct err e;

	(void)unused;
	for (size_t i = 0; i < sizeof(*a); i++)
		((u8 *)a)[i] = (u8)(i * 37 + 11);
	a->cr0 = CR0_PE | CR0_PG;
	a->cr4 = CR4_PAE;
	a->efer = EFER_LME | EFER_LMA;
	a->rflags |= RFLAGS_FIXED;
	a->mp_state = MP_HALTED;
	a->shadow = 1;
	a->nested_size = 4224;
	memset(b, 0x5a, sizeof(*b));
	assert_int_equal(state_save(&cpu_state_desc, a, buf), n);
	assert_int_equal(state_load(&cpu_state_desc, b, buf, n,
				    cpu_state_desc.version, &e),
			 0);
	assert_memory_equal(a, b, sizeof(*a));
	free(a);
	free(b);
	free(buf);
}

static int try_load(const struct cpu_state *s)
{
	u64 n = state_size(&cpu_state_desc);
	u8 *buf = malloc(n);
	struct cpu_state out;
	struct err e;
	int rc;

	state_save(&cpu_state_desc, s, buf);
	rc = state_load(&cpu_state_desc, &out, buf, n, cpu_state_desc.version,
			&e);
	free(buf);
	return rc;
}

static void test_impossible(void **unused)
{
	struct cpu_state s;

	(void)unused;
	cpu_state_reset(&s, 0);
	assert_int_equal(try_load(&s), 0);
	s.cr0 = CR0_PG;
	assert_int_equal(try_load(&s), -EDOM);
	cpu_state_reset(&s, 1);
	assert_int_equal(s.mp_state, MP_WAIT_SIPI);
	s.efer = EFER_LMA;
	assert_int_equal(try_load(&s), -EDOM);
	cpu_state_reset(&s, 1);
	s.rflags = 0;
	assert_int_equal(try_load(&s), -EDOM);
	cpu_state_reset(&s, 1);
	s.mp_state = 9;
	assert_int_equal(try_load(&s), -EDOM);
	cpu_state_reset(&s, 1);
	s.nested_size = sizeof(s.nested) + 1;
	assert_int_equal(try_load(&s), -EDOM);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_impossible),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
