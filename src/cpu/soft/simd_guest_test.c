/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIMD and x87 within the engine: state that is live in the host's x87 must
 * be found by whoever looks, and be there again after the vCPU was left.
 */
#include "cpu/soft/rig_test.h"

#include "cpu/soft/simd_priv.h"

/* Sums up 1 / n; leaves the engine in every round, with the sum on the x87. */
CODE(sum_code, 16,
     "xor %ax, %ax\n mov %ax, %ds\n"
     "mov %cr4, %eax\n or $0x200, %eax\n mov %eax, %cr4\n"
     "fninit\n fldz\n"
     "movw $0, 0x9000\n"
     "movups 0x9100, %xmm0\n movaps %xmm0, %xmm1\n"
     "1: incw 0x9000\n"
     "fld1\n fidivs 0x9000\n faddp\n"
     "paddd %xmm1, %xmm0\n"
     "movw 0x9000, %ax\n out %al, $0xf4\n"
     "cmpw $100, 0x9000\n jne 1b\n"
     "fstpl 0x9200\n movups %xmm0, 0x9210\n fnstsw 0x9220\n"
     "mov $0xff, %al\n out %al, $0xf4\n 1: jmp 1b\n");

static void start(struct rig *r, const u8 *code, const u8 *end)
{
	rig_code(r, 0x8000, code, end);
	r->s.seg[SEG_CS].base = 0;
	r->s.seg[SEG_CS].sel = 0;
	r->s.rip = 0x8000;
}

static void test_leaving(void **state)
{
	struct rig *r = *state;
	double sum = 0, got;
	long double exact = 0;
	u64 raw;

	start(r, sum_code, sum_code_end);
	rig_put(r, 0x9100, 0x0000000200000001);
	rig_put(r, 0x9108, 0x0000000400000003);
	for (unsigned n = 1; n <= 100; n++) {
		long double top;

		assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
		assert_int_equal(r->stop_value, n);
		exact += 1.0L / n;
		/* The sum is in ST(0) of what the engine hands out. */
		assert_int_equal(r->s.xsave[FX_FTW], 0x80);
		memcpy(&top, r->s.xsave + FX_ST, 10);
		assert_true(top == exact);
		/* And only there: spoil what a leak would show. */
		memset(r->v->xsave + FX_ST, 0xcc, 128);
	}
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->stop_value, 0xff);
	raw = rig_get(r, 0x9200);
	memcpy(&got, &raw, 8);
	sum = (double)exact;
	assert_true(got == sum);
	assert_int_equal(rig_get(r, 0x9210), 0x000000ca00000065);
	assert_int_equal(rig_get(r, 0x9218), 0x000001940000012f);
}

/*
 * Lazy switching as old kernels do it: TS set, #NM, the handler saves and
 * restores. The interrupt table is at 0.
 */
CODE(lazy_code, 16,
     "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n"
     "fninit\n fldpi\n"
     "mov %cr0, %eax\n or $8, %eax\n mov %eax, %cr0\n"
     "fld1\n"
     "fstps 0x9200\n fstpl 0x9208\n"
     "mov $1, %al\n out %al, $0xf4\n 1: jmp 1b\n"
     ".fill 0x100 - (. - lazy_code), 1, 0x90\n"
     "clts\n fnsave 0x9300\n incw 0x9400\n frstor 0x9300\n iret\n");

static void test_lazy(void **state)
{
	struct rig *r = *state;
	u64 raw;
	double pi;

	start(r, lazy_code, lazy_code_end);
	rig_put32(r, 4 * VEC_NM, 0x8100);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(rig_get(r, 0x9400) & 0xffff, 1);
	assert_int_equal(rig_get(r, 0x9200) & 0xffffffff, 0x3f800000);
	raw = rig_get(r, 0x9208);
	memcpy(&pi, &raw, 8);
	assert_true(pi > 3.14159265358979 && pi < 3.14159265358980);
	/* All is popped and back at its initial values but for the pointers. */
	assert_int_equal(r->s.xsave[FX_FTW], 0);
}

/* An unmasked SIMD exception is delivered through the guest's table. */
CODE(xm_code, 16,
     "xor %ax, %ax\n mov %ax, %ds\n mov %ax, %ss\n mov $0x7000, %sp\n"
     "mov %cr4, %eax\n or $0x600, %eax\n mov %eax, %cr4\n"
     "ldmxcsr 0x9100\n"
     "movss 0x9104, %xmm0\n xorps %xmm1, %xmm1\n"
     "divss %xmm1, %xmm0\n"
     "mov $1, %al\n out %al, $0xf4\n 1: jmp 1b\n"
     ".fill 0x100 - (. - xm_code), 1, 0x90\n"
     "stmxcsr 0x9200\n mov $2, %al\n out %al, $0xf4\n 1: jmp 1b\n");

static void test_xm(void **state)
{
	struct rig *r = *state;

	start(r, xm_code, xm_code_end);
	rig_put32(r, 4 * VEC_XM, 0x8100);
	rig_put32(r, 0x9100, MXCSR_MASKS & ~0x200u);
	rig_put32(r, 0x9104, 0x3f800000);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->stop_value, 2);
	assert_int_equal(rig_get(r, 0x9200) & 0xffffffff,
			 (MXCSR_MASKS & ~0x200u) | 4);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(test_leaving),
		T(test_lazy),
		T(test_xm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
