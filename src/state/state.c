/* SPDX-License-Identifier: BSD-2-Clause */
#include "state/state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The host is little-endian x86-64: an element's bytes are its wire form. */
static u64 state_get(const void *p, unsigned n)
{
	u64 v = 0;

	memcpy(&v, p, n);
	return v;
}

u64 state_size(const struct state_desc *d)
{
	u64 n = 0;

	for (u32 i = 0; i < d->nfields; i++)
		n += (u64)d->fields[i].esize * d->fields[i].count;
	return n;
}

u64 state_save(const struct state_desc *d, const void *regs, u8 *out)
{
	u64 n = 0;

	for (u32 i = 0; i < d->nfields; i++) {
		const struct state_field *f = &d->fields[i];
		u64 len = (u64)f->esize * f->count;

		memcpy(out + n, (const u8 *)regs + f->off, len);
		n += len;
	}
	return n;
}

static int state_parse(const struct state_desc *d, u8 *tmp, const u8 *in,
		       u64 len, u32 version, struct err *e)
{
	u64 n = 0;

	for (u32 i = 0; i < d->nfields; i++) {
		const struct state_field *f = &d->fields[i];
		u64 flen = (u64)f->esize * f->count;

		if (f->since > version)
			continue;
		if (n + flen > len)
			return err_set(e, -EPROTO,
				       "%s: record ends before field %s",
				       d->name, f->name);
		memcpy(tmp + f->off, in + n, flen);
		n += flen;
	}
	if (n != len)
		return err_set(e, -EPROTO, "%s: %lu bytes too many", d->name,
			       len - n);
	return d->check ? d->check(tmp, e) : 0;
}

int state_load(const struct state_desc *d, void *regs, const u8 *in, u64 len,
	       u32 version, struct err *e)
{
	u8 *tmp;
	int rc;

	if (version > d->version || !version)
		return err_set(e, -ENOTSUP,
			       "%s: record of version %u, known up to %u",
			       d->name, version, d->version);
	tmp = calloc(1, d->size);
	if (!tmp)
		return err_set(e, -ENOMEM, "%s: out of memory", d->name);
	rc = state_parse(d, tmp, in, len, version, e);
	if (!rc)
		memcpy(regs, tmp, d->size);
	free(tmp);
	return rc;
}

bool state_covers(const struct state_desc *d)
{
	u8 *seen = calloc(1, d->size);
	bool ok = seen != NULL;

	for (u32 i = 0; ok && i < d->nfields; i++) {
		const struct state_field *f = &d->fields[i];
		u64 end = f->off + (u64)f->esize * f->count;

		if (end > d->size)
			ok = false;
		for (u64 b = f->off; ok && b < end; b++)
			seen[b]++;
	}
	for (u32 b = 0; ok && b < d->size; b++)
		ok = seen[b] == 1;
	free(seen);
	return ok;
}

bool state_text(const struct state_desc *d, const void *regs, u32 n, char *buf,
		size_t size)
{
	for (u32 i = 0; i < d->nfields; n -= d->fields[i++].count) {
		const struct state_field *f = &d->fields[i];
		char index[16] = "";

		if (n >= f->count)
			continue;
		if (f->count > 1)
			snprintf(index, sizeof(index), "[%u]", n);
		snprintf(buf, size, "%s%s = %#lx", f->name, index,
			 state_get((const u8 *)regs + f->off + n * f->esize,
				   f->esize));
		return true;
	}
	return false;
}
