/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet snapshot: make one of a running machine, show one, check one. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/ctl.h"
#include "state/record.h"
#include "vm/snap.h"

/* ---- making ---- */

static char *snapshot_absolute(const char *dir)
{
	char *cwd = NULL, *path = NULL;

	if (*dir == '/')
		return strdup(dir);
	cwd = getcwd(NULL, 0);
	if (cwd && asprintf(&path, "%s/%s", cwd, dir) < 0)
		path = NULL;
	free(cwd);
	return path;
}

static int snapshot_make(const char *vm, const char *dir,
			 const struct snap_options *o)
{
	char *path = snapshot_absolute(dir);
	json_t *reply = NULL;
	double pause = 0;
	json_int_t bytes = 0;
	int rc;

	if (!path)
		return CLI_EXIT_FAILED;
	rc = ctl_ask(vm, "PUT", "/snapshot/create",
		     json_pack("{s:s, s:s, s:b, s:s}", "snapshot_path", path,
			       "snapshot_type", o->diff ? "Diff" : "Full",
			       "track_dirty_pages", (int)o->track,
			       "compression", o->pack ? "zstd" : "none"),
		     &reply);
	if (!rc) {
		json_unpack(reply, "{s:f, s:I}", "pause_ms", &pause,
			    "memory_bytes", &bytes);
		printf("%s: paused for %.1f ms, %lld MiB of memory\n", dir,
		       pause, (long long)(bytes / (json_int_t)MIB));
	}
	json_decref(reply);
	free(path);
	return rc;
}

/* ---- showing ---- */

static void show_field(const struct record_field *f)
{
	printf("  %s =", f->name);
	for (u32 i = 0; i < f->count; i++) {
		u64 v = 0;

		memcpy(&v, f->data + (u64)i * f->esize, f->esize);
		printf(" %#lx", v);
	}
	putchar('\n');
}

static void show_record(const struct record *r)
{
	struct record_field f;
	u64 pos = 0, off = 0;

	printf("%s %u, version %u%s\n", r->name, r->instance, r->version,
	       r->flags & RECORD_OPTIONAL ? ", optional" : "");
	while (record_field(r, &pos, &off, &f))
		show_field(&f);
}

static void show_summary(struct snap *s)
{
	const char *name = "?", *created = "?", *version = "?";
	json_int_t stored = 0;

	json_unpack(s->manifest, "{s:s, s:s, s:s, s:{s:I}}", "name", &name,
		    "created", &created, "version", &version, "memory",
		    "stored", &stored);
	printf("%s, made %s by Sublet %s\n", name, created, version);
	printf("engine %s, %u CPUs, %llu MiB of memory (%llu MiB in the "
	       "file)\n",
	       s->info.engine, s->info.cpus, s->info.memory / MIB,
	       (u64)stored / MIB);
	for (unsigned i = 0; i < s->config.ndisks; i++)
		printf("disk %s%s%s\n", s->config.disks[i].path,
		       s->config.disks[i].readonly ? ", read-only" : "",
		       s->config.disks[i].layered ? ", with what was written"
						  : "");
	printf("%u devices\n", s->info.devices);
}

static int snapshot_show(const char *dir, bool all)
{
	struct err e = {{0}};
	struct snap s;
	u64 at = VM_STATE_HEAD;

	if (snap_open(&s, dir, &e))
		return ctl_fail(&e);
	show_summary(&s);
	while (all && at < s.state_len) {
		struct record r;

		if (record_parse(s.state, s.state_len, &at, &r, &e))
			break;
		show_record(&r);
	}
	snap_close(&s);
	return 0;
}

/* ---- checking ---- */

/* Which engines here could go on with it. */
static int check_engines(const struct snap *s)
{
	int good = 0;

	for (unsigned i = 0; engine_classes[i]; i++) {
		const struct engine_class *c = engine_classes[i];
		struct err e = {{0}};

		if (c->probe(&e) ||
		    vm_state_check_cpu(&s->info.cpuid, s->info.cpus, c, &e)) {
			printf("engine %s: no: %s\n", c->name, e.text);
			continue;
		}
		printf("engine %s: yes\n", c->name);
		good++;
	}
	return good;
}

static int snapshot_check(const char *dir)
{
	struct err e = {{0}};
	struct snap s;
	int rc;

	if (snap_open(&s, dir, &e))
		return ctl_fail(&e);
	rc = snap_verify(&s, &e) ? ctl_fail(&e) : 0;
	if (!rc)
		printf("%s: state, memory and disks are good\n", dir);
	if (!rc && !check_engines(&s)) {
		fprintf(stderr,
			"sublet: %s: no engine of this host can go on "
			"with it\n",
			dir);
		rc = CLI_EXIT_FAILED;
	}
	snap_close(&s);
	return rc;
}

static int snapshot_run(int argc, char **argv)
{
	struct snap_options o = {0};
	const char *compress = "none";
	bool all = false;
	const struct ctl_option options[] = {
		{"--all", &all, NULL},
		{"--track", &o.track, NULL},
		{"--diff", &o.diff, NULL},
		{"--compress", NULL, &compress},
		{0},
	};
	const char **w = calloc((size_t)argc, sizeof(*w));
	int n, rc;

	if (!w)
		return CLI_EXIT_FAILED;
	rc = ctl_parse(argc, argv, options, w, &n, 2, 2,
		       "a machine's name, and a folder for the snapshot");
	o.pack = !strcmp(compress, "zstd");
	if (!rc && !o.pack && strcmp(compress, "none")) {
		fprintf(stderr,
			"sublet: snapshot: --compress: '%s' is neither zstd "
			"nor none\n",
			compress);
		rc = CLI_EXIT_USAGE;
	}
	if (!rc && !strcmp(w[0], "show"))
		rc = snapshot_show(w[1], all);
	else if (!rc && !strcmp(w[0], "check"))
		rc = snapshot_check(w[1]);
	else if (!rc)
		rc = snapshot_make(w[0], w[1], &o);
	free(w);
	return rc;
}

const struct cli_verb cli_snapshot = {
	.name = "snapshot",
	.summary = "save a running machine to a folder",
	.help = "usage: sublet snapshot NAME DIR [--track | --diff] "
		"[--compress zstd]\n"
		"       sublet snapshot show DIR [--all]\n"
		"       sublet snapshot check DIR\n"
		"\n"
		"Saves the machine NAME as it is at this moment to the new "
		"folder DIR; it goes on\nrunning. The folder appears when "
		"all of it is on disk. sublet restore DIR makes a\nmachine "
		"that goes on from there, any number of times. What the "
		"guest wrote to\ndisks with a private copy is saved too; "
		"other disks must not change.\n"
		"\n"
		"  --track  remember which memory is written from now on\n"
		"  --diff   save only memory written since the last snapshot "
		"with --track or\n"
		"           --diff, whose folder is needed to restore this "
		"one\n"
		"  --compress zstd  memory takes less room and is unpacked "
		"when it is used\n"
		"\n"
		"show prints what is in a snapshot (--all: every register), "
		"check reads all of\nit and says whether it is good and "
		"which engines of this host could go on with it.\n",
	.run = snapshot_run,
};
