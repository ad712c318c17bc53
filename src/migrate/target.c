/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The side that a VM comes to: rounds of pages on each stream, the state, and
 * the hand-over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "migrate/target_priv.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

#define STATE_MAX (64 * MIB)
/* The source gives its disks up just before COMMIT. */
#define LOCK_TRIES 40
#define LOCK_WAIT  50000 /* us */

/* ---- streams ---- */

static void incoming_failed(struct mig_incoming *in, int rc,
			    const struct err *why)
{
	pthread_mutex_lock(&in->lock);
	if (!in->failed) {
		in->failed = rc;
		in->why = *why;
	}
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
}

static int inlet_init(struct mig_incoming *in, unsigned i, struct err *e)
{
	struct inlet *n = &in->inlet[i];

	*n = (struct inlet){.in = in, .index = i};
	n->pages = malloc(sizeof(*n->pages));
	if (!n->pages)
		return err_set(e, -ENOMEM, "no memory to receive pages");
	return mig_frame_init(&n->frame, e);
}

static void inlet_fini(struct inlet *n)
{
	if (n->started)
		pthread_join(n->thread, NULL);
	n->started = false;
	free(n->pages);
	n->pages = NULL;
	mig_frame_fini(&n->frame);
}

static int inlet_pages(struct inlet *n, struct err *e)
{
	int rc = mig_pages_decode(n->pages, n->frame.data, n->frame.len, e);

	if (rc)
		return rc;
	if (n->pages->round != n->round)
		return err_set(e, -EPROTO,
			       "the migration stream has pages of round %u in "
			       "round %u",
			       n->pages->round, n->round);
	return mig_ram_apply(&n->in->ram, n->pages, e);
}

static int inlet_barrier(struct inlet *n, struct err *e)
{
	struct mig_incoming *in = n->in;
	u64 round;
	int rc = mig_frame_u64(&n->frame, &round, e);

	if (rc)
		return rc;
	if (round != n->round)
		return err_set(e, -EPROTO,
			       "the migration stream ends round %lu in round "
			       "%u",
			       round, n->round);
	pthread_mutex_lock(&in->lock);
	n->round++;
	pthread_cond_broadcast(&in->changed);
	pthread_mutex_unlock(&in->lock);
	return 0;
}

/* A stream carries nothing but pages until its connection is closed. */
static void *inlet_main(void *arg)
{
	struct inlet *n = arg;
	struct mig_incoming *in = n->in;
	struct mig_chan *c = &in->chan[n->index];
	struct err e = {{0}};
	int rc = 0;

	while (!rc) {
		rc = mig_chan_wait(c, 1000, &e);
		if (rc <= 0)
			continue;
		rc = mig_recv(c, &n->frame, BIT(MIG_PAGES) | BIT(MIG_BARRIER),
			      &e);
		if (!rc)
			rc = n->frame.type == MIG_PAGES ? inlet_pages(n, &e)
							: inlet_barrier(n, &e);
	}
	if (!__atomic_load_n(&in->streams_done, __ATOMIC_SEQ_CST))
		incoming_failed(in, rc, &e);
	return NULL;
}

/* Until every stream is past the round that the main one has ended. */
static int incoming_sync(struct mig_incoming *in, struct err *e)
{
	struct timespec end;
	u32 round = in->inlet[0].round;
	unsigned i = 1;
	int rc = 0;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += in->o.timeout_ms / 1000 + 1;
	pthread_mutex_lock(&in->lock);
	while (i < in->nchan && !rc && !in->failed) {
		if (in->inlet[i].round >= round)
			i++;
		else
			rc = -pthread_cond_timedwait(&in->changed, &in->lock,
						     &end);
	}
	if (in->failed)
		rc = err_set(e, in->failed, "%s", in->why.text);
	else if (rc)
		err_set(e, rc, "stream %u has stalled", i);
	pthread_mutex_unlock(&in->lock);
	return rc;
}

/* ---- before the state ---- */

static int incoming_streams(struct mig_incoming *in, struct err *e)
{
	u64 have = 1;

	while (in->nchan < in->hello.streams) {
		struct mig_chan c;
		struct mig_preamble p;
		int rc = incoming_accept(in, &c, &p, in->o.timeout_ms, e);

		if (rc)
			return rc;
		if (p.session != in->hello.session ||
		    p.role != MIG_ROLE_STREAM || !p.index ||
		    p.index >= in->hello.streams || have >> p.index & 1) {
			log_warnx("a connection that is not the source's was "
				  "refused");
			mig_chan_close(&c);
			continue;
		}
		have |= BIT64(p.index);
		in->chan[p.index] = c;
		in->nchan++;
	}
	for (unsigned i = 1; i < in->nchan; i++) {
		int rc = -pthread_create(&in->inlet[i].thread, NULL, inlet_main,
					 &in->inlet[i]);

		if (rc)
			return err_errno(e, rc, "cannot start a thread");
		in->inlet[i].started = true;
	}
	return 0;
}

static int incoming_state(struct mig_incoming *in, const struct mig_frame *f,
			  struct err *e)
{
	if (in->state.len + f->len > STATE_MAX)
		return err_set(e, -EPROTO,
			       "the machine's state is larger than "
			       "%llu MiB",
			       STATE_MAX / MIB);
	buf_add(&in->state, f->data, f->len);
	return in->state.failed ? err_set(e, -ENOMEM,
					  "no memory for the "
					  "machine's state")
				: 0;
}

/* One frame of the main stream; *end: the state is whole. */
static int incoming_frame(struct mig_incoming *in, bool *end, struct err *e)
{
	struct inlet *n = &in->inlet[0];
	u64 len;
	int rc;

	switch (n->frame.type) {
	case MIG_PAGES: return inlet_pages(n, e);
	case MIG_DISK:
		return mig_disk_in_frame(in->disk, in->ndisks, &n->frame, e);
	case MIG_STATE: return incoming_state(in, &n->frame, e);
	case MIG_MISSING: return post_missing(in, &n->frame, e);
	case MIG_BARRIER:
		rc = inlet_barrier(n, e);
		if (!rc)
			rc = incoming_sync(in, e);
		if (!rc)
			rc = mig_disk_in_sync(in->disk, in->ndisks, e);
		return rc ? rc
			  : mig_send_u64(&in->chan[0], MIG_BARRIER_ACK,
					 n->round - 1, e);
	default: break;
	}
	*end = true;
	rc = mig_frame_u64(&n->frame, &len, e);
	if (!rc && len != in->state.len)
		rc = err_set(e, -EPROTO,
			     "the machine's state has %lu bytes, "
			     "not %lu",
			     in->state.len, len);
	return rc;
}

static int incoming_memory(struct mig_incoming *in, struct err *e)
{
	static const u32 allowed = BIT(MIG_PAGES) | BIT(MIG_BARRIER) |
				   BIT(MIG_STATE) | BIT(MIG_STATE_END) |
				   BIT(MIG_MISSING) | BIT(MIG_DISK);
	bool end = false;
	int rc = 0;

	while (!rc && !end) {
		rc = mig_recv(&in->chan[0], &in->inlet[0].frame, allowed, e);
		if (!rc)
			rc = incoming_frame(in, &end, e);
	}
	if (rc == -ECANCELED && in->failed)
		return err_set(e, in->failed, "%s", in->why.text);
	return rc;
}

/* ---- the hand-over ---- */

static int incoming_lock_disks(struct mig_incoming *in, struct err *e)
{
	int rc = -EBUSY;

	for (unsigned i = 0; i < LOCK_TRIES && rc == -EBUSY; i++) {
		if (i)
			usleep(LOCK_WAIT);
		rc = vm_disks_lock(in->vm, true, e);
	}
	return rc;
}

static int incoming_wait_commit(struct mig_incoming *in, struct err *e)
{
	u64 session;
	int rc;

	if (in->post)
		return post_wait_commit(in, e);
	rc = mig_recv(&in->chan[0], &in->inlet[0].frame, BIT(MIG_COMMIT), e);
	return rc ? rc : mig_frame_u64(&in->inlet[0].frame, &session, e);
}

static int incoming_take_over(struct mig_incoming *in, struct err *e)
{
	int rc = in->post ? post_begin(in, e) : 0;

	if (!rc)
		rc = vm_state_load(in->vm, in->state.data, in->state.len, e);
	if (!rc)
		rc = mig_disk_in_sync(in->disk, in->ndisks, e);
	if (!rc)
		rc = mig_send_u64(&in->chan[0], MIG_READY, in->hello.session,
				  e);
	/* Hanging up is safe for the source only until COMMIT is out: so no
	 * limit to our patience but the connection's. */
	if (!rc)
		rc = incoming_wait_commit(in, e);
	if (!rc)
		rc = incoming_lock_disks(in, e);
	if (!rc)
		rc = mig_disk_in_keep(in->disk, in->ndisks, e);
	if (rc)
		return rc;
	in->ours = true;
	vm_announce(in->vm);
	mig_send_u64(&in->chan[0], MIG_RUNNING, in->hello.session, NULL);
	return 0;
}

static int incoming_run(struct mig_incoming *in, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < in->hello.streams; i++)
		rc = inlet_init(in, i, e);
	if (!rc)
		rc = mig_ram_in_init(&in->ram, &in->vm->mem, e);
	if (!rc)
		rc = incoming_accept_it(in, vm_engine(in->vm), e);
	if (!rc)
		rc = incoming_streams(in, e);
	if (!rc)
		rc = incoming_memory(in, e);
	__atomic_store_n(&in->streams_done, true, __ATOMIC_SEQ_CST);
	return rc ? rc : incoming_take_over(in, e);
}

void incoming_hang_up(struct mig_incoming *in, unsigned from)
{
	/* Threads end when their connection does. */
	__atomic_store_n(&in->streams_done, true, __ATOMIC_SEQ_CST);
	for (unsigned i = from; i < in->nchan; i++)
		shutdown(in->chan[i].in, SHUT_RDWR);
	for (unsigned i = from; i < MIG_STREAMS; i++)
		inlet_fini(&in->inlet[i]);
	for (unsigned i = from; i < in->nchan; i++)
		mig_chan_close(&in->chan[i]);
	in->nchan = MIN(in->nchan, from);
}

int mig_incoming_receive(struct mig_incoming *in, struct vm *vm, struct err *e)
{
	int rc;

	in->vm = vm;
	vm_quiesce(vm);
	rc = incoming_run(in, e);
	if (rc && in->nchan)
		mig_send(&in->chan[0], MIG_REFUSE, e->text,
			 (u32)strlen(e->text), NULL);
	incoming_hang_up(in, !rc && in->post ? 1 : 0);
	if (!rc && !in->post)
		incoming_unlisten(in);
	buf_free(&in->state);
	mig_ram_in_fini(&in->ram);
	if (rc)
		post_free(in);
	vm_unquiesce(vm);
	return rc;
}
