/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

void *buf_grow(struct buf *b, u64 len)
{
	u64 cap = b->cap ? b->cap : 4096;
	u8 *p;

	if (b->failed || len > BIT64(62) - b->len)
		goto fail;
	while (cap < b->len + len)
		cap *= 2;
	if (cap != b->cap) {
		p = realloc(b->data, cap);
		if (!p)
			goto fail;
		b->data = p;
		b->cap = cap;
	}
	p = b->data + b->len;
	memset(p, 0, len);
	b->len += len;
	return p;
fail:
	b->failed = true;
	return NULL;
}

void buf_add(struct buf *b, const void *data, u64 len)
{
	void *p = buf_grow(b, len);

	if (p && len)
		memcpy(p, data, len);
}

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}
