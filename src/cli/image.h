/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images: folders $XDG_CACHE_HOME/sublet/images/NAME/ with kernel, initrd,
 * cmdline, perhaps disk.raw, and a manifest with checksums, written last. A
 * running VM never writes to them. See docs/images.md.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <limits.h>

#include "base/err.h"
#include "base/types.h"

struct image {
	char name[64];
	char dir[PATH_MAX];
	char kernel[PATH_MAX + 16];
	char initrd[PATH_MAX + 16]; /* "" : none */
	char disk[PATH_MAX + 16];   /* "" : none; for a private overlay */
	char cmdline[2048];
	u64 memory;         /* bytes it asks for; 0: the default will do */
	bool takes_command; /* its init speaks the org.sublet.* ports */
	u32 recipe;         /* recipe_crc() of what it was made by */
};

/*
 * Finds the image and checks it; a built-in one that is missing, half made or
 * broken is made again, with progress lines on stderr; so is one of an earlier
 * version, unless it has a disk, on which snapshots may stand.
 */
int image_open(const char *name, struct image *out, struct err *e);

#endif
