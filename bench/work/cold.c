/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Cold code: what an instruction costs that never ran before. A function of
 * COLD_INSNS instructions is copied to many places and each copy is called
 * RUNS times, every call timed. What the calls take beyond a usual early one is
 * what an engine did once: decode, translate.
 */
#define _GNU_SOURCE
#include "work.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define COPIES     64
#define RUNS       192
#define COPY_BYTES 4096
#define EARLY      8 /* calls 1..8 tell what an early call takes */
#define REPEATS    20
#define COLD_INSNS (REPEATS * 12 + 2)

/* u64 cold_code(u64 *data); position-independent, a few basic blocks. */
extern const char cold_code[], cold_end[];
__asm__(".pushsection .rodata\n"
	"cold_code:\n"
	"	xor %eax, %eax\n"
	".rept 20\n"
	"	mov (%rdi), %rdx\n"
	"	lea 8(%rdx,%rax,2), %rcx\n"
	"	add %rcx, %rax\n"
	"	test $1, %dl\n"
	"	jz 1f\n"
	"	xor $0x55, %rax\n"
	"1:	mov %rax, 8(%rdi)\n"
	"	movzbl 9(%rdi), %ecx\n"
	"	shl $3, %rcx\n"
	"	cmp %rcx, %rax\n"
	"	jb 2f\n"
	"	sub %rcx, %rax\n"
	"2:\n"
	".endr\n"
	"	ret\n"
	"cold_end:\n"
	".popsection\n");

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void cold_measure(const struct work *w)
{
	static double sum[RUNS];
	double early[EARLY], once = 0;
	uint64_t data[2] = {4, 0};
	char *code = mmap(NULL, COPIES * COPY_BYTES,
			  PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (code == MAP_FAILED) {
		fail(w->name, "no executable memory");
		return;
	}
	for (unsigned c = 0; c < COPIES; c++) {
		char *f = code + c * COPY_BYTES;

		memcpy(f, cold_code, (size_t)(cold_end - cold_code));
		for (unsigned k = 0; k < RUNS; k++) {
			uint64_t start = now();

			sink += ((uint64_t(*)(uint64_t *))f)(data);
			sum[k] += (double)(now() - start);
		}
	}
	munmap(code, COPIES * COPY_BYTES);
	memcpy(early, sum + 1, sizeof(early));
	qsort(early, EARLY, sizeof(early[0]), ascending);
	for (unsigned k = 0; k < RUNS; k++)
		if (sum[k] > early[EARLY / 2])
			once += sum[k] - early[EARLY / 2];
	report(w->name, once / (COPIES * COLD_INSNS));
}

const struct work cold_works[] = {
	{"cold", "cold", NULL, cold_measure, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
