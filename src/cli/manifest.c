/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define MANIFEST_SHALLOW (64 * MIB)

struct file_facts {
	u64 size, mtime_ns;
	u32 crc;
};

/* Checksum of the data, holes left out (a sparse disk is mostly hole). */
static int manifest_crc(int fd, u64 size, u32 *crc)
{
	static const size_t chunk = 1 << 18;
	u8 *buf = malloc(chunk);
	off_t at = 0;
	int rc = 0;

	if (!buf)
		return -ENOMEM;
	*crc = 0;
	while ((u64)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		ssize_t n;

		if (data < 0)
			break; /* ENXIO: only a hole is left */
		*crc = crc32(*crc, (const u8 *)&data, sizeof(data));
		at = lseek(fd, data, SEEK_HOLE);
		for (off_t p = data; p < at; p += n) {
			n = pread(fd, buf, MIN(chunk, (size_t)(at - p)), p);
			if (n <= 0) {
				rc = n ? -errno : -EIO;
				goto out;
			}
			*crc = crc32(*crc, buf, (unsigned)n);
		}
	}
out:
	free(buf);
	return rc;
}

static int manifest_facts(const char *dir, const char *name, bool crc,
			  struct file_facts *f, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	int fd, rc = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	if (fstat(fd, &st))
		rc = err_errno(e, -errno, "cannot stat %s", path);
	else {
		f->size = (u64)st.st_size;
		f->mtime_ns = (u64)st.st_mtim.tv_sec * 1000000000 +
			      (u64)st.st_mtim.tv_nsec;
		f->crc = 0;
		if (crc)
			rc = manifest_crc(fd, f->size, &f->crc);
		if (rc)
			err_errno(e, rc, "cannot read %s", path);
	}
	close(fd);
	return rc;
}

static void manifest_put_options(FILE *out, const char *dir)
{
	char path[PATH_MAX], line[256];
	FILE *in;

	snprintf(path, sizeof(path), "%s/options", dir);
	in = fopen(path, "re");
	if (!in)
		return;
	while (fgets(line, sizeof(line), in))
		fprintf(out, "option %s", line);
	fclose(in);
	unlink(path);
}

static int manifest_put_files(FILE *out, const char *dir, struct err *e)
{
	struct dirent *d;
	DIR *files = opendir(dir);
	int rc = 0;

	if (!files)
		return err_errno(e, -errno, "cannot read folder %s", dir);
	while (!rc && (d = readdir(files))) {
		struct file_facts f;

		if (d->d_name[0] == '.' || !strncmp(d->d_name, "manifest", 8))
			continue;
		rc = manifest_facts(dir, d->d_name, true, &f, e);
		if (!rc)
			fprintf(out, "file %s %lu %lu %08x\n", d->d_name,
				f.size, f.mtime_ns, f.crc);
	}
	closedir(files);
	return rc;
}

int manifest_write(const char *dir, struct err *e)
{
	char path[PATH_MAX], tmp[PATH_MAX + 8];
	FILE *out;
	int rc;

	snprintf(path, sizeof(path), "%s/manifest", dir);
	snprintf(tmp, sizeof(tmp), "%s.new", path);
	out = fopen(tmp, "we");
	if (!out)
		return err_errno(e, -errno, "cannot write %s", tmp);
	fprintf(out, "format 1\n");
	manifest_put_options(out, dir);
	rc = manifest_put_files(out, dir, e);
	if (!rc && (fflush(out) || fsync(fileno(out))))
		rc = err_errno(e, -errno, "cannot write %s", tmp);
	fclose(out);
	if (!rc && rename(tmp, path))
		rc = err_errno(e, -errno, "cannot rename %s", tmp);
	if (rc)
		unlink(tmp);
	return rc;
}

static int manifest_check_file(const char *dir, const char *line, bool deep,
			       struct err *e)
{
	struct file_facts want, is = {0};
	char name[NAME_MAX + 1];
	int rc;

	if (sscanf(line, "file %255s %" SCNu64 " %" SCNu64 " %x", name,
		   &want.size, &want.mtime_ns, &want.crc) != 4 ||
	    strchr(name, '/'))
		return err_set(e, -EINVAL, "%s/manifest is broken", dir);
	deep |= want.size <= MANIFEST_SHALLOW;
	rc = manifest_facts(dir, name, deep, &is, e);
	if (rc)
		return rc;
	if (is.size != want.size || (deep && is.crc != want.crc) ||
	    (!deep && is.mtime_ns != want.mtime_ns))
		return err_set(e, -EINVAL, "%s/%s is not as it was made", dir,
			       name);
	return 0;
}

static void manifest_option(char *line,
			    void (*option)(void *arg, const char *name,
					   const char *value),
			    void *arg)
{
	char *value = strchr(line, ' ');

	if (value)
		*value++ = 0;
	if (option)
		option(arg, line, value ? value : "");
}

int manifest_check(const char *dir, bool deep,
		   void (*option)(void *arg, const char *name,
				  const char *value),
		   void *arg, struct err *e)
{
	char path[PATH_MAX], line[512];
	int rc = 0, files = 0;
	FILE *in;

	snprintf(path, sizeof(path), "%s/manifest", dir);
	in = fopen(path, "re");
	if (!in)
		return err_errno(e, -errno, "cannot open %s", path);
	if (!fgets(line, sizeof(line), in) || strcmp(line, "format 1\n"))
		rc = err_set(e, -EINVAL, "%s is not of format 1", path);
	while (!rc && fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "option ", 7))
			manifest_option(line + 7, option, arg);
		else if (!strncmp(line, "file ", 5)) {
			rc = manifest_check_file(dir, line, deep, e);
			files++;
		}
	}
	fclose(in);
	if (!rc && !files)
		rc = err_set(e, -EINVAL, "%s lists no files", path);
	return rc;
}
