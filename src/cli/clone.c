/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sublet clone: machines that go on from where another is, or from a snapshot.
 * The template's memory is a file in memory that all of them map privately;
 * it has no name once they run.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"
#include "cli/ctl.h"
#include "vm/snap_file.h"

#define CLONES_MAX 10000

struct clone {
	const char *from, *engine, *stem;
	unsigned n;
	char *dir; /* of the snapshot */
	bool ours; /* made here, to be removed */
	bool paused;
};

/* A folder's name in memory where there is room for that, else on disk. */
static char *clone_place(void)
{
	const char *base = access("/dev/shm", W_OK) ? "/var/tmp" : "/dev/shm";
	char *path = NULL;

	if (asprintf(&path, "%s/sublet-clone-%d-%lx", base, (int)getpid(),
		     (unsigned long)clock_ns()) < 0)
		return NULL;
	return path;
}

static int clone_template(struct clone *c)
{
	json_t *reply = NULL;
	double pause = 0;
	struct stat st;
	int rc;

	if (!stat(c->from, &st) && S_ISDIR(st.st_mode)) {
		c->dir = strdup(c->from);
		return c->dir ? 0 : CLI_EXIT_FAILED;
	}
	c->dir = clone_place();
	if (!c->dir)
		return CLI_EXIT_FAILED;
	rc = ctl_ask(c->from, "PUT", "/snapshot/create",
		     json_pack("{s:s}", "snapshot_path", c->dir), &reply);
	c->ours = !rc;
	if (!rc) {
		json_unpack(reply, "{s:f}", "pause_ms", &pause);
		printf("%s: paused for %.1f ms\n", c->from, pause);
	}
	json_decref(reply);
	return rc;
}

/* In the child of a fork. */
static void clone_exec(const struct clone *c, const char *name)
{
	const char *argv[12] = {"sublet", "restore", c->dir,         "--detach",
				"--name", name,      "--no-forwards"};
	unsigned n = 7;

	if (c->engine) {
		argv[n++] = "--engine";
		argv[n++] = c->engine;
	}
	if (c->paused)
		argv[n++] = "--paused";
	if (freopen("/dev/null", "w", stdout))
		execv("/proc/self/exe", (char *const *)argv);
	_exit(CLI_EXIT_FAILED);
}

static int clone_one(const struct clone *c, unsigned i)
{
	char name[80];
	int status = 0;
	pid_t pid;

	snprintf(name, sizeof(name), "%.60s-%u", c->stem, i);
	fflush(stdout);
	pid = fork();
	if (!pid)
		clone_exec(c, name);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		return CLI_EXIT_FAILED; /* it has said why */
	puts(name);
	return 0;
}

static int clone_all(struct clone *c)
{
	u64 start = clock_ns();
	unsigned i = 0;
	int rc = 0;

	while (!rc && i < c->n)
		rc = clone_one(c, ++i);
	if (rc)
		fprintf(stderr, "sublet: %u of %u clones were made\n", i - 1,
			c->n);
	else
		printf("%u in %.0f ms; new in each: name, VM generation id "
		       "(its system draws new\nrandom numbers), memory and "
		       "disks of its own, a network of its own, no forwards\n",
		       c->n, (double)(clock_ns() - start) / 1e6);
	return rc;
}

static int clone_options(struct clone *c, const char *number)
{
	char *end;
	unsigned long n = strtoul(number, &end, 10);

	if (*end || end == number || n < 1 || n > CLONES_MAX) {
		fprintf(stderr,
			"sublet: clone: -n: '%s' is not a number from 1 to "
			"%d\n",
			number, CLONES_MAX);
		return CLI_EXIT_USAGE;
	}
	c->n = (unsigned)n;
	if (!c->stem) {
		const char *slash = strrchr(c->from, '/');

		c->stem = slash && slash[1] ? slash + 1 : c->from;
	}
	return 0;
}

static int clone_run(int argc, char **argv)
{
	struct clone c = {0};
	const char *number = "1";
	const struct ctl_option options[] = {
		{"-n", NULL, &number},
		{"--name", NULL, &c.stem},
		{"--engine", NULL, &c.engine},
		{"--paused", &c.paused, NULL},
		{0},
	};
	const char **w = calloc((size_t)argc, sizeof(*w));
	int n, rc;

	if (!w)
		return CLI_EXIT_FAILED;
	rc = ctl_parse(argc, argv, options, w, &n, 1, 1,
		       "a machine's name, or the folder of a snapshot");
	if (!rc) {
		c.from = w[0];
		rc = clone_options(&c, number);
	}
	if (!rc)
		rc = clone_template(&c);
	if (!rc)
		rc = clone_all(&c);
	if (c.ours)
		snap_remove(c.dir);
	free(c.dir);
	free(w);
	return rc;
}

const struct cli_verb cli_clone = {
	.name = "clone",
	.summary = "make machines that go on from where one is",
	.help = "usage: sublet clone NAME|DIR [-n N] [OPTIONS]\n"
		"\n"
		"Makes N machines (1) that go on, in the background, from "
		"where the machine NAME is\nat this moment, or from the "
		"snapshot DIR. They share what none of them has written\nof "
		"memory and disks; NAME goes on too, after a short pause. "
		"Each has a name, a VM\ngeneration id and a network of its "
		"own and forwards no ports. Use them by sublet\nconsole, "
		"stop, snapshot and so on.\n"
		"\n"
		"  -n N                    how many\n"
		"  --name STEM             names are STEM-1, STEM-2 ... "
		"(NAME)\n"
		"  --engine auto|kvm|soft  what executes them (as before)\n"
		"  --paused                do not run yet; see sublet resume\n",
	.run = clone_run,
};
