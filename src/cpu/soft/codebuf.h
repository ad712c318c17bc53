/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for generated code. It is mapped twice: a view that may be
 * written and a view that may be executed, at different addresses; no mapping
 * is ever both. Code is position-independent or knows codebuf_exec().
 *
 * A bump allocator: p = codebuf_alloc() gives room in the writable view, the
 * code is written there and runs at codebuf_exec(b, p). codebuf_reset() gives
 * everything back at once. One thread at a time.
 */
#ifndef CPU_SOFT_CODEBUF_H
#define CPU_SOFT_CODEBUF_H

#include "base/err.h"
#include "base/types.h"

struct codebuf {
	u8 *write;      /* writable view */
	const u8 *exec; /* executable view */
	size_t size, used;
};

/* size is a multiple of 4 KiB; pages are only taken when written. */
int codebuf_init(struct codebuf *b, size_t size, struct err *e);
void codebuf_fini(struct codebuf *b); /* also after a failed init */

/* n bytes aligned to align (a power of two), or NULL if the buffer is full. */
u8 *codebuf_alloc(struct codebuf *b, size_t n, size_t align);
void codebuf_reset(struct codebuf *b);
/* What is free goes back to the host, until it is written again. */
void codebuf_trim(struct codebuf *b);

/* Where what was written at p is executed. */
static inline const void *codebuf_exec(const struct codebuf *b, const u8 *p)
{
	return b->exec + (p - b->write);
}

/* Whether a host address (of a fault) lies in the code. */
static inline bool codebuf_holds(const struct codebuf *b, const void *p)
{
	return (size_t)((const u8 *)p - b->exec) < b->size;
}

/*
 * To be called before code runs at an address where other code has already
 * run on this thread since the last reset or change.
 */
void codebuf_serialize(void);

#endif
