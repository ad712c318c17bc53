/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "migrate/chan.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "migrate/tls.h"

#define CANCEL_MS 100 /* between two looks */

/* Whoever wakes up late may catch up on so much. */
#define PACE_CREDIT_NS 20000000u
/* What one write may take from the bandwidth at once. */
#define CHAN_PIECE (256 * KIB)

void mig_chan_init(struct mig_chan *c, int in, int out)
{
	*c = (struct mig_chan){
		.in = in,
		.out = out,
		.timeout_ms = MIG_TIMEOUT_MS,
	};
	pthread_mutex_init(&c->write_lock, NULL);
	fcntl(in, F_SETFL, fcntl(in, F_GETFL) | O_NONBLOCK);
	fcntl(out, F_SETFL, fcntl(out, F_GETFL) | O_NONBLOCK);
}

void mig_chan_close(struct mig_chan *c)
{
	mig_tls_free(c->tls);
	c->tls = NULL;
	if (c->out >= 0 && c->out != c->in)
		close(c->out);
	if (c->in >= 0)
		close(c->in);
	c->in = c->out = -1;
}

static int chan_gone(struct err *e)
{
	return err_set(e, -ECONNRESET, "the other side has gone away");
}

int mig_poll(int fd, short events, int ms, const struct mig_cancel *cancel,
	     struct err *e)
{
	u64 end = clock_ns() + (u64)ms * 1000000;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		u64 now = clock_ns();
		int left =
			now < end ? (int)((end - now + 999999) / 1000000) : 0;
		int n;

		if (cancel && cancel->cancelled(cancel->arg))
			return err_set(e, -ECANCELED, "cancelled");
		n = poll(&p, 1, cancel ? MIN(left, CANCEL_MS) : left);
		if (n > 0)
			return 1;
		if (n < 0 && errno != EINTR)
			return err_errno(e, -errno, "cannot wait");
		if (!left)
			return 0;
	}
}

int mig_chan_wait(struct mig_chan *c, int ms, struct err *e)
{
	if (mig_tls_pending(c->tls))
		return 1;
	return mig_poll(c->in, POLLIN, ms, c->cancel, e);
}

static int chan_ready(struct mig_chan *c, int fd, short events, struct err *e)
{
	int rc = mig_poll(fd, events, (int)c->timeout_ms, c->cancel, e);

	if (rc)
		return rc < 0 ? rc : 0;
	return err_set(e, -ETIMEDOUT,
		       "the other side has not moved for %u seconds",
		       (c->timeout_ms + 999) / 1000);
}

u64 mig_pace_at(struct mig_pace *p, size_t n, u64 now)
{
	u64 limit = __atomic_load_n(&p->limit, __ATOMIC_RELAXED);
	u64 cost, old, start;

	if (!limit)
		return now;
	cost = mul_div(n, 1000000000, limit);
	old = __atomic_load_n(&p->next_ns, __ATOMIC_RELAXED);
	do
		start = MAX(old, now - MIN(now, PACE_CREDIT_NS));
	while (!__atomic_compare_exchange_n(&p->next_ns, &old, start + cost,
					    false, __ATOMIC_RELAXED,
					    __ATOMIC_RELAXED));
	return start;
}

/* Waits until n more bytes may be sent. */
static int chan_pay(struct mig_chan *c, size_t n, struct err *e)
{
	u64 now = clock_ns(), start = now;

	if (c->pace)
		start = mig_pace_at(c->pace, n, now);
	if (start <= now + 1000000)
		return 0;
	/* Only a cancellation ends this wait early. */
	return MIN(
		mig_poll(-1, 0, (int)((start - now) / 1000000), c->cancel, e),
		0);
}

static ssize_t chan_out(struct mig_chan *c, const void *p, size_t n)
{
	ssize_t rc;

	if (c->tls)
		return mig_tls_write(c->tls, p, n);
	rc = send(c->out, p, n, MSG_NOSIGNAL);
	if (rc < 0 && errno == ENOTSOCK)
		rc = write(c->out, p, n);
	return rc < 0 ? -errno : rc;
}

static ssize_t chan_in(struct mig_chan *c, void *p, size_t n)
{
	ssize_t rc;

	if (c->tls)
		return mig_tls_read(c->tls, p, n);
	rc = read(c->in, p, n);
	return rc < 0 ? -errno : rc;
}

int mig_chan_write(struct mig_chan *c, const void *buf, size_t n, struct err *e)
{
	const u8 *p = buf;

	while (n) {
		size_t part = MIN(n, CHAN_PIECE);
		ssize_t rc = chan_pay(c, part, e);

		for (; !rc && part;) {
			ssize_t got = chan_out(c, p, part);

			if (got == -EINTR)
				continue;
			if (got == -EAGAIN)
				rc = chan_ready(c, c->out, POLLOUT, e);
			else if (got <= 0)
				rc = chan_gone(e);
			else {
				p += got;
				part -= (size_t)got;
				n -= (size_t)got;
				__atomic_add_fetch(&c->sent, (u64)got,
						   __ATOMIC_RELAXED);
			}
		}
		if (rc)
			return (int)rc;
	}
	return 0;
}

int mig_chan_read(struct mig_chan *c, void *buf, size_t n, struct err *e)
{
	u8 *p = buf;

	while (n) {
		ssize_t got = chan_in(c, p, n);
		int rc = 0;

		if (got == -EINTR)
			continue;
		if (got == -EAGAIN)
			rc = chan_ready(c, c->in, POLLIN, e);
		else if (got <= 0)
			rc = chan_gone(e);
		if (rc)
			return rc;
		if (got > 0) {
			p += got;
			n -= (size_t)got;
			__atomic_add_fetch(&c->received, (u64)got,
					   __ATOMIC_RELAXED);
		}
	}
	return 0;
}
