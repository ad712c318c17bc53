/* SPDX-License-Identifier: BSD-2-Clause */
/* The state in which a program finds itself, and that memory is there. */
#include "lib/guest.h"

struct start_info {
	u32 magic, version, flags, modules;
	u64 modlist, cmdline, rsdp;
};

int main(void)
{
	const struct start_info *s = (void *)(u64)boot_info;
	volatile u64 *p = (u64 *)0x400000;
	u32 r[4];

	check(s->magic == 0x336ec578, "PVH magic");
	/* MCE is left out: in QEMU's AMD-V it is the host's. */
	print("cr0 %lx cr4 %lx efer %lx\n", read_cr0(), read_cr4() & ~0x40ul,
	      rdmsr(0xc0000080));
	for (int i = 0; i < 512; i++)
		p[i * 512] = (u64)&p[i * 512];
	for (int i = 0; i < 512; i++)
		if (p[i * 512] != (u64)&p[i * 512])
			check(false, "memory");
	cpuid(0x80000001, 0, r);
	check(r[3] >> 29 & 1, "long mode in CPUID");
	cpuid(1, 0, r);
	check(r[3] & 1 << 25, "SSE in CPUID");
	return 0;
}
