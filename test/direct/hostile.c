/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs that try what they may not, or too much of it. */
#define _GNU_SOURCE
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "cpu/direct/dspace.h"

extern const u8 code_read[], code_write[], code_jump[];

/* Where the host keeps its own pages in a child, which can be read there, there
 * is nothing to run and nothing to change. */
static void run_stub(void)
{
	struct caught c;

	warm();
	for (u64 at = 0; at < DSPACE_STUB_SIZE; at += 8) {
		catch (&c, code_jump, DSPACE_STUB + at, 0);
		check(c.signo == SIGSEGV && c.error == 0x14, "a fault of code");
		catch (&c, code_write, DSPACE_STUB + at, 0);
		check(c.signo == SIGSEGV && c.error == 6, "a fault of writing");
	}
}

/* All of the address space that the kernel does not give. */
static void run_probe(void)
{
	struct caught c;
	unsigned found = 0;

	warm();
	for (unsigned bit = 12; bit < 47; bit++) {
		u64 a = 1ul << bit | 0x123456000;

		catch (&c, code_read, a & 0x7ffffffff000, 0);
		found += !c.signo;
	}
	for (u64 a = 0x7ffffffff000; a; a <<= 1) {
		catch (&c, code_read, a, 0);
		found += !c.signo;
	}
	check(!found, "nothing is found");
}

static void endless(void *unused)
{
	struct itimerval t = {{0, 0}, {0, 150000}};

	(void)unused;
	setitimer(ITIMER_REAL, &t, NULL);
	for (;;)
		__asm__ volatile("");
}

static void endless_trap(void *unused)
{
	struct itimerval t = {{0, 0}, {0, 150000}};

	(void)unused;
	signal(SIGILL, SIG_IGN);
	setitimer(ITIMER_REAL, &t, NULL);
	for (;;)
		syscall(100000);
}

static void run_endless(void)
{
	say_status("an endless loop", status_of(endless, NULL));
	say_status("endless calls", status_of(endless_trap, NULL));
}

/* Many processes that compute at the same time. */
static void run_forks(void)
{
	unsigned sum = 0;
	int status;

	for (unsigned k = 0; k < 40; k++) {
		u64 v = k;

		if (fork())
			continue;
		for (unsigned n = 0; n < 1000000; n++)
			v = v * 6364136223846793005ull + 1;
		_exit((int)(v >> 33 & 0x7f));
	}
	while (wait(&status) > 0)
		sum += (unsigned)WEXITSTATUS(status);
	say("%u", sum);
}

/* Signals at a high rate, to a process that computes and one that stops. */
static void run_storm(void)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		u64 v = 1;

		warm();
		for (unsigned n = 0; n < 20000000; n++)
			v = v * 6364136223846793005ull + 1;
		_exit((int)(v >> 33 & 0x7f));
	}
	for (unsigned k = 0; k < 50; k++) {
		kill(pid, SIGSTOP);
		usleep(500);
		kill(pid, SIGCONT);
		usleep(1000);
	}
	waitpid(pid, &status, 0);
	say_status("stopped and continued", status);
}

static void run_exec(void)
{
	u64 k;

	warm();
	for (k = 0; k < 8; k++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			char *argv[] = {"self", "nothing", NULL};

			warm();
			execv("/proc/self/exe", argv);
			_exit(99);
		}
		waitpid(pid, &status, 0);
		check(!status, "a program that is run");
	}
}

/* Registers that the guest's CPU has not, which run on many hosts. */
static void use_zmm(void)
{
	warm();
	__asm__ volatile("kxnorw %%k1, %%k1, %%k1\n\t"
			 "vpternlogd $255, %%zmm17, %%zmm17, %%zmm17"
			 :
			 :
			 : "memory");
	getppid();
	_exit(0);
}

static void run_zmm(void)
{
	for (unsigned k = 0; k < 4; k++) {
		pid_t pid = fork();
		int status;

		if (!pid) {
			signal(SIGILL, SIG_DFL);
			use_zmm();
		}
		waitpid(pid, &status, 0);
		check(WIFSIGNALED(status) && WTERMSIG(status) == SIGILL,
		      "AVX-512 is undefined");
	}
}

const struct test_case hostile_cases[] = {
	{"stub", run_stub},       {"probe", run_probe},
	{"endless", run_endless}, {"forks", run_forks},
	{"storm", run_storm},     {"exec", run_exec},
	{"zmm", run_zmm},         {0},
};
