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
#include "vm/agent.h"
#include "vm/snap.h"

struct restore {
	const char *dir, *engine, *name, *console, *memory;
	const char *vsock, *hostname;
	bool detach, paused, verify, no_forwards, renew, verbose;
	struct snap_backend backend;
	struct snap snap;
	struct run_options o;
	struct session s;
};

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

/* Another machine than the saved one has other addresses, and its sockets are
 * in its own folder. */
static int restore_identity(struct restore *r, struct err *e)
{
	struct vm_config *c = &r->o.vm;
	char *text;

	if (r->renew) {
		vm_mac_draw(c->mac);
		c->vsock.path = NULL;
		c->vsock.cid = c->vsock.cid ? vsock_cid_draw() : 0;
	}
	if (r->hostname && !agent_hostname_ok(r->hostname))
		return err_set(e, -EINVAL,
			       "--hostname: '%s' is no host name: 1 to %d "
			       "letters, digits, '.' and '-', the first a "
			       "letter or digit",
			       r->hostname, AGENT_HOST_NAME - 1);
	if (!r->vsock)
		return 0;
	if (!c->vsock.cid)
		return err_set(e, -EINVAL,
			       "--vsock: the saved machine has no virtio "
			       "sockets");
	text = strdup(r->vsock); /* lives as long as the machine */
	return text ? parse_vsock(&c->vsock, text, e)
		    : err_set(e, -ENOMEM, "no memory for a path");
}

/* A host name of the machine's: it may have '_', which those may not. */
static void restore_renew(struct restore *r)
{
	char host[RUNDIR_NAME];

	snprintf(host, sizeof(host), "%s", r->o.vm.name);
	for (char *p = host; *p; p++)
		if (*p == '_')
			*p = '-';
	vm_renew(r->s.vm, r->hostname ? r->hostname : host);
}

/* The snapshot's configuration, and what the operator wants of it. */
static int restore_options(struct restore *r, struct err *e)
{
	struct vm_config *c = &r->o.vm;
	int rc;

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
	rc = restore_identity(r, e);
	if (!rc && r->console && strcmp(r->console, "tty"))
		rc = parse_console(&r->o, r->console, e);
	return rc;
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
	if (!rc && (r->renew || r->hostname))
		restore_renew(r);
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
		{"--renew", &r.renew, NULL},
		{"--hostname", NULL, &r.hostname},
		{"--vsock", NULL, &r.vsock},
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
		"  --renew                 as another machine: a new MAC "
		"address, vsock CID and\n"
		"                          host name (by the guest's agent)\n"
		"  --hostname NAME         that host name (the machine's "
		"name)\n"
		"  --vsock [cid=N][,path=FILE]\n"
		"                          other virtio sockets than before\n"
		"  --verify                read all of it first and compare "
		"checksums\n"
		"  --verbose               say more\n"
		"\n"
		"Exit status: as that of sublet run.\n",
	.run = restore_run,
};
