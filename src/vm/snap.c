/* SPDX-License-Identifier: BSD-2-Clause */
/* Opening and loading a snapshot. */
#define _GNU_SOURCE
#include "vm/snap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/disk.h"
#include "base/clock.h"
#include "base/crc32c.h"
#include "vm/snap_file.h"
#include "vm/snap_mem.h"
#include "vm/snap_priv.h"
#include "vm/vm_json.h"
#include "vm/vm_priv.h"

#define MANIFEST_MAX (4 * MIB)
#define STATE_MAX    (64 * MIB)
#define SNAP_CHAIN   64

static int snap_bad(struct snap *s, const char *what, struct err *e)
{
	return err_set(e, -EINVAL, "%s: the manifest %s", s->dir, what);
}

int snap_in(struct snap *s, int rc, struct err *e)
{
	struct err was;

	if (!rc || !e)
		return rc;
	was = *e;
	return err_set(e, rc, "%s: %.400s", s->dir, was.text);
}

/* ---- the manifest ---- */

static int snap_manifest(struct snap *s, struct err *e)
{
	json_error_t why;
	int format = 0, rc;
	u8 *text;
	u64 len;

	rc = snap_read(s->dirfd, "manifest.json", MANIFEST_MAX, &text, &len, e);
	if (rc == -ENOENT)
		return err_set(e, rc, "no snapshot: there is no manifest.json");
	if (rc)
		return rc;
	s->manifest =
		json_loadb((char *)text, len, JSON_REJECT_DUPLICATES, &why);
	free(text);
	if (!s->manifest)
		return err_set(e, -EINVAL, "manifest.json, line %d: %s",
			       why.line, why.text);
	json_unpack(s->manifest, "{s:i}", "format", &format);
	if (format > SNAP_FORMAT_PACKED)
		return err_set(e, -ENOTSUP,
			       "a snapshot of a newer version of Sublet "
			       "(format %d; this one knows %d)",
			       format, SNAP_FORMAT_PACKED);
	if (!snap_sealed(s->manifest))
		return err_set(e, -EBADMSG,
			       "manifest.json is damaged (checksum)");
	return format == SNAP_FORMAT || format == SNAP_FORMAT_PACKED
		       ? 0
		       : err_set(e, -EINVAL, "format %d is unknown", format);
}

/* ---- the parts ---- */

static int snap_open_depth(struct snap *s, const char *dir, unsigned depth,
			   const struct snap_backend *b, struct err *e);

static int snap_state(struct snap *s, struct err *e)
{
	json_int_t bytes, sum;
	int rc;

	if (json_unpack(s->manifest, "{s:{s:I, s:I}}", "state", "bytes", &bytes,
			"crc32c", &sum))
		return snap_bad(s, "lacks the state", e);
	rc = snap_read(s->dirfd, "state", STATE_MAX, &s->state, &s->state_len,
		       e);
	if (rc)
		return rc;
	if ((u64)bytes != s->state_len)
		return err_set(e, -EINVAL,
			       "its file state has %lu bytes instead of %ld",
			       s->state_len, (long)bytes);
	if (crc32c(0, s->state, s->state_len) != (u32)sum)
		return err_set(e, -EBADMSG,
			       "its file state is damaged (checksum)");
	return vm_state_check(s->state, s->state_len, &s->info, e);
}

static int snap_map(struct snap *s, json_int_t sum, struct err *e)
{
	u64 len, want = ALIGN_UP(s->info.memory >> PAGE_SHIFT, 64) / 8;
	int rc = snap_read(s->dirfd, "memory.map", want, &s->map, &len, e);

	if (!rc && (len != want || crc32c(0, s->map, len) != (u32)sum))
		rc = err_set(e, -EBADMSG,
			     "its file memory.map is damaged (checksum)");
	return rc;
}

/* The snapshot that has the other pages, beside this one if both moved. */
static int snap_parent(struct snap *s, struct err *e)
{
	json_int_t sum, map, own;
	const char *path, *name;
	char *beside = NULL;
	int rc;

	if (json_unpack(s->manifest, "{s:{s:s, s:I, s:I}}", "parent", "path",
			&path, "crc32c", &sum, "map_crc32c", &map))
		return snap_bad(s, "has an incomplete parent", e);
	rc = snap_map(s, map, e);
	if (rc)
		return rc;
	if (s->depth >= SNAP_CHAIN)
		return err_set(e, -ELOOP, "a chain of more than %d snapshots",
			       SNAP_CHAIN);
	s->parent = calloc(1, sizeof(*s->parent));
	name = strrchr(path, '/');
	if (!s->parent || asprintf(&beside, "%s/..%s", s->dir, name) < 0)
		return err_set(e, -ENOMEM, "no memory for a snapshot");
	rc = snap_open_depth(s->parent, access(path, F_OK) ? beside : path,
			     s->depth + 1, &s->backend, e);
	free(beside);
	if (rc)
		return rc;
	own = json_integer_value(
		json_object_get(s->parent->manifest, "crc32c"));
	if (own != sum || s->parent->info.memory != s->info.memory)
		return err_set(e, -ESTALE, "its parent %s is another snapshot",
			       path);
	return 0;
}

static int snap_memory(struct snap *s, struct err *e)
{
	json_int_t bytes;
	int rc;

	if (json_unpack(s->manifest, "{s:{s:I}}", "memory", "bytes", &bytes))
		return snap_bad(s, "lacks the memory", e);
	if ((u64)bytes != s->info.memory)
		return snap_bad(s, "and the state disagree about memory", e);
	if (s->backend.kind == SNAP_MEMORY_UFFD)
		return 0;
	rc = snap_mem_open(s, e);
	if (!rc && json_object_get(s->manifest, "parent"))
		rc = snap_parent(s, e);
	return rc;
}

/* What the guest's disk was must still be what it was. */
static int snap_disk_same(const char *path, json_int_t size, json_int_t mtime,
			  struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return err_errno(e, -errno, "its disk %s", path);
	if (S_ISREG(st.st_mode) &&
	    ((json_int_t)st.st_size != size ||
	     (json_int_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec !=
		     mtime))
		return err_set(e, -ESTALE,
			       "its disk %s was changed since the snapshot was "
			       "made",
			       path);
	return 0;
}

static int snap_layer(struct snap *s, struct vm_disk *d, unsigned n, u64 size,
		      struct err *e)
{
	char name[24];

	snprintf(name, sizeof(name), "disk%u", n);
	size = ALIGN_DOWN(size, (u64)DISK_SECTOR);
	d->layer_data = snap_open_file(s->dirfd, name, size, e);
	if (d->layer_data < 0)
		return d->layer_data;
	d->layered = true;
	d->layer_map = -1;
	snprintf(name, sizeof(name), "disk%u.map", n);
	d->layer_map =
		snap_open_file(s->dirfd, name, disk_layer_map_size(size), e);
	return d->layer_map < 0 ? d->layer_map : 0;
}

/* What it writes from now on is its own: the snapshot stays good. */
static int snap_disk(struct snap *s, unsigned n, json_t *j, struct err *e)
{
	struct vm_disk *d = &s->config.disks[n];
	json_int_t size, mtime;
	int layer, rc;

	if (json_unpack(j, "{s:s, s:I, s:I, s:b}", "path", &d->path, "size",
			&size, "mtime_ns", &mtime, "layer", &layer))
		return snap_bad(s, "has an incomplete disk", e);
	rc = snap_disk_same(d->path, size, mtime, e);
	if (rc)
		return rc;
	d->overlay = !d->readonly;
	return layer ? snap_layer(s, d, n, (u64)size, e) : 0;
}

static int snap_config(struct snap *s, struct err *e)
{
	json_t *config, *disks, *j;
	size_t i;
	int rc;

	if (json_unpack(s->manifest, "{s:o, s:o}", "config", &config, "disks",
			&disks))
		return snap_bad(s, "lacks the configuration", e);
	rc = vm_config_parse(config, &s->config, e);
	if (rc)
		return rc;
	if (json_array_size(disks) != s->config.ndisks)
		return snap_bad(s, "has another number of disks", e);
	json_array_foreach(disks, i, j)
	{
		rc = snap_disk(s, (unsigned)i, j, e);
		if (rc)
			return rc;
	}
	s->config.memory = s->info.memory;
	s->config.cpus = s->info.cpus;
	s->config.cpuid = &s->info.cpuid;
	s->config.incoming = true;
	s->config.ram_file =
		s->backend.kind == SNAP_MEMORY_FILE && !snap_mem_is_packed(s);
	if (s->config.ram_file)
		s->config.ram_fd = snap_mem_file(s);
	return vm_config_check(&s->config, e);
}

/* Made on this host and since it was booted: its clock is known. */
static void snap_host(struct snap *s)
{
	char here[SNAP_BOOT_ID];
	json_int_t hz = 0;
	const char *boot;

	if (!json_unpack(s->manifest, "{s:{s:s, s:I}}", "host", "boot_id",
			 &boot, "tsc_hz", &hz) &&
	    snap_boot_id(here) && !strcmp(here, boot) && hz > 100000000 &&
	    hz < 100000000000)
		clock_tsc_assume((u64)hz);
}

static int snap_open_all(struct snap *s, struct err *e)
{
	int rc = snap_manifest(s, e);

	if (!rc)
		snap_host(s);
	if (!rc)
		rc = snap_state(s, e);
	if (!rc)
		rc = snap_memory(s, e);
	return rc || s->depth ? rc : snap_config(s, e);
}

/* In a chain only the newest's disks matter. */
static int snap_open_depth(struct snap *s, const char *dir, unsigned depth,
			   const struct snap_backend *b, struct err *e)
{
	int rc;

	*s = (struct snap){
		.dirfd = -1, .memory = -1, .depth = depth, .backend = *b};
	s->dir = strdup(dir);
	if (!s->dir)
		return err_set(e, -ENOMEM, "no memory for a name");
	s->dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->dirfd < 0)
		rc = err_errno(e, -errno, "no snapshot");
	else
		rc = snap_open_all(s, e);
	rc = snap_in(s, rc, e);
	if (rc)
		snap_close(s);
	return rc;
}

int snap_open_for(struct snap *s, const char *dir, const struct snap_backend *b,
		  struct err *e)
{
	return snap_open_depth(s, dir, 0, b, e);
}

int snap_open(struct snap *s, const char *dir, struct err *e)
{
	const struct snap_backend file = {.kind = SNAP_MEMORY_FILE};

	return snap_open_for(s, dir, &file, e);
}

static void snap_close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void snap_close(struct snap *s)
{
	for (unsigned i = 0; i < s->config.ndisks; i++)
		if (s->config.disks[i].layered) {
			snap_close_fd(&s->config.disks[i].layer_data);
			snap_close_fd(&s->config.disks[i].layer_map);
		}
	snap_mem_close(s);
	snap_close_fd(&s->dirfd);
	json_decref(s->manifest);
	if (s->parent) {
		snap_close(s->parent);
		free(s->parent);
	}
	free(s->map);
	free(s->state);
	free(s->dir);
	*s = (struct snap){.dirfd = -1, .memory = -1};
}

int snap_load(struct snap *s, struct vm *vm, struct err *e)
{
	int rc;

	vm_quiesce(vm);
	rc = vm_disks_lock(vm, true, e);
	if (!rc)
		vm_state_age(vm, &s->info);
	if (!rc)
		rc = snap_mem_load(s, vm, e);
	if (!rc)
		rc = vm_state_load(vm, s->state, s->state_len, e);
	if (!rc) {
		vm_new_generation(vm);
		vm_announce(vm);
	}
	vm_unquiesce(vm);
	return snap_in(s, rc, e);
}
