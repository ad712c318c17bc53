/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet wait: until a VM ends. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/ctl.h"
#include "cli/wait.h"

int wait_result(const char *vm, json_t *end, bool quiet)
{
	const char *how = "unknown", *report = "";
	int code = CLI_EXIT_FAILED;

	json_unpack(end, "{s:s, s:i, s:s}", "end", &how, "exit_code", &code,
		    "report", &report);
	if (!quiet)
		printf("%s: %s%s%s\n", vm, how, *report ? ": " : "", report);
	return code;
}

static int wait_run(int argc, char **argv)
{
	const char *vm[CTL_WORDS];
	bool quiet = false;
	const struct ctl_option options[] = {
		{"--quiet", &quiet, NULL},
		{"-q", &quiet, NULL},
		{0},
	};
	json_t *end = NULL;
	int n, rc;

	rc = ctl_parse(argc, argv, options, vm, &n, 1, 1, "a machine's name");
	if (!rc)
		rc = ctl_ask(vm[0], "GET", "/wait", NULL, &end);
	if (!rc)
		rc = wait_result(vm[0], end, quiet);
	json_decref(end);
	return rc;
}

const struct cli_verb cli_wait = {
	.name = "wait",
	.summary = "wait until a machine ends",
	.help = "usage: sublet wait NAME [--quiet]\n"
		"\n"
		"Waits, and prints how it ended: power-off, stopped, reset, "
		"debug-exit, signal,\ntriple-fault or error.\n"
		"\n"
		"  --quiet, -q  print nothing\n"
		"\n"
		"Exit status: what sublet run returned there; 125 if there is "
		"no such machine, or\nif it was killed and could not say "
		"how.\n",
	.run = wait_run,
};
