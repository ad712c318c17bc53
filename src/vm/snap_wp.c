/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "vm/snap_wp.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mem/uffd.h"

#define WP_PIECE  (2 * MIB) /* protected at a time: others want the map too */
#define WP_EVENTS 16

struct snap_wp {
	struct mem *m;
	int fd, stop;
	void (*before)(void *arg, u64 page);
	void *arg;
	pthread_t thread;
	bool started;
	bool frozen;          /* atomic; before() is called from now on */
	unsigned long *dirty; /* atomic; written before the freeze */
};

static int wp_protect(struct snap_wp *w, u64 off, u64 len, bool on)
{
	struct uffdio_writeprotect p = {
		.range = {(u64)w->m->base + off, len},
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int rc;

	do
		rc = ioctl(w->fd, UFFDIO_WRITEPROTECT, &p) ? -errno : 0;
	while (rc == -EAGAIN || rc == -EINTR);
	return rc;
}

static void wp_fault(struct snap_wp *w, u64 address)
{
	u64 page = (address - (u64)w->m->base) >> PAGE_SHIFT;

	if (__atomic_load_n(&w->frozen, __ATOMIC_SEQ_CST))
		w->before(w->arg, page);
	else
		__atomic_or_fetch(&w->dirty[page / 64], BIT64(page % 64),
				  __ATOMIC_SEQ_CST);
	wp_protect(w, page << PAGE_SHIFT, PAGE_SIZE, false);
}

static void *wp_main(void *arg)
{
	struct snap_wp *w = arg;
	struct pollfd p[] = {{w->fd, POLLIN, 0}, {w->stop, POLLIN, 0}};
	struct uffd_msg msg[WP_EVENTS];

	for (;;) {
		ssize_t n;

		poll(p, 2, -1);
		n = read(w->fd, msg, sizeof(msg));
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(msg[0]); i++)
			if (msg[i].event == UFFD_EVENT_PAGEFAULT)
				wp_fault(w, msg[i].arg.pagefault.address);
		if (p[1].revents && n <= 0)
			return NULL;
	}
}

static int wp_open(struct snap_wp *w, struct err *e)
{
	w->fd = uffd_open(UFFD_FEATURE_PAGEFAULT_FLAG_WP |
				  UFFD_FEATURE_WP_HUGETLBFS_SHMEM,
			  e);
	return w->fd < 0 ? w->fd
			 : uffd_register(w->fd, w->m->base, w->m->size,
					 UFFDIO_REGISTER_MODE_WP, e);
}

static int wp_start(struct snap_wp *w, struct err *e)
{
	sigset_t all, old;
	int rc;

	w->stop = eventfd(0, EFD_CLOEXEC);
	if (w->stop < 0)
		return err_errno(e, -errno, "cannot make an eventfd");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&w->thread, NULL, wp_main, w);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_errno(e, -rc, "cannot start a thread");
	pthread_setname_np(w->thread, "snapshot-wp");
	w->started = true;
	for (u64 off = 0; off < w->m->size && !rc; off += WP_PIECE)
		rc = wp_protect(w, off, MIN(WP_PIECE, w->m->size - off), true);
	return rc ? err_errno(e, rc, "cannot protect guest memory") : 0;
}

struct snap_wp *snap_wp_new(struct mem *m, void (*before)(void *arg, u64 page),
			    void *arg, struct err *e)
{
	struct snap_wp *w = calloc(1, sizeof(*w));

	if (!w) {
		err_set(e, -ENOMEM, "no memory for write protection");
		return NULL;
	}
	w->m = m;
	w->fd = w->stop = -1;
	w->before = before;
	w->arg = arg;
	mem_alone_begin(m);
	w->dirty = calloc(ALIGN_UP(m->size >> PAGE_SHIFT, 64) / 64, 8);
	if (w->dirty && !wp_open(w, e) && !wp_start(w, e))
		return w;
	snap_wp_free(w);
	return NULL;
}

/* Nobody writes now: runs of pages that were written are protected again. */
int snap_wp_freeze(struct snap_wp *w, unsigned long **dirty, struct err *e)
{
	u64 pages = w->m->size >> PAGE_SHIFT;
	int rc = 0;

	for (u64 p = 0, end; !rc && p < pages; p = end + 1) {
		if (p % 64 == 0 && !w->dirty[p / 64]) {
			end = p + 63;
			continue;
		}
		for (end = p;
		     end < pages && w->dirty[end / 64] >> (end % 64) & 1; end++)
			;
		if (end > p)
			rc = wp_protect(w, p << PAGE_SHIFT,
					(end - p) << PAGE_SHIFT, true);
	}
	*dirty = w->dirty;
	return rc ? err_errno(e, rc, "cannot protect guest memory") : 0;
}

void snap_wp_thaw(struct snap_wp *w)
{
	__atomic_store_n(&w->frozen, true, __ATOMIC_SEQ_CST);
}

void snap_wp_release(struct snap_wp *w, u64 off, u64 len)
{
	wp_protect(w, off, len, false);
}

/* Closing ends the protection and wakes who waits. */
void snap_wp_free(struct snap_wp *w)
{
	if (!w)
		return;
	mem_alone_end(w->m);
	if (w->started) {
		uffd_unregister(w->fd, w->m->base, w->m->size);
		eventfd_write(w->stop, 1);
		pthread_join(w->thread, NULL);
	}
	if (w->fd >= 0)
		close(w->fd);
	if (w->stop >= 0)
		close(w->stop);
	free(w->dirty);
	free(w);
}
