/* SPDX-License-Identifier: BSD-2-Clause */
/* Two ends of a connection, for tests: cmocka's set-up and teardown. */
#ifndef MIGRATE_PAIR_TESTING_H
#define MIGRATE_PAIR_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "migrate/chan.h"
#include "migrate/wire.h"

struct pair {
	struct mig_chan a, b;
	struct mig_frame f;
	struct err e;
};

static inline int pair_make(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	int sv[2];

	assert_non_null(p);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	mig_chan_init(&p->a, sv[0], sv[0]);
	mig_chan_init(&p->b, sv[1], sv[1]);
	assert_int_equal(mig_frame_init(&p->f, &p->e), 0);
	*state = p;
	return 0;
}

static inline int pair_teardown(void **state)
{
	struct pair *p = *state;

	mig_chan_close(&p->a);
	mig_chan_close(&p->b);
	mig_frame_fini(&p->f);
	free(p);
	return 0;
}

#endif
