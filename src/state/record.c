/* SPDX-License-Identifier: BSD-2-Clause */
#include "state/record.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define RECORD_MAGIC 0x44434552u

struct record_head {
	u32 magic, crc, length, flags, instance, version, payload;
	u16 nfields;
	u8 name_len, zero;
};

struct record_field_head {
	u8 name_len, esize, since, zero;
	u32 count;
};

_Static_assert(sizeof(struct record_head) == 32, "format");
_Static_assert(sizeof(struct record_field_head) == 8, "format");

/* ---- writing ---- */

static void record_put_field(struct buf *b, const struct state_field *f)
{
	struct record_field_head h = {
		.name_len = (u8)strlen(f->name),
		.esize = (u8)f->esize,
		.since = (u8)f->since,
		.count = f->count,
	};

	ASSERT(strlen(f->name) < RECORD_NAME && f->esize <= 8);
	buf_add(b, &h, sizeof(h));
	buf_add(b, f->name, h.name_len);
}

void record_put(struct buf *b, const char *name, u32 instance, u32 flags,
		const struct state_desc *d, const void *regs)
{
	struct record_head h = {
		.magic = RECORD_MAGIC,
		.flags = flags,
		.instance = instance,
		.version = d->version,
		.payload = (u32)state_size(d),
		.nfields = (u16)d->nfields,
		.name_len = (u8)strlen(name),
	};
	u64 start = b->len;
	u8 *p;

	ASSERT(strlen(name) < RECORD_NAME);
	buf_add(b, &h, sizeof(h));
	buf_add(b, name, h.name_len);
	for (u32 i = 0; i < d->nfields; i++)
		record_put_field(b, &d->fields[i]);
	p = buf_grow(b, h.payload);
	if (!p)
		return;
	state_save(d, regs, p);
	h.length = (u32)(b->len - start);
	memcpy(b->data + start, &h, sizeof(h));
	h.crc = crc32c(0, b->data + start + 8, h.length - 8);
	memcpy(b->data + start, &h, sizeof(h));
}

/* ---- reading ---- */

/* A name of printable characters, so that it can be shown. */
static bool record_name(char *out, const u8 *from, unsigned len)
{
	if (!len || len >= RECORD_NAME)
		return false;
	for (unsigned i = 0; i < len; i++)
		if (from[i] <= ' ' || from[i] > '~')
			return false;
	memcpy(out, from, len);
	out[len] = 0;
	return true;
}

/* The field table's length and the payload it describes. */
static bool record_fields(struct record *r, u64 room, u64 payload)
{
	u64 pos = 0, sum = 0;

	for (unsigned i = 0; i < r->nfields; i++) {
		struct record_field_head h;
		char name[RECORD_NAME];

		if (room - pos < sizeof(h))
			return false;
		memcpy(&h, r->fields + pos, sizeof(h));
		pos += sizeof(h);
		if (room - pos < h.name_len ||
		    !record_name(name, r->fields + pos, h.name_len) ||
		    !h.esize || h.esize > 8 || h.esize & (h.esize - 1) ||
		    !h.since || h.since > r->version || h.zero)
			return false;
		pos += h.name_len;
		sum += (u64)h.esize * h.count;
	}
	r->fields_len = pos;
	r->payload = r->fields + pos;
	r->len = payload;
	return room - pos == payload && sum == payload;
}

int record_parse(const u8 *data, u64 len, u64 *at, struct record *r,
		 struct err *e)
{
	const u8 *p = data + *at;
	u64 room = len - *at;
	struct record_head h;

	memset(r, 0, sizeof(*r));
	if (room < sizeof(h))
		return err_set(e, -EPROTO, "the machine's state is cut off");
	memcpy(&h, p, sizeof(h));
	if (h.magic != RECORD_MAGIC)
		return err_set(e, -EPROTO, "no record where one should be");
	if (h.length > room || h.length < sizeof(h))
		return err_set(e, -EPROTO, "the machine's state is cut off");
	if (crc32c(0, p + 8, h.length - 8) != h.crc)
		return err_set(e, -EBADMSG,
			       "a record of the machine's state is damaged "
			       "(checksum)");
	r->flags = h.flags;
	r->instance = h.instance;
	r->version = h.version;
	r->nfields = h.nfields;
	if (h.length - sizeof(h) < h.name_len || h.zero ||
	    !record_name(r->name, p + sizeof(h), h.name_len))
		return err_set(e, -EPROTO, "a record without a proper name");
	r->fields = p + sizeof(h) + h.name_len;
	if (!record_fields(r, h.length - sizeof(h) - h.name_len, h.payload))
		return err_set(e, -EPROTO, "record %s: its fields are nonsense",
			       r->name);
	*at += h.length;
	return 0;
}

bool record_field(const struct record *r, u64 *pos, u64 *off,
		  struct record_field *f)
{
	struct record_field_head h;

	if (*pos >= r->fields_len)
		return false;
	memcpy(&h, r->fields + *pos, sizeof(h));
	record_name(f->name, r->fields + *pos + sizeof(h), h.name_len);
	f->esize = h.esize;
	f->count = h.count;
	f->since = h.since;
	f->data = r->payload + *off;
	*pos += sizeof(h) + h.name_len;
	*off += (u64)h.esize * h.count;
	return true;
}

/* Same names and sizes in the same order, as of the record's version. */
static int record_same(const struct record *r, const struct state_desc *d,
		       struct err *e)
{
	struct record_field f;
	u64 pos = 0, off = 0;

	if (!r->version || r->version > d->version)
		return err_set(e, -ENOTSUP,
			       "%s: record of version %u, known up to %u",
			       r->name, r->version, d->version);
	for (u32 i = 0; i < d->nfields; i++) {
		const struct state_field *want = &d->fields[i];

		if (want->since > r->version)
			continue;
		if (!record_field(r, &pos, &off, &f))
			return err_set(e, -EPROTO, "%s: field %s is missing",
				       r->name, want->name);
		if (strcmp(f.name, want->name) || f.esize != want->esize ||
		    f.count != want->count)
			return err_set(e, -EPROTO,
				       "%s: field %s (%u x %u) where %s "
				       "(%u x %u) should be",
				       r->name, f.name, f.count, f.esize,
				       want->name, want->count, want->esize);
	}
	if (record_field(r, &pos, &off, &f))
		return err_set(e, -EPROTO, "%s: unknown field %s", r->name,
			       f.name);
	return 0;
}

int record_load(const struct record *r, const struct state_desc *d, void *regs,
		struct err *e)
{
	int rc = record_same(r, d, e);

	return rc ? rc : state_load(d, regs, r->payload, r->len, r->version, e);
}

int record_check(const struct record *r, const struct state_desc *d,
		 struct err *e)
{
	void *scratch = malloc(d->size);
	int rc;

	if (!scratch)
		return err_set(e, -ENOMEM, "no memory for %s", r->name);
	rc = record_load(r, d, scratch, e);
	free(scratch);
	return rc;
}
