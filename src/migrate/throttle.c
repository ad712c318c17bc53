/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/throttle.h"

#include <errno.h>

#include "base/clock.h"
#include "base/loop.h"

#define THROTTLE_PERIOD 20000000u /* ns */

static void throttle_tick(void *arg)
{
	struct mig_throttle *t = arg;
	u64 pause = THROTTLE_PERIOD / 100 * t->percent;

	if (t->paused) {
		t->paused = false;
		vm_resume(t->vm);
		pause = THROTTLE_PERIOD - pause;
	} else if (t->percent) {
		t->paused = true;
		vm_pause(t->vm);
	}
	loop_timer_arm(t->timer,
		       t->percent || t->paused ? clock_ns() + pause : 0);
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
	if (percent && !was && !t->paused)
		loop_timer_arm(t->timer, clock_ns());
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
