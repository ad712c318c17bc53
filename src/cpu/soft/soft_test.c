/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine as a whole: from real mode to long mode, exceptions,
 * privilege changes, far transfers, IRET forms, single step, halting.
 */
#include "cpu/soft/rig_test.h"

/* ---- Real mode to long mode and back ---- */

CODE(long_way, 16,
     "cli\n"
     "lgdt %cs:gdtr_lw - long_way\n"
     "mov %cr0, %eax\n or $1, %eax\n mov %eax, %cr0\n"
     "ljmpl $0x30, $0x8000 + pm_lw - long_way\n"
     "gdtr_lw: .word 0xfff\n .long 0x1000\n"
     "pm_lw: .code32\n"
     "mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %ss\n mov %eax, %es\n"
     "mov $0x20, %eax\n mov %eax, %cr4\n"
     "mov $0x10000, %eax\n mov %eax, %cr3\n"
     "mov $0xc0000080, %ecx\n rdmsr\n or $0x900, %eax\n wrmsr\n"
     "mov %cr0, %eax\n or $0x80000000, %eax\n mov %eax, %cr0\n"
     "ljmp $0x08, $0x8000 + lm_lw - long_way\n"
     "lm_lw: .code64\n"
     "mov $0x1122334455667788, %rbx\n"
     "mov $0x50000, %esp\n push %rbx\n pop %r9\n"
     "mov $0x2a, %al\n out %al, $0xf4\n 1: jmp 1b\n");

static void test_long_way(void **state)
{
	struct rig *r = *state;

	rig_gdt(r);
	rig_page_tables(r);
	RIG_CODE(r, 0x8000, long_way);
	r->s.seg[SEG_CS].base = 0x8000;
	r->s.seg[SEG_CS].sel = 0x800;
	r->s.rip = 0;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->stop_value, 0x2a);
	assert_int_equal(r->s.gpr[9], 0x1122334455667788);
	assert_int_equal(r->s.efer, EFER_LME | EFER_LMA | EFER_NXE);
	assert_true(r->s.seg[SEG_CS].attr & SEG_ATTR_L);
}

static void test_user_exceptions(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_user(r);
	r->s.rflags |= RFLAGS_IF | RFLAGS_CF;
	BYTES(r, RIG_CODE3, "\x0f\x0b"); /* UD2 */
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_UD);
	assert_int_equal(f.rip, RIG_CODE3);
	assert_int_equal(f.cs, RIG_CS3_64);
	assert_int_equal(f.ss, RIG_DS3);
	assert_int_equal(f.rsp, RIG_STACK3);
	assert_int_equal(f.rflags, 0x10203); /* RF, IF, CF */
	assert_int_equal(f.now_cs, RIG_CS0_64);
	assert_int_equal(f.now_ss, 0);
	assert_int_equal(f.now_rflags & (RFLAGS_IF | RFLAGS_RF), 0);
	assert_int_equal(f.now_rsp, RIG_STACK0 - 7 * 8);

	rig_user(r);
	BYTES(r, RIG_CODE3, "\xf4"); /* HLT */
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0);

	rig_user(r);
	BYTES(r, RIG_CODE3, "\xcd\x20"); /* INT 0x20: gate has DPL 0 */
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0x20 * 8 + 2);

	rig_user(r);
	rig_gate64(r, 0x20, RIG_HANDLER + 16 * 0x20, RIG_CS0_64, 0xee00);
	f = rig_frame(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.rip, RIG_CODE3 + 2);
}

static void test_ist(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_gate64(r, VEC_UD, RIG_HANDLER + 16 * VEC_UD, RIG_CS0_64, 0x8e01);
	r->s.gpr[REG_SP] -= 5; /* not aligned */
	BYTES(r, RIG_CODE0, "\x0f\x0b");
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_UD);
	assert_int_equal(f.rsp, RIG_STACK0 - 0x1000 - 5);
	assert_int_equal(f.now_rsp, RIG_IST1 - 7 * 8);
	assert_int_equal(f.now_ss, RIG_DS0);
	/* without IST the same stack, aligned down */
	rig_gate64(r, VEC_UD, RIG_HANDLER + 16 * VEC_UD, RIG_CS0_64, 0x8e00);
	r->s.rip = RIG_CODE0;
	r->s.gpr[REG_SP] = RIG_STACK0 - 0x1000 - 5;
	f = rig_frame(r);
	assert_int_equal(f.now_rsp, RIG_STACK0 - 0x1010 - 7 * 8);
}

static void test_double_and_triple(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_gate64(r, VEC_GP, 0, RIG_CS0_64, 0x0e00); /* not present */
	BYTES(r, RIG_CODE0, "\xcd\x50"); /* beyond the IDT's 64 gates: absent */
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_DF);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.rip, RIG_CODE0);
	r->s.rip = RIG_CODE0;
	rig_gate64(r, VEC_DF, 0, RIG_CS0_64, 0x0e00);
	assert_int_equal(rig_run(r), VCPU_EXIT_SHUTDOWN);
	assert_non_null(strstr(r->vc->report, "triple fault"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(test_long_way),
		T(test_user_exceptions),
		T(test_ist),
		T(test_double_and_triple),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
