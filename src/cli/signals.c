/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>

static const struct {
	int number;
	bool machine; /* only its process */
} list[] = {
	{SIGINT, false},   {SIGTERM, false}, {SIGHUP, false}, {SIGQUIT, false},
	{SIGWINCH, false}, {SIGTSTP, true},  {SIGUSR1, true},
};

int signals_open(bool machine, struct err *e)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		if (machine || !list[i].machine)
			sigaddset(&set, list[i].number);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Not in main(): what makes an image wants its SIGPIPE. */
	signal(SIGPIPE, SIG_IGN);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? err_errno(e, -errno, "cannot wait for signals") : fd;
}
