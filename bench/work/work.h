/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The workloads: each is one row of a table. A row either has run(), one
 * operation of it done n times, which is timed for about a sixth of a second;
 * or measure(), which times by itself. Both give nanoseconds of one operation.
 */
#ifndef BENCH_WORK_H
#define BENCH_WORK_H

#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

struct work {
	const char *name;
	const char *group;
	void (*run)(uint64_t n);
	/* Prints its own lines, by report(); arg is the row's. */
	void (*measure)(const struct work *w);
	const void *arg;
};

/* Tables, each ended by a row without a name. */
extern const struct work compute_works[], kernel_works[], program_works[],
	cold_works[], pair_works[];

extern volatile uint64_t sink; /* keeps results alive */
extern const char *self;       /* this program's path */

uint64_t now(void); /* nanoseconds */
void report(const char *name, double ns);
/* The workload failed; the whole run ends with exit code 1. */
void fail(const char *name, const char *why);
/* How often run() takes about that many nanoseconds; how many it took. */
uint64_t calibrate(void (*run)(uint64_t n), uint64_t want, uint64_t *ns);

/* What compute-bound processes do in the scaling workloads. */
void work_hash(uint64_t n);

#endif
