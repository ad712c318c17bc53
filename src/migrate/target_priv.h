/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the target share. */
#ifndef MIGRATE_TARGET_PRIV_H
#define MIGRATE_TARGET_PRIV_H

#include "base/buf.h"
#include "migrate/disks.h"
#include "migrate/hello.h"
#include "migrate/ram.h"

struct post_in;
struct mig_incoming;

/* One stream and its thread. */
struct inlet {
	struct mig_incoming *in;
	unsigned index;
	struct mig_frame frame;
	struct mig_pages *pages;
	u32 round; /* in.lock; the one it carries */
	pthread_t thread;
	bool started;
};

struct mig_incoming {
	struct mig_incoming_options o;
	struct mig_addr addr;
	int listen;
	struct mig_cancel cancel;
	struct mig_chan chan[MIG_STREAMS];
	unsigned nchan;
	struct inlet inlet[MIG_STREAMS];
	struct mig_hello hello;
	struct mig_ram_in ram;
	struct mig_disk_in disk[VM_DISKS]; /* that come along */
	unsigned ndisks;
	struct vm *vm;
	struct buf state;
	bool streams_done;    /* atomic; no more pages on the streams */
	bool ours;            /* handed over: runs here */
	struct post_in *post; /* NULL: all memory comes before the state */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a round has ended somewhere; or failed */
	int failed;             /* 0 or -errno: of a stream's thread */
	struct err why;
};

/* Post-copy (post_in.c). */

/* Whether this process can serve the faults of its guest's memory; why not. */
int post_possible(struct err *e);
/* A MISSING frame. */
int post_missing(struct mig_incoming *in, const struct mig_frame *f,
		 struct err *e);
/* The state is here: from now on faults are served, and all that comes on the
 * main connection is read by a thread of its own. */
int post_begin(struct mig_incoming *in, struct err *e);
/* Waits for COMMIT. */
int post_wait_commit(struct mig_incoming *in, struct err *e);
void post_free(struct mig_incoming *in);

/* Tells the source to go on, and what we can do. */
int incoming_accept_it(struct mig_incoming *in, const char *engine,
		       struct err *e);
/* Nobody else is waited for. */
void incoming_unlisten(struct mig_incoming *in);
/* Ends the connections from that number on, and their threads. */
void incoming_hang_up(struct mig_incoming *in, unsigned from);
/* A new connection of an expected kind, with TLS. */
int incoming_accept(struct mig_incoming *in, struct mig_chan *c,
		    struct mig_preamble *p, unsigned timeout_ms, struct err *e);

#endif
