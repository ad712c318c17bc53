/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What to do next in a migration, out of what was measured and what the user
 * wants. Pure arithmetic: no machine, no clock.
 */
#ifndef MIGRATE_PLAN_H
#define MIGRATE_PLAN_H

#include "base/types.h"

struct mig_goals {
	u64 max_downtime_ns;
	u64 max_time_ns;
	unsigned max_slowdown; /* percent of vCPU time to be taken, 0..99 */
};

/* Counted at the end of a round. */
struct mig_measure {
	u64 elapsed_ns;    /* since the start */
	u64 left;          /* pages written since they were sent */
	u64 written;       /* of these, in the last round's ... */
	u64 round_ns;      /* ... time */
	double send;       /* pages a second that the connection took */
	u64 handover_ns;   /* what a pause takes beside the pages */
	unsigned slowdown; /* percent now taken */
	unsigned rounds;   /* done */
	bool postcopy;     /* the target can, the user lets us */
};

enum mig_step {
	MIG_STEP_STOP,  /* pause and hand over now */
	MIG_STEP_ROUND, /* send once more what was written */
	MIG_STEP_SLOW,  /* the same, with less time for the vCPUs */
	MIG_STEP_POST,  /* hand over now, send the rest afterwards */
	MIG_STEP_FAIL,  /* the goals cannot be met */
};

struct mig_plan {
	enum mig_step step;
	unsigned slowdown; /* percent to take from now on */
	u64 downtime_ns;   /* if it were handed over now */
	u64 total_ns;      /* expected from the start to the hand-over;
			      ~0: never at this rate */
	double dirty;      /* pages a second the guest writes */
};

/* The next step; why (a sentence for people, size bytes) tells the reason. */
struct mig_plan mig_plan(const struct mig_measure *m, const struct mig_goals *g,
			 char *why, size_t size);

#endif
