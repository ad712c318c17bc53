/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libslirp on an event loop. All of its sockets are in an epoll set of their
 * own, which the loop watches as one descriptor; whenever it is readable, or
 * libslirp's timeout is over, one turn is taken: report what is ready, ask
 * which sockets matter now, hand the guest its frames.
 *
 * The library is loaded and the network made with the guest's first frame, or
 * at once if ports are forwarded: most of the monitor's memory would be its.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/net.h"
#include "backend/slirp_lib.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"

#define USER_FRAMES 1024 /* waiting for the guest */
#define USER_READY  64   /* events taken at once */
#define USER_FWDS   64

struct frame {
	struct frame *next;
	size_t len;
	u8 data[];
};

/* What we know of a descriptor, by its number. */
struct user_fd {
	u32 watched; /* epoll events it is in the set with; 0: not in */
	u32 ready;
	bool wanted; /* libslirp asked for it this time */
};

struct net_user {
	struct net n; /* first */
	const struct slirp_lib *lib;
	Slirp *slirp; /* NULL: not made yet */
	bool failed;  /* could not be made: frames are dropped */
	struct loop *loop;
	int epoll, wake;
	struct loop_fd *watch;
	struct loop_timer *timeout;
	struct user_fd *fd; /* by number */
	unsigned nfds;
	int *polled; /* by the index libslirp was given */
	unsigned npolled, polled_max;
	struct frame *first, **last;
	unsigned nframes;
	u64 dropped;
	struct net_forward forward[USER_FWDS];
	unsigned nforwards;
};

/* ---- libslirp's sockets ---- */

static u32 user_to_epoll(int events)
{
	return (events & SLIRP_POLL_IN ? EPOLLIN : 0u) |
	       (events & SLIRP_POLL_OUT ? EPOLLOUT : 0u) |
	       (events & SLIRP_POLL_PRI ? EPOLLPRI : 0u);
}

static int user_from_epoll(u32 events)
{
	return (events & EPOLLIN ? SLIRP_POLL_IN : 0) |
	       (events & EPOLLOUT ? SLIRP_POLL_OUT : 0) |
	       (events & EPOLLPRI ? SLIRP_POLL_PRI : 0) |
	       (events & EPOLLERR ? SLIRP_POLL_ERR : 0) |
	       (events & EPOLLHUP ? SLIRP_POLL_HUP : 0);
}

static struct user_fd *user_fd(struct net_user *u, int fd)
{
	unsigned want = (unsigned)fd + 1, size = MAX(u->nfds, 64u);
	struct user_fd *p;

	if (fd < 0)
		return NULL;
	if (want <= u->nfds)
		return &u->fd[fd];
	while (size < want)
		size *= 2;
	p = realloc(u->fd, size * sizeof(*p));
	if (!p)
		return NULL;
	memset(p + u->nfds, 0, (size - u->nfds) * sizeof(*p));
	u->fd = p;
	u->nfds = size;
	return &u->fd[fd];
}

static void user_watch(struct net_user *u, int fd, u32 events)
{
	struct user_fd *f = &u->fd[fd];
	struct epoll_event ev = {.events = events, .data.fd = fd};

	if (f->watched == events)
		return;
	epoll_ctl(u->epoll,
		  !events      ? EPOLL_CTL_DEL
		  : f->watched ? EPOLL_CTL_MOD
			       : EPOLL_CTL_ADD,
		  fd, &ev);
	f->watched = events;
}

/* A number that comes to stand for a new socket, or no longer for one. */
static void user_forget(int fd, void *opaque)
{
	struct net_user *u = opaque;

	if (fd >= 0 && (unsigned)fd < u->nfds) {
		user_watch(u, fd, 0);
		u->fd[fd].ready = 0;
	}
}

static int user_add_poll(int fd, int events, void *opaque)
{
	struct net_user *u = opaque;
	struct user_fd *f = user_fd(u, fd);

	if (!f)
		return -1;
	if (u->npolled == u->polled_max) {
		unsigned max = u->polled_max ? 2 * u->polled_max : 64;
		int *p = realloc(u->polled, max * sizeof(*p));

		if (!p)
			return -1;
		u->polled = p;
		u->polled_max = max;
	}
	f->wanted = true;
	user_watch(u, fd, user_to_epoll(events));
	u->polled[u->npolled] = fd;
	return (int)u->npolled++;
}

static int user_get_revents(int idx, void *opaque)
{
	struct net_user *u = opaque;

	if (idx < 0 || (unsigned)idx >= u->npolled)
		return 0;
	return user_from_epoll(u->fd[u->polled[idx]].ready);
}

static void user_collect(struct net_user *u)
{
	struct epoll_event ev[USER_READY];
	int n = epoll_wait(u->epoll, ev, USER_READY, 0);
	eventfd_t count;

	for (int i = 0; i < n; i++)
		if (ev[i].data.fd == u->wake)
			eventfd_read(u->wake, &count);
		else
			u->fd[ev[i].data.fd].ready = ev[i].events;
}

/* Those it no longer asks for leave the set. */
static void user_refill(struct net_user *u)
{
	u32 timeout = UINT32_MAX;

	for (unsigned fd = 0; fd < u->nfds; fd++) {
		u->fd[fd].wanted = false;
		u->fd[fd].ready = 0;
	}
	u->npolled = 0;
	u->lib->pollfds_fill(u->slirp, &timeout, user_add_poll, u);
	for (unsigned fd = 0; fd < u->nfds; fd++)
		if (u->fd[fd].watched && !u->fd[fd].wanted)
			user_watch(u, (int)fd, 0);
	loop_timer_arm(u->timeout, timeout == UINT32_MAX
					   ? 0
					   : clock_ns() + timeout * 1000000ull);
}

/* ---- frames for the guest ---- */

static ssize_t user_send_packet(const void *buf, size_t len, void *opaque)
{
	struct net_user *u = opaque;
	struct frame *f = NULL;

	if (u->nframes < USER_FRAMES)
		f = malloc(sizeof(*f) + len);
	if (!f) {
		u->dropped++; /* TCP sends it again */
		return (ssize_t)len;
	}
	f->next = NULL;
	f->len = len;
	memcpy(f->data, buf, len);
	*u->last = f;
	u->last = &f->next;
	u->nframes++;
	return (ssize_t)len;
}

static void user_drop_first(struct net_user *u)
{
	struct frame *f = u->first;

	u->first = f->next;
	if (!u->first)
		u->last = &u->first;
	u->nframes--;
	free(f);
}

static void user_deliver(struct net_user *u)
{
	bool any = false;

	while (u->first && u->n.recv &&
	       u->n.recv(u->n.recv_arg, u->first->data, u->first->len)) {
		user_drop_first(u);
		any = true;
	}
	if (any)
		u->n.recv_end(u->n.recv_arg);
}

static void user_turn(struct net_user *u)
{
	user_collect(u);
	if (!u->slirp)
		return;
	u->lib->pollfds_poll(u->slirp, 0, user_get_revents, u);
	user_refill(u);
	user_deliver(u);
}

static void user_event(void *arg, u32 events)
{
	(void)events;
	user_turn(arg);
}

static void user_timeout(void *arg)
{
	user_turn(arg);
}

/* ---- libslirp's other wishes ---- */

struct user_timer {
	struct net_user *u;
	struct loop_timer *timer;
	SlirpTimerCb fn;
	void *arg;
};

static void user_guest_error(const char *msg, void *opaque)
{
	(void)opaque;
	log_guest("network: %s", msg);
}

static int64_t user_clock(void *opaque)
{
	(void)opaque;
	return (int64_t)clock_ns();
}

static void user_timer_fire(void *arg)
{
	struct user_timer *t = arg;

	t->fn(t->arg);
	user_turn(t->u);
}

static void *user_timer_new(SlirpTimerCb fn, void *arg, void *opaque)
{
	struct net_user *u = opaque;
	struct user_timer *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	*t = (struct user_timer){.u = u, .fn = fn, .arg = arg};
	return t;
}

static void user_timer_free(void *timer, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	if (t)
		loop_timer_free(t->timer);
	free(t);
}

static void user_timer_mod(void *timer, int64_t ms, void *opaque)
{
	struct user_timer *t = timer;

	(void)opaque;
	if (t && !t->timer)
		t->timer = loop_timer_new(t->u->loop, user_timer_fire, t);
	if (t && t->timer)
		loop_timer_arm(t->timer, (u64)ms * 1000000);
}

static void user_notify(void *opaque)
{
	eventfd_write(((struct net_user *)opaque)->wake, 1);
}

static const SlirpCb user_callbacks = {
	.send_packet = user_send_packet,
	.guest_error = user_guest_error,
	.clock_get_ns = user_clock,
	.timer_new = user_timer_new,
	.timer_free = user_timer_free,
	.timer_mod = user_timer_mod,
	.register_poll_fd = user_forget,
	.unregister_poll_fd = user_forget,
	.notify = user_notify,
};

/* ---- as a backend ---- */

static void user_wake(struct net *n)
{
	user_notify(n);
}

static struct in_addr user_address(unsigned last)
{
	return (struct in_addr){htonl(0x0a000200 | last)};
}

static int user_forwards(struct net_user *u, struct err *e)
{
	for (unsigned i = 0; i < u->nforwards; i++) {
		const struct net_forward *f = &u->forward[i];
		struct in_addr host = {f->address};

		errno = 0;
		if (u->lib->add_hostfwd(u->slirp, f->udp, host, f->host,
					user_address(15), f->guest))
			return err_errno(e, errno ? -errno : -EADDRINUSE,
					 "cannot forward %s port %u of the "
					 "host",
					 f->udp ? "udp" : "tcp", f->host);
	}
	return 0;
}

static int user_make(struct net_user *u, struct err *e)
{
	SlirpConfig c = {
		.version = 1,
		.in_enabled = true,
		.vnetwork = user_address(0),
		.vnetmask = {htonl(0xffffff00)},
		.vhost = user_address(2),
		.vdhcp_start = user_address(15),
		.vnameserver = user_address(3),
		.vhostname = "sublet",
		.if_mtu = u->n.mtu,
		.if_mru = u->n.mtu,
	};

	u->lib = slirp_lib(e);
	if (!u->lib)
		return -ENOENT;
	u->slirp = u->lib->new (&c, &user_callbacks, u);
	if (!u->slirp)
		return err_set(e, -EIO, "cannot make a user-mode network");
	text_drop(); /* loading touched most of it */
	return user_forwards(u, e);
}

static void user_send(struct net *n, const u8 *frame, size_t len)
{
	struct net_user *u = (struct net_user *)n;
	struct err e;

	if (!u->slirp && !u->failed && user_make(u, &e)) {
		log_warnx("%s", e.text);
		u->failed = true;
	}
	if (u->slirp)
		u->lib->input(u->slirp, frame, (int)len);
}

static int user_start(struct net *n, struct loop *l, struct err *e)
{
	struct net_user *u = (struct net_user *)n;
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = u->wake};

	u->loop = l;
	u->timeout = loop_timer_new(l, user_timeout, u);
	if (!u->timeout || epoll_ctl(u->epoll, EPOLL_CTL_ADD, u->wake, &ev))
		return err_set(e, -ENOMEM, "cannot make a user-mode network");
	u->watch = loop_fd_add(l, u->epoll, EPOLLIN, user_event, u, e);
	if (!u->watch)
		return -ENOMEM;
	user_notify(u);
	return 0;
}

static void user_free(struct net *n)
{
	struct net_user *u = (struct net_user *)n;

	loop_fd_del(u->watch);
	loop_timer_free(u->timeout);
	if (u->slirp)
		u->lib->cleanup(u->slirp);
	while (u->first)
		user_drop_first(u);
	if (u->dropped)
		log_debug("network: %lu frames were dropped", u->dropped);
	if (u->epoll >= 0)
		close(u->epoll);
	if (u->wake >= 0)
		close(u->wake);
	free(u->fd);
	free(u->polled);
}

static const struct net_ops user_ops = {
	.start = user_start,
	.send = user_send,
	.flush = user_wake,
	.ready = user_wake,
	.free = user_free,
};

static int user_parse(struct net_user *u, const char *const *forwards,
		      unsigned n, struct err *e)
{
	int rc = 0;

	if (n > USER_FWDS)
		return err_set(e, -EINVAL, "more than %d forwards", USER_FWDS);
	for (; u->nforwards < n && !rc; u->nforwards++)
		rc = net_forward_parse(forwards[u->nforwards],
				       &u->forward[u->nforwards], e);
	return rc;
}

struct net *net_user_new(const char *const *forwards, unsigned nforwards,
			 struct err *e)
{
	struct net_user *u = calloc(1, sizeof(*u));

	if (!u) {
		err_set(e, -ENOMEM, "no memory for a network");
		return NULL;
	}
	u->n = (struct net){.ops = &user_ops, .mtu = 1500, .large = true};
	u->last = &u->first;
	u->epoll = epoll_create1(EPOLL_CLOEXEC);
	u->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (u->epoll < 0 || u->wake < 0)
		err_errno(e, -errno, "cannot make a network");
	else if (!user_parse(u, forwards, nforwards, e) &&
		 (!nforwards || !user_make(u, e)))
		return &u->n;
	net_free(&u->n);
	return NULL;
}
