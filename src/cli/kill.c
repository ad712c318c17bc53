/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet kill: ends a VM's process, also one that answers nobody. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/rundir.h"
#include "cli/cli.h"
#include "cli/ctl.h"

#define KILL_PATIENCE 10000 /* ms */

/*
 * The process that holds the name now: looked at again after it was opened,
 * so that its number cannot have become another's.
 */
static int kill_open(const char *vm, struct err *e)
{
	pid_t pid = 0, again = 0;
	int fd, c = rundir_connect(vm, &pid, e);

	if (c >= 0)
		close(c);
	else if (c != -EAGAIN)
		return c;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return err_errno(e, -errno, "cannot find the process of %s",
				 vm);
	c = rundir_connect(vm, &again, e);
	if (c >= 0)
		close(c);
	if (pid == again && (c >= 0 || c == -EAGAIN))
		return fd;
	close(fd);
	return err_set(e, -ESRCH, "%s has just ended", vm);
}

static int kill_one(const char *vm)
{
	struct err e = {{0}};
	struct pollfd p = {.fd = kill_open(vm, &e), .events = POLLIN};
	int rc = 0;

	if (p.fd < 0)
		return ctl_fail(&e);
	if (syscall(SYS_pidfd_send_signal, p.fd, SIGKILL, NULL, 0) &&
	    errno != ESRCH)
		rc = err_errno(&e, -errno, "cannot kill %s", vm);
	else if (poll(&p, 1, KILL_PATIENCE) <= 0)
		rc = err_set(&e, -ETIMEDOUT, "%s does not die", vm);
	close(p.fd);
	if (rc)
		return ctl_fail(&e);
	/* Whoever looks for it next sweeps its folder: do it now. */
	rc = rundir_connect(vm, NULL, NULL);
	if (rc >= 0)
		close(rc);
	return 0;
}

static int kill_run(int argc, char **argv)
{
	return ctl_each(argc, argv, kill_one);
}

const struct cli_verb cli_kill = {
	.name = "kill",
	.summary = "end a machine's process at once",
	.help = "usage: sublet kill NAME...\n"
		"\n"
		"For a machine that does not answer. sublet stop --now is "
		"kinder: there Sublet\nfinishes what disks are writing.\n",
	.run = kill_run,
};
