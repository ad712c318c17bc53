/* SPDX-License-Identifier: BSD-2-Clause */
/* 32-bit code in compatibility mode, long enough to be translated: what it
 * computes is what the same in 64-bit code does. */
#include "lib/guest.h"

struct far {
	u32 offset;
	u16 selector;
} __attribute__((packed));

static u32 words[1024];

/* Calls 32-bit code, which gets two numbers in EDI and ESI, gives one in EAX
 * and ends with LRET. */
static u32 call32(const void *fn, u32 a, u32 b)
{
	struct far far = {(u32)(u64)fn, SEL_CODE32};
	u64 out;

	__asm__ volatile("lcall *%1"
			 : "=a"(out)
			 : "m"(far), "D"((u64)a), "S"((u64)b)
			 : "rbx", "rcx", "rdx", "rbp", "r8", "r9", "r10", "r11",
			   "r12", "r13", "r14", "r15", "memory", "cc");
	return (u32)out;
}

/* fib(EDI) by recursion */
extern const char fib32[], mix32[];
__asm__(".code32\n"
	"fib32:	call 1f\n	lret\n"
	"1:	push %ebp\n	mov %esp, %ebp\n	push %ebx\n"
	"	mov %edi, %eax\n	cmp $2, %edi\n	jb 2f\n"
	"	push %edi\n	dec %edi\n	call 1b\n	mov %eax, "
	"%ebx\n"
	"	mov (%esp), %edi\n	sub $2, %edi\n	call 1b\n"
	"	add %ebx, %eax\n	pop %edi\n"
	"2:	mov -4(%ebp), %ebx\n	leave\n	ret\n"
	/* mixes the words at EDI, ESI rounds of them */
	"mix32:	mov $0x12345678, %eax\n"
	"3:	xor %ecx, %ecx\n"
	"4:	mov (%edi,%ecx,4), %edx\n	add %eax, %edx\n"
	"	rol %cl, %edx\n	adc $7, %edx\n	mov %dl, %ah\n"
	"	xor %edx, %eax\n	mov %edx, (%edi,%ecx,4)\n"
	"	inc %ecx\n	test $0x3ff, %ecx\n	jnz 4b\n"
	"	dec %esi\n	jnz 3b\n	lret\n"
	".code64\n");

static u32 fib(u32 n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static u32 mix(u32 *w, u32 rounds)
{
	u32 a = 0x12345678;

	for (; rounds; rounds--)
		for (u32 i = 0; i < 1024; i++) {
			u32 n = i & 31, d = w[i] + a;
			u32 carry = d < a;

			if (n) {
				d = d << n | d >> (32 - n);
				carry = d & 1;
			}
			d += 7 + carry;
			a = (a & 0xffff00ff) | (d & 0xff) << 8;
			a ^= d;
			w[i] = d;
		}
	return a;
}

static void fill(void)
{
	for (u32 i = 0; i < 1024; i++)
		words[i] = i * 0x9e3779b9;
}

static u32 sum(void)
{
	u32 s = 0;

	for (u32 i = 0; i < 1024; i++)
		s = s * 31 + words[i];
	return s;
}

int main(void)
{
	u32 a, b;

	print("fib %u, in 32-bit code %u\n", fib(20), call32(fib32, 20, 0));
	fill();
	a = mix(words, 50);
	b = sum();
	fill();
	print("mix %s, ",
	      a == call32(mix32, (u32)(u64)words, 50) ? "equal" : "differs");
	print("memory %s\n", b == sum() ? "equal" : "differs");
	return 0;
}
