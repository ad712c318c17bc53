/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"

#define PREAMBLE 16
#define HEADER   24

static const u8 magic[8] = "SUBLETmg";

static const struct {
	const char *name;
	u32 max;
} types[] = {
#define MIG_ROW(number, name, max) [number] = {#name, max},
	MIG_FRAMES(MIG_ROW)
#undef MIG_ROW
};

const char *mig_type_name(u32 type)
{
	if (type >= ARRAY_LEN(types) || !types[type].name)
		return "unknown";
	return types[type].name;
}

/* ---- preamble: magic 8, version 2, role 1, index 1, session 4 ---- */

int mig_send_preamble(struct mig_chan *c, const struct mig_preamble *p,
		      struct err *e)
{
	u8 b[PREAMBLE], *at = b + sizeof(magic);

	memcpy(b, magic, sizeof(magic));
	at = mig_put(at, p->version, 2);
	at = mig_put(at, p->role, 1);
	at = mig_put(at, p->index, 1);
	mig_put(at, p->session, 4);
	return mig_chan_write(c, b, sizeof(b), e);
}

int mig_recv_preamble(struct mig_chan *c, struct mig_preamble *p, struct err *e)
{
	u8 b[PREAMBLE];
	int rc = mig_chan_read(c, b, sizeof(b), e);

	if (rc)
		return rc;
	if (memcmp(b, magic, sizeof(magic)))
		return err_set(e, -EPROTO,
			       "whoever connected does not speak Sublet's "
			       "migration protocol");
	p->version = (u16)mig_get(b + 8, 2);
	p->role = b[10];
	p->index = b[11];
	p->session = (u32)mig_get(b + 12, 4);
	if (p->version != MIG_VERSION)
		return err_set(e, -ENOTSUP,
			       "the other side speaks version %u of the "
			       "migration protocol, this one version %u",
			       p->version, MIG_VERSION);
	if (p->role > MIG_ROLE_RESUME || p->index >= MIG_STREAMS)
		return err_set(e, -EPROTO,
			       "the connection's purpose %u:%u is "
			       "unknown",
			       p->role, p->index);
	return 0;
}

/* ---- frames: type 4, length 4, number 8, payload's CRC 4, header's 4 ---- */

static int wire_send(struct mig_chan *c, enum mig_type type, const void *data,
		     u32 len, struct err *e)
{
	u8 h[HEADER], *at = h;
	int rc;

	at = mig_put(at, type, 4);
	at = mig_put(at, len, 4);
	at = mig_put(at, c->seq_out++, 8);
	at = mig_put(at, crc32c(0, data, len), 4);
	mig_put(at, crc32c(0, h, HEADER - 4), 4);
	rc = mig_chan_write(c, h, sizeof(h), e);
	return rc ? rc : mig_chan_write(c, data, len, e);
}

int mig_send(struct mig_chan *c, enum mig_type type, const void *data, u32 len,
	     struct err *e)
{
	int rc;

	ASSERT(len <= types[type].max);
	pthread_mutex_lock(&c->write_lock);
	rc = wire_send(c, type, data, len, e);
	pthread_mutex_unlock(&c->write_lock);
	return rc;
}

int mig_send_u64(struct mig_chan *c, enum mig_type type, u64 val, struct err *e)
{
	u8 b[8];

	mig_put(b, val, 8);
	return mig_send(c, type, b, sizeof(b), e);
}

int mig_frame_init(struct mig_frame *f, struct err *e)
{
	*f = (struct mig_frame){.data = malloc(MIG_FRAME_MAX + 1)};
	return f->data ? 0 : err_set(e, -ENOMEM, "no memory for a frame");
}

void mig_frame_fini(struct mig_frame *f)
{
	free(f->data);
	f->data = NULL;
}

static int wire_header(struct mig_chan *c, struct mig_frame *f, u32 *crc,
		       struct err *e)
{
	u8 h[HEADER];
	int rc = mig_chan_read(c, h, sizeof(h), e);
	u32 type = (u32)mig_get(h, 4);
	u64 seq = mig_get(h + 8, 8);

	if (rc)
		return rc;
	if (crc32c(0, h, HEADER - 4) != mig_get(h + HEADER - 4, 4))
		return err_set(e, -EBADMSG,
			       "the migration stream is damaged: a frame's "
			       "header has a wrong checksum");
	if (type >= ARRAY_LEN(types) || !types[type].name)
		return err_set(e, -EPROTO,
			       "the migration stream has a frame of unknown "
			       "type %u",
			       type);
	if (seq != c->seq_in)
		return err_set(e, -EPROTO,
			       "the migration stream has frame %lu where %lu "
			       "was to come",
			       seq, c->seq_in);
	f->type = type;
	f->len = (u32)mig_get(h + 4, 4);
	*crc = (u32)mig_get(h + 16, 4);
	if (f->len > types[type].max)
		return err_set(e, -EPROTO,
			       "the migration stream has a %s frame of %u "
			       "bytes, more than %u",
			       types[type].name, f->len, types[type].max);
	c->seq_in++;
	return 0;
}

static int wire_refused(const struct mig_frame *f, struct err *e)
{
	for (u32 i = 0; i < f->len; i++)
		if (f->data[i] < ' ' || f->data[i] == 0x7f)
			f->data[i] = ' ';
	return err_set(e, -EREMOTEIO, "the other side says: %.400s",
		       (char *)f->data);
}

int mig_recv(struct mig_chan *c, struct mig_frame *f, u32 allowed,
	     struct err *e)
{
	u32 crc = 0;
	int rc = wire_header(c, f, &crc, e);

	if (!rc)
		rc = mig_chan_read(c, f->data, f->len, e);
	if (rc)
		return rc;
	f->data[f->len] = 0;
	if (crc32c(0, f->data, f->len) != crc)
		return err_set(e, -EBADMSG,
			       "the migration stream is damaged: a %s frame "
			       "has a wrong checksum",
			       mig_type_name(f->type));
	if (f->type == MIG_REFUSE)
		return wire_refused(f, e);
	if (!(allowed & BIT(f->type)))
		return err_set(e, -EPROTO,
			       "the migration stream has a %s frame where it "
			       "has no place",
			       mig_type_name(f->type));
	return 0;
}

int mig_frame_u64(const struct mig_frame *f, u64 *val, struct err *e)
{
	if (f->len != 8)
		return err_set(e, -EPROTO,
			       "the migration stream has a %s frame of %u "
			       "bytes, not 8",
			       mig_type_name(f->type), f->len);
	*val = mig_get(f->data, 8);
	return 0;
}
