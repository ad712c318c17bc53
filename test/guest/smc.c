/* SPDX-License-Identifier: BSD-2-Clause */
/* Code that changes: in its own page, ahead in the same block, under a second
 * mapping, by string instructions, across a page boundary. */
#include "lib/guest.h"

#define WIN 0x4000000000ull

static u8 code[8192] __attribute__((aligned(4096)));
static u64 wpd[512] __attribute__((aligned(4096)));
static u64 wpt[512] __attribute__((aligned(4096)));

/* mov $n, %eax; ret */
static void put(u8 *at, u32 n)
{
	static const u8 tail = 0xc3;

	at[0] = 0xb8;
	memcpy(at + 1, &n, 4);
	at[5] = tail;
}

static u32 call(const u8 *at)
{
	u32 (*fn)(void) = (void *)at;

	return fn();
}

static void again(void)
{
	u32 sum = 0;

	for (u32 i = 1; i <= 100; i++) {
		put(code, i);
		sum += call(code);
	}
	print("rewritten a hundred times: %u\n", sum);
}

/* The store changes the next instruction but one. */
static void ahead(void)
{
	u32 got;

	for (int i = 0; i < 3; i++) {
		__asm__ volatile("movb $1, 1f + 1(%%rip)\n"
				 "movb $9, 1f + 1(%%rip)\n"
				 "nop\n nop\n"
				 "1: mov $1, %%eax\n"
				 : "=a"(got)
				 :
				 : "memory");
		print("ahead: %u\n", got);
	}
}

static void aliased(void)
{
	u8 *window = (u8 *)WIN;

	pdpt[256] = (u64)wpd | 3;
	wpd[0] = (u64)wpt | 3;
	wpt[0] = (u64)code | 3;
	put(code, 5);
	print("alias: %u", call(window));
	put(window, 6);
	print(" %u", call(code));
	put(code, 7);
	print(" %u\n", call(window));
	/* another page behind the same address */
	put(code + 4096, 8);
	wpt[0] = (u64)(code + 4096) | 3;
	invlpg(WIN);
	print("remapped: %u\n", call(window));
}

static void by_string(void)
{
	static u8 from[2][6];

	put(from[0], 11);
	put(from[1], 22);
	for (int i = 0; i < 4; i++) {
		u8 *to = code;
		const u8 *what = from[i & 1];
		u64 n = 6;

		__asm__ volatile("rep movsb"
				 : "+D"(to), "+S"(what), "+c"(n)
				 :
				 : "memory");
		print("copied: %u\n", call(code));
	}
}

static void across(void)
{
	u8 *at = code + 4096 - 3;

	put(at, 0x01020304);
	print("across: %x", call(at));
	at[4] = 0x99; /* in the second page */
	print(" %x", call(at));
	at[1] = 0x77; /* in the first */
	print(" %x\n", call(at));
}

static void by_atomic(void)
{
	put(code, 1);
	call(code);
	__asm__ volatile("lock xaddl %1, %0"
			 : "+m"(*(u32 *)(code + 1))
			 : "r"(41)
			 : "memory");
	print("atomic: %u\n", call(code));
	__asm__ volatile("movq %1, %%xmm0\n movq %%xmm0, %0"
			 : "=m"(*(u64 *)code)
			 : "r"(0xc3000000 * 0x10000ull | 0x7b8)
			 : "memory");
	print("by SSE: %u\n", call(code));
}

int main(void)
{
	again();
	ahead();
	aliased();
	by_string();
	across();
	by_atomic();
	return 0;
}
