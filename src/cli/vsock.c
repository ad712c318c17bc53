/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet vsock: standard input and output to a port of the guest. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/rundir.h"
#include "cli/cli.h"
#include "cli/ctl.h"

#define PIECE 65536

/* ---- reaching it ---- */

static int vsock_connect_path(const char *path, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG,
			       "the path %s is too long for a socket's address",
			       path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	if (fd >= 0)
		close(fd);
	return err_errno(e, -errno, "cannot connect to %s", path);
}

/* To the machine's socket, wherever it is; or -errno. */
static int vsock_reach(const char *vm, struct err *e)
{
	const char *path = NULL;
	json_t *config = NULL, *v;
	struct client c;
	int rc = client_open(&c, vm, e);

	if (rc)
		return rc;
	rc = client_request(&c, "GET", "/vm/config", NULL, &config, e);
	client_close(&c);
	v = json_object_get(config, "vsock");
	if (!rc && !v)
		rc = err_set(e, -ENODEV,
			     "%s has no virtio sockets; they come with run "
			     "--vsock on",
			     vm);
	path = json_string_value(json_object_get(v, "uds_path"));
	if (!rc)
		rc = path ? vsock_connect_path(path, e)
			  : rundir_connect_vsock(vm, e);
	json_decref(config);
	return rc;
}

/* "OK NUMBER\n", and nothing of what follows. */
static bool vsock_accepted(int fd)
{
	char text[32];
	size_t n = 0;

	while (n < sizeof(text) && recv(fd, text + n, 1, 0) == 1)
		if (text[n++] == '\n')
			return !strncmp(text, "OK ", 3);
	return false;
}

static int vsock_greet(int fd, const char *vm, unsigned long port,
		       struct err *e)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "CONNECT %lu\n", port);

	if (send(fd, text, (size_t)n, MSG_NOSIGNAL) == n && vsock_accepted(fd))
		return 0;
	return err_set(e, -ECONNREFUSED,
		       "nobody in %s listens at its vsock port %lu", vm, port);
}

/* ---- carrying ---- */

static bool vsock_copy(int from, int to)
{
	static char buf[PIECE];
	ssize_t n = read(from, buf, sizeof(buf)), done = 0;

	while (done < n) {
		ssize_t w = write(to, buf + done, (size_t)(n - done));

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return false;
		done += w;
	}
	return n > 0 || (n < 0 && errno == EINTR);
}

/* Until the guest sends no more; our end of input is passed on. A process for
 * each direction: one that waits for the guest must not hold up the other. */
static int vsock_carry(int fd, struct err *e)
{
	pid_t child = fork();

	if (child < 0)
		return err_errno(e, -errno, "cannot make a process");
	signal(SIGPIPE, SIG_IGN);
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGTERM);
		while (vsock_copy(STDIN_FILENO, fd))
			;
		shutdown(fd, SHUT_WR);
		_exit(0);
	}
	while (vsock_copy(fd, STDOUT_FILENO))
		;
	kill(child, SIGTERM);
	waitpid(child, NULL, 0);
	return 0;
}

static int vsock_run(int argc, char **argv)
{
	const char *words[CTL_WORDS];
	struct err e = {{0}};
	unsigned long long port;
	char *end;
	int n, fd, rc;

	rc = ctl_parse(argc, argv, NULL, words, &n, 2, 2,
		       "a machine's name and a port");
	if (rc)
		return rc;
	errno = 0;
	port = strtoull(words[1], &end, 10);
	if (*words[1] < '0' || *words[1] > '9' || *end || errno ||
	    port > 0xffffffff) {
		fprintf(stderr, "sublet: vsock: '%s' is not a port\n",
			words[1]);
		return CLI_EXIT_USAGE;
	}
	fd = vsock_reach(words[0], &e);
	if (fd < 0)
		return ctl_fail(&e);
	rc = vsock_greet(fd, words[0], (unsigned long)port, &e);
	if (!rc)
		rc = vsock_carry(fd, &e);
	close(fd);
	return rc ? ctl_fail(&e) : 0;
}

const struct cli_verb cli_vsock = {
	.name = "vsock",
	.summary = "connect to a virtio socket in the guest",
	.help = "usage: sublet vsock NAME PORT\n"
		"\n"
		"Carries standard input to whoever listens at the vsock PORT "
		"in the guest, and what\nit says to standard output, until it "
		"closes. The machine must have been made with\nsublet run "
		"--vsock.\n",
	.run = vsock_run,
};
