/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/slirp_lib.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>

#define SLIRP_LIB "libslirp.so.0"

static struct slirp_lib slirp_calls;
static bool slirp_loaded;
static pthread_once_t slirp_once = PTHREAD_ONCE_INIT;

static void slirp_load(void)
{
	static const struct {
		const char *name;
		size_t offset;
	} rows[] = {
#define X(name) {"slirp_" #name, offsetof(struct slirp_lib, name)},
		SLIRP_LIB_CALLS(X)
#undef X
	};
	void *lib = dlopen(SLIRP_LIB, RTLD_NOW | RTLD_LOCAL);

	for (size_t i = 0; lib && i < ARRAY_LEN(rows); i++) {
		void *p = dlsym(lib, rows[i].name);

		if (!p)
			return;
		memcpy((u8 *)&slirp_calls + rows[i].offset, &p, sizeof(p));
	}
	slirp_loaded = lib;
}

const struct slirp_lib *slirp_lib(struct err *e)
{
	pthread_once(&slirp_once, slirp_load);
	if (slirp_loaded)
		return &slirp_calls;
	err_set(e, -ENOENT,
		"the user-mode network needs " SLIRP_LIB " (Debian package "
		"libslirp0); --net none does without");
	return NULL;
}
