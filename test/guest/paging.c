/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Page tables: sizes, permissions, NX, WP, SMEP, SMAP, accessed and dirty
 * bits, reserved bits, INVLPG, PCID, global pages. The window at WIN has
 * tables of its own; MEM is the memory behind it.
 */
#include "lib/guest.h"

#define WIN 0x4000000000ull /* PML4 entry 0, PDPT entry 256 */
#define MEM 0x1000000ull    /* 16 MiB, 2 MiB aligned; 4 MiB used */

enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
#define NX (1ull << 63)

static u64 wpd[512] __attribute__((aligned(4096)));
static u64 wpt[512] __attribute__((aligned(4096)));
static u32 feature7;

static void flush(void)
{
	write_cr3(read_cr3());
}

static void map4k(unsigned i, u64 flags)
{
	wpt[i] = (MEM + i * 4096ull) | flags;
	invlpg(WIN + i * 4096ull);
}

#define READ(a)  SHOW("mov (%%rdi), %%eax", "D"(a))
#define WRITE(a) SHOW("movl $5, (%%rdi)", "D"(a))
#define EXEC(a)  SHOW("call *%%rdi", "D"(a))

static void code_at(u64 pa)
{
	*(volatile u8 *)pa = 0xc3; /* RET */
}

static void bits(const char *what)
{
	print("%s: pte %lx pde %lx\n", what, wpt[0] & 0xfff, wpd[0] & 0xfff);
}

/* QEMU leaves out the P bit of the error code. */
static void reserved(u64 va)
{
	unsure();
	READ(va);
}

static void basic(void)
{
	map4k(0, P | W);
	READ(WIN + 8);
	bits("read");
	WRITE(WIN + 8);
	bits("written");
	map4k(0, P);
	WRITE(WIN);
	bits("read-only");
	map4k(0, 0);
	READ(WIN + 0xffe); /* crosses into page 1, absent too */
	WRITE(WIN + 4);
	map4k(0, P | W);
	map4k(1, 0);
	WRITE(WIN + 0xffe);
	print("crossing store left %x\n", *(u16 *)(MEM + 0xffe));
	code_at(MEM);
	EXEC(WIN);
	map4k(0, P | W | NX);
	EXEC(WIN);
	READ(WIN);
	map4k(0, P | W | 1ull << 51);
	reserved(WIN);
	map4k(0, P | W);
	wpd[0] &= ~(u64)W;
	flush();
	WRITE(WIN);
	wpd[0] |= W | NX;
	flush();
	EXEC(WIN);
	wpd[0] &= ~NX;
	wpd[0] |= 1ull << 50;
	flush();
	reserved(WIN);
	wpd[0] &= ~(1ull << 50);
	flush();
	READ(WIN);
}

static void write_protect(void)
{
	map4k(0, P);
	write_cr0(read_cr0() & ~0x10000ull);
	WRITE(WIN);
	bits("WP off, written");
	write_cr0(read_cr0() | 0x10000);
	WRITE(WIN);
}

static void stale(void)
{
	*(u32 *)MEM = 0x11;
	*(u32 *)(MEM + 4096) = 0x22;
	map4k(0, P | W);
	print("first %x", *(volatile u32 *)WIN);
	wpt[0] = (MEM + 4096) | P | W;
	invlpg(WIN + 123);
	print(" after invlpg %x", *(volatile u32 *)WIN);
	wpt[0] = MEM | P | W;
	flush();
	print(" after cr3 %x\n", *(volatile u32 *)WIN);
	map4k(0, P | W | G);
	write_cr4(read_cr4() | 0x80);
	print("global %x", *(volatile u32 *)WIN);
	wpt[0] = (MEM + 4096) | P | W | G;
	write_cr4(read_cr4() & ~0x80ull);
	print(" after pge %x\n", *(volatile u32 *)WIN);
	/* More permission needs no flush: the fault must look again. */
	map4k(0, P);
	(void)*(volatile u32 *)WIN;
	wpt[0] |= W;
	*(volatile u32 *)WIN = 1;
	print("upgraded in place: %x\n", (u32)(wpt[0] & 0xfff));
	map4k(0, 0);
	TRY("mov (%%rdi), %%eax", "D"(WIN));
	wpt[0] = MEM | P | W;
	print("present without flush: %x\n", *(volatile u32 *)WIN);
}

static void large(void)
{
	u32 r[4];

	*(u32 *)(MEM + 0x123450) = 0xabcd;
	wpd[1] = MEM | P | W | PS;
	print("2M: %x", *(volatile u32 *)(WIN + 0x323450));
	print(" pde %lx\n", wpd[1] & 0xfff);
	WRITE(WIN + 0x200000);
	print("pde %lx\n", wpd[1] & 0xfff);
	wpd[1] = MEM | P | W | PS | 0x2000; /* reserved bit 13 */
	invlpg(WIN + 0x200000);
	reserved(WIN + 0x200000);
	wpd[1] = MEM | P | PS | NX;
	invlpg(WIN + 0x200000);
	WRITE(WIN + 0x200000);
	EXEC(WIN + 0x200000);
	wpd[1] = 0;
	cpuid(0x80000001, 0, r);
	if (!(r[3] >> 26 & 1)) {
		print("no 1G pages\n");
		return;
	}
	pdpt[257] = P | W | PS;
	print("1G: %x\n", *(volatile u32 *)(WIN + (1 << 30) + MEM + 0x123450));
	print("pdpte %lx\n", pdpt[257] & 0xfff);
	pdpt[257] |= 0x2000;
	flush();
	reserved(WIN + (1 << 30));
	pdpt[257] = 0;
	flush();
}

static void supervisor(void)
{
	pdpt[256] |= U;
	wpd[0] |= U;
	pml4[0] |= U;
	map4k(0, P | W | U);
	code_at(MEM);
	READ(WIN);
	EXEC(WIN);
	if (feature7 >> 7 & 1) {
		write_cr4(read_cr4() | 1 << 20);
		READ(WIN);
		EXEC(WIN);
		write_cr4(read_cr4() & ~(1ull << 20));
	}
	if (feature7 >> 20 & 1) {
		write_cr4(read_cr4() | 1 << 21);
		READ(WIN);
		WRITE(WIN);
		SHOW_AT("stac\n 1: mov (%%rdi), %%eax\n clac", "D"(WIN));
		SHOW("push (%%rdi)", "D"(WIN));
		write_cr4(read_cr4() & ~(1ull << 21));
	}
	READ(WIN);
}

#define USER(name, text)                                      \
	__asm__(".text\nuser_" #name ": " text "\n syscall"); \
	extern const u8 user_##name[];
USER(read, "mov $0x4000000000, %rdi\n mov (%rdi), %eax")
USER(write, "mov $0x4000000000, %rdi\n mov $0xc3c3c3c3, %eax\n"
	    "mov %eax, (%rdi)")
USER(exec, "mov $0x4000000000, %rdi\n call *%rdi")

static void user(const char *name, const void *code)
{
	user_run(code, 0x200, SEL_UCODE);
	if (user_by_syscall)
		print("user %s: done\n", name);
	else
		show(name);
}

static void user_all(void)
{
	user("read", user_read);
	user("write", user_write);
	user("exec", user_exec);
}

static void user_pages(void)
{
	map4k(0, P | W | U);
	code_at(MEM);
	user_all();
	map4k(0, P | U);
	user_all();
	map4k(0, P | W);
	user_all();
	map4k(0, P | W | U | NX);
	user_all();
	map4k(0, 0);
	user_all();
	map4k(0, P | U | 1ull << 51);
	unsure();
	user("read", user_read);
	unsure();
	user("write", user_write);
	/* WP off does not help CPL 3. */
	map4k(0, P | U);
	write_cr0(read_cr0() & ~0x10000ull);
	user("write", user_write);
	write_cr0(read_cr0() | 0x10000);
}

static void pcid(void)
{
	u64 root = read_cr3();
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 17 & 1)) {
		unsure();
		print("no PCID\n");
		return;
	}
	*(u32 *)MEM = 0x11;
	*(u32 *)(MEM + 4096) = 0x22;
	map4k(0, P | W);
	write_cr4(read_cr4() | 1 << 17);
	write_cr3(root | 1);
	unsure();
	print("pcid 1: %x", *(volatile u32 *)WIN);
	write_cr3(root | 2);
	print(" pcid 2: %x", *(volatile u32 *)WIN);
	wpt[0] = (MEM + 4096) | P | W;
	write_cr3(root | 1); /* flushes 1 */
	print(" pcid 1 flushed: %x", *(volatile u32 *)WIN);
	write_cr3(root | 2);
	print(" pcid 2 flushed: %x\n", *(volatile u32 *)WIN);
	unsure();
	print("cr3 %lx\n", read_cr3() & 0xfff);
	unsure();
	SHOW("mov %%rcx, %%cr3", "c"(root | 1ull << 62));
	write_cr3(root | 3 | 1ull << 63);
	unsure();
	print("bit 63 reads %lx\n", read_cr3() >> 63);
	write_cr3(root);
	write_cr4(read_cr4() & ~(1ull << 17));
}

/* String instructions stop at the page that is not there. */
static void strings(void)
{
	map4k(0, P | W);
	map4k(1, 0);
	memset((void *)MEM, 0x5a, 8192);
	TRY("rep stosb", "D"(WIN + 0xff0), "c"(64), "a"(7));
	show("rep stosb");
	print("rcx %lx rdi %lx\n", fault.rcx, fault.rdi);
	TRY("rep movsl", "D"(WIN), "S"(WIN + 0xff8), "c"(16));
	show("rep movsl");
	print("rcx %lx rdi %lx rsi %lx\n", fault.rcx, fault.rdi, fault.rsi);
	TRY_AT("std\n 1: rep movsb\n cld", "D"(WIN + 20), "S"(WIN + 0x1004),
	       "c"(16));
	show("rep movsb backwards");
	__asm__ volatile("cld");
	print("rcx %lx rdi %lx rsi %lx\n", fault.rcx, fault.rdi, fault.rsi);
}

int main(void)
{
	u32 r[4];

	cpuid(7, 0, r);
	feature7 = r[1];
	pdpt[256] = (u64)wpd | P | W;
	wpd[0] = (u64)wpt | P | W;
	basic();
	write_protect();
	stale();
	large();
	strings();
	supervisor();
	user_pages();
	pcid();
	return 0;
}
