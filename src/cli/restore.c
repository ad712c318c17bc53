/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet restore: a machine that goes on from a snapshot. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/ctl.h"
#include "cli/session.h"
#include "vm/snap.h"

struct restore {
	const char *dir, *engine, *name, *console, *memory;
	bool detach, paused, verify, no_forwards, verbose;
	struct snap_backend backend;
	struct snap snap;
	struct run_options o;
	struct session s;
};

static int restore_console(struct restore *r, struct err *e)
{
	const char *c = r->console;

	r->o.console = RUN_CONSOLE_TTY;
	if (!c || !strcmp(c, "tty"))
		return 0;
	r->o.console_given = true;
	if (!strcmp(c, "none")) {
		r->o.console = RUN_CONSOLE_NONE;
		return 0;
	}
	if (strncmp(c, "file=", 5) || !c[5])
		return err_set(
			e, -EINVAL,
			"--console: '%s' is none of tty, file=FILE, none", c);
	r->o.console = RUN_CONSOLE_FILE;
	r->o.console_file = c + 5;
	return 0;
}

static int restore_memory(struct restore *r, struct err *e)
{
	const char *m = r->memory;

	if (!m || !strcmp(m, "file"))
		r->backend.kind = SNAP_MEMORY_FILE;
	else if (!strcmp(m, "copy"))
		r->backend.kind = SNAP_MEMORY_COPY;
	else if (strncmp(m, "uffd:", 5) || !m[5])
		return err_set(e, -EINVAL,
			       "--memory-backend: '%s' is none of file, copy, "
			       "uffd:SOCKET",
			       m);
	else
		r->backend = (struct snap_backend){SNAP_MEMORY_UFFD, m + 5};
	if (r->verify && r->backend.socket)
		return err_set(e, -EINVAL,
			       "--verify reads the snapshot's memory, which "
			       "--memory-backend uffd does not");
	return 0;
}

/* The snapshot's configuration, and what the operator wants of it. */
static int restore_options(struct restore *r, struct err *e)
{
	struct vm_config *c = &r->o.vm;

	*c = r->snap.config;
	c->name = "vm";
	json_unpack(r->snap.manifest, "{s:s}", "name", &c->name);
	r->o.image = c->name;
	if (r->name) {
		c->name = r->name;
		r->o.name_given = true;
	}
	c->engine = r->engine ? r->engine : r->snap.info.engine;
	if (r->no_forwards)
		c->nforwards = 0;
	r->o.detach = r->detach;
	r->o.verbose = r->verbose;
	return restore_console(r, e);
}

static int restore_build(struct restore *r, struct err *e)
{
	int rc = session_open(&r->s, &r->o, e);

	if (rc)
		return rc;
	r->s.vm = vm_new(&r->o.vm, &r->s.backends, e);
	if (!r->s.vm)
		return -EINVAL;
	rc = snap_load(&r->snap, r->s.vm, e);
	if (!rc && r->paused)
		session_start_paused(&r->s);
	return rc;
}

static int restore_go(struct restore *r)
{
	struct err e = {{0}};
	int rc;

	if (restore_memory(r, &e) ||
	    snap_open_for(&r->snap, r->dir, &r->backend, &e))
		return ctl_fail(&e);
	rc = r->verify ? snap_verify(&r->snap, &e) : 0;
	if (!rc)
		rc = restore_options(r, &e);
	if (rc) {
		snap_close(&r->snap);
		return ctl_fail(&e);
	}
	rc = restore_build(r, &e);
	rc = rc ? ctl_fail(&e) : session_run(&r->s);
	session_close(&r->s);
	snap_close(&r->snap);
	return rc;
}

static int restore_run(int argc, char **argv)
{
	struct restore r = {0};
	const struct ctl_option options[] = {
		{"--engine", NULL, &r.engine},
		{"--name", NULL, &r.name},
		{"--console", NULL, &r.console},
		{"--memory-backend", NULL, &r.memory},
		{"--detach", &r.detach, NULL},
		{"--paused", &r.paused, NULL},
		{"--verify", &r.verify, NULL},
		{"--no-forwards", &r.no_forwards, NULL},
		{"--verbose", &r.verbose, NULL},
		{0},
	};
	const char **w = calloc((size_t)argc, sizeof(*w));
	int n, rc;

	if (!w)
		return CLI_EXIT_FAILED;
	rc = ctl_parse(argc, argv, options, w, &n, 1, 1,
		       "the folder of a snapshot");
	if (!rc) {
		r.dir = w[0];
		if (r.verbose)
			log_set_level(LOG_INFO);
		rc = restore_go(&r);
	}
	free(w);
	return rc;
}

const struct cli_verb cli_restore = {
	.name = "restore",
	.summary = "run a machine from a snapshot",
	.help = "usage: sublet restore DIR [OPTIONS]\n"
		"\n"
		"Makes a machine that goes on where the snapshot DIR was "
		"taken. The snapshot is\nnot changed: memory is read when it "
		"is used, and what the machine writes to memory\nand disks is "
		"its own and gone with it. DIR must stay as it is while the "
		"machine runs.\n"
		"\n"
		"  --engine auto|kvm|soft  what executes the guest; by "
		"default the same as before\n"
		"  --name NAME             its name for the other verbs\n"
		"  --console tty|file=FILE|none\n"
		"                          where the guest's console goes "
		"(tty)\n"
		"  --memory-backend file|copy|uffd:SOCKET\n"
		"                          whence memory comes: mapped from "
		"the files (file); copied\n"
		"                          from them when it is used, into "
		"memory of its own; or\n"
		"                          put there by the process that "
		"listens at SOCKET\n"
		"  --detach                run in the background; print the "
		"name\n"
		"  --paused                do not run yet; see sublet resume\n"
		"  --no-forwards           forward no ports of this host\n"
		"  --verify                read all of it first and compare "
		"checksums\n"
		"  --verbose               say more\n"
		"\n"
		"Exit status: as that of sublet run.\n",
	.run = restore_run,
};
