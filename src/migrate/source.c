/* SPDX-License-Identifier: BSD-2-Clause */
/* The side that a VM leaves: connecting, and the order of things. */
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

#define TELL_NS 200000000u

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

bool source_cancelled(void *arg)
{
	struct source *s = arg;
	u64 now = clock_ns();

	if (now - s->told_ns >= TELL_NS && s->track)
		source_tell(s, s->progress.phase ? s->progress.phase : "",
			    mig_ram_left(&s->ram));
	return s->host->cancelled && s->host->cancelled(s->host->arg);
}

int source_on_loop(struct source *s, int (*fn)(void *arg, struct err *e),
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
	int rc = vm_check_whole(s->host->vm, e);

	if (rc)
		return rc;
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
