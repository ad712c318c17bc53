/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images: folders $XDG_CACHE_HOME/sublet/images/NAME/ with kernel, initrd,
 * cmdline, perhaps disk.raw, and a manifest with checksums. A running VM
 * never writes to them.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <limits.h>

#include "base/err.h"

struct image {
	char kernel[PATH_MAX];
	char initrd[PATH_MAX]; /* "" : none */
	char disk[PATH_MAX];   /* "" : none; to be attached as a private copy */
	char cmdline[2048];
};

/*
 * Finds the image and checks it; a built-in one that is missing, half made or
 * broken is made again, with progress lines on stderr.
 */
int image_open(const char *name, struct image *out, struct err *e);

#endif
