/* SPDX-License-Identifier: BSD-2-Clause */
/* Names, folders left behind, and who may own the base folder. */
#define _GNU_SOURCE
#include "api/rundir.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char base[64];

static int setup(void **state)
{
	(void)state;
	strcpy(base, "/tmp/rundir_test.XXXXXX");
	if (!mkdtemp(base))
		return -1;
	return setenv("SUBLET_RUNTIME_DIR", base, 1);
}

static int teardown(void **state)
{
	char cmd[100];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", base);
	return system(cmd);
}

static const char *in_base(const char *name)
{
	static char path[200];

	snprintf(path, sizeof(path), "%s/%s", base, name);
	return path;
}

static void names(void **state)
{
	char longest[RUNDIR_NAME + 1];
	static const char *const bad[] = {
		"",    ".",    "..",    "-a",       "_a",   "a/b", "../a",
		"a b", "a\nb", "a\x7f", "\xc3\xa9", "a\\b", "a:b", ".hidden",
	};

	(void)state;
	memset(longest, 'x', sizeof(longest));
	longest[RUNDIR_NAME - 1] = 0;
	assert_int_equal(rundir_check_name("web-1.x_Y", NULL), 0);
	assert_int_equal(rundir_check_name(longest, NULL), 0);
	longest[RUNDIR_NAME - 1] = 'x';
	longest[RUNDIR_NAME] = 0;
	assert_int_equal(rundir_check_name(longest, NULL), -EINVAL);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_int_equal(rundir_check_name(bad[i], NULL), -EINVAL);
}

static void taken_twice(void **state)
{
	struct rundir a, b;
	struct err e;

	(void)state;
	assert_int_equal(rundir_claim(&a, "one", "x", &e), 0);
	assert_int_equal(rundir_claim(&b, "one", "x", &e), -EEXIST);
	assert_non_null(strstr(e.text, "one is running already"));
	rundir_release(&b); /* harmless */
	assert_int_equal(access(in_base("one"), F_OK), 0);
	rundir_release(&a);
	assert_int_not_equal(access(in_base("one"), F_OK), 0);
	assert_int_equal(rundir_claim(&b, "one", "x", &e), 0);
	rundir_release(&b);
}

static void names_by_stem(void **state)
{
	struct rundir a, b, c;
	struct err e;

	(void)state;
	assert_int_equal(rundir_claim(&a, NULL, "tiny", &e), 0);
	assert_int_equal(rundir_claim(&b, NULL, "tiny", &e), 0);
	assert_int_equal(rundir_claim(&c, NULL, "no/name", &e), 0);
	assert_string_equal(a.name, "tiny");
	assert_string_equal(b.name, "tiny-2");
	assert_string_equal(c.name, "vm");
	rundir_release(&a);
	assert_int_equal(rundir_claim(&a, NULL, "tiny", &e), 0);
	assert_string_equal(a.name, "tiny");
	rundir_release(&a);
	rundir_release(&b);
	rundir_release(&c);
}

/* A child that claims the name, makes its socket, and is killed. */
static void killed_child(const char *name)
{
	struct rundir r;
	struct err e;
	int status, p[2];
	char c;
	pid_t pid;

	assert_int_equal(pipe(p), 0);
	pid = fork();
	if (!pid) {
		close(p[0]);
		if (rundir_claim(&r, name, "x", &e) ||
		    rundir_listen(&r, &e) < 0 || rundir_log(&r, &e) < 0)
			_exit(1);
		c = 'x';
		if (write(p[1], &c, 1) == 1)
			pause();
		_exit(1);
	}
	close(p[1]);
	assert_int_equal(read(p[0], &c, 1), 1);
	close(p[0]);
	assert_int_equal(rundir_claim(&r, name, "x", &e), -EEXIST);
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(access(in_base(name), F_OK), 0);
}

static void left_behind(void **state)
{
	char(*list)[RUNDIR_NAME];
	struct rundir r;
	struct err e;
	size_t n;

	(void)state;
	killed_child("dead"); /* its name is free again */
	assert_int_equal(rundir_claim(&r, "dead", "x", &e), 0);
	assert_int_not_equal(access(in_base("dead/log"), F_OK), 0);
	rundir_release(&r);
	killed_child("dead"); /* who lists the living removes the dead */
	assert_int_equal(rundir_claim(&r, "alive", "x", &e), 0);
	assert_int_equal(rundir_list(&list, &n, &e), 0);
	assert_int_equal(n, 1);
	assert_string_equal(list[0], "alive");
	free(list);
	assert_int_not_equal(access(in_base("dead"), F_OK), 0);
	rundir_release(&r);
	killed_child("dead"); /* and so does who looks for one */
	assert_int_equal(rundir_connect("dead", NULL, &e), -ESRCH);
	assert_non_null(strstr(e.text, "no machine named dead"));
	assert_int_not_equal(access(in_base("dead"), F_OK), 0);
}

static void connects(void **state)
{
	struct rundir r;
	struct err e;
	pid_t pid = 0;
	int l, c;

	(void)state;
	assert_int_equal(rundir_connect("one", NULL, &e), -ESRCH);
	assert_int_equal(rundir_claim(&r, "one", "x", &e), 0);
	l = rundir_listen(&r, &e);
	assert_true(l >= 0);
	c = rundir_connect("one", &pid, &e);
	assert_true(c >= 0);
	assert_int_equal(pid, getpid());
	close(c);
	close(l);
	rundir_release(&r);
	assert_int_not_equal(access(in_base("one"), F_OK), 0);
}

static void base_is_ours_alone(void **state)
{
	struct rundir r;
	struct err e;
	char target[80];

	(void)state;
	assert_int_equal(chmod(base, 0770), 0);
	assert_int_equal(rundir_claim(&r, "one", "x", &e), -EPERM);
	assert_int_equal(rundir_connect("one", NULL, &e), -EPERM);
	assert_int_equal(chmod(base, 0700), 0);
	snprintf(target, sizeof(target), "%s-real", base);
	assert_int_equal(rename(base, target), 0);
	assert_int_equal(symlink(target, base), 0);
	assert_true(rundir_claim(&r, "one", "x", &e) < 0);
	assert_int_equal(unlink(base), 0);
	assert_int_equal(rename(target, base), 0);
}

/* Nothing is followed or removed outside of the folder. */
static void traps(void **state)
{
	struct rundir r;
	struct err e;
	char victim[100];
	int fd;

	(void)state;
	snprintf(victim, sizeof(victim), "%s/victim", base);
	fd = open(victim, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(write(fd, "x", 1), 1);
	close(fd);
	assert_int_equal(symlink(base, in_base("link")), 0);
	assert_true(rundir_claim(&r, "link", "x", &e) < 0);
	assert_true(rundir_claim(&r, "victim", "x", &e) < 0);
	assert_int_equal(mkdir(in_base("trap"), 0700), 0);
	assert_int_equal(symlink(victim, in_base("trap/lock")), 0);
	assert_true(rundir_claim(&r, "trap", "x", &e) < 0);
	assert_int_equal(access(victim, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(names),    T(taken_twice), T(names_by_stem),
		T(connects), T(left_behind), T(base_is_ours_alone),
		T(traps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
