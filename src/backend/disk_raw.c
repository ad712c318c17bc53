/* SPDX-License-Identifier: BSD-2-Clause */
/* A file or block device as it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backend/disk_aio.h"
#include "base/file.h"
#include "base/log.h"

struct raw {
	struct disk d;
	int fd;
	char *path; /* NULL: never locked */
	struct aio aio;
};

static void raw_settled(void *arg)
{
	struct raw *w = arg;

	if (w->d.settled)
		w->d.settled(w->d.settled_arg);
}

static int raw_start(struct disk *d, struct loop *l, struct err *e)
{
	struct raw *w = (struct raw *)d;

	return aio_init(&w->aio, l, raw_settled, w, e);
}

static void raw_submit(struct disk *d, struct disk_req *r)
{
	struct raw *w = (struct raw *)d;

	r->fd = w->fd;
	aio_submit(&w->aio, r);
}

static void raw_kick(struct disk *d)
{
	aio_kick(&((struct raw *)d)->aio);
}

static void raw_free(struct disk *d)
{
	struct raw *w = (struct raw *)d;

	aio_fini(&w->aio);
	close(w->fd);
	free(w->path);
}

static int raw_lock(int fd, const char *path, bool readonly, struct err *e);

static int raw_peek(struct disk *d, u64 off, void *buf, u64 len)
{
	return file_read_at(((struct raw *)d)->fd, buf, len, off);
}

static int raw_sync(struct disk *d)
{
	struct raw *w = (struct raw *)d;

	return d->readonly || !fdatasync(w->fd) ? 0 : -errno;
}

static int raw_relock(struct disk *d, bool on, struct err *e)
{
	struct flock off = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
	struct raw *w = (struct raw *)d;

	if (!w->path)
		return 0;
	if (on)
		return raw_lock(w->fd, w->path, d->readonly, e);
	if (raw_sync(d))
		return err_errno(e, -errno, "disk %s", w->path);
	fcntl(w->fd, F_OFD_SETLK, &off);
	return 0;
}

static const struct disk_ops raw_ops = {
	.start = raw_start,
	.submit = raw_submit,
	.kick = raw_kick,
	.lock = raw_relock,
	.sync = raw_sync,
	.peek = raw_peek,
	.free = raw_free,
};

struct disk *disk_raw_new(int fd, u64 size, struct err *e)
{
	struct raw *w = calloc(1, sizeof(*w));

	if (!w) {
		close(fd);
		err_set(e, -ENOMEM, "no memory for a disk");
		return NULL;
	}
	w->fd = fd;
	w->d.ops = &raw_ops;
	w->d.size = ALIGN_DOWN(size, (u64)DISK_SECTOR);
	w->d.block = DISK_SECTOR;
	w->d.physical = PAGE_SIZE;
	return &w->d;
}

/* Locks of the open file: they end with it, however the process ends. */
static int raw_lock(int fd, const char *path, bool readonly, struct err *e)
{
	struct flock lock = {
		.l_type = readonly ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
	};

	if (!fcntl(fd, F_OFD_SETLK, &lock))
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(e, -EBUSY,
			       "disk %s is in use by another virtual machine",
			       path);
	log_warn("disk %s cannot be locked; take care", path);
	return 0;
}

static int raw_measure(int fd, const char *path, u64 *size, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_errno(e, -errno, "disk %s", path);
	if (S_ISDIR(st.st_mode))
		return err_set(e, -EISDIR, "disk %s is a directory", path);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, size))
			return err_errno(e, -errno, "size of disk %s", path);
	} else if (S_ISREG(st.st_mode)) {
		*size = (u64)st.st_size;
	} else {
		return err_set(e, -ENOTBLK,
			       "disk %s is neither a file nor a block device",
			       path);
	}
	if (*size < DISK_SECTOR)
		return err_set(e, -EINVAL, "disk %s is empty", path);
	return 0;
}

struct disk *disk_raw_open_unlocked(const char *path, bool readonly,
				    struct err *e)
{
	/* O_NONBLOCK: a FIFO must not hold us up */
	int fd = open(path, (readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC |
				    O_NOCTTY | O_NONBLOCK);
	struct disk *d;
	u64 size;

	if (fd < 0) {
		err_errno(e, -errno, "cannot open disk %s", path);
		return NULL;
	}
	if (raw_measure(fd, path, &size, e)) {
		close(fd);
		return NULL;
	}
	if (size % DISK_SECTOR)
		log_warnx("disk %s: its last %u bytes are no whole sector",
			  path, (unsigned)(size % DISK_SECTOR));
	d = disk_raw_new(fd, size, e);
	if (!d)
		return NULL;
	d->readonly = readonly;
	((struct raw *)d)->path = strdup(path);
	if (((struct raw *)d)->path)
		return d;
	err_set(e, -ENOMEM, "no memory for a disk");
	disk_free(d);
	return NULL;
}

struct disk *disk_raw_open(const char *path, bool readonly, struct err *e)
{
	struct disk *d = disk_raw_open_unlocked(path, readonly, e);

	if (!d || !disk_lock(d, true, e))
		return d;
	disk_free(d);
	return NULL;
}
