/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "vm/pager.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"
#include "mem/uffd.h"
#include "vm/pager_handler.h"
#include "vm/vm_priv.h"

#define PAGER_EVENTS 16

struct pager {
	struct vm *vm;
	struct mem *m;
	struct pager_source source; /* read NULL: a handler has it */
	const char *socket;         /* the handler's */
	int uffd, peer, stop;       /* peer: the handler's socket, or -1 */
	pthread_t thread;
	bool started;
	pthread_mutex_t lock; /* the rest */
	bool registered;      /* pages may be missing */
	bool failed;
	struct err why;
	unsigned long *done; /* a bit a piece */
	u8 *piece;
};

/* ---- the end of it, good or bad ---- */

static void pager_unregister(struct pager *p)
{
	if (!p->registered)
		return;
	p->registered = false;
	uffd_unregister(p->uffd, p->m->base, p->m->size);
	mem_alone_end(p->m);
}

/* With the lock held. vCPUs are stopped before they see zeros. */
static void pager_fail(struct pager *p, const struct err *why)
{
	if (p->failed || !p->registered)
		return;
	p->failed = true;
	p->why = *why;
	vm_ended(p->vm, VM_END_ERROR, 0, why->text);
	pager_unregister(p);
}

void pager_release(struct pager *p)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	pager_unregister(p);
	pthread_mutex_unlock(&p->lock);
}

/* ---- from a source ---- */

/* With the lock held. The host's answer of a full memory is an answer too. */
static int pager_put(struct pager *p, u64 off, const u8 *from, u64 len)
{
	if (p->registered)
		return uffd_put(p->uffd, p->m->base + off, from, len);
	if (from)
		memcpy(p->m->base + off, from, len);
	return 0;
}

/* With the lock held. */
static int pager_fill(struct pager *p, u64 n, struct err *e)
{
	u64 off = n * PAGER_PIECE, len = MIN(PAGER_PIECE, p->m->size - off);
	int rc;

	if (p->done[n / 64] >> (n % 64) & 1)
		return 0;
	rc = p->source.read(p->source.arg, off, len, p->piece, e);
	if (rc < 0)
		return rc;
	rc = pager_put(p, off, rc ? NULL : p->piece, len);
	if (rc)
		return err_errno(e, rc, "cannot put memory in its place");
	p->done[n / 64] |= BIT64(n % 64);
	return 0;
}

static void pager_fault(struct pager *p, u64 address)
{
	u64 n = (address - (u64)p->m->base) / PAGER_PIECE;
	struct err e = {{0}};

	pthread_mutex_lock(&p->lock);
	if (p->registered && pager_fill(p, n, &e))
		pager_fail(p, &e);
	pthread_mutex_unlock(&p->lock);
}

static void pager_faults(struct pager *p)
{
	struct uffd_msg msg[PAGER_EVENTS];
	ssize_t n = read(p->uffd, msg, sizeof(msg));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(msg[0]); i++)
		if (msg[i].event == UFFD_EVENT_PAGEFAULT)
			pager_fault(p, msg[i].arg.pagefault.address);
}

/* ---- from a handler ---- */

static void pager_peer_gone(struct pager *p)
{
	struct err e;

	err_set(&e, -EPIPE,
		"the memory handler at %s ended before all memory was here",
		p->socket);
	pthread_mutex_lock(&p->lock);
	pager_fail(p, &e);
	pthread_mutex_unlock(&p->lock);
}

/* It has nothing to say to us. */
static bool pager_peer_there(struct pager *p)
{
	char buf[256];
	ssize_t n = read(p->peer, buf, sizeof(buf));

	return n > 0 || (n < 0 && (errno == EINTR || errno == EAGAIN));
}

/* ---- the thread ---- */

static void *pager_main(void *arg)
{
	struct pager *p = arg;
	struct pollfd fd[] = {
		{p->socket ? p->peer : p->uffd, POLLIN, 0},
		{p->stop, POLLIN, 0},
	};

	for (;;) {
		if (poll(fd, 2, -1) < 0 && errno != EINTR)
			return NULL;
		if (fd[1].revents)
			return NULL;
		if (!fd[0].revents)
			continue;
		if (!p->socket) {
			pager_faults(p);
		} else if (!pager_peer_there(p)) {
			pager_peer_gone(p);
			return NULL;
		}
	}
}

static int pager_start(struct pager *p, struct err *e)
{
	sigset_t all, old;
	int rc;

	p->stop = eventfd(0, EFD_CLOEXEC);
	if (p->stop < 0)
		return err_errno(e, -errno, "cannot make an eventfd");
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&p->thread, NULL, pager_main, p);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return err_errno(e, -rc, "cannot start a thread");
	pthread_setname_np(p->thread, "pager");
	p->started = true;
	return 0;
}

/* ---- as a whole ---- */

static int pager_register(struct pager *p, struct err *e)
{
	int rc;

	p->uffd = uffd_open(UFFD_FEATURE_MISSING_SHMEM, e);
	if (p->uffd < 0)
		return p->uffd;
	rc = uffd_register(p->uffd, p->m->base, p->m->size,
			   UFFDIO_REGISTER_MODE_MISSING, e);
	p->registered = !rc;
	if (!rc)
		mem_alone_begin(p->m);
	return rc;
}

static struct pager *pager_alloc(struct vm *vm)
{
	struct pager *p = calloc(1, sizeof(*p));
	u64 pieces = ALIGN_UP(vm->mem.size, PAGER_PIECE) / PAGER_PIECE;

	if (!p)
		return NULL;
	*p = (struct pager){
		.vm = vm,
		.m = &vm->mem,
		.uffd = -1,
		.peer = -1,
		.stop = -1,
		.done = calloc(ALIGN_UP(pieces, 64) / 64, 8),
		.piece = malloc(PAGER_PIECE),
	};
	pthread_mutex_init(&p->lock, NULL);
	if (p->done && p->piece)
		return p;
	pager_free(p);
	return NULL;
}

/* What comes by and by, or at once. */
static int pager_open(struct pager *p, struct err *e)
{
	struct err why = {{0}};

	if (!pager_register(p, &why))
		return pager_start(p, e);
	log_info("%s: all of the memory is read at once", why.text);
	return pager_finish(p, e);
}

struct pager *pager_new(struct vm *vm, const struct pager_source *source,
			struct err *e)
{
	struct pager *p = pager_alloc(vm);

	if (!p) {
		err_set(e, -ENOMEM, "no memory for a pager");
		return NULL;
	}
	p->source = *source;
	if (!pager_open(p, e))
		return p;
	pager_free(p);
	return NULL;
}

static int pager_open_handler(struct pager *p, struct err *e)
{
	int rc = pager_register(p, e);

	if (rc)
		return rc;
	p->peer = pager_handshake(p->socket, p->m, p->uffd, e);
	return p->peer < 0 ? p->peer : pager_start(p, e);
}

struct pager *pager_new_handler(struct vm *vm, const char *socket,
				struct err *e)
{
	struct pager *p = pager_alloc(vm);

	if (!p) {
		err_set(e, -ENOMEM, "no memory for a pager");
		return NULL;
	}
	p->socket = socket;
	if (!pager_open_handler(p, e))
		return p;
	pager_free(p);
	return NULL;
}

/* The lock is not held for long: who waits for a piece shall have it. */
static int pager_fill_all(struct pager *p, struct err *e)
{
	int rc = 0;

	for (u64 n = 0; !rc && n * PAGER_PIECE < p->m->size; n++) {
		pthread_mutex_lock(&p->lock);
		rc = p->failed ? err_set(e, -EIO, "%s", p->why.text)
			       : pager_fill(p, n, e);
		pthread_mutex_unlock(&p->lock);
	}
	return rc;
}

static void pager_touch_all(const struct pager *p)
{
	for (u64 off = 0; off < p->m->size; off += PAGE_SIZE)
		(void)*(volatile const u8 *)(p->m->base + off);
}

int pager_finish(struct pager *p, struct err *e)
{
	int rc = 0;

	if (!p)
		return 0;
	if (p->socket)
		pager_touch_all(p);
	else
		rc = pager_fill_all(p, e);
	pthread_mutex_lock(&p->lock);
	if (!rc && p->failed)
		rc = err_set(e, -EIO, "%s", p->why.text);
	if (!rc)
		pager_unregister(p);
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static void pager_close(int fd)
{
	if (fd >= 0)
		close(fd);
}

void pager_free(struct pager *p)
{
	if (!p)
		return;
	pager_release(p);
	if (p->started) {
		eventfd_write(p->stop, 1);
		pthread_join(p->thread, NULL);
	}
	pager_close(p->uffd);
	pager_close(p->peer);
	pager_close(p->stop);
	pthread_mutex_destroy(&p->lock);
	free(p->done);
	free(p->piece);
	free(p);
}
