/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio block device (virtio 1.2, 5.2). Requests are taken on the device's
 * I/O thread and go to the disk at once, as many as the queue holds; they end
 * in any order. Left out: geometry, lifetime, secure erase, zones.
 */
#include "device/virtio_blk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "device/virtio_thread.h"

#define VBLK_QUEUE_MAX   256
#define VBLK_SEG_MAX     (VBLK_QUEUE_MAX - 2)
#define VBLK_RANGES      16 /* of one discard or write-zeroes */
#define VBLK_RANGE_MAX   (16 * MIB / DISK_SECTOR)
#define VBLK_DISCARD_MAX (1024 * MIB / DISK_SECTOR)
#define VBLK_ID_LEN      20

#define VBLK_F_SEG_MAX      BIT64(2)
#define VBLK_F_RO           BIT64(5)
#define VBLK_F_BLK_SIZE     BIT64(6)
#define VBLK_F_FLUSH        BIT64(9)
#define VBLK_F_TOPOLOGY     BIT64(10)
#define VBLK_F_CONFIG_WCE   BIT64(11)
#define VBLK_F_MQ           BIT64(12)
#define VBLK_F_DISCARD      BIT64(13)
#define VBLK_F_WRITE_ZEROES BIT64(14)

enum {
	VBLK_T_IN = 0,
	VBLK_T_OUT = 1,
	VBLK_T_FLUSH = 4,
	VBLK_T_GET_ID = 8,
	VBLK_T_DISCARD = 11,
	VBLK_T_WRITE_ZEROES = 13,
};

enum { VBLK_S_OK, VBLK_S_IOERR, VBLK_S_UNSUPP };

struct vblk_config {
	u64 capacity;
	u32 size_max, seg_max;
	u16 cylinders;
	u8 heads, sectors;
	u32 blk_size;
	u8 physical_block_exp, alignment_offset;
	u16 min_io_size;
	u32 opt_io_size;
	u8 writeback, unused0;
	u16 num_queues;
	u32 max_discard_sectors, max_discard_seg, discard_sector_alignment;
	u32 max_write_zeroes_sectors, max_write_zeroes_seg;
	u8 write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

struct vblk_header {
	u32 type, reserved;
	u64 sector;
};

struct vblk_range {
	u64 sector;
	u32 sectors, flags; /* bit 0: unmap */
};

struct vblk_regs {
	struct virtio_regs v;
	u64 writeback;
};

struct vblk;

struct vblk_req {
	struct disk_req d;
	struct vblk *b;
	unsigned queue;
	struct virtq_chain *chain;
	int rc;
	u32 type;
	unsigned range, nranges;
	struct vblk_range ranges[VBLK_RANGES];
	struct iovec iov[];
};

struct vblk {
	struct virtio v; /* first */
	struct vblk_regs r;
	struct vblk_config config;
	struct disk *disk;
	struct vthread thread;
	char id[VBLK_ID_LEN];
	struct disk_req *done, **last; /* ended, not given back. I/O thread */
	u32 full; /* queues left, kicks off, until a request of theirs ends */
	struct virtq_chain chain; /* I/O thread */
};

static struct vblk *vblk_of(struct virtio *v)
{
	return container_of(v, struct vblk, v);
}

/* ---- the end of requests ---- */

static u8 vblk_status(const struct vblk_req *r)
{
	if (!r->rc)
		return VBLK_S_OK;
	return r->rc == -ENOTSUP ? VBLK_S_UNSUPP : VBLK_S_IOERR;
}

/* The status is the last byte that the driver gave to be written. */
static void vblk_give_back(struct vblk *b, unsigned queue,
			   const struct virtq_chain *c, u8 status)
{
	u32 len = (u32)c->in_len;

	virtq_scatter(c, c->in_len - 1, &status, 1);
	virtq_push(virtio_q(&b->v, queue), c, len);
}

static void vblk_next_range(struct vblk_req *r);

static void vblk_finish(struct vblk *b, struct vblk_req *r)
{
	if (r->rc)
		log_guest("%s %u: request %u at sector %lu: %s",
			  b->v.dev.class->name, b->v.dev.instance, r->type,
			  r->d.off / DISK_SECTOR, strerror(-r->rc));
	vblk_give_back(b, r->queue, r->chain, vblk_status(r));
	virtio_release(&b->v, r->queue);
	free(r->chain);
	free(r);
}

/* A queue that was full of requests is served again. */
static void vblk_ended(struct vblk *b, u32 queues)
{
	for (unsigned q = 0; q < b->v.nqueues; q++) {
		if (!(queues & BIT(q)))
			continue;
		virtio_signal(&b->v, q);
		if (b->full & BIT(q))
			virtio_kick(&b->v, q);
	}
	b->full &= ~queues;
}

/* Gives back what has ended. Ranges that follow may add to the list. */
static void vblk_drain(struct vblk *b)
{
	u32 queues = 0;

	while (b->done) {
		struct vblk_req *r = container_of(b->done, struct vblk_req, d);

		b->done = r->d.next;
		if (!b->done)
			b->last = &b->done;
		if (!r->rc && ++r->range < r->nranges) {
			vblk_next_range(r);
			continue;
		}
		queues |= BIT(r->queue);
		vblk_finish(b, r);
	}
	vblk_ended(b, queues);
}

/* I/O thread, with or without the lock: only puts it on the list. */
static void vblk_done(struct disk_req *d, int rc)
{
	struct vblk_req *r = container_of(d, struct vblk_req, d);
	struct vblk *b = r->b;

	r->rc = rc;
	d->next = NULL;
	*b->last = d;
	b->last = &d->next;
}

static void vblk_settled(void *arg)
{
	struct vblk *b = arg;

	pthread_mutex_lock(&b->v.dev.lock);
	vblk_drain(b);
	disk_kick(b->disk);
	pthread_mutex_unlock(&b->v.dev.lock);
}

/* ---- their beginning ---- */

static void vblk_next_range(struct vblk_req *r)
{
	const struct vblk_range *g = &r->ranges[r->range];

	r->d.op = r->type == VBLK_T_DISCARD ? DISK_DISCARD : DISK_ZERO;
	r->d.unmap = g->flags & 1;
	r->d.off = g->sector * DISK_SECTOR;
	r->d.len = (u64)g->sectors * DISK_SECTOR;
	disk_submit(r->b->disk, &r->d);
}

static bool vblk_inside(const struct vblk *b, u64 sector, u64 sectors)
{
	return sector <= b->config.capacity &&
	       sectors <= b->config.capacity - sector;
}

static int vblk_range_check(struct vblk *b, u32 type,
			    const struct vblk_range *g)
{
	bool discard = type == VBLK_T_DISCARD;

	if (g->flags & ~1u || (discard && g->flags))
		return -ENOTSUP;
	if (g->sectors > (discard ? VBLK_DISCARD_MAX : VBLK_RANGE_MAX) ||
	    !vblk_inside(b, g->sector, g->sectors))
		return -EINVAL;
	return 0;
}

/* All ranges are read once and checked before the first is begun. */
static int vblk_ranges(struct vblk *b, struct vblk_req *r)
{
	u64 len = r->chain->out_len - sizeof(struct vblk_header);
	int rc = 0;

	if (!len || len % sizeof(r->ranges[0]) || len > sizeof(r->ranges))
		return -EINVAL;
	r->nranges = (unsigned)(len / sizeof(r->ranges[0]));
	virtq_gather(r->chain, sizeof(struct vblk_header), r->ranges, len);
	for (unsigned i = 0; i < r->nranges && !rc; i++)
		rc = vblk_range_check(b, r->type, &r->ranges[i]);
	return rc;
}

static bool vblk_write_through(const struct vblk *b)
{
	if (!virtio_has(&b->v, VBLK_F_FLUSH | VBLK_F_CONFIG_WCE))
		return true;
	return virtio_has(&b->v, VBLK_F_CONFIG_WCE) && !b->r.writeback;
}

static int vblk_transfer(struct vblk *b, struct vblk_req *r, u64 sector)
{
	const struct virtq_chain *c = r->chain;
	bool in = r->type == VBLK_T_IN;
	u64 head = in ? 0 : sizeof(struct vblk_header);
	u64 len = in ? c->in_len - 1 : c->out_len - head;

	if (len % DISK_SECTOR || !vblk_inside(b, sector, len / DISK_SECTOR))
		return -EINVAL;
	r->d.op = in ? DISK_READ : DISK_WRITE;
	r->d.sync = !in && vblk_write_through(b);
	r->d.off = sector * DISK_SECTOR;
	r->d.len = len;
	r->d.iov = r->iov;
	r->d.niov = disk_iov_slice(r->iov, in ? c->in : c->out,
				   in ? c->nin : c->nout, head, len);
	disk_submit(b->disk, &r->d);
	return 0;
}

static int vblk_get_id(struct vblk *b, const struct virtq_chain *c)
{
	virtq_scatter(c, 0, b->id, MIN(c->in_len - 1, VBLK_ID_LEN));
	return 0;
}

/* 0: it was submitted; 1: it is done; or why it cannot be. */
static int vblk_begin(struct vblk *b, struct vblk_req *r, u64 sector)
{
	int rc;

	switch (r->type) {
	case VBLK_T_IN:
	case VBLK_T_OUT: return vblk_transfer(b, r, sector);
	case VBLK_T_FLUSH:
		r->d.op = DISK_FLUSH;
		disk_submit(b->disk, &r->d);
		return 0;
	case VBLK_T_DISCARD:
	case VBLK_T_WRITE_ZEROES:
		rc = vblk_ranges(b, r);
		if (!rc)
			vblk_next_range(r);
		return rc;
	default: return -ENOTSUP;
	}
}

static struct vblk_req *vblk_req_new(struct vblk *b, unsigned queue,
				     const struct virtq_chain *c)
{
	unsigned n = c->nout + c->nin;
	struct vblk_req *r = calloc(1, sizeof(*r) + n * sizeof(r->iov[0]));

	if (!r)
		return NULL;
	r->chain = virtq_chain_dup(c);
	if (!r->chain) {
		free(r);
		return NULL;
	}
	r->b = b;
	r->queue = queue;
	r->d.done = vblk_done;
	return r;
}

static void vblk_request(struct vblk *b, unsigned queue,
			 const struct virtq_chain *c)
{
	struct vblk_header h;
	struct vblk_req *r;
	int rc;

	if (virtq_gather(c, 0, &h, sizeof(h)) < sizeof(h) || !c->in_len) {
		virtio_fail(&b->v, queue, "request without header or status");
		return;
	}
	if (h.type == VBLK_T_GET_ID) {
		vblk_get_id(b, c);
		vblk_give_back(b, queue, c, VBLK_S_OK);
		return;
	}
	r = vblk_req_new(b, queue, c);
	if (!r) {
		vblk_give_back(b, queue, c, VBLK_S_IOERR);
		return;
	}
	virtio_hold(&b->v, queue);
	r->type = h.type;
	rc = vblk_begin(b, r, h.sector);
	if (rc)
		vblk_done(&r->d, rc);
}

static bool vblk_full(struct vblk *b, unsigned queue)
{
	return b->v.queue[queue].inflight >= virtio_q(&b->v, queue)->s.size;
}

/* One queue must not keep the others waiting: after a lap it comes again. */
static void vblk_kick(struct virtio *v, unsigned queue)
{
	struct vblk *b = vblk_of(v);
	struct virtq *q = virtio_q(v, queue);
	unsigned budget = q->s.size;

	do {
		virtq_kicks(q, false);
		while (!vblk_full(b, queue) && budget &&
		       virtq_pop(q, &b->chain)) {
			budget--;
			vblk_request(b, queue, &b->chain);
		}
	} while (!vblk_full(b, queue) && budget && virtq_kicks(q, true));
	if (vblk_full(b, queue))
		b->full |= BIT(queue);
	vblk_drain(b);
	disk_kick(b->disk);
	virtio_signal(v, queue);
	if (!budget)
		virtio_kick(v, queue);
}

/* ---- configuration ---- */

static void vblk_config_write(struct virtio *v, u32 off, u64 val, unsigned len)
{
	struct vblk *b = vblk_of(v);

	if (off == offsetof(struct vblk_config, writeback) && len == 1 &&
	    virtio_has(v, VBLK_F_CONFIG_WCE)) {
		b->r.writeback = val & 1;
		b->config.writeback = val & 1;
	}
}

static void vblk_reset(struct virtio *v)
{
	struct vblk *b = vblk_of(v);

	b->r.writeback = b->config.writeback = 1;
}

static void vblk_loaded(struct virtio *v)
{
	struct vblk *b = vblk_of(v);

	b->config.writeback = b->r.writeback & 1;
}

static void vblk_free(struct virtio *v)
{
	struct vblk *b = vblk_of(v);

	vthread_stop(&b->thread);
	disk_free(b->disk);
	vthread_free(&b->thread);
}

static const struct virtio_ops vblk_ops = {
	.kick = vblk_kick,
	.config_write = vblk_config_write,
	.reset = vblk_reset,
	.loaded = vblk_loaded,
	.free = vblk_free,
};

static const struct virtio_type vblk_type = {
	.id = VIRTIO_ID_BLK,
	.pci_class = 0x018000,
	.ops = &vblk_ops,
};

static const struct state_field vblk_fields[] = {
	VIRTIO_FIELDS(struct vblk_regs),
	STATE(struct vblk_regs, writeback, 1),
};

static const struct state_desc vblk_state = {
	.name = "virtio-blk",
	.version = 1,
	.size = sizeof(struct vblk_regs),
	.fields = vblk_fields,
	.nfields = ARRAY_LEN(vblk_fields),
	.check = virtio_check,
};

static const struct dev_class vblk_class =
	VIRTIO_CLASS("virtio-blk", &vblk_state);

static void vblk_configure(struct vblk *b, unsigned queues)
{
	const struct disk *d = b->disk;

	b->config = (struct vblk_config){
		.capacity = d->size / DISK_SECTOR,
		.seg_max = VBLK_SEG_MAX,
		.blk_size = d->block,
		.physical_block_exp =
			(u8)__builtin_ctz(MAX(d->physical / d->block, 1u)),
		.min_io_size = (u16)MAX(d->physical / d->block, 1u),
		.writeback = 1,
		.num_queues = (u16)queues,
		.max_discard_sectors = VBLK_DISCARD_MAX,
		.max_discard_seg = VBLK_RANGES,
		.discard_sector_alignment = d->physical / DISK_SECTOR,
		.max_write_zeroes_sectors = VBLK_RANGE_MAX,
		.max_write_zeroes_seg = VBLK_RANGES,
		.write_zeroes_may_unmap = 1,
	};
	b->r.writeback = 1;
	b->v.config = &b->config;
	b->v.config_len = sizeof(b->config);
}

static u64 vblk_features(const struct disk *d, unsigned queues)
{
	u64 f = VIRTIO_F_TRANSPORT | VBLK_F_SEG_MAX | VBLK_F_BLK_SIZE |
		VBLK_F_FLUSH | VBLK_F_TOPOLOGY | VBLK_F_CONFIG_WCE;

	f |= d->readonly ? VBLK_F_RO : VBLK_F_DISCARD | VBLK_F_WRITE_ZEROES;
	return queues > 1 ? f | VBLK_F_MQ : f;
}

static int vblk_open(struct vblk *b, struct mem *m, unsigned queues,
		     struct err *e)
{
	int rc = vthread_start(&b->thread, "virtio-blk", e);

	if (rc)
		return rc;
	b->disk->settled = vblk_settled;
	b->disk->settled_arg = b;
	rc = disk_start(b->disk, b->thread.loop, e);
	if (rc)
		return rc;
	rc = virtio_init(&b->v, &vblk_type, &vblk_class, &b->r, m,
			 b->thread.loop, queues, VBLK_QUEUE_MAX,
			 vblk_features(b->disk, queues), e);
	if (!rc)
		vblk_configure(b, queues);
	return rc;
}

struct virtio *vblk_new(struct mem *m, struct disk *disk, unsigned queues,
			const char *serial, struct err *e)
{
	struct vblk *b = calloc(1, sizeof(*b));

	if (!b) {
		disk_free(disk);
		err_set(e, -ENOMEM, "no memory for a block device");
		return NULL;
	}
	b->disk = disk;
	b->last = &b->done;
	memcpy(b->id, serial, strnlen(serial, VBLK_ID_LEN));
	queues = MAX(MIN(queues, VBLK_QUEUES), 1u);
	if (!vblk_open(b, m, queues, e))
		return &b->v;
	vblk_free(&b->v);
	free(b);
	return NULL;
}
