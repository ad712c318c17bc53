/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet stats: what a VM's processors count, as a table. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/ctl.h"

static json_int_t stats_of(json_t *vcpu, const char *key)
{
	return json_integer_value(json_object_get(vcpu, key));
}

/* A row if nobody has had it before this vCPU. */
static bool stats_first(json_t *vcpus, size_t vcpu, const char *key)
{
	for (size_t i = 0; i < vcpu; i++)
		if (json_object_get(json_array_get(vcpus, i), key))
			return false;
	return true;
}

static void stats_row(json_t *vcpus, const char *key)
{
	json_t *v;
	size_t i;

	printf("%-20s", key);
	json_array_foreach(vcpus, i, v)
		printf(" %14" JSON_INTEGER_FORMAT, stats_of(v, key));
	putchar('\n');
}

static void stats_table(json_t *vcpus)
{
	json_t *v, *n;
	const char *key;
	size_t i;

	printf("%-20s", "");
	json_array_foreach(vcpus, i, v) printf(" %9s%5zu", "vCPU", i);
	putchar('\n');
	json_array_foreach(vcpus, i, v)
		json_object_foreach(v, key, n) if (json_is_integer(n) &&
						   strcmp(key, "id") &&
						   stats_first(vcpus, i, key))
			stats_row(vcpus, key);
}

/* Which instructions the translator left to the interpreter, and why. */
static void stats_left(json_t *vcpus)
{
	json_t *v, *row;
	size_t i, k;

	json_array_foreach(vcpus, i, v)
		json_array_foreach(json_object_get(v, "left"), k, row)
	{
		const char *op = "", *why = "";

		json_unpack(row, "{s:s, s:s}", "op", &op, "why", &why);
		printf("vCPU %zu %-12s %-14s %12" JSON_INTEGER_FORMAT "\n", i,
		       why, op, stats_of(row, "n"));
	}
}

static void stats_queues(json_t *queues)
{
	json_t *q;
	size_t i;

	if (json_array_size(queues))
		printf("%-20s %10s %10s\n", "queue", "wake-ups", "exits");
	json_array_foreach(queues, i, q)
	{
		char name[32];

		snprintf(name, sizeof(name), "%.14s%d %d",
			 json_string_value(json_object_get(q, "device")),
			 (int)stats_of(q, "instance"),
			 (int)stats_of(q, "queue"));
		printf("%-20s %10" JSON_INTEGER_FORMAT
		       " %10" JSON_INTEGER_FORMAT "\n",
		       name, stats_of(q, "wakeups"), stats_of(q, "exits"));
	}
}

static int stats_print(const char *vm, bool json)
{
	json_t *j = NULL, *vcpus;
	int rc = ctl_ask(vm, "GET", "/stats", NULL, &j);

	if (rc)
		return rc;
	vcpus = json_object_get(j, "vcpus");
	if (json) {
		json_dumpf(j, stdout, JSON_INDENT(2));
		putchar('\n');
	} else {
		stats_table(vcpus);
		stats_left(vcpus);
		stats_queues(json_object_get(j, "queues"));
	}
	json_decref(j);
	return 0;
}

static int stats_run(int argc, char **argv)
{
	bool json = false;
	const struct ctl_option options[] = {{"--json", &json, NULL}, {0}};
	const char *vm[CTL_WORDS];
	int n, rc;

	rc = ctl_parse(argc, argv, options, vm, &n, 1, 1, "a machine's name");
	return rc ? rc : stats_print(vm[0], json);
}

const struct cli_verb cli_stats = {
	.name = "stats",
	.summary = "show what a machine's processors count",
	.help = "usage: sublet stats NAME [--json]\n"
		"\n"
		"A column for each processor: instructions, interrupts, exits "
		"from KVM or from\ntranslated code, and so on since it "
		"started; then the instructions most often\nleft to the "
		"interpreter; then for each virtio queue how often "
		"its notifications woke the\ndevice, and how many of them "
		"made an exit from the guest.\n",
	.run = stats_run,
};
