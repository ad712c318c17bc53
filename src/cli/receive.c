/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet receive: waits for a VM that is moved here, and then is its run. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/ctl.h"
#include "cli/session.h"
#include "migrate/migrate.h"

struct receive {
	struct run_options o;
	struct mig_incoming_options in;
	struct session s;
	bool open; /* the session */
};

static const char *receive_socket; /* to be removed by a signal, or NULL */

static void receive_killed(int sig)
{
	if (receive_socket)
		unlink(receive_socket);
	signal(sig, SIG_DFL);
	raise(sig);
}

/* Once the session has them, signals are only pending until the loop runs. */
static bool receive_cancelled(void)
{
	sigset_t set;

	sigpending(&set);
	return sigismember(&set, SIGINT) || sigismember(&set, SIGTERM) ||
	       sigismember(&set, SIGHUP);
}

static int receive_options(struct receive *r, int argc, char **argv)
{
	const char **words = calloc((size_t)argc, sizeof(*words));
	const char *console = NULL, *timeout = "30";
	const char *name = NULL;
	const struct ctl_option options[] = {
		{"--engine", NULL, &r->in.engine},
		{"--name", NULL, &name},
		{"--disks", NULL, &r->in.disks},
		{"--console", NULL, &console},
		{"--timeout", NULL, &timeout},
		{"--tls-cert", NULL, &r->in.tls.cert},
		{"--tls-key", NULL, &r->in.tls.key},
		{"--tls-ca", NULL, &r->in.tls.ca},
		{"--interpret", &r->in.interpret, NULL},
		{"--insecure", &r->in.insecure, NULL},
		{"--verbose", &r->o.verbose, NULL},
		{0},
	};
	struct err e = {{0}};
	unsigned seconds = 0;
	int n, rc;

	r->in.engine = "auto";
	if (!words)
		return CLI_EXIT_FAILED;
	rc = ctl_parse(argc, argv, options, words, &n, 1, 1,
		       "a place to wait at");
	if (!rc && !console)
		console = strcmp(words[0], "stdio:") ? "tty" : "none";
	if (!rc && parse_console(&r->o, console, &e)) {
		ctl_fail(&e);
		rc = CLI_EXIT_USAGE;
	}
	if (!rc)
		rc = ctl_seconds(timeout, &seconds);
	r->in.at = n ? words[0] : NULL;
	free(words);
	r->in.timeout_ms = MAX(seconds, 1u) * 1000;
	r->in.cancelled = receive_cancelled;
	r->o.name_given = name;
	r->o.vm.name = name;
	return rc;
}

/* The process around the VM. Its name is that of the source, if it is free
 * here. */
static int receive_session(struct receive *r, struct vm_config *c,
			   struct err *e)
{
	const char *name = r->o.vm.name;

	r->o.vm = *c;
	if (r->o.name_given)
		r->o.vm.name = name;
	else
		r->o.image = c->name;
	r->open = true;
	return session_open(&r->s, &r->o, e);
}

static int receive_one(struct receive *r, struct mig_incoming *in,
		       struct err *e)
{
	struct vm_config c;
	int rc = mig_incoming_wait(in, &c, e);

	if (rc)
		return rc;
	rc = receive_session(r, &c, e);
	if (!rc) {
		r->s.vm = vm_new(&r->o.vm, &r->s.backends, e);
		rc = r->s.vm ? mig_incoming_receive(in, r->s.vm, e) : -EINVAL;
	}
	if (rc < 0)
		mig_incoming_refuse(in, e->text);
	return rc;
}

static int receive_machine(struct receive *r, struct err *e)
{
	struct mig_incoming *in = mig_incoming_new(&r->in, e);
	int rc;

	if (!in)
		return ctl_fail(e);
	if (!strncmp(r->in.at, "unix:", 5))
		receive_socket = r->in.at + 5;
	rc = receive_one(r, in, e);
	rc = rc < 0 ? ctl_fail(e) : session_run(&r->s);
	if (r->s.vm && !vm_is_whole(r->s.vm)) {
		if (receive_socket)
			unlink(receive_socket);
		session_leave(&r->s, rc);
	}
	mig_incoming_stop(in);
	receive_socket = NULL;
	if (r->open)
		session_close(&r->s);
	mig_incoming_free(in);
	return rc;
}

static int receive_run(int argc, char **argv)
{
	struct receive *r = calloc(1, sizeof(*r));
	struct err e = {{0}};
	int rc;

	if (!r)
		return CLI_EXIT_FAILED;
	rc = receive_options(r, argc, argv);
	if (!rc) {
		if (r->o.verbose)
			log_set_level(LOG_INFO);
		signal(SIGINT, receive_killed);
		signal(SIGTERM, receive_killed);
		signal(SIGPIPE, SIG_IGN);
		rc = receive_machine(r, &e);
	}
	free(r);
	return rc;
}

const struct cli_verb cli_receive = {
	.name = "receive",
	.summary = "wait for a machine that is moved here",
	.help = "usage: sublet receive PLACE [OPTIONS]\n"
		"\n"
		"Waits at PLACE (tcp:HOST:PORT, unix:PATH, or stdio: below "
		"sublet migrate exec:)\nuntil sublet migrate sends a machine, "
		"and then runs it as sublet run does.\nWhat this host cannot "
		"run is refused before anything moves.\n"
		"\n"
		"  --engine auto|kvm|soft  what executes the guest (auto)\n"
		"  --interpret             soft engine: do not translate\n"
		"  --disks FOLDER          where disks go that come along\n"
		"  --name NAME             its name here (that of the source)\n"
		"  --console tty|file=FILE|none\n"
		"                          where the guest's console goes "
		"(tty)\n"
		"  --timeout SECONDS       how long a source may stall (30)\n"
		"  --tls-cert FILE --tls-key FILE --tls-ca FILE\n"
		"                          our certificate, its key, and who "
		"must have signed\n"
		"                          the source's, in PEM\n"
		"  --insecure              tcp: without TLS from other hosts\n"
		"  --verbose               say more\n"
		"\n"
		"A machine that arrives half goes on at its source; the exit "
		"status is 125 then.\n",
	.run = receive_run,
};
