/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Packed rings (virtio 1.2, 2.8): one ring of descriptors that both sides
 * write; AVAIL and USED bits against the wrap counters say whose each is.
 * Two event suppression areas, the driver's and the device's.
 */
#include "bus/virtq_priv.h"

enum {
	PACKED_EVENT_ON = 0,
	PACKED_EVENT_OFF = 1,
	PACKED_EVENT_DESC = 2,
};

/* off_wrap and flags. */
static u64 packed_event_len(const struct virtq *q)
{
	(void)q;
	return 4;
}

/* Descriptor on the wire: addr, len, buffer id, flags. */
static u8 *packed_slot(const struct virtq *q, unsigned i)
{
	return q->desc + 16ull * i;
}

static bool packed_ours(u16 flags, u16 wrap)
{
	return !!(flags & VIRTQ_DESC_AVAIL) == wrap &&
	       !!(flags & VIRTQ_DESC_USED) != wrap;
}

static bool packed_empty(struct virtq *q)
{
	return !packed_ours(virtq_load16(packed_slot(q, q->s.avail) + 14),
			    q->s.avail_wrap);
}

/* In the field order of a split descriptor. */
static struct virtq_desc packed_load(const struct virtq *q, unsigned i)
{
	struct virtq_desc d = virtq_desc_load(q, i);

	return (struct virtq_desc){d.addr, d.len, d.next, d.flags};
}

/* Entries follow each other; their NEXT bit means nothing (2.8.7). */
static bool packed_table(struct virtq *q, struct virtq_chain *c,
			 const struct virtq_desc *table)
{
	unsigned n = virtq_table_len(q, table);
	struct virtq_desc d;

	for (unsigned i = 0; i < n; i++) {
		if (!mem_read(q->mem, table->addr + 16ull * i, &d, sizeof(d)))
			return virtq_fail(q, "indirect table outside memory");
		if (d.next & VIRTQ_DESC_INDIRECT)
			return virtq_fail(q, "indirect in an indirect table");
		if (!virtq_chain_add(q, c, d.addr, d.len,
				     d.next & VIRTQ_DESC_WRITE))
			return false;
	}
	return n;
}

static void packed_advance(const struct virtq *q, u16 *at, u16 *wrap,
			   unsigned slots)
{
	unsigned next = *at + slots;

	while (next >= q->s.size) {
		next -= q->s.size;
		*wrap ^= 1;
	}
	*at = (u16)next;
}

static int packed_taken(struct virtq *q, struct virtq_chain *c, unsigned n,
			u16 id)
{
	c->id = id;
	c->slots = (u16)n;
	packed_advance(q, &q->s.avail, &q->s.avail_wrap, n);
	return virtq_chain_end(c);
}

static int packed_pop(struct virtq *q, struct virtq_chain *c)
{
	if (packed_empty(q))
		return 0;
	virtq_chain_begin(c);
	for (unsigned n = 0; n < q->s.size; n++) {
		unsigned i = q->s.avail + n;
		struct virtq_desc d =
			packed_load(q, i < q->s.size ? i : i - q->s.size);

		if (d.flags & VIRTQ_DESC_INDIRECT) {
			if (n || d.flags & VIRTQ_DESC_NEXT)
				return virtq_fail(q, "indirect with next");
			return packed_table(q, c, &d)
				       ? packed_taken(q, c, 1, d.next)
				       : 0;
		}
		if (!virtq_chain_add(q, c, d.addr, d.len,
				     d.flags & VIRTQ_DESC_WRITE))
			return 0;
		if (!(d.flags & VIRTQ_DESC_NEXT))
			return packed_taken(q, c, n + 1, d.next);
	}
	return virtq_fail(q, "chain longer than the ring");
}

static void packed_unpop(struct virtq *q, unsigned n, unsigned slots)
{
	int at = q->s.avail - (int)slots;

	(void)n;
	for (; at < 0; at += q->s.size)
		q->s.avail_wrap ^= 1;
	q->s.avail = (u16)at;
}

static u16 packed_flags(u16 wrap, u32 len)
{
	return (u16)((wrap ? VIRTQ_DESC_AVAIL | VIRTQ_DESC_USED : 0) |
		     (len ? VIRTQ_DESC_WRITE : 0));
}

/*
 * The flags of the first entry of a batch are what makes all of it visible,
 * so they are kept back for publish(). Its id and length are in the slot.
 */
static void packed_fill(struct virtq *q, const struct virtq_chain *c, u32 len,
			unsigned n, unsigned slots)
{
	u16 at = q->s.used, wrap = q->s.used_wrap;
	u8 *p;

	packed_advance(q, &at, &wrap, slots);
	p = packed_slot(q, at);
	virtq_store32(p + 8, len);
	__atomic_store_n((u16 *)(p + 12), c->id, __ATOMIC_RELAXED);
	if (n)
		virtq_store16(p + 14, packed_flags(wrap, len));
	else
		q->first_len = len;
	virtq_wrote(q, q->s.desc + 16ull * at, 16);
}

static void packed_publish(struct virtq *q, unsigned n, unsigned slots)
{
	u8 *p = packed_slot(q, q->s.used);

	(void)n;
	virtq_store16(p + 14, packed_flags(q->s.used_wrap, q->first_len));
	virtq_wrote(q, q->s.desc + 16ull * q->s.used, 16);
	packed_advance(q, &q->s.used, &q->s.used_wrap, slots);
	q->untold += slots;
}

/*
 * With a descriptor event: was the slot the driver named among those given
 * back since it was last asked? Distances are counted back from the next slot
 * to be used, over the two laps that the wrap bit tells apart.
 */
static bool packed_notify(struct virtq *q)
{
	u16 flags = virtq_load16(q->driver + 2) & 3, off_wrap, off;
	u32 since = q->untold, back;

	q->untold = 0;
	if (!since || flags == PACKED_EVENT_OFF)
		return false;
	if (flags != PACKED_EVENT_DESC || !q->event_idx)
		return true;
	off_wrap = virtq_load16(q->driver);
	off = off_wrap & 0x7fff;
	if (off_wrap >> 15 == q->s.used_wrap)
		back = (u32)q->s.used - off;
	else
		back = (u32)q->s.used + q->s.size - off;
	return back - 1 < since;
}

static void packed_kicks(struct virtq *q, bool on)
{
	u16 flags = PACKED_EVENT_OFF;

	if (on)
		flags = q->event_idx ? PACKED_EVENT_DESC : PACKED_EVENT_ON;
	if (flags == PACKED_EVENT_DESC)
		virtq_store16(q->device,
			      (u16)(q->s.avail | q->s.avail_wrap << 15));
	virtq_store16(q->device + 2, flags);
	virtq_wrote(q, q->s.device, 4);
}

const struct virtq_ring_ops virtq_packed_ops = {
	.driver_len = packed_event_len,
	.device_len = packed_event_len,
	.pop = packed_pop,
	.unpop = packed_unpop,
	.fill = packed_fill,
	.publish = packed_publish,
	.notify = packed_notify,
	.kicks = packed_kicks,
	.empty = packed_empty,
};
