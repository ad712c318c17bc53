/* SPDX-License-Identifier: BSD-2-Clause */
/* Packets: which streams there are, what they may send, what they answer. */
#include "backend/vsock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "backend/vsock_priv.h"

u32 vsock_cid_draw(void)
{
	u32 v = 0;

	while (v < 1024)
		if (getrandom(&v, sizeof(v), 0) == sizeof(v))
			v &= 0x7fffffff;
	return v;
}

/* ---- streams ---- */

static unsigned vsock_bucket(u32 host_port, u32 guest_port)
{
	return (host_port * 31 + guest_port) % VSOCK_BUCKETS;
}

void vconn_key(struct vconn *c, u32 host_port, u32 guest_port)
{
	c->host_port = host_port;
	c->guest_port = guest_port;
	LIST_INSERT_HEAD(&c->s->bucket[vsock_bucket(host_port, guest_port)], c,
			 bucket);
}

/* One that is draining has lost its name. */
struct vconn *vconn_find(struct vsock *s, u32 host_port, u32 guest_port)
{
	struct vconn *c =
		LIST_FIRST(&s->bucket[vsock_bucket(host_port, guest_port)]);

	while (c && (c->host_port != host_port || c->guest_port != guest_port))
		c = LIST_NEXT(c, bucket);
	return c;
}

static void vconn_unkey(struct vconn *c)
{
	if (c->state != VCONN_GREETING && c->state != VCONN_DRAIN)
		LIST_REMOVE(c, bucket);
}

static void vconn_close(struct vconn *c)
{
	loop_fd_del(c->watch);
	c->watch = NULL;
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	free(c->buf);
	c->buf = NULL;
	c->len = 0;
}

static void vconn_unsend(struct vconn *c, u32 what)
{
	if (c->pending && !(c->pending & ~what))
		TAILQ_REMOVE(&c->s->ready, c, ready);
	c->pending &= ~what;
}

void vconn_free(struct vconn *c)
{
	vconn_close(c);
	vconn_unsend(c, ~0u);
	vconn_unkey(c);
	TAILQ_REMOVE(&c->s->all, c, all);
	c->s->nconns--;
	free(c);
}

/* Makes room: the oldest of those that only wait for the guest's RST. */
static void vsock_evict(struct vsock *s)
{
	struct vconn *c = TAILQ_FIRST(&s->all);

	while (c && c->state != VCONN_LINGER)
		c = TAILQ_NEXT(c, all);
	if (c)
		vconn_free(c);
}

struct vconn *vconn_new(struct vsock *s, int fd, enum vconn_state state)
{
	struct vconn *c = NULL;

	if (s->nconns >= VSOCK_CONNS)
		vsock_evict(s);
	if (s->nconns < VSOCK_CONNS)
		c = calloc(1, sizeof(*c));
	if (c)
		c->watch = loop_fd_add(s->f.loop, fd, EPOLLIN, vconn_event, c,
				       NULL);
	if (!c || !c->watch) {
		free(c);
		close(fd);
		return NULL;
	}
	c->s = s;
	c->fd = fd;
	c->events = EPOLLIN;
	c->state = state;
	TAILQ_INSERT_TAIL(&s->all, c, all);
	s->nconns++;
	return c;
}

void vconn_send(struct vconn *c, u32 what)
{
	if (!c->pending)
		TAILQ_INSERT_TAIL(&c->s->ready, c, ready);
	c->pending |= what;
}

/* EPOLLPRI never comes: it stands for nothing but the other end's going. */
void vconn_watch(struct vconn *c)
{
	u32 events = EPOLLPRI;

	if (!c->watch)
		return;
	if (c->state == VCONN_GREETING ||
	    (c->state == VCONN_OPEN && !c->eof && !c->dry &&
	     !(c->pending & VCONN_SEND_RW)))
		events |= EPOLLIN;
	if (c->len)
		events |= EPOLLOUT;
	if (c->hung)
		events = c->len ? EPOLLOUT : 0;
	if (events != c->events)
		loop_fd_events(c->watch, events);
	c->events = events;
}

void vconn_hang_up(struct vconn *c)
{
	if (c->state == VCONN_GREETING || c->state == VCONN_DRAIN) {
		vconn_free(c);
		return;
	}
	vconn_close(c);
	vconn_unsend(c, ~0u);
	if (c->state == VCONN_REQUESTED) {
		vconn_send(c, VCONN_SEND_RST);
		return;
	}
	c->state = VCONN_LINGER;
	c->eof = c->hung = true;
	vconn_send(c, VCONN_SEND_SHUTDOWN);
}

/* ---- from the guest ---- */

static void vsock_reset_later(struct vsock *s, u32 host_port, u32 guest_port)
{
	if (s->nresets < VSOCK_RESETS)
		s->reset[s->nresets++] =
			(struct vsock_key){host_port, guest_port};
	else
		s->dropped++;
}

/* The guest broke the rules, or its stream cannot go on. */
static void vconn_abort(struct vconn *c)
{
	vconn_close(c);
	vconn_unsend(c, ~0u);
	c->state = VCONN_LINGER;
	vconn_send(c, VCONN_SEND_RST);
}

/* The guest sends no more and all was written: so is it told the host. */
static void vconn_flushed(struct vconn *c)
{
	if (c->state == VCONN_DRAIN) {
		vconn_free(c);
		return;
	}
	if ((c->shut & VSOCK_SHUT_SEND) && c->fd >= 0)
		shutdown(c->fd, SHUT_WR);
	if (c->shut == (VSOCK_SHUT_SEND | VSOCK_SHUT_RECEIVE))
		vconn_abort(c);
}

/* How much of it the socket took; -1: it takes nothing any more. */
static s64 vconn_write(struct vconn *c, const u8 *p, u32 n)
{
	u32 done = 0;

	while (done < n) {
		ssize_t w = send(c->fd, p + done, n - done,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0 && errno != EAGAIN)
			return -1;
		if (w <= 0)
			break;
		done += (u32)w;
	}
	c->fwd_cnt += done;
	if (c->fwd_cnt - c->told > VSOCK_BUFFER / 4 && c->state == VCONN_OPEN)
		vconn_send(c, VCONN_SEND_CREDIT);
	return done;
}

void vconn_flush(struct vconn *c)
{
	s64 done = vconn_write(c, c->buf + c->at, c->len);

	if (done < 0) {
		vconn_hang_up(c);
		return;
	}
	c->at += (u32)done;
	c->len -= (u32)done;
	if (c->len) {
		vconn_watch(c);
		return;
	}
	free(c->buf);
	c->buf = NULL;
	vconn_watch(c);
	vconn_flushed(c);
}

/* Credit was given for it, so there is room. */
static bool vconn_keep(struct vconn *c, const u8 *p, u32 n)
{
	if (!c->buf) {
		c->buf = malloc(VSOCK_BUFFER);
		c->at = 0;
	}
	if (!c->buf)
		return false;
	if (c->at + c->len + n > VSOCK_BUFFER) {
		memmove(c->buf, c->buf + c->at, c->len);
		c->at = 0;
	}
	memcpy(c->buf + c->at + c->len, p, n);
	c->len += n;
	return true;
}

static void vconn_rw(struct vconn *c, const u8 *p, u32 n)
{
	s64 done = 0;

	if (c->state == VCONN_LINGER)
		return; /* on its way before it heard */
	if (c->state != VCONN_OPEN || c->shut & VSOCK_SHUT_SEND ||
	    n > VSOCK_BUFFER - (c->rx_cnt - c->fwd_cnt)) {
		vconn_abort(c);
		return;
	}
	c->rx_cnt += n;
	if (!c->len)
		done = vconn_write(c, p, n);
	if (done < 0)
		vconn_hang_up(c);
	else if (done < n && !vconn_keep(c, p + done, n - (u32)done))
		vconn_abort(c);
	else
		vconn_watch(c);
}

static void vconn_shutdown(struct vconn *c, u32 flags)
{
	c->shut |= flags & (VSOCK_SHUT_SEND | VSOCK_SHUT_RECEIVE);
	if (c->state != VCONN_OPEN) {
		vconn_abort(c);
		return;
	}
	if (c->shut & VSOCK_SHUT_RECEIVE) {
		c->eof = true; /* nothing more is read for it */
		vconn_unsend(c, VCONN_SEND_RW);
		shutdown(c->fd, SHUT_RD);
		vconn_watch(c);
	}
	if (!c->len)
		vconn_flushed(c);
}

/* What the guest sent before it went is still for the host. */
static void vconn_reset(struct vconn *c)
{
	if (!c->len || c->state != VCONN_OPEN) {
		vconn_free(c);
		return;
	}
	vconn_unsend(c, ~0u);
	vconn_unkey(c);
	c->state = VCONN_DRAIN;
	vconn_watch(c);
}

static void vconn_response(struct vconn *c)
{
	if (c->state != VCONN_REQUESTED) {
		vconn_abort(c);
		return;
	}
	c->state = VCONN_OPEN;
	vconn_accepted(c);
}

static void vsock_request(struct vsock *s, const struct vsock_hdr *h)
{
	int fd = vsock_connect(s, h->dst_port);
	struct vconn *c = NULL;

	if (fd >= 0)
		c = vconn_new(s, fd, VCONN_OPEN);
	if (!c) {
		vsock_reset_later(s, h->dst_port, h->src_port);
		return;
	}
	vconn_key(c, h->dst_port, h->src_port);
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	vconn_send(c, VCONN_SEND_RESPONSE);
}

static void vconn_credit(struct vconn *c, const struct vsock_hdr *h)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	if (!c->dry)
		return;
	c->dry = false;
	if (c->state == VCONN_OPEN)
		vconn_send(c, VCONN_SEND_RW);
}

static void vconn_packet(struct vconn *c, const struct vsock_hdr *h,
			 const u8 *data)
{
	vconn_credit(c, h);
	switch (h->op) {
	case VSOCK_RESPONSE: vconn_response(c); break;
	case VSOCK_RST: vconn_reset(c); break;
	case VSOCK_SHUTDOWN: vconn_shutdown(c, h->flags); break;
	case VSOCK_RW: vconn_rw(c, data, h->len); break;
	case VSOCK_CREDIT_UPDATE: break;
	case VSOCK_CREDIT_REQUEST:
		if (c->state == VCONN_OPEN)
			vconn_send(c, VCONN_SEND_CREDIT);
		break;
	default: vconn_abort(c); /* a second request, or nonsense */
	}
}

/* What does not come from the guest to us is not answered. */
void vsock_packet(struct vsock *s, const struct vsock_hdr *h, const u8 *data)
{
	struct vconn *c;

	vsock_settle(s);
	if (h->src_cid != s->f.cid || h->dst_cid != VSOCK_CID_HOST) {
		s->dropped++;
		return;
	}
	c = h->type == VSOCK_STREAM ? vconn_find(s, h->dst_port, h->src_port)
				    : NULL;
	if (c)
		vconn_packet(c, h, data);
	else if (h->op == VSOCK_REQUEST && h->type == VSOCK_STREAM)
		vsock_request(s, h);
	else if (h->op != VSOCK_RST)
		vsock_reset_later(s, h->dst_port, h->src_port);
}

/* ---- to the guest ---- */

bool vsock_pending(const struct vsock *s)
{
	return s->nresets || !TAILQ_EMPTY(&s->ready);
}

/* Bytes read for an RW packet: 0: there is none to send now. */
static u32 vconn_read(struct vconn *c, u8 *data, u32 room)
{
	u32 used = c->tx_cnt - c->peer_fwd;
	u32 credit = used < c->peer_alloc ? c->peer_alloc - used : 0;
	ssize_t n;

	if (!credit) {
		c->dry = true;
		vconn_send(c, VCONN_SEND_ASK);
		return 0;
	}
	do
		n = recv(c->fd, data, MIN(room, credit), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n > 0)
		return (u32)n;
	if (n < 0 && errno == EAGAIN)
		return 0;
	c->eof = true;
	c->hung |= n < 0;
	vconn_send(c, VCONN_SEND_SHUTDOWN);
	return 0;
}

static void vconn_header(struct vconn *c, struct vsock_hdr *h, u16 op)
{
	h->op = op;
	h->src_port = c->host_port;
	h->dst_port = c->guest_port;
	h->buf_alloc = VSOCK_BUFFER;
	h->fwd_cnt = c->told = c->fwd_cnt;
	c->pending &= ~(u32)VCONN_SEND_CREDIT;
}

/* The one packet for a bit of pending, which is taken out. */
static bool vconn_make(struct vconn *c, u32 bit, struct vsock_hdr *h, u8 *data,
		       u32 room)
{
	static const u16 ops[] = {
		VSOCK_REQUEST,  VSOCK_RESPONSE,      VSOCK_RW,
		VSOCK_SHUTDOWN, VSOCK_CREDIT_UPDATE, VSOCK_CREDIT_REQUEST,
		VSOCK_RST};

	if (bit == VCONN_SEND_RW) {
		h->len = vconn_read(c, data, room);
		c->tx_cnt += h->len;
		if (!h->len) {
			c->pending &= ~bit;
			return false;
		}
	} else {
		c->pending &= ~bit;
	}
	if (bit == VCONN_SEND_SHUTDOWN)
		h->flags = VSOCK_SHUT_SEND |
			   (c->hung ? (u32)VSOCK_SHUT_RECEIVE : 0);
	vconn_header(c, h, ops[__builtin_ctz(bit)]);
	return true;
}

/* The next packet of the first stream that waits; it then is the last. */
static bool vsock_next_of(struct vsock *s, struct vconn *c, struct vsock_hdr *h,
			  u8 *data, u32 room)
{
	bool made = false, end;

	while (!made && c->pending)
		made = vconn_make(c, c->pending & -c->pending, h, data, room);
	end = made && h->op == VSOCK_RST;
	TAILQ_REMOVE(&s->ready, c, ready);
	if (c->pending)
		TAILQ_INSERT_TAIL(&s->ready, c, ready);
	if (end)
		vconn_free(c);
	else if (c->hung && c->fd >= 0 && h->op == VSOCK_SHUTDOWN && !c->len) {
		vconn_close(c);
		c->state = VCONN_LINGER;
	} else {
		vconn_watch(c);
	}
	return made;
}

bool vsock_next(struct vsock *s, struct vsock_hdr *h, u8 *data, u32 room)
{
	bool made = false;

	vsock_settle(s);
	*h = (struct vsock_hdr){.src_cid = VSOCK_CID_HOST,
				.dst_cid = s->f.cid,
				.type = VSOCK_STREAM};
	if (s->nresets) {
		const struct vsock_key *k = &s->reset[--s->nresets];

		h->op = VSOCK_RST;
		h->src_port = k->host_port;
		h->dst_port = k->guest_port;
		return true;
	}
	while (!made && !TAILQ_EMPTY(&s->ready))
		made = vsock_next_of(s, TAILQ_FIRST(&s->ready), h, data, room);
	return made;
}

/* ---- the end of all ---- */

void vsock_settle(struct vsock *s)
{
	struct vconn *c, *next;

	if (!s->drop)
		return;
	s->drop = false;
	s->nresets = 0;
	for (c = TAILQ_FIRST(&s->all); c; c = next) {
		next = TAILQ_NEXT(c, all);
		if (c->state != VCONN_DRAIN)
			vconn_free(c);
	}
}

static void vsock_settle_call(void *arg)
{
	struct vsock *s = arg;

	pthread_mutex_lock(s->f.lock);
	vsock_settle(s);
	pthread_mutex_unlock(s->f.lock);
}

/* A watch cannot be deleted here: its callback may wait for our lock. */
void vsock_drop(struct vsock *s)
{
	if (TAILQ_EMPTY(&s->all) && !s->nresets)
		return;
	s->drop = true;
	loop_call(s->f.loop, vsock_settle_call, s);
}

void vsock_up(struct vsock *s, bool up)
{
	s->up = up;
	if (!up)
		vsock_drop(s);
}
