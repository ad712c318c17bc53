/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/recipes.h"

#include <stddef.h>
#include <string.h>
#include <zlib.h>

/* Puts a file's bytes and a final NUL under a symbol. Paths start at the
 * root of the tree, where the compiler runs. */
#define EMBED(symbol, path)                          \
	__asm__(".pushsection .rodata\n"             \
		".globl " #symbol "\n" #symbol ":\n" \
		".incbin \"" path "\"\n"             \
		".byte 0\n"                          \
		".popsection\n")

EMBED(recipe_common, "images/common.sh");
EMBED(recipe_tiny, "images/tiny.sh");
EMBED(recipe_debian, "images/debian.sh");

extern const char recipe_tiny[], recipe_debian[];

const struct recipe recipes[] = {
	{"tiny", "Debian's cloud kernel and busybox", recipe_tiny, 256 * MIB},
	{"debian", "Debian 12 with systemd on a disk", recipe_debian,
	 1536 * MIB},
	{NULL, NULL, NULL, 0},
};

u32 recipe_crc(const struct recipe *r)
{
	u32 crc = (u32)crc32(0, (const u8 *)recipe_common,
			     (unsigned)strlen(recipe_common));

	return (u32)crc32(crc, (const u8 *)r->script,
			  (unsigned)strlen(r->script));
}

const struct recipe *recipe_find(const char *name)
{
	for (const struct recipe *r = recipes; r->name; r++)
		if (!strcmp(r->name, name))
			return r;
	return NULL;
}
