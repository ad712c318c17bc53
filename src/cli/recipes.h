/* SPDX-License-Identifier: BSD-2-Clause */
/* The built-in images' recipes: shell scripts of images/, in the binary. */
#ifndef CLI_RECIPES_H
#define CLI_RECIPES_H

#include "base/types.h"

struct recipe {
	const char *name, *what; /* what: a phrase for lists */
	const char *script;      /* text, images/common.sh not included */
	u64 need;                /* bytes of disk while it is made */
};

extern const struct recipe recipes[]; /* ends with name NULL */
extern const char recipe_common[];

const struct recipe *recipe_find(const char *name);

/* Puts programs for the guest into the recipe's scratch folder. */
int recipe_put_files(const char *folder);

/* Checksum of all that the image is made by. */
u32 recipe_crc(const struct recipe *r);

#endif
