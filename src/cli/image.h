/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Images: folders in the user's cache ($XDG_CACHE_HOME/sublet/images/NAME, or
 * ~/.cache/...) that hold a kernel, an initrd, a command line and perhaps a
 * disk. A running VM never writes them. The manifest, written last, lists
 * each file's size and checksum: a folder without one, or with one that does
 * not fit, is not an image and is made anew. See docs/images.md.
 */
#ifndef CLI_IMAGE_H
#define CLI_IMAGE_H

#include <limits.h>

#include "base/err.h"

struct image {
	char name[64];
	char dir[PATH_MAX];
	char kernel[PATH_MAX];
	char initrd[PATH_MAX];
	char disk[PATH_MAX]; /* "": none; raw, to be used with an overlay */
	char cmdline[2048];
	u64 default_memory; /* bytes */
	bool takes_command; /* its init speaks the org.sublet.* ports */
};

/*
 * Finds an image by name. A built-in one ("tiny", "debian") that is missing or
 * broken is made first, with progress lines on stderr. -ENOENT: no such image.
 */
int image_open(struct image *img, const char *name, struct err *e);

/* The verb "sublet image create|list|check|remove"; an exit code. */
int image_main(int argc, char **argv);

#endif
