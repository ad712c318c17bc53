/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPU affinity here; cgroup and core scheduling where the host has them (the
 * lab has the first), else that the refusal is a clear sentence.
 */
#define _GNU_SOURCE
#include "vm/sched.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

static void texts(void **state)
{
	static const struct {
		const char *text;
		bool good;
	} row[] = {
		{"0", true},     {"0-0", true},  {"0:0", true},
		{"0-3:0", true}, {"", false},    {"x", false},
		{"0-", false},   {"1-0", false}, {"0,", false},
		{"0:", false},   {"0 ", false},  {"0:0:0", false},
		{"4:0", false},  {"-1", false},  {"9999", false},
		{"1023", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(row); i++) {
		struct sched_config c = {.affinity = row[i].text};
		struct err e = {0};

		assert_int_equal(!sched_check(&c, 4, &e), row[i].good);
		assert_int_equal(!e.text[0], row[i].good);
	}
}

static void *pinned(void *arg)
{
	struct sched_config c = {.affinity = arg};
	static cpu_set_t set;

	if (sched_pin(&c, 1, NULL) || sched_getaffinity(0, sizeof(set), &set))
		return NULL;
	return &set;
}

/* vCPU 1, on a thread of its own */
static void pins(const char *text, unsigned count, unsigned cpu)
{
	cpu_set_t *set;
	pthread_t t;
	void *got;

	pthread_create(&t, NULL, pinned, (void *)text);
	pthread_join(t, &got);
	set = got;
	assert_non_null(set);
	assert_int_equal(CPU_COUNT(set), count);
	assert_true(CPU_ISSET(cpu, set));
}

static void pinning(void **state)
{
	cpu_set_t all;

	(void)state;
	sched_getaffinity(0, sizeof(all), &all);
	pins("0", 1, 0);
	pins("1:0", 1, 0);
	pins("0:0", (unsigned)CPU_COUNT(&all), 0); /* 1 is free */
	if (!CPU_ISSET(1, &all))
		return;
	pins("0-1", 2, 1);
	pins("0-1:0-1", 1, 1);
	pins("0:0,1:0-1", 2, 0);
}

/* A child in the cgroup burns CPU for 300 ms; how much does it get? */
static void quota(void **state)
{
	struct sched_config c = {.quota = 20, .weight = 50, .name = "test"};
	struct err e = {0};
	struct rusage u;
	int status;
	pid_t child = fork();

	(void)state;
	if (!child) {
		u64 end = clock_ns() + 1000000000;
		struct sched s;

		if (sched_join(&s, &c, &e)) {
			fprintf(stderr, "%s\n", e.text);
			_exit(strstr(e.text, "--cpu-quota") ? 77 : 1);
		}
		while (clock_ns() < end)
			;
		sched_leave(&s);
		_exit(s.cgroup != NULL);
	}
	assert_int_equal(wait4(child, &status, 0, &u), child);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
	assert_int_equal(u.ru_utime.tv_sec, 0);
	assert_in_range(u.ru_utime.tv_usec + u.ru_stime.tv_usec, 0, 500000);
}

static void core(void **state)
{
	struct sched_config c = {.core = true};
	struct err e = {0};
	struct sched s;
	int rc = sched_join(&s, &c, &e);

	(void)state;
	assert_true(!rc || strstr(e.text, "--core-scheduling"));
	sched_leave(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(texts),
		cmocka_unit_test(pinning),
		cmocka_unit_test(quota),
		cmocka_unit_test(core),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
