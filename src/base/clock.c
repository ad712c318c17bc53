/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/clock.h"

#include <pthread.h>

static u64 tsc_hz;
static pthread_once_t tsc_once = PTHREAD_ONCE_INIT;

/*
 * CPUID's figure is the nominal one and hosts often have none, so the counter
 * is compared with the monotonic clock over 10 ms: good to a few ppm, and the
 * guest disciplines its clock by kvmclock or the timers anyway.
 */
static void tsc_measure(void)
{
	u64 n0, n1, t0, t1;

	n0 = clock_ns();
	t0 = clock_tsc();
	do {
		n1 = clock_ns();
		t1 = clock_tsc();
	} while (n1 - n0 < 10000000);
	tsc_hz = mul_div(t1 - t0, 1000000000, n1 - n0);
	tsc_hz = (tsc_hz + 50000) / 100000 * 100000;
}

u64 clock_tsc_hz(void)
{
	pthread_once(&tsc_once, tsc_measure);
	return tsc_hz;
}
