/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/plan.h"

#include <stdio.h>

#define NS 1e9

/* A round that leaves more than this share of the last one gains nothing. */
#define PLAN_STUCK  0.8
#define PLAN_SLOWER 10u /* percent: steps of throttling */
/* Without an end in sight, so many rounds before something is done. */
#define PLAN_ROUNDS 3u

static double plan_downtime(const struct mig_measure *m, double pages)
{
	return pages / m->send + (double)m->handover_ns / NS;
}

/*
 * Rounds shrink by the ratio of what is written to what can be sent, until
 * what is left fits the downtime: a geometric series. Seconds, < 0: never.
 */
static double plan_rest(const struct mig_measure *m, const struct mig_goals *g,
			double dirty)
{
	double ratio = dirty / m->send, left = (double)m->left, t = 0;
	double fits = ((double)g->max_downtime_ns - (double)m->handover_ns) /
		      NS * m->send;

	if (fits < 1)
		fits = 1;
	while (left > fits) {
		if (ratio > PLAN_STUCK)
			return -1;
		t += left / m->send;
		left *= ratio;
	}
	return t + plan_downtime(m, left);
}

static double plan_mb(double pages)
{
	return pages * (double)PAGE_SIZE / 1e6;
}

static enum mig_step plan_stuck(const struct mig_measure *m,
				const struct mig_goals *g, struct mig_plan *p)
{
	if (m->slowdown < g->max_slowdown) {
		p->slowdown = MIN(m->slowdown + PLAN_SLOWER, g->max_slowdown);
		return MIG_STEP_SLOW;
	}
	return m->postcopy ? MIG_STEP_POST : MIG_STEP_FAIL;
}

static const char *plan_words(enum mig_step s)
{
	static const char *const words[] = {
		[MIG_STEP_STOP] = "hand over now",
		[MIG_STEP_ROUND] = "send what was written once more",
		[MIG_STEP_SLOW] = "slow the guest down",
		[MIG_STEP_POST] = "run at the target and fetch the rest from "
				  "there (post-copy)",
		[MIG_STEP_FAIL] = "give up: the goals cannot be met",
	};

	return words[s];
}

struct mig_plan mig_plan(const struct mig_measure *m, const struct mig_goals *g,
			 char *why, size_t size)
{
	struct mig_plan p = {.slowdown = m->slowdown, .total_ns = ~0ull};
	double rest;

	p.dirty =
		m->round_ns ? (double)m->written * NS / (double)m->round_ns : 0;
	p.downtime_ns = (u64)(plan_downtime(m, (double)m->left) * NS);
	rest = plan_rest(m, g, p.dirty);
	if (rest >= 0)
		p.total_ns = m->elapsed_ns + (u64)(rest * NS);
	if (p.downtime_ns <= g->max_downtime_ns)
		p.step = MIG_STEP_STOP;
	else if (p.total_ns <= g->max_time_ns ||
		 (m->rounds < PLAN_ROUNDS && m->elapsed_ns < g->max_time_ns))
		p.step = MIG_STEP_ROUND;
	else
		p.step = plan_stuck(m, g, &p);
	/* Time is up: no more experiments. */
	if (p.step == MIG_STEP_SLOW && m->elapsed_ns >= g->max_time_ns)
		p.step = m->postcopy ? MIG_STEP_POST : MIG_STEP_FAIL;
	snprintf(why, size,
		 "the guest writes %.0f MB/s, the connection takes %.0f MB/s, "
		 "%.1f MB are left: a pause of %.1f ms (%.1f ms wanted); %s",
		 plan_mb(p.dirty), plan_mb(m->send), plan_mb((double)m->left),
		 (double)p.downtime_ns / 1e6, (double)g->max_downtime_ns / 1e6,
		 plan_words(p.step));
	return p;
}
