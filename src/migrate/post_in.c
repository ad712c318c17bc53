/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy at the target: the VM runs though pages of its memory are still at
 * the source. Whoever touches one sleeps in the kernel (userfaultfd) until it
 * has come; one thread asks for such pages, another puts in what comes.
 *
 * If the connection breaks, the VM stands still and the source may connect
 * again; nothing is lost.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "mem/uffd.h"
#include "migrate/missing.h"
#include "migrate/target_priv.h"
#include "vm/vm_priv.h"

#define POST_EVENTS 16u

struct post_in {
	struct mig_incoming *in;
	struct mem *mem;
	int uffd, stop;                 /* eventfd: threads shall end */
	unsigned long *missing, *asked; /* lock; a bit a page */
	u64 left;                       /* lock */
	bool registered;                /* the pages' thread, if it runs */
	bool committed, broken;         /* lock */
	bool whole;  /* all pages are here; the pages' thread */
	bool told;   /* and the source was told so on this connection; same */
	bool ending; /* atomic */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_mutex_t out; /* whoever sends on the main connection */
	pthread_t faults, pages;
	bool has_faults, has_pages;
};

/* ---- userfaultfd ---- */

int post_possible(struct err *e)
{
	int fd = uffd_open(UFFD_FEATURE_MISSING_SHMEM, e);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static u8 *post_host(const struct post_in *p, u64 page)
{
	return p->mem->base + (page << PAGE_SHIFT);
}

/* ---- asking ---- */

static bool post_bit(const unsigned long *bits, u64 page)
{
	return bits[page / 64] >> (page % 64) & 1;
}

/* The lock is not held over the sending: who puts pages in needs it. */
static void post_ask(struct post_in *p, u64 page)
{
	u8 run[16];

	mig_put(mig_put(run, mig_page_gpa(p->mem, page), 8), 1, 8);
	pthread_mutex_lock(&p->out);
	mig_send(&p->in->chan[0], MIG_FETCH, run, sizeof(run), NULL);
	pthread_mutex_unlock(&p->out);
}

static void post_fault(struct post_in *p, u64 address)
{
	u64 page = (address - (u64)(uintptr_t)p->mem->base) >> PAGE_SHIFT;
	bool missing, ask;

	pthread_mutex_lock(&p->lock);
	missing = post_bit(p->missing, page);
	ask = missing && !post_bit(p->asked, page);
	p->asked[page / 64] |= BIT64(page % 64);
	ask = ask && !p->broken;
	pthread_mutex_unlock(&p->lock);
	if (ask)
		post_ask(p, page);
	else if (!missing)
		uffd_put(p->uffd, post_host(p, page), NULL,
			 PAGE_SIZE); /* nobody ever wrote it */
}

static void *post_faults(void *arg)
{
	struct post_in *p = arg;
	struct uffd_msg msg[POST_EVENTS];

	for (;;) {
		struct pollfd fd[2] = {{.fd = p->uffd, .events = POLLIN},
				       {.fd = p->stop, .events = POLLIN}};
		ssize_t n;

		if (poll(fd, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fd[1].revents)
			return NULL;
		n = read(p->uffd, msg, sizeof(msg));
		for (ssize_t i = 0; i < n / (ssize_t)sizeof(msg[0]); i++)
			if (msg[i].event == UFFD_EVENT_PAGEFAULT)
				post_fault(p, msg[i].arg.pagefault.address);
	}
}

/* ---- putting in ---- */

static int post_page(struct post_in *p, gpa_t gpa, const u8 *data,
		     struct err *e)
{
	const u8 *at = mem_ptr(p->mem, gpa, PAGE_SIZE);
	u64 page;
	int rc;

	if (!at)
		return err_set(e, -EPROTO,
			       "the migration stream has a page at %#lx, where "
			       "the machine has no memory",
			       gpa);
	page = mem_page(p->mem, at);
	if (!post_bit(p->missing, page)) /* only we clear them */
		return 0;
	rc = uffd_put(p->uffd, post_host(p, page), data, PAGE_SIZE);
	if (rc)
		return err_errno(e, rc, "cannot put in a page");
	pthread_mutex_lock(&p->lock);
	p->missing[page / 64] &= ~BIT64(page % 64);
	p->left--;
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static int post_batch(struct post_in *p, struct inlet *n, struct err *e)
{
	const u8 *data = n->pages->data;
	int rc = mig_pages_decode(n->pages, n->frame.data, n->frame.len, e);

	for (u32 i = 0; !rc && i < n->pages->n; i++) {
		bool zero = n->pages->zero[i];

		rc = post_page(p, n->pages->gpa[i], zero ? NULL : data, e);
		data += zero ? 0 : PAGE_SIZE;
	}
	return rc;
}

static void post_unregister(struct post_in *p)
{
	if (p->registered)
		uffd_unregister(p->uffd, p->mem->base, p->mem->size);
	p->registered = false;
}

static void post_whole(struct post_in *p)
{
	u64 one = 1;

	if (p->whole)
		return;
	p->whole = true;
	post_unregister(p);
	if (write(p->stop, &one, sizeof(one)) < 0)
		log_warn("post-copy: cannot end a thread");
	vm_whole(p->in->vm);
	log_info("post-copy: all memory is here");
}

static int post_complete(struct post_in *p, struct err *e)
{
	u64 left;
	int rc;

	pthread_mutex_lock(&p->lock);
	left = p->left;
	pthread_mutex_unlock(&p->lock);
	if (left)
		return err_set(e, -EPROTO,
			       "the source says that it has sent "
			       "all pages, but %lu are missing",
			       left);
	post_whole(p);
	pthread_mutex_lock(&p->out);
	rc = mig_send_u64(&p->in->chan[0], MIG_COMPLETE, p->in->hello.session,
			  e);
	pthread_mutex_unlock(&p->out);
	p->told = !rc;
	return rc;
}

static void post_commit(struct post_in *p)
{
	pthread_mutex_lock(&p->lock);
	p->committed = true;
	pthread_cond_broadcast(&p->changed);
	pthread_mutex_unlock(&p->lock);
}

/*
 * Until the source knows that the last page is here, or something is wrong. It
 * says COMPLETE once more when it has heard it; else it will come again.
 */
static int post_receive(struct post_in *p, struct err *e)
{
	struct inlet *n = &p->in->inlet[0];
	struct mig_chan *c = &p->in->chan[0];

	for (;;) {
		int rc = mig_recv(c, &n->frame,
				  BIT(MIG_PAGES) | BIT(MIG_COMPLETE) |
					  BIT(MIG_COMMIT),
				  e);

		if (rc)
			return rc;
		switch (n->frame.type) {
		case MIG_PAGES: rc = post_batch(p, n, e); break;
		case MIG_COMPLETE:
			if (p->told)
				return 0;
			rc = post_complete(p, e);
			break;
		default: post_commit(p);
		}
		if (rc)
			return rc;
	}
}

/* ---- a connection that broke ---- */

/* What was asked for before is asked for again. */
static void post_ask_again(struct post_in *p)
{
	u64 words = ALIGN_UP(p->mem->size >> PAGE_SHIFT, 64) / 64;

	for (u64 w = 0; w < words; w++)
		for (u64 b = p->missing[w] & p->asked[w]; b; b &= b - 1)
			post_ask(p, w * 64 + (u64)__builtin_ctzll(b));
}

static int post_reconnect(struct post_in *p, struct err *e)
{
	struct mig_incoming *in = p->in;
	struct mig_preamble pre;
	struct mig_chan c;
	int rc = incoming_accept(in, &c, &pre, 0, e);

	if (rc)
		return rc;
	if (pre.role != MIG_ROLE_RESUME || pre.session != in->hello.session) {
		mig_send(&c, MIG_REFUSE, "another machine is waited for", 29,
			 NULL);
		mig_chan_close(&c);
		return err_set(e, -EPROTO, "another migration connected");
	}
	pthread_mutex_lock(&p->out);
	mig_chan_close(&in->chan[0]);
	in->chan[0] = c;
	p->told = false;
	rc = mig_missing_send(&in->chan[0], p->mem, p->missing, e);
	pthread_mutex_unlock(&p->out);
	if (rc)
		return rc;
	pthread_mutex_lock(&p->lock);
	p->broken = false;
	pthread_mutex_unlock(&p->lock);
	post_ask_again(p);
	return 0;
}

/* The VM stands still until the source is back, unless it is whole. False: at
 * the end. */
static bool post_broken(struct post_in *p, struct err *e)
{
	bool whole = p->whole, first = true;
	int rc;

	if (__atomic_load_n(&p->ending, __ATOMIC_SEQ_CST))
		return false;
	if (!whole) {
		vm_hold(p->in->vm);
		log_warnx("post-copy: %s; the machine stands still until the "
			  "source goes on (sublet migrate --resume)",
			  e->text);
	}
	do {
		if (__atomic_load_n(&p->ending, __ATOMIC_SEQ_CST))
			return false;
		if (!first)
			log_warnx("post-copy: %s", e->text);
		first = false;
		rc = post_reconnect(p, e);
	} while (rc && rc != -ECANCELED);
	if (rc)
		return false;
	if (!whole) {
		log_warnx("post-copy: the source is back");
		vm_resume(p->in->vm);
	}
	return true;
}

static void *post_pages(void *arg)
{
	struct post_in *p = arg;

	for (;;) {
		struct err e = {{0}};
		int rc = post_receive(p, &e);
		bool committed;

		if (!rc) {
			incoming_unlisten(p->in);
			return NULL;
		}
		pthread_mutex_lock(&p->lock);
		committed = p->committed;
		p->broken = true;
		if (!committed)
			p->in->why = e;
		pthread_cond_broadcast(&p->changed);
		pthread_mutex_unlock(&p->lock);
		/* Whoever loads the state must not wait for its memory. */
		if (!committed)
			post_unregister(p);
		if (!committed || !post_broken(p, &e))
			return NULL;
	}
}

/* ---- life ---- */

static struct post_in *post_new(struct mig_incoming *in, struct err *e)
{
	struct post_in *p = calloc(1, sizeof(*p));
	u64 words = ALIGN_UP(in->vm->mem.size >> PAGE_SHIFT, 64) / 64;

	if (!p)
		return NULL;
	p->in = in;
	p->mem = &in->vm->mem;
	p->uffd = uffd_open(UFFD_FEATURE_MISSING_SHMEM, e);
	p->stop = eventfd(0, EFD_CLOEXEC);
	p->missing = calloc(words, 8);
	p->asked = calloc(words, 8);
	pthread_mutex_init(&p->lock, NULL);
	pthread_mutex_init(&p->out, NULL);
	pthread_cond_init(&p->changed, NULL);
	return p;
}

/* What was sent of these pages before is old; without it they are missing. */
static int post_punch(struct post_in *p, struct err *e)
{
	u64 pages = p->mem->size >> PAGE_SHIFT, n;

	for (u64 at = 0; at < pages; at += n) {
		for (n = 0; at + n < pages && post_bit(p->missing, at + n); n++)
			;
		if (n && fallocate(p->mem->fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)(at << PAGE_SHIFT),
				   (off_t)(n << PAGE_SHIFT)))
			return err_errno(e, -errno, "cannot free memory");
		p->left += n;
		n = n ? n : 1;
	}
	return 0;
}

static int post_start(struct post_in *p, struct err *e)
{
	int rc = post_punch(p, e);

	if (rc)
		return rc;
	rc = uffd_register(p->uffd, p->mem->base, p->mem->size,
			   UFFDIO_REGISTER_MODE_MISSING, e);
	if (rc)
		return rc;
	p->registered = true;
	mem_absent_begin(p->mem);
	/* Its reader waits as long as the VM lives. */
	rc = -pthread_create(&p->faults, NULL, post_faults, p);
	p->has_faults = !rc;
	if (!rc)
		rc = -pthread_create(&p->pages, NULL, post_pages, p);
	p->has_pages = p->has_faults && !rc;
	return rc ? err_errno(e, rc, "cannot start a thread") : 0;
}

int post_missing(struct mig_incoming *in, const struct mig_frame *f,
		 struct err *e)
{
	if (!in->hello.postcopy)
		return err_set(e, -EPROTO,
			       "the source leaves pages behind, "
			       "though it did not say that it might");
	if (!in->post)
		in->post = post_new(in, e);
	if (!in->post || in->post->uffd < 0)
		return -ENOTSUP;
	return mig_missing_add(in->post->mem, f, in->post->missing, e);
}

int post_begin(struct mig_incoming *in, struct err *e)
{
	return post_start(in->post, e);
}

int post_wait_commit(struct mig_incoming *in, struct err *e)
{
	struct post_in *p = in->post;
	int rc = 0;

	pthread_mutex_lock(&p->lock);
	while (!p->committed && !p->broken)
		pthread_cond_wait(&p->changed, &p->lock);
	if (!p->committed)
		rc = err_set(e, -ECONNRESET, "%s", in->why.text);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

void post_free(struct mig_incoming *in)
{
	struct post_in *p = in->post;
	u64 one = 1;

	if (!p)
		return;
	__atomic_store_n(&p->ending, true, __ATOMIC_SEQ_CST);
	in->failed = in->failed ? in->failed : -ECANCELED;
	if (p->has_pages)
		pthread_join(p->pages, NULL);
	if (write(p->stop, &one, sizeof(one)) > 0 && p->has_faults)
		pthread_join(p->faults, NULL);
	post_unregister(p);
	mem_absent_end(p->mem);
	if (p->uffd >= 0)
		close(p->uffd);
	close(p->stop);
	free(p->missing);
	free(p->asked);
	pthread_cond_destroy(&p->changed);
	pthread_mutex_destroy(&p->out);
	pthread_mutex_destroy(&p->lock);
	free(p);
	in->post = NULL;
}
