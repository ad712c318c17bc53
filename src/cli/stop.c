/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet stop: the power button, and after a while the plug. */
#include <errno.h>
#include <stdio.h>

#include "cli/cli.h"
#include "cli/ctl.h"

#define STOP_PATIENCE "30" /* seconds */

/* Waits for the end: 0, -ETIMEDOUT or another error. A VM that was killed
 * meanwhile has ended too. */
static int stop_wait(struct client *c, unsigned ms, struct err *e)
{
	int rc;

	client_patience(c, ms);
	rc = client_request(c, "GET", "/wait", NULL, NULL, e);
	return rc == -EPIPE ? 0 : rc;
}

static int stop_one(const char *vm, unsigned seconds, bool now)
{
	struct err e = {{0}};
	struct client c, again;
	int rc = 0;

	if (client_open(&c, vm, &e))
		return ctl_fail(&e);
	if (!now) {
		/* One that stands still would not notice. */
		rc = ctl_ask(vm, "PATCH", "/vm",
			     json_pack("{s:s}", "state", "Resumed"), NULL);
		if (!rc)
			rc = ctl_action(vm, "PowerButton");
		if (!rc)
			rc = stop_wait(&c, seconds * 1000, &e);
	}
	client_close(&c);
	if (rc == -ETIMEDOUT)
		fprintf(stderr,
			"sublet: %s did not shut down in %u seconds; it is "
			"stopped now\n",
			vm, seconds);
	if (!now && rc != -ETIMEDOUT)
		return rc < 0 ? ctl_fail(&e) : rc;
	if (client_open(&again, vm, &e))
		return rc == -ETIMEDOUT ? 0 : ctl_fail(&e);
	rc = ctl_action(vm, "Stop");
	if (!rc && stop_wait(&again, 10000, &e))
		rc = ctl_fail(&e);
	client_close(&again);
	return rc;
}

static int stop_run(int argc, char **argv)
{
	const char *vm[CTL_WORDS];
	const char *timeout = STOP_PATIENCE;
	bool now = false;
	const struct ctl_option options[] = {
		{"--now", &now, NULL},
		{"--timeout", NULL, &timeout},
		{0},
	};
	unsigned seconds = 0;
	int n, rc;

	rc = ctl_parse(argc, argv, options, vm, &n, 1, argc,
		       "a machine's name");
	if (!rc)
		rc = ctl_seconds(timeout, &seconds);
	for (int i = 0; rc != CLI_EXIT_USAGE && i < n; i++)
		if (stop_one(vm[i], seconds, now || !seconds))
			rc = CLI_EXIT_FAILED;
	return rc;
}

const struct cli_verb cli_stop = {
	.name = "stop",
	.summary = "shut a machine down",
	.help = "usage: sublet stop NAME... [--timeout SECONDS | --now]\n"
		"\n"
		"Presses the machine's power button and waits for it to end; "
		"if its system does\nnot shut down in time, the machine is "
		"stopped without asking. A paused machine\nis resumed for "
		"that.\n"
		"\n"
		"  --timeout SECONDS  how long it has (" STOP_PATIENCE ")\n"
		"  --now              do not ask its system\n",
	.run = stop_run,
};
