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
#define WP_WORDS  (WP_PIECE / PAGE_SIZE / 64)
#define WP_EVENTS 16
#define WP_PASSES 4   /* over what is written meanwhile, at most */
#define WP_FEW    256 /* pages: not worth another pass */
#define WP_GAP    32  /* pages */

struct snap_wp {
	struct mem *m;
	int fd, stop;
	void (*before)(void *arg, u64 page);
	void *arg;
	pthread_t thread;
	bool started;
	/* The rest; from snap_wp_freeze() to snap_wp_thaw() it is held. */
	pthread_mutex_t lock;
	bool frozen;          /* before() is called from now on */
	unsigned long *open;  /* not protected now, as it was written */
	unsigned long *dirty; /* written before the freeze */
};

static u64 wp_words(const struct snap_wp *w)
{
	return ALIGN_UP(w->m->size >> PAGE_SHIFT, 64) / 64;
}

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

static void wp_written(struct snap_wp *w, u64 page)
{
	w->open[page / 64] |= BIT64(page % 64);
	w->dirty[page / 64] |= BIT64(page % 64);
}

/*
 * The lock makes the bit and the protection one: of two that wait for the same
 * page the second's event may come when the first's has long been dealt with,
 * and must not open a page that has been protected again.
 */
static void wp_fault(struct snap_wp *w, u64 address)
{
	u64 page = (address - (u64)w->m->base) >> PAGE_SHIFT;

	pthread_mutex_lock(&w->lock);
	if (w->frozen)
		w->before(w->arg, page);
	else
		wp_written(w, page);
	wp_protect(w, page << PAGE_SHIFT, PAGE_SIZE, false);
	pthread_mutex_unlock(&w->lock);
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

/* Protects a piece again if any of it is open. With the lock held. */
static int wp_piece(struct snap_wp *w, u64 off, u64 *n)
{
	u64 first = (off >> PAGE_SHIFT) / 64, pages = 0;
	u64 words = MIN(WP_WORDS, wp_words(w) - first);

	for (u64 i = first; i < first + words; i++) {
		pages += (u64)__builtin_popcountl(w->open[i]);
		w->open[i] = 0;
	}
	*n += pages;
	return pages ? wp_protect(w, off, MIN(WP_PIECE, w->m->size - off), true)
		     : 0;
}

/*
 * What was written while all was being protected is protected again, until
 * little is left for the freeze: a guest that writes everywhere could else
 * have opened all of its memory before its end.
 */
static int wp_pass(struct snap_wp *w, u64 *n)
{
	int rc = 0;

	*n = 0;
	for (u64 off = 0; off < w->m->size && !rc; off += WP_PIECE) {
		pthread_mutex_lock(&w->lock);
		rc = wp_piece(w, off, n);
		pthread_mutex_unlock(&w->lock);
	}
	return rc;
}

static int wp_all(struct snap_wp *w)
{
	u64 n = WP_FEW + 1;
	int rc = 0;

	for (u64 off = 0; off < w->m->size && !rc; off += WP_PIECE)
		rc = wp_protect(w, off, MIN(WP_PIECE, w->m->size - off), true);
	for (int i = 0; i < WP_PASSES && n > WP_FEW && !rc; i++)
		rc = wp_pass(w, &n);
	return rc;
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
	rc = wp_all(w);
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
	pthread_mutex_init(&w->lock, NULL);
	w->dirty = calloc(wp_words(w), 8);
	w->open = calloc(wp_words(w), 8);
	if (w->dirty && w->open && !wp_open(w, e) && !wp_start(w, e))
		return w;
	snap_wp_free(w);
	return NULL;
}

static bool wp_is_open(const struct snap_wp *w, u64 page)
{
	return w->open[page / 64] >> (page % 64) & 1;
}

/* The end of a run of open pages, with small gaps: protecting them again costs
 * less than another call. */
static u64 wp_run(const struct snap_wp *w, u64 page)
{
	u64 pages = w->m->size >> PAGE_SHIFT, end = page + 1;

	for (u64 p = end; p < pages && p - end < WP_GAP; p++)
		if (wp_is_open(w, p))
			end = p + 1;
	return end;
}

/* Nobody writes now: what is open is protected again. */
int snap_wp_freeze(struct snap_wp *w, unsigned long **dirty, struct err *e)
{
	u64 pages = w->m->size >> PAGE_SHIFT;
	int rc = 0;

	pthread_mutex_lock(&w->lock);
	for (u64 p = 0, end; !rc && p < pages; p = end) {
		end = p % 64 || w->open[p / 64] ? p + 1 : p + 64;
		if (end > p + 1 || !wp_is_open(w, p))
			continue;
		end = wp_run(w, p);
		rc = wp_protect(w, p << PAGE_SHIFT, (end - p) << PAGE_SHIFT,
				true);
	}
	*dirty = w->dirty;
	if (!rc)
		return 0;
	pthread_mutex_unlock(&w->lock);
	return err_errno(e, rc, "cannot protect guest memory");
}

void snap_wp_thaw(struct snap_wp *w)
{
	w->frozen = true;
	pthread_mutex_unlock(&w->lock);
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
	pthread_mutex_destroy(&w->lock);
	free(w->dirty);
	free(w->open);
	free(w);
}
