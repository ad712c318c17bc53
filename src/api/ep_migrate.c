/* SPDX-License-Identifier: BSD-2-Clause */
/* Moving the VM to another monitor (docs/migration.md). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"
#include "api/endpoints.h"
#include "base/clock.h"
#include "migrate/migrate.h"

struct ep_migrate {
	struct mig_options o; /* strings are the json's */
	json_t *body;
	bool resume;
};

static void ep_migrate_free(void *arg)
{
	struct ep_migrate *m = arg;

	json_decref(m->body);
	free(m);
}

/* ---- what the migration needs of this process ---- */

static int ep_on_loop(void *arg, int (*fn)(void *fn_arg, struct err *e),
		      void *fn_arg, struct err *e)
{
	return api_job_on_loop(arg, fn, fn_arg, e);
}

static bool ep_cancelled(void *arg)
{
	return api_job_cancelled(arg);
}

static void ep_progress(void *arg, const struct mig_progress *p)
{
	api_job_progress(
		arg,
		json_pack("{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:s}", "phase",
			  p->phase, "round", (int)p->round, "slowdown",
			  (int)p->slowdown, "sent", (json_int_t)p->sent, "left",
			  (json_int_t)p->left, "rate", (json_int_t)p->rate,
			  "downtime_us", (json_int_t)(p->downtime_ns / 1000),
			  "why", p->why));
}

static json_t *ep_result(const struct mig_result *r)
{
	static const char *const outcomes[] = {"stayed", "moved", "unsure",
					       "broken"};

	return json_pack("{s:s, s:I, s:I, s:I, s:i, s:b, s:I, s:s, s:s}",
			 "outcome", outcomes[r->outcome], "downtime_us",
			 (json_int_t)(r->downtime_ns / 1000), "total_ms",
			 (json_int_t)(r->total_ns / 1000000), "sent",
			 (json_int_t)r->sent, "rounds", (int)r->rounds,
			 "postcopy", (int)r->postcopy, "postcopy_ms",
			 (json_int_t)(r->postcopy_ns / 1000000), "why", r->why,
			 "target_engine", r->target);
}

static int ep_migrate_job(struct api_job *j, void *arg, struct err *e)
{
	struct ep_migrate *m = arg;
	struct mig_host host = {
		.vm = api_job_vm(j),
		.on_loop = ep_on_loop,
		.progress = ep_progress,
		.cancelled = ep_cancelled,
		.arg = j,
	};
	struct mig_result r;
	int rc = m->resume ? mig_source_resume(&host, &m->o, &r, e)
			   : mig_source(&host, &m->o, &r, e);

	if (rc)
		return rc;
	api_job_result(j, ep_result(&r));
	if (r.outcome == MIG_MOVED)
		vm_moved(host.vm, m->o.dest);
	return 0;
}

/* ---- the request ---- */

static bool ep_word(const char *text, const char *const *words, unsigned n,
		    unsigned *out)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(text, words[i])) {
			*out = i;
			return true;
		}
	return false;
}

static bool ep_words(struct api_call *c, struct mig_options *o,
		     const char *codec, const char *post)
{
	static const char *const codecs[] = {"none", "lz4", "zstd", "auto"};
	static const char *const posts[] = {"never", "auto", "always"};
	unsigned n;

	if (!ep_word(codec, codecs, ARRAY_LEN(codecs), &n)) {
		api_fail(c,
			 "The compression is none, lz4, zstd or auto, not "
			 "%.40s.",
			 codec);
		return false;
	}
	o->codec = n;
	if (!ep_word(post, posts, ARRAY_LEN(posts), &n)) {
		api_fail(c,
			 "The post-copy is never, auto or always, not "
			 "%.40s.",
			 post);
		return false;
	}
	o->post = n;
	return true;
}

/* False: the call is answered. */
static bool ep_migrate_args(struct api_call *c, struct ep_migrate *m)
{
	struct mig_options *o = &m->o;
	const char *codec = "auto", *post = "auto";
	json_int_t downtime = (json_int_t)o->goals.max_downtime_ns / 1000;
	json_int_t time = (json_int_t)o->goals.max_time_ns / 1000000;
	json_int_t bandwidth = 0;
	int slow = (int)o->goals.max_slowdown, streams = 1;
	int timeout = (int)o->timeout_ms, dry = 0, insecure = 0, resume = 0;
	int disks = 0;

	if (api_args(c,
		     "{s:s, s?:I, s?:I, s?:i, s?:i, s?:I, s?:i, s?:s, s?:s, "
		     "s?:b, s?:b, s?:b, s?:b, s?:s, s?:s, s?:s}",
		     "destination", &o->dest, "max_downtime_us", &downtime,
		     "max_time_ms", &time, "max_slowdown", &slow, "streams",
		     &streams, "bandwidth", &bandwidth, "timeout_ms", &timeout,
		     "compress", &codec, "post_copy", &post, "dry_run", &dry,
		     "insecure", &insecure, "resume", &resume, "with_disks",
		     &disks, "tls_cert", &o->tls.cert, "tls_key", &o->tls.key,
		     "tls_ca", &o->tls.ca))
		return false;
	if (downtime < 0 || time < 0 || bandwidth < 0 || slow < 0 ||
	    streams < 0 || timeout < 100) {
		api_fail(c, "A number is out of range.");
		return false;
	}
	o->goals.max_downtime_ns = (u64)downtime * 1000;
	o->goals.max_time_ns = (u64)time * 1000000;
	o->goals.max_slowdown = (unsigned)slow;
	o->streams = (unsigned)streams;
	o->bandwidth = (u64)bandwidth;
	o->timeout_ms = (unsigned)timeout;
	o->dry_run = dry;
	o->with_disks = disks;
	o->insecure = insecure;
	m->resume = resume;
	return ep_words(c, o, codec, post);
}

static void ep_migrate(struct api_call *c)
{
	struct ep_migrate *m = calloc(1, sizeof(*m));
	struct err e = {{0}};

	if (!m) {
		api_fail(c, "Out of memory.");
		return;
	}
	mig_options_init(&m->o);
	if (!ep_migrate_args(c, m)) {
		free(m);
		return;
	}
	if (mig_options_check(&m->o, &e)) {
		api_fail(c, "%s", e.text);
		free(m);
		return;
	}
	m->body = json_incref(api_body(c));
	api_job_start(c, "migrate", ep_migrate_job, m, ep_migrate_free);
}

static void ep_take_back(struct api_call *c)
{
	struct err e = {{0}};

	if (mig_take_back(api_vm(c), &e))
		api_fail(c, "%s", e.text);
	else
		api_done(c);
}

const struct api_endpoint api_migrate_endpoints[] = {
	{"PUT", "/migrate", ep_migrate},
	{"PUT", "/migrate/take-back", ep_take_back},
	{0},
};
