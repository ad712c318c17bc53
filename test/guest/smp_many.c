/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * All processors that the board says it has are started and do something.
 * Little enough for 64 of them on one host CPU.
 */
#include "lib/guest.h"

static u32 sum;

static void add(unsigned cpu)
{
	__atomic_fetch_add(&sum, cpu, __ATOMIC_SEQ_CST);
}

/* The ACPI table of this name, by the RSDP that the boot loader gave. */
static const u8 *table(const char *name)
{
	const u8 *rsdp = *(const u8 **)((u64)boot_info + 32);
	bool x = rsdp[15] >= 2;
	const u8 *root =
		(const u8 *)(x ? *(u64 *)(rsdp + 24) : *(u32 *)(rsdp + 16));
	u32 len = *(u32 *)(root + 4);

	for (u32 i = 36; i < len; i += x ? 8 : 4) {
		const u8 *t = (const u8 *)(x ? *(u64 *)(root + i)
					     : *(u32 *)(root + i));

		if (!memcmp(t, name, 4))
			return t;
	}
	print("no table %s\n", name);
	finish(1);
}

/* Local APICs that are enabled (ACPI 6.5, 5.2.12.2). */
static unsigned expected(void)
{
	const u8 *madt = table("APIC");
	u32 len = *(u32 *)(madt + 4);
	unsigned n = 0;

	for (u32 i = 44; i < len; i += madt[i + 1])
		n += madt[i] == 0 && madt[i + 4] & 1;
	return n;
}

int main(void)
{
	unsigned cpus = smp_start();

	check(cpus == expected(), "all processors run");
	for (unsigned i = 1; i < cpus; i++)
		smp_run(i, add);
	for (unsigned i = 1; i < cpus; i++)
		smp_wait(i);
	check(sum == cpus * (cpus - 1) / 2, "each works once");
	return 0;
}
