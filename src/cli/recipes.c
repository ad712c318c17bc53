/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/recipes.h"

#include <stddef.h>
#include <string.h>

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

const struct recipe *recipe_find(const char *name)
{
	for (const struct recipe *r = recipes; r->name; r++)
		if (!strcmp(r->name, name))
			return r;
	return NULL;
}
