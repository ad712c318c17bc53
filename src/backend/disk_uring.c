/* SPDX-License-Identifier: BSD-2-Clause */
/* io_uring; completions wake the loop by an eventfd. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/disk_aio.h"

#define URING_DEPTH 128

struct uring {
	struct io_uring ring;
	int event;
	struct loop_fd *watch;
	unsigned inflight;
	struct disk_req *first, **last; /* wait for room in the ring */
};

static void uring_prepare(struct io_uring_sqe *sqe, struct disk_req *r)
{
	switch (r->op) {
	case DISK_READ:
		io_uring_prep_readv(sqe, r->fd, r->iov, r->niov, r->off);
		break;
	case DISK_WRITE:
		io_uring_prep_writev(sqe, r->fd, r->iov, r->niov, r->off);
		if (r->sync)
			sqe->rw_flags = RWF_DSYNC;
		break;
	case DISK_FLUSH:
		io_uring_prep_fsync(sqe, r->fd, IORING_FSYNC_DATASYNC);
		break;
	case DISK_DISCARD:
		io_uring_prep_fallocate(
			sqe, r->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			(off_t)r->off, (off_t)r->len);
		break;
	case DISK_ZERO:
		io_uring_prep_fallocate(
			sqe, r->fd,
			FALLOC_FL_KEEP_SIZE | (r->unmap ? FALLOC_FL_PUNCH_HOLE
							: FALLOC_FL_ZERO_RANGE),
			(off_t)r->off, (off_t)r->len);
		break;
	}
	io_uring_sqe_set_data(sqe, r);
}

/* Moves what waits into the ring, as far as there is room. */
static void uring_fill(struct uring *u)
{
	while (u->first && u->inflight < URING_DEPTH) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
		struct disk_req *r = u->first;

		if (!sqe)
			return;
		u->first = r->next;
		if (!u->first)
			u->last = &u->first;
		uring_prepare(sqe, r);
		u->inflight++;
	}
}

static void uring_submit(struct aio *a, struct disk_req *r)
{
	struct uring *u = a->impl;

	r->next = NULL;
	*u->last = r;
	u->last = &r->next;
}

static void uring_kick(struct aio *a)
{
	struct uring *u = a->impl;
	int rc;

	do {
		uring_fill(u);
		rc = io_uring_submit(&u->ring);
	} while (rc > 0 && u->first && u->inflight < URING_DEPTH);
	/* -EBUSY, -EAGAIN: entries stay in the ring; go on at the next event */
	if (rc < 0)
		eventfd_write(u->event, 1);
}

static void uring_event(void *arg, u32 events)
{
	struct aio *a = arg;
	struct uring *u = a->impl;
	struct io_uring_cqe *cqe;
	eventfd_t n;

	(void)events;
	eventfd_read(u->event, &n);
	while (!io_uring_peek_cqe(&u->ring, &cqe)) {
		struct disk_req *r = io_uring_cqe_get_data(cqe);
		s64 res = cqe->res;

		io_uring_cqe_seen(&u->ring, cqe);
		u->inflight--;
		aio_result(a, r, res);
	}
	if (u->first || io_uring_sq_ready(&u->ring))
		uring_kick(a);
	a->settled(a->settled_arg);
}

static int uring_open(struct uring *u)
{
	struct io_uring_probe *probe;
	bool ok;
	int rc;

	rc = io_uring_queue_init(URING_DEPTH, &u->ring, 0);
	if (rc)
		return rc;
	probe = io_uring_get_probe_ring(&u->ring);
	ok = probe && io_uring_opcode_supported(probe, IORING_OP_FALLOCATE);
	io_uring_free_probe(probe);
	u->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!ok)
		rc = -ENOSYS;
	else if (u->event < 0)
		rc = -errno;
	else
		rc = io_uring_register_eventfd(&u->ring, u->event);
	if (!rc)
		return 0;
	if (u->event >= 0)
		close(u->event);
	io_uring_queue_exit(&u->ring);
	return rc;
}

static void uring_stop(struct aio *a)
{
	struct uring *u = a->impl;

	loop_fd_del(u->watch);
	io_uring_queue_exit(&u->ring);
	close(u->event);
	free(u);
}

static int uring_start(struct aio *a, struct err *e)
{
	struct uring *u = calloc(1, sizeof(*u));
	int rc;

	if (!u)
		return err_set(e, -ENOMEM, "no memory for disk I/O");
	u->last = &u->first;
	rc = uring_open(u);
	if (rc) {
		free(u);
		return err_errno(e, rc, "no io_uring");
	}
	a->impl = u;
	u->watch = loop_fd_add(a->loop, u->event, EPOLLIN, uring_event, a, e);
	if (u->watch)
		return 0;
	uring_stop(a);
	return -ENOMEM;
}

const struct aio_ops aio_uring_ops = {
	.start = uring_start,
	.submit = uring_submit,
	.kick = uring_kick,
	.stop = uring_stop,
};
