/* SPDX-License-Identifier: BSD-2-Clause */
#include "bus/virtq.h"

#include <stdlib.h>
#include <string.h>

#include "bus/virtq_priv.h"

static const struct virtq_ring_ops *virtq_ops(const struct virtq *q)
{
	return q->packed ? &virtq_packed_ops : &virtq_split_ops;
}

int virtq_fail(struct virtq *q, const char *why)
{
	if (q->why)
		return 0;
	q->why = why;
	if (q->broken)
		q->broken(q);
	return 0;
}

bool virtq_size_ok(const struct virtq *q, u32 size, u32 max)
{
	if (!size || size > max)
		return false;
	return q->packed || !(size & (size - 1));
}

void virtq_reset(struct virtq *q, u16 size)
{
	q->s = (struct virtq_state){
		.size = size,
		.vector = 0xffff,
		.avail_wrap = 1,
		.used_wrap = 1,
	};
	q->why = NULL;
	virtq_stop(q);
}

/* Host address of an area the device may write, or NULL. */
static u8 *virtq_area(const struct virtq *q, u64 gpa, u64 len, unsigned align,
		      bool write)
{
	const struct mem_slot *s = mem_find(q->mem, gpa);

	if (gpa & (align - 1) || !s || (write && s->readonly))
		return NULL;
	return mem_ptr(q->mem, gpa, len);
}

bool virtq_start(struct virtq *q)
{
	const struct virtq_ring_ops *ops = virtq_ops(q);

	q->desc = virtq_area(q, q->s.desc, q->s.size * 16ull, 16, q->packed);
	q->driver = virtq_area(q, q->s.driver, ops->driver_len(q),
			       q->packed ? 4 : 2, false);
	q->device = virtq_area(q, q->s.device, ops->device_len(q), 4, true);
	if (!q->desc || !q->driver || !q->device) {
		virtq_fail(q, "queue outside memory or misaligned");
		return false;
	}
	q->told = q->s.used;
	q->untold = 0;
	q->running = true;
	return true;
}

void virtq_stop(struct virtq *q)
{
	q->running = false;
	q->desc = q->driver = q->device = NULL;
}

int virtq_pop(struct virtq *q, struct virtq_chain *c)
{
	if (!q->running || q->why)
		return 0;
	return virtq_ops(q)->pop(q, c);
}

void virtq_unpop(struct virtq *q, unsigned n, unsigned slots)
{
	if (q->running)
		virtq_ops(q)->unpop(q, n, slots);
}

void virtq_wrote(struct virtq *q, u64 gpa, u64 len)
{
	mem_written(q->mem, gpa, len);
}

void virtq_fill(struct virtq *q, const struct virtq_chain *c, u32 len,
		unsigned n, unsigned slots)
{
	for (unsigned i = 0; i < c->nin; i++)
		virtq_wrote(q, c->in_gpa[i], c->in[i].iov_len);
	if (q->running)
		virtq_ops(q)->fill(q, c, len, n, slots);
}

void virtq_publish(struct virtq *q, unsigned n, unsigned slots)
{
	if (q->running && n)
		virtq_ops(q)->publish(q, n, slots);
}

void virtq_push(struct virtq *q, const struct virtq_chain *c, u32 len)
{
	virtq_fill(q, c, len, 0, 0);
	virtq_publish(q, 1, c->slots);
}

bool virtq_notify(struct virtq *q)
{
	if (!q->running)
		return false;
	/* Used entries must be seen before the driver's wish is read. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return virtq_ops(q)->notify(q);
}

bool virtq_kicks(struct virtq *q, bool on)
{
	if (!q->running)
		return false;
	virtq_ops(q)->kicks(q, on);
	/* The wish must be seen before the ring is looked at again. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	return on && !virtq_empty(q);
}

bool virtq_empty(struct virtq *q)
{
	return !q->running || q->why || virtq_ops(q)->empty(q);
}

/* ---- chains ---- */

struct virtq_desc virtq_desc_load(const struct virtq *q, unsigned i)
{
	const u64 *p = (const u64 *)(q->desc + 16ull * i);
	u64 half[2] = {
		__atomic_load_n(&p[0], __ATOMIC_RELAXED),
		__atomic_load_n(&p[1], __ATOMIC_RELAXED),
	};
	struct virtq_desc d;

	memcpy(&d, half, sizeof(d));
	return d;
}

unsigned virtq_table_len(struct virtq *q, const struct virtq_desc *table)
{
	if (!q->indirect) {
		virtq_fail(q, "indirect descriptor without the feature");
		return 0;
	}
	if (!table->len || table->len % 16 || table->len / 16 > 0x8000) {
		virtq_fail(q, "indirect table of odd length");
		return 0;
	}
	return table->len / 16;
}

bool virtq_table_load(struct virtq *q, const struct virtq_desc *table,
		      unsigned i, struct virtq_desc *out)
{
	if (!mem_read(q->mem, table->addr + 16ull * i, out, sizeof(*out))) {
		virtq_fail(q, "indirect table outside memory");
		return false;
	}
	if (out->flags & VIRTQ_DESC_INDIRECT) {
		virtq_fail(q, "indirect table in an indirect table");
		return false;
	}
	return true;
}

void virtq_chain_begin(struct virtq_chain *c)
{
	c->nout = c->nin = 0;
	c->out_len = c->in_len = 0;
	c->slots = 0;
}

/* One piece that lies in one slot of guest memory; its length, or 0. */
static u64 virtq_chain_piece(struct virtq *q, struct virtq_chain *c, u64 addr,
			     u64 len, bool writable)
{
	const struct mem_slot *s = mem_find(q->mem, addr);
	unsigned n = c->nout + c->nin;

	if (n == VIRTQ_SEGS)
		return (u64)virtq_fail(q, "chain too long");
	if (!s || (writable && s->readonly))
		return (u64)virtq_fail(q, "buffer outside memory");
	len = MIN(len, s->size - (addr - s->gpa));
	c->gpa[n] = addr;
	c->iov[n].iov_base = s->host + (addr - s->gpa);
	c->iov[n].iov_len = len;
	if (writable)
		c->nin++;
	else
		c->nout++;
	return len;
}

bool virtq_chain_add(struct virtq *q, struct virtq_chain *c, u64 addr, u32 len,
		     bool writable)
{
	if (!writable && c->nin)
		return virtq_fail(q, "readable buffer after a writable one");
	if (writable)
		c->in_len += len;
	else
		c->out_len += len;
	if (c->in_len + c->out_len > 0xffffffffull)
		return virtq_fail(q, "chain of more than 4 GiB");
	while (len) {
		u64 n = virtq_chain_piece(q, c, addr, len, writable);

		if (!n)
			return false;
		addr += n;
		len -= (u32)n;
	}
	return true;
}

int virtq_chain_end(struct virtq_chain *c)
{
	c->out = c->iov;
	c->in = c->iov + c->nout;
	c->in_gpa = c->gpa + c->nout;
	return 1;
}

/* The pieces of the copy stand directly behind its header. */
struct virtq_chain *virtq_chain_dup(const struct virtq_chain *c)
{
	unsigned n = c->nout + c->nin;
	size_t head = offsetof(struct virtq_chain, iov);
	struct virtq_chain *d;

	d = malloc(head + n * (sizeof(c->iov[0]) + sizeof(c->gpa[0])));
	if (!d)
		return NULL;
	memcpy(d, c, head + n * sizeof(c->iov[0]));
	d->out = d->iov;
	d->in = d->iov + d->nout;
	memcpy(d->iov + n, c->gpa, n * sizeof(c->gpa[0]));
	d->in_gpa = (gpa_t *)(d->iov + n) + d->nout;
	return d;
}

static u64 virtq_copy(const struct iovec *iov, unsigned n, u64 off, u8 *buf,
		      u64 len, bool to_guest)
{
	u64 done = 0;

	for (unsigned i = 0; i < n && done < len; i++) {
		u8 *p = iov[i].iov_base;
		u64 part;

		if (off >= iov[i].iov_len) {
			off -= iov[i].iov_len;
			continue;
		}
		part = MIN(len - done, iov[i].iov_len - off);
		if (to_guest)
			memcpy(p + off, buf + done, part);
		else
			memcpy(buf + done, p + off, part);
		done += part;
		off = 0;
	}
	return done;
}

u64 virtq_gather(const struct virtq_chain *c, u64 off, void *buf, u64 len)
{
	return virtq_copy(c->out, c->nout, off, buf, len, false);
}

u64 virtq_scatter(const struct virtq_chain *c, u64 off, const void *buf,
		  u64 len)
{
	return virtq_copy(c->in, c->nin, off, (u8 *)buf, len, true);
}
