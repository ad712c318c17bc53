/* SPDX-License-Identifier: BSD-2-Clause */
/* Workloads of the kernel: system calls, processes, faults, signals. */
#define _GNU_SOURCE
#include "work.h"

#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void work_syscall(uint64_t n)
{
	while (n--)
		syscall(SYS_getppid);
}

static void work_fault(uint64_t n)
{
	while (n--) {
		char *p = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (int i = 0; i < 16; i++)
			p[i * 4096] = 1;
		munmap(p, 16 * 4096);
	}
}

static void work_fork(uint64_t n)
{
	while (n--) {
		pid_t p = fork();

		if (!p)
			_exit(0);
		waitpid(p, NULL, 0);
	}
}

static void work_exec(uint64_t n)
{
	while (n--) {
		pid_t p = vfork();

		if (!p) {
			execl(self, self, "exit", NULL);
			_exit(1);
		}
		waitpid(p, NULL, 0);
	}
}

static void work_pipe(uint64_t n)
{
	int p[2];
	char c = 0;

	if (pipe(p))
		return;
	while (n--)
		if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1)
			break;
	close(p[0]);
	close(p[1]);
}

static void on_signal(int s)
{
	(void)s;
	sink++;
}

static void work_signal(uint64_t n)
{
	signal(SIGUSR1, on_signal);
	while (n--)
		raise(SIGUSR1);
}

static void work_switch(uint64_t n)
{
	int a[2], b[2];
	char c = 0;
	pid_t p;

	if (pipe(a) || pipe(b))
		return;
	p = fork();
	if (!p) {
		while (read(a[0], &c, 1) == 1 && c == 0)
			if (write(b[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	while (n--)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			break;
	c = 1;
	if (write(a[1], &c, 1) == 1)
		waitpid(p, NULL, 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

const struct work kernel_works[] = {
	{"syscall", "kernel", work_syscall, NULL, NULL},
	{"fault", "kernel", work_fault, NULL, NULL},
	{"fork", "kernel", work_fork, NULL, NULL},
	{"exec", "kernel", work_exec, NULL, NULL},
	{"pipe", "kernel", work_pipe, NULL, NULL},
	{"signal", "kernel", work_signal, NULL, NULL},
	{"switch", "kernel", work_switch, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
