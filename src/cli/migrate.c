/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet migrate: moves a running VM; shows how it goes. */
#include <ctype.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/types.h"
#include "cli/cli.h"
#include "cli/ctl.h"
#include "cli/options.h"

struct migrate {
	const char *vm, *dest;
	const char *downtime, *time, *slowdown, *streams, *bandwidth, *compress,
		*post, *timeout, *cert, *key, *ca;
	bool dry_run, insecure, resume, take_back, quiet, disks;
	bool tty, shown;
};

static int migrate_usage(const char *option, const char *text,
			 const char *example)
{
	fprintf(stderr, "sublet: %s: '%s' is not like %s\n", option, text,
		example);
	return CLI_EXIT_USAGE;
}

/* "50ms", "1.5s", "2m" in microseconds. */
static bool migrate_duration(const char *text, json_int_t *us)
{
	static const struct {
		const char *unit;
		double us;
	} units[] = {
		{"us", 1}, {"ms", 1e3}, {"s", 1e6}, {"m", 6e7}, {"h", 3.6e9}};
	char *end;
	double v = strtod(text, &end);

	if (!isdigit((unsigned char)*text) || v > 1e9)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (!strcmp(end, units[i].unit)) {
			*us = (json_int_t)(v * units[i].us);
			return true;
		}
	return false;
}

static bool migrate_number(const char *text, unsigned max, const char *suffix,
			   json_int_t *out)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	*out = (json_int_t)v;
	return isdigit((unsigned char)*text) && v <= max &&
	       (!*end || !strcmp(end, suffix));
}

/* The body of the request out of the options; 0 or CLI_EXIT_USAGE. */
static int migrate_goals(const struct migrate *m, json_t *j)
{
	json_int_t v;
	struct err e;
	u64 rate;

	if (!migrate_duration(m->downtime, &v))
		return migrate_usage("--max-downtime", m->downtime, "50ms");
	json_object_set_new(j, "max_downtime_us", json_integer(v));
	if (!migrate_duration(m->time, &v))
		return migrate_usage("--max-time", m->time, "2m");
	json_object_set_new(j, "max_time_ms", json_integer(v / 1000));
	if (!migrate_number(m->slowdown, 99, "%", &v))
		return migrate_usage("--max-slowdown", m->slowdown, "10%");
	json_object_set_new(j, "max_slowdown", json_integer(v));
	if (!migrate_number(m->streams, 16, "", &v) || !v)
		return migrate_usage("--streams", m->streams, "4 (1 to 16)");
	json_object_set_new(j, "streams", json_integer(v));
	if (!migrate_duration(m->timeout, &v))
		return migrate_usage("--timeout", m->timeout, "30s");
	json_object_set_new(j, "timeout_ms", json_integer(MAX(v / 1000, 100)));
	if (!m->bandwidth)
		return 0;
	if (parse_size(m->bandwidth, &rate, &e))
		return migrate_usage("--bandwidth", m->bandwidth,
				     "100M (bytes a second)");
	json_object_set_new(j, "bandwidth", json_integer((json_int_t)rate));
	return 0;
}

static char *migrate_path(const char *path)
{
	return path ? realpath(path, NULL) : NULL;
}

/* The VM's process has another working directory, perhaps. */
static int migrate_tls(const struct migrate *m, json_t *j)
{
	const struct {
		const char *field, *option, *path;
	} files[] = {{"tls_cert", "--tls-cert", m->cert},
		     {"tls_key", "--tls-key", m->key},
		     {"tls_ca", "--tls-ca", m->ca}};

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		char *path = migrate_path(files[i].path);

		if (files[i].path && !path) {
			fprintf(stderr, "sublet: %s: %s: %s\n", files[i].option,
				files[i].path, strerror(errno));
			return CLI_EXIT_FAILED;
		}
		if (path)
			json_object_set_new(j, files[i].field,
					    json_string(path));
		free(path);
	}
	return 0;
}

static int migrate_body(const struct migrate *m, json_t **body)
{
	json_t *j = json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:b}",
			      "destination", m->dest, "compress", m->compress,
			      "post_copy", m->post, "dry_run", (int)m->dry_run,
			      "insecure", (int)m->insecure, "resume",
			      (int)m->resume, "with_disks", (int)m->disks);
	int rc = j ? migrate_goals(m, j) : CLI_EXIT_USAGE;

	if (!rc)
		rc = migrate_tls(m, j);
	*body = j;
	if (rc)
		json_decref(j);
	return rc;
}

/* ---- how it goes ---- */

static void migrate_line(void *arg, json_t *line)
{
	struct migrate *m = arg;
	json_t *p = json_object_get(line, "progress");
	json_int_t round, slow, left, rate, down;
	const char *phase;

	if (m->quiet || !m->tty ||
	    json_unpack(p, "{s:s, s:I, s:I, s:I, s:I, s:I}", "phase", &phase,
			"round", &round, "slowdown", &slow, "left", &left,
			"rate", &rate, "downtime_us", &down))
		return;
	fprintf(stderr,
		"\r%s: %s, round %d, %.0f MB/s, %.1f MB left, downtime "
		"%.1f ms",
		m->vm, phase, (int)round, (double)rate / 1e6,
		(double)left / 1e6, (double)down / 1e3);
	if (slow)
		fprintf(stderr, ", guest slowed by %d%%", (int)slow);
	fputs("\033[K", stderr);
	m->shown = true;
}

static void migrate_done(const struct migrate *m, json_t *reply)
{
	json_int_t down, total, sent, rounds, post_ms;
	const char *why, *engine;
	int post;

	if (m->quiet ||
	    json_unpack(reply, "{s:I, s:I, s:I, s:I, s:b, s:I, s:s, s:s}",
			"downtime_us", &down, "total_ms", &total, "sent", &sent,
			"rounds", &rounds, "postcopy", &post, "postcopy_ms",
			&post_ms, "why", &why, "target_engine", &engine))
		return;
	if (m->dry_run) {
		printf("%s can move to %s (%s engine).\nAfter %d rounds: "
		       "%s.\nNothing was moved.\n",
		       m->vm, m->dest, engine, (int)rounds, why);
		return;
	}
	printf("%s moved to %s in %.2f s: downtime %.1f ms, %.1f MB in %d "
	       "rounds%s\n",
	       m->vm, m->dest, (double)total / 1e3, (double)down / 1e3,
	       (double)sent / 1e6, (int)rounds,
	       post ? ", the rest by post-copy" : "");
}

/* Ctrl-C asks the VM to call it off, and waits for what it says. */
static void *migrate_interrupt(void *arg)
{
	struct migrate *m = arg;
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	while (!sigwait(&set, &sig)) {
		fputs("\nsublet: cancelling\n", stderr);
		ctl_ask(m->vm, "DELETE", "/job", NULL, NULL);
	}
	return NULL;
}

static int migrate_ask(struct migrate *m, json_t *body)
{
	struct client c;
	struct err e = {{0}};
	json_t *reply = NULL;
	pthread_t thread;
	sigset_t set;
	int rc;

	if (client_open(&c, m->vm, &e)) {
		json_decref(body);
		return ctl_fail(&e);
	}
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	if (!pthread_create(&thread, NULL, migrate_interrupt, m))
		pthread_detach(thread);
	c.line = migrate_line;
	c.arg = m;
	rc = client_request(&c, "PUT", "/migrate", body, &reply, &e);
	if (m->shown)
		fputc('\n', stderr);
	rc = rc ? ctl_fail(&e) : 0;
	if (!rc)
		migrate_done(m, reply);
	json_decref(reply);
	client_close(&c);
	return rc;
}

static int migrate_run(int argc, char **argv)
{
	struct migrate m = {
		.downtime = "50ms",
		.time = "2m",
		.slowdown = "10%",
		.streams = "1",
		.compress = "auto",
		.post = "auto",
		.timeout = "30s",
		.tty = isatty(STDERR_FILENO),
	};
	const struct ctl_option options[] = {
		{"--max-downtime", NULL, &m.downtime},
		{"--max-time", NULL, &m.time},
		{"--max-slowdown", NULL, &m.slowdown},
		{"--streams", NULL, &m.streams},
		{"--bandwidth", NULL, &m.bandwidth},
		{"--compress", NULL, &m.compress},
		{"--post-copy", NULL, &m.post},
		{"--timeout", NULL, &m.timeout},
		{"--tls-cert", NULL, &m.cert},
		{"--tls-key", NULL, &m.key},
		{"--tls-ca", NULL, &m.ca},
		{"--insecure", &m.insecure, NULL},
		{"--dry-run", &m.dry_run, NULL},
		{"--with-disks", &m.disks, NULL},
		{"--resume", &m.resume, NULL},
		{"--take-back", &m.take_back, NULL},
		{"--quiet", &m.quiet, NULL},
		{0},
	};
	const char **words = calloc((size_t)argc, sizeof(*words));
	json_t *body;
	int n, rc;

	if (!words)
		return CLI_EXIT_FAILED;
	rc = ctl_parse(argc, argv, options, words, &n, 1, 2,
		       "a machine's name and where it shall go");
	m.vm = words[0];
	m.dest = n > 1 ? words[1] : "";
	free(words);
	if (rc)
		return rc;
	if (m.take_back)
		return ctl_ask(m.vm, "PUT", "/migrate/take-back", NULL, NULL);
	rc = migrate_body(&m, &body);
	return rc ? rc : migrate_ask(&m, body);
}

const struct cli_verb cli_migrate = {
	.name = "migrate",
	.summary = "move a running machine to another host",
	.help = "usage: sublet migrate NAME PLACE [OPTIONS]\n"
		"       sublet migrate NAME --take-back\n"
		"\n"
		"Moves the machine, while it runs, to where sublet receive "
		"waits: tcp:HOST:PORT,\nunix:PATH, or exec:COMMAND, as in "
		"'exec:ssh HOST sublet receive stdio:'. Its\ndisks must be "
		"reachable there under the same paths. Until the last moment "
		"whatever\ngoes wrong, and Ctrl-C, leave it running here.\n"
		"\n"
		"  --max-downtime TIME   how long it may stand still (50ms)\n"
		"  --max-time TIME       how long it may take (2m)\n"
		"  --max-slowdown PERCENT\n"
		"                        how much the guest may be slowed down "
		"to get there (10%)\n"
		"  --post-copy auto|never|always\n"
		"                        let it run there before all memory is "
		"there: if nothing\n"
		"                        else meets the goals (auto)\n"
		"  --with-disks          its disks go along, into the target's "
		"--disks folder\n"
		"  --dry-run             measure; say what would happen, and "
		"why\n"
		"  --streams N           connections, 1 to 16 (1)\n"
		"  --bandwidth SIZE      bytes a second, as 100M (all there "
		"is)\n"
		"  --compress auto|none|lz4|zstd\n"
		"                        none on this host, lz4 else (auto)\n"
		"  --timeout TIME        how long the target may stall (30s)\n"
		"  --tls-cert FILE --tls-key FILE --tls-ca FILE\n"
		"                        our certificate, its key, and who "
		"must have signed the\n"
		"                        target's, in PEM\n"
		"  --insecure            tcp: to other hosts without TLS\n"
		"  --resume              go on with a post-copy whose "
		"connection broke\n"
		"  --take-back           run a machine here again that was "
		"handed over, but does\n"
		"                        not run there; only you can know "
		"that\n"
		"  --quiet               print nothing if it succeeds\n",
	.run = migrate_run,
};
