/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * work [NAME...]: runs the named workloads (or groups of them; all without
 * names) one after the other and prints a line "NAME NS" for each, the time of
 * one operation in nanoseconds; "check NAME CRC" for what a program wrote; and
 * "begin" at first and "elapsed NS" at last, by which the host checks the
 * guest's clock. The same static binary runs in guests and on the host, in the
 * benchmark's root file system. work list: prints "GROUP NAME" lines instead.
 */
#include "work.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define RUN_NS 150000000

volatile uint64_t sink;
const char *self;
static int failures;

uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

void report(const char *name, double ns)
{
	printf("%s %.2f\n", name, ns);
	fflush(stdout);
}

void fail(const char *name, const char *why)
{
	printf("failed %s: %s\n", name, why);
	fflush(stdout);
	failures++;
}

uint64_t calibrate(void (*run)(uint64_t n), uint64_t want, uint64_t *ns)
{
	run(1);
	for (uint64_t n = 1;; n *= 2) {
		uint64_t start = now();

		run(n);
		*ns = now() - start;
		if (*ns > want)
			return n;
	}
}

static void work_do(const struct work *w)
{
	uint64_t ns, n;

	if (w->measure) {
		w->measure(w);
		return;
	}
	n = calibrate(w->run, RUN_NS, &ns);
	report(w->name, (double)ns / (double)n);
}

static bool wanted(const struct work *w, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], w->name) || !strcmp(argv[i], w->group))
			return true;
	return argc < 2;
}

int main(int argc, char **argv)
{
	static const struct work *const tables[] = {compute_works, kernel_works,
						    cold_works, program_works,
						    pair_works};
	bool list = argc == 2 && !strcmp(argv[1], "list");
	uint64_t start = now();

	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 0;
	if (!list)
		puts("begin"), fflush(stdout);
	for (unsigned t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct work *w = tables[t]; w->name; w++)
			if (list)
				printf("%s %s\n", w->group, w->name);
			else if (wanted(w, argc, argv))
				work_do(w);
	if (list)
		return 0;
	report("elapsed", (double)(now() - start));
	return failures != 0;
}
