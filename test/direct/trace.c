/* SPDX-License-Identifier: BSD-2-Clause */
/* Processes under ptrace in the guest: steps, breakpoints, registers. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"

static volatile u64 watched;

/* noinline, with an address that is known. */
__attribute__((noinline)) static void work(u64 k)
{
	watched = watched * 3 + k;
	__asm__ volatile("" ::: "memory");
}

static pid_t start(unsigned rounds)
{
	pid_t pid = fork();

	if (!pid) {
		warm();
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		warm();
		for (unsigned k = 0; k < rounds; k++)
			work(k);
		_exit((int)(watched & 0x7f));
	}
	waitpid(pid, NULL, 0);
	return pid;
}

static u64 rip_of(pid_t pid)
{
	struct user_regs_struct r;

	ptrace(PTRACE_GETREGS, pid, 0, &r);
	return r.rip;
}

static void finish(pid_t pid)
{
	int status;

	ptrace(PTRACE_CONT, pid, 0, 0);
	waitpid(pid, &status, 0);
	say_status("the traced process", status);
}

/* How many steps from one place to another. */
static void run_steps(void)
{
	pid_t pid = start(3);
	u64 sum = 0;
	int status = 0;

	for (unsigned k = 0; k < 300; k++) {
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
			break;
		sum = sum * 31 + (rip_of(pid) - (u64)work < 64);
	}
	say("stopped by %d", WSTOPSIG(status));
	finish(pid);
}

static void run_breakpoints(void)
{
	pid_t pid = start(20);
	long old = ptrace(PTRACE_PEEKTEXT, pid, work, 0);
	unsigned hits = 0;
	int status;

	ptrace(PTRACE_POKETEXT, pid, work, (old & ~0xffl) | 0xcc);
	for (;;) {
		struct user_regs_struct r;

		ptrace(PTRACE_CONT, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status))
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &r);
		check(r.rip == (u64)work + 1 && r.rdi == hits, "the place");
		hits++;
		r.rip--;
		ptrace(PTRACE_SETREGS, pid, 0, &r);
		ptrace(PTRACE_POKETEXT, pid, work, old);
		ptrace(PTRACE_SINGLESTEP, pid, 0, 0);
		waitpid(pid, &status, 0);
		ptrace(PTRACE_POKETEXT, pid, work, (old & ~0xffl) | 0xcc);
	}
	say("%u hits", hits);
	say_status("the traced process", status);
}

static long set_debug(pid_t pid, unsigned n, u64 v)
{
	return ptrace(PTRACE_POKEUSER, pid,
		      offsetof(struct user, u_debugreg) + n * 8, v);
}

/* One on execution, one on writing. */
static void run_hardware(void)
{
	pid_t pid = start(10);
	unsigned executed = 0, written = 0;
	int status;

	check(!set_debug(pid, 0, (u64)work) &&
		      !set_debug(pid, 1, (u64)&watched) &&
		      !set_debug(pid, 7, 0x1 | 0x4 | 0xd00000),
	      "debug registers");
	for (;;) {
		u64 dr6;

		ptrace(PTRACE_CONT, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status))
			break;
		errno = 0;
		dr6 = (u64)ptrace(PTRACE_PEEKUSER, pid,
				  offsetof(struct user, u_debugreg) + 48, 0);
		executed += dr6 & 1;
		written += dr6 >> 1 & 1;
		set_debug(pid, 6, 0);
		if (executed + written > 100)
			break;
	}
	say("%u executed, %u written", executed, written);
	say_status("the traced process", status);
}

/* System calls, with what they return changed. */
static void run_calls(void)
{
	pid_t pid = fork();
	unsigned stops = 0;
	int status;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, 0, 0);
		raise(SIGSTOP);
		warm();
		for (unsigned k = 0; k < 10; k++)
			if (getppid() != 4242)
				_exit(1);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	for (;;) {
		struct user_regs_struct r;

		ptrace(PTRACE_SYSCALL, pid, 0, 0);
		waitpid(pid, &status, 0);
		if (!WIFSTOPPED(status))
			break;
		ptrace(PTRACE_GETREGS, pid, 0, &r);
		if (r.orig_rax != 110) /* getppid */
			continue;
		if (stops++ % 2) {
			r.rax = 4242;
			ptrace(PTRACE_SETREGS, pid, 0, &r);
		}
	}
	say("%u stops", stops);
	say_status("the traced process", status);
}

const struct test_case trace_cases[] = {
	{"steps", run_steps},
	{"breakpoints", run_breakpoints},
	{"hardware", run_hardware},
	{"calls", run_calls},
	{0},
};
