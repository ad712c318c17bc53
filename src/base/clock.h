/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Host clocks. clock_ns() is CLOCK_MONOTONIC in nanoseconds, clock_real_ns()
 * CLOCK_REALTIME since 1970, clock_tsc() the host's time stamp counter and
 * clock_tsc_hz() its frequency (the kernel's figure, or measured once; the
 * first call may take 10 ms). All are safe from any thread.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <time.h>

#include "base/types.h"

static inline u64 clock_read_ns(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (u64)ts.tv_sec * 1000000000 + (u64)ts.tv_nsec;
}

static inline u64 clock_ns(void)
{
	return clock_read_ns(CLOCK_MONOTONIC);
}

static inline u64 clock_real_ns(void)
{
	return clock_read_ns(CLOCK_REALTIME);
}

static inline u64 clock_tsc(void)
{
	return __builtin_ia32_rdtsc();
}

/* clock_ns() when this program was loaded, before main(). */
u64 clock_started(void);

u64 clock_tsc_hz(void);
/* Somebody measured it since this host was booted: saves the 10 ms. No effect
 * after the first clock_tsc_hz(). Before there are threads. */
void clock_tsc_assume(u64 hz);

/* a * b / c without overflow in between; the quotient must fit 64 bits. */
static inline u64 mul_div(u64 a, u64 b, u64 c)
{
	return (u64)((unsigned __int128)a * b / c);
}

#endif
