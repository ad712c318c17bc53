/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames: what two monitors say to each other (docs/migration.md).
 *
 * A connection begins with a preamble of 16 bytes from the one who connects.
 * After it there are only frames: a header of 24 bytes, with a checksum of its
 * own, so that a length is believed only if it is right, and a payload that
 * is bounded by its type. Frames are numbered in each direction. Integers are
 * little-endian.
 */
#ifndef MIGRATE_WIRE_H
#define MIGRATE_WIRE_H

#include "migrate/chan.h"

#define MIG_VERSION   1u
#define MIG_STREAMS   16u
#define MIG_FRAME_MAX (MIB + 64 * KIB) /* payload of any frame */

/* X(number, name, largest payload) */
#define MIG_FRAMES(X)                                              \
	X(1, HELLO, MIB)              /* source: config, model */  \
	X(2, ACCEPT, 4 * KIB)         /* target: go on */          \
	X(3, REFUSE, 16 * KIB)        /* either: why not */        \
	X(4, PAGES, MIG_FRAME_MAX)    /* a batch of RAM */         \
	X(5, BARRIER, 8)              /* end of a round */         \
	X(6, BARRIER_ACK, 8)          /* target has it all */      \
	X(7, STATE, MIG_FRAME_MAX)    /* a piece of the state */   \
	X(8, STATE_END, 16)           /* that was all of it */     \
	X(9, READY, 16)               /* target could run */       \
	X(10, COMMIT, 16)             /* source never runs it */   \
	X(11, RUNNING, 16)            /* target took over */       \
	X(12, MISSING, MIG_FRAME_MAX) /* pages still to come */    \
	X(13, FETCH, 4 * KIB)         /* target needs these now */ \
	X(14, COMPLETE, 16)           /* no page is missing */     \
	X(16, DISK, MIG_FRAME_MAX)    /* a piece of a disk */

enum mig_type {
#define MIG_ENUM(number, name, max) MIG_##name = number,
	MIG_FRAMES(MIG_ENUM)
#undef MIG_ENUM
};

/* What a connection is for. */
enum mig_role { MIG_ROLE_MAIN, MIG_ROLE_STREAM, MIG_ROLE_RESUME };

struct mig_preamble {
	u16 version;
	u8 role;     /* enum mig_role */
	u8 index;    /* of a stream, 1.. */
	u32 session; /* all connections of one migration */
};

int mig_send_preamble(struct mig_chan *c, const struct mig_preamble *p,
		      struct err *e);
/* -EPROTO: not a Sublet; -ENOTSUP: of another version. */
int mig_recv_preamble(struct mig_chan *c, struct mig_preamble *p,
		      struct err *e);

/* Any thread; frames are not mixed. */
int mig_send(struct mig_chan *c, enum mig_type type, const void *data, u32 len,
	     struct err *e);
/* The same, with a number as payload. */
int mig_send_u64(struct mig_chan *c, enum mig_type type, u64 val,
		 struct err *e);

/* A received frame; data has room for MIG_FRAME_MAX bytes and a zero. */
struct mig_frame {
	enum mig_type type;
	u32 len;
	u8 *data;
};

int mig_frame_init(struct mig_frame *f, struct err *e);
void mig_frame_fini(struct mig_frame *f);
/*
 * The next frame; only types that are in allowed (bits by number), and REFUSE,
 * whose text becomes the error (-EREMOTEIO).
 */
int mig_recv(struct mig_chan *c, struct mig_frame *f, u32 allowed,
	     struct err *e);
/* The payload as a number; -EPROTO if it is none. */
int mig_frame_u64(const struct mig_frame *f, u64 *val, struct err *e);
const char *mig_type_name(u32 type);

static inline u64 mig_get(const u8 *p, unsigned n)
{
	u64 v = 0;

	for (unsigned i = 0; i < n; i++)
		v |= (u64)p[i] << (8 * i);
	return v;
}

static inline u8 *mig_put(u8 *p, u64 v, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		*p++ = (u8)(v >> (8 * i));
	return p;
}

#endif
