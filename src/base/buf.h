/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Bytes that grow: what is written for a file or a stream. A failed
 * allocation is remembered, so that a writer checks once, at the end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/types.h"

struct buf {
	u8 *data; /* len bytes; owned */
	u64 len, cap;
	bool failed; /* no memory: data is what fitted before */
};

/* len more bytes at the end, zero, or NULL. Valid until the next growth. */
void *buf_grow(struct buf *b, u64 len);
void buf_add(struct buf *b, const void *data, u64 len);
void buf_free(struct buf *b); /* empty again */

#endif
