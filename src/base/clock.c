/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "base/clock.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static u64 started;

__attribute__((constructor)) static void clock_begin(void)
{
	started = clock_ns();
}

u64 clock_started(void)
{
	return started;
}

static u64 tsc_hz;
static pthread_once_t tsc_once = PTHREAD_ONCE_INIT;

/* What perf's page says of the clock; 0: nothing. */
static u64 tsc_of_page(const struct perf_event_mmap_page *p)
{
	u64 hz;

	if (!p->cap_user_time || !p->time_mult || p->time_shift > 34)
		return 0;
	hz = mul_div(1000000000, BIT64(p->time_shift), p->time_mult);
	return (hz + 500) / 1000 * 1000;
}

/*
 * The kernel's own figure, which KVM uses too: perf tells it to user space in
 * the page of any event. Not where the kernel's clock is not the TSC, or where
 * users may not use perf.
 */
static u64 tsc_of_kernel(void)
{
	struct perf_event_attr a = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(a),
		.config = PERF_COUNT_SW_DUMMY,
		.disabled = 1,
		.exclude_kernel = 1,
		.exclude_hv = 1,
	};
	int fd = (int)syscall(SYS_perf_event_open, &a, 0, -1, -1,
			      PERF_FLAG_FD_CLOEXEC);
	u64 hz = 0;
	void *p;

	if (fd < 0)
		return 0;
	p = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	if (p != MAP_FAILED) {
		hz = tsc_of_page(p);
		munmap(p, PAGE_SIZE);
	}
	close(fd);
	return hz;
}

/* Both clocks at the same moment: of several tries the one that took least, as
 * we may be interrupted between the two for milliseconds. */
static void tsc_pair(u64 *ns, u64 *tsc)
{
	u64 best = ~0ull;

	for (unsigned i = 0; i < 16; i++) {
		u64 before = clock_tsc(), now = clock_ns();
		u64 took = clock_tsc() - before;

		if (took >= best)
			continue;
		best = took;
		*ns = now;
		*tsc = before + took / 2;
	}
}

/*
 * CPUID's figure is the nominal one and hosts often have none, so the counter
 * is compared with the monotonic clock over 10 ms: good to a few ppm, and the
 * guest disciplines its clock by kvmclock or the timers anyway.
 */
static u64 tsc_measure(void)
{
	u64 n0, n1, t0, t1, hz;

	tsc_pair(&n0, &t0);
	do
		tsc_pair(&n1, &t1);
	while (n1 - n0 < 10000000);
	hz = mul_div(t1 - t0, 1000000000, n1 - n0);
	return (hz + 50000) / 100000 * 100000;
}

static u64 tsc_known; /* before tsc_once */

static void tsc_find(void)
{
	tsc_hz = tsc_known ? tsc_known : tsc_of_kernel();
	if (!tsc_hz)
		tsc_hz = tsc_measure();
}

void clock_tsc_assume(u64 hz)
{
	tsc_known = hz;
	pthread_once(&tsc_once, tsc_find);
}

u64 clock_tsc_hz(void)
{
	pthread_once(&tsc_once, tsc_find);
	return tsc_hz;
}
