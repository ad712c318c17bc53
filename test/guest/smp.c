/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Several processors: INIT and SIPI, IPIs in all destination modes, atomics,
 * TLB shootdown, code changed by another processor, memory order. Prints the
 * same for any number of processors above one.
 */
#include "lib/guest.h"

#define ROUNDS 20000
#define WIN    0x4000000000ull
#define END    0xffffffffu

static unsigned cpus;
static volatile u32 counter, locked, tickets, serving;
static volatile u64 wide[2] __attribute__((aligned(16)));
static volatile u32 got[64];
static volatile u32 shots;
static u32 twice;
static volatile u32 flag, data, seen;
static u64 wpd[512] __attribute__((aligned(4096)));
static u64 wpt[512] __attribute__((aligned(4096)));
static u8 code[4096] __attribute__((aligned(4096)));

/* Handing something to and fro takes a time slice each if the host has fewer
 * CPUs: as many rounds as are done in this time, some in any case. */
#define TO_AND_FRO_TSC 1000000000ull
#define TO_AND_FRO_MIN 20

static bool more(u32 round, u64 since)
{
	return round < TO_AND_FRO_MIN ||
	       (round < ROUNDS / 20 && rdtsc() - since < TO_AND_FRO_TSC);
}

static bool ipi(struct frame *f)
{
	(void)f;
	__atomic_fetch_add(&got[APIC(APIC_ID) >> 24], 1, __ATOMIC_SEQ_CST);
	APIC(APIC_EOI) = 0;
	return true;
}

static void everywhere(void (*fn)(unsigned cpu))
{
	for (unsigned i = 1; i < cpus; i++)
		smp_run(i, fn);
	fn(0);
	for (unsigned i = 1; i < cpus; i++)
		smp_wait(i);
}

static void count_up(unsigned cpu)
{
	(void)cpu;
	for (int i = 0; i < ROUNDS; i++) {
		u64 a, b;
		bool done;

		__asm__ volatile("lock incl %0" : "+m"(counter));
		do {
			a = wide[0];
			b = wide[1];
			__asm__ volatile("lock cmpxchg16b %0\n setz %1"
					 : "+m"(wide[0]), "=q"(done), "+a"(a),
					   "+d"(b)
					 : "b"(a + 1), "c"(b + 2)
					 : "memory");
		} while (!done);
	}
}

static void take_lock(unsigned cpu)
{
	u64 since = rdtsc();

	(void)cpu;
	for (u32 i = 0; more(i, since); i++) {
		u32 mine = __atomic_fetch_add(&tickets, 1, __ATOMIC_SEQ_CST);

		while (serving != mine)
			pause();
		locked++; /* not atomic: the lock protects it */
		__atomic_store_n(&serving, mine + 1, __ATOMIC_RELEASE);
	}
}

static void open_ears(unsigned cpu)
{
	(void)cpu;
	__asm__ volatile("sti");
	while (!flag)
		pause();
	__asm__ volatile("cli");
}

static void icr(u32 high, u32 low)
{
	APIC(APIC_ICR2) = high;
	APIC(APIC_ICR) = low;
	while (APIC(APIC_ICR) & 0x1000)
		;
}

static u32 sum(void)
{
	u32 n = 0;

	for (int i = 0; i < 64; i++)
		n += got[i];
	return n;
}

/*
 * Whether n interrupts arrive. More than that is counted and told at the end:
 * where the local APIC is the host's, it may be the host's fault.
 */
#define PATIENCE_TSC 20000000000ull

static bool arrive(u32 n)
{
	static u32 before;
	u64 since = rdtsc();
	u32 got_now;

	while (sum() - before < n && rdtsc() - since < PATIENCE_TSC)
		pause();
	got_now = sum() - before;
	before += got_now;
	if (got_now > n)
		twice += got_now - n;
	return got_now >= n;
}

static void ipis(void)
{
	flag = 0;
	for (unsigned i = 1; i < cpus; i++)
		smp_run(i, open_ears);
	__asm__ volatile("sti");
	icr(0, 0xc4050); /* all but self */
	check(arrive(cpus - 1), "IPI to all others");
	icr(0, 0x84050); /* all */
	check(arrive(cpus), "IPI to all");
	for (unsigned i = 0; i < cpus; i++)
		icr(i << 24, 0x4050);
	check(arrive(cpus), "IPI by physical id");
	icr(0xff000000, 0x4050);
	check(arrive(cpus), "IPI to physical ff");
	APIC(APIC_DFR) = ~0u;
	APIC(APIC_LDR) = 1 << 24;
	icr(1 << 24, 0x4850);
	check(arrive(1), "IPI by logical id");
	flag = 1;
	__asm__ volatile("cli");
	for (unsigned i = 1; i < cpus; i++)
		smp_wait(i);
}

static void halts(unsigned cpu)
{
	(void)cpu;
	while (!flag)
		__asm__ volatile("sti; hlt; cli");
}

static void wake_up(void)
{
	u32 woken = 0;

	flag = 0;
	for (unsigned i = 1; i < cpus; i++)
		smp_run(i, halts);
	for (u32 round = 1; round <= 50; round++) {
		icr(0, 0xc4050);
		woken += arrive(cpus - 1);
	}
	check(woken == 50, "halted, woken by IPI");
	flag = 1;
	icr(0, 0xc4050);
	for (unsigned i = 1; i < cpus; i++)
		smp_wait(i);
}

static bool shoot(struct frame *f)
{
	(void)f;
	invlpg(WIN);
	shots++;
	APIC(APIC_EOI) = 0;
	return true;
}

static void reader(unsigned cpu)
{
	(void)cpu;
	__asm__ volatile("sti");
	seen = *(volatile u32 *)WIN;
	flag = 2;
	while (flag != 3)
		pause();
	seen = *(volatile u32 *)WIN;
	__asm__ volatile("cli");
}

static void shootdown(void)
{
	u64 since = rdtsc();

	guest_handler[0x51] = shoot;
	*(u32 *)0x1000000 = 0x11;
	*(u32 *)0x1001000 = 0x22;
	wpt[0] = 0x1000003;
	flag = 0;
	smp_run(1, reader);
	while (flag != 2)
		pause();
	check(seen == 0x11, "before the shootdown");
	wpt[0] = 0x1001003;
	icr(1 << 24, 0x4051);
	while (!shots && rdtsc() - since < PATIENCE_TSC)
		pause();
	check(shots, "IPI for the shootdown");
	flag = 3;
	smp_wait(1);
	check(seen == 0x22, "after the shootdown");
}

static void run_code(unsigned cpu)
{
	u32 (*fn)(void) = (void *)code;

	(void)cpu;
	while (fn() == 1) {
		data++;
		pause();
	}
	seen = fn();
}

/* The other processor runs what this one writes, once it certainly has run
 * the old code, translated where that is done, many times. */
static void cross_modify(void)
{
	static const u8 one[] = {0xb8, 1, 0, 0, 0, 0xc3};

	memcpy(code, one, sizeof(one));
	seen = 0;
	data = 0;
	smp_run(1, run_code);
	for (long i = 0; i < 20000000 && data < 10000; i++)
		pause();
	check(data >= 10000, "code run by another processor");
	*(volatile u8 *)(code + 1) = 7;
	smp_wait(1);
	check(seen == 7, "code changed by another processor");
}

static void consumer(unsigned cpu)
{
	(void)cpu;
	for (u32 i = 1;; i++) {
		u32 now;

		while (!(now = __atomic_load_n(&flag, __ATOMIC_ACQUIRE)))
			pause();
		if (now == END)
			return;
		if (now != i || data != i * 3)
			seen++;
		__atomic_store_n(&flag, 0, __ATOMIC_RELEASE);
	}
}

static void order(void)
{
	u64 since = rdtsc();

	flag = 0;
	seen = 0;
	smp_run(1, consumer);
	for (u32 i = 1; more(i, since); i++) {
		data = i * 3;
		__atomic_store_n(&flag, i, __ATOMIC_RELEASE);
		while (flag)
			pause();
	}
	flag = END;
	smp_wait(1);
	check(!seen, "stores in order");
}

int main(void)
{
	guest_handler[0x50] = ipi;
	pdpt[256] = (u64)wpd | 3;
	wpd[0] = (u64)wpt | 3;
	cpus = smp_start();
	if (cpus < 2) {
		print("one processor\n");
		return 1;
	}
	everywhere(count_up);
	check(counter == cpus * ROUNDS, "locked increments");
	check(wide[0] == cpus * ROUNDS && wide[1] == 2 * cpus * ROUNDS,
	      "locked 16-byte exchanges");
	everywhere(take_lock);
	check(locked == tickets && tickets >= cpus * TO_AND_FRO_MIN,
	      "ticket lock");
	ipis();
	wake_up();
	shootdown();
	cross_modify();
	order();
	unsure();
	print("interrupts too many: %u\n", twice + shots - 1);
	return 0;
}
