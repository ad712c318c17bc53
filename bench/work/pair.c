/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scaling: the same computation by one process ("one"), then by two at once
 * ("two"), each doing as much. With two processors two takes as long as one.
 */
#include "work.h"

#include <stddef.h>
#include <sys/wait.h>
#include <unistd.h>

#define ONE_NS 400000000

static double processes(unsigned count, uint64_t n)
{
	uint64_t start = now();

	for (unsigned i = 0; i < count; i++) {
		if (fork())
			continue;
		work_hash(n);
		_exit(0);
	}
	while (wait(NULL) > 0)
		;
	return (double)(now() - start) / (double)n;
}

static void pair_measure(const struct work *w)
{
	uint64_t ns, n = calibrate(work_hash, ONE_NS, &ns);

	(void)w;
	report("one", processes(1, n));
	report("two", processes(2, n));
}

const struct work pair_works[] = {
	{"pair", "pair", NULL, pair_measure, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
