/* SPDX-License-Identifier: BSD-2-Clause */
/* Making a snapshot of a running VM. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backend/disk.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "vm/snap.h"
#include "vm/snap_file.h"
#include "vm/snap_pack.h"
#include "vm/snap_ram.h"
#include "vm/vm_json.h"
#include "vm/vm_priv.h"
#include "vm/vm_track.h"

/* What the next differential snapshot is based on; the job's thread. */
struct snap_last {
	char *path;     /* of the last snapshot */
	json_int_t sum; /* its manifest's */
	struct vm_track *track;
};

struct take {
	struct vm *vm;
	const struct snap_options *o;
	unsigned long *only; /* differential: pages it has */
	const struct snap_run *run;
	struct snap_result *out;
	struct snap_dir dir;
	struct snap_ram *ram;
	struct buf state;
	json_t *manifest, *disks;
	int memory;
	struct vm_track *track; /* new; not yet snap_last's */
	/* at the moment of the freeze */
	struct stat disk[VM_DISKS];
};

/* ---- the moment ---- */

/* Identities, and from here on what is written goes elsewhere. */
static int take_disks(struct take *t, struct err *e)
{
	const struct vm_config *c = &t->vm->config;
	int rc = 0;

	for (unsigned i = 0; !rc && i < c->ndisks; i++) {
		if (stat(c->disks[i].path, &t->disk[i]))
			return err_errno(e, -errno, "disk %s",
					 c->disks[i].path);
		if (disk_is_overlay(t->vm->disk[i]))
			rc = disk_overlay_freeze(t->vm->disk[i], e);
	}
	return rc;
}

/* A full snapshot: what is written from now on is the next one's. */
static int take_track(struct take *t, struct err *e)
{
	t->track = vm_track_new(t->vm, e);
	return t->track ? 0 : -ENOMEM;
}

static int take_moment(struct take *t, struct err *e)
{
	int rc;

	if (t->vm->end != VM_END_NONE)
		return err_set(e, -ESHUTDOWN, "the machine has ended");
	rc = vm_state_save(t->vm, &t->state, e);
	if (!rc)
		rc = take_disks(t, e);
	if (!rc && t->only)
		rc = vm_track_collect(t->vm->last->track, t->only, e);
	if (!rc && !t->only && t->o->track)
		rc = take_track(t, e);
	return rc ? rc : snap_ram_freeze(t->ram, e);
}

static int take_freeze(void *arg, struct err *e)
{
	struct take *t = arg;
	u64 start = clock_ns();
	int rc;

	vm_quiesce(t->vm);
	rc = take_moment(t, e);
	vm_unquiesce(t->vm);
	t->out->pause_ns = clock_ns() - start;
	return rc;
}

/* ---- files ---- */

static int take_disk(struct take *t, unsigned n, struct err *e)
{
	const struct vm_disk *c = &t->vm->config.disks[n];
	const struct stat *st = &t->disk[n];
	bool layer = disk_is_overlay(t->vm->disk[n]);
	char name[16], map[24];
	int fd, map_fd, rc;
	u32 sum = 0;

	if (layer) {
		snprintf(name, sizeof(name), "disk%u", n);
		snprintf(map, sizeof(map), "%s.map", name);
		fd = snap_create(t->dir.fd, name, e);
		map_fd = fd < 0 ? fd : snap_create(t->dir.fd, map, e);
		rc = map_fd < 0 ? map_fd
				: disk_overlay_export(t->vm->disk[n], fd,
						      map_fd, &sum, e);
		if (!rc && (fsync(fd) || fsync(map_fd)))
			rc = err_errno(e, -errno, "cannot write %s", name);
		if (fd >= 0)
			close(fd);
		if (map_fd >= 0)
			close(map_fd);
		if (rc)
			return rc;
	}
	json_array_append_new(
		t->disks,
		json_pack("{s:s, s:I, s:I, s:I, s:b, s:I}", "path", c->path,
			  "size", (json_int_t)st->st_size, "mtime_ns",
			  (json_int_t)st->st_mtim.tv_sec * 1000000000 +
				  st->st_mtim.tv_nsec,
			  "inode", (json_int_t)st->st_ino, "layer", (int)layer,
			  "crc32c", (json_int_t)sum));
	return 0;
}

/* Which pages a differential snapshot has, and whose the others are. */
static int take_map(struct take *t, struct err *e)
{
	u64 len = vm_track_words(t->vm) * 8;
	const struct snap_last *l = t->vm->last;

	json_object_set_new(t->manifest, "parent",
			    json_pack("{s:s, s:I, s:I}", "path", l->path,
				      "crc32c", l->sum, "map_crc32c",
				      (json_int_t)crc32c(0, t->only, len)));
	return snap_write(t->dir.fd, "memory.map", t->only, len, e);
}

/* The whole is a file without a name. */
static int take_pack(struct take *t, json_t *memory, struct err *e)
{
	struct snap_packed p;
	int rc = snap_pack_write(t->dir.fd, t->memory, t->vm->mem.size, &p,
				 t->run->cancelled, t->run->ctx, e);

	if (rc)
		return rc;
	t->out->bytes = p.bytes;
	json_object_set_new(memory, "packed",
			    json_pack("{s:I, s:I}", "bytes",
				      (json_int_t)p.bytes, "index_crc32c",
				      (json_int_t)p.index_sum));
	return 0;
}

static int take_memory(struct take *t, struct err *e)
{
	const u32 *sums;
	json_t *j;
	u64 n;
	int rc;

	rc = snap_ram_copy(t->ram, t->run->cancelled, t->run->ctx, e);
	if (rc)
		return rc;
	if (!t->o->pack && fsync(t->memory))
		return err_errno(e, -errno,
				 "cannot write the memory of the snapshot");
	sums = snap_ram_sums(t->ram, &n);
	t->out->bytes = snap_ram_stored(t->ram);
	t->out->protects = snap_ram_protects(t->ram);
	j = json_pack("{s:I, s:I, s:I}", "bytes", (json_int_t)t->vm->mem.size,
		      "stored", (json_int_t)t->out->bytes, "crc32c",
		      (json_int_t)crc32c(0, sums, n * 4));
	json_object_set_new(t->manifest, "memory", j);
	rc = t->o->pack ? take_pack(t, j, e) : 0;
	if (rc)
		return rc;
	rc = snap_write(t->dir.fd, "memory.sums", sums, n * 4, e);
	return rc || !t->only ? rc : take_map(t, e);
}

static int take_manifest(struct take *t, struct err *e)
{
	char when[32], boot[SNAP_BOOT_ID], *text;
	struct tm tm;
	time_t now = time(NULL);
	int rc;

	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
	json_object_set_new(
		t->manifest, "format",
		json_integer(t->o->pack ? SNAP_FORMAT_PACKED : SNAP_FORMAT));
	json_object_set_new(t->manifest, "version",
			    json_string(SUBLET_VERSION));
	json_object_set_new(t->manifest, "created", json_string(when));
	json_object_set_new(t->manifest, "name",
			    json_string(t->vm->config.name));
	json_object_set_new(t->manifest, "engine",
			    json_string(t->vm->engine->class->name));
	if (snap_boot_id(boot))
		json_object_set_new(t->manifest, "host",
				    json_pack("{s:s, s:I}", "boot_id", boot,
					      "tsc_hz",
					      (json_int_t)clock_tsc_hz()));
	json_object_set_new(t->manifest, "config",
			    vm_config_json(&t->vm->config));
	json_object_set_new(
		t->manifest, "state",
		json_pack("{s:I, s:I}", "bytes", (json_int_t)t->state.len,
			  "crc32c",
			  (json_int_t)crc32c(0, t->state.data, t->state.len)));
	json_object_set(t->manifest, "disks", t->disks);
	rc = snap_seal(t->manifest, e);
	if (rc)
		return rc;
	text = json_dumps(t->manifest, JSON_INDENT(1));
	rc = text ? snap_write(t->dir.fd, "manifest.json", text, strlen(text),
			       e)
		  : err_set(e, -ENOMEM, "no memory for the manifest");
	free(text);
	return rc;
}

static int take_rest(struct take *t, struct err *e)
{
	int rc = take_memory(t, e);

	for (unsigned i = 0; !rc && i < t->vm->config.ndisks; i++)
		rc = take_disk(t, i, e);
	if (!rc)
		rc = snap_write(t->dir.fd, "state", t->state.data, t->state.len,
				e);
	if (!rc)
		rc = take_manifest(t, e);
	return rc ? rc : snap_dir_done(&t->dir, e);
}

void snap_last_free(struct snap_last *l)
{
	if (!l)
		return;
	vm_track_free(l->track);
	free(l->path);
	free(l);
}

static int take_base(struct take *t, struct err *e)
{
	if (!t->vm->last)
		return err_set(e, -EINVAL,
			       "no differential snapshot: none was made before "
			       "with --track");
	/* whole chunks, as snap_ram looks at them */
	t->only = calloc(ALIGN_UP(vm_track_words(t->vm), SNAP_CHUNK_PAGES / 64),
			 8);
	return t->only ? 0 : err_set(e, -ENOMEM, "no memory for a snapshot");
}

/* This one is what the next is based on. */
static int take_last(struct take *t, struct err *e)
{
	struct snap_last *l = t->vm->last;

	if (t->track) {
		snap_last_free(l);
		l = t->vm->last = calloc(1, sizeof(*l));
		if (!l)
			return err_set(e, -ENOMEM, "no memory for a snapshot");
		l->track = t->track;
		t->track = NULL;
	} else if (!t->only) {
		return 0; /* a full one beside the chain */
	}
	free(l->path);
	l->path = strdup(t->dir.path);
	l->sum = json_integer_value(json_object_get(t->manifest, "crc32c"));
	return l->path ? 0 : err_set(e, -ENOMEM, "no memory for a name");
}

/* Pages that it should have had belong to the next. */
static void take_undo(struct take *t)
{
	struct snap_last *l = t->vm->last;

	if (!t->only || !l)
		return;
	snap_last_free(l);
	t->vm->last = NULL;
}

static int take_all(struct take *t, const char *path, struct err *e)
{
	int rc = snap_dir_new(&t->dir, path, e);

	if (rc)
		return rc;
	t->memory = snap_create(t->dir.fd, "memory", e);
	if (t->memory < 0)
		return t->memory;
	if (t->o->pack)
		unlinkat(t->dir.fd, "memory", 0);
	rc = t->o->diff ? take_base(t, e) : 0;
	if (rc)
		return rc;
	t->ram = snap_ram_new(t->vm, t->memory, t->only, e);
	if (!t->ram)
		return -EIO;
	rc = t->run->on_loop(t->run->ctx, take_freeze, t, e);
	if (!rc)
		rc = take_rest(t, e);
	return rc ? rc : take_last(t, e);
}

int snap_take(struct vm *vm, const char *dir, const struct snap_options *o,
	      const struct snap_run *run, struct snap_result *out,
	      struct err *e)
{
	struct take t = {
		.vm = vm,
		.o = o,
		.run = run,
		.out = out,
		.dir = {.fd = -1},
		.memory = -1,
		.manifest = json_object(),
		.disks = json_array(),
	};
	int rc = vm_check_whole(vm, e);

	if (!rc)
		rc = take_all(&t, dir, e);
	if (rc)
		take_undo(&t);
	snap_ram_free(t.ram);
	vm_track_free(t.track);
	free(t.only);
	if (t.memory >= 0)
		close(t.memory);
	snap_dir_free(&t.dir);
	buf_free(&t.state);
	json_decref(t.manifest);
	json_decref(t.disks);
	return rc;
}
