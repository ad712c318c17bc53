/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet events: what happens to a VM, as it happens. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/ctl.h"

static void events_line(void *arg, json_t *line)
{
	char *text = json_dumps(line, JSON_COMPACT);

	(void)arg;
	if (text)
		puts(text);
	free(text);
	/* Who reads us wants each at once; who does not, nothing more. */
	if (fflush(stdout))
		exit(CLI_EXIT_FAILED);
}

static int events_run(int argc, char **argv)
{
	const char *vm[CTL_WORDS];
	struct err e = {{0}};
	struct client c;
	int n, rc;

	rc = ctl_parse(argc, argv, NULL, vm, &n, 1, 1, "a machine's name");
	if (rc)
		return rc;
	if (client_open(&c, vm[0], &e))
		return ctl_fail(&e);
	c.line = events_line;
	rc = ctl_ask_on(&c, "GET", "/events", NULL, NULL);
	client_close(&c);
	return rc;
}

const struct cli_verb cli_events = {
	.name = "events",
	.summary = "tell what happens to a machine",
	.help = "usage: sublet events NAME\n"
		"\n"
		"Prints a JSON object a line: hello, paused, resumed, "
		"power-button, reset, nmi,\nnew-generation, and at the end "
		"ended, with how.\n",
	.run = events_run,
};
