/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "mem/uffd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By the system call, or by the device, which has permissions of its own. */
static int uffd_new(void)
{
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), dev;

	if (fd >= 0)
		return fd;
	dev = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (dev < 0)
		return -1;
	fd = ioctl(dev, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);
	close(dev);
	return fd;
}

int uffd_open(u64 features, struct err *e)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	int fd = uffd_new();

	if (fd < 0)
		return err_set(e, -EPERM,
			       "this host does not let us use userfaultfd "
			       "(root may, and others with "
			       "vm.unprivileged_userfaultfd=1)");
	if (!ioctl(fd, UFFDIO_API, &api))
		return fd;
	close(fd);
	return err_set(e, -ENOTSUP,
		       "this kernel's userfaultfd cannot do it (features %#lx)",
		       features);
}

int uffd_register(int fd, const void *base, u64 len, u64 mode, struct err *e)
{
	struct uffdio_register r = {.range = {(u64)base, len}, .mode = mode};

	if (ioctl(fd, UFFDIO_REGISTER, &r))
		return err_errno(e, -errno,
				 "userfaultfd does not take guest memory");
	return 0;
}

void uffd_unregister(int fd, const void *base, u64 len)
{
	struct uffdio_range all = {(u64)base, len};

	ioctl(fd, UFFDIO_UNREGISTER, &all);
}

/* Bytes that are in, or -errno. */
static s64 uffd_put_some(int fd, u64 to, const void *from, u64 len)
{
	struct uffdio_copy copy = {.dst = to, .src = (u64)from, .len = len};
	struct uffdio_zeropage zero = {.range = {to, len}};

	if (!from)
		return ioctl(fd, UFFDIO_ZEROPAGE, &zero) ? zero.zeropage
							 : (s64)len;
	return ioctl(fd, UFFDIO_COPY, &copy) ? copy.copy : (s64)len;
}

/* A page that is there already stays as it is. */
int uffd_put(int fd, void *to, const void *from, u64 len)
{
	u64 done = 0;

	while (done < len) {
		const u8 *src = from ? (const u8 *)from + done : NULL;
		s64 n = uffd_put_some(fd, (u64)to + done, src, len - done);

		if (n == -EEXIST) {
			struct uffdio_range page = {(u64)to + done, PAGE_SIZE};

			ioctl(fd, UFFDIO_WAKE, &page);
			n = PAGE_SIZE;
		}
		if (n < 0 && n != -EAGAIN)
			return (int)n;
		done += (u64)MAX(n, 0);
	}
	return 0;
}
