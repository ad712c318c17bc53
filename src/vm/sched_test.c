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
#include <stdlib.h>
#include <string.h>
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

/* What a file of the cgroup has behind this word; "": its first line. */
static void cgroup_says(const struct sched *s, const char *file,
			const char *word, char *out, size_t size)
{
	char path[4096], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", s->cgroup, file);
	f = fopen(path, "re");
	out[0] = 0;
	while (f && !out[0] && fgets(line, sizeof(line), f))
		if (!strncmp(line, word, strlen(word)))
			snprintf(out, size, "%.*s",
				 (int)strcspn(line + strlen(word), "\n"),
				 line + strlen(word));
	if (f)
		fclose(f);
}

/* Burns CPU until the kernel holds the group back; 0: it did. */
static int burn(const struct sched *s)
{
	u64 end = clock_ns() + 30000000000;
	char max[64], weight[64], throttled[64] = "0";

	cgroup_says(s, "cpu.max", "", max, sizeof(max));
	cgroup_says(s, "cpu.weight", "", weight, sizeof(weight));
	if (strcmp(max, "20000 100000") || strcmp(weight, "50")) {
		fprintf(stderr, "cpu.max %s, cpu.weight %s\n", max, weight);
		return 1;
	}
	while (!atoi(throttled) && clock_ns() < end)
		cgroup_says(s, "cpu.stat", "nr_throttled ", throttled,
			    sizeof(throttled));
	return !atoi(throttled);
}

/* In a child: nobody else is to be held back. */
static void quota(void **state)
{
	struct sched_config c = {.quota = 20, .weight = 50, .name = "test"};
	struct err e = {0};
	int status;
	pid_t child = fork();

	(void)state;
	if (!child) {
		struct sched s;
		int rc;

		if (sched_join(&s, &c, &e)) {
			fprintf(stderr, "%s\n", e.text);
			_exit(strstr(e.text, "--cpu-quota") ? 77 : 1);
		}
		rc = burn(&s);
		sched_leave(&s);
		_exit(rc || s.cgroup);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
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
