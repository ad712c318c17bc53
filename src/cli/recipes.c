/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/recipes.h"

#include <errno.h>
#include <limits.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

/* Puts a file's bytes and a final NUL under a symbol, and their number under
 * symbol_size. Paths start at the root of the tree, where the compiler runs, or
 * among what was generated. */
#define EMBED(symbol, path)                                            \
	__asm__(".pushsection .rodata\n"                               \
		".globl " #symbol ", " #symbol "_size\n" #symbol ":\n" \
		".incbin \"" path "\"\n"                               \
		"1: .byte 0\n"                                         \
		".balign 8\n" #symbol "_size: .quad 1b - " #symbol     \
		"\n.popsection\n")

EMBED(recipe_common, "images/common.sh");
EMBED(recipe_tiny, "images/tiny.sh");
EMBED(recipe_debian, "images/debian.sh");
EMBED(recipe_source, "images/reseed.c");
EMBED(recipe_reseed, "reseed");

extern const char recipe_tiny[], recipe_debian[], recipe_source[];
extern const char recipe_reseed[];
extern const u64 recipe_reseed_size;

const struct recipe recipes[] = {
	{"tiny", "Debian's cloud kernel and busybox", recipe_tiny, 256 * MIB},
	{"debian", "Debian 12 with systemd on a disk", recipe_debian,
	 1536 * MIB},
	{NULL, NULL, NULL, 0},
};

static u32 recipe_add(u32 crc, const char *text)
{
	return (u32)crc32(crc, (const u8 *)text, (unsigned)strlen(text));
}

/* The source, not the program: compilers differ. */
u32 recipe_crc(const struct recipe *r)
{
	u32 crc = recipe_add(recipe_add(0, recipe_common), recipe_source);

	return recipe_add(crc, r->script);
}

int recipe_put_files(const char *folder)
{
	size_t len = recipe_reseed_size;
	char path[PATH_MAX];
	FILE *f;

	snprintf(path, sizeof(path), "%s/reseed", folder);
	f = fopen(path, "we");
	if (!f)
		return -errno;
	if (fwrite(recipe_reseed, 1, len, f) != len) {
		fclose(f);
		return -EIO;
	}
	return fclose(f) ? -errno : 0;
}

const struct recipe *recipe_find(const char *name)
{
	for (const struct recipe *r = recipes; r->name; r++)
		if (!strcmp(r->name, name))
			return r;
	return NULL;
}
