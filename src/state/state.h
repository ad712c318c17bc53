/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * State is data: the guest-visible registers of a device or CPU live in one
 * plain struct, described by a table of fields. Save, load, dump, compare and
 * the coverage test walk that table.
 *
 * The struct holds integers of 1, 2, 4 or 8 bytes and arrays of them, and no
 * padding: a test proves that the table covers it byte for byte. A field that
 * came later than version 1 names its version; older records leave it zero.
 */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "base/err.h"
#include "base/types.h"

struct state_field {
	const char *name;
	u32 off, esize, count, since;
};

#define STATE_MEMBER(t, m) (((t *)0)->m)
#define STATE(t, m, v)                                               \
	{                                                            \
#m, offsetof(t, m), sizeof(STATE_MEMBER(t, m)), 1, v \
	}
#define STATE_ARRAY(t, m, v)                                       \
	{                                                          \
#m, offsetof(t, m), sizeof(STATE_MEMBER(t, m)[0]), \
			ARRAY_LEN(STATE_MEMBER(t, m)), v           \
	}

struct state_desc {
	const char *name; /* of the record, stable for ever */
	u32 version;
	u32 size; /* sizeof the struct */
	const struct state_field *fields;
	u32 nfields;
	/* NULL, or 0 if hardware can be in this state; sets the sentence. */
	int (*check)(const void *regs, struct err *e);
};

/* Bytes that state_save() writes for version d->version. */
u64 state_size(const struct state_desc *d);

/* Writes the fields in little-endian order to out; returns their length. */
u64 state_save(const struct state_desc *d, const void *regs, u8 *out);

/*
 * Reads a record of the given version. *regs is written only if everything is
 * right: -EPROTO wrong length, -ENOTSUP newer version, -EDOM unreachable
 * state.
 */
int state_load(const struct state_desc *d, void *regs, const u8 *in, u64 len,
	       u32 version, struct err *e);

/* Every byte of the struct is described exactly once. */
bool state_covers(const struct state_desc *d);

/*
 * The text of one element, "name[2] = 0x1f", into buf; false past the last.
 * Walk with n = 0, 1, ... For people and for comparisons.
 */
bool state_text(const struct state_desc *d, const void *regs, u32 n, char *buf,
		size_t size);

#endif
