/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The event loop on epoll, one timerfd and one eventfd.
 *
 * A round: wait, run the calls handed over, the timers that are due, the file
 * descriptors that are ready, then free what was deleted. A deleted fd stays
 * in memory (dead) until the round is over, because the batch that epoll
 * returned may still name it.
 */
#define _GNU_SOURCE
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/clock.h"

#define BATCH 32

struct loop_fd {
	struct loop *loop;
	int fd;
	u32 events;
	bool always; /* a regular file: epoll refuses it, it is always ready */
	bool dead;
	void (*fn)(void *arg, u32 events);
	void *arg;
	struct loop_fd *next; /* in always or in dead */
};

struct loop_timer {
	struct loop *loop;
	u64 deadline; /* 0: not in the heap */
	size_t at;    /* its place there */
	void (*fn)(void *arg);
	void *arg;
};

struct loop_call {
	void (*fn)(void *arg);
	void *arg;
	struct loop_call *next;
};

struct loop {
	int epoll, wake, timer;
	pthread_t thread; /* atomic; 0 while loop_run() is not */
	bool stop;        /* atomic */
	pthread_mutex_t lock;
	pthread_cond_t ended; /* a callback has */
	/* What follows: lock */
	void *busy; /* the loop_fd or loop_timer whose callback runs */
	struct loop_fd *always, *dead;
	struct loop_call *first, **last;
	struct loop_timer **heap;
	size_t timers, capacity;
	u64 set; /* what the timerfd is set to; 0: nothing */
};

static void loop_wake(struct loop *l)
{
	u64 one = 1;
	int saved = errno;

	while (write(l->wake, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	errno = saved;
}

static int loop_watch(struct loop *l, int fd, void *tag)
{
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = tag};

	return epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev);
}

struct loop *loop_new(struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));

	if (!l) {
		err_set(e, -ENOMEM, "no memory for the event loop");
		return NULL;
	}
	l->last = &l->first;
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->ended, NULL);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (l->epoll < 0 || l->wake < 0 || l->timer < 0 ||
	    loop_watch(l, l->wake, &l->wake) ||
	    loop_watch(l, l->timer, &l->timer)) {
		err_errno(e, -errno, "cannot make the event loop");
		loop_free(l);
		return NULL;
	}
	return l;
}

static void loop_bury(struct loop *l)
{
	struct loop_fd *f;

	while ((f = l->dead)) {
		l->dead = f->next;
		free(f);
	}
}

void loop_free(struct loop *l)
{
	struct loop_call *c;

	if (!l)
		return;
	loop_bury(l);
	while ((c = l->first)) {
		l->first = c->next;
		free(c);
	}
	free(l->heap);
	if (l->epoll >= 0)
		close(l->epoll);
	if (l->wake >= 0)
		close(l->wake);
	if (l->timer >= 0)
		close(l->timer);
	pthread_cond_destroy(&l->ended);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

bool loop_here(struct loop *l)
{
	return __atomic_load_n(&l->thread, __ATOMIC_ACQUIRE) == pthread_self();
}

void loop_stop(struct loop *l)
{
	__atomic_store_n(&l->stop, true, __ATOMIC_SEQ_CST);
	loop_wake(l);
}

/* Another thread's deletion waits for the end of the callback under way. */
static void loop_wait_idle_locked(struct loop *l, const void *what)
{
	while (l->busy == what && !loop_here(l))
		pthread_cond_wait(&l->ended, &l->lock);
}

static void loop_begin_locked(struct loop *l, void *what)
{
	l->busy = what;
	pthread_mutex_unlock(&l->lock);
}

static void loop_end(struct loop *l)
{
	pthread_mutex_lock(&l->lock);
	l->busy = NULL;
	pthread_cond_broadcast(&l->ended);
}

/* ---- file descriptors ---- */

/* Not in epoll while events is 0: a hang-up would be reported for ever. */
static int loop_fd_set_locked(struct loop_fd *f, u32 events)
{
	struct epoll_event ev = {.events = events, .data.ptr = f};
	int op = !f->events ? EPOLL_CTL_ADD
		 : events   ? EPOLL_CTL_MOD
			    : EPOLL_CTL_DEL;

	if (f->events == events)
		return 0;
	if (!f->always && epoll_ctl(f->loop->epoll, op, f->fd, &ev)) {
		if (errno != EPERM || op != EPOLL_CTL_ADD)
			return -errno;
		f->always = true;
		f->next = f->loop->always;
		f->loop->always = f;
	}
	f->events = events;
	if (f->always && events)
		loop_wake(f->loop);
	return 0;
}

struct loop_fd *loop_fd_add(struct loop *l, int fd, u32 events,
			    void (*fn)(void *arg, u32 events), void *arg,
			    struct err *e)
{
	struct loop_fd *f = calloc(1, sizeof(*f));
	int rc;

	if (!f) {
		err_set(e, -ENOMEM, "no memory to watch a file");
		return NULL;
	}
	*f = (struct loop_fd){.loop = l, .fd = fd, .fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	rc = loop_fd_set_locked(f, events);
	pthread_mutex_unlock(&l->lock);
	if (rc) {
		err_errno(e, rc, "cannot watch file descriptor %d", fd);
		free(f);
		return NULL;
	}
	return f;
}

void loop_fd_events(struct loop_fd *f, u32 events)
{
	pthread_mutex_lock(&f->loop->lock);
	if (!f->dead)
		loop_fd_set_locked(f, events);
	pthread_mutex_unlock(&f->loop->lock);
}

void loop_fd_del(struct loop_fd *f)
{
	struct loop_fd **p;
	struct loop *l;

	if (!f)
		return;
	l = f->loop;
	pthread_mutex_lock(&l->lock);
	loop_fd_set_locked(f, 0);
	f->dead = true;
	for (p = &l->always; f->always && *p; p = &(*p)->next)
		if (*p == f) {
			*p = f->next;
			break;
		}
	loop_wait_idle_locked(l, f);
	f->next = l->dead;
	l->dead = f;
	pthread_mutex_unlock(&l->lock);
}

static void loop_fd_run_locked(struct loop *l, struct loop_fd *f, u32 events)
{
	events &= f->events | EPOLLERR | EPOLLHUP;
	if (f->dead || !f->events || !events)
		return;
	loop_begin_locked(l, f);
	f->fn(f->arg, events);
	loop_end(l);
}

/*
 * Each once. A callback may delete any fd; the list is then read anew from
 * its start, which is fair enough for the one or two files that are here.
 */
static void loop_run_always_locked(struct loop *l)
{
	struct loop_fd *f, *next;

	for (f = l->always; f; f = next) {
		next = f->next;
		loop_fd_run_locked(l, f, f->events);
		if (f->dead || (next && next->dead))
			return;
	}
}

/* ---- timers: a binary heap, the earliest first ---- */

static void loop_heap_put(struct loop *l, size_t at, struct loop_timer *t)
{
	l->heap[at] = t;
	t->at = at;
}

static void loop_heap_up(struct loop *l, size_t at, struct loop_timer *t)
{
	while (at && l->heap[(at - 1) / 2]->deadline > t->deadline) {
		loop_heap_put(l, at, l->heap[(at - 1) / 2]);
		at = (at - 1) / 2;
	}
	loop_heap_put(l, at, t);
}

static void loop_heap_down(struct loop *l, size_t at, struct loop_timer *t)
{
	size_t c;

	while ((c = 2 * at + 1) < l->timers) {
		if (c + 1 < l->timers &&
		    l->heap[c + 1]->deadline < l->heap[c]->deadline)
			c++;
		if (l->heap[c]->deadline >= t->deadline)
			break;
		loop_heap_put(l, at, l->heap[c]);
		at = c;
	}
	loop_heap_put(l, at, t);
}

static void loop_heap_remove(struct loop *l, struct loop_timer *t)
{
	struct loop_timer *last = l->heap[--l->timers];
	size_t at = t->at;

	t->deadline = 0;
	if (last == t)
		return;
	loop_heap_down(l, at, last);
	loop_heap_up(l, last->at, last);
}

/* Only ever set earlier here: a timerfd that fires too soon is harmless. */
static void loop_timer_sync_locked(struct loop *l)
{
	u64 at = l->timers ? l->heap[0]->deadline : 0;
	struct itimerspec its = {
		.it_value.tv_sec = (time_t)(at / 1000000000),
		.it_value.tv_nsec = (long)(at % 1000000000),
	};

	if (!at || (l->set && l->set <= at))
		return;
	l->set = at;
	timerfd_settime(l->timer, TFD_TIMER_ABSTIME, &its, NULL);
}

/* The heap always has room for every timer there is, so arming cannot fail. */
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg),
				  void *arg)
{
	struct loop_timer *t = calloc(1, sizeof(*t)), **heap;

	if (!t)
		return NULL;
	*t = (struct loop_timer){.loop = l, .fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	heap = reallocarray(l->heap, l->capacity + 1,
			    sizeof(struct loop_timer *));
	if (heap) {
		l->heap = heap;
		l->capacity++;
	}
	pthread_mutex_unlock(&l->lock);
	if (!heap) {
		free(t);
		return NULL;
	}
	return t;
}

void loop_timer_arm(struct loop_timer *t, u64 deadline_ns)
{
	struct loop *l = t->loop;

	pthread_mutex_lock(&l->lock);
	if (t->deadline)
		loop_heap_remove(l, t);
	if (deadline_ns) {
		t->deadline = deadline_ns;
		loop_heap_up(l, l->timers++, t);
		loop_timer_sync_locked(l);
	}
	pthread_mutex_unlock(&l->lock);
}

void loop_timer_free(struct loop_timer *t)
{
	struct loop *l;

	if (!t)
		return;
	l = t->loop;
	pthread_mutex_lock(&l->lock);
	loop_wait_idle_locked(l, t);
	if (t->deadline)
		loop_heap_remove(l, t);
	l->capacity--;
	pthread_mutex_unlock(&l->lock);
	free(t);
}

/* At most one round over those now armed: one that rearms itself in the past
 * must not keep the loop from its other work. */
static void loop_run_timers_locked(struct loop *l)
{
	u64 now = clock_ns();
	size_t n = l->timers;

	while (n-- && l->timers && l->heap[0]->deadline <= now) {
		struct loop_timer *t = l->heap[0];

		loop_heap_remove(l, t);
		loop_begin_locked(l, t);
		t->fn(t->arg);
		loop_end(l);
	}
}

/* ---- calls ---- */

int loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	struct loop_call *c = malloc(sizeof(*c));

	if (!c)
		return -ENOMEM;
	*c = (struct loop_call){.fn = fn, .arg = arg};
	pthread_mutex_lock(&l->lock);
	*l->last = c;
	l->last = &c->next;
	pthread_mutex_unlock(&l->lock);
	loop_wake(l);
	return 0;
}

/* Those that were there when it began; what they add waits a round. */
static void loop_run_calls_locked(struct loop *l)
{
	struct loop_call *c = l->first, *next;

	l->first = NULL;
	l->last = &l->first;
	for (; c; c = next) {
		next = c->next;
		loop_begin_locked(l, c);
		c->fn(c->arg);
		loop_end(l);
		free(c);
	}
}

/* ---- running ---- */

static void loop_drain(int fd)
{
	u64 n;

	while (read(fd, &n, sizeof(n)) > 0)
		;
}

static bool loop_ready_locked(const struct loop *l)
{
	for (const struct loop_fd *f = l->always; f; f = f->next)
		if (f->events)
			return true;
	return false;
}

/* The timerfd and the eventfd first: what woke us is then run in this round. */
static void loop_round_locked(struct loop *l, const struct epoll_event *ev,
			      int n)
{
	for (int i = 0; i < n; i++)
		if (ev[i].data.ptr == &l->wake) {
			loop_drain(l->wake);
		} else if (ev[i].data.ptr == &l->timer) {
			loop_drain(l->timer);
			l->set = 0;
		}
	loop_run_calls_locked(l);
	loop_run_timers_locked(l);
	loop_timer_sync_locked(l);
	for (int i = 0; i < n; i++)
		if (ev[i].data.ptr != &l->wake && ev[i].data.ptr != &l->timer)
			loop_fd_run_locked(l, ev[i].data.ptr, ev[i].events);
	loop_run_always_locked(l);
	loop_bury(l);
}

void loop_run(struct loop *l)
{
	struct epoll_event ev[BATCH];
	int n;

	__atomic_store_n(&l->thread, pthread_self(), __ATOMIC_RELEASE);
	pthread_mutex_lock(&l->lock);
	while (!__atomic_load_n(&l->stop, __ATOMIC_SEQ_CST)) {
		int timeout = loop_ready_locked(l) ? 0 : -1;

		pthread_mutex_unlock(&l->lock);
		n = epoll_wait(l->epoll, ev, BATCH, timeout);
		pthread_mutex_lock(&l->lock);
		loop_round_locked(l, ev, n);
	}
	__atomic_store_n(&l->stop, false, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&l->lock);
	__atomic_store_n(&l->thread, 0, __ATOMIC_RELEASE);
}
