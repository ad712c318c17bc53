/* SPDX-License-Identifier: BSD-2-Clause */
/* Files into memory: the kernel, initrd and modules, the command line. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "platform/boot_priv.h"

/* Opens a regular, non-empty file; returns the fd. */
static int boot_open(const char *path, u64 *len, struct err *e)
{
	struct stat st;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	if (fstat(fd, &st))
		rc = err_errno(e, -errno, "cannot look at %s", path);
	else if (S_ISDIR(st.st_mode))
		rc = err_set(e, -EISDIR, "%s is a directory", path);
	else if (!S_ISREG(st.st_mode))
		rc = err_set(e, -EINVAL, "%s is not a regular file", path);
	else if (st.st_size == 0)
		rc = err_set(e, -EINVAL, "%s is empty", path);
	else {
		*len = (u64)st.st_size;
		return fd;
	}
	close(fd);
	return rc;
}

static int boot_read(int fd, const char *path, u8 *buf, u64 len, struct err *e)
{
	for (u64 at = 0; at < len;) {
		ssize_t n = pread(fd, buf + at, len - at, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(e, -errno, "cannot read %s", path);
		if (n == 0)
			return err_set(e, -EIO,
				       "%s became shorter while it "
				       "was read",
				       path);
		at += (u64)n;
	}
	return 0;
}

int boot_read_file(const char *path, u8 **out, u64 *len, struct err *e)
{
	int fd = boot_open(path, len, e);
	int rc;

	if (fd < 0)
		return fd;
	if (*len > BOOT_FILE_MAX) {
		close(fd);
		return err_set(e, -EFBIG, "%s is too big for a kernel", path);
	}
	*out = malloc(*len);
	if (!*out)
		rc = err_set(e, -ENOMEM, "no memory to read %s", path);
	else
		rc = boot_read(fd, path, *out, *len, e);
	close(fd);
	if (rc)
		free(*out);
	return rc;
}

int boot_put(struct boot_ctx *c, gpa_t gpa, const u8 *p, u64 filesz, u64 memsz,
	     struct err *e)
{
	u8 *to;

	if (!memsz)
		return 0;
	if (gpa < BOOT_DATA_END ||
	    (gpa < PC_BIOS_END && gpa + memsz > PC_TABLES_BASE))
		return err_set(e, -ENOEXEC,
			       "%s: wants to be at %#lx, where boot data lies",
			       c->config->kernel, gpa);
	to = mem_ptr(c->mem, gpa, memsz);
	if (!to)
		return err_set(e, -ENOMEM,
			       "%s: needs memory at %#lx to %#lx, which a "
			       "machine of %llu MiB does not have",
			       c->config->kernel, gpa, gpa + memsz,
			       c->mem->size / MIB);
	memcpy(to, p, filesz);
	memset(to + filesz, 0, memsz - filesz);
	mem_written(c->mem, gpa, memsz);
	c->kernel_start = MIN(c->kernel_start, gpa);
	c->kernel_end = MAX(c->kernel_end, gpa + memsz);
	return 0;
}

/*
 * Room for size bytes: as high as can be, or where memory is short, between
 * the first MiB and the kernel. 0: none.
 */
static gpa_t boot_room(struct boot_ctx *c, u64 size, gpa_t limit)
{
	gpa_t top = MIN(c->ceiling, limit);
	gpa_t floor = MAX(c->kernel_end, PC_BIOS_END);

	if (size <= top && ALIGN_DOWN(top - size, PAGE_SIZE) >= floor)
		return c->ceiling = ALIGN_DOWN(top - size, PAGE_SIZE);
	top = MIN(MIN(c->low_ceiling, c->kernel_start), limit);
	if (size <= top && ALIGN_DOWN(top - size, PAGE_SIZE) >= PC_BIOS_END)
		return c->low_ceiling = ALIGN_DOWN(top - size, PAGE_SIZE);
	return 0;
}

int boot_put_file(struct boot_ctx *c, const char *path, gpa_t limit, gpa_t *gpa,
		  u64 *size, struct err *e)
{
	int fd = boot_open(path, size, e);
	int rc;

	if (fd < 0)
		return fd;
	*gpa = boot_room(c, *size, limit);
	if (!*gpa) {
		close(fd);
		return err_set(e, -ENOMEM,
			       "%s: %lu KiB do not fit beside the kernel into "
			       "%llu MiB of memory",
			       path, *size / 1024, c->mem->size / MIB);
	}
	rc = boot_read(fd, path, mem_ptr(c->mem, *gpa, *size), *size, e);
	close(fd);
	mem_written(c->mem, *gpa, *size);
	return rc;
}

/* Puts a 0-terminated string of module arguments; *gpa is where. */
static int boot_put_string(struct boot_ctx *c, const char *s, gpa_t *gpa,
			   struct err *e)
{
	u64 n = strlen(s) + 1;

	if (c->strings + n > BOOT_STRINGS_END)
		return err_set(e, -E2BIG, "module arguments are too long");
	*gpa = c->strings;
	mem_write(c->mem, *gpa, s, n);
	c->strings += n;
	return 0;
}

/* spec: "FILE[ ARGUMENTS]" */
static int boot_put_module(struct boot_ctx *c, const char *spec, bool names,
			   struct boot_module *out, struct err *e)
{
	const char *space = strchr(spec, ' ');
	size_t n = space ? (size_t)(space - spec) : strlen(spec);
	const char *args = space ? space + 1 : "";
	char *path = strndup(spec, n);
	int rc;

	if (!path)
		return err_set(e, -ENOMEM, "no memory for a module");
	rc = boot_put_file(c, path, PC_HOLE_BASE, &out->gpa, &out->size, e);
	free(path);
	if (rc)
		return rc;
	return boot_put_string(c, names ? spec : args, &out->cmdline, e);
}

int boot_put_modules(struct boot_ctx *c, struct boot_module *mods, unsigned *n,
		     bool names, struct err *e)
{
	const struct boot_config *b = c->config;
	int rc = 0;

	*n = 0;
	if (b->initrd)
		rc = boot_put_module(c, b->initrd, names, &mods[(*n)++], e);
	for (unsigned i = 0; !rc && i < b->nmodules; i++)
		rc = boot_put_module(c, b->modules[i], names, &mods[(*n)++], e);
	return rc;
}

int boot_put_cmdline(struct boot_ctx *c, const char *prefix, u64 max,
		     struct err *e)
{
	const char *s = c->config->cmdline ? c->config->cmdline : "";
	u64 n = strlen(s), np = strlen(prefix);

	max = MIN(max, BOOT_CMDLINE_MAX - 1);
	if (n + np > max)
		return err_set(e, -E2BIG,
			       "the command line has %lu characters; this "
			       "kernel takes %lu at most",
			       n, max - MIN(max, np));
	mem_write(c->mem, BOOT_CMDLINE, prefix, np);
	mem_write(c->mem, BOOT_CMDLINE + np, s, n + 1);
	return 0;
}

unsigned boot_memory_map(const struct mem *m, struct boot_range *r)
{
	unsigned n = 0;

	r[n++] = (struct boot_range){0, BOOT_EBDA, 1};
	r[n++] = (struct boot_range){BOOT_EBDA, PC_VGA_HOLE - BOOT_EBDA, 2};
	r[n++] = (struct boot_range){PC_TABLES_BASE,
				     PC_BIOS_END - PC_TABLES_BASE, 2};
	r[n++] = (struct boot_range){PC_BIOS_END, pc_ram_low(m) - PC_BIOS_END,
				     1};
	r[n++] = (struct boot_range){PC_ECAM_BASE, PC_ECAM_SIZE, 2};
	if (pc_ram_high(m))
		r[n++] = (struct boot_range){PC_HIGH_BASE, pc_ram_high(m), 1};
	return n;
}
