/* SPDX-License-Identifier: BSD-2-Clause */
/* PUT /snapshot/create: a job, while which the VM goes on. */
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"
#include "api/endpoints.h"
#include "vm/snap.h"

struct snapshot_job {
	char *dir;
	struct snap_options o;
	struct api_job *job;
};

static int snapshot_on_loop(void *ctx, int (*fn)(void *arg, struct err *e),
			    void *arg, struct err *e)
{
	return api_job_on_loop(ctx, fn, arg, e);
}

static bool snapshot_cancelled(void *ctx)
{
	return api_job_cancelled(ctx);
}

static int snapshot_run(struct api_job *j, void *arg, struct err *e)
{
	struct snapshot_job *s = arg;
	struct snap_run run = {snapshot_on_loop, snapshot_cancelled, j};
	struct snap_result r = {0};
	int rc = snap_take(api_job_vm(j), s->dir, &s->o, &run, &r, e);

	if (!rc)
		api_job_result(j,
			       json_pack("{s:f, s:I, s:b}", "pause_ms",
					 (double)r.pause_ns / 1e6,
					 "memory_bytes", (json_int_t)r.bytes,
					 "write_protected", (int)r.protects));
	return rc;
}

static void snapshot_free(void *arg)
{
	struct snapshot_job *s = arg;

	free(s->dir);
	free(s);
}

static void ep_snapshot_create(struct api_call *c)
{
	const char *dir, *type = "Full", *pack = "none";
	int track = 0;
	struct snapshot_job *s;

	if (api_args(c, "{s:s, s?s, s?b, s?s}", "snapshot_path", &dir,
		     "snapshot_type", &type, "track_dirty_pages", &track,
		     "compression", &pack))
		return;
	if (*dir != '/') {
		api_fail(c, "The snapshot_path is not absolute.");
		return;
	}
	if (strcmp(type, "Full") && strcmp(type, "Diff")) {
		api_fail(c, "The snapshot_type is Full or Diff, not %.40s.",
			 type);
		return;
	}
	if (strcmp(pack, "none") && strcmp(pack, "zstd")) {
		api_fail(c, "The compression is none or zstd, not %.40s.",
			 pack);
		return;
	}
	s = calloc(1, sizeof(*s));
	if (s)
		s->dir = strdup(dir);
	if (s)
		s->o = (struct snap_options){track, !strcmp(type, "Diff"),
					     !strcmp(pack, "zstd")};
	if (s && s->dir) {
		api_job_start(c, "snapshot", snapshot_run, s, snapshot_free);
		return;
	}
	free(s);
	api_fail(c, "No memory.");
}

const struct api_endpoint api_snapshot_endpoints[] = {
	{"PUT", "/snapshot/create", ep_snapshot_create},
	{0},
};
