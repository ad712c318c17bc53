/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's timer (SDM volume 3, 11.5.4): one-shot, periodic and
 * TSC-deadline. It counts nanoseconds (1 GHz, what KVM guests are told too),
 * divided by 1 to 128. Whoever keeps the time for the vCPU only reports that a
 * deadline passed; the owner looks at the clock itself, so a report too early
 * or too late does no harm.
 */
#include "base/clock.h"
#include "irq/lapic_priv.h"

/* Shorter periods would keep the host busy with nothing else. */
#define TIMER_PERIOD_MIN 50000u

void lapic_timer_fired(struct lapic *l)
{
	lapic_work(l, WORK_TIMER);
}

/* Divide configuration: bits 3, 1 and 0 are 2, 4, .. 128, 1. */
unsigned lapic_timer_shift(u32 dcr)
{
	return ((dcr & 3) + (dcr >> 1 & 4) + 1) & 7;
}

static u32 lapic_timer_mode(const struct lapic *l)
{
	return l->r.lvt[LVT_TIMER] & LVT_TIMER_MODE;
}

static u64 lapic_timer_period(const struct lapic *l)
{
	u64 ns = (u64)l->r.timer_icr << lapic_timer_shift(l->r.timer_dcr);

	if (ns && ns < TIMER_PERIOD_MIN && lapic_timer_mode(l) == LVT_PERIODIC)
		ns = TIMER_PERIOD_MIN;
	return ns;
}

static void lapic_timer_arm(struct lapic *l, u64 deadline)
{
	l->deadline = deadline;
	l->host.timer(l->host.arg, deadline);
}

static u64 lapic_timer_tsc_deadline(const struct lapic *l, u64 now)
{
	u64 tsc = l->host.tsc(l->host.arg), ns, ticks;

	if (l->r.tsc_deadline <= tsc)
		return now;
	/* a day at most, then looked at again: the product stays in range */
	ticks = MIN(l->r.tsc_deadline - tsc, l->host.tsc_hz * 86400);
	ns = mul_div(ticks, 1000000000, l->host.tsc_hz) + 1;
	return now + ns;
}

/* Sets the deadline that the registers describe; 0 if the timer stands. */
void lapic_timer_rearm(struct lapic *l)
{
	u64 now = clock_ns(), period = lapic_timer_period(l);
	u64 age = now - l->r.timer_ns, deadline = 0;

	switch (lapic_timer_mode(l)) {
	case LVT_TSC_DEADLINE:
		if (l->r.tsc_deadline)
			deadline = lapic_timer_tsc_deadline(l, now);
		break;
	case LVT_PERIODIC:
		if (period)
			deadline = now + period - age % period;
		break;
	case 0:
		if (age < period)
			deadline = now + period - age;
		break;
	default: break; /* reserved: never fires */
	}
	if (deadline || l->deadline)
		lapic_timer_arm(l, deadline);
}

/* The initial count was written. */
void lapic_timer_load(struct lapic *l)
{
	if (lapic_timer_mode(l) == LVT_TSC_DEADLINE)
		return;
	l->r.timer_ns = clock_ns();
	lapic_timer_rearm(l);
}

u32 lapic_timer_count(const struct lapic *l)
{
	u64 period = lapic_timer_period(l), age = clock_ns() - l->r.timer_ns;
	u64 left;

	if (!period || lapic_timer_mode(l) == LVT_TSC_DEADLINE)
		return 0;
	if (lapic_timer_mode(l) == LVT_PERIODIC)
		age %= period;
	else if (age >= period)
		return 0;
	left = (period - age) >> lapic_timer_shift(l->r.timer_dcr);
	return (u32)MIN(left, l->r.timer_icr);
}

/* The count goes on from where it is, at the new speed. */
void lapic_timer_divide(struct lapic *l, u32 dcr)
{
	u64 done = l->r.timer_icr - lapic_timer_count(l);

	l->r.timer_dcr = dcr;
	l->r.timer_ns = clock_ns() - (done << lapic_timer_shift(dcr));
	lapic_timer_rearm(l);
}

/* To or from TSC-deadline mode disarms; between the others it counts on. */
void lapic_timer_lvt_changed(struct lapic *l, u32 was)
{
	u32 mode = lapic_timer_mode(l);

	was &= LVT_TIMER_MODE;
	if (was == mode)
		return;
	if (was == LVT_TSC_DEADLINE || mode == LVT_TSC_DEADLINE) {
		l->r.tsc_deadline = 0;
		l->r.timer_icr = 0;
	}
	lapic_timer_rearm(l);
}

static void lapic_timer_expire(struct lapic *l)
{
	u32 lvt = l->r.lvt[LVT_TIMER];

	if (lapic_timer_mode(l) == LVT_TSC_DEADLINE) {
		if (l->host.tsc(l->host.arg) < l->r.tsc_deadline) {
			lapic_timer_rearm(l);
			return;
		}
		l->r.tsc_deadline = 0;
	}
	if (lapic_timer_mode(l) == LVT_PERIODIC)
		lapic_timer_rearm(l);
	else
		l->deadline = 0;
	if (!(lvt & LVT_MASKED))
		lapic_request(l, lvt & LVT_VECTOR, false);
}

/* Acts on a report; also a good moment to notice the deadline oneself. */
void lapic_timer_sync(struct lapic *l)
{
	if (!(__atomic_load_n(&l->work, __ATOMIC_ACQUIRE) & WORK_TIMER))
		return;
	__atomic_and_fetch(&l->work, ~(u32)WORK_TIMER, __ATOMIC_SEQ_CST);
	if (!l->deadline)
		return; /* stopped meanwhile */
	if (clock_ns() >= l->deadline)
		lapic_timer_expire(l);
	else
		lapic_timer_arm(l, l->deadline);
}

u64 lapic_timer_settle(struct lapic *l)
{
	u64 now = clock_ns();

	if (l->deadline && now >= l->deadline)
		lapic_timer_expire(l);
	return now;
}

void lapic_set_tsc(struct lapic *l)
{
	if (lapic_timer_mode(l) == LVT_TSC_DEADLINE)
		lapic_timer_rearm(l);
}
