/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One connection between two monitors: bytes over TCP (with TLS), a UNIX
 * socket or the standard streams of a command, with time limits, a bandwidth
 * limit and a way to be called off.
 *
 * One thread may read and another write at the same time. Nothing here trusts
 * the other side.
 */
#ifndef MIGRATE_CHAN_H
#define MIGRATE_CHAN_H

#include <pthread.h>

#include "base/err.h"
#include "base/types.h"

#define MIG_TIMEOUT_MS 30000u

struct mig_tls;

/* Shared by the streams of one migration. */
struct mig_pace {
	u64 limit;   /* bytes a second; 0: none */
	u64 next_ns; /* atomic; when what was sent so far is paid for */
};

/* When n more bytes may go (clock_ns(); may have passed), which are counted as
 * sent. now is the time. Any thread. */
u64 mig_pace_at(struct mig_pace *p, size_t n, u64 now);

/* Asked now and then while something is waited for. */
struct mig_cancel {
	bool (*cancelled)(void *arg);
	void *arg;
};

struct mig_chan {
	int in, out; /* the same for sockets; owned */
	struct mig_tls *tls;
	struct mig_pace *pace;           /* NULL: no limit */
	const struct mig_cancel *cancel; /* NULL: it goes on to the end */
	unsigned timeout_ms;             /* for each wait */
	u64 sent, received;              /* atomic; bytes */
	u64 seq_out, seq_in;             /* frames; wire.c */
	pthread_mutex_t write_lock;      /* one frame at a time; wire.c */
};

/*
 * poll(2) of one descriptor (-1: none) for so long at most, cancel permitting:
 * 1: something is there, 0: time is up, -ECANCELED.
 */
int mig_poll(int fd, short events, int ms, const struct mig_cancel *cancel,
	     struct err *e);

/* Takes over the descriptors and makes them non-blocking. */
void mig_chan_init(struct mig_chan *c, int in, int out);
void mig_chan_close(struct mig_chan *c);

/*
 * Exactly n bytes. -ETIMEDOUT if the other side stalls, -ECONNRESET if it is
 * gone, -ECANCELED if called off.
 */
int mig_chan_write(struct mig_chan *c, const void *buf, size_t n,
		   struct err *e);
int mig_chan_read(struct mig_chan *c, void *buf, size_t n, struct err *e);

/* Waits up to ms for something to read; 1: there is, 0: not, or -errno. */
int mig_chan_wait(struct mig_chan *c, int ms, struct err *e);

#endif
