/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "migrate/addr.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define ADDR_BACKLOG 32

static int addr_parse_tcp(struct mig_addr *a, const char *text, struct err *e)
{
	const char *colon = strrchr(text, ':');
	size_t n = colon ? (size_t)(colon - text) : 0;
	const char *host = text;
	unsigned long port = colon ? strtoul(colon + 1, NULL, 10) : 0;

	if (n > 2 && *host == '[' && host[n - 1] == ']') {
		host++;
		n -= 2;
	}
	if (!n || n >= sizeof(a->host) || !port || port > 65535)
		return err_set(e, -EINVAL, "'tcp:%s' is not like tcp:HOST:PORT",
			       text);
	memcpy(a->host, host, n);
	a->host[n] = 0;
	snprintf(a->port, sizeof(a->port), "%lu", port);
	return 0;
}

int mig_addr_parse(struct mig_addr *a, const char *text, struct err *e)
{
	memset(a, 0, sizeof(*a));
	if (!strncmp(text, "tcp:", 4)) {
		a->kind = MIG_TCP;
		return addr_parse_tcp(a, text + 4, e);
	}
	if (!strncmp(text, "unix:", 5) && text[5]) {
		a->kind = MIG_UNIX;
		a->path = text + 5;
		if (strlen(a->path) >=
		    sizeof(((struct sockaddr_un *)0)->sun_path))
			return err_set(e, -ENAMETOOLONG,
				       "the path of %s is too long for a "
				       "socket",
				       text);
		return 0;
	}
	if (!strncmp(text, "exec:", 5) && text[5]) {
		a->kind = MIG_EXEC;
		a->path = text + 5;
		return 0;
	}
	if (!strcmp(text, "stdio:")) {
		a->kind = MIG_STDIO;
		return 0;
	}
	return err_set(e, -EINVAL,
		       "'%s' is no place to migrate; there are tcp:HOST:PORT, "
		       "unix:PATH, exec:COMMAND and stdio:",
		       text);
}

static bool addr_loopback(const struct sockaddr *s)
{
	const struct sockaddr_in *in = (const void *)s;
	const struct sockaddr_in6 *in6 = (const void *)s;

	if (s->sa_family == AF_INET)
		return ntohl(in->sin_addr.s_addr) >> 24 == 127;
	return s->sa_family == AF_INET6 &&
	       IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
}

static struct addrinfo *addr_resolve(const struct mig_addr *a, bool listen,
				     struct err *e)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = listen ? AI_PASSIVE : 0};
	struct addrinfo *list;
	int rc = getaddrinfo(a->host, a->port, &hints, &list);

	if (!rc)
		return list;
	err_set(e, -EHOSTUNREACH, "host '%s': %s", a->host, gai_strerror(rc));
	return NULL;
}

bool mig_addr_local(const struct mig_addr *a)
{
	struct addrinfo *list;
	bool local = true;

	if (a->kind != MIG_TCP)
		return true;
	list = addr_resolve(a, false, NULL);
	if (!list)
		return false;
	for (struct addrinfo *i = list; i; i = i->ai_next)
		local = local && addr_loopback(i->ai_addr);
	freeaddrinfo(list);
	return local;
}

/* Small frames must not wait for more. */
static void addr_tune(int fd)
{
	int on = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int addr_wait(int fd, short events, const struct mig_cancel *cancel,
		     int timeout_ms, struct err *e)
{
	int rc = mig_poll(fd, events, timeout_ms, cancel, e);

	if (rc)
		return MIN(rc, 0);
	return err_set(e, -ETIMEDOUT, "nobody answers");
}

static int addr_try(const struct sockaddr *sa, socklen_t len,
		    const struct mig_cancel *cancel, unsigned timeout_ms,
		    struct err *e)
{
	int fd = socket(sa->sa_family,
			SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t size = sizeof(int);
	int rc = 0, bad = 0;

	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket");
	if (connect(fd, sa, len)) {
		bad = errno;
		if (bad == EINPROGRESS) {
			rc = addr_wait(fd, POLLOUT, cancel, (int)timeout_ms, e);
			getsockopt(fd, SOL_SOCKET, SO_ERROR, &bad, &size);
		}
	}
	if (!rc && bad)
		rc = err_set(e, -bad, "%s", strerror(bad));
	if (rc) {
		close(fd);
		return rc;
	}
	addr_tune(fd);
	return fd;
}

static int addr_connect_tcp(const struct mig_addr *a,
			    const struct mig_cancel *cancel,
			    unsigned timeout_ms, struct err *e)
{
	struct addrinfo *list = addr_resolve(a, false, e);
	struct err why = {{0}};
	int fd = -EHOSTUNREACH;

	if (!list)
		return fd;
	for (struct addrinfo *i = list; i && fd < 0 && fd != -ECANCELED;
	     i = i->ai_next)
		fd = addr_try(i->ai_addr, i->ai_addrlen, cancel, timeout_ms,
			      &why);
	freeaddrinfo(list);
	if (fd < 0)
		err_set(e, fd, "cannot connect to %s port %s: %s", a->host,
			a->port, why.text);
	return fd;
}

static int addr_connect_unix(const struct mig_addr *a,
			     const struct mig_cancel *cancel,
			     unsigned timeout_ms, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	struct err why = {{0}};
	int fd;

	strcpy(sun.sun_path, a->path);
	fd = addr_try((struct sockaddr *)&sun, sizeof(sun), cancel, timeout_ms,
		      &why);
	if (fd < 0)
		err_set(e, fd, "cannot connect to %s: %s", a->path, why.text);
	return fd;
}

/* In the child's child: free of the VM's signal masks and terminal. It may
 * outlive us: what it has become may be the target. */
NORETURN static void addr_exec_command(const char *command, int fd)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	setsid();
	dup2(fd, STDIN_FILENO);
	dup2(fd, STDOUT_FILENO);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

/* The command's standard input and output are one socket; init reaps it. */
static int addr_exec(const struct mig_addr *a, struct mig_chan *c,
		     struct err *e)
{
	int sv[2], rc = 0;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv))
		return err_errno(e, -errno, "cannot make a socket");
	pid = fork();
	if (!pid) {
		pid = fork();
		if (!pid)
			addr_exec_command(a->path, sv[1]);
		_exit(pid < 0);
	}
	if (pid < 0)
		rc = err_errno(e, -errno, "cannot start '%s'", a->path);
	else
		waitpid(pid, NULL, 0);
	close(sv[1]);
	if (rc)
		close(sv[0]);
	else
		mig_chan_init(c, sv[0], sv[0]);
	return rc;
}

int mig_addr_connect(const struct mig_addr *a, struct mig_chan *c,
		     const struct mig_cancel *cancel, unsigned timeout_ms,
		     struct err *e)
{
	int fd = -1, rc = 0;

	switch (a->kind) {
	case MIG_TCP: fd = addr_connect_tcp(a, cancel, timeout_ms, e); break;
	case MIG_UNIX: fd = addr_connect_unix(a, cancel, timeout_ms, e); break;
	case MIG_EXEC: rc = addr_exec(a, c, e); break;
	case MIG_STDIO:
		return err_set(e, -EINVAL, "stdio: is for sublet receive");
	}
	if (rc || (a->kind != MIG_EXEC && fd < 0))
		return rc ? rc : fd;
	if (a->kind != MIG_EXEC)
		mig_chan_init(c, fd, fd);
	c->cancel = cancel;
	c->timeout_ms = timeout_ms;
	return 0;
}

static int addr_bind(int family, const struct sockaddr *sa, socklen_t len,
		     struct err *e)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int on = 1;

	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket");
	if (family != AF_UNIX)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, sa, len) || listen(fd, ADDR_BACKLOG)) {
		int rc = err_set(e, -errno, "%s", strerror(errno));

		close(fd);
		return rc;
	}
	return fd;
}

/* Nobody listens any more on a socket that refuses connections. */
static void addr_remove_stale(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd;

	if (lstat(sun->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (connect(fd, (const struct sockaddr *)sun, sizeof(*sun)) &&
	    errno == ECONNREFUSED)
		unlink(sun->sun_path);
	close(fd);
}

static int addr_listen_unix(const struct mig_addr *a, struct err *e)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	mode_t old;
	int fd;

	strcpy(sun.sun_path, a->path);
	addr_remove_stale(&sun);
	old = umask(077); /* whoever may connect becomes the machine */
	fd = addr_bind(AF_UNIX, (struct sockaddr *)&sun, sizeof(sun), e);
	umask(old);
	return fd;
}

int mig_addr_listen(const struct mig_addr *a, struct err *e)
{
	struct err why = {{0}};
	struct addrinfo *list;
	int fd = -EINVAL;

	if (a->kind == MIG_UNIX) {
		fd = addr_listen_unix(a, &why);
		if (fd < 0)
			err_set(e, fd, "cannot wait at %s: %s", a->path,
				why.text);
		return fd;
	}
	if (a->kind != MIG_TCP)
		return err_set(e, -EINVAL,
			       "a machine is waited for at "
			       "tcp:HOST:PORT, unix:PATH or stdio:");
	list = addr_resolve(a, true, e);
	if (!list)
		return -EHOSTUNREACH;
	for (struct addrinfo *i = list; i && fd < 0; i = i->ai_next)
		fd = addr_bind(i->ai_family, i->ai_addr, i->ai_addrlen, &why);
	freeaddrinfo(list);
	if (fd < 0)
		err_set(e, fd, "cannot wait at %s port %s: %s", a->host,
			a->port, why.text);
	return fd;
}

int mig_addr_accept(int fd, struct mig_chan *c, const struct mig_cancel *cancel,
		    unsigned timeout_ms, struct err *e)
{
	int s, rc;

	rc = addr_wait(fd, POLLIN, cancel,
		       timeout_ms ? (int)timeout_ms : INT_MAX, e);
	if (rc)
		return rc;
	s = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s < 0)
		return err_errno(e, -errno, "cannot take the connection");
	addr_tune(s);
	mig_chan_init(c, s, s);
	c->cancel = cancel;
	if (timeout_ms)
		c->timeout_ms = timeout_ms;
	return 0;
}
