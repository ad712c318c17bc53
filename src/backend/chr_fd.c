/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The monitor's terminal or pipes as a character backend.
 *
 * Descriptors are reopened through /proc, so that non-blocking mode is ours
 * alone and not that of everybody who shares the terminal; where that cannot
 * be, the flag is set on the original and taken back at the end.
 *
 * Guests write serial ports byte by byte. A write(2) happens at the end of a
 * line, when much has gathered, or two milliseconds later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/chr.h"
#include "base/clock.h"
#include "base/log.h"

#define OUT_MAX    (1024 * KIB)
#define OUT_GATHER 512u
#define OUT_DELAY  2000000u /* ns */
#define END_WAIT   500      /* ms for a slow reader at the end */
#define ESCAPE     0x1d     /* Ctrl-] */

/* One direction's descriptor. */
struct chr_end {
	int fd;      /* -1: none */
	bool own;    /* reopened: to be closed */
	int restore; /* flags to give back, or -1 */
};

struct chr_fd {
	struct chr chr;
	struct loop *loop;
	struct chr_end in, out;
	void (*escape)(void *arg);
	void *escape_arg;

	struct loop_fd *in_watch, *out_watch;
	struct loop_timer *resume, *flush;

	/* loop thread */
	u8 input[256];
	size_t held; /* bytes of input[] that the receiver has no room for */
	bool escaped, eof;

	pthread_mutex_t lock; /* guards what follows */
	u8 *buf;
	size_t start, len, size;
	bool blocked; /* waiting for EPOLLOUT */
	bool broken;  /* nobody reads any more */
	u64 dropped;
};

/* ---- descriptors ---- */

static int chr_end_open(struct chr_end *d, int fd, int mode)
{
	char path[32];
	struct stat st;
	int flags;

	d->fd = fd;
	if (fd < 0)
		return 0;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fstat(fd, &st))
		return -errno;
	if (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
		return 0;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fd = open(path, mode | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0) {
		d->fd = fd;
		d->own = true;
	} else if (!(flags & O_NONBLOCK)) {
		d->restore = flags;
		fcntl(d->fd, F_SETFL, flags | O_NONBLOCK);
	}
	return 0;
}

static void chr_end_close(struct chr_end *d)
{
	if (d->restore >= 0)
		fcntl(d->fd, F_SETFL, d->restore);
	if (d->own)
		close(d->fd);
}

/* ---- output ---- */

/* Writes what the far side takes now. */
static void chr_fd_flush_locked(struct chr_fd *c)
{
	while (c->len && !c->broken) {
		ssize_t n = write(c->out.fd, c->buf + c->start, c->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			c->blocked = true;
			loop_fd_events(c->out_watch, EPOLLOUT);
			return;
		}
		if (n <= 0) {
			log_warn("console output is lost");
			c->broken = true;
			break;
		}
		c->start += (size_t)n;
		c->len -= (size_t)n;
	}
	c->start = 0;
	if (c->broken)
		c->len = 0;
}

/* Room for n more bytes, as far as the bound allows; how many. */
static size_t chr_fd_grow_locked(struct chr_fd *c, size_t n)
{
	size_t size = c->size ? c->size : 1024;
	u8 *buf;

	if (c->start) {
		memmove(c->buf, c->buf + c->start, c->len);
		c->start = 0;
	}
	while (size < c->len + n && size < OUT_MAX)
		size *= 2;
	if (size > c->size) {
		buf = realloc(c->buf, size);
		if (buf) {
			c->buf = buf;
			c->size = size;
		}
	}
	return MIN(n, c->size - c->len);
}

static size_t chr_fd_write(struct chr *chr, const void *buf, size_t n)
{
	struct chr_fd *c = (struct chr_fd *)chr;
	size_t room;
	bool first;

	if (c->out.fd < 0 || !n)
		return n;
	pthread_mutex_lock(&c->lock);
	first = !c->len;
	room = c->broken ? 0 : chr_fd_grow_locked(c, n);
	if (room)
		memcpy(c->buf + c->start + c->len, buf, room);
	c->len += room;
	c->dropped += n - room;
	if (c->blocked || c->broken || !room)
		;
	else if (c->len >= OUT_GATHER || memchr(buf, '\n', room))
		chr_fd_flush_locked(c);
	else if (first)
		loop_timer_arm(c->flush, clock_ns() + OUT_DELAY);
	pthread_mutex_unlock(&c->lock);
	return room;
}

static void chr_fd_flush(void *arg)
{
	struct chr_fd *c = arg;

	pthread_mutex_lock(&c->lock);
	if (!c->blocked)
		chr_fd_flush_locked(c);
	pthread_mutex_unlock(&c->lock);
}

static void chr_fd_writable(void *arg, u32 events)
{
	struct chr_fd *c = arg;

	(void)events;
	pthread_mutex_lock(&c->lock);
	c->blocked = false;
	loop_fd_events(c->out_watch, 0);
	chr_fd_flush_locked(c);
	pthread_mutex_unlock(&c->lock);
}

/* ---- input ---- */

/* Takes the escape sequences out of input[]; how many bytes are left. */
static size_t chr_fd_unescape(struct chr_fd *c, const u8 *raw, size_t n)
{
	size_t out = 0;

	for (size_t i = 0; i < n; i++) {
		u8 b = raw[i];

		if (!c->escape) {
			c->input[out++] = b;
		} else if (!c->escaped) {
			c->escaped = b == ESCAPE;
			if (!c->escaped)
				c->input[out++] = b;
		} else {
			c->escaped = false;
			if (b == 'q') {
				c->escape(c->escape_arg);
				continue;
			}
			c->input[out++] = ESCAPE;
			if (b != ESCAPE)
				c->input[out++] = b;
		}
	}
	return out;
}

/* Hands held input to the receiver; true if all of it was taken. */
static bool chr_fd_deliver(struct chr_fd *c)
{
	size_t (*input)(void *, const u8 *, size_t);
	size_t n = 0;

	input = __atomic_load_n(&c->chr.input, __ATOMIC_ACQUIRE);
	if (input && c->held)
		n = input(c->chr.input_arg, c->input, c->held);
	c->held -= n;
	memmove(c->input, c->input + n, c->held);
	if (input && !c->held && c->eof)
		input(c->chr.input_arg, c->input, 0);
	return !c->held;
}

static void chr_fd_readable(void *arg, u32 events)
{
	struct chr_fd *c = arg;
	u8 raw[sizeof(c->input) / 2]; /* an escape may yield two bytes */
	ssize_t n;

	(void)events;
	n = read(c->in.fd, raw, sizeof(raw));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->eof = true;
		loop_fd_events(c->in_watch, 0);
		chr_fd_deliver(c);
		return;
	}
	c->held = chr_fd_unescape(c, raw, (size_t)n);
	if (!chr_fd_deliver(c))
		loop_fd_events(c->in_watch, 0);
}

static void chr_fd_resume(void *arg)
{
	struct chr_fd *c = arg;

	if (chr_fd_deliver(c) && !c->eof)
		loop_fd_events(c->in_watch, EPOLLIN);
}

/* May come with the receiver's lock held: the loop goes on with it. */
static void chr_fd_room(struct chr *chr)
{
	struct chr_fd *c = (struct chr_fd *)chr;

	loop_timer_arm(c->resume, 1);
}

/* ---- life ---- */

/* What was said last is often what matters: wait a little for the reader. */
static void chr_fd_drain(struct chr_fd *c)
{
	u64 end = clock_ns() + END_WAIT * 1000000ull;

	pthread_mutex_lock(&c->lock);
	chr_fd_flush_locked(c);
	while (c->len && clock_ns() < end) {
		struct pollfd p = {.fd = c->out.fd, .events = POLLOUT};

		if (poll(&p, 1, END_WAIT) > 0)
			chr_fd_flush_locked(c);
	}
	pthread_mutex_unlock(&c->lock);
}

static void chr_fd_free(struct chr *chr)
{
	struct chr_fd *c = (struct chr_fd *)chr;

	loop_timer_free(c->flush);
	loop_timer_free(c->resume);
	loop_fd_del(c->in_watch);
	if (c->out_watch)
		chr_fd_drain(c);
	loop_fd_del(c->out_watch);
	if (c->dropped)
		log_info("%lu bytes of console output were dropped",
			 c->dropped);
	chr_end_close(&c->in);
	chr_end_close(&c->out);
	pthread_mutex_destroy(&c->lock);
	free(c->buf);
	free(c);
}

static const struct chr_ops chr_fd_ops = {
	.write = chr_fd_write,
	.free = chr_fd_free,
};

static int chr_fd_watch(struct chr_fd *c, struct loop *l, struct err *e)
{
	c->flush = loop_timer_new(l, chr_fd_flush, c);
	c->resume = loop_timer_new(l, chr_fd_resume, c);
	if (!c->flush || !c->resume)
		return err_set(e, -ENOMEM, "no memory for a console");
	/* held back until there is a receiver: chr_fd_resume() */
	if (c->in.fd >= 0)
		c->in_watch =
			loop_fd_add(l, c->in.fd, 0, chr_fd_readable, c, e);
	if (c->out.fd >= 0)
		c->out_watch =
			loop_fd_add(l, c->out.fd, 0, chr_fd_writable, c, e);
	if ((c->in.fd >= 0 && !c->in_watch) ||
	    (c->out.fd >= 0 && !c->out_watch))
		return -EIO;
	return 0;
}

struct chr *chr_fd_new(struct loop *l, int in_fd, int out_fd,
		       void (*escape)(void *arg), void *arg, struct err *e)
{
	struct chr_fd *c = calloc(1, sizeof(*c));
	int rc;

	if (!c) {
		err_set(e, -ENOMEM, "no memory for a console");
		return NULL;
	}
	c->chr.ops = &chr_fd_ops;
	c->chr.room = chr_fd_room;
	c->loop = l;
	c->escape = escape;
	c->escape_arg = arg;
	c->in = c->out = (struct chr_end){.fd = -1, .restore = -1};
	pthread_mutex_init(&c->lock, NULL);
	c->eof = in_fd < 0;
	rc = chr_end_open(&c->in, in_fd, O_RDONLY);
	if (!rc)
		rc = chr_end_open(&c->out, out_fd, O_WRONLY);
	if (rc)
		err_errno(e, rc, "cannot use file descriptors %d and %d", in_fd,
			  out_fd);
	else
		rc = chr_fd_watch(c, l, e);
	if (rc) {
		chr_fd_free(&c->chr);
		return NULL;
	}
	return &c->chr;
}
