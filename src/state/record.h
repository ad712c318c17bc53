/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Records: saved state as bytes that describe themselves. Little-endian:
 *
 *   u32 magic "RECD"   u32 CRC-32C of all that follows
 *   u32 length of the whole record   u32 flags   u32 instance   u32 version
 *   u32 length of the payload   u16 number of fields   u8 length of the name
 *   u8 zero   the name   the fields   the payload
 *
 * A field: u8 length of its name, u8 bytes of an element, u8 version since,
 * u8 zero, u32 number of elements, the name. The payload has the fields' bytes
 * in this order. Thus a reader that knows nothing of a class can print it, and
 * one that knows it checks that both mean the same.
 *
 * Reading trusts nothing: every length is checked before it is used.
 */
#ifndef STATE_RECORD_H
#define STATE_RECORD_H

#include "base/buf.h"
#include "state/state.h"

#define RECORD_NAME 48 /* with the final zero, also of a field */

enum {
	RECORD_OPTIONAL = 1, /* who does not know the class skips it */
};

struct record {
	char name[RECORD_NAME];
	u32 flags, instance, version;
	unsigned nfields;
	const u8 *fields, *payload; /* in the bytes that were parsed */
	u64 fields_len, len;
};

struct record_field {
	char name[RECORD_NAME];
	u32 esize, count, since;
	const u8 *data; /* esize * count bytes */
};

/* Appends the state described by d. */
void record_put(struct buf *b, const char *name, u32 instance, u32 flags,
		const struct state_desc *d, const void *regs);

/*
 * The record at *at of len bytes; moves *at behind it. -EPROTO with a sentence
 * for anything that is not right; -EBADMSG: the checksum is not.
 */
int record_parse(const u8 *data, u64 len, u64 *at, struct record *r,
		 struct err *e);

/* Fields in order: *pos and *off start at 0. False past the last. */
bool record_field(const struct record *r, u64 *pos, u64 *off,
		  struct record_field *f);

/* Into *regs as state_load() does, if the record's fields are those of d. */
int record_load(const struct record *r, const struct state_desc *d, void *regs,
		struct err *e);
/* The same, but nothing is written. */
int record_check(const struct record *r, const struct state_desc *d,
		 struct err *e);

#endif
