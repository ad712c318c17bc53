/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Connections: bytes in, bytes out, limits. One request of a connection is
 * under way at a time; the next is read when it has been answered.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "base/clock.h"

#define IN_FIRST  2048u
#define OUT_MAX   (256 * KIB) /* not yet read by the client */
#define PATIENCE  10000000000ull
#define LOOK_EACH 2500000000ull
#define END_WAIT  300 /* ms for the last answers */

struct api_conn {
	struct api *api;
	struct api_conn *next;
	int fd;
	struct loop_fd *watch;
	struct api_call *call; /* under way; or NULL */
	bool busy;             /* conn_requests() is at work */
	bool ending;           /* to be closed when all is sent */
	u64 moved;             /* when bytes last came or went */
	char *in, *out;
	size_t in_len, in_size, out_start, out_len, out_size;
};

static void conn_unlink(struct api_conn *c)
{
	struct api_conn **p = &c->api->conns;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->api->nconns--;
	/* Callers up the stack may look at it once more. */
	c->next = c->api->dead;
	c->api->dead = c;
}

/* The connection's end; the descriptor is left to the caller. */
static void conn_drop(struct api_conn *c)
{
	struct api_call *call = c->call;

	loop_fd_del(c->watch);
	c->fd = -1;
	free(c->in);
	free(c->out);
	c->in = c->out = NULL;
	c->in_len = c->out_len = 0;
	conn_unlink(c);
	c->call = NULL;
	if (call)
		call_gone(call);
}

static void conn_close(struct api_conn *c)
{
	int fd = c->fd;

	if (fd < 0)
		return;
	conn_drop(c);
	close(fd);
}

static void conn_bury(struct api *a)
{
	struct api_conn *c;

	while ((c = a->dead)) {
		a->dead = c->next;
		free(c);
	}
}

/* While a call is under way only a hang-up matters, which always comes. */
static void conn_watch(struct api_conn *c)
{
	u32 want = EPOLLPRI;

	if (c->fd < 0)
		return;
	if (!c->call && !c->ending)
		want |= EPOLLIN;
	if (c->out_len)
		want |= EPOLLOUT;
	loop_fd_events(c->watch, want);
	if (c->in_len || c->out_len)
		loop_timer_arm(c->api->timer, clock_ns() + LOOK_EACH);
}

/* ---- output ---- */

static void conn_flush(struct api_conn *c)
{
	while (c->out_len) {
		ssize_t n = send(c->fd, c->out + c->out_start, c->out_len,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			conn_close(c);
			return;
		}
		c->out_start += (size_t)n;
		c->out_len -= (size_t)n;
		c->moved = clock_ns();
	}
	c->out_start = 0;
	if (c->ending && !c->call)
		conn_close(c);
}

void conn_send(struct api_conn *c, const void *p, size_t n)
{
	if (c->fd < 0)
		return;
	if (c->out_len > OUT_MAX) {
		conn_close(c);
		return;
	}
	if (c->out_start + c->out_len + n > c->out_size) {
		size_t size = c->out_len + n;
		char *out = malloc(size);

		if (!out) {
			conn_close(c);
			return;
		}
		if (c->out_len)
			memcpy(out, c->out + c->out_start, c->out_len);
		free(c->out);
		c->out = out;
		c->out_size = size;
		c->out_start = 0;
	}
	memcpy(c->out + c->out_start + c->out_len, p, n);
	if (!c->out_len)
		c->moved = clock_ns();
	c->out_len += n;
	conn_flush(c);
	conn_watch(c);
}

/* ---- input ---- */

/* Calls what has come whole, as long as each is answered at once. */
static void conn_requests(struct api_conn *c)
{
	static const char go[] = "HTTP/1.1 100 Continue\r\n\r\n";
	struct http_request r;
	struct err e;

	c->busy = true;
	while (c->fd >= 0 && !c->call && !c->ending && c->in_len) {
		int rc = http_read(&r, c->in, c->in_len, &e);

		if (rc < 0) {
			c->ending = true;
			call_refuse(c, rc == -EMSGSIZE ? 413 : 400, e.text);
			break;
		}
		if (!rc || c->in_len < r.head + r.body) {
			if (rc && r.expects && c->in_len == r.head)
				conn_send(c, go, sizeof(go) - 1);
			break;
		}
		c->ending = !r.keep;
		call_dispatch(c, c->api, &r, c->in + r.head);
		if (c->fd < 0)
			break;
		c->in_len -= r.head + r.body;
		memmove(c->in, c->in + r.head + r.body, c->in_len);
	}
	c->busy = false;
	if (c->fd >= 0 && !c->in_len) {
		free(c->in);
		c->in = NULL;
		c->in_size = 0;
	}
}

/* Room for more of a request, up to the largest there can be. */
static bool conn_room(struct api_conn *c)
{
	size_t size = c->in_size ? c->in_size * 2 : IN_FIRST;
	char *in;

	if (c->in_len < c->in_size)
		return true;
	if (c->in_size >= HTTP_HEAD_MAX + HTTP_BODY_MAX)
		return false;
	in = realloc(c->in, size);
	if (!in)
		return false;
	c->in = in;
	c->in_size = size;
	return true;
}

static void conn_read(struct api_conn *c)
{
	ssize_t n;

	if (!conn_room(c)) {
		conn_close(c);
		return;
	}
	n = recv(c->fd, c->in + c->in_len, c->in_size - c->in_len,
		 MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		/* What was asked for is still answered to a half-closed
		 * peer; nothing more will be asked. */
		c->ending = true;
		if (!c->out_len)
			conn_close(c);
		return;
	}
	if (!c->in_len)
		c->moved = clock_ns();
	c->in_len += (size_t)n;
	conn_requests(c);
}

static void conn_event(void *arg, u32 events)
{
	struct api_conn *c = arg;

	if (events & (EPOLLHUP | EPOLLERR)) {
		conn_close(c);
		return;
	}
	if (events & EPOLLOUT)
		conn_flush(c);
	if (c->fd >= 0 && (events & EPOLLIN))
		conn_read(c);
	conn_watch(c);
}

void conn_next(struct api_conn *c)
{
	c->call = NULL;
	if (c->ending && !c->out_len)
		conn_close(c);
	else if (!c->busy)
		conn_requests(c);
	conn_watch(c);
}

void conn_begin(struct api_conn *c, struct api_call *call)
{
	c->call = call;
}

int conn_take(struct api_conn *c)
{
	int fd = c->fd;

	c->call = NULL;
	conn_drop(c);
	return fd;
}

/* ---- all of them ---- */

/* Who began a request or an answer and goes no further loses it. */
static void conn_look(void *arg)
{
	struct api *a = arg;
	u64 now = clock_ns();
	bool more = false;

	for (struct api_conn *c = a->conns, *next; c; c = next) {
		next = c->next;
		if (!c->out_len && (c->call || !c->in_len))
			continue;
		if (now - c->moved > PATIENCE)
			conn_close(c);
		else
			more = true;
	}
	loop_fd_events(a->watch, EPOLLIN);
	if (more)
		loop_timer_arm(a->timer, now + LOOK_EACH);
}

/* One that waits for nothing makes room for a new one. */
static void conn_make_room(struct api *a)
{
	struct api_conn *idle = NULL;

	for (struct api_conn *c = a->conns; c; c = c->next)
		if (!c->call && !c->in_len && !c->out_len)
			idle = c; /* the oldest is last */
	if (idle)
		conn_close(idle);
}

static void conn_new(struct api *a, int fd)
{
	struct api_conn *c = calloc(1, sizeof(*c));

	if (c) {
		*c = (struct api_conn){.api = a, .fd = fd};
		c->watch = loop_fd_add(a->config.loop, fd, EPOLLIN | EPOLLPRI,
				       conn_event, c, NULL);
	}
	if (!c || !c->watch) {
		free(c);
		close(fd);
		return;
	}
	c->next = a->conns;
	a->conns = c;
	a->nconns++;
}

static void conn_accept(void *arg, u32 events)
{
	struct api *a = arg;
	int fd;

	(void)events;
	conn_bury(a);
	fd = accept4(a->config.listen, NULL, NULL,
		     SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0 && errno != EAGAIN && errno != EINTR) {
		/* No descriptor is free: not again and again at once. */
		loop_fd_events(a->watch, 0);
		loop_timer_arm(a->timer, clock_ns() + LOOK_EACH);
	}
	if (fd < 0)
		return;
	if (a->nconns >= API_CONNECTIONS)
		conn_make_room(a);
	if (a->nconns >= API_CONNECTIONS)
		close(fd);
	else
		conn_new(a, fd);
}

int api_listen(struct api *a, struct err *e)
{
	a->timer = loop_timer_new(a->config.loop, conn_look, a);
	if (!a->timer)
		return err_set(e, -ENOMEM, "no memory for the control socket");
	a->watch = loop_fd_add(a->config.loop, a->config.listen, EPOLLIN,
			       conn_accept, a, e);
	return a->watch ? 0 : -ENOMEM;
}

void api_unlisten(struct api *a)
{
	loop_fd_del(a->watch);
	a->watch = NULL;
	if (a->config.listen >= 0)
		close(a->config.listen);
	a->config.listen = -1;
}

void api_close(struct api *a)
{
	u64 end = clock_ns() + END_WAIT * 1000000ull;

	for (struct api_conn *c = a->conns, *next; c; c = next) {
		next = c->next;
		while (c->fd >= 0 && c->out_len && clock_ns() < end) {
			struct pollfd p = {.fd = c->fd, .events = POLLOUT};

			if (poll(&p, 1, END_WAIT) > 0)
				conn_flush(c);
		}
		conn_close(c);
	}
	conn_bury(a);
	api_unlisten(a);
	loop_timer_free(a->timer);
}
