/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the source share. */
#ifndef MIGRATE_SOURCE_PRIV_H
#define MIGRATE_SOURCE_PRIV_H

#include "base/buf.h"
#include "migrate/disks.h"
#include "migrate/hello.h"
#include "migrate/ram.h"
#include "migrate/throttle.h"
#include "vm/vm_track.h"

struct source {
	const struct mig_host *host;
	const struct mig_options *o;
	struct mig_result *result;
	struct mem *mem;
	struct mig_addr addr;
	struct mig_cancel cancel;
	struct mig_pace pace;
	struct mig_chan chan[MIG_STREAMS]; /* the first is the main one */
	unsigned nchan;                    /* open ones */
	struct mig_frame frame;
	struct mig_hello hello;
	struct mig_accept accept;
	struct mig_ram ram;
	struct vm_track *track;
	struct mig_disks disks;       /* that go along */
	struct mig_throttle throttle; /* loop thread */
	unsigned slowdown;
	struct buf state;
	bool quiet;    /* the VM is quiesced by us */
	bool unlocked; /* its disks' locks are given up */
	struct mig_progress progress;
	u64 start_ns, pause_ns, handover_ns;
	u64 told_ns, told_sent; /* for the rate shown */
};

/* Everything while the VM runs; *post: it is to be handed over with pages left
 * (source_rounds.c). */
int source_copy(struct source *s, bool *post, struct err *e);

/* The rest (source_hand.c). */
int source_hand_over(struct source *s, bool post, struct err *e);
/* It runs here as before. */
int source_stay(struct source *s, struct err *e);
/* A post-copy broke for the reason in e; returns rc. */
int source_broken(struct source *s, int rc, struct err *e);

/* Sends the pages that are left to a target that runs the VM (post_out.c). */
int source_serve(struct source *s, struct err *e);
/* Tells which pages are missing, before the state. */
int source_send_missing(struct source *s, struct err *e);
/* Sends the pages that a FETCH frame asks for. */
int source_fetch(struct source *s, const struct mig_frame *f, struct err *e);

int source_on_loop(struct source *s, int (*fn)(void *arg, struct err *e),
		   struct err *e);
bool source_cancelled(void *arg);
u64 source_sent(const struct source *s);
void source_tell(struct source *s, const char *phase, u64 left);

#endif
