/* SPDX-License-Identifier: BSD-2-Clause */
/* The CPU model: consistent with itself, and never more than the host has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/x86/cpuid.h"

static struct cpuid_regs host_nothing(void *arg, u32 leaf, u32 subleaf)
{
	(void)arg;
	(void)leaf;
	(void)subleaf;
	return (struct cpuid_regs){0};
}

static struct cpuid_regs host_all(void *arg, u32 leaf, u32 subleaf)
{
	(void)arg;
	(void)leaf;
	(void)subleaf;
	return (struct cpuid_regs){~0u, ~0u, ~0u, ~0u};
}

static void test_strings(void **unused)
{
	struct cpuid_model m;
	struct cpuid_regs r;
	char text[49] = "";

	(void)unused;
	cpuid_model_build(&m, host_all, NULL, 4, 2100000000, 0x123);
	r = cpuid_model_get(&m, 0, 0, 0);
	memcpy(text, &r.ebx, 4);
	memcpy(text + 4, &r.edx, 4);
	memcpy(text + 8, &r.ecx, 4);
	assert_string_equal(text, "GenuineIntel");
	r = cpuid_model_get(&m, 0x40000000, 0, 0);
	assert_memory_equal(&r.ebx, "KVMKVMKVM\0\0\0", 12);
	assert_int_equal(cpuid_model_get(&m, 0x40000001, 0, 0).eax, 0x123);
	for (u32 i = 0; i < 3; i++) {
		r = cpuid_model_get(&m, 0x80000002 + i, 0, 0);
		memcpy(text + 16 * i, &r, 16);
	}
	assert_memory_equal(text, "Sublet v1", 9);
}

static void test_poor_host(void **unused)
{
	struct cpuid_model m;
	struct cpuid_regs r;

	(void)unused;
	cpuid_model_build(&m, host_nothing, NULL, 1, 2100000000, 0);
	r = cpuid_model_get(&m, 1, 0, 0);
	assert_int_equal(r.ecx, 0x80000000); /* hypervisor */
	assert_int_equal(r.edx, 0);
	assert_int_equal(cpuid_model_get(&m, 7, 0, 0).ebx, 0);
	assert_int_equal(m.xcr0_mask, 1);
	assert_int_equal(m.arch_capabilities, 0);
}

static void test_topology(void **unused)
{
	struct cpuid_model m;
	struct cpuid_regs r;

	(void)unused;
	cpuid_model_build(&m, host_all, NULL, 6, 2100000000, 0);
	for (unsigned id = 0; id < 6; id++) {
		r = cpuid_model_get(&m, 0xb, 1, id);
		assert_int_equal(r.edx, id);
		assert_int_equal(r.ebx, 6);
		assert_int_equal(id >> r.eax, 0);
		assert_int_equal(cpuid_model_get(&m, 1, 0, id).ebx >> 24, id);
	}
	assert_int_equal(cpuid_model_get(&m, 0xb, 0, 0).eax, 0);
	assert_int_equal(cpuid_model_get(&m, 0xb, 7, 3).ecx, 7);
}

/* Within 1 kHz, and in 32 bits as kernels compute it. */
static void check_tsc(u64 hz)
{
	struct cpuid_model m;
	struct cpuid_regs r;
	u32 khz;

	cpuid_model_build(&m, host_all, NULL, 1, hz, 0);
	r = cpuid_model_get(&m, 0x15, 0, 0);
	assert_int_not_equal(r.eax, 0);
	khz = r.ecx / 1000 * r.ebx / r.eax;
	assert_in_range(khz, hz / 1000 - 1, hz / 1000 + 1);
}

static void test_tsc(void **unused)
{
	(void)unused;
	check_tsc(2000000000);
	check_tsc(2099999123);
	check_tsc(3192607000);
	check_tsc(1000000000);
	check_tsc(2687654321);
}

/* Every announced instruction set is one this host has. */
static void test_this_host(void **unused)
{
	static const u32 leaf[][2] = {{1, 0}, {7, 0}, {0x80000001, 0}};
	struct cpuid_model m;

	(void)unused;
	cpuid_model_build(&m, cpuid_host, NULL, 1, 2000000000, 0);
	for (unsigned i = 0; i < ARRAY_LEN(leaf); i++) {
		struct cpuid_regs h = cpuid_host(NULL, leaf[i][0], leaf[i][1]);
		struct cpuid_regs r =
			cpuid_model_get(&m, leaf[i][0], leaf[i][1], 0);

		assert_int_equal(r.ecx & ~h.ecx & 0x7fffffff, 0);
		assert_int_equal(r.edx & ~h.edx, 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_strings),
		cmocka_unit_test(test_poor_host),
		cmocka_unit_test(test_topology),
		cmocka_unit_test(test_tsc),
		cmocka_unit_test(test_this_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
