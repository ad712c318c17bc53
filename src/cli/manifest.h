/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * An image's manifest: what its files should be. Text, one item a line:
 *   format 1
 *   option NAME [VALUE]
 *   file NAME SIZE MTIME-NS CRC32
 * Written last (and moved into place whole), so that its presence means that
 * the image is complete.
 */
#ifndef CLI_MANIFEST_H
#define CLI_MANIFEST_H

#include "base/err.h"

/* Writes dir/manifest for the regular files in dir; "options" is a file of
 * option lines that the recipe left, folded in and removed. */
int manifest_write(const char *dir, struct err *e);

/*
 * Compares the files with the manifest: all checksums if deep, else those of
 * files up to 64 MiB (larger ones by size and time). option() is called for
 * each option line; may be NULL.
 */
int manifest_check(const char *dir, bool deep,
		   void (*option)(void *arg, const char *name,
				  const char *value),
		   void *arg, struct err *e);

#endif
