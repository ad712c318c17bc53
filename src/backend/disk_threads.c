/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk I/O by blocking system calls on a few threads. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/disk_aio.h"

#define AIO_THREADS 4

struct fifo {
	struct disk_req *first, **last;
};

struct pool {
	struct aio *aio;
	pthread_t thread[AIO_THREADS];
	unsigned nthreads;
	int event;
	struct loop_fd *watch;
	pthread_mutex_t lock;
	pthread_cond_t work;
	/* What follows: lock */
	struct fifo todo, done;
	bool stop;
};

static void fifo_put(struct fifo *f, struct disk_req *r)
{
	r->next = NULL;
	*f->last = r;
	f->last = &r->next;
}

static struct disk_req *fifo_take(struct fifo *f)
{
	struct disk_req *r = f->first;

	if (r)
		f->first = r->next;
	if (!f->first)
		f->last = &f->first;
	return r;
}

static s64 pool_execute(const struct disk_req *r)
{
	int keep = FALLOC_FL_KEEP_SIZE;
	s64 n = -1;

	errno = EINVAL;
	switch (r->op) {
	case DISK_READ:
		n = preadv(r->fd, r->iov, (int)r->niov, (off_t)r->off);
		break;
	case DISK_WRITE:
		n = pwritev2(r->fd, r->iov, (int)r->niov, (off_t)r->off,
			     r->sync ? RWF_DSYNC : 0);
		break;
	case DISK_FLUSH: n = fdatasync(r->fd); break;
	case DISK_DISCARD:
		n = fallocate(r->fd, FALLOC_FL_PUNCH_HOLE | keep, (off_t)r->off,
			      (off_t)r->len);
		break;
	case DISK_ZERO:
		n = fallocate(r->fd,
			      keep | (r->unmap ? FALLOC_FL_PUNCH_HOLE
					       : FALLOC_FL_ZERO_RANGE),
			      (off_t)r->off, (off_t)r->len);
		break;
	}
	return n < 0 ? -errno : n;
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct disk_req *r;
	s64 res;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		while (!(r = fifo_take(&p->todo)) && !p->stop)
			pthread_cond_wait(&p->work, &p->lock);
		if (!r)
			break;
		pthread_mutex_unlock(&p->lock);
		res = pool_execute(r);
		pthread_mutex_lock(&p->lock);
		/* no transfer is longer than 2 GiB: Linux cuts it */
		r->rc = (int)res;
		fifo_put(&p->done, r);
		eventfd_write(p->event, 1);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static void pool_submit(struct aio *a, struct disk_req *r)
{
	struct pool *p = a->impl;

	pthread_mutex_lock(&p->lock);
	fifo_put(&p->todo, r);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->lock);
}

static struct disk_req *pool_take_done(struct pool *p)
{
	struct disk_req *r;

	pthread_mutex_lock(&p->lock);
	r = fifo_take(&p->done);
	pthread_mutex_unlock(&p->lock);
	return r;
}

static void pool_event(void *arg, u32 events)
{
	struct pool *p = arg;
	struct disk_req *r;
	eventfd_t n;

	(void)events;
	eventfd_read(p->event, &n);
	while ((r = pool_take_done(p)))
		aio_result(p->aio, r, r->rc);
	p->aio->settled(p->aio->settled_arg);
}

static void pool_stop(struct aio *a)
{
	struct pool *p = a->impl;

	pthread_mutex_lock(&p->lock);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	while (p->nthreads)
		pthread_join(p->thread[--p->nthreads], NULL);
	loop_fd_del(p->watch);
	close(p->event);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* Signals are the main thread's affair. */
static int pool_threads(struct pool *p)
{
	sigset_t all, old;
	int rc = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	while (!rc && p->nthreads < AIO_THREADS) {
		rc = pthread_create(&p->thread[p->nthreads], NULL, pool_thread,
				    p);
		if (!rc)
			p->nthreads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return p->nthreads ? 0 : -rc;
}

static int pool_start(struct aio *a, struct err *e)
{
	struct pool *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(e, -ENOMEM, "no memory for disk I/O");
	p->aio = a;
	p->todo.last = &p->todo.first;
	p->done.last = &p->done.first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	a->impl = p;
	p->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	rc = p->event < 0 ? -errno : pool_threads(p);
	if (rc) {
		pool_stop(a);
		return err_errno(e, rc, "cannot make threads for disk I/O");
	}
	p->watch = loop_fd_add(a->loop, p->event, EPOLLIN, pool_event, p, e);
	if (p->watch)
		return 0;
	pool_stop(a);
	return -ENOMEM;
}

const struct aio_ops aio_threads_ops = {
	.start = pool_start,
	.submit = pool_submit,
	.stop = pool_stop,
};
