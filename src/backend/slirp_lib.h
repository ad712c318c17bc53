/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libslirp, loaded when first needed: with the libraries it needs itself it
 * takes more memory than the rest of the monitor.
 */
#ifndef BACKEND_SLIRP_LIB_H
#define BACKEND_SLIRP_LIB_H

#include <libslirp.h>

#include "base/err.h"

/* What we use of it. X(name) */
#define SLIRP_LIB_CALLS(X) \
	X(add_hostfwd)     \
	X(cleanup)         \
	X(input)           \
	X(new)             \
	X(pollfds_fill)    \
	X(pollfds_poll)

struct slirp_lib {
#define X(name) __typeof__(slirp_##name) *name;
	SLIRP_LIB_CALLS(X)
#undef X
};

/* The library, for ever; NULL and why. Any thread. */
const struct slirp_lib *slirp_lib(struct err *e);

#endif
