/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A vCPU's thread and its child take turns: on one CPU the change costs 2 us,
 * to another one and back 30 to 70. So both are kept on one while they do; for
 * a short time, for the host's scheduler may know a better one.
 */
#include "cpu/soft/direct_priv.h"

#include "base/clock.h"

#define PLACE_MS 25
#define FREE_MS  2

static u8 *place_taken(struct soft_vcpu *v, int cpu)
{
	return &soft_engine_of(v)->direct_cpu[(unsigned)cpu % SOFT_CPUS];
}

void direct_unplace(struct soft_vcpu *v)
{
	struct soft_direct *d = v->direct;

	if (d->cpu < 0)
		return;
	__atomic_store_n(place_taken(v, d->cpu), 0, __ATOMIC_RELAXED);
	sched_setaffinity(0, sizeof(d->allowed), &d->allowed);
	d->cpu = -1;
	d->placed = clock_tsc();
}

/* Where we are, but for another vCPU that was here first. */
static int place_choose(struct soft_vcpu *v)
{
	const struct soft_direct *d = v->direct;
	int here = sched_getcpu();

	if (!__atomic_load_n(place_taken(v, here), __ATOMIC_RELAXED))
		return here;
	for (int c = 0; c < SOFT_CPUS; c++)
		if (CPU_ISSET((unsigned)c, &d->allowed) &&
		    !__atomic_load_n(place_taken(v, c), __ATOMIC_RELAXED))
			return c;
	return here;
}

static void place_thread(struct soft_vcpu *v, u64 now)
{
	struct soft_direct *d = v->direct;
	cpu_set_t one;

	sched_getaffinity(0, sizeof(d->allowed), &d->allowed);
	d->cpu = place_choose(v);
	d->placed = now;
	__atomic_store_n(place_taken(v, d->cpu), 1, __ATOMIC_RELAXED);
	CPU_ZERO(&one);
	CPU_SET((unsigned)d->cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

void direct_place(struct soft_vcpu *v, struct direct_space *s)
{
	struct soft_direct *d = v->direct;
	u64 now = clock_tsc();
	cpu_set_t one;

	if (d->cpu >= 0 && now - d->placed > PLACE_MS * d->ms)
		direct_unplace(v);
	if (d->cpu < 0 && now - d->placed > FREE_MS * d->ms)
		place_thread(v, now);
	if (d->cpu == s->cpu)
		return;
	s->cpu = d->cpu;
	CPU_ZERO(&one);
	if (s->cpu >= 0)
		CPU_SET((unsigned)s->cpu, &one);
	else
		one = d->allowed;
	sched_setaffinity(dspace_pid(s->child), sizeof(one), &one);
}
