/* SPDX-License-Identifier: BSD-2-Clause */
/* Port and memory-mapped I/O in all sizes and by all kinds of instructions: on
 * the PCI host bridge's configuration, by ports and by ECAM. */
#include "lib/guest.h"

#define CF8  0xcf8
#define CFC  0xcfc
#define ECAM 0xe0000000ull

static u8 buf[256] __attribute__((aligned(64)));

static void select(unsigned reg)
{
	outl(CF8, 0x80000000u | reg);
}

static void ports(void)
{
	u32 id;

	select(0);
	id = inl(CFC);
	check(inl(CF8) == 0x80000000u, "address register");
	check(inw(CFC) == (u16)id && inw(CFC + 2) == id >> 16, "words");
	check(inb(CFC) == (u8)id && inb(CFC + 1) == (u8)(id >> 8) &&
		      inb(CFC + 2) == (u8)(id >> 16) &&
		      inb(CFC + 3) == id >> 24,
	      "bytes");
	check(id == *(volatile u32 *)ECAM, "the same by ECAM");
	check(inb(0x2f0) == 0xff && inw(0x2f0) == 0xffff &&
		      inl(0x2f0) == 0xffffffff,
	      "nobody's ports read as ones");
}

/* REP INS and OUTS of each size, also backwards. */
static void strings(void)
{
	void *p;
	u64 n;
	u32 id;
	bool same = true;

	select(0);
	id = inl(CFC);
	memset(buf, 0, sizeof(buf));
	p = buf;
	n = 5;
	__asm__ volatile("rep insb" : "+D"(p), "+c"(n) : "d"(CFC) : "memory");
	print("rep insb: left %lu, moved %ld\n", n, (u8 *)p - buf);
	for (int i = 0; i < 5; i++)
		same = same && buf[i] == (u8)id;
	p = buf + 16;
	n = 3;
	__asm__ volatile("rep insw" : "+D"(p), "+c"(n) : "d"(CFC) : "memory");
	for (int i = 0; i < 3; i++)
		same = same && ((u16 *)buf)[8 + i] == (u16)id;
	p = buf + 64 + 12;
	n = 4;
	__asm__ volatile("std; rep insl; cld"
			 : "+D"(p), "+c"(n)
			 : "d"(CFC)
			 : "memory");
	print("rep insl backwards: left %lu, moved %ld\n", n,
	      (u8 *)p - (buf + 64 + 12));
	for (int i = 0; i < 4; i++)
		same = same && ((u32 *)buf)[16 + i] == id;
	check(same, "strings of ports");
	p = "outsb prints\n";
	n = 13;
	__asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(PORT_CONSOLE));
	n = 0;
	__asm__ volatile("rep outsb" : "+S"(p), "+c"(n) : "d"(PORT_CONSOLE));
}

/* Interrupt line of a device's configuration: any byte can be kept there. */
static void memory(void)
{
	volatile u8 *e = (volatile u8 *)ECAM;
	u32 id = *(volatile u32 *)e, v;
	u64 wide, big;
	bool good;

	good = e[0] == (u8)id && e[3] == id >> 24 &&
	       *(volatile u16 *)(e + 2) == id >> 16;
	check(good, "bytes and words");
	wide = *(volatile u64 *)e;
	big = (u64) * (volatile u32 *)(e + 4) << 32 | id;
	check(wide == big, "eight bytes");
	__asm__ volatile("movzbl %1, %0" : "=r"(v) : "m"(e[1]));
	check(v == (u8)(id >> 8), "movzx");
	__asm__ volatile("movswl %1, %0" : "=r"(v) : "m"(*(u16 *)e));
	check(v == (u32)(int16_t)id, "movsx");
	v = 0;
	__asm__ volatile("add %1, %0" : "+r"(v) : "m"(*(u32 *)e));
	check(v == id, "add from memory");
	__asm__ volatile("cmp %1, %2; sete %b0"
			 : "=q"(v)
			 : "m"(*(u32 *)e), "r"(id));
	check((u8)v == 1, "compare");
	__asm__ volatile("testb $0xff, %1; setnz %b0" : "=q"(v) : "m"(e[0]));
	check((u8)v == !!(u8)id, "test");
	e[0x3c] = 0x11;
	__asm__ volatile("orb $0x22, %0" : "+m"(e[0x3c]));
	print("or: %x\n", e[0x3c]);
	v = 0x44;
	__asm__ volatile("xchgb %b0, %1" : "+q"(v), "+m"(e[0x3c]));
	print("exchange: %x, then %x\n", v & 0xff, e[0x3c]);
	e[0x3c] = 0;
}

static void copies(void)
{
	const void *from = (void *)ECAM;
	void *to = buf;
	u64 n = 8;
	bool same = true;

	__asm__ volatile("rep movsl"
			 : "+S"(from), "+D"(to), "+c"(n)
			 :
			 : "memory");
	for (unsigned i = 0; i < 8; i++)
		same = same && ((u32 *)buf)[i] == ((volatile u32 *)ECAM)[i];
	check(same && !n, "rep movs from ECAM");
	n = 4;
	from = buf;
	to = (void *)(ECAM + 0x100); /* nothing there is writable */
	__asm__ volatile("rep movsb"
			 : "+S"(from), "+D"(to), "+c"(n)
			 :
			 : "memory");
	check(!n && (u64)to == ECAM + 0x104, "rep movs to ECAM");
	check(*(volatile u32 *)(0xd0000000ull) == 0xffffffff,
	      "nobody's memory reads as ones");
}

int main(void)
{
	ports();
	strings();
	memory();
	copies();
	return 0;
}
