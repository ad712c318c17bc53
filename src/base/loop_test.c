/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "base/loop.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

#define MS 1000000ull

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

static void stop(void *arg)
{
	loop_stop(arg);
}

/* ---- timers ---- */

struct order {
	struct loop *l;
	u64 now;
	unsigned next, late;
};
struct due {
	struct order *o;
	struct loop_timer *t;
	unsigned rank;
	u64 at;
};

static void due_fired(void *arg)
{
	struct due *d = arg;

	assert_int_equal(d->rank, d->o->next++);
	assert_true(clock_ns() >= d->at);
	if (d->o->next == 50)
		loop_stop(d->o->l);
}

static void test_timer_order(void **state)
{
	struct order o = {.l = loop_new(NULL)};
	u64 t0 = clock_ns();
	struct due d[60];

	(void)state;
	for (unsigned i = 0; i < 60; i++) {
		unsigned rank = i * 7 % 60; /* 7 and 60 have no factor */

		d[i] = (struct due){&o, NULL, rank, t0 + (rank + 1) * MS / 4};
		d[i].t = loop_timer_new(o.l, due_fired, &d[i]);
		loop_timer_arm(d[i].t, t0 + 1000000 * MS);
		loop_timer_arm(d[i].t, d[i].at);
	}
	for (unsigned i = 0; i < 60; i++) /* the last ten never fire */
		if (d[i].rank >= 50)
			loop_timer_arm(d[i].t, 0);
	loop_run(o.l);
	assert_int_equal(o.next, 50);
	for (unsigned i = 0; i < 60; i++)
		loop_timer_free(d[i].t);
	loop_free(o.l);
}

struct again {
	struct loop *l;
	struct loop_timer *t;
	unsigned n;
	bool called;
};

static void again_fired(void *arg)
{
	struct again *a = arg;

	a->n++;
	loop_timer_arm(a->t, 1); /* long past: at once, for ever */
}

static void again_called(void *arg)
{
	struct again *a = arg;

	a->called = true;
	loop_stop(a->l);
}

static void *again_helper(void *arg)
{
	struct again *a = arg;

	usleep(5000);
	loop_call(a->l, again_called, a);
	return NULL;
}

/* A timer that is always due does not keep the loop from anything else. */
static void test_timer_hog(void **state)
{
	struct again a = {.l = loop_new(NULL)};
	pthread_t t;

	(void)state;
	a.t = loop_timer_new(a.l, again_fired, &a);
	loop_timer_arm(a.t, 1);
	pthread_create(&t, NULL, again_helper, &a);
	loop_run(a.l);
	pthread_join(t, NULL);
	assert_true(a.called);
	assert_true(a.n > 10);
	loop_timer_free(a.t);
	loop_free(a.l);
}

/* ---- calls and wake-ups ---- */

struct pong {
	struct loop *l;
	struct loop_timer *t;
	u32 calls, timers; /* atomic */
};

static void pong_call(void *arg)
{
	struct pong *p = arg;

	assert_true(loop_here(p->l));
	__atomic_add_fetch(&p->calls, 1, __ATOMIC_SEQ_CST);
}

static void pong_timer(void *arg)
{
	struct pong *p = arg;

	__atomic_add_fetch(&p->timers, 1, __ATOMIC_SEQ_CST);
}

/* Each wake-up is awaited before the next is sent: a lost one would hang. */
static void test_no_lost_wakeup(void **state)
{
	struct pong p = {.l = loop_new(NULL)};
	pthread_t t;

	(void)state;
	p.t = loop_timer_new(p.l, pong_timer, &p);
	pthread_create(&t, NULL, run, p.l);
	for (u32 i = 1; i <= 3000; i++) {
		assert_int_equal(loop_call(p.l, pong_call, &p), 0);
		while (__atomic_load_n(&p.calls, __ATOMIC_SEQ_CST) != i)
			sched_yield();
		loop_timer_arm(p.t, clock_ns() + i % 3 * 20000);
		while (__atomic_load_n(&p.timers, __ATOMIC_SEQ_CST) != i)
			sched_yield();
	}
	assert_false(loop_here(p.l));
	loop_call(p.l, stop, p.l);
	pthread_join(t, NULL);
	loop_timer_free(p.t);
	loop_free(p.l);
}

static void test_stop_before_run(void **state)
{
	struct loop *l = loop_new(NULL);

	(void)state;
	loop_stop(l);
	loop_run(l);
	loop_call(l, stop, l);
	loop_run(l);
	loop_call(l, stop, l); /* never run: freed */
	loop_free(l);
}

/* ---- file descriptors ---- */

struct pair {
	struct loop *l;
	struct loop_fd *f[2];
	int fd[2][2];
	unsigned ran;
};

static void pair_ready(void *arg, u32 events)
{
	struct pair *p = arg;

	assert_true(events & EPOLLIN);
	p->ran++;
	/* both are ready in the same batch: the other must not run */
	for (unsigned i = 0; i < 2; i++) {
		loop_fd_del(p->f[i]);
		p->f[i] = NULL;
	}
	loop_call(p->l, stop, p->l);
}

static void test_delete_in_callback(void **state)
{
	struct pair p = {.l = loop_new(NULL)};

	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(pipe(p.fd[i]), 0);
		p.f[i] = loop_fd_add(p.l, p.fd[i][0], EPOLLIN, pair_ready, &p,
				     NULL);
		assert_non_null(p.f[i]);
		assert_int_equal(write(p.fd[i][1], "x", 1), 1);
	}
	loop_run(p.l);
	assert_int_equal(p.ran, 1);
	for (unsigned i = 0; i < 4; i++)
		close(p.fd[i / 2][i % 2]);
	loop_free(p.l);
}

struct slow {
	bool in, out; /* atomic */
};

static void slow_ready(void *arg, u32 events)
{
	struct slow *s = arg;

	(void)events;
	__atomic_store_n(&s->in, true, __ATOMIC_SEQ_CST);
	usleep(20000);
	__atomic_store_n(&s->out, true, __ATOMIC_SEQ_CST);
}

static void slow_fired(void *arg)
{
	slow_ready(arg, 0);
}

static void slow_await(struct slow *s)
{
	while (!__atomic_load_n(&s->in, __ATOMIC_SEQ_CST))
		usleep(100);
}

/* Another thread's deletion comes back only when the callback is over. */
static void test_delete_waits(void **state)
{
	struct loop *l = loop_new(NULL);
	struct loop_timer *tm;
	struct slow *s = calloc(1, sizeof(*s));
	struct loop_fd *f;
	pthread_t t;
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	pthread_create(&t, NULL, run, l);
	f = loop_fd_add(l, fd[0], EPOLLIN, slow_ready, s, NULL);
	assert_int_equal(write(fd[1], "x", 1), 1);
	slow_await(s);
	loop_fd_del(f);
	assert_true(s->out);
	*s = (struct slow){0};
	tm = loop_timer_new(l, slow_fired, s);
	loop_timer_arm(tm, 1);
	slow_await(s);
	loop_timer_free(tm);
	assert_true(s->out);
	free(s); /* nothing uses it any more: sanitizers would tell */
	loop_stop(l);
	pthread_join(t, NULL);
	close(fd[0]);
	close(fd[1]);
	loop_free(l);
}

struct count {
	struct loop_fd *f;
	struct loop *l;
	unsigned n;
	u32 seen;
};

static void count_ready(void *arg, u32 events)
{
	struct count *c = arg;

	c->seen |= events;
	if (++c->n == 3) {
		loop_fd_events(c->f, 0);
		loop_call(c->l, stop, c->l);
	}
}

/* A regular file is always ready; a paused one, though hung up, is silent. */
static void test_always_and_pause(void **state)
{
	struct loop *l = loop_new(NULL);
	struct count file = {.l = l}, hup = {.l = l};
	struct loop_timer *t = loop_timer_new(l, stop, l);
	char path[] = "/tmp/loop_testXXXXXX";
	int fd = mkstemp(path), sv[2];

	(void)state;
	unlink(path);
	file.f = loop_fd_add(l, fd, EPOLLIN, count_ready, &file, NULL);
	assert_non_null(file.f);
	loop_run(l);
	assert_int_equal(file.n, 3);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	close(sv[1]);
	hup.f = loop_fd_add(l, sv[0], EPOLLIN, count_ready, &hup, NULL);
	loop_run(l);
	assert_int_equal(hup.n, 3);
	loop_timer_arm(t, clock_ns() + 3 * MS);
	loop_run(l);
	assert_int_equal(hup.n, 3);
	assert_int_equal(file.n, 3);
	loop_fd_events(hup.f, EPOLLIN);
	loop_timer_arm(t, clock_ns() + 3 * MS);
	loop_run(l);
	assert_true(hup.n > 3);
	loop_fd_del(file.f);
	loop_fd_del(hup.f);
	loop_timer_free(t);
	close(fd);
	close(sv[0]);
	loop_free(l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timer_order),
		cmocka_unit_test(test_timer_hog),
		cmocka_unit_test(test_no_lost_wakeup),
		cmocka_unit_test(test_stop_before_run),
		cmocka_unit_test(test_delete_in_callback),
		cmocka_unit_test(test_delete_waits),
		cmocka_unit_test(test_always_and_pause),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
