/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Split rings (virtio 1.2, 2.7): a descriptor table; the available ring,
 * which the driver writes (flags, idx, ring, used_event); the used ring,
 * which the device writes (flags, idx, ring, avail_event).
 */
#include "bus/virtq_priv.h"

#define SPLIT_NO_KICK      1 /* used ring's flags */
#define SPLIT_NO_INTERRUPT 1 /* available ring's flags */

static u64 split_driver_len(const struct virtq *q)
{
	return 4 + 2ull * q->s.size + 2;
}

static u64 split_device_len(const struct virtq *q)
{
	return 4 + 8ull * q->s.size + 2;
}

/* How many chains wait; more than the ring holds is the driver's fault. */
static u16 split_waiting(struct virtq *q)
{
	return (u16)(virtq_load16(q->driver + 2) - q->s.avail);
}

static bool split_empty(struct virtq *q)
{
	return !split_waiting(q);
}

static bool split_table(struct virtq *q, struct virtq_chain *c,
			const struct virtq_desc *table)
{
	unsigned n = virtq_table_len(q, table), i = 0;
	struct virtq_desc d;

	for (unsigned left = n; left; left--) {
		if (!virtq_table_load(q, table, i, &d) ||
		    !virtq_chain_add(q, c, d.addr, d.len,
				     d.flags & VIRTQ_DESC_WRITE))
			return false;
		if (!(d.flags & VIRTQ_DESC_NEXT))
			return true;
		i = d.next;
		if (i >= n)
			return virtq_fail(q, "next outside indirect table");
	}
	if (n)
		virtq_fail(q, "loop in an indirect table");
	return false;
}

static int split_chain(struct virtq *q, struct virtq_chain *c, u16 head)
{
	u16 i = head;

	virtq_chain_begin(c);
	c->id = head;
	for (unsigned left = q->s.size; left; left--) {
		struct virtq_desc d;

		if (i >= q->s.size)
			return virtq_fail(q, "descriptor outside the table");
		d = virtq_desc_load(q, i);
		if (d.flags & VIRTQ_DESC_INDIRECT) {
			if (d.flags & VIRTQ_DESC_NEXT)
				return virtq_fail(q, "indirect with next");
			return split_table(q, c, &d) ? virtq_chain_end(c) : 0;
		}
		if (!virtq_chain_add(q, c, d.addr, d.len,
				     d.flags & VIRTQ_DESC_WRITE))
			return 0;
		if (!(d.flags & VIRTQ_DESC_NEXT))
			return virtq_chain_end(c);
		i = d.next;
	}
	return virtq_fail(q, "loop of descriptors");
}

static int split_pop(struct virtq *q, struct virtq_chain *c)
{
	u16 waiting = split_waiting(q), slot = q->s.avail & (q->s.size - 1);

	if (!waiting)
		return 0;
	if (waiting > q->s.size)
		return virtq_fail(q, "available index jumped");
	if (!split_chain(q, c, virtq_load16(q->driver + 4 + 2 * slot)))
		return 0;
	q->s.avail++;
	return 1;
}

static void split_unpop(struct virtq *q, unsigned n, unsigned slots)
{
	(void)slots;
	q->s.avail = (u16)(q->s.avail - n);
}

static void split_fill(struct virtq *q, const struct virtq_chain *c, u32 len,
		       unsigned n, unsigned slots)
{
	unsigned slot = (q->s.used + n) & (q->s.size - 1u);
	u8 *entry = q->device + 4 + 8 * slot;

	(void)slots;
	virtq_store32(entry, c->id);
	virtq_store32(entry + 4, len);
	virtq_wrote(q, q->s.device + 4 + 8 * slot, 8);
}

static void split_publish(struct virtq *q, unsigned n, unsigned slots)
{
	(void)slots;
	q->s.used = (u16)(q->s.used + n);
	virtq_store16(q->device + 2, q->s.used);
	virtq_wrote(q, q->s.device, 4);
}

/* Did used pass the index the driver waits for, since it was last asked? */
static bool split_notify(struct virtq *q)
{
	u16 old = q->told, now = q->s.used, event;

	q->told = now;
	if (old == now)
		return false;
	if (!q->event_idx)
		return !(virtq_load16(q->driver) & SPLIT_NO_INTERRUPT);
	event = virtq_load16(q->driver + 4 + 2 * q->s.size);
	return (u16)(now - event - 1) < (u16)(now - old);
}

static void split_kicks(struct virtq *q, bool on)
{
	u64 event = 4 + 8ull * q->s.size;

	if (!q->event_idx) {
		virtq_store16(q->device, on ? 0 : SPLIT_NO_KICK);
		virtq_wrote(q, q->s.device, 2);
	} else if (on) {
		virtq_store16(q->device + event, q->s.avail);
		virtq_wrote(q, q->s.device + event, 2);
	}
}

const struct virtq_ring_ops virtq_split_ops = {
	.driver_len = split_driver_len,
	.device_len = split_device_len,
	.pop = split_pop,
	.unpop = split_unpop,
	.fill = split_fill,
	.publish = split_publish,
	.notify = split_notify,
	.kicks = split_kicks,
	.empty = split_empty,
};
