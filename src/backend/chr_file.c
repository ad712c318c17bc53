/* SPDX-License-Identifier: BSD-2-Clause */
/* Output to a file, written through at once: what a guest said is on record
 * even if the host dies. What the disk does not take is dropped. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "backend/chr.h"
#include "base/log.h"

struct chr_file {
	struct chr chr;
	int fd;
	bool failed; /* atomic; told once */
};

static size_t chr_file_write(struct chr *c, const void *buf, size_t n)
{
	struct chr_file *f = (struct chr_file *)c;
	size_t done = 0;

	while (done < n) {
		ssize_t w = write(f->fd, (const u8 *)buf + done, n - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			if (!__atomic_exchange_n(&f->failed, true,
						 __ATOMIC_RELAXED))
				log_warn("console output is lost");
			break;
		}
		done += (size_t)w;
	}
	return done;
}

static void chr_file_free(struct chr *c)
{
	struct chr_file *f = (struct chr_file *)c;

	close(f->fd);
	free(f);
}

static const struct chr_ops chr_file_ops = {
	.write = chr_file_write,
	.free = chr_file_free,
};

struct chr *chr_file_new(const char *path, struct err *e)
{
	struct chr_file *f = calloc(1, sizeof(*f));

	if (!f) {
		err_set(e, -ENOMEM, "no memory for console file %s", path);
		return NULL;
	}
	f->chr.ops = &chr_file_ops;
	f->fd = open(path,
		     O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC |
			     O_NOCTTY,
		     0600);
	if (f->fd < 0) {
		err_errno(e, -errno, "cannot write console file %s", path);
		free(f);
		return NULL;
	}
	return &f->chr;
}
