/* SPDX-License-Identifier: BSD-2-Clause */
/* While the VM runs: disks, then rounds of memory, until plan.h says stop. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "migrate/source_priv.h"
#include "vm/pager.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

/* What a pause takes beside the pages. */
#define HANDOVER_NS 3000000u
/* Rounds shorter than this measure nothing. */
#define ROUND_MIN_NS 20000000u

static int source_throttle_on(void *arg, struct err *e)
{
	struct source *s = arg;
	int rc = 0;

	if (!s->throttle.timer)
		rc = mig_throttle_init(&s->throttle, s->host->vm,
				       s->host->vm->loop, e);
	if (!rc)
		mig_throttle_set(&s->throttle, s->slowdown);
	return rc;
}

/* Sends what is to be sent, and waits until the target has it. */
static int source_send_round(struct source *s, struct err *e)
{
	u32 round = s->ram.round;
	u64 got;
	int rc = mig_ram_send(&s->ram, e);

	if (!rc)
		rc = mig_recv(&s->chan[0], &s->frame, BIT(MIG_BARRIER_ACK), e);
	if (!rc)
		rc = mig_frame_u64(&s->frame, &got, e);
	if (!rc && got != round)
		rc = err_set(e, -EPROTO,
			     "the target answers to round %lu, "
			     "this is round %u",
			     got, round);
	return rc;
}

/* Pages of memory, and what of disks is as much. */
static u64 source_left(struct source *s)
{
	return mig_ram_left(&s->ram) + mig_disks_left(&s->disks) / PAGE_SIZE;
}

static int source_measure(struct source *s, struct mig_measure *m,
			  struct err *e)
{
	u64 start = clock_ns(), had = source_left(s), took;
	int rc = mig_disks_send(&s->disks, &s->chan[0], e);

	if (!rc)
		rc = source_send_round(s, e);
	if (rc)
		return rc;
	took = MAX(clock_ns() - start, 1u);
	/* Few pages tell nothing about the connection. */
	if (had >= 256 || !m->rounds)
		m->send = (double)MAX(had, 1u) * 1e9 / (double)took;
	if (took < ROUND_MIN_NS)
		mig_poll(-1, 0, (int)((ROUND_MIN_NS - took) / 1000000),
			 &s->cancel, NULL);
	took = clock_ns() - start;
	rc = vm_track_collect(s->track, s->ram.todo, e);
	m->rounds++;
	m->elapsed_ns = clock_ns() - s->start_ns;
	m->left = m->written = source_left(s);
	m->round_ns = took;
	m->handover_ns = HANDOVER_NS;
	m->slowdown = s->slowdown;
	m->postcopy = s->accept.postcopy && s->o->post != MIG_POST_NEVER;
	return rc;
}

static int source_fail(struct source *s, const struct mig_plan *p,
		       struct err *e)
{
	return err_set(e, -ETIME,
		       "it would not end: %s. What would help: "
		       "--max-downtime %.0fms or more, a faster connection, "
		       "or %s",
		       s->progress.why, (double)p->downtime_ns / 1e6 + 1,
		       s->accept.postcopy ? "--post-copy auto"
					  : "a target that can do post-copy");
}

/* Rounds until it is time for the hand-over; *post: with pages left. */
static int source_rounds(struct source *s, bool *post, struct err *e)
{
	struct mig_measure m = {0};

	for (;;) {
		struct mig_plan p;
		int rc;

		source_tell(s, "copying", mig_ram_left(&s->ram));
		rc = source_measure(s, &m, e);
		if (rc)
			return rc;
		p = mig_plan(&m, &s->o->goals, s->progress.why,
			     sizeof(s->progress.why));
		s->progress.downtime_ns = p.downtime_ns;
		log_info("round %u: %s", m.rounds, s->progress.why);
		*post = p.step == MIG_STEP_POST;
		if (s->o->dry_run && m.rounds >= 2)
			return 0;
		if (p.step == MIG_STEP_FAIL)
			return source_fail(s, &p, e);
		if (p.step == MIG_STEP_STOP || p.step == MIG_STEP_POST)
			return 0;
		if (p.slowdown != s->slowdown) {
			s->slowdown = p.slowdown;
			rc = source_on_loop(s, source_throttle_on, e);
		}
		if (rc)
			return rc;
	}
}

/* A short pause, so that no request is under way when tracking begins. */
static int source_disks_begin(void *arg, struct err *e)
{
	struct source *s = arg;
	int rc;

	vm_quiesce(s->host->vm);
	rc = mig_disks_start(&s->disks, s->host->vm, e);
	vm_unquiesce(s->host->vm);
	return rc;
}

/* Disks are far larger than memory: they go first, until little is left. */
static int source_disks(struct source *s, struct err *e)
{
	u64 left, before = ~0ull;
	int rc = source_on_loop(s, source_disks_begin, e);

	while (!rc && (left = mig_disks_left(&s->disks)) < before) {
		before = left / 2;
		source_tell(s, "copying disks", left / PAGE_SIZE);
		rc = mig_disks_send(&s->disks, &s->chan[0], e);
	}
	return rc;
}

int source_copy(struct source *s, bool *post, struct err *e)
{
	int rc = s->o->with_disks && !s->o->dry_run ? source_disks(s, e) : 0;

	if (rc)
		return rc;
	s->track = vm_track_new(s->host->vm, e);
	if (!s->track)
		return -ENOMEM;
	rc = pager_finish(s->host->vm->pager, e);
	if (!rc)
		rc = mig_ram_all(&s->ram, e);
	if (rc)
		return rc;
	*post = s->o->post == MIG_POST_ALWAYS;
	return *post ? 0 : source_rounds(s, post, e);
}
