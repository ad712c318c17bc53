/* SPDX-License-Identifier: BSD-2-Clause */
/* Runs the cases named, or all: "ok NAME" or "not ok NAME" for each. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "cases.h"

#define WARM_NS   25000000u
#define LIMIT_SEC 60

static const struct test_case *const lists[] = {
	fault_cases,  call_cases,   value_cases, state_cases,   code_cases,
	memory_cases, thread_cases, trace_cases, hostile_cases,
};

static const char *name;
static bool failed;

void say(const char *fmt, ...)
{
	char line[400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	printf("%s: %s\n", name, line);
	fflush(stdout);
}

void check(bool holds, const char *what)
{
	if (holds)
		return;
	say("not so: %s", what);
	failed = true;
}

u64 now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (u64)t.tv_sec * 1000000000u + (u64)t.tv_nsec;
}

void warm(void)
{
	u64 end = now_ns() + WARM_NS;
	volatile u64 sum = 1;

	while (now_ns() < end)
		for (unsigned k = 0; k < 20000; k++)
			sum = sum * 3 + k;
}

void *pages(void *at, size_t size, int prot)
{
	int fixed = at ? MAP_FIXED_NOREPLACE : 0;
	void *p = mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | fixed, -1,
		       0);

	if (p != MAP_FAILED)
		return p;
	say("no memory at %p", at);
	exit(1);
}

int status_of(void (*f)(void *), void *arg)
{
	int status = -1;
	pid_t pid = fork();

	if (!pid) {
		f(arg);
		_exit(failed);
	}
	waitpid(pid, &status, 0);
	return status;
}

void say_status(const char *what, int status)
{
	if (WIFSIGNALED(status))
		say("%s: signal %d", what, WTERMSIG(status));
	else
		say("%s: exit code %d", what, WEXITSTATUS(status));
}

/* ---- signals ---- */

static sigjmp_buf catch_back;
static struct caught *catch_to;

static void catch_signal(int signo, siginfo_t *i, void *context)
{
	const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;

	*catch_to = (struct caught){
		.signo = signo,
		.code = i->si_code,
		.addr = (u64)i->si_addr,
		.rip = (u64)g[REG_RIP],
		.trap = (u64)g[REG_TRAPNO],
		.error = (u64)g[REG_ERR],
		.rcx = (u64)g[REG_RCX],
		.rsi = (u64)g[REG_RSI],
		.rdi = (u64)g[REG_RDI],
	};
	siglongjmp(catch_back, 1);
}

static void catch_prepare(void)
{
	static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP};
	static char stack[65536];
	stack_t alternate = {.ss_sp = stack, .ss_size = sizeof(stack)};
	struct sigaction a = {.sa_sigaction = catch_signal,
			      .sa_flags = SA_SIGINFO | SA_ONSTACK};

	sigaltstack(&alternate, NULL);
	for (unsigned k = 0; k < ARRAY_LEN(signals); k++)
		sigaction(signals[k], &a, NULL);
}

void catch (struct caught *c, const void *f, u64 a, u64 b)
{
	catch_prepare();
	*c = (struct caught){0};
	catch_to = c;
	if (sigsetjmp(catch_back, 1)) {
		__asm__ volatile("pushfq; andl $~0x40000, (%%rsp); popfq" ::
					 : "memory", "cc"); /* AC */
		return;
	}
	__asm__ volatile("call *%[f]"
			 : "+a"(a), "+b"(b)
			 : [f] "r"(f)
			 : "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11",
			   "r12", "r13", "r14", "r15", "memory", "cc");
}

/* ---- running ---- */

static void run_case(void *arg)
{
	const struct test_case *t = arg;

	name = t->name;
	alarm(LIMIT_SEC);
	t->run();
}

static bool wanted(const char *n, int argc, char **argv)
{
	for (int k = 1; k < argc; k++)
		if (!strcmp(argv[k], n))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	int bad = 0;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned l = 0; l < ARRAY_LEN(lists); l++) {
		for (const struct test_case *t = lists[l]; t->name; t++) {
			int status;

			if (!wanted(t->name, argc, argv))
				continue;
			status = status_of(run_case, (void *)(uintptr_t)t);
			printf("%s %s\n", status ? "not ok" : "ok", t->name);
			name = t->name;
			if (status)
				say_status("ended by", status);
			bad |= status;
		}
	}
	return !!bad;
}
