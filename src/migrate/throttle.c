/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/throttle.h"

#include <errno.h>

#include "base/clock.h"
#include "base/loop.h"

#define THROTTLE_PERIOD 20000000u /* ns */

u64 mig_throttle_run_ns(const struct mig_throttle *t)
{
	u64 want = mul_div(t->stood_ns, 100 - t->percent, t->percent);

	return want > t->ran_ns ? want - t->ran_ns : 0;
}

/* The time since the last tick counts to what the guest did then. */
static u64 throttle_count(struct mig_throttle *t, u64 *what)
{
	u64 now = clock_ns();

	*what += now - t->since_ns;
	t->since_ns = now;
	return now;
}

static void throttle_tick(void *arg)
{
	struct mig_throttle *t = arg;
	u64 next = 0;

	if (t->paused) {
		t->paused = false;
		vm_resume(t->vm);
		next = throttle_count(t, &t->stood_ns);
		next = t->percent ? next + mig_throttle_run_ns(t) : 0;
	} else if (t->percent) {
		next = throttle_count(t, &t->ran_ns) +
		       THROTTLE_PERIOD / 100 * t->percent;
		t->paused = true;
		vm_pause(t->vm);
	}
	loop_timer_arm(t->timer, next);
}

int mig_throttle_init(struct mig_throttle *t, struct vm *vm, struct loop *l,
		      struct err *e)
{
	*t = (struct mig_throttle){.vm = vm};
	t->timer = loop_timer_new(l, throttle_tick, t);
	return t->timer ? 0 : err_set(e, -ENOMEM, "no memory for a timer");
}

void mig_throttle_set(struct mig_throttle *t, unsigned percent)
{
	bool was = t->percent;

	t->percent = percent;
	t->stood_ns = t->ran_ns = 0;
	if (percent && !was && !t->paused) {
		t->since_ns = clock_ns();
		loop_timer_arm(t->timer, t->since_ns);
	}
}

void mig_throttle_fini(struct mig_throttle *t)
{
	if (!t->timer)
		return;
	loop_timer_free(t->timer);
	t->timer = NULL;
	if (t->paused)
		vm_resume(t->vm);
	t->paused = false;
}
