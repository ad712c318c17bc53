/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux's userfaultfd: who touches memory that is registered sleeps in the
 * kernel until another thread, or process, has put the page there (ioctl_
 * userfaultfd(2)).
 */
#ifndef MEM_UFFD_H
#define MEM_UFFD_H

#include "base/err.h"
#include "base/types.h"

/*
 * A descriptor with these UFFD_FEATURE_*, close-on-exec and non-blocking; the
 * caller's. -EPERM where the host does not let us have one, -ENOTSUP where the
 * kernel lacks a feature.
 */
int uffd_open(u64 features, struct err *e);
/* UFFDIO_REGISTER_MODE_* for [base, base + len). */
int uffd_register(int fd, const void *base, u64 len, u64 mode, struct err *e);
/* Whoever waits goes on, with zeros where nothing was put. */
void uffd_unregister(int fd, const void *base, u64 len);
/* Puts pages in that are not there yet and wakes who waits for any of them;
 * from NULL: zeros. -errno. */
int uffd_put(int fd, void *to, const void *from, u64 len);

#endif
