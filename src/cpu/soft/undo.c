/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/soft/undo.h"

#include <string.h>

void undo_begin(struct soft_undo *u)
{
	u->on = true;
	u->full = u->walked = false;
	u->n = u->used = 0;
}

void undo_note(struct soft_undo *u, void *host, u64 n)
{
	if (!u->on)
		return;
	if (u->n == UNDO_WRITES || n > UNDO_BYTES - u->used) {
		u->full = true;
		return;
	}
	u->w[u->n++] = (struct undo_write){host, (u32)n, u->used};
	memcpy(u->before + u->used, host, n);
	u->used += (u32)n;
}

void undo_end(struct soft_undo *u)
{
	u->on = false;
	for (u32 k = 0; k < u->n; k++)
		memcpy(u->after + u->w[k].at, u->w[k].host, u->w[k].n);
}

bool undo_has(const struct soft_undo *u, const void *host)
{
	const u8 *at = host;

	for (u32 k = 0; k < u->n; k++)
		if (at >= u->w[k].host && at < u->w[k].host + u->w[k].n)
			return true;
	return false;
}

/* The last first: of bytes written twice the oldest value counts. */
void undo_roll_back(struct soft_undo *u)
{
	for (u32 k = u->n; k-- > 0;)
		memcpy(u->w[k].host, u->before + u->w[k].at, u->w[k].n);
}
