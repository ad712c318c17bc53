/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Clocks and timers against each other: 8254, local APIC timer (one shot,
 * periodic, TSC deadline), ACPI's PM timer, the RTC. Only whether they agree
 * is printed.
 */
#include "lib/guest.h"

#define PM_TIMER 0x608

static volatile unsigned count;

static bool tick(struct frame *f)
{
	(void)f;
	count++;
	APIC(APIC_EOI) = 0;
	return true;
}

static u32 pm_now(void)
{
	return inl(PM_TIMER) & 0xffffff;
}

/* Microseconds by the PM timer; it wraps after 4.6 s. */
static u32 pm_us(u32 from)
{
	return (u32)((u64)((pm_now() - from) & 0xffffff) * 1000000 / 3579545);
}

static void wait_us(u32 us)
{
	u32 from = pm_now();

	while (pm_us(from) < us)
		pause();
}

/* The host may be away at any moment for any time: what then takes too long
 * or comes too early is done again. */
#define TRIES 20

/* measure() finds microseconds. A generous view: the machine may be slow. */
static void about(const char *what, u64 (*measure)(void), u64 want)
{
	u64 got = 0;
	bool good = false;

	for (int i = 0; i < TRIES && !good; i++) {
		got = measure();
		good = got >= want - want / 10 && got <= want * 4 + 300000;
	}
	if (!good)
		print("%lu for %lu\n", got, want);
	check(good, what);
}

static u64 pit_20ms(void)
{
	u32 from = pm_now();
	u16 n = 23864;

	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, (u8)n);
	outb(0x42, (u8)(n >> 8));
	while (!(inb(0x61) & 0x20))
		;
	return pm_us(from);
}

/* Counts of the local APIC's timer each millisecond. */
static u32 apic_rate(void)
{
	u32 used;

	APIC(APIC_TDCR) = 0xb; /* by 1 */
	APIC(APIC_LVTT) = 0x10000;
	APIC(APIC_TMICT) = ~0u;
	wait_us(20000);
	used = ~0u - APIC(APIC_TMCCT);
	APIC(APIC_TMICT) = 0;
	return used / 20;
}

/* What was pending is gone. */
static void quiet(void)
{
	APIC(APIC_TMICT) = 0;
	__asm__ volatile("sti; nop; nop; cli");
	count = 0;
}

static u64 halted_us(unsigned n)
{
	u32 from = pm_now();

	while (count < n)
		__asm__ volatile("sti; hlt; cli" ::: "memory");
	return pm_us(from);
}

static u64 one_shot(void)
{
	u32 rate = apic_rate();

	count = 0;
	APIC(APIC_LVTT) = 0x40;
	APIC(APIC_TMICT) = rate * 10;
	return halted_us(1);
}

static u64 periodic(void)
{
	u32 rate = apic_rate();
	u64 us;

	count = 0;
	APIC(APIC_LVTT) = 0x20040;
	APIC(APIC_TMICT) = rate * 5;
	us = halted_us(6);
	quiet();
	return us;
}

static u64 divided(void)
{
	u32 rate = apic_rate();

	count = 0;
	APIC(APIC_TDCR) = 3; /* by 16 */
	APIC(APIC_LVTT) = 0x40;
	APIC(APIC_TMICT) = rate * 10 / 16;
	return halted_us(1);
}

static bool stopped(void)
{
	u32 rate = apic_rate();

	count = 0;
	APIC(APIC_LVTT) = 0x40;
	APIC(APIC_TMICT) = rate * 5;
	APIC(APIC_TMICT) = 0;
	wait_us(30000);
	__asm__ volatile("sti; nop; cli");
	return !count;
}

static void apic(void)
{
	bool good = false;

	check(apic_rate() > 1000, "the local APIC's timer counts");
	about("one shot", one_shot, 10000);
	check(APIC(APIC_TMCCT) == 0, "one shot has ended");
	about("periodic", periodic, 30000);
	about("divided by 16", divided, 10000);
	for (int i = 0; i < TRIES && !good; i++)
		good = stopped();
	check(good, "stopped");
	quiet();
}

static u64 tsc_per_ms(void)
{
	u64 from = rdtsc();

	wait_us(20000);
	return (rdtsc() - from) / 20;
}

static void deadline(void)
{
	u64 rate = tsc_per_ms(), us;
	u32 r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 24 & 1)) {
		unsure();
		print("no TSC deadline\n");
		return;
	}
	APIC(APIC_LVTT) = 0x40040;
	__asm__ volatile("mfence");
	count = 0;
	wrmsr(0x6e0, rdtsc() + rate * 10);
	unsure();
	print("armed: %d\n", rdmsr(0x6e0) != 0);
	us = halted_us(1);
	unsure();
	print("TSC deadline: %d\n", us > 9000);
	unsure();
	print("disarmed: %d\n", rdmsr(0x6e0) == 0);
	count = 0;
	wrmsr(0x6e0, 1);
	halted_us(1);
	unsure();
	print("in the past: fires\n");
	count = 0;
	wrmsr(0x6e0, rdtsc() + rate);
	wrmsr(0x6e0, 0);
	wait_us(5000);
	__asm__ volatile("sti; nop; cli");
	unsure();
	print("cancelled: %u\n", count);
}

static u8 cmos(u8 reg)
{
	outb(0x70, reg);
	return inb(0x71);
}

static u64 rtc_second(void)
{
	u32 from;
	u64 us = 0;
	u8 s;

	while (cmos(10) & 0x80)
		;
	s = cmos(0);
	while (cmos(0) == s)
		;
	s = cmos(0);
	from = pm_now();
	while (cmos(0) == s)
		us = pm_us(from);
	return us;
}

int main(void)
{
	u64 a, b;

	for (unsigned v = 0x20; v < 256; v++)
		guest_handler[v] = tick;
	APIC(APIC_SVR) = 0x1ff;
	about("8254 and PM timer, 20 ms", pit_20ms, 20000);
	a = rdtsc();
	b = rdtsc();
	check(b > a, "TSC goes up");
	a = tsc_per_ms();
	check(a > 100000 && a < 10000000, "TSC frequency");
	apic();
	deadline();
	about("a second of the RTC", rtc_second, 1000000);
	return 0;
}
