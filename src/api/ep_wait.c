/* SPDX-License-Identifier: BSD-2-Clause */
/* Answers that take their time: the VM's end, events, and the job. */
#include "api/api_priv.h"
#include "api/endpoints.h"

/* Answered by api_ended(). */
static void ep_wait(struct api_call *c)
{
	call_wait_in(c, &c->api->waiting);
}

static void ep_events(struct api_call *c)
{
	call_stream(c);
	call_line(c, json_pack("{s:s, s:b}", "event", "hello", "paused",
			       (int)c->api->paused));
	call_wait_in(c, &c->api->listening);
}

static void ep_job(struct api_call *c)
{
	if (c->api->job)
		api_reply(c, job_describe(c->api->job));
	else
		api_reply(c, json_pack("{s:n}", "job"));
}

static void ep_job_cancel(struct api_call *c)
{
	if (!c->api->job) {
		api_fail(c, "No job is under way.");
		return;
	}
	job_cancel(c->api->job);
	api_done(c);
}

const struct api_endpoint api_wait_endpoints[] = {
	{"GET", "/wait", ep_wait},
	{"GET", "/events", ep_events},
	{"GET", "/job", ep_job},
	{"DELETE", "/job", ep_job_cancel},
	{0},
};
