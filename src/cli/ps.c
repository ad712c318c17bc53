/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet ps: the running VMs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/rundir.h"
#include "cli/cli.h"
#include "cli/ctl.h"

#define PS_PATIENCE 1000 /* ms for each to answer */

/* What the VM says of itself; one that does not answer is listed too. */
static json_t *ps_describe(const char *vm)
{
	struct client c;
	struct err e;
	json_t *j = NULL;
	int rc = client_open(&c, vm, &e);

	if (!rc) {
		client_patience(&c, PS_PATIENCE);
		rc = client_request(&c, "GET", "/vm", NULL, &j, &e);
	}
	if (rc)
		j = rc == -ESRCH || rc == -EPIPE
			    ? NULL
			    : json_pack("{s:s, s:i, s:s}", "name", vm, "pid",
					(int)c.pid, "state", "No answer");
	client_close(&c);
	return j;
}

static int ps_gather(json_t *all)
{
	char(*names)[RUNDIR_NAME];
	struct err e = {{0}};
	size_t n;
	int rc = rundir_list(&names, &n, &e);

	for (size_t i = 0; !rc && i < n; i++) {
		json_t *j = ps_describe(names[i]);

		if (j)
			json_array_append_new(all, j);
	}
	free(names);
	return rc ? ctl_fail(&e) : 0;
}

static const char *ps_text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s ? s : "-";
}

/* A number in the table; "-" if it was not told. */
static const char *ps_number(char buf[24], const json_t *j, const char *key)
{
	const json_t *v = json_object_get(j, key);

	snprintf(buf, 24, v ? "%.0f" : "-", json_number_value(v));
	return buf;
}

/* "47s", "12m", "3h", "2d" */
static const char *ps_uptime(char buf[24], const json_t *j)
{
	static const struct {
		char unit;
		unsigned seconds;
	} units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
	const json_t *v = json_object_get(j, "uptime_seconds");
	unsigned long s = (unsigned long)json_number_value(v), i = 0;

	if (!v)
		return "-";
	while (i < ARRAY_LEN(units) - 1 && s < 2ul * units[i].seconds)
		i++;
	snprintf(buf, 24, "%lu%c", s / units[i].seconds, units[i].unit);
	return buf;
}

static void ps_row(const json_t *j, int w, int x)
{
	char pid[24], cpus[24], mib[24], up[24];

	printf("%-*s  %-*s  %-9s  %7s  %-6s  %4s  %6sM  %6s\n", w,
	       ps_text(j, "name"), x, ps_text(j, "image"), ps_text(j, "state"),
	       ps_number(pid, j, "pid"), ps_text(j, "engine"),
	       ps_number(cpus, j, "vcpu_count"),
	       ps_number(mib, j, "mem_size_mib"), ps_uptime(up, j));
}

static void ps_table(const json_t *all)
{
	size_t n = json_array_size(all);
	int w = 4, x = 5;

	for (size_t i = 0; i < n; i++) {
		const json_t *j = json_array_get(all, i);

		w = MAX(w, (int)strlen(ps_text(j, "name")));
		x = MAX(x, (int)strlen(ps_text(j, "image")));
	}
	printf("%-*s  %-*s  %-9s  %7s  %-6s  %4s  %7s  %6s\n", w, "NAME", x,
	       "IMAGE", "STATE", "PID", "ENGINE", "CPUS", "MEMORY", "UP");
	for (size_t i = 0; i < n; i++)
		ps_row(json_array_get(all, i), w, x);
}

static void ps_names(const json_t *all)
{
	for (size_t i = 0; i < json_array_size(all); i++)
		puts(ps_text(json_array_get(all, i), "name"));
}

static int ps_run(int argc, char **argv)
{
	bool json = false, quiet = false;
	const struct ctl_option options[] = {
		{"--json", &json, NULL},
		{"--quiet", &quiet, NULL},
		{"-q", &quiet, NULL},
		{0},
	};
	json_t *all;
	const char *no[CTL_WORDS];
	int n, rc;

	rc = ctl_parse(argc, argv, options, no, &n, 0, 0, "");
	if (rc)
		return rc;
	all = json_array();
	rc = ps_gather(all);
	if (!rc && json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
	} else if (!rc && quiet) {
		ps_names(all);
	} else if (!rc) {
		ps_table(all);
	}
	json_decref(all);
	return rc;
}

const struct cli_verb cli_ps = {
	.name = "ps",
	.summary = "list the running machines",
	.help = "usage: sublet ps [--json | --quiet]\n"
		"\n"
		"Lists your running machines, one a line.\n"
		"\n"
		"  --json       as a JSON array, with all that is known\n"
		"  --quiet, -q  names only\n",
	.run = ps_run,
};
