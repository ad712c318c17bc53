/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Writes to memory for ever, by every kind of store, on all processors, at
 * pseudo-random places of a window, some hot and some rarely. Dirty tracking
 * that misses one of them shows in a copy (src/vm/vm_track_test.c).
 */
#include "lib/guest.h"

#define WINDOW 0x1000000ull /* in RAM, mapped one to one */
#define SIZE   0x800000ull
#define ALIAS  0x4000000000ull

static unsigned cpus;
static u64 apt[512] __attribute__((aligned(4096)));
static u64 apd[512] __attribute__((aligned(4096)));

/* The window's first 2 MiB a second time, by small pages. */
static void map_alias(void)
{
	for (unsigned i = 0; i < 512; i++)
		apt[i] = (WINDOW + i * 4096ull) | 3;
	apd[0] = (u64)apt | 3;
	pdpt[ALIAS >> 30 & 511] = (u64)apd | 3;
	write_cr3(read_cr3());
}

static void strings(u8 *p, u64 r)
{
	u64 n = (r >> 40) % 9000;
	void *to = p, *from = (void *)(WINDOW + (r >> 17) % (SIZE / 2));

	if (r & 1)
		__asm__ volatile("rep stosb"
				 : "+D"(to), "+c"(n)
				 : "a"(r)
				 : "memory");
	else
		__asm__ volatile("rep movsb"
				 : "+D"(to), "+S"(from), "+c"(n)
				 :
				 : "memory");
}

static void atomics(u8 *p, u64 r)
{
	u64 *q = (u64 *)((u64)p & ~15ull), a = q[0], d = q[1];

	__asm__ volatile("lock xaddq %1, %0" : "+m"(*q), "+r"(r));
	__asm__ volatile("lock incl 4(%0)" : : "r"(q) : "memory");
	__asm__ volatile("lock cmpxchg16b (%0)"
			 : "+&r"(q), "+a"(a), "+d"(d)
			 : "b"(r), "c"(~r)
			 : "memory");
	__asm__ volatile("xchg %1, 8(%0)" : "+r"(q), "+r"(r) : : "memory");
	__asm__ volatile("lock btsq %1, %0" : "+m"(*q) : "r"(r & 63));
}

static void stacks(u8 *p, u64 r)
{
	__asm__ volatile("mov %%rsp, %%r12\n"
			 "mov %0, %%rsp\n"
			 "push %1\n push %1\n pushw $7\n call 1f\n"
			 "1: enter $16, $0\n"
			 "mov %%r12, %%rsp\n"
			 :
			 : "r"((u64)p & ~7ull), "r"(r)
			 : "r12", "rbp", "memory");
}

static void vectors(u8 *p, u64 r)
{
	__asm__ volatile("movq %1, %%xmm0\n"
			 "punpcklqdq %%xmm0, %%xmm0\n"
			 "movdqu %%xmm0, (%0)\n"
			 "movntdq %%xmm0, 64(%2)\n"
			 "movsd %%xmm0, 5(%0)\n"
			 "fldpi\n fstpl 120(%0)\n"
			 "fxsave 256(%2)\n"
			 :
			 : "r"(p), "r"(r), "r"((u64)p & ~63ull)
			 : "memory");
}

static void plain(u8 *p, u64 r)
{
	*(volatile u64 *)p = r; /* may cross a page */
	*(volatile u8 *)(p + 100) = (u8)r;
	*(volatile u16 *)(p + 4095) += 3;
	*(volatile u32 *)(p + 200) ^= (u32)r;
}

static void (*const kinds[])(u8 *p, u64 r) = {plain, atomics, strings, stacks,
					      vectors};

static void write_for_ever(unsigned cpu)
{
	u64 r = 88172645463325252ull + cpu * 77777ull;
	u64 own = SIZE / 8 * (cpu % 4) + 0x10000;

	for (u64 n = 0;; n++) {
		u64 at;

		r ^= r << 13;
		r ^= r >> 7;
		r ^= r << 17;
		/* mostly a hot part, at times anywhere in the lower half */
		at = r >> 20;
		at = n % 16 ? own + at % 0x40000 : 0x10000 + at % (SIZE / 2);
		if (r & 0x400 && at < 0x1f0000)
			at += ALIAS;
		else
			at += WINDOW;
		kinds[r % ARRAY_LEN(kinds)]((u8 *)at, r);
		if (n % 64 == 0)
			invlpg(at);
		if (n % 1024 == 0)
			write_cr3(read_cr3());
	}
}

int main(void)
{
	map_alias();
	cpus = smp_start();
	for (unsigned i = 1; i < cpus; i++)
		smp_run(i, write_for_ever);
	write_for_ever(0);
	return 0;
}
