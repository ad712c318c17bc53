/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The side that a VM leaves: rounds while it runs, the pause, the hand-over.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "backend/disk.h"
#include "base/clock.h"
#include "base/log.h"
#include "migrate/missing.h"
#include "migrate/source_priv.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

/* What a pause takes beside the pages, until it has been measured. */
#define HANDOVER_NS 3000000u
#define TELL_NS     200000000u
#define STATE_PIECE (512 * KIB)
/* Rounds shorter than this measure nothing. */
#define ROUND_MIN_NS 20000000u

u64 source_sent(const struct source *s)
{
	u64 n = 0;

	for (unsigned i = 0; i < s->nchan; i++)
		n += __atomic_load_n(&s->chan[i].sent, __ATOMIC_RELAXED);
	return n;
}

void source_tell(struct source *s, const char *phase, u64 left)
{
	struct mig_progress *p = &s->progress;
	u64 now = clock_ns(), sent = source_sent(s);

	if (now - s->told_ns >= TELL_NS / 2) {
		p->rate = mul_div(sent - s->told_sent, 1000000000,
				  now - s->told_ns);
		s->told_ns = now;
		s->told_sent = sent;
	}
	p->phase = phase;
	p->round = s->ram.round;
	p->slowdown = s->slowdown;
	p->sent = sent;
	p->left = left * PAGE_SIZE;
	if (s->host->progress)
		s->host->progress(s->host->arg, p);
}

static bool source_cancelled(void *arg)
{
	struct source *s = arg;
	u64 now = clock_ns();

	if (now - s->told_ns >= TELL_NS && s->track)
		source_tell(s, s->progress.phase ? s->progress.phase : "",
			    mig_ram_left(&s->ram));
	return s->host->cancelled && s->host->cancelled(s->host->arg);
}

static int source_on_loop(struct source *s, int (*fn)(void *arg, struct err *e),
			  struct err *e)
{
	return s->host->on_loop(s->host->arg, fn, s, e);
}

/* ---- connecting ---- */

static int source_secure(struct source *s, struct mig_chan *c, struct err *e)
{
	if (s->addr.kind != MIG_TCP || !s->o->tls.cert)
		return 0;
	return mig_tls_start(c, &s->o->tls, false, e);
}

static int source_open(struct source *s, enum mig_role role, struct err *e)
{
	struct mig_chan *c = &s->chan[s->nchan];
	struct mig_preamble p = {
		.version = MIG_VERSION,
		.role = (u8)role,
		.index = (u8)s->nchan,
		.session = s->hello.session,
	};
	int rc = mig_addr_connect(&s->addr, c, &s->cancel, s->o->timeout_ms, e);

	if (rc)
		return rc;
	s->nchan++;
	c->pace = &s->pace;
	rc = source_secure(s, c, e);
	return rc ? rc : mig_send_preamble(c, &p, e);
}

static void source_hello(struct source *s)
{
	const struct engine *g = s->host->vm->engine;
	struct mig_hello *h = &s->hello;

	if (getrandom(&h->session, sizeof(h->session), 0) < 0)
		h->session = (u32)clock_ns();
	h->streams = s->o->streams;
	if (s->addr.kind == MIG_EXEC || s->o->dry_run)
		h->streams = 1;
	h->dry_run = s->o->dry_run;
	h->postcopy = s->o->post != MIG_POST_NEVER;
	h->with_disks = s->o->with_disks;
	snprintf(h->engine, sizeof(h->engine), "%s", g->class->name);
	h->config = s->host->vm->config;
	h->cpuid = *g->config.cpuid;
	for (unsigned i = 0; i < h->config.ndisks; i++)
		h->disk_size[i] = s->host->vm->disk[i]->size;
	s->ram.codec = s->o->codec;
	if (s->o->codec == MIG_CODEC_AUTO)
		s->ram.codec = mig_addr_local(&s->addr) ? MIG_CODEC_NONE
							: MIG_CODEC_LZ4;
}

static int source_greet(struct source *s, struct err *e)
{
	int rc;

	source_hello(s);
	rc = source_open(s, MIG_ROLE_MAIN, e);
	if (!rc)
		rc = mig_hello_send(&s->chan[0], &s->hello, e);
	if (!rc)
		rc = mig_recv(&s->chan[0], &s->frame, BIT(MIG_ACCEPT), e);
	if (!rc)
		rc = mig_accept_parse(&s->accept, &s->frame, e);
	while (!rc && s->nchan < s->hello.streams)
		rc = source_open(s, MIG_ROLE_STREAM, e);
	if (rc)
		return rc;
	if (s->o->post == MIG_POST_ALWAYS && !s->accept.postcopy)
		return err_set(e, -ENOTSUP,
			       "the target cannot do post-copy: %s",
			       s->accept.no_postcopy);
	s->ram.chan = s->chan;
	s->ram.n = s->nchan;
	snprintf(s->result->target, sizeof(s->result->target), "%s",
		 s->accept.engine);
	return 0;
}

/* ---- rounds ---- */

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

static int source_copy(struct source *s, bool *post, struct err *e)
{
	int rc = s->o->with_disks && !s->o->dry_run ? source_disks(s, e) : 0;

	if (rc)
		return rc;
	s->track = vm_track_new(s->host->vm, e);
	if (!s->track)
		return -ENOMEM;
	mig_ram_all(&s->ram);
	*post = s->o->post == MIG_POST_ALWAYS;
	return *post ? 0 : source_rounds(s, post, e);
}

/* ---- the hand-over ---- */

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
static int source_commit(struct source *s, struct err *e)
{
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
			       "target. It is kept here, paused. If it does "
			       "not run there, sublet migrate VM --take-back "
			       "lets it run here",
			       why.text);
	s->result->outcome = MIG_MOVED;
	s->result->downtime_ns = clock_ns() - s->pause_ns;
	return 0;
}

/* It runs there, and part of its memory is only here. */
static int source_broken(struct source *s, int rc, struct err *e)
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

static int source_hand_over(struct source *s, bool post, struct err *e)
{
	int rc;

	source_tell(s, "handing over", mig_ram_left(&s->ram));
	rc = vm_disks_sync(s->host->vm, e);
	s->pause_ns = clock_ns();
	if (!rc)
		rc = source_offer(s, post, e);
	if (!rc)
		rc = source_commit(s, e);
	if (!rc && post) {
		s->result->postcopy = true;
		rc = source_serve(s, e);
		if (rc)
			rc = source_broken(s, rc, e);
		s->result->postcopy_ns = clock_ns() - s->pause_ns;
	}
	return rc;
}

/* ---- from begin to end ---- */

/* A target that gives up says why before it hangs up. */
static void source_last_words(struct source *s, int rc, struct err *e)
{
	struct err why = {{0}};

	if (rc != -ECONNRESET || !s->nchan)
		return;
	s->chan[0].cancel = NULL;
	s->chan[0].timeout_ms = 1000;
	while (!rc || rc == -ECONNRESET) {
		rc = mig_recv(&s->chan[0], &s->frame, ~0u, &why);
		if (rc == -ECONNRESET)
			return;
	}
	if (rc == -EREMOTEIO)
		*e = why;
}

/* It runs here as before. */
static int source_stay(struct source *s, struct err *e)
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

static int source_run(struct source *s, struct err *e)
{
	bool post = false;
	int rc = source_greet(s, e);

	if (!rc)
		rc = source_copy(s, &post, e);
	if (!rc && s->o->dry_run)
		mig_send(&s->chan[0], MIG_REFUSE, "dry run", 7, NULL);
	else if (!rc)
		rc = source_hand_over(s, post, e);
	return rc;
}

/* What belongs to this process cannot go. */
static int source_movable(struct source *s, struct err *e)
{
	const struct vm_config *c = &s->host->vm->config;

	if (c->nports)
		return err_set(e, -ENOTSUP,
			       "a machine that runs a command for us (sublet "
			       "run IMAGE -- COMMAND) cannot move: the "
			       "command's streams are this process's");
	if (s->host->vm->pauses)
		return err_set(e, -EBUSY,
			       "the machine is paused; it can move "
			       "when it runs (sublet resume)");
	if (c->debug_console_port)
		return err_set(e, -ENOTSUP,
			       "a machine with a debug console "
			       "cannot move");
	for (unsigned i = 0; i < c->ndisks; i++)
		if (c->disks[i].overlay && !s->o->with_disks)
			return err_set(e, -ENOTSUP,
				       "disk %s is a private copy of this "
				       "process: --with-disks takes it along",
				       c->disks[i].path);
	return 0;
}

static int source_prepare(struct source *s, struct err *e)
{
	int rc = mig_options_check(s->o, e);

	if (!rc)
		rc = mig_addr_parse(&s->addr, s->o->dest, e);
	if (!rc)
		rc = mig_frame_init(&s->frame, e);
	if (!rc)
		rc = mig_ram_init(&s->ram, s->mem, e);
	return rc;
}

static void source_fini(struct source *s)
{
	for (unsigned i = 0; i < s->nchan; i++)
		mig_chan_close(&s->chan[i]);
	vm_track_free(s->track);
	mig_disks_stop(&s->disks);
	buf_free(&s->state);
	mig_ram_fini(&s->ram);
	mig_frame_fini(&s->frame);
	free(s);
}

static void source_say(struct source *s, int rc)
{
	struct mig_result *r = s->result;

	r->total_ns = clock_ns() - s->start_ns;
	r->sent = source_sent(s);
	r->rounds = s->ram.round;
	if (s->progress.downtime_ns && !r->downtime_ns)
		r->downtime_ns = s->progress.downtime_ns;
	memcpy(r->why, s->progress.why, sizeof(r->why));
	if (rc && s->nchan && r->outcome == MIG_STAYED)
		mig_send(&s->chan[0], MIG_REFUSE, "the source gave up", 18,
			 NULL);
}

static struct source *source_new(const struct mig_host *host,
				 const struct mig_options *o,
				 struct mig_result *result)
{
	struct source *s = calloc(1, sizeof(*s));

	*result = (struct mig_result){0};
	if (!s)
		return NULL;
	*s = (struct source){
		.host = host,
		.o = o,
		.result = result,
		.mem = &host->vm->mem,
		.cancel = {source_cancelled, s},
		.pace.limit = o->bandwidth,
		.start_ns = clock_ns(),
	};
	s->told_ns = s->start_ns;
	return s;
}

static int source_go_on_serving(struct source *s, struct err *e)
{
	struct vm *vm = s->host->vm;
	int rc;

	if (!vm->away)
		return err_set(e, -EINVAL, "the machine was not handed over");
	s->hello.session = vm->away_session;
	rc = source_open(s, MIG_ROLE_RESUME, e);
	s->ram.chan = s->chan;
	s->ram.n = 1;
	do {
		if (!rc)
			rc = mig_recv(&s->chan[0], &s->frame, BIT(MIG_MISSING),
				      e);
		if (!rc)
			rc = mig_missing_add(s->mem, &s->frame, s->ram.todo, e);
	} while (!rc && s->frame.len);
	if (!rc)
		rc = source_serve(s, e);
	return rc ? source_broken(s, rc, e) : 0;
}

int mig_source_resume(const struct mig_host *host, const struct mig_options *o,
		      struct mig_result *result, struct err *e)
{
	struct source *s = source_new(host, o, result);
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a migration");
	result->outcome = MIG_BROKEN;
	rc = source_prepare(s, e);
	if (!rc)
		rc = source_go_on_serving(s, e);
	if (!rc)
		result->outcome = MIG_MOVED;
	result->postcopy = true;
	result->postcopy_ns = clock_ns() - s->start_ns;
	source_say(s, rc);
	source_fini(s);
	return rc;
}

int mig_source(const struct mig_host *host, const struct mig_options *o,
	       struct mig_result *result, struct err *e)
{
	struct source *s = source_new(host, o, result);
	int rc;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a migration");
	if (host->vm->away)
		rc = err_set(e, -EBUSY, "the machine was handed over already");
	else
		rc = source_prepare(s, e);
	if (host->vm->away)
		result->outcome = MIG_UNSURE;
	if (!rc)
		rc = source_movable(s, e);
	if (!rc)
		rc = source_run(s, e);
	if (rc && result->outcome == MIG_STAYED)
		source_last_words(s, rc, e);
	source_say(s, rc);
	if (result->outcome == MIG_STAYED)
		source_stay(s, e);
	source_fini(s);
	return rc;
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
