/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet info: what a VM says of itself. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/ctl.h"

static int info_print(const char *vm)
{
	json_t *about = NULL, *config = NULL;
	int rc = ctl_ask(vm, "GET", "/vm", NULL, &about);

	if (!rc)
		rc = ctl_ask(vm, "GET", "/vm/config", NULL, &config);
	if (!rc) {
		json_object_set(about, "config", config);
		json_dumpf(about, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	}
	json_decref(about);
	json_decref(config);
	return rc;
}

static int info_run(int argc, char **argv)
{
	return ctl_each(argc, argv, info_print);
}

const struct cli_verb cli_info = {
	.name = "info",
	.summary = "show what a machine is made of",
	.help = "usage: sublet info NAME...\n"
		"\n"
		"Prints the machine's state and configuration as JSON.\n",
	.run = info_run,
};
