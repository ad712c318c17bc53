/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/detach.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/cli.h"

/* The process that was called. */
NORETURN static void detach_wait(pid_t child, int fd)
{
	char name[RUNDIR_NAME + 1];
	size_t len = 0;
	ssize_t n;
	int status;

	while ((n = read(fd, name + len, sizeof(name) - 1 - len)) > 0 ||
	       (n < 0 && errno == EINTR))
		if (n > 0)
			len += (size_t)n;
	name[len] = 0;
	if (len) {
		puts(name);
		exit(fflush(stdout) ? CLI_EXIT_FAILED : 0);
	}
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : CLI_EXIT_FAILED);
}

int detach(int *ready, struct err *e)
{
	int p[2], null;
	pid_t child, parent = getpid();

	if (pipe2(p, O_CLOEXEC))
		return err_errno(e, -errno, "cannot make a pipe");
	child = fork();
	if (child < 0)
		return err_errno(e, -errno, "cannot go into the background");
	if (child) {
		close(p[1]);
		detach_wait(child, p[0]);
	}
	/* Whoever interrupts the start means all of it. */
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(CLI_EXIT_FAILED);
	close(p[0]);
	*ready = p[1];
	setsid();
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0)
		return err_errno(e, -errno, "cannot open /dev/null");
	dup2(null, STDIN_FILENO);
	close(null);
	return 0;
}

int detach_output(struct rundir *dir, struct err *e)
{
	int fd = rundir_log(dir, e);

	if (fd < 0)
		return fd;
	fflush(stdout);
	dup2(fd, STDOUT_FILENO);
	close(fd);
	return 0;
}

void detach_ready(int *ready, const char *name)
{
	ssize_t n;

	prctl(PR_SET_PDEATHSIG, 0);
	n = write(*ready, name, strlen(name));
	(void)n;
	close(*ready);
	*ready = -1;
	fflush(stderr);
	dup2(STDOUT_FILENO, STDERR_FILENO);
}
