/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The driver's side of virtqueues, for tests and fuzzers only: rings of both
 * formats in a small guest memory, as a guest would keep them.
 */
#ifndef BUS_VDRIVER_H
#define BUS_VDRIVER_H

#include <string.h>

#include "bus/virtq.h"

#define VDRV_SIZE_MAX 256
#define VDRV_TABLE    0x4000 /* indirect tables: bytes for each id */

struct vdrv_buf {
	u64 gpa;
	u32 len;
	bool in; /* the device writes it */
};

struct vdrv_queue {
	struct mem *mem;
	u64 desc, driver, device; /* areas; tables: for indirect ones */
	u64 tables;
	u16 size;
	bool packed, indirect, event_idx;
	u16 avail, used;
	u16 avail_wrap, used_wrap;
	u16 nfree;
	bool busy[VDRV_SIZE_MAX]; /* split: descriptor in use; packed: id */
	u16 slots[VDRV_SIZE_MAX]; /* of a chain, by id */
	u16 next[VDRV_SIZE_MAX];  /* split: chain, by descriptor */
};

struct vdrv_desc {
	u64 addr;
	u32 len;
	u16 a, b; /* split: flags, next; packed: id, flags */
};

static inline void vdrv_put16(struct vdrv_queue *q, u64 gpa, u16 v)
{
	u8 *p = mem_ptr(q->mem, gpa, 2);

	__atomic_store_n((u16 *)p, v, __ATOMIC_RELEASE);
}

static inline u16 vdrv_get16(struct vdrv_queue *q, u64 gpa)
{
	u8 *p = mem_ptr(q->mem, gpa, 2);

	return __atomic_load_n((u16 *)p, __ATOMIC_ACQUIRE);
}

static inline void vdrv_put_desc(struct vdrv_queue *q, u64 gpa, u64 addr,
				 u32 len, u16 a, u16 b)
{
	struct vdrv_desc d = {addr, len, a, b};
	u64 *p = mem_ptr(q->mem, gpa, 16), half[2];

	memcpy(half, &d, 16);
	__atomic_store_n(&p[0], half[0], __ATOMIC_RELAXED);
	__atomic_store_n(&p[1], half[1], __ATOMIC_RELAXED);
}

/* Areas from gpa on: 64 KiB, and VDRV_TABLE for each id if indirect. */
static inline void vdrv_init(struct vdrv_queue *q, struct mem *mem, u64 gpa,
			     u16 size, bool packed, bool indirect,
			     bool event_idx)
{
	*q = (struct vdrv_queue){
		.mem = mem,
		.desc = gpa,
		.driver = gpa + 0x4000,
		.device = gpa + 0x8000,
		.tables = gpa + 0x10000,
		.size = size,
		.packed = packed,
		.indirect = indirect,
		.event_idx = event_idx,
		.avail_wrap = 1,
		.used_wrap = 1,
		.nfree = size,
	};
	memset(mem_ptr(mem, gpa, 0x10000), 0, 0x10000);
}

static inline u16 vdrv_take(struct vdrv_queue *q)
{
	u16 i = 0;

	while (q->busy[i])
		i++;
	q->busy[i] = true;
	return i;
}

static inline u64 vdrv_table(struct vdrv_queue *q, u16 id,
			     const struct vdrv_buf *b, unsigned n)
{
	u64 at = q->tables + (u64)id * VDRV_TABLE;

	for (unsigned i = 0; i < n; i++) {
		u16 flags = b[i].in ? VIRTQ_DESC_WRITE : 0;

		if (q->packed)
			vdrv_put_desc(q, at + 16 * i, b[i].gpa, b[i].len, 0,
				      flags);
		else
			vdrv_put_desc(q, at + 16 * i, b[i].gpa, b[i].len,
				      i + 1 < n ? flags | VIRTQ_DESC_NEXT
						: flags,
				      (u16)(i + 1));
	}
	return at;
}

static inline int vdrv_add_split(struct vdrv_queue *q, const struct vdrv_buf *b,
				 unsigned n)
{
	u16 head = vdrv_take(q), d = head;

	q->slots[head] = (u16)(q->indirect ? 1 : n);
	if (q->indirect) {
		vdrv_put_desc(q, q->desc + 16 * head, vdrv_table(q, head, b, n),
			      16 * n, VIRTQ_DESC_INDIRECT, 0);
	} else {
		for (unsigned i = 0; i < n; i++) {
			u16 flags = b[i].in ? VIRTQ_DESC_WRITE : 0;
			u16 next = 0;

			if (i + 1 < n) {
				next = vdrv_take(q);
				flags |= VIRTQ_DESC_NEXT;
			}
			vdrv_put_desc(q, q->desc + 16 * d, b[i].gpa, b[i].len,
				      flags, next);
			q->next[d] = next;
			d = next;
		}
	}
	q->nfree = (u16)(q->nfree - q->slots[head]);
	vdrv_put16(q, q->driver + 4 + 2 * (q->avail % q->size), head);
	q->avail++;
	vdrv_put16(q, q->driver + 2, q->avail);
	return head;
}

static inline int vdrv_add_packed(struct vdrv_queue *q,
				  const struct vdrv_buf *b, unsigned n)
{
	u16 id = vdrv_take(q), first = q->avail, first_flags = 0;
	unsigned count = q->indirect ? 1 : n;
	struct vdrv_buf table = {.len = 16 * n};

	if (q->indirect)
		table.gpa = vdrv_table(q, id, b, n);
	for (unsigned i = 0; i < count; i++) {
		const struct vdrv_buf *x = q->indirect ? &table : &b[i];
		u16 flags = q->avail_wrap ? VIRTQ_DESC_AVAIL : VIRTQ_DESC_USED;

		if (q->indirect)
			flags |= VIRTQ_DESC_INDIRECT;
		if (x->in)
			flags |= VIRTQ_DESC_WRITE;
		if (i + 1 < count)
			flags |= VIRTQ_DESC_NEXT;
		if (!i)
			first_flags = flags;
		vdrv_put_desc(
			q, q->desc + 16 * q->avail, x->gpa, x->len, id,
			i ? flags
			  : (u16)(flags ^ VIRTQ_DESC_AVAIL ^ VIRTQ_DESC_USED));
		if (++q->avail == q->size) {
			q->avail = 0;
			q->avail_wrap ^= 1;
		}
	}
	q->slots[id] = (u16)count;
	q->nfree = (u16)(q->nfree - count);
	vdrv_put16(q, q->desc + 16 * first + 14, first_flags);
	return id;
}

/* Makes a chain available; its id, or -1 if the ring is full. */
static inline int vdrv_add(struct vdrv_queue *q, const struct vdrv_buf *b,
			   unsigned n)
{
	if (q->nfree < (q->indirect ? 1 : n))
		return -1;
	return q->packed ? vdrv_add_packed(q, b, n) : vdrv_add_split(q, b, n);
}

static inline void vdrv_free(struct vdrv_queue *q, u16 id)
{
	unsigned n = q->slots[id];

	q->nfree = (u16)(q->nfree + n);
	if (q->packed)
		n = 1;
	for (u16 d = id; n; n--, d = q->next[d])
		q->busy[d] = false;
}

/* The next used chain: its id, or -1. len: bytes the device says it wrote. */
static inline int vdrv_get(struct vdrv_queue *q, u32 *len)
{
	u64 at = q->desc + 16 * q->used;
	u32 id = 0;

	if (!q->packed) {
		at = q->device + 4 + 8 * (q->used % q->size);
		if (vdrv_get16(q, q->device + 2) == q->used)
			return -1;
		memcpy(&id, mem_ptr(q->mem, at, 4), 4);
		memcpy(len, mem_ptr(q->mem, at + 4, 4), 4);
		q->used++;
	} else {
		u16 flags = vdrv_get16(q, at + 14);

		if (!!(flags & VIRTQ_DESC_AVAIL) != q->used_wrap ||
		    !!(flags & VIRTQ_DESC_USED) != q->used_wrap)
			return -1;
		memcpy(&id, mem_ptr(q->mem, at + 12, 2), 2);
		memcpy(len, mem_ptr(q->mem, at + 8, 4), 4);
		q->used = (u16)(q->used + q->slots[id]);
		if (q->used >= q->size) {
			q->used = (u16)(q->used - q->size);
			q->used_wrap ^= 1;
		}
	}
	vdrv_free(q, (u16)id);
	return (int)id;
}

/* Does the device want a kick for what was added since avail was old? */
static inline bool vdrv_wants_kick(struct vdrv_queue *q, u16 old)
{
	u16 event;

	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (q->packed) /* a descriptor event may be any: kick for it */
		return vdrv_get16(q, q->device + 2) != 1;
	if (!q->event_idx)
		return !(vdrv_get16(q, q->device) & 1);
	event = vdrv_get16(q, q->device + 4 + 8 * q->size);
	return (u16)(q->avail - event - 1) < (u16)(q->avail - old);
}

/* Interrupt at the next used chain, or none. */
static inline void vdrv_interrupts(struct vdrv_queue *q, bool on)
{
	if (q->packed) {
		vdrv_put16(q, q->driver, (u16)(q->used | q->used_wrap << 15));
		vdrv_put16(q, q->driver + 2, on ? (q->event_idx ? 2 : 0) : 1);
	} else if (q->event_idx) {
		vdrv_put16(q, q->driver + 4 + 2 * q->size,
			   on ? q->used : (u16)(q->used - 1));
	} else {
		vdrv_put16(q, q->driver, !on);
	}
}

#endif
