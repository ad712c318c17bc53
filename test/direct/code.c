/* SPDX-License-Identifier: BSD-2-Clause */
/* Code that changes: in place, by flips of protection, through other mappings,
 * by other processes. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"

typedef u32 answer_fn(void);

/* mov eax, n; ret */
static void make(u8 *at, u32 n)
{
	at[0] = 0xb8;
	memcpy(at + 1, &n, 4);
	at[5] = 0xc3;
}

static u32 answer(const u8 *at)
{
	return ((answer_fn *)(uintptr_t)at)();
}

/* Written and run in one page, at several places of it. */
static void run_modify(void)
{
	u8 *p = pages(NULL, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	u64 sum = 0;

	warm();
	for (u32 k = 0; k < 1000; k++) {
		u8 *at = p + k % 7 * 600 + (k % 2 ? PAGE - 3 : 0);

		make(at, k);
		check(answer(at) == k, "modified code runs");
		sum = sum * 31 + answer(at);
	}
	say("%#lx", sum);
}

/* A loop that writes the instruction that comes next. */
static void run_self(void)
{
	static const u8 loop[] = {
		0x31, 0xc9,                /* xor ecx, ecx */
		0x31, 0xc0,                /* xor eax, eax */
		0xff, 0xc1,                /* 4: inc ecx */
		0x88, 0x0d, 1,    0, 0, 0, /* mov [rip+1], cl */
		0x05, 0,    0,    0, 0,    /* add eax, imm32 */
		0x81, 0xf9, 0xc8, 0, 0, 0, /* cmp ecx, 200 */
		0x75, 0xeb,                /* jne 4 */
		0xc3,
	};
	u8 *p = pages(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);

	warm();
	memcpy(p + 100, loop, sizeof(loop));
	say("%u", answer(p + 100));
	say("%u", answer(p + 100));
}

/* As a JIT with W^X. */
static void run_flip(void)
{
	u8 *p = pages(NULL, 4 * PAGE, PROT_READ | PROT_WRITE);
	struct caught c;

	warm();
	for (u32 k = 0; k < 300; k++) {
		u8 *at = p + k % 4 * PAGE + k;

		mprotect(p, 4 * PAGE, PROT_READ | PROT_WRITE);
		make(at, k * 3);
		if (k % 50 == 0) {
			catch (&c, at, 0, 0);
			say("not executable: %d %lu", c.signo, c.error);
		}
		mprotect(p, 4 * PAGE, PROT_READ | PROT_EXEC);
		check(answer(at) == k * 3, "flipped code runs");
	}
}

/* Written in one mapping, run in another. */
static void run_alias(void)
{
	int fd = memfd_create("code", 0);
	u8 *w, *x;
	u64 sum = 0;

	check(!ftruncate(fd, 2 * PAGE), "a memfd");
	w = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	x = mmap(NULL, 2 * PAGE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	warm();
	for (u32 k = 0; k < 1000; k++) {
		u32 at = k % 11 * 300;

		make(w + at, k ^ 0x5555);
		check(answer(x + at) == (k ^ 0x5555), "aliased code runs");
		sum = sum * 31 + answer(x + at);
	}
	say("%#lx", sum);
}

/* Another process writes the code that this one runs. */
static void run_other(void)
{
	u8 *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	volatile u32 *turn = (volatile u32 *)(p + 2048);
	int status;

	make(p, 0);
	if (!fork()) {
		warm();
		for (u32 k = 1; k <= 200; k++) {
			while (*turn != 2 * k - 1)
				__asm__ volatile("pause");
			make(p, k);
			*turn = 2 * k;
		}
		_exit(0);
	}
	warm();
	for (u32 k = 1; k <= 200; k++) {
		check(answer(p) == k - 1, "the code before");
		*turn = 2 * k - 1;
		while (*turn != 2 * k)
			__asm__ volatile("pause");
		check(answer(p) == k, "the other process's code");
	}
	wait(&status);
	say("%u", answer(p));
}

/* A sensitive instruction appears in code that ran without it, and goes. */
static void run_appear(void)
{
	static const u8 cpuid[] = {0x53, 0x31, 0xc0, 0x0f, 0xa2,
				   0x89, 0xd8, 0x5b, 0xc3};
	u8 *p = pages(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);

	warm();
	for (u32 k = 0; k < 50; k++) {
		make(p + 64, k);
		check(answer(p + 64) == k, "plain code");
		memcpy(p + 64, cpuid, sizeof(cpuid));
		if (k % 25 == 0)
			say("%#x", answer(p + 64));
	}
}

/* Instructions across pages, the second of which changes. */
static void run_across(void)
{
	u8 *p = pages(NULL, 3 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	u64 sum = 0;

	warm();
	for (u32 k = 0; k < 300; k++) {
		u8 *at = p + PAGE - 1 - k % 5;

		make(at, k * 0x01010101);
		if (k % 3 == 0)
			mprotect(p, PAGE, PROT_READ | PROT_EXEC);
		sum = sum * 31 + answer(at);
		mprotect(p, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC);
	}
	say("%#lx", sum);
}

const struct test_case code_cases[] = {
	{"modify", run_modify}, {"self", run_self},
	{"flip", run_flip},     {"alias", run_alias},
	{"other", run_other},   {"appear", run_appear},
	{"across", run_across}, {0},
};
