/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Asynchronous file I/O for the raw disk: by io_uring, or where the host has
 * none (or SUBLET_AIO=threads is set) by a few threads.
 *
 * Short transfers are continued, interrupted ones repeated, and zeroing is
 * done by writing where the file system cannot. One thread, the loop's, calls
 * everything here.
 */
#ifndef BACKEND_DISK_AIO_H
#define BACKEND_DISK_AIO_H

#include "backend/disk.h"

struct aio;

struct aio_ops {
	int (*start)(struct aio *a, struct err *e);
	/* Begins r; its result comes by aio_result(). */
	void (*submit)(struct aio *a, struct disk_req *r);
	void (*kick)(struct aio *a); /* NULL-able */
	void (*stop)(struct aio *a);
};

struct aio {
	const struct aio_ops *ops;
	struct loop *loop;
	void (*settled)(void *arg);
	void *settled_arg;
	void *impl;
};

int aio_init(struct aio *a, struct loop *l, void (*settled)(void *arg),
	     void *arg, struct err *e);
void aio_fini(struct aio *a);
/* r->fd is set. */
void aio_submit(struct aio *a, struct disk_req *r);
void aio_kick(struct aio *a);

/* ---- for the two kinds ---- */

extern const struct aio_ops aio_uring_ops, aio_threads_ops;

/* res as from a system call that returns -errno. */
void aio_result(struct aio *a, struct disk_req *r, s64 res);

#endif
