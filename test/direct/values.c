/* SPDX-License-Identifier: BSD-2-Clause */
/* What instructions tell of the machine. */
#define _GNU_SOURCE
#include <cpuid.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"

static void run_cpuid(void)
{
	static const u32 leaves[] = {
		0,    1,          4,          7,          0xb,       0xd,
		0x15, 0x40000000, 0x40000001, 0x80000001, 0x80000008};

	warm();
	for (unsigned k = 0; k < ARRAY_LEN(leaves); k++) {
		u32 a, b, c, d;

		__cpuid_count(leaves[k], 0, a, b, c, d);
		if (leaves[k] == 0xb || leaves[k] == 1)
			b &= 0xffff, d = leaves[k] == 1 ? d : 0; /* APIC id */
		say("%#x: %#x %#x %#x %#x", leaves[k], a, b, c, d);
	}
}

static void run_tables(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} gdt = {0, 0}, idt = {0, 0};
	u64 sel, msw, lar = 0, verr = 0, xcr0_low, high;
	u16 seg[6];

	warm();
	__asm__ volatile("sgdt %0" : "=m"(gdt));
	__asm__ volatile("sidt %0" : "=m"(idt));
	say("SGDT %#x %#lx SIDT %#x %#lx", gdt.limit, gdt.base, idt.limit,
	    idt.base);
	__asm__ volatile("smsw %0" : "=r"(msw));
	say("SMSW %#lx", msw);
	__asm__ volatile("sldt %k0" : "=r"(sel));
	say("SLDT %#x", (u32)sel);
	__asm__ volatile("str %k0" : "=r"(sel));
	say("STR %#x", (u32)sel);
	for (u32 s = 0; s < 0x90; s += 8) {
		u32 limit = 0;

		__asm__ volatile("lar %2, %0; sete %b1"
				 : "+r"(lar), "+q"(verr)
				 : "r"((u64)s | 3));
		say("LAR %#x: %lu %#lx", s, verr & 1, verr & 1 ? lar : 0);
		__asm__ volatile("verr %w1; sete %b0"
				 : "+q"(verr)
				 : "r"(s | 3));
		__asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"(s | 3));
		if (s != 0x78)
			say("VERR %lu LSL %#x", verr & 1, limit);
	}
	__asm__ volatile("xgetbv" : "=a"(xcr0_low), "=d"(high) : "c"(0));
	say("XGETBV %#lx", xcr0_low);
	__asm__ volatile("mov %%cs, %0; mov %%ss, %1; mov %%ds, %2"
			 : "=r"(seg[0]), "=r"(seg[1]), "=r"(seg[2]));
	__asm__ volatile("mov %%es, %0; mov %%fs, %1; mov %%gs, %2"
			 : "=r"(seg[3]), "=r"(seg[4]), "=r"(seg[5]));
	say("selectors %#x %#x %#x %#x %#x %#x", seg[0], seg[1], seg[2], seg[3],
	    seg[4], seg[5]);
}

/* Segment registers that are loaded stay so. */
static void run_selectors(void)
{
	u16 es = 0x2b, got = 0, ds;

	warm();
	__asm__ volatile("mov %0, %%es; mov %0, %%ds" ::"r"(es));
	warm();
	for (unsigned k = 0; k < 20; k++) {
		sched_yield();
		__asm__ volatile("mov %%es, %0; mov %%ds, %1"
				 : "=r"(got), "=r"(ds));
		check(got == 0x2b && ds == 0x2b, "selectors stay");
	}
	__asm__ volatile("mov %0, %%es; mov %0, %%ds" ::"r"(0));
	__asm__ volatile("push %0; popq %%gs; mov %%gs, %1"
			 : "=m"(es), "=r"(got));
	say("%#x", got);
}

static unsigned lsl_cpu(void)
{
	u32 limit = 0;

	__asm__ volatile("lsl %1, %0" : "+r"(limit) : "r"(0x7b));
	return limit & 0xfff;
}

static void on_cpu(unsigned cpu)
{
	cpu_set_t set;
	u64 pid;
	u32 aux, lo, hi, n = 0;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		return;
	warm();
	for (unsigned k = 0; k < 30; k++) {
		__asm__ volatile("rdpid %0" : "=r"(pid));
		check((pid & 0xfff) == cpu, "RDPID");
		__asm__ volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
		check((aux & 0xfff) == cpu, "RDTSCP's CPU");
		check(lsl_cpu() == cpu, "LSL's CPU");
		check((unsigned)sched_getcpu() == cpu, "getcpu");
		syscall(SYS_getcpu, &n, NULL, NULL);
		check(n == cpu, "the system call");
	}
}

static u64 tsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}

static void run_cpus(void)
{
	on_cpu(0);
	on_cpu(1);
}

/* Clocks agree with the kernel's and do not go backwards. */
static void run_clocks(void)
{
	u64 last = 0, last_tsc = 0;

	warm();
	for (unsigned k = 0; k < 2000; k++) {
		struct timespec t;
		u64 now, kernel, t1;

		now = now_ns();
		syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
		kernel = (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
		t1 = tsc();
		check(now >= last && kernel >= now, "CLOCK_MONOTONIC goes on");
		check(t1 > last_tsc, "the TSC goes on");
		last = kernel;
		last_tsc = t1;
	}
}

const struct test_case value_cases[] = {
	{"cpuid", run_cpuid},         {"tables", run_tables},
	{"selectors", run_selectors}, {"cpus", run_cpus},
	{"clocks", run_clocks},       {0},
};
