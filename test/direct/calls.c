/* SPDX-License-Identifier: BSD-2-Clause */
/* System calls: registers they keep, restarts, other ways into the kernel. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "cases.h"

/* All registers but rsp, rax first, then flags; before and after. */
struct frame {
	u64 r[15], flags;
};

enum { RAX, RBX, RCX, RDX, RSI, RDI, RBP, R8, R9, R10, R11, R12 };

#define CALL_THROUGH(name, insn)                                              \
	void name(struct frame *in, struct frame *out);                       \
	__asm__(".pushsection .text\n" #name ":\n"                            \
		"push %rbx; push %rbp; push %r12; push %r13; push %r14;"      \
		"push %r15; push %rsi\n"                                      \
		"push 120(%rdi); popfq\n"                                     \
		"mov (%rdi), %rax; mov 8(%rdi), %rbx; mov 16(%rdi), %rcx;"    \
		"mov 24(%rdi), %rdx; mov 32(%rdi), %rsi;"                     \
		"mov 48(%rdi), %rbp; mov 56(%rdi), %r8; mov 64(%rdi), %r9;"   \
		"mov 72(%rdi), %r10; mov 80(%rdi), %r11;"                     \
		"mov 88(%rdi), %r12; mov 96(%rdi), %r13;"                     \
		"mov 104(%rdi), %r14; mov 112(%rdi), %r15;"                   \
		"mov 40(%rdi), %rdi\n" insn "\n"                              \
		"0: xchg %rdi, (%rsp); mov %rax, (%rdi); mov %rbx, 8(%rdi);"  \
		"mov %rcx, 16(%rdi); mov %rdx, 24(%rdi); mov %rsi, 32(%rdi);" \
		"mov %rbp, 48(%rdi); mov %r8, 56(%rdi); mov %r9, 64(%rdi);"   \
		"mov %r10, 72(%rdi); mov %r11, 80(%rdi); mov %r12, 88(%rdi);" \
		"mov %r13, 96(%rdi); mov %r14, 104(%rdi);"                    \
		"mov %r15, 112(%rdi); pop %rax; mov %rax, 40(%rdi);"          \
		"pushfq; pop 120(%rdi); cld\n"                                \
		"lea 0b(%rip), %rax; sub %rax, 16(%rdi)\n"                    \
		"pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx;" \
		"ret\n.popsection\n")

CALL_THROUGH(call_syscall, "syscall");
CALL_THROUGH(call_prefixed, ".byte 0x48, 0x0f, 0x05");
CALL_THROUGH(call_int80, "int $0x80");

static void say_changes(const char *what, const struct frame *in,
			const struct frame *out, bool rcx_is_place)
{
	for (unsigned k = 1; k < 15; k++) {
		if (k == RCX) {
			if (rcx_is_place)
				check(!out->r[k], "rcx is the place");
		} else if (in->r[k] != out->r[k]) {
			say("%s: register %u is %#lx", what, k, out->r[k]);
		}
	}
	say("%s: flags %#lx", what, out->flags);
}

static void run_registers(void)
{
	static const u64 flags[] = {0x202, 0xad7, 0x602, 0x247, 0x200202};

	warm();
	for (unsigned k = 0; k < 200; k++) {
		struct frame in, out;

		for (unsigned n = 0; n < 15; n++)
			in.r[n] = (n + 1) * 0x123456789abcdefull + k;
		in.flags = flags[k % ARRAY_LEN(flags)];
		in.r[RAX] = SYS_getppid;
		call_syscall(&in, &out);
		check((int)out.r[RAX] == getppid(), "getppid");
		if (k < ARRAY_LEN(flags))
			say_changes("syscall", &in, &out, true);
		in.r[RAX] = SYS_getpid;
		call_prefixed(&in, &out);
		check((int)out.r[RAX] == getpid(), "getpid");
		in.r[RAX] = 20; /* getpid of 32-bit programs */
		call_int80(&in, &out);
		check((int)out.r[RAX] == getpid(), "getpid by INT 0x80");
		if (k < ARRAY_LEN(flags))
			say_changes("int 0x80", &in, &out, false);
		in.r[RAX] = 100000;
		call_syscall(&in, &out);
		check(out.r[RAX] == -(u64)ENOSYS, "no such call");
	}
}

/* ---- restarts ---- */

static volatile unsigned ticks;

static void on_tick(int signo)
{
	(void)signo;
	ticks++;
}

static void tick_every(unsigned us, int flags)
{
	struct sigaction a = {.sa_handler = on_tick, .sa_flags = flags};
	struct itimerval t = {{0, us}, {0, us}};

	sigaction(SIGALRM, &a, NULL);
	setitimer(ITIMER_REAL, &t, NULL);
}

static void *sum_loop(volatile u64 *sum)
{
	for (u64 k = 0; k < 3000000; k++)
		*sum = *sum * 6364136223846793005ull + k;
	return NULL;
}

static void run_restart(void)
{
	volatile u64 sum = 1;
	int pipes[2];
	char c = 0;

	warm();
	check(!pipe(pipes), "a pipe");
	tick_every(3000, SA_RESTART);
	if (!fork()) {
		struct timespec t = {0, 60000000};

		nanosleep(&t, NULL);
		_exit(write(pipes[1], "y", 1) != 1);
	}
	check(read(pipes[0], &c, 1) == 1 && c == 'y', "a restarted read");
	sum_loop(&sum);
	tick_every(0, 0);
	say("sum %#lx", sum);
	check(ticks > 3, "signals");
}

static void run_interrupt(void)
{
	struct timespec t = {5, 0}, left = {0, 0};
	volatile u64 sum = 1;

	warm();
	tick_every(20000, 0);
	check(nanosleep(&t, &left) == -1 && errno == EINTR && left.tv_sec < 5,
	      "an interrupted sleep");
	tick_every(1000, 0);
	sum_loop(&sum);
	tick_every(0, 0);
	say("sum %#lx", sum);
}

/* ---- other ways ---- */

static void sysenter(void *unused)
{
	(void)unused;
	warm();
	__asm__ volatile("mov $20, %%eax; sysenter" ::
				 : "rax", "rcx", "rdx", "memory");
}

static void vsyscall_read(void *unused)
{
	(void)unused;
	warm();
	_exit(*(volatile u8 *)0xffffffffff600000ul);
}

static void run_ways(void)
{
	struct caught c;

	warm();
	say_status("SYSENTER", status_of(sysenter, NULL));
	say_status("read of the vsyscall page", status_of(vsyscall_read, NULL));
	catch (&c, (void *)0xffffffffff600400ul, 0, 0); /* time() */
	say("vsyscall: signal %d error %lu", c.signo, c.error);
}

/* 32-bit code: into it by a far return, back by a far jump. */
static const u8 code_32[] = {
	0x31, 0xc0, 0xb0, 0x14,                /* mov eax, 20 */
	0xcd, 0x80,                            /* int 0x80 */
	0x89, 0xc6,                            /* mov esi, eax */
	0x31, 0xc0, 0x40,                      /* xor eax, eax; inc eax */
	0x40, 0x40,                            /* inc eax: REX in 64-bit code */
	0x60, 0x61,                            /* pusha; popa */
	0xea, 0x00, 0x01, 0x00, 0x10, 0x33, 0, /* jmp 0x33:0x10000100 */
};

static void run_32(void)
{
	u8 *low = pages((void *)0x10000000, 2 * PAGE,
			PROT_READ | PROT_WRITE | PROT_EXEC);
	u32 got = 0, pid = 0;

	warm();
	memcpy(low, code_32, sizeof(code_32));
	low[0x100] = 0xff, low[0x101] = 0xe7; /* jmp rdi */
	for (unsigned k = 0; k < 50; k++) {
		__asm__ volatile("mov %%rsp, %%r14\n"
				 "lea 1f(%%rip), %%rdi\n"
				 "mov $0x10001f00, %%esp\n"
				 "push $0x23; push $0x10000000; lretq\n"
				 "1: mov %%r14, %%rsp"
				 : "=a"(got), "=S"(pid)
				 :
				 : "rdi", "rcx", "rdx", "rbx", "r8", "r9",
				   "r10", "r11", "r14", "memory", "cc");
		check((pid_t)pid == getpid(), "getpid in 32-bit code");
	}
	say("eax %u", got);
}

const struct test_case call_cases[] = {
	{"registers", run_registers}, {"restart", run_restart},
	{"interrupt", run_interrupt}, {"ways", run_ways},
	{"32-bit", run_32},           {0},
};
