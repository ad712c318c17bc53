/* SPDX-License-Identifier: BSD-2-Clause */
/* UNIX sockets: the one that is listened at, and a socket for each stream. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "backend/vsock_priv.h"

#define BACKLOG    64
#define FIRST_PORT 0x40000000u /* of the host's programs */

/* ---- addresses ---- */

/* By the folder's descriptor: a path could be longer than an address may. */
static void vsock_address(const struct vsock *s, const char *suffix,
			  struct sockaddr_un *a)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s%s",
		 s->dir, s->name, suffix);
}

static int vsock_socket(void)
{
	return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

int vsock_connect(struct vsock *s, u32 port)
{
	struct sockaddr_un a;
	char suffix[16];
	int fd = vsock_socket(), rc;

	if (fd < 0)
		return -errno;
	snprintf(suffix, sizeof(suffix), "_%u", port);
	vsock_address(s, suffix, &a);
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* ---- a program of the host connects ---- */

static u32 vsock_port(struct vsock *s)
{
	if (++s->next_port < FIRST_PORT || s->next_port >= ~0u - 1)
		s->next_port = FIRST_PORT;
	return s->next_port;
}

/* "CONNECT PORT\n"; false: it is none. */
static bool greeting_parse(const char *text, u32 *port)
{
	unsigned long long n;
	char *end;

	if (strncmp(text, "CONNECT ", 8) || text[8] < '0' || text[8] > '9')
		return false;
	errno = 0;
	n = strtoull(text + 8, &end, 10);
	*port = (u32)n;
	return !errno && n <= 0xffffffff && (*end == '\n' || *end == '\r');
}

/* One byte after the other: what follows the line is the stream's. */
static void vconn_greet(struct vconn *c)
{
	u32 port;
	ssize_t n;

	do {
		n = recv(c->fd, c->greeting + c->greeted, 1, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		c->greeted += n > 0;
	} while (n > 0 && c->greeted < VSOCK_GREETING &&
		 c->greeting[c->greeted - 1] != '\n');
	if (n <= 0 || !c->s->up || !greeting_parse(c->greeting, &port)) {
		vconn_free(c);
		return;
	}
	c->state = VCONN_REQUESTED;
	vconn_key(c, vsock_port(c->s), port);
	vconn_send(c, VCONN_SEND_REQUEST);
}

void vconn_accepted(struct vconn *c)
{
	char text[VSOCK_GREETING];
	int n = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	/* A new socket's buffer has room for this. */
	if (send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n)
		vconn_watch(c);
	else
		vconn_hang_up(c);
}

static void vsock_accept(void *arg, u32 events)
{
	struct vsock *s = arg;
	int fd = accept4(s->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)events;
	if (fd < 0)
		return;
	pthread_mutex_lock(s->f.lock);
	vsock_settle(s);
	vconn_new(s, fd, VCONN_GREETING);
	pthread_mutex_unlock(s->f.lock);
}

/* ---- a stream's socket ---- */

static void vconn_turn(struct vconn *c, u32 events)
{
	if (c->state == VCONN_GREETING) {
		vconn_greet(c);
		return;
	}
	if (events & (EPOLLHUP | EPOLLERR)) {
		if (c->state != VCONN_OPEN) {
			vconn_hang_up(c);
			return;
		}
		c->hung = true;
		/* It ends when what it sent before has been read. */
		vconn_send(c, c->eof ? VCONN_SEND_SHUTDOWN : VCONN_SEND_RW);
	} else if (events & EPOLLIN && c->state == VCONN_OPEN) {
		vconn_send(c, VCONN_SEND_RW);
	}
	if (events & EPOLLOUT && c->len)
		vconn_flush(c);
}

/* The watch is set anew once the device has taken what it can: c may be gone
 * then, which its place in the list of all shows. */
void vconn_event(void *arg, u32 events)
{
	struct vconn *c = arg, *i;
	struct vsock *s = c->s;

	pthread_mutex_lock(s->f.lock);
	if (s->drop) {
		vsock_settle(s);
	} else {
		vconn_turn(c, events);
		s->f.ready(s->f.arg);
		for (i = TAILQ_FIRST(&s->all); i && i != c;)
			i = TAILQ_NEXT(i, all);
		if (i)
			vconn_watch(c);
	}
	pthread_mutex_unlock(s->f.lock);
}

/* ---- life ---- */

/* A socket that a killed machine left is removed; another's is not. */
static int vsock_bind(struct vsock *s, const char *path, struct err *e)
{
	struct sockaddr_un a;
	int fd;

	vsock_address(s, "", &a);
	fd = vsock_socket();
	if (fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) &&
	    errno == ECONNREFUSED)
		unlinkat(s->dir, s->name, 0);
	if (fd >= 0)
		close(fd);
	fd = vsock_socket();
	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket");
	if (!bind(fd, (struct sockaddr *)&a, sizeof(a))) {
		s->listen = fd;
		if (!fchmodat(s->dir, s->name, 0600, 0) && !listen(fd, BACKLOG))
			return 0;
	}
	if (s->listen < 0)
		close(fd);
	return err_errno(e, -errno,
			 "--vsock: cannot listen at %s (give another "
			 "path=FILE)",
			 path);
}

static int vsock_open(struct vsock *s, const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *folder;

	if (!*name || strlen(name) >= sizeof(s->name) - 12)
		return err_set(e, -EINVAL,
			       "--vsock: '%s' is no name for a socket", path);
	strcpy(s->name, name);
	folder = slash ? strndup(path, (size_t)(name - path)) : strdup(".");
	if (!folder)
		return err_set(e, -ENOMEM, "no memory for a name");
	s->dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->dir < 0)
		err_errno(e, -errno, "--vsock: the folder %s", folder);
	free(folder);
	return s->dir < 0 ? -ENOENT : vsock_bind(s, path, e);
}

struct vsock *vsock_new(const char *path, struct err *e)
{
	struct vsock *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, -ENOMEM, "no memory for virtio sockets");
		return NULL;
	}
	s->dir = s->listen = -1;
	TAILQ_INIT(&s->all);
	TAILQ_INIT(&s->ready);
	if (!vsock_open(s, path, e))
		return s;
	vsock_free(s);
	return NULL;
}

int vsock_start(struct vsock *s, const struct vsock_front *f, struct err *e)
{
	s->f = *f;
	s->watch = loop_fd_add(f->loop, s->listen, EPOLLIN, vsock_accept, s, e);
	return s->watch ? 0 : -ENOMEM;
}

void vsock_free(struct vsock *s)
{
	if (!s)
		return;
	while (!TAILQ_EMPTY(&s->all))
		vconn_free(TAILQ_FIRST(&s->all));
	loop_fd_del(s->watch);
	if (s->listen >= 0) {
		close(s->listen);
		unlinkat(s->dir, s->name, 0);
	}
	if (s->dir >= 0)
		close(s->dir);
	free(s);
}
