/* SPDX-License-Identifier: BSD-2-Clause */
/* x87, SSE and AVX state: initial values, kept over exits, saved and loaded by
 * FXSAVE and XSAVE, their faults. */
#include "lib/guest.h"

#define CR0_EM    0x4ull
#define CR0_TS    0x8ull
#define CR0_NE    0x20ull
#define CR4_SSE   0x600ull /* OSFXSR, OSXMMEXCPT */
#define CR4_XSAVE 0x40000ull

static u8 area[4096] __attribute__((aligned(64)));
static u8 other[4096] __attribute__((aligned(64)));

static u32 word(const u8 *p, unsigned at)
{
	u32 v;

	memcpy(&v, p + at, 4);
	return v;
}

static void set_cr0(u64 set, u64 clear)
{
	u64 v;

	__asm__ volatile("mov %%cr0, %0" : "=r"(v));
	v = (v | set) & ~clear;
	__asm__ volatile("mov %0, %%cr0" : : "r"(v));
}

static void set_cr4(u64 set)
{
	u64 v;

	__asm__ volatile("mov %%cr4, %0" : "=r"(v));
	v |= set;
	__asm__ volatile("mov %0, %%cr4" : : "r"(v));
}

static void initial(void)
{
	u32 mxcsr = 0x1f80;

	__asm__ volatile("fninit; ldmxcsr %1; fxsave64 %0"
			 : "=m"(area)
			 : "m"(mxcsr));
	print("fcw %x fsw %x tags %x mxcsr %x\n", word(area, 0) & 0xffff,
	      word(area, 0) >> 16, area[4], word(area, 24));
	__asm__ volatile("fld1; fldpi; fxsave64 %0; fninit" : "=m"(area));
	print("two values: fsw %x tags %x pi %x %x %x\n", word(area, 0) >> 16,
	      area[4], word(area, 32), word(area, 36), word(area, 40) & 0xffff);
}

/* Registers hold while the guest is left and entered. */
static void over_exits(void)
{
	bool same = true;

	for (unsigned i = 0; i < 256; i++)
		area[160 + i] = (u8)(i * 7 + 1);
	__asm__ volatile("fxrstor64 %0" : : "m"(area));
	for (int i = 0; i < 200; i++) {
		inb(0x61);
		outb(0x80, 0);
		(void)APIC(APIC_ID);
	}
	__asm__ volatile("fxsave64 %0" : "=m"(other));
	for (unsigned i = 0; i < 256; i++)
		same = same && other[160 + i] == area[160 + i];
	check(same, "16 XMM registers over exits");
}

static void faults(void)
{
	u16 fcw = 0x37b; /* division by zero not masked */

	set_cr0(CR0_TS, 0);
	SHOW("fld1");
	SHOW("xorps %%xmm0, %%xmm0");
	__asm__ volatile("clts");
	set_cr0(CR0_EM, 0);
	SHOW("fld1");
	SHOW("xorps %%xmm0, %%xmm0");
	set_cr0(CR0_NE, CR0_EM);
	__asm__ volatile("fninit; fldcw %0; fld1; fldz; fdivrp" : : "m"(fcw));
	SHOW("fwait");
	__asm__ volatile("fnclex; fninit");
	SHOW("fxsave64 area + 8");
	TRY("ldmxcsr %0", "m"((u32){0x10000}));
	unsure();
	show("reserved bit of MXCSR");
}

static bool xsave_works(void)
{
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 26 & 1))
		return false;
	SHOW("xgetbv", "c"(0));
	set_cr4(CR4_XSAVE);
	return true;
}

static void xsave(void)
{
	u32 lo = 0, hi = 0;

	SHOW("xsetbv", "a"(2), "d"(0), "c"(0)); /* SSE without x87 */
	SHOW("xsetbv", "a"(5), "d"(0), "c"(0)); /* AVX without SSE */
	SHOW("xsetbv", "a"(3), "d"(0), "c"(1)); /* no such register */
	SHOW("xsetbv", "a"(3), "d"(0), "c"(0));
	__asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
	print("xcr0 %x %x\n", hi, lo);
	memset(area, 0, sizeof(area));
	__asm__ volatile("fninit; fld1; pcmpeqd %%xmm3, %%xmm3; xsave64 %0"
			 : "+m"(area)
			 : "a"(~0u), "d"(~0u));
	print("saved %x: st0 %x xmm3 %x\n", word(area, 512) & 3,
	      word(area, 40) & 0xffff, word(area, 160 + 48));
	/* A component that the header does not name is initialized. */
	memset(area + 512, 0, 64);
	area[512] = 1;
	__asm__ volatile("xrstor64 %1; movd %%xmm3, %0"
			 : "=r"(lo)
			 : "m"(area), "a"(3), "d"(0));
	print("xmm3 initialized: %x\n", lo);
	area[512 + 8 + 7] = 1; /* XCOMP_BV reserved */
	SHOW("xrstor64 area", "a"(3), "d"(0));
	area[512 + 8 + 7] = 0;
	SHOW("xsave64 area + 8", "a"(3), "d"(0));
}

static void avx(void)
{
	bool same = true;
	u32 r[4];

	cpuid(0xd, 0, r);
	if (!(r[0] & 4)) {
		unsure();
		print("no AVX\n");
		return;
	}
	__asm__ volatile("xsetbv" : : "a"(7), "d"(0), "c"(0));
	memset(area, 0, sizeof(area));
	area[512] = 7;
	area[24] = 0x80;
	area[25] = 0x1f;
	for (unsigned i = 0; i < 256; i++)
		area[576 + i] = (u8)(i * 5 + 3);
	__asm__ volatile("xrstor64 %0" : : "m"(area), "a"(7), "d"(0));
	for (int i = 0; i < 200; i++)
		inb(0x61);
	memset(other, 0, sizeof(other));
	__asm__ volatile("xsave64 %0" : "+m"(other) : "a"(7), "d"(0));
	for (unsigned i = 0; i < 256; i++)
		same = same && other[576 + i] == area[576 + i];
	unsure();
	print("upper halves of 16 YMM registers over exits: %d\n", same);
}

int main(void)
{
	set_cr4(CR4_SSE);
	set_cr0(2, CR0_EM | CR0_TS); /* MP */
	initial();
	over_exits();
	faults();
	if (!xsave_works()) {
		print("no XSAVE\n");
		return 1;
	}
	xsave();
	avx();
	return 0;
}
