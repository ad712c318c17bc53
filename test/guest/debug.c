/* SPDX-License-Identifier: BSD-2-Clause */
/* Debug registers and single step: DR6, which RIP, RF, MOV SS shadow. */
#include "lib/guest.h"

static volatile u64 watched[4] __attribute__((aligned(64)));
static unsigned count;
static u64 dr6s[32];

#define DR_FUNCS(n)                                               \
	static inline u64 read_dr##n(void)                        \
	{                                                         \
		u64 v;                                            \
                                                                  \
		__asm__ volatile("mov %%dr" #n ", %0" : "=r"(v)); \
		return v;                                         \
	}                                                         \
	static void write_dr##n(u64 v)                            \
	{                                                         \
		__asm__ volatile("mov %0, %%dr" #n : : "r"(v));   \
	}
DR_FUNCS(0)
DR_FUNCS(6)
DR_FUNCS(7)

static bool debug(struct frame *f)
{
	if (count < 32)
		dr6s[count] = read_dr6() & 0xe00f;
	count++;
	write_dr6(0xffff0ff0);
	if (f->rflags & 0x100 && count >= 3)
		f->rflags &= ~0x100ull;
	else if (!(f->rflags & 0x100))
		f->rflags |= 0x10000; /* RF */
	return true;
}

static void told(const char *what)
{
	print("%s: %u", what, count);
	for (unsigned i = 0; i < count && i < 32; i++)
		print(" %lx", dr6s[i]);
	print("\n");
	count = 0;
}

static void watch(u64 address, unsigned rw, unsigned len)
{
	write_dr0(address);
	write_dr7(0x402 | rw << 16 | len << 18);
}

int main(void)
{
	guest_handler[1] = debug;
	print("dr6 %lx dr7 %lx\n", read_dr6(), read_dr7());
	watch((u64)&watched[0], 1, 3); /* writes, 4 bytes */
	*(volatile u32 *)&watched[0] = 1;
	told("write");
	(void)watched[0];
	told("read of a write watch");
	*(volatile u8 *)((u64)&watched[0] + 3) = 1;
	told("last byte");
	*(volatile u8 *)((u64)&watched[0] + 4) = 1;
	told("next byte");
	watch((u64)&watched[0], 3, 2); /* reads and writes, 8 bytes */
	(void)watched[0];
	watched[0] = 2;
	told("read and write, 8 bytes");
	write_dr7(0x400);
	watched[0] = 3;
	told("off");
	__asm__ volatile("lea 1f(%%rip), %%rax\n mov %%rax, %%dr0\n"
			 "mov $0x402, %%eax\n mov %%rax, %%dr7\n"
			 "nop\n 1: nop\n nop"
			 :
			 :
			 : "rax", "memory");
	told("execution");
	write_dr7(0x400);
	/* ends at the third step, by the handler */
	__asm__ volatile("pushfq\n orl $0x100, (%%rsp)\n popfq\n"
			 "nop\n nop\n nop\n nop" ::
				 : "memory", "cc");
	told("steps");
	SHOW("mov %%rcx, %%dr6", "c"(1ull << 32));
	write_cr4(read_cr4() | 8); /* DE */
	SHOW("mov %%dr4, %%rcx", "c"(0));
	write_cr4(read_cr4() & ~8ull);
	SHOW("mov %%dr4, %%rcx", "c"(0));
	guest_handler[1] = 0;
	write_dr7(0x2400); /* GD */
	SHOW("mov %%dr0, %%rcx", "c"(0));
	print("dr6 %lx dr7 %lx\n", read_dr6() & 0xe00f, read_dr7());
	return 0;
}
