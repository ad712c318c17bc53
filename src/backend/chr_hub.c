/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Output goes into one ring; each client has a place in it. vCPU threads only
 * put bytes there and, if somebody is attached, arm a timer; the loop's
 * thread carries them to the sockets.
 */
#define _GNU_SOURCE
#include "backend/chr_hub.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define RING     (64 * KIB)
#define CLIENTS  8
#define DELAY    2000000u /* ns: guests write byte by byte */
#define END_WAIT 300      /* ms for slow readers at the end */

struct hub;

/* Loop thread. */
struct hub_client {
	struct hub *hub;
	int fd; /* -1: free */
	struct loop_fd *watch;
	u64 pos;     /* what it has seen of all output */
	bool full;   /* its socket takes no more now */
	size_t held; /* bytes of input the guest has no room for */
	u8 input[256];
};

struct hub {
	struct chr chr;
	struct loop *loop;
	struct chr *front;
	struct loop_timer *carry, *resume;
	struct hub_client client[CLIENTS];
	bool attached; /* atomic: any client is there */

	pthread_mutex_t lock; /* guards what follows */
	u8 *ring;
	u64 end; /* bytes of output so far */
	bool armed;
};

/* ---- output ---- */

static size_t hub_write(struct chr *chr, const void *buf, size_t n)
{
	struct hub *h = (struct hub *)chr;
	size_t keep = MIN(n, (size_t)RING);
	const u8 *p = (const u8 *)buf + (n - keep);
	bool arm;

	pthread_mutex_lock(&h->lock);
	h->end += n - keep;
	while (keep) {
		size_t at = h->end % RING, part = MIN(keep, RING - at);

		memcpy(h->ring + at, p, part);
		h->end += part;
		p += part;
		keep -= part;
	}
	arm = !h->armed && __atomic_load_n(&h->attached, __ATOMIC_RELAXED);
	h->armed |= arm;
	pthread_mutex_unlock(&h->lock);
	if (arm)
		loop_timer_arm(h->carry, clock_ns() + DELAY);
	chr_write(h->front, buf, n);
	return n;
}

/* The next bytes for a client, copied out; how many. */
static size_t hub_next(struct hub_client *c, char *buf, size_t max)
{
	struct hub *h = c->hub;
	size_t n = 0, at;

	pthread_mutex_lock(&h->lock);
	if (h->end - c->pos > RING) {
		n = (size_t)snprintf(buf, max, "\r\n[%llu bytes are lost]\r\n",
				     h->end - c->pos - RING);
		c->pos = h->end - RING;
	} else {
		at = c->pos % RING;
		n = MIN(MIN(max, (size_t)(h->end - c->pos)), RING - at);
		memcpy(buf, h->ring + at, n);
		c->pos += n;
	}
	pthread_mutex_unlock(&h->lock);
	return n;
}

static void hub_detach(struct hub_client *c)
{
	struct hub *h = c->hub;
	bool any = false;

	if (c->fd < 0)
		return;
	loop_fd_del(c->watch);
	close(c->fd);
	c->watch = NULL;
	c->fd = -1;
	for (unsigned i = 0; i < CLIENTS; i++)
		any |= h->client[i].fd >= 0;
	__atomic_store_n(&h->attached, any, __ATOMIC_RELAXED);
}

static void hub_watch(struct hub_client *c)
{
	u32 events = EPOLLPRI; /* a hang-up always comes */

	if (c->fd < 0)
		return;
	if (!c->held)
		events |= EPOLLIN;
	if (c->full)
		events |= EPOLLOUT;
	loop_fd_events(c->watch, events);
}

static void hub_send(struct hub_client *c)
{
	char buf[4096];
	size_t n;

	while (c->fd >= 0 && !c->full && (n = hub_next(c, buf, sizeof(buf)))) {
		ssize_t sent = send(c->fd, buf, n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent < 0 && errno != EAGAIN && errno != EINTR) {
			hub_detach(c);
			return;
		}
		sent = MAX(sent, 0);
		/* A note of loss that is not taken whole is made again. */
		c->pos -= MIN(n - (size_t)sent, c->pos);
		c->full = (size_t)sent < n;
	}
	hub_watch(c);
}

static void hub_carry(void *arg)
{
	struct hub *h = arg;

	pthread_mutex_lock(&h->lock);
	h->armed = false;
	pthread_mutex_unlock(&h->lock);
	for (unsigned i = 0; i < CLIENTS; i++)
		hub_send(&h->client[i]);
}

/* ---- input ---- */

/* Hands it to the guest. Only the front's end of input (n = 0) is told: a
 * client that goes may come again. */
static size_t hub_input(void *arg, const u8 *buf, size_t n)
{
	struct hub *h = arg;
	size_t (*input)(void *, const u8 *, size_t);

	input = __atomic_load_n(&h->chr.input, __ATOMIC_ACQUIRE);
	return input ? input(h->chr.input_arg, buf, n) : 0;
}

static void hub_deliver(struct hub_client *c)
{
	size_t n = c->held ? hub_input(c->hub, c->input, c->held) : 0;

	c->held -= n;
	memmove(c->input, c->input + n, c->held);
	hub_watch(c);
}

static void hub_resume(void *arg)
{
	struct hub *h = arg;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (h->client[i].fd >= 0 && h->client[i].held)
			hub_deliver(&h->client[i]);
	if (h->front)
		chr_input_ready(h->front);
}

/* May come with the device's lock held: the loop goes on with it. */
static void hub_room(struct chr *chr)
{
	loop_timer_arm(((struct hub *)chr)->resume, 1);
}

static void hub_event(void *arg, u32 events)
{
	struct hub_client *c = arg;
	ssize_t n;

	if (events & EPOLLOUT) {
		c->full = false;
		hub_send(c);
	}
	if (c->fd >= 0 && !c->held && (events & EPOLLIN)) {
		n = recv(c->fd, c->input, sizeof(c->input), MSG_DONTWAIT);
		if (!n || (n < 0 && errno != EAGAIN && errno != EINTR)) {
			hub_detach(c);
			return;
		}
		c->held = n > 0 ? (size_t)n : 0;
		hub_deliver(c);
	}
	if (events & (EPOLLHUP | EPOLLERR))
		hub_detach(c);
}

/* ---- life ---- */

bool chr_hub_full(const struct chr *hub)
{
	const struct hub *h = (const struct hub *)hub;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (h->client[i].fd < 0)
			return false;
	return true;
}

int chr_hub_attach(struct chr *hub, int fd, struct err *e)
{
	struct hub *h = (struct hub *)hub;
	struct hub_client *c = NULL;

	for (unsigned i = 0; i < CLIENTS; i++)
		if (h->client[i].fd < 0)
			c = &h->client[i];
	if (!c) {
		close(fd);
		return err_set(e, -EBUSY, "%d consoles are attached already",
			       CLIENTS);
	}
	*c = (struct hub_client){.hub = h, .fd = fd};
	c->watch =
		loop_fd_add(h->loop, fd, EPOLLIN | EPOLLPRI, hub_event, c, e);
	if (!c->watch) {
		close(fd);
		c->fd = -1;
		return -ENOMEM;
	}
	__atomic_store_n(&h->attached, true, __ATOMIC_RELAXED);
	pthread_mutex_lock(&h->lock);
	c->pos = h->end > RING ? h->end - RING : 0;
	pthread_mutex_unlock(&h->lock);
	hub_send(c);
	return 0;
}

/* What was said last is often what matters: wait a little for readers. */
static void hub_drain(struct hub_client *c, u64 until)
{
	struct pollfd p = {.fd = c->fd, .events = POLLOUT};

	hub_send(c);
	while (c->fd >= 0 && c->full && clock_ns() < until) {
		if (poll(&p, 1, END_WAIT) <= 0)
			continue;
		c->full = false;
		hub_send(c);
	}
	hub_detach(c);
}

static void hub_free(struct chr *chr)
{
	struct hub *h = (struct hub *)chr;
	u64 until = clock_ns() + END_WAIT * 1000000ull;

	for (unsigned i = 0; i < CLIENTS; i++)
		hub_drain(&h->client[i], until);
	loop_timer_free(h->carry);
	loop_timer_free(h->resume);
	chr_free(h->front);
	pthread_mutex_destroy(&h->lock);
	free(h->ring);
	free(h);
}

static const struct chr_ops hub_ops = {
	.write = hub_write,
	.free = hub_free,
};

struct chr *chr_hub_new(struct loop *l, struct chr *front, struct err *e)
{
	struct hub *h = calloc(1, sizeof(*h));

	if (!h) {
		chr_free(front);
		err_set(e, -ENOMEM, "no memory for a console");
		return NULL;
	}
	*h = (struct hub){.chr.ops = &hub_ops, .loop = l, .front = front};
	h->chr.room = hub_room;
	pthread_mutex_init(&h->lock, NULL);
	for (unsigned i = 0; i < CLIENTS; i++)
		h->client[i] = (struct hub_client){.hub = h, .fd = -1};
	h->ring = malloc(RING);
	h->carry = loop_timer_new(l, hub_carry, h);
	h->resume = loop_timer_new(l, hub_resume, h);
	if (!h->ring || !h->carry || !h->resume) {
		err_set(e, -ENOMEM, "no memory for a console");
		hub_free(&h->chr);
		return NULL;
	}
	chr_receive(front, hub_input, h);
	return &h->chr;
}
