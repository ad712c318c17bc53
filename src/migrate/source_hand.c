/* SPDX-License-Identifier: BSD-2-Clause */
/* The pause and the hand-over: who has the machine at which moment. */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "migrate/source_priv.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

#define STATE_PIECE (512 * KIB)

static int source_pause(void *arg, struct err *e)
{
	struct source *s = arg;
	struct vm *vm = s->host->vm;
	int rc;

	if (vm->end != VM_END_NONE)
		return err_set(e, -ECANCELED, "the machine ended meanwhile");
	mig_throttle_fini(&s->throttle);
	if (vm->pauses)
		return err_set(e, -EBUSY,
			       "the machine is paused; it can move "
			       "when it runs (sublet resume)");
	vm_quiesce(vm);
	s->quiet = true;
	mig_disks_left(&s->disks); /* collects the last */
	rc = vm_state_save(vm, &s->state, e);
	return rc ? rc : vm_track_collect(s->track, s->ram.todo, e);
}

static int source_go_on(void *arg, struct err *e)
{
	struct source *s = arg;

	(void)e;
	mig_throttle_fini(&s->throttle);
	if (s->quiet)
		vm_unquiesce(s->host->vm);
	s->quiet = false;
	return 0;
}

static int source_send_state(struct source *s, struct err *e)
{
	int rc = 0;

	for (u64 at = 0; !rc && at < s->state.len; at += STATE_PIECE)
		rc = mig_send(&s->chan[0], MIG_STATE, s->state.data + at,
			      (u32)MIN(s->state.len - at, STATE_PIECE), e);
	return rc ? rc
		  : mig_send_u64(&s->chan[0], MIG_STATE_END, s->state.len, e);
}

/* Loading the state may touch memory that is still here. */
static int source_ready(struct source *s, struct err *e)
{
	for (;;) {
		int rc = mig_recv(&s->chan[0], &s->frame,
				  BIT(MIG_READY) | BIT(MIG_FETCH) |
					  BIT(MIG_BARRIER_ACK),
				  e);

		if (rc || s->frame.type == MIG_READY)
			return rc;
		if (s->frame.type == MIG_FETCH)
			rc = source_fetch(s, &s->frame, e);
		if (rc)
			return rc;
	}
}

/* What it takes until the target could run. Nothing is lost if it fails. */
static int source_offer(struct source *s, bool post, struct err *e)
{
	int rc = source_on_loop(s, source_pause, e);

	if (!rc)
		rc = mig_disks_send(&s->disks, &s->chan[0], e);
	if (!rc)
		rc = post ? source_send_missing(s, e)
			  : mig_ram_send(&s->ram, e);
	if (!rc)
		rc = source_send_state(s, e);
	if (!rc)
		rc = source_ready(s, e);
	if (!rc) {
		rc = vm_disks_lock(s->host->vm, false, e);
		s->unlocked = !rc;
	}
	return rc;
}

/*
 * From here on nobody may call it off. If COMMIT could not be written whole,
 * the target cannot have seen it; if it was, only RUNNING tells.
 */
static int source_commit(struct source *s, bool post, struct err *e)
{
	const char *or_else =
		post ? " If it stands still there for want of memory, sublet "
		       "migrate VM PLACE --resume sends the rest."
		     : "";
	struct err why = {{0}};
	int rc;

	if (source_cancelled(s))
		return err_set(e, -ECANCELED, "cancelled");
	s->chan[0].cancel = NULL;
	rc = mig_send_u64(&s->chan[0], MIG_COMMIT, s->hello.session, e);
	if (rc)
		return rc;
	s->result->outcome = MIG_UNSURE;
	s->host->vm->away_session = s->hello.session;
	s->host->vm->away = true;
	rc = mig_recv(&s->chan[0], &s->frame, BIT(MIG_RUNNING) | BIT(MIG_FETCH),
		      &why);
	while (!rc && s->frame.type == MIG_FETCH) {
		rc = source_fetch(s, &s->frame, &why);
		if (!rc)
			rc = mig_recv(&s->chan[0], &s->frame,
				      BIT(MIG_RUNNING) | BIT(MIG_FETCH), &why);
	}
	if (rc)
		return err_set(e, rc,
			       "the connection broke (%.200s) when the "
			       "machine was handed over, so it may run at the "
			       "target. It is kept here, paused.%s If it does "
			       "not run there, sublet migrate VM --take-back "
			       "lets it run here",
			       why.text, or_else);
	s->result->outcome = MIG_MOVED;
	s->result->downtime_ns = clock_ns() - s->pause_ns;
	return 0;
}

/* It runs there, and part of its memory is only here. */
int source_broken(struct source *s, int rc, struct err *e)
{
	struct err why = *e;

	s->result->outcome = MIG_BROKEN;
	return err_set(e, rc,
		       "the connection broke (%.200s) during post-copy: the "
		       "machine stands still at the target, and a part of its "
		       "memory is only here. sublet migrate NAME PLACE "
		       "--resume sends the rest",
		       why.text);
}

int source_hand_over(struct source *s, bool post, struct err *e)
{
	int rc;

	source_tell(s, "handing over", mig_ram_left(&s->ram));
	rc = vm_disks_sync(s->host->vm, e);
	s->pause_ns = clock_ns();
	if (!rc)
		rc = source_offer(s, post, e);
	if (!rc)
		rc = source_commit(s, post, e);
	if (!rc && post) {
		s->result->postcopy = true;
		rc = source_serve(s, e);
		if (rc)
			rc = source_broken(s, rc, e);
		s->result->postcopy_ns = clock_ns() - s->pause_ns;
	}
	return rc;
}

/* It runs here as before. */
int source_stay(struct source *s, struct err *e)
{
	struct err why = {{0}};
	int rc = s->unlocked ? vm_disks_lock(s->host->vm, true, &why) : 0;

	if (rc) {
		s->result->outcome = MIG_UNSURE;
		s->host->vm->away = true;
		return err_set(e, rc,
			       "the machine is kept here, paused, "
			       "because it did not get its disks back: %s",
			       why.text);
	}
	return source_on_loop(s, source_go_on, NULL);
}

int mig_take_back(struct vm *vm, struct err *e)
{
	int rc;

	if (!vm->away)
		return err_set(e, -EINVAL, "the machine was not handed over");
	rc = vm_disks_lock(vm, true, e);
	if (rc)
		return rc;
	vm->away = false;
	vm_unquiesce(vm);
	return 0;
}
