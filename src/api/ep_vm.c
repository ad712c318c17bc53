/* SPDX-License-Identifier: BSD-2-Clause */
/* What the VM is and does, its pausing, and actions on it. */
#include <string.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "api/endpoints.h"
#include "base/clock.h"
#include "vm/vm_json.h"

static const char *ep_state(struct api_call *c)
{
	return c->api->paused ? "Paused" : "Running";
}

static void ep_root(struct api_call *c)
{
	api_reply(c, json_pack("{s:s, s:s, s:s, s:s}", "app_name", "Sublet",
			       "id", c->api->config.name, "state", ep_state(c),
			       "vmm_version", SUBLET_VERSION));
}

/* A client of Firecracker's asks for the API's version by this name. */
static void ep_version(struct api_call *c)
{
	api_reply(c, json_pack("{s:s, s:s}", "firecracker_version", "1.17.0",
			       "sublet_version", SUBLET_VERSION));
}

static void ep_vm(struct api_call *c)
{
	const struct api_config *a = &c->api->config;
	const struct vm_config *v = vm_config(a->vm);
	double up = (double)(clock_ns() - c->api->started) / 1e9;

	api_reply(c, json_pack("{s:s, s:i, s:s, s:s, s:i, s:I, s:s?, s:f}",
			       "name", a->name, "pid", (int)getpid(), "state",
			       ep_state(c), "engine", vm_engine(a->vm),
			       "vcpu_count", (int)v->cpus, "mem_size_mib",
			       (json_int_t)(v->memory / MIB), "image", a->image,
			       "uptime_seconds", up));
}

static void ep_config(struct api_call *c)
{
	json_t *j = vm_config_json(vm_config(api_vm(c)));

	if (j)
		api_reply(c, j);
	else
		api_fail(c, "The configuration has text that is not UTF-8.");
}

static void ep_identity(struct api_call *c)
{
	api_reply(c, vm_identity_json(api_vm(c)));
}

static void ep_stats(struct api_call *c)
{
	api_reply(c, vm_stat_json(api_vm(c)));
}

/* False: answered; part of the memory is elsewhere. */
static bool ep_whole(struct api_call *c)
{
	struct err e;

	if (!vm_check_whole(api_vm(c), &e))
		return true;
	api_fail(c, "%s", e.text);
	return false;
}

static void ep_patch_vm(struct api_call *c)
{
	const char *state;

	if (api_args(c, "{s:s}", "state", &state))
		return;
	if (!strcmp(state, "Paused")) {
		if (!ep_whole(c))
			return;
		api_set_paused(c->api, true);
	} else if (!strcmp(state, "Resumed"))
		api_set_paused(c->api, false);
	else {
		api_fail(c, "The state is Paused or Resumed, not %.40s.",
			 state);
		return;
	}
	api_done(c);
}

/* ---- actions ---- */

struct ep_action {
	const char *name;
	void (*act)(struct vm *vm);
	const char *event; /* NULL: what follows is an event itself */
	bool whole;        /* needs all of the memory */
};

static const struct ep_action ep_action_list[] = {
	{"PowerButton", vm_power_button, "power-button", false},
	/* Its clients want a shutdown, and this board's OS asks no keyboard. */
	{"SendCtrlAltDel", vm_power_button, "power-button", false},
	{"Reset", vm_reset, "reset", false},
	{"Nmi", vm_nmi, "nmi", false},
	{"NewGeneration", vm_new_generation, "new-generation", true},
	{"Stop", vm_stop, NULL, false},
};

static void ep_actions(struct api_call *c)
{
	struct api *a = c->api;
	const char *name;

	if (api_args(c, "{s:s}", "action_type", &name))
		return;
	for (size_t i = 0; i < ARRAY_LEN(ep_action_list); i++) {
		const struct ep_action *p = &ep_action_list[i];

		if (strcmp(p->name, name))
			continue;
		if (p->whole && !ep_whole(c))
			return;
		p->act(a->config.vm);
		api_done(c);
		if (p->event)
			api_event(a, json_pack("{s:s}", "event", p->event));
		return;
	}
	if (!strcmp(name, "InstanceStart"))
		api_fail(c, "The requested operation is not supported after "
			    "starting the microVM.");
	else
		api_fail(c, "There is no action %.40s.", name);
}

const struct api_endpoint api_vm_endpoints[] = {
	{"GET", "/", ep_root},
	{"GET", "/version", ep_version},
	{"GET", "/vm", ep_vm},
	{"GET", "/vm/config", ep_config},
	{"GET", "/identity", ep_identity},
	{"GET", "/stats", ep_stats},
	{"PATCH", "/vm", ep_patch_vm},
	{"PUT", "/actions", ep_actions},
	{0},
};
