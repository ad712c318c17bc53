/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For unit tests of devices with timers: an event loop in a thread of its own,
 * and a wire that counts the edges a device makes on it. Call order:
 * testing_init(), devices made with .loop and testing_wire(), testing_start(),
 * the devices freed, testing_stop().
 */
#ifndef DEVICE_TIMER_TESTING_H
#define DEVICE_TIMER_TESTING_H

#include <pthread.h>

#include "base/loop.h"
#include "irq/wire.h"

struct testing {
	struct loop *loop;
	pthread_t thread;
	bool level; /* atomic */
	u32 edges;  /* atomic: from low to high */
};

static inline void testing_set(void *arg, unsigned n, bool level)
{
	struct testing *t = arg;

	(void)n;
	if (__atomic_exchange_n(&t->level, level, __ATOMIC_SEQ_CST) < level)
		__atomic_add_fetch(&t->edges, 1, __ATOMIC_SEQ_CST);
}

static inline struct irq_line testing_wire(struct testing *t)
{
	return (struct irq_line){testing_set, t, 0};
}

static inline bool testing_level(struct testing *t)
{
	return __atomic_load_n(&t->level, __ATOMIC_SEQ_CST);
}

static inline u32 testing_edges(struct testing *t)
{
	return __atomic_load_n(&t->edges, __ATOMIC_SEQ_CST);
}

static inline void testing_init(struct testing *t)
{
	*t = (struct testing){.loop = loop_new(NULL)};
}

static inline void *testing_run(void *loop)
{
	loop_run(loop);
	return NULL;
}

static inline void testing_start(struct testing *t)
{
	pthread_create(&t->thread, NULL, testing_run, t->loop);
}

static inline void testing_stop(struct testing *t)
{
	loop_stop(t->loop);
	pthread_join(t->thread, NULL);
	loop_free(t->loop);
}

#endif
