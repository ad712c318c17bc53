/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio socket device (virtio 1.2, 5.10): packets between the rings and the
 * backend, which knows the streams. No stream survives saving: a loaded
 * machine begins without, and says so in the event queue. Left out: sequenced
 * packets, datagrams.
 */
#include "device/virtio_vsock.h"

#include <errno.h>
#include <stdlib.h>

#include "device/virtio_thread.h"

#define VVS_QUEUE_MAX 256

#define VVS_F_STREAM BIT64(0)

enum { VVS_RX, VVS_TX, VVS_EVENT, VVS_QUEUES };

#define VVS_EVENT_TRANSPORT_RESET 0u

struct vvs_config {
	u64 guest_cid;
};

struct vvs_regs {
	struct virtio_regs v;
};

struct vvs {
	struct virtio v; /* first */
	struct vvs_regs r;
	struct vvs_config config;
	struct vsock *vsock;
	struct vthread thread;
	bool tell; /* the guest that its streams are gone */
	struct virtq_chain chain;
	u8 data[VSOCK_PAYLOAD_MAX];
	u64 dropped; /* packets of the guest; for people */
};

static struct vvs *vvs_of(struct virtio *v)
{
	return container_of(v, struct vvs, v);
}

/* ---- to the guest ---- */

/* False: there was no packet after all; the buffer is back. */
static bool vvs_put(struct vvs *d)
{
	struct virtq *q = virtio_q(&d->v, VVS_RX);
	struct vsock_hdr h;
	u64 room = d->chain.in_len;
	u64 n;

	if (room <= sizeof(h)) {
		virtio_fail(&d->v, VVS_RX, "buffer has no room for a packet");
		return false;
	}
	room = MIN(room - sizeof(h), VSOCK_PAYLOAD_MAX);
	if (!vsock_next(d->vsock, &h, d->data, (u32)room)) {
		virtq_unpop(q, 1, d->chain.slots);
		return false;
	}
	n = virtq_scatter(&d->chain, 0, &h, sizeof(h));
	n += virtq_scatter(&d->chain, n, d->data, h.len);
	virtq_push(q, &d->chain, (u32)n);
	return true;
}

static void vvs_rx(struct vvs *d)
{
	struct virtq *q = virtio_q(&d->v, VVS_RX);
	unsigned budget = q->s.size;

	if (!virtio_ready(&d->v, VVS_RX))
		return;
	virtq_kicks(q, false);
	do {
		while (budget && vsock_pending(d->vsock) &&
		       virtq_pop(q, &d->chain) && vvs_put(d))
			budget--;
	} while (budget && vsock_pending(d->vsock) && virtq_kicks(q, true));
	virtio_signal(&d->v, VVS_RX);
	if (!budget)
		virtio_kick(&d->v, VVS_RX);
}

static void vvs_ready(void *arg)
{
	vvs_rx(arg);
}

/* ---- from the guest ---- */

static bool vvs_take(struct vvs *d)
{
	const struct virtq_chain *c = &d->chain;
	struct vsock_hdr h;

	if (virtq_gather(c, 0, &h, sizeof(h)) < sizeof(h) ||
	    h.len > c->out_len - sizeof(h) || h.len > sizeof(d->data))
		return false;
	virtq_gather(c, sizeof(h), d->data, h.len);
	vsock_packet(d->vsock, &h, d->data);
	return true;
}

static void vvs_tx(struct vvs *d)
{
	struct virtq *q = virtio_q(&d->v, VVS_TX);
	unsigned budget = q->s.size;

	do {
		virtq_kicks(q, false);
		while (budget && virtq_pop(q, &d->chain)) {
			budget--;
			if (!vvs_take(d))
				d->dropped++;
			virtq_push(q, &d->chain, 0);
		}
	} while (budget && virtq_kicks(q, true));
	virtio_signal(&d->v, VVS_TX);
	if (!budget)
		virtio_kick(&d->v, VVS_TX);
	vvs_rx(d);
}

/* ---- events (5.10.6.7) ---- */

static void vvs_event(struct vvs *d)
{
	struct virtq *q = virtio_q(&d->v, VVS_EVENT);
	u32 event = VVS_EVENT_TRANSPORT_RESET;

	while (d->tell && (virtq_pop(q, &d->chain) ||
			   (virtq_kicks(q, true) && virtq_pop(q, &d->chain)))) {
		u64 n = virtq_scatter(&d->chain, 0, &event, sizeof(event));

		virtq_push(q, &d->chain, (u32)n);
		d->tell = false;
	}
	virtio_signal(&d->v, VVS_EVENT);
}

/* ---- the rest ---- */

static void vvs_kick(struct virtio *v, unsigned queue)
{
	struct vvs *d = vvs_of(v);

	switch (queue) {
	case VVS_RX: vvs_rx(d); break;
	case VVS_TX: vvs_tx(d); break;
	case VVS_EVENT: vvs_event(d); break;
	}
}

static void vvs_queue_start(struct virtio *v, unsigned queue)
{
	if (queue == VVS_RX)
		vsock_up(vvs_of(v)->vsock, true);
}

static void vvs_queue_stop(struct virtio *v, unsigned queue)
{
	if (queue == VVS_RX)
		vsock_up(vvs_of(v)->vsock, false);
}

static void vvs_reset(struct virtio *v)
{
	vvs_of(v)->tell = false;
}

static void vvs_loaded(struct virtio *v)
{
	struct vvs *d = vvs_of(v);

	vsock_drop(d->vsock);
	d->tell = v->r->started;
}

static void vvs_free(struct virtio *v)
{
	struct vvs *d = vvs_of(v);

	vthread_stop(&d->thread);
	vsock_free(d->vsock);
	vthread_free(&d->thread);
}

static const struct virtio_ops vvs_ops = {
	.kick = vvs_kick,
	.queue_start = vvs_queue_start,
	.queue_stop = vvs_queue_stop,
	.reset = vvs_reset,
	.loaded = vvs_loaded,
	.free = vvs_free,
};

static const struct virtio_type vvs_type = {
	.id = VIRTIO_ID_VSOCK,
	.pci_class = 0x078000,
	.ops = &vvs_ops,
};

static const struct state_field vvs_fields[] = {
	VIRTIO_FIELDS(struct vvs_regs),
};

static const struct state_desc vvs_state = {
	.name = "virtio-vsock",
	.version = 1,
	.size = sizeof(struct vvs_regs),
	.fields = vvs_fields,
	.nfields = ARRAY_LEN(vvs_fields),
	.check = virtio_check,
};

static const struct dev_class vvs_class =
	VIRTIO_CLASS("virtio-vsock", &vvs_state);

static int vvs_open(struct vvs *d, struct mem *m, u32 cid, struct err *e)
{
	struct vsock_front f = {.cid = cid, .ready = vvs_ready, .arg = d};
	int rc = vthread_start(&d->thread, "virtio-vsock", e);

	if (rc)
		return rc;
	rc = virtio_init(&d->v, &vvs_type, &vvs_class, &d->r, m, d->thread.loop,
			 VVS_QUEUES, VVS_QUEUE_MAX,
			 VIRTIO_F_TRANSPORT | VVS_F_STREAM, e);
	if (rc)
		return rc;
	d->config.guest_cid = cid;
	d->v.config = &d->config;
	d->v.config_len = sizeof(d->config);
	f.loop = d->thread.loop;
	f.lock = &d->v.dev.lock;
	return vsock_start(d->vsock, &f, e);
}

struct virtio *vvs_new(struct mem *m, struct vsock *s, u32 cid, struct err *e)
{
	struct vvs *d = calloc(1, sizeof(*d));

	if (!d) {
		vsock_free(s);
		err_set(e, -ENOMEM, "no memory for a socket device");
		return NULL;
	}
	d->vsock = s;
	if (!vvs_open(d, m, cid, e))
		return &d->v;
	vvs_free(&d->v);
	if (d->v.queue)
		virtio_fini(&d->v);
	free(d);
	return NULL;
}
