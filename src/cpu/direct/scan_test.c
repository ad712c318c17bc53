/* SPDX-License-Identifier: BSD-2-Clause */
/* The scanner on pages of generated code: what it must find wherever it stands,
 * what it must not, and what it makes of page borders. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <string.h>

#include "cpu/direct/scan.h"

#define AROUND 128

/* A page with code on both sides. */
struct code {
	u8 bytes[AROUND + PAGE_SIZE + AROUND];
};

struct text {
	const char *name;
	unsigned len;
	u8 bytes[15];
};

#define I(name, ...)                               \
	{                                          \
		name, sizeof((u8[]){__VA_ARGS__}), \
		{                                  \
			__VA_ARGS__                \
		}                                  \
	}

static const struct text sensitive[] = {
	I("cpuid", 0x0f, 0xa2),
	I("rep cpuid", 0xf3, 0x0f, 0xa2),
	I("rdpid rcx", 0xf3, 0x0f, 0xc7, 0xf9),
	I("xgetbv", 0x0f, 0x01, 0xd0),
	I("lsl eax, ecx", 0x0f, 0x03, 0xc1),
	I("lar rax, [rdi]", 0x48, 0x0f, 0x02, 0x07),
	I("verr ax", 0x0f, 0x00, 0xe0),
	I("verw [rsp+8]", 0x0f, 0x00, 0x6c, 0x24, 0x08),
	I("sgdt [rax]", 0x0f, 0x01, 0x00),
	I("sidt [rip+x]", 0x0f, 0x01, 0x0d, 0x44, 0x33, 0x22, 0x11),
	I("smsw eax", 0x0f, 0x01, 0xe0),
	I("xsave [rsp+64]", 0x0f, 0xae, 0x64, 0x24, 0x40),
	I("xsavec64 [rsp]", 0x48, 0x0f, 0xc7, 0x24, 0x24),
	I("xsaveopt [rsp]", 0x0f, 0xae, 0x34, 0x24),
	I("xrstor [r8]", 0x41, 0x0f, 0xae, 0x28),
	I("sysenter", 0x0f, 0x34),
	I("vmcall", 0x0f, 0x01, 0xc1),
	I("vmmcall", 0x0f, 0x01, 0xd9),
	I("lss rsp, [rax]", 0x48, 0x0f, 0xb2, 0x20),
	I("lfs eax, [rcx]", 0x0f, 0xb4, 0x01),
	I("lgs eax, [rcx]", 0x0f, 0xb5, 0x01),
	I("int 4", 0xcd, 0x04),
	I("serialize", 0x0f, 0x01, 0xe8),
	I("rdpkru", 0x0f, 0x01, 0xee),
	I("wrpkru", 0x0f, 0x01, 0xef),
	I("tpause eax", 0x66, 0x0f, 0xae, 0xf0),
	I("umonitor rax", 0xf3, 0x0f, 0xae, 0xf0),
	I("movdiri [rcx], eax", 0x0f, 0x38, 0xf9, 0x01),
	I("gf2p8mulb xmm0, xmm1", 0x66, 0x0f, 0x38, 0xcf, 0xc1),
	I("vaesenc ymm", 0xc4, 0xe2, 0x75, 0xdc, 0xc2),
	I("vpdpbusd ymm", 0xc4, 0xe2, 0x75, 0x50, 0xc2),
	I("vpclmulqdq ymm", 0xc4, 0xe3, 0x75, 0x44, 0xc2, 0x00),
};

/* Harmless ones, many with bytes of sensitive ones inside. */
static const struct text harmless[] = {
	I("mov eax, cpuid", 0xb8, 0x0f, 0xa2, 0x0f, 0x31),
	I("mov rax, [rbp-8]", 0x48, 0x8b, 0x45, 0xf8),
	I("add rsp, rdtscp", 0x48, 0x81, 0xc4, 0x0f, 0x01, 0xf9, 0x00),
	I("mov [rbp+xgetbv], eax", 0x89, 0x85, 0x0f, 0x01, 0xd0, 0x00),
	I("test eax, evex", 0xa9, 0x62, 0xf1, 0x74, 0x48),
	I("vaddps zmm0, zmm1, zmm2", 0x62, 0xf1, 0x74, 0x48, 0x58, 0xc2),
	I("vpternlogd zmm, [rdi+rcx+x], 15", 0x62, 0xf3, 0x75, 0x48, 0x25, 0x84,
	  0x0f, 0x11, 0x22, 0x33, 0x44, 0x0f),
	I("vmovdqu64 zmm0, [rip+x]", 0x62, 0xf1, 0xfe, 0x48, 0x6f, 0x05, 0x0f,
	  0xa2, 0x0f, 0xa2),
	I("vpcmpeqb k0, ymm1, [rdi+8*n]", 0x62, 0xf1, 0x75, 0x28, 0x74, 0x47,
	  0x0f),
	I("kmovw k1, eax", 0xc5, 0xf8, 0x92, 0xc8),
	I("kmovq [rsp+x], k1", 0xc4, 0xe1, 0xf8, 0x91, 0x4c, 0x24, 0x0f),
	I("kshiftrq k1, k2, 15", 0xc4, 0xe3, 0xf9, 0x31, 0xca, 0x0f),
	I("je", 0x0f, 0x84, 0x00, 0x01, 0x00, 0x00),
	I("movzx eax, cl", 0x0f, 0xb6, 0xc1),
	I("mov ecx, ecx", 0x89, 0xc9),
	I("nop [rax]", 0x0f, 0x1f, 0x40, 0x00),
	I("mov eax, ds", 0x8c, 0xd8),
	I("rdtsc", 0x0f, 0x31),
	I("rdtscp", 0x0f, 0x01, 0xf9),
	I("mov ds, eax", 0x8e, 0xd8),
	I("mov gs, [rax]", 0x8e, 0x28),
	I("pop fs", 0x0f, 0xa1),
	I("pop gs", 0x0f, 0xa9),
	I("xbegin", 0xc7, 0xf8, 0x10, 0x00, 0x00, 0x00),
	I("xtest", 0x0f, 0x01, 0xd6),
	I("pushf", 0x9c),
	I("popf", 0x9d),
	I("syscall", 0x0f, 0x05),
	I("int 0x80", 0xcd, 0x80),
	I("int3", 0xcc),
	I("rdfsbase rax", 0xf3, 0x48, 0x0f, 0xae, 0xc0),
	I("wrgsbase rcx", 0xf3, 0x48, 0x0f, 0xae, 0xd9),
	I("mfence", 0x0f, 0xae, 0xf0),
	I("stmxcsr [rsp]", 0x0f, 0xae, 0x1c, 0x24),
	I("fxsave [rsp]", 0x0f, 0xae, 0x04, 0x24),
	I("rdrand eax", 0x0f, 0xc7, 0xf0),
	I("rdseed rax", 0x48, 0x0f, 0xc7, 0xf8),
	I("cmpxchg16b [rdi]", 0x48, 0x0f, 0xc7, 0x0f),
	I("call [rax]", 0xff, 0x10),
	I("jmp rax", 0xff, 0xe0),
	I("mov [rax], 1", 0xc7, 0x00, 0x01, 0x00, 0x00, 0x00),
	I("vaesenc xmm", 0xc4, 0xe2, 0x71, 0xdc, 0xc2),
	I("vpaddd ymm", 0xc5, 0xf5, 0xfe, 0xc2),
	I("shlx eax, ecx, edx", 0xc4, 0xe2, 0x69, 0xf7, 0xc1),
	I("endbr64", 0xf3, 0x0f, 0x1e, 0xfa),
	I("rdsspq rax", 0xf3, 0x48, 0x0f, 0x1e, 0xc8),
	I("sha256rnds2", 0x0f, 0x38, 0xcb, 0xc1),
	I("sldt eax", 0x0f, 0x00, 0xc0),
	I("str r9d", 0x41, 0x0f, 0x00, 0xc9),
	I("call far [rax]", 0xff, 0x18),
	I("jmp far [rip+x]", 0x48, 0xff, 0x2d, 0x10, 0x00, 0x00, 0x00),
	I("lretq", 0x48, 0xcb),
	I("lretq 8", 0x48, 0xca, 0x08, 0x00),
	I("iretq", 0x48, 0xcf),
	I("rdmsr", 0x0f, 0x32),
	I("in eax, dx", 0xed),
	I("invlpg [rax]", 0x0f, 0x01, 0x38),
	I("ud2", 0x0f, 0x0b),
};

static const struct text ordinary[] = {
	I("mov rax, [rbp-8]", 0x48, 0x8b, 0x45, 0xf8),
	I("mov ecx, ecx", 0x89, 0xc9),
	I("lea rdi, [rip+x]", 0x48, 0x8d, 0x3d, 0x34, 0x12, 0x00, 0x00),
	I("call", 0xe8, 0x10, 0xfe, 0xff, 0xff),
	I("test rax, rax", 0x48, 0x85, 0xc0),
	I("je", 0x74, 0x10),
	I("movzx eax, cl", 0x0f, 0xb6, 0xc1),
	I("push rbx", 0x53),
	I("pop r12", 0x41, 0x5c),
	I("add rsp, 24", 0x48, 0x83, 0xc4, 0x18),
	I("mov [rsp+16], esi", 0x89, 0x74, 0x24, 0x10),
	I("movaps xmm0, [rsp]", 0x0f, 0x28, 0x04, 0x24),
	I("xor eax, eax", 0x31, 0xc0),
};

static u64 seed;

static unsigned rnd(unsigned n)
{
	seed = seed * 6364136223846793005ull + 1442695040888963407ull;
	return (unsigned)(seed >> 33) % n;
}

/* Fills bytes [from, to) with harmless instructions, one in sixteen any of them
 * and the others of the ordinary ones, NOPs at the end. */
static void fill(struct code *c, unsigned from, unsigned to)
{
	while (from < to) {
		const struct text *t = &ordinary[rnd(ARRAY_LEN(ordinary))];

		if (!rnd(16))
			t = &harmless[rnd(ARRAY_LEN(harmless))];
		if (from + t->len > to) {
			c->bytes[from++] = 0x90;
			continue;
		}
		memcpy(c->bytes + from, t->bytes, t->len);
		from += t->len;
	}
}

/* Code with t at a place relative to the page, which may be negative. */
static void build(struct code *c, const struct text *t, int at)
{
	unsigned from = (unsigned)(AROUND + at);

	fill(c, 0, from);
	memcpy(c->bytes + from, t->bytes, t->len);
	fill(c, from + t->len, sizeof(c->bytes));
}

static bool clean(const struct code *c, unsigned before, unsigned after)
{
	return direct_scan(c->bytes + AROUND, before, after);
}

static void find_all(void **state)
{
	struct code c;

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(sensitive); k++) {
		const struct text *t = &sensitive[k];

		for (unsigned n = 0; n < 100; n++) {
			int at = (int)rnd(PAGE_SIZE - 16);

			build(&c, t, at);
			if (clean(&c, AROUND, AROUND))
				fail_msg("%s at %#x not found", t->name, at);
		}
	}
}

/* An instruction of which out bytes are on a page and the others on the next:
 * one of the two pages says so, whether they know of each other or not. */
static void find_across(const struct text *t, int out)
{
	struct code ends, begins;

	build(&ends, t, (int)PAGE_SIZE - out);
	build(&begins, t, -out);
	if (clean(&ends, AROUND, AROUND) && clean(&begins, AROUND, AROUND))
		fail_msg("%s with %d bytes before the border", t->name, out);
	if (clean(&ends, AROUND, 0) && clean(&begins, 0, AROUND))
		fail_msg("%s, %d bytes, neighbours not known", t->name, out);
}

static void find_on_borders(void **state)
{
	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(sensitive); k++) {
		for (int out = 1; out < (int)sensitive[k].len; out++)
			find_across(&sensitive[k], out);
	}
}

static void find_at_ends(void **state)
{
	struct code c;

	(void)state;
	for (unsigned k = 0; k < ARRAY_LEN(sensitive); k++) {
		const struct text *t = &sensitive[k];

		build(&c, t, 0);
		assert_false(clean(&c, 0, 0));
		assert_false(clean(&c, AROUND, 0));
		build(&c, t, (int)(PAGE_SIZE - t->len));
		assert_false(clean(&c, 0, 0));
		assert_false(clean(&c, 0, AROUND));
	}
}

static void cpuid_may_fault(void **state)
{
	struct code c;

	(void)state;
	build(&c, &sensitive[0], 0x340);
	assert_false(clean(&c, AROUND, AROUND));
	assert_true(direct_scan_but_cpuid(c.bytes + AROUND, AROUND, AROUND));
	build(&c, &sensitive[2], 0x340);
	assert_false(direct_scan_but_cpuid(c.bytes + AROUND, AROUND, AROUND));
}

/* A function after data that would be an instruction together with it. */
static void find_after_data(void **state)
{
	static const u8 data[] = {0x48, 0xb8, 0xc3}; /* mov rax, imm64 */
	static const struct text cpuid = I("cpuid", 0x0f, 0xa2, 0xc3);
	struct code c;

	(void)state;
	build(&c, &cpuid, 0x400);
	memcpy(c.bytes + AROUND + 0x400 - sizeof(data), data, sizeof(data));
	assert_false(clean(&c, AROUND, AROUND));
}

/* False alarms are rare, although the pages are full of occasions. */
static void pass_harmless(void **state)
{
	struct code c;
	unsigned alarms = 0;

	(void)state;
	for (unsigned n = 0; n < 1000; n++) {
		fill(&c, 0, sizeof(c.bytes));
		alarms += !clean(&c, AROUND, AROUND);
	}
	assert_in_range(alarms, 0, 10);
}

static void report(void **state)
{
	static const struct text cpuid = I("cpuid", 0xf3, 0x0f, 0xa2);
	struct direct_finding f;
	struct code c;

	(void)state;
	memset(&c, 0x90, sizeof(c));
	memcpy(c.bytes + AROUND + 0x123, cpuid.bytes, cpuid.len);
	assert_false(direct_scan_find(c.bytes + AROUND, AROUND, AROUND, &f));
	assert_int_equal(f.at, 0x124);
	assert_ptr_equal(strstr(f.why, "CPUID"), f.why);
}

static int setup(void **state)
{
	(void)state;
	seed = 1;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(find_all, setup),
		cmocka_unit_test_setup(find_on_borders, setup),
		cmocka_unit_test_setup(find_at_ends, setup),
		cmocka_unit_test_setup(cpuid_may_fault, setup),
		cmocka_unit_test_setup(find_after_data, setup),
		cmocka_unit_test_setup(pass_harmless, setup),
		cmocka_unit_test_setup(report, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
