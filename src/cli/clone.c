/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sublet clone: machines that go on from where another is, or from a snapshot.
 * The template's memory is a file in memory that all of them map privately;
 * it has no name once they run. Each becomes another machine (vm_renew), and
 * what became new in it is printed.
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
#include "vm/agent.h"
#include "vm/snap_file.h"

#define CLONES_MAX 10000
#define CLONE_NAME 80
#define AGENT_WAIT 10000000000u /* ns, for all agents together */
#define AGENT_POLL 20000u       /* us */

struct clone {
	const char *from, *engine, *stem, *hostname;
	unsigned n;
	char *dir; /* of the snapshot */
	bool ours; /* made here, to be removed */
	bool paused, quiet;
	u64 deadline;     /* clock_ns(): agents are not waited for longer */
	unsigned without; /* clones whose guest has no agent */
	unsigned behind;  /* whose agent did not answer, or not all went well */
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
	if (!rc && !c->quiet) {
		json_unpack(reply, "{s:f}", "pause_ms", &pause);
		printf("%s: paused for %.1f ms\n", c->from, pause);
	}
	json_decref(reply);
	return rc;
}

static void clone_name(const struct clone *c, unsigned i, char out[CLONE_NAME])
{
	snprintf(out, CLONE_NAME, "%.60s-%u", c->stem, i);
}

/* The pattern with the number in place of its '%'. */
static void clone_hostname(const struct clone *c, unsigned i,
			   char out[CLONE_NAME])
{
	const char *sign = strchr(c->hostname, '%');
	int before = (int)(sign ? sign - c->hostname
				: (ptrdiff_t)strlen(c->hostname));

	if (sign)
		snprintf(out, CLONE_NAME, "%.*s%u%s", before, c->hostname, i,
			 sign + 1);
	else
		snprintf(out, CLONE_NAME, "%s", c->hostname);
}

/* In the child of a fork. */
static void clone_exec(const struct clone *c, unsigned i, const char *name)
{
	const char *argv[16] = {"sublet",        "restore", c->dir,
				"--detach",      "--name",  name,
				"--no-forwards", "--renew"};
	char hostname[CLONE_NAME];
	unsigned n = 8;

	if (c->hostname) {
		clone_hostname(c, i, hostname);
		argv[n++] = "--hostname";
		argv[n++] = hostname;
	}
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
	char name[CLONE_NAME];
	int status = 0;
	pid_t pid;

	clone_name(c, i, name);
	fflush(stdout);
	pid = fork();
	if (!pid)
		clone_exec(c, i, name);
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
		return CLI_EXIT_FAILED; /* it has said why */
	return 0;
}

/* ---- what was renewed ---- */

/* What the clone says it is; an agent that is at work is waited for. NULL: it
 * has ended, or does not answer. */
static json_t *clone_identity(const struct clone *c, const char *name)
{
	struct err e = {{0}};
	struct client k;
	json_t *j = NULL;

	if (client_open(&k, name, &e))
		return NULL;
	client_patience(&k, 5000);
	for (;;) {
		const char *agent = "";

		json_decref(j);
		j = NULL;
		if (client_request(&k, "GET", "/identity", NULL, &j, &e))
			break;
		json_unpack(j, "{s:{s:s}}", "guest", "agent", &agent);
		if (strcmp(agent, "waiting") || c->paused ||
		    clock_ns() > c->deadline)
			break;
		usleep(AGENT_POLL);
	}
	client_close(&k);
	return j;
}

/* What the guest made of it: words for those that did not go well. */
static void clone_print_guest(struct clone *c, const json_t *guest)
{
	const char *agent = json_string_value(json_object_get(guest, "agent"));
	bool bad = false;

	if (!agent || !strcmp(agent, "none")) {
		c->without++;
		return;
	}
	if (strcmp(agent, "answered")) {
		c->behind++;
		printf("  (its agent has not answered yet)");
		return;
	}
	for (unsigned i = 0; i < AGENT_THINGS; i++) {
		const char *r = json_string_value(
			json_object_get(guest, agent_things[i]));

		if (!r || !strcmp(r, "ok"))
			continue;
		printf("  (%s: %s)", agent_things[i], r);
		bad = true;
	}
	c->behind += bad;
}

static void clone_print(struct clone *c, const char *name)
{
	json_t *j = clone_identity(c, name);
	const char *generation = "", *mac = NULL, *host = NULL;
	json_t *guest = NULL, *cid = json_object_get(j, "guest_cid");

	if (!j) {
		printf("%s  (has ended already)\n", name);
		return;
	}
	json_unpack(j, "{s:s, s:o, s?s, s?s}", "generation", &generation,
		    "guest", &guest, "guest_mac", &mac, "host_name", &host);
	printf("%s  generation %.8s", name, generation);
	if (mac)
		printf("  mac %s", mac);
	if (cid)
		printf("  cid %lld", json_integer_value(cid));
	if (host &&
	    strcmp(json_string_value(json_object_get(guest, "agent")), "none"))
		printf("  host %s", host);
	clone_print_guest(c, guest);
	putchar('\n');
	json_decref(j);
}

static void clone_summary(const struct clone *c, u64 start)
{
	printf("%u in %.0f ms; new in each: name, VM generation id, MAC "
	       "address, vsock CID if it\nhas one, clock; memory, disks and "
	       "a network of its own, no forwards\n",
	       c->n, (double)(start) / 1e6);
	if (c->without)
		printf("not renewed in %u: host name, the MAC address that the "
		       "guest uses until it starts\nanew, random numbers of a "
		       "kernel without CONFIG_VMGENID: no agent is there\n",
		       c->without);
}

static void clone_report(struct clone *c, u64 took)
{
	char name[CLONE_NAME];

	c->deadline = clock_ns() + AGENT_WAIT;
	for (unsigned i = 1; i <= c->n; i++) {
		clone_name(c, i, name);
		if (c->quiet)
			puts(name);
		else
			clone_print(c, name);
	}
	if (!c->quiet)
		clone_summary(c, took);
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
		clone_report(c, clock_ns() - start);
	return rc;
}

static int clone_check_hostname(const struct clone *c)
{
	char host[CLONE_NAME];
	bool fits;

	if (!c->hostname)
		return 0;
	fits = strlen(c->hostname) < AGENT_HOST_NAME - 5;
	if (fits)
		clone_hostname(c, c->n, host);
	if (fits && agent_hostname_ok(host) &&
	    (c->n == 1 || strchr(c->hostname, '%')))
		return 0;
	fprintf(stderr,
		"sublet: clone: --hostname: '%s' is no pattern for host "
		"names: letters, digits, '.', '-', and a '%%' where the number "
		"goes\n",
		c->hostname);
	return CLI_EXIT_USAGE;
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
	return clone_check_hostname(c);
}

static int clone_run(int argc, char **argv)
{
	struct clone c = {0};
	const char *number = "1";
	const struct ctl_option options[] = {
		{"-n", NULL, &number},
		{"--name", NULL, &c.stem},
		{"--engine", NULL, &c.engine},
		{"--hostname", NULL, &c.hostname},
		{"--paused", &c.paused, NULL},
		{"--quiet", &c.quiet, NULL},
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
		"Each has a name, a VM\ngeneration id, a MAC address, a vsock "
		"CID and a network of its own and forwards no\nports; the "
		"agent in the guest (images have it) gives it a host name and "
		"the right\ntime. What was renewed is printed, a line for "
		"each.\n"
		"\n"
		"  -n N                    how many\n"
		"  --name STEM             names are STEM-1, STEM-2 ... "
		"(NAME)\n"
		"  --hostname PATTERN      host names, with the number in "
		"place of '%' (its name)\n"
		"  --engine auto|kvm|soft  what executes them (as before)\n"
		"  --paused                do not run yet; see sublet resume\n"
		"  --quiet                 print nothing but their names\n",
	.run = clone_run,
};
