/* SPDX-License-Identifier: BSD-2-Clause */
/* Reading and writing all of a range of a file. Any thread. */
#ifndef BASE_FILE_H
#define BASE_FILE_H

#include "base/types.h"

/* All len bytes at off, or -errno; -EIO where the file ends. */
int file_read_at(int fd, void *buf, u64 len, u64 off);
int file_write_at(int fd, const void *buf, u64 len, u64 off);

#endif
