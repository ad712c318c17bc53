/* SPDX-License-Identifier: BSD-2-Clause */
#include "api/api.h"

#include <stdlib.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "base/clock.h"
#include "vm/vm_state.h"

struct api *api_new(const struct api_config *c, struct err *e)
{
	struct api *a = calloc(1, sizeof(*a));

	if (!a) {
		err_set(e, -1, "no memory for the control socket");
		close(c->listen);
		return NULL;
	}
	a->config = *c;
	a->started = clock_ns();
	if (api_listen(a, e)) {
		api_close(a);
		free(a);
		return NULL;
	}
	return a;
}

static json_t *api_end_json(const struct api_end *end)
{
	return json_pack("{s:s, s:i, s:s}", "end", end->end, "exit_code",
			 end->exit_code, "report", end->report);
}

void api_ended(struct api *a, const struct api_end *end)
{
	json_t *event = api_end_json(end);

	if (!a) {
		json_decref(event);
		return;
	}
	json_object_set_new(event, "event", json_string("ended"));
	api_event(a, event);
	while (a->waiting)
		api_reply(a->waiting, api_end_json(end));
}

void api_stop(struct api *a)
{
	if (!a)
		return;
	if (a->job) {
		job_cancel(a->job);
		job_finish(a->job);
	}
	api_unlisten(a);
}

void api_free(struct api *a)
{
	if (!a)
		return;
	api_stop(a);
	while (a->listening)
		api_done(a->listening);
	api_close(a);
	free(a);
}

void api_event(struct api *a, json_t *line)
{
	for (struct api_call *c = a->listening, *next; c; c = next) {
		next = c->next;
		call_line(c, json_incref(line));
	}
	json_decref(line);
}

void api_set_paused(struct api *a, bool paused)
{
	if (a->paused == paused)
		return;
	a->paused = paused;
	if (paused)
		vm_quiesce(a->config.vm);
	else
		vm_unquiesce(a->config.vm);
	api_event(a,
		  json_pack("{s:s}", "event", paused ? "paused" : "resumed"));
}

bool api_paused(const struct api *a)
{
	return a->paused;
}
