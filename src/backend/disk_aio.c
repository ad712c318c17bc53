/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/disk_aio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

#define AIO_ZEROES (64 * KIB)

static const u8 aio_zeroes[AIO_ZEROES];

int aio_init(struct aio *a, struct loop *l, void (*settled)(void *arg),
	     void *arg, struct err *e)
{
	const char *force = getenv("SUBLET_AIO");

	*a = (struct aio){
		.ops = &aio_uring_ops,
		.loop = l,
		.settled = settled,
		.settled_arg = arg,
	};
	if (!force || strcmp(force, "threads")) {
		if (!a->ops->start(a, e))
			return 0;
		log_debug("no io_uring: threads do disk I/O");
	}
	a->ops = &aio_threads_ops;
	return a->ops->start(a, e);
}

void aio_fini(struct aio *a)
{
	if (a->ops)
		a->ops->stop(a);
	a->ops = NULL;
}

void aio_submit(struct aio *a, struct disk_req *r)
{
	a->ops->submit(a, r);
}

void aio_kick(struct aio *a)
{
	if (a->ops->kick)
		a->ops->kick(a);
}

static void aio_advance(struct disk_req *r, u64 n)
{
	r->off += n;
	r->len -= n;
	for (; n && n >= r->iov->iov_len; r->iov++, r->niov--)
		n -= r->iov->iov_len;
	if (n) {
		r->iov->iov_base = (u8 *)r->iov->iov_base + n;
		r->iov->iov_len -= n;
	}
}

/* The next piece of zeroing by writing; the length stays in the request. */
static void aio_zero_next(struct aio *a, struct disk_req *r)
{
	r->zero.iov_base = (void *)aio_zeroes;
	r->zero.iov_len = MIN(r->len, AIO_ZEROES);
	r->iov = &r->zero;
	r->niov = 1;
	r->op = DISK_WRITE;
	a->ops->submit(a, r);
}

static void aio_done(struct disk_req *r, int rc)
{
	r->done(r, rc);
}

static void aio_error(struct aio *a, struct disk_req *r, int rc)
{
	bool cannot = rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENODEV;

	if (rc == -EAGAIN || rc == -EINTR)
		a->ops->submit(a, r);
	else if (r->op == DISK_DISCARD && cannot)
		aio_done(r, 0); /* only advice */
	else if (r->op == DISK_ZERO && cannot)
		aio_zero_next(a, r);
	else
		aio_done(r, rc);
}

void aio_result(struct aio *a, struct disk_req *r, s64 res)
{
	if (res < 0) {
		aio_error(a, r, (int)res);
		return;
	}
	if (r->op != DISK_READ && r->op != DISK_WRITE) {
		aio_done(r, 0);
		return;
	}
	if (!res || (u64)res > r->len) { /* the file was made shorter */
		aio_done(r, -EIO);
		return;
	}
	aio_advance(r, (u64)res);
	if (!r->len)
		aio_done(r, 0);
	else if (!r->niov)
		aio_zero_next(a, r);
	else
		a->ops->submit(a, r);
}
