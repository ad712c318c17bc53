/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "vm/snap_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crc32c.h"

/* ---- the folder ---- */

int snap_dir_new(struct snap_dir *d, const char *path, struct err *e)
{
	struct stat st;
	size_t n = strlen(path);

	*d = (struct snap_dir){.fd = -1};
	while (n > 1 && path[n - 1] == '/')
		n--;
	if (asprintf(&d->path, "%.*s", (int)n, path) < 0 ||
	    asprintf(&d->temp, "%s.XXXXXX", d->path) < 0)
		return err_set(e, -ENOMEM, "no memory for a name");
	if (!lstat(d->path, &st))
		return err_set(e, -EEXIST,
			       "%s is there already; a snapshot makes a new "
			       "folder",
			       d->path);
	if (!mkdtemp(d->temp)) {
		n = (size_t)errno;
		free(d->temp);
		d->temp = NULL;
		return err_errno(e, -(int)n, "cannot make the folder %s",
				 d->path);
	}
	d->fd = open(d->temp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return d->fd < 0 ? err_errno(e, -errno, "cannot open %s", d->temp) : 0;
}

/* The folder that holds d. */
static int snap_sync_parent(const struct snap_dir *d)
{
	const char *slash = strrchr(d->path, '/');
	char *parent = slash ? strndup(d->path, (size_t)(slash - d->path + 1))
			     : strdup(".");
	int fd = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	int rc = fd < 0 || fsync(fd) ? -errno : 0;

	if (fd >= 0)
		close(fd);
	free(parent);
	return rc;
}

int snap_dir_done(struct snap_dir *d, struct err *e)
{
	int rc;

	if (fsync(d->fd))
		return err_errno(e, -errno, "cannot write %s", d->path);
	if (renameat2(AT_FDCWD, d->temp, AT_FDCWD, d->path, RENAME_NOREPLACE) &&
	    (errno != EINVAL || rename(d->temp, d->path)))
		return err_errno(e, -errno, "cannot make the folder %s",
				 d->path);
	free(d->temp);
	d->temp = NULL;
	rc = snap_sync_parent(d);
	return rc ? err_errno(e, rc, "cannot write the folder of %s", d->path)
		  : 0;
}

static void snap_empty(int fd)
{
	DIR *dir = fdopendir(dup(fd));

	for (struct dirent *f; dir && (f = readdir(dir));)
		unlinkat(fd, f->d_name, 0); /* . and .. stay */
	if (dir)
		closedir(dir);
}

void snap_dir_free(struct snap_dir *d)
{
	if (d->temp && d->fd >= 0)
		snap_empty(d->fd);
	if (d->temp)
		rmdir(d->temp);
	if (d->fd >= 0)
		close(d->fd);
	free(d->temp);
	free(d->path);
	*d = (struct snap_dir){.fd = -1};
}

void snap_remove(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return;
	snap_empty(fd);
	close(fd);
	rmdir(path);
}

/* ---- files ---- */

int snap_create(int dirfd, const char *name, struct err *e)
{
	int fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
			0600);

	return fd < 0 ? err_errno(e, -errno, "cannot make the file %s", name)
		      : fd;
}

static int snap_write_fd(int fd, const u8 *p, u64 len)
{
	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		p += n;
		len -= (u64)n;
	}
	return fsync(fd) ? -errno : 0;
}

int snap_write(int dirfd, const char *name, const void *data, u64 len,
	       struct err *e)
{
	int fd = snap_create(dirfd, name, e), rc;

	if (fd < 0)
		return fd;
	rc = snap_write_fd(fd, data, len);
	close(fd);
	return rc ? err_errno(e, rc, "cannot write the snapshot's %s", name)
		  : 0;
}

int snap_open_file(int dirfd, const char *name, u64 size, struct err *e)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(e, -errno, "the snapshot's file %s", name);
	if (!fstat(fd, &st) && S_ISREG(st.st_mode) && (u64)st.st_size == size)
		return fd;
	close(fd);
	return err_set(e, -EINVAL,
		       "the snapshot's file %s has %ld bytes instead of %lu",
		       name, (long)st.st_size, size);
}

int snap_read(int dirfd, const char *name, u64 max, u8 **out, u64 *len,
	      struct err *e)
{
	int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	ssize_t n;

	*out = NULL;
	if (fd < 0)
		return err_errno(e, -errno, "the snapshot's file %s", name);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || (u64)st.st_size > max) {
		close(fd);
		return err_set(e, -EINVAL,
			       "%s is too big for a snapshot's file", name);
	}
	*out = malloc((size_t)st.st_size + 1);
	n = *out ? pread(fd, *out, (size_t)st.st_size, 0) : -1;
	close(fd);
	*len = (u64)st.st_size;
	if (n == st.st_size)
		return 0;
	free(*out);
	*out = NULL;
	return err_set(e, -EIO, "cannot read the snapshot's file %s", name);
}

bool snap_boot_id(char out[SNAP_BOOT_ID])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, SNAP_BOOT_ID - 1);

	if (fd >= 0)
		close(fd);
	out[MAX(n, 0)] = 0;
	out[strcspn(out, "\n")] = 0;
	return *out;
}

/* ---- the manifest's checksum ---- */

static bool snap_sum(json_t *manifest, u32 *sum)
{
	json_t *copy = json_copy(manifest);
	char *text;

	json_object_del(copy, "crc32c");
	text = json_dumps(copy, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(copy);
	if (!text)
		return false;
	*sum = crc32c(0, text, strlen(text));
	free(text);
	return true;
}

int snap_seal(json_t *manifest, struct err *e)
{
	u32 sum;

	if (!snap_sum(manifest, &sum) ||
	    json_object_set_new(manifest, "crc32c", json_integer(sum)))
		return err_set(e, -ENOMEM, "no memory for the manifest");
	return 0;
}

bool snap_sealed(json_t *manifest)
{
	json_t *crc = json_object_get(manifest, "crc32c");
	u32 sum;

	return json_is_integer(crc) && snap_sum(manifest, &sum) &&
	       json_integer_value(crc) == (json_int_t)sum;
}
