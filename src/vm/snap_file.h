/* SPDX-License-Identifier: BSD-2-Clause */
/* Files of a snapshot: whole reads and writes, the folder that appears. */
#ifndef VM_SNAP_FILE_H
#define VM_SNAP_FILE_H

#include <jansson.h>

#include "base/err.h"
#include "base/types.h"

/* The folder while it is being made, beside where it will be. */
struct snap_dir {
	char *path, *temp;
	int fd;
};

int snap_dir_new(struct snap_dir *d, const char *path, struct err *e);
/* On stable storage and renamed. */
int snap_dir_done(struct snap_dir *d, struct err *e);
/* Removes what was not done. */
void snap_dir_free(struct snap_dir *d);
/* A snapshot's files and its folder; nothing else in it. */
void snap_remove(const char *path);

int snap_create(int dirfd, const char *name, struct err *e); /* fd */
int snap_write(int dirfd, const char *name, const void *data, u64 len,
	       struct err *e);
/* fd of a regular file of that size. */
int snap_open_file(int dirfd, const char *name, u64 size, struct err *e);
/* A whole file of at most max bytes; *out is malloc'ed. */
int snap_read(int dirfd, const char *name, u64 max, u8 **out, u64 *len,
	      struct err *e);

/* A name of this host since it was booted; false: it does not tell. */
#define SNAP_BOOT_ID 40
bool snap_boot_id(char out[SNAP_BOOT_ID]);

/* The manifest's own checksum: of all its members but "crc32c". */
int snap_seal(json_t *manifest, struct err *e);
bool snap_sealed(json_t *manifest);

#endif
