/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/pager_handler.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int handler_connect(const char *path, struct err *e)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd, rc;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, -ENAMETOOLONG,
			       "the name of the memory handler's socket has "
			       "more than %zu bytes: %.200s",
			       sizeof(a.sun_path) - 1, path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket");
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	rc = err_errno(e, -errno, "no memory handler listens at %s", path);
	close(fd);
	return rc;
}

/* The memory is one mapping of one file: one region. */
static char *handler_regions(const struct mem *m)
{
	json_t *j = json_pack("[{s:I, s:I, s:I, s:I, s:I}]",
			      "base_host_virt_addr", (json_int_t)m->base,
			      "size", (json_int_t)m->size, "offset",
			      (json_int_t)0, "page_size", (json_int_t)PAGE_SIZE,
			      "page_size_kib", (json_int_t)PAGE_SIZE);
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

	json_decref(j);
	return text;
}

static int handler_send(int fd, char *text, int uffd)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {{0}};
	struct iovec iov = {text, strlen(text)};
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	ssize_t n;

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &uffd, sizeof(int));
	n = sendmsg(fd, &m, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return (u64)n == iov.iov_len ? 0 : -EIO;
}

int pager_handshake(const char *path, const struct mem *m, int uffd,
		    struct err *e)
{
	int fd = handler_connect(path, e), rc;
	char *text;

	if (fd < 0)
		return fd;
	text = handler_regions(m);
	rc = text ? handler_send(fd, text, uffd) : -ENOMEM;
	free(text);
	if (!rc)
		return fd;
	close(fd);
	return err_errno(e, rc, "cannot talk to the memory handler at %s",
			 path);
}
