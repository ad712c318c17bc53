/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtqueues, device side: split and packed rings (virtio 1.2, 2.7 and 2.8).
 * Knows nothing of transports.
 *
 * The rings are the guest's and hostile. Each descriptor is loaded once, each
 * chain is bounded, each address is checked against guest memory; a ring that
 * breaks the rules makes the queue broken: pop() gives nothing more, and the
 * owner is told once by broken().
 *
 * Not thread-safe: the owner has a lock. Life: virtq_start() with the driver's
 * settings in s, pop() and push() in any order and number, virtq_stop().
 */
#ifndef BUS_VIRTQ_H
#define BUS_VIRTQ_H

#include <sys/uio.h>

#include "mem/mem.h"

#define VIRTQ_SEGS 1024 /* pieces of one chain, table or not */

enum {
	VIRTQ_DESC_NEXT = 1,
	VIRTQ_DESC_WRITE = 2,
	VIRTQ_DESC_INDIRECT = 4,
	VIRTQ_DESC_AVAIL = 0x80,  /* packed */
	VIRTQ_DESC_USED = 0x8000, /* packed */
};

/* Saved. What the driver set, and how far the device is. */
struct virtq_state {
	u64 desc, driver, device;
	u16 size;
	u16 vector; /* MSI-X; the transport's */
	u16 enabled;
	u16 avail;      /* next to take: ring index, or slot if packed */
	u16 used;       /* next to give back */
	u16 avail_wrap; /* packed: wrap counters */
	u16 used_wrap;
};

struct virtq {
	struct virtq_state s;
	struct mem *mem;
	bool packed, event_idx, indirect; /* negotiated */
	bool running;
	const char *why; /* NULL, or what the driver did wrong */
	void (*broken)(struct virtq *q);
	void *arg;      /* for the owner */
	unsigned index; /* for the owner */
	/* The three areas, while running. */
	u8 *desc, *driver, *device;
	u16 told;      /* split: used at the last virtq_notify() */
	u32 untold;    /* packed: slots given back since then */
	u32 first_len; /* packed: between fill and publish */
};

/* What the device reads, then what it writes, as host memory. */
struct virtq_chain {
	u16 id;    /* head descriptor or buffer id */
	u16 slots; /* packed: ring slots it takes */
	unsigned nout, nin;
	u64 out_len, in_len;
	struct iovec *out, *in; /* in iov */
	gpa_t *in_gpa;
	struct iovec iov[VIRTQ_SEGS];
	gpa_t gpa[VIRTQ_SEGS];
};

/* Largest size and whether it is allowed; the packed flag must be set. */
bool virtq_size_ok(const struct virtq *q, u32 size, u32 max);
void virtq_reset(struct virtq *q, u16 size);
/* False: an area is misaligned or not in memory; the queue is broken. */
bool virtq_start(struct virtq *q);
void virtq_stop(struct virtq *q);

/* Takes the next chain: 1; 0: there is none (or the queue is broken). */
int virtq_pop(struct virtq *q, struct virtq_chain *c);
/* As if the last n chains, of so many slots together, had not been taken. */
void virtq_unpop(struct virtq *q, unsigned n, unsigned slots);
/*
 * Gives a chain back, of which the device wrote the first len bytes. Marks
 * all its writable memory as written.
 */
void virtq_push(struct virtq *q, const struct virtq_chain *c, u32 len);
/*
 * The same in two steps, for several chains that must appear at once (network
 * buffers): fill n = 0, 1, ..., then publish all of them. slots: how many
 * slots (packed) lie before this one.
 */
void virtq_fill(struct virtq *q, const struct virtq_chain *c, u32 len,
		unsigned n, unsigned slots);
void virtq_publish(struct virtq *q, unsigned n, unsigned slots);

/* After push: does the driver want an interrupt? */
bool virtq_notify(struct virtq *q);
/*
 * Asks the driver for kicks, or to save them. After asking, true says that
 * something is there already.
 */
bool virtq_kicks(struct virtq *q, bool on);
bool virtq_empty(struct virtq *q);

/* The driver is at fault; why is a constant. Always returns 0. */
int virtq_fail(struct virtq *q, const char *why);

/* A chain of just the size it needs, on the heap; NULL: no memory. */
struct virtq_chain *virtq_chain_dup(const struct virtq_chain *c);
/* Copy between a buffer and the chain from byte off; return what fitted. */
u64 virtq_gather(const struct virtq_chain *c, u64 off, void *buf, u64 len);
u64 virtq_scatter(const struct virtq_chain *c, u64 off, const void *buf,
		  u64 len);

#endif
