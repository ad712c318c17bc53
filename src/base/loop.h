/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The event loop: one thread that waits on file descriptors, timers and work
 * handed over by other threads. Control, slow devices and device timers live
 * here. Callbacks run on the loop's thread without the loop's lock held, one
 * at a time, and must not block.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include "base/err.h"
#include "base/types.h"

struct loop;
struct loop_fd;
struct loop_timer;

struct loop *loop_new(struct err *e);
void loop_free(struct loop *l); /* after loop_run() returned */

/* Runs callbacks until loop_stop(). Called by the loop's thread only. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l); /* any thread, also a signal handler */

/*
 * Watches fd for epoll events (EPOLLIN, EPOLLOUT ...; 0 pauses). The fd stays
 * the caller's. Any thread; loop_fd_del() from another thread waits until a
 * callback under way has ended.
 */
struct loop_fd *loop_fd_add(struct loop *l, int fd, u32 events,
			    void (*fn)(void *arg, u32 events), void *arg,
			    struct err *e);
void loop_fd_events(struct loop_fd *f, u32 events);
void loop_fd_del(struct loop_fd *f);

/*
 * One-shot timers on clock_ns(). Arming from any thread replaces an earlier
 * deadline; 0 disarms. A deadline in the past fires at once. The callback may
 * run once more after a disarm that raced with it: devices check their state.
 */
struct loop_timer *loop_timer_new(struct loop *l, void (*fn)(void *arg),
				  void *arg);
void loop_timer_arm(struct loop_timer *t, u64 deadline_ns);
void loop_timer_free(struct loop_timer *t); /* waits as loop_fd_del() does */

/* Runs fn(arg) on the loop's thread soon, in order. Any thread. */
int loop_call(struct loop *l, void (*fn)(void *arg), void *arg);

/* True on the loop's own thread. */
bool loop_here(struct loop *l);

#endif
