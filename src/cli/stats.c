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
	printf("%-20s", key);
	for (size_t i = 0; i < json_array_size(vcpus); i++)
		printf(" %14" JSON_INTEGER_FORMAT,
		       stats_of(json_array_get(vcpus, i), key));
	putchar('\n');
}

/* The rows that vCPU i is the first to have. */
static void stats_rows(json_t *vcpus, size_t i)
{
	json_t *v = json_array_get(vcpus, i);

	for (void *it = json_object_iter(v); it;
	     it = json_object_iter_next(v, it)) {
		const char *key = json_object_iter_key(it);

		if (json_is_integer(json_object_iter_value(it)) &&
		    strcmp(key, "id") && stats_first(vcpus, i, key))
			stats_row(vcpus, key);
	}
}

static void stats_table(json_t *vcpus)
{
	printf("%-20s", "");
	for (size_t i = 0; i < json_array_size(vcpus); i++)
		printf(" %9s%5zu", "vCPU", i);
	putchar('\n');
	for (size_t i = 0; i < json_array_size(vcpus); i++)
		stats_rows(vcpus, i);
}

/* Which instructions the translator left to the interpreter, and why. */
static void stats_left(json_t *vcpus)
{
	for (size_t i = 0; i < json_array_size(vcpus); i++) {
		json_t *left =
			json_object_get(json_array_get(vcpus, i), "left");

		for (size_t k = 0; k < json_array_size(left); k++) {
			json_t *row = json_array_get(left, k);
			const char *op = "", *why = "";

			json_unpack(row, "{s:s, s:s}", "op", &op, "why", &why);
			printf("vCPU %zu %-12s %-14s %12" JSON_INTEGER_FORMAT
			       "\n",
			       i, why, op, stats_of(row, "n"));
		}
	}
}

static void stats_queues(json_t *queues)
{
	size_t n = json_array_size(queues);

	if (n)
		printf("%-20s %10s %10s\n", "queue", "wake-ups", "exits");
	for (size_t i = 0; i < n; i++) {
		json_t *q = json_array_get(queues, i);
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
