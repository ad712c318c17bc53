/* SPDX-License-Identifier: BSD-2-Clause */
/* Vector, x87 and segment state over context switches and kernel entries. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"

struct vectors {
	u8 ymm[16][32];
	double st[4];
	u32 mxcsr;
	u16 control;
};

static void vectors_load(const struct vectors *v)
{
	__asm__ volatile("vmovups 0(%0), %%ymm0; vmovups 32(%0), %%ymm1;"
			 "vmovups 64(%0), %%ymm2; vmovups 96(%0), %%ymm3;"
			 "vmovups 128(%0), %%ymm4; vmovups 160(%0), %%ymm5;"
			 "vmovups 192(%0), %%ymm6; vmovups 224(%0), %%ymm7;"
			 "vmovups 256(%0), %%ymm8; vmovups 288(%0), %%ymm9;"
			 "vmovups 320(%0), %%ymm10; vmovups 352(%0), %%ymm11;"
			 "vmovups 384(%0), %%ymm12; vmovups 416(%0), %%ymm13;"
			 "vmovups 448(%0), %%ymm14; vmovups 480(%0), %%ymm15;"
			 "fninit; fldl 512(%0); fldl 520(%0); fldl 528(%0);"
			 "fldl 536(%0); ldmxcsr 544(%0); fldcw 548(%0)" ::"r"(v)
			 : "memory");
}

static void vectors_store(struct vectors *v)
{
	__asm__ volatile("vmovups %%ymm0, 0(%0); vmovups %%ymm1, 32(%0);"
			 "vmovups %%ymm2, 64(%0); vmovups %%ymm3, 96(%0);"
			 "vmovups %%ymm4, 128(%0); vmovups %%ymm5, 160(%0);"
			 "vmovups %%ymm6, 192(%0); vmovups %%ymm7, 224(%0);"
			 "vmovups %%ymm8, 256(%0); vmovups %%ymm9, 288(%0);"
			 "vmovups %%ymm10, 320(%0); vmovups %%ymm11, 352(%0);"
			 "vmovups %%ymm12, 384(%0); vmovups %%ymm13, 416(%0);"
			 "vmovups %%ymm14, 448(%0); vmovups %%ymm15, 480(%0);"
			 "fstpl 536(%0); fstpl 528(%0); fstpl 520(%0);"
			 "fstpl 512(%0); stmxcsr 544(%0); fnstcw 548(%0);"
			 "fninit; vzeroall" ::"r"(v)
			 : "memory");
}

static void vectors_make(struct vectors *v, unsigned who)
{
	memset(v, 0, sizeof(*v));
	for (unsigned k = 0; k < sizeof(v->ymm); k++)
		((u8 *)v->ymm)[k] = (u8)(k * 7 + who * 31 + 1);
	for (unsigned k = 0; k < 4; k++)
		v->st[k] = who * 1000.5 + k;
	v->mxcsr = 0x1f80 | (who & 3) << 13;
	v->control = 0x37f & ~0xc00;
	v->control |= (u16)((who & 3) << 10);
}

/* Loads, stays n rounds in user mode or enters the kernel, stores: nothing
 * between the two that uses these registers. */
static void vectors_hold(struct vectors *v, unsigned n, bool call)
{
	vectors_load(v);
	for (unsigned k = 0; k < n; k++) {
		u64 rax = SYS_sched_yield, spin = 1000;

		__asm__ volatile("1: dec %0; jnz 1b" : "+r"(spin));
		if (call)
			__asm__ volatile("syscall"
					 : "+a"(rax)::"rcx", "r11", "memory");
	}
	vectors_store(v);
}

static void hold_process(void *arg)
{
	unsigned who = (unsigned)(uintptr_t)arg;
	struct vectors v, want;

	vectors_make(&want, who);
	for (unsigned k = 0; k < 12; k++) {
		v = want;
		vectors_hold(&v, 300, k % 2);
		check(!memcmp(&v, &want, sizeof(v)), "vector state is kept");
	}
}

static void run_vectors(void)
{
	pid_t pid[4];
	int status = 0;

	for (unsigned k = 0; k < 4; k++) {
		pid[k] = fork();
		if (!pid[k]) {
			warm();
			_exit(status_of(hold_process, (void *)(u64)(k + 1)));
		}
	}
	for (unsigned k = 0; k < 4; k++) {
		waitpid(pid[k], &status, 0);
		say_status("process", status);
		check(!status, "state of a process");
	}
}

/* A signal handler has fresh state, and gives back what was. */
static volatile unsigned handled;

static void on_signal(int signo)
{
	struct vectors v;

	(void)signo;
	vectors_make(&v, 9);
	vectors_load(&v);
	__asm__ volatile("fninit; vzeroall" ::: "memory");
	handled++;
}

static void run_signal_state(void)
{
	struct vectors v, want;
	struct sigaction a = {.sa_handler = on_signal};

	sigaction(SIGUSR1, &a, NULL);
	warm();
	vectors_make(&want, 3);
	for (unsigned k = 0; k < 50; k++) {
		u64 rax = SYS_kill;

		v = want;
		vectors_load(&v);
		__asm__ volatile("syscall"
				 : "+a"(rax)
				 : "D"((u64)getpid()), "S"(SIGUSR1)
				 : "rcx", "r11", "memory");
		vectors_store(&v);
		check(!memcmp(&v, &want, sizeof(v)), "state over a signal");
	}
	say("handled %u", handled);
}

/* ---- FS and GS ---- */

static void run_bases(void)
{
	static u64 here = 0x1122334455667788;
	u64 old, base = 0, v;

	warm();
	syscall(SYS_arch_prctl, ARCH_GET_FS, &old);
	for (unsigned k = 0; k < 100; k++) {
		u64 want = (u64)&here - k * 8;

		if (k % 2)
			syscall(SYS_arch_prctl, ARCH_SET_GS, want);
		else
			__asm__ volatile("wrgsbase %0" ::"r"(want));
		if (k % 3 == 0)
			sched_yield();
		__asm__ volatile("rdgsbase %0" : "=r"(base));
		__asm__ volatile("mov %%gs:(%1), %0"
				 : "=r"(v)
				 : "r"((u64)k * 8));
		check(base == want && v == here, "GS base");
		syscall(SYS_arch_prctl, ARCH_GET_GS, &base);
		check(base == want, "the kernel's GS base");
		__asm__ volatile("rdfsbase %0" : "=r"(base));
		check(base == old, "FS base");
	}
	/* As far as user bases go, and one that is not canonical */
	__asm__ volatile("wrgsbase %0" ::"r"(0x7ffffffff000ul));
	sched_yield();
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	say("%#lx", base);
	__asm__ volatile("wrgsbase %0" ::"r"(0xffffffff81000000ul));
	sched_yield();
	__asm__ volatile("rdgsbase %0" : "=r"(base));
	say("%#lx", base);
}

/* RFLAGS over time and kernel entries. */
static void run_flags(void)
{
	u64 got = 0;

	warm();
	for (unsigned k = 0; k < 16; k++) {
		u64 want = 0x202 | (k & 1) | (k & 2) << 1 | (k & 4) << 4 |
			   (k & 8) << 18; /* CF PF ZF ID */

		__asm__ volatile("push %1; popfq; mov $1000000, %%ecx;"
				 "1: lea -1(%%ecx), %%ecx; jecxz 2f; jmp 1b;"
				 "2: pushfq; pop %0"
				 : "=r"(got)
				 : "r"(want)
				 : "rcx", "cc", "memory");
		say("%#lx %#lx", want, got);
	}
}

const struct test_case state_cases[] = {
	{"vectors", run_vectors},
	{"signal-state", run_signal_state},
	{"bases", run_bases},
	{"flags", run_flags},
	{0},
};
