/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integer instructions where they can go wrong beyond their arithmetic, which
 * is compared with the real CPU elsewhere: precise faults, string
 * instructions in pieces, stack corner cases, atomics, addresses that wrap.
 */
#include "cpu/soft/rig.h"

#include "cpu/soft/flags.h"

#define HOLE 0x3ff000ull /* not mapped */
#define RO   0x3fe000ull /* mapped read-only, before the hole */

static int setup(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 1, 0);
	*rig_pte(r, HOLE) = 0;
	*rig_pte(r, RO) = RO | PTE_P;
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_fini(*state);
	free(*state);
	return 0;
}

static u64 reg(struct rig *r, unsigned n)
{
	return r->v[0]->gpr[n];
}

/* Of the frame that an exception with an error code left */
static u64 frame(struct rig *r, unsigned n)
{
	return *rig_q(r, reg(r, REG_SP) + 8 * n);
}

RIG(load_fault, "mov $1, %eax\n mov $0x3ff010, %ebx\n stc\n"
		"0: add (%rbx), %rax\n mov $2, %eax\n hlt")
static void test_load_fault_is_precise(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, load_fault);
	assert_int_equal(rig_vector(r), VEC_PF);
	assert_int_equal(r->v[0]->cr2, HOLE + 0x10);
	assert_int_equal(frame(r, 0), 0); /* error code */
	assert_int_equal(frame(r, 1), RIG_CODE + 11);
	assert_true(frame(r, 3) & RFLAGS_CF);
	assert_int_equal(reg(r, REG_AX), 1);
	assert_int_equal(r->v[0]->insns, 3 + 1); /* and the handler's HLT */
}

RIG(rmw_fault, "movl $5, %ecx\n mov $0x3fe000, %ebx\n stc\n"
	       "add %ecx, (%rbx)\n hlt")
static void test_rmw_of_read_only(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, rmw_fault);
	assert_int_equal(rig_vector(r), VEC_PF);
	assert_int_equal(frame(r, 0), PF_P | PF_W);
	assert_int_equal(*rig_q(r, RO), 0);
	assert_true(frame(r, 3) & RFLAGS_CF);
}

/* A store across into the hole writes nothing. */
RIG(cross_fault, "mov $0x3fdffc, %ebx\n mov $-1, %rax\n"
		 "mov %rax, (%rbx)\n hlt")
static void test_store_across_faults_whole(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, cross_fault);
	assert_int_equal(rig_vector(r), VEC_PF);
	assert_int_equal(r->v[0]->cr2, RO);
	assert_int_equal(*(u32 *)(r->mem.base + RO - 4), 0);
}

RIG(across, "mov $0x200ffd, %ebx\n mov $0x8877665544332211, %rax\n"
	    "mov %rax, (%rbx)\n mov (%rbx), %rcx\n add %rax, (%rbx)\n"
	    "mov (%rbx), %rdx\n lock incq (%rbx)\n mov (%rbx), %rsi\n hlt")
static void test_access_across_pages(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, across);
	assert_int_equal(reg(r, REG_CX), 0x8877665544332211);
	assert_int_equal(reg(r, REG_DX), 0x10eeccaa88664422);
	assert_int_equal(reg(r, REG_SI), 0x10eeccaa88664423);
}

RIG(push_fault, "mov $0x400000, %esp\n push %rax\n hlt")
static void test_push_fault_keeps_rsp(void **state)
{
	struct rig *r = *state;
	u64 sp, ist = RIG_STACK;

	/* the exception itself needs a stack: IST 1 */
	memcpy(r->mem.base + 0x4000 + 36, &ist, 8);
	r->v[0]->tr = (struct seg_state){
		.base = 0x4000, .limit = 103, .attr = 0x8b, .sel = 24};
	*rig_q(r, RIG_IDT + 16 * VEC_PF) |= 1ull << 32;
	RIG_RUN(r, push_fault);
	assert_int_equal(rig_vector(r), VEC_PF);
	sp = frame(r, 4);
	assert_int_equal(sp, 0x400000);
}

RIG(stack, "mov $0x201000, %esp\n push %rsp\n pop %rax\n"
	   "push $0x202000\n pop %rsp\n mov %rsp, %rbx\n"
	   "push $77\n pop 8(%rsp)\n mov 8(%rsp), %rcx\n mov %rsp, %rdx\n"
	   "push $-5\n pushw $3\n popw %si\n pop %rdi\n hlt")
static void test_stack_corners(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, stack);
	assert_int_equal(reg(r, REG_AX), 0x201000);
	assert_int_equal(reg(r, REG_BX), 0x202000);
	assert_int_equal(reg(r, REG_CX), 77);
	assert_int_equal(reg(r, REG_DX), 0x202000);
	assert_int_equal(reg(r, REG_SI) & 0xffff, 3);
	assert_int_equal(reg(r, REG_DI), (u64)-5);
}

RIG(enter, "mov $0x201000, %esp\n mov $0x201800, %ebp\n"
	   "enter $0x20, $0\n mov %rsp, %rax\n mov %rbp, %rbx\n"
	   "enter $0x10, $2\n mov %rsp, %rcx\n mov %rbp, %rdx\n"
	   "leave\n leave\n hlt")
static void test_enter_leave(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, enter);
	assert_int_equal(reg(r, REG_BX), 0x201000 - 8);
	assert_int_equal(reg(r, REG_AX), 0x201000 - 8 - 0x20);
	assert_int_equal(reg(r, REG_DX), reg(r, REG_AX) - 8);
	assert_int_equal(reg(r, REG_CX), reg(r, REG_DX) - 16 - 0x10);
	assert_int_equal(reg(r, REG_SP), 0x201000);
	assert_int_equal(reg(r, REG_BP), 0x201800);
	assert_int_equal(*rig_q(r, reg(r, REG_DX) - 16), reg(r, REG_DX));
}

RIG(call_ret, "mov $0x201000, %esp\n call 1f\n mov %rax, %rbx\n"
	      "lea 2f(%rip), %rcx\n call *%rcx\n push $0\n push $0\n call 3f\n"
	      "mov %rsp, %rdx\n hlt\n"
	      "1: mov $5, %eax\n ret\n 2: add $1, %rbx\n ret\n 3: ret $16")
static void test_call_ret(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, call_ret);
	assert_int_equal(reg(r, REG_BX), 6);
	assert_int_equal(reg(r, REG_DX), 0x201000);
}

RIG(ret_gp, "mov $0x201000, %esp\n mov $0x800000000000, %rax\n"
	    "push %rax\n ret")
static void test_ret_to_noncanonical(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, ret_gp);
	assert_int_equal(rig_vector(r), VEC_GP);
	assert_int_equal(frame(r, 1), RIG_CODE + 16);
	assert_int_equal(frame(r, 4), 0x201000 - 8); /* RSP */
}

RIG(noncanonical, "mov $0x8000000000000000, %rax\n 0: mov (%rax), %rbx\n hlt")
static void test_noncanonical_data(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, noncanonical);
	assert_int_equal(rig_vector(r), VEC_GP);
	assert_int_equal(frame(r, 1), RIG_CODE + 10);
}

RIG(divide, "mov $1, %edx\n xor %eax, %eax\n mov $1, %ecx\n"
	    "div %ecx\n hlt")
RIG(idivide, "mov $0x80000000, %eax\n cltd\n mov $-1, %ecx\n idiv %ecx\n hlt")
RIG(idivide_ok, "mov $-7, %rax\n cqto\n mov $2, %ecx\n idiv %rcx\n"
		"mov $0x80, %ebx\n hlt")
static void test_divide_errors(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, divide);
	assert_int_equal(rig_vector(r), VEC_DE);
	assert_int_equal(reg(r, REG_DX), 1);
	RIG_RUN(r, idivide);
	assert_int_equal(rig_vector(r), VEC_DE);
	RIG_RUN(r, idivide_ok);
	assert_int_equal(rig_vector(r), -1);
	assert_int_equal(reg(r, REG_AX), (u64)-3);
	assert_int_equal(reg(r, REG_DX), (u64)-1);
}

/* ---- Strings ---- */

static void fill(struct rig *r, gpa_t at, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		r->mem.base[at + k] = (u8)(k * 7 + 3);
}

RIG(movs, "cld\n rep movsb\n hlt")
RIG(movs_down, "std\n rep movsb\n cld\n hlt")
RIG(movsq, "rep movsq\n hlt")
RIG(movsq_down, "std\n rep movsq\n cld\n hlt")

/* Runs a string move and compares memory with one done byte by byte. */
static void copy(struct rig *r, const u8 *code, const u8 *end, u64 src, u64 dst,
		 u64 count, int step)
{
	static u8 want[0x8000];
	unsigned size = (unsigned)abs(step);
	s64 at = 0;

	fill(r, RIG_DATA, sizeof(want));
	memcpy(want, r->mem.base + RIG_DATA, sizeof(want));
	for (u64 n = 0; n < count; n++, at += step)
		memmove(want + (s64)dst + at, want + (s64)src + at, size);
	r->v[0]->gpr[REG_SI] = RIG_DATA + src;
	r->v[0]->gpr[REG_DI] = RIG_DATA + dst;
	r->v[0]->gpr[REG_CX] = count;
	rig_load(r, RIG_CODE, code, end);
	assert_int_equal(rig_run(r, 0, RIG_CODE), VCPU_EXIT_HALTED);
	assert_int_equal(reg(r, REG_CX), 0);
	assert_int_equal(reg(r, REG_SI), RIG_DATA + src + (u64)at);
	assert_int_equal(reg(r, REG_DI), RIG_DATA + dst + (u64)at);
	assert_memory_equal(want, r->mem.base + RIG_DATA, sizeof(want));
}
#define COPY(r, name, ...) copy(r, rig_##name, rig_##name##_end, __VA_ARGS__)

static void test_string_moves(void **state)
{
	struct rig *r = *state;

	COPY(r, movs, 0x10, 0x4010, 0x2345, 1);
	COPY(r, movs, 0x10, 0x11, 0x2345, 1); /* replicates a byte */
	COPY(r, movs, 0x10, 0x17, 0x2345, 1);
	COPY(r, movs, 0xff0, 0x1ff7, 0x1345, 1);
	COPY(r, movs, 0x2000, 0x1fff, 0x1345, 1);
	COPY(r, movs_down, 0x3fff, 0x7ffe, 0x2345, -1);
	COPY(r, movs_down, 0x3fff, 0x3ffd, 0x2345, -1);
	COPY(r, movs_down, 0x3000, 0x3fff, 0x2345, -1);
	COPY(r, movsq, 0x13, 0x4015, 0x345, 8);
	COPY(r, movsq, 0x13, 0x17, 0x345, 8);
	COPY(r, movsq_down, 0x3ff1, 0x7fe0, 0x345, -8);
	COPY(r, movsq_down, 0x3ff1, 0x3fe7, 0x345, -8);
}

/* The fault comes where the hole begins, everything before is done. */
static void test_string_fault(void **state)
{
	struct rig *r = *state;

	fill(r, RO - PAGE_SIZE, 0x1000);
	r->v[0]->gpr[REG_SI] = RIG_DATA;
	r->v[0]->gpr[REG_DI] = RO - 0x123;
	r->v[0]->gpr[REG_CX] = 0x1000;
	fill(r, RIG_DATA, 0x1000);
	RIG_RUN(r, movs);
	assert_int_equal(rig_vector(r), VEC_PF);
	assert_int_equal(r->v[0]->cr2, RO);
	assert_int_equal(frame(r, 1), RIG_CODE + 1);
	assert_int_equal(reg(r, REG_CX), 0x1000 - 0x123);
	assert_int_equal(reg(r, REG_SI), RIG_DATA + 0x123);
	assert_int_equal(reg(r, REG_DI), RO);
	assert_memory_equal(r->mem.base + RIG_DATA, r->mem.base + RO - 0x123,
			    0x123);
}

RIG(scan, "xor %eax, %eax\n mov $-1, %rcx\n repne scasb\n hlt")
RIG(compare, "mov $0x3000, %ecx\n repe cmpsb\n setb %al\n hlt")
static void test_string_compares(void **state)
{
	struct rig *r = *state;

	memset(r->mem.base + RIG_DATA, 'x', 0x8000);
	r->mem.base[RIG_DATA + 0x2345] = 0;
	r->v[0]->gpr[REG_DI] = RIG_DATA + 5;
	RIG_RUN(r, scan);
	assert_int_equal(reg(r, REG_DI), RIG_DATA + 0x2346);
	assert_int_equal(~reg(r, REG_CX), 0x2345 - 5 + 1);
	assert_true(r->v[0]->fl & FL_ZF);

	r->v[0]->gpr[REG_SI] = RIG_DATA + 0x2000;
	r->v[0]->gpr[REG_DI] = RIG_DATA + 0x3003;
	RIG_RUN(r, compare);
	assert_int_equal(reg(r, REG_SI), RIG_DATA + 0x2346);
	assert_int_equal(reg(r, REG_CX), 0x3000 - 0x346);
	assert_int_equal(reg(r, REG_AX) & 0xff, 1);
}

/* 32-bit addresses in 64-bit code wrap at 4 GiB; counts are 32 bits too. */
RIG(wrap, "mov $0xffffffff, %ebx\n mov $0x200011, %edx\n"
	  "movl $0x1234, 0x200010\n mov (%ebx,%edx), %eax\n"
	  "mov $0xf00000003, %rcx\n mov $0x200100, %edi\n"
	  "mov $0xff, %al\n addr32 rep stosb\n hlt")
static void test_address_size(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, wrap);
	assert_int_equal(rig_vector(r), -1);
	assert_int_equal(reg(r, REG_AX), 0x12ff);
	assert_int_equal(reg(r, REG_CX), 0);
	assert_int_equal(reg(r, REG_DI), 0x200103);
	assert_int_equal(*rig_q(r, 0x200100), 0xffffff);
}

RIG(bits, "movq $0, 0x200000\n movq $0, 0x1ffff8\n mov $-3, %rax\n"
	  "bts %rax, 0x200000\n mov $70, %ecx\n bts %ecx, 0x200000\n"
	  "lock btsl $35, 0x200010\n mov 0x1ffff8, %rdx\n mov 0x200008, %rsi\n"
	  "mov 0x200010, %rdi\n bt %rax, 0x200000\n setc %bl\n hlt")
static void test_bit_strings(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, bits);
	assert_int_equal(reg(r, REG_DX), 1ull << 61);
	assert_int_equal(reg(r, REG_SI), 1ull << 6);
	assert_int_equal(reg(r, REG_DI), 1ull << 3);
	assert_int_equal(reg(r, REG_BX) & 0xff, 1);
}

RIG(cx16, "mov $0x200000, %edi\n mov $1, %eax\n mov $2, %edx\n"
	  "mov $3, %ebx\n mov $4, %ecx\n lock cmpxchg16b (%rdi)\n"
	  "mov %rax, %rsi\n lock cmpxchg16b (%rdi)\n setz %bpl\n"
	  "lock cmpxchg16b 8(%rdi)\n hlt")
static void test_cmpxchg16b(void **state)
{
	struct rig *r = *state;

	rig_q(r, RIG_DATA)[0] = 7;
	rig_q(r, RIG_DATA)[1] = 8;
	RIG_RUN(r, cx16);
	assert_int_equal(rig_vector(r), VEC_GP); /* the unaligned one */
	assert_int_equal(reg(r, REG_SI), 7);
	assert_int_equal(reg(r, REG_BP) & 0xff, 1);
	assert_int_equal(rig_q(r, RIG_DATA)[0], 3);
	assert_int_equal(rig_q(r, RIG_DATA)[1], 4);
}

RIG(lock_reg, ".byte 0xf0\n add %eax, %ebx\n hlt")
RIG(ud, "ud2")
static void test_undefined(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, lock_reg);
	assert_int_equal(rig_vector(r), VEC_UD);
	assert_int_equal(*rig_q(r, reg(r, REG_SP)), RIG_CODE);
	RIG_RUN(r, ud);
	assert_int_equal(rig_vector(r), VEC_UD);
}

/* High-byte registers and partial writes keep the rest. */
RIG(partial, "mov $0x1122334455667788, %rax\n mov %rax, %rbx\n"
	     "mov %rax, %rcx\n mov %rax, %rdx\n mov $0xee, %ah\n"
	     "add %ah, %bl\n mov $0x9999, %cx\n mov %edx, %edx\n"
	     "movzbl %ah, %esi\n xchg %ah, %dl\n hlt")
static void test_partial_registers(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, partial);
	assert_int_equal(reg(r, REG_AX), 0x1122334455668888);
	assert_int_equal(reg(r, REG_BX), 0x1122334455667776);
	assert_int_equal(reg(r, REG_CX), 0x1122334455669999);
	assert_int_equal(reg(r, REG_DX), 0x556677ee);
	assert_int_equal(reg(r, REG_SI), 0xee);
}

/* TF: a trap after the instruction that follows POPF. */
RIG(step, "mov $0x201000, %esp\n pushf\n orl $0x100, (%rsp)\n popf\n"
	  "mov $7, %eax\n mov $8, %eax\n hlt")
static void test_single_step(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, step);
	assert_int_equal(rig_vector(r), VEC_DB);
	assert_int_equal(reg(r, REG_AX), 7);
}

RIG(loops, "xor %eax, %eax\n mov $5, %ecx\n 1: inc %eax\n loop 1b\n"
	   "jrcxz 2f\n mov $99, %eax\n 2: mov $9, %ecx\n"
	   "3: inc %eax\n cmp $8, %eax\n loopne 3b\n hlt")
static void test_loops(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, loops);
	assert_int_equal(reg(r, REG_AX), 8);
	assert_int_equal(reg(r, REG_CX), 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_load_fault_is_precise),
		TEST(test_rmw_of_read_only),
		TEST(test_store_across_faults_whole),
		TEST(test_access_across_pages),
		TEST(test_push_fault_keeps_rsp),
		TEST(test_stack_corners),
		TEST(test_enter_leave),
		TEST(test_call_ret),
		TEST(test_ret_to_noncanonical),
		TEST(test_noncanonical_data),
		TEST(test_divide_errors),
		TEST(test_string_moves),
		TEST(test_string_fault),
		TEST(test_string_compares),
		TEST(test_address_size),
		TEST(test_bit_strings),
		TEST(test_cmpxchg16b),
		TEST(test_undefined),
		TEST(test_partial_registers),
		TEST(test_single_step),
		TEST(test_loops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
