/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio network device (virtio 1.2, 5.1): one pair of queues and the control
 * queue. Checksums that the driver leaves to the device are filled in here;
 * the backend sees whole frames. Left out: several pairs, filters, VLANs,
 * receiving large segments.
 */
#include "device/virtio_net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/virtio_thread.h"

#define VNET_QUEUE_MAX 256
#define VNET_BUFFERS   64u /* of one received frame */

#define VNET_F_CSUM       BIT64(0)
#define VNET_F_GUEST_CSUM BIT64(1)
#define VNET_F_MTU        BIT64(3)
#define VNET_F_MAC        BIT64(5)
#define VNET_F_HOST_TSO4  BIT64(11)
#define VNET_F_MRG_RXBUF  BIT64(15)
#define VNET_F_STATUS     BIT64(16)
#define VNET_F_CTRL_VQ    BIT64(17)
#define VNET_F_CTRL_RX    BIT64(18)
#define VNET_F_ANNOUNCE   BIT64(21)
#define VNET_F_CTRL_MAC   BIT64(23)

enum { VNET_RX, VNET_TX, VNET_CTRL, VNET_QUEUES };

enum {
	VNET_HDR_NEEDS_CSUM = 1,
	VNET_HDR_DATA_VALID = 2,
	VNET_GSO_NONE = 0,
	VNET_GSO_TCPV4 = 1,
	VNET_GSO_ECN = 0x80,
};

enum {
	VNET_CTRL_RX = 0,
	VNET_CTRL_RX_LAST = 5, /* promiscuous to no broadcast */
	VNET_CTRL_MAC = 1,
	VNET_CTRL_MAC_TABLE = 0,
	VNET_CTRL_MAC_ADDR = 1,
	VNET_CTRL_ANNOUNCE = 3,
	VNET_CTRL_ANNOUNCE_ACK = 0,
	VNET_STATUS_UP = 1,
	VNET_STATUS_ANNOUNCE = 2,
	VNET_OK = 0,
	VNET_ERR = 1,
};

struct vnet_header {
	u8 flags, gso_type;
	u16 hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};

struct vnet_config {
	u8 mac[6];
	u16 status, max_virtqueue_pairs, mtu;
} __attribute__((packed));

struct vnet_regs {
	struct virtio_regs v;
	u8 mac[6];
	u8 rx_mode[VNET_CTRL_RX_LAST + 1]; /* taken, but all is received */
	u8 down;
	u8 announce; /* the driver is to make itself known, and has not yet */
	u8 pad[2];
};

struct vnet {
	struct virtio v; /* first */
	struct vnet_regs r;
	struct vnet_config config;
	struct net *net;
	struct vthread thread;
	u8 mac[6]; /* the one it was made with */
	u8 frame[NET_FRAME_MAX];
	struct virtq_chain chain;
	struct virtq_chain *got[VNET_BUFFERS];
	bool stalled; /* the backend waits for buffers */
	/* Counters, for people. */
	u64 rx_dropped, tx_dropped;
};

static struct vnet *vnet_of(struct virtio *v)
{
	return container_of(v, struct vnet, v);
}

/* ---- from the guest ---- */

/* Fills in the checksum the driver left out; false: nonsense. */
static bool vnet_checksum(u8 *frame, u64 len, const struct vnet_header *h)
{
	u64 at = (u64)h->csum_start + h->csum_offset;
	u16 sum;

	if (h->csum_start >= len || at + 2 > len)
		return false;
	sum = net_sum_fold(
		net_sum(frame + h->csum_start, len - h->csum_start, 0));
	/* in UDP zero means that there is none; in TCP both are the same */
	if (!sum)
		sum = 0xffff;
	frame[at] = (u8)(sum >> 8);
	frame[at + 1] = (u8)sum;
	return true;
}

static bool vnet_gso_ok(const struct vnet *n, const struct vnet_header *h)
{
	if (h->gso_type == VNET_GSO_NONE)
		return true;
	return (h->gso_type & ~VNET_GSO_ECN) == VNET_GSO_TCPV4 &&
	       virtio_has(&n->v, VNET_F_HOST_TSO4) &&
	       h->flags & VNET_HDR_NEEDS_CSUM;
}

static bool vnet_send(struct vnet *n, const struct virtq_chain *c)
{
	struct vnet_header h;
	u64 len;

	if (virtq_gather(c, 0, &h, sizeof(h)) < sizeof(h))
		return false;
	len = c->out_len - sizeof(h);
	if (len < NET_HEADER || len > sizeof(n->frame) || n->r.down ||
	    !vnet_gso_ok(n, &h))
		return false;
	virtq_gather(c, sizeof(h), n->frame, len);
	if (h.flags & VNET_HDR_NEEDS_CSUM && !vnet_checksum(n->frame, len, &h))
		return false;
	n->net->ops->send(n->net, n->frame, len);
	return true;
}

static void vnet_tx(struct vnet *n)
{
	struct virtq *q = virtio_q(&n->v, VNET_TX);
	unsigned budget = q->s.size;

	do {
		virtq_kicks(q, false);
		while (budget && virtq_pop(q, &n->chain)) {
			budget--;
			if (!vnet_send(n, &n->chain))
				n->tx_dropped++;
			virtq_push(q, &n->chain, 0);
		}
	} while (budget && virtq_kicks(q, true));
	n->net->ops->flush(n->net);
	virtio_signal(&n->v, VNET_TX);
	if (!budget)
		virtio_kick(&n->v, VNET_TX);
}

/* ---- to the guest ---- */

static void vnet_untake(struct vnet *n, unsigned count, unsigned slots)
{
	virtq_unpop(virtio_q(&n->v, VNET_RX), count, slots);
	while (count)
		free(n->got[--count]);
}

/*
 * Takes buffers for len bytes; their number, 0 if there are not enough yet,
 * -1 if there never will be. Kicks are asked for before the buffers are put
 * back: where the driver stands then is where it must kick.
 */
static int vnet_take(struct vnet *n, u64 len)
{
	struct virtq *q = virtio_q(&n->v, VNET_RX);
	unsigned max = virtio_has(&n->v, VNET_F_MRG_RXBUF) ? VNET_BUFFERS : 1;
	unsigned count = 0, slots = 0;
	u64 room = 0;

	while (count < max && room < len) {
		if (!virtq_pop(q, &n->chain)) {
			if (virtq_kicks(q, true))
				continue;
			vnet_untake(n, count, slots);
			return 0;
		}
		n->got[count] = virtq_chain_dup(&n->chain);
		if (!n->got[count])
			break;
		count++;
		slots += n->chain.slots;
		room += n->chain.in_len;
	}
	if (room >= len && slots <= q->s.size)
		return (int)count;
	vnet_untake(n, count, slots);
	return -1;
}

static void vnet_fill(struct vnet *n, unsigned count, const u8 *frame, u64 len)
{
	struct virtq *q = virtio_q(&n->v, VNET_RX);
	struct vnet_header h = {.num_buffers = (u16)count};
	unsigned slots = 0;
	u64 done = 0;

	if (virtio_has(&n->v, VNET_F_GUEST_CSUM))
		h.flags = VNET_HDR_DATA_VALID;
	for (unsigned i = 0; i < count; i++) {
		struct virtq_chain *c = n->got[i];
		u64 head = i ? 0 : virtq_scatter(c, 0, &h, sizeof(h));
		u64 part = virtq_scatter(c, head, frame + done, len - done);

		done += part;
		virtq_fill(q, c, (u32)(head + part), i, slots);
		slots += c->slots;
		free(c);
	}
	virtq_publish(q, count, slots);
}

static bool vnet_put(struct vnet *n, const u8 *frame, size_t len)
{
	int count = vnet_take(n, len + sizeof(struct vnet_header));

	if (count > 0)
		vnet_fill(n, (unsigned)count, frame, len);
	n->rx_dropped += count < 0;
	return count;
}

/* From the backend. A frame for a device nobody uses is lost. */
static bool vnet_recv(void *arg, const u8 *frame, size_t len)
{
	struct vnet *n = arg;
	bool taken = true;

	pthread_mutex_lock(&n->v.dev.lock);
	if (n->v.paused)
		taken = false; /* it waits */
	else if (virtio_ready(&n->v, VNET_RX) && !n->r.down)
		taken = vnet_put(n, frame, len);
	else
		n->rx_dropped++;
	n->stalled = !taken;
	pthread_mutex_unlock(&n->v.dev.lock);
	return taken;
}

static void vnet_recv_end(void *arg)
{
	struct vnet *n = arg;

	pthread_mutex_lock(&n->v.dev.lock);
	virtio_signal(&n->v, VNET_RX);
	pthread_mutex_unlock(&n->v.dev.lock);
}

/* Buffers came that somebody waits for. */
static void vnet_rx(struct vnet *n)
{
	virtq_kicks(virtio_q(&n->v, VNET_RX), false);
	if (!n->stalled)
		return;
	n->stalled = false;
	n->net->ops->ready(n->net);
}

static void vnet_show(struct vnet *n)
{
	memcpy(n->config.mac, n->r.mac, sizeof(n->config.mac));
	n->config.status = (u16)((n->r.down ? 0 : VNET_STATUS_UP) |
				 (n->r.announce ? VNET_STATUS_ANNOUNCE : 0));
}

/* ---- the control queue (5.1.6.5) ---- */

static u8 vnet_command(struct vnet *n, const struct virtq_chain *c)
{
	u8 head[2] = {0xff, 0xff}, arg[6];
	u64 len = c->out_len - MIN(c->out_len, sizeof(head));

	virtq_gather(c, 0, head, sizeof(head));
	if (head[0] == VNET_CTRL_RX && head[1] <= VNET_CTRL_RX_LAST &&
	    len == 1) {
		virtq_gather(c, 2, &n->r.rx_mode[head[1]], 1);
		return VNET_OK;
	}
	if (head[0] == VNET_CTRL_ANNOUNCE &&
	    head[1] == VNET_CTRL_ANNOUNCE_ACK) {
		n->r.announce = 0;
		vnet_show(n);
		return VNET_OK;
	}
	if (head[0] != VNET_CTRL_MAC)
		return VNET_ERR;
	if (head[1] == VNET_CTRL_MAC_TABLE)
		return VNET_OK;
	if (head[1] != VNET_CTRL_MAC_ADDR || len != sizeof(arg))
		return VNET_ERR;
	virtq_gather(c, 2, n->r.mac, sizeof(n->r.mac));
	memcpy(n->config.mac, n->r.mac, sizeof(n->r.mac));
	return VNET_OK;
}

static void vnet_ctrl(struct vnet *n)
{
	struct virtq *q = virtio_q(&n->v, VNET_CTRL);
	unsigned budget = q->s.size;

	do {
		while (budget && virtq_pop(q, &n->chain)) {
			u8 ack = vnet_command(n, &n->chain);
			u64 len = virtq_scatter(&n->chain, 0, &ack, 1);

			budget--;
			virtq_push(q, &n->chain, (u32)len);
		}
	} while (budget && virtq_kicks(q, true));
	virtio_signal(&n->v, VNET_CTRL);
	if (!budget)
		virtio_kick(&n->v, VNET_CTRL);
}

static void vnet_kick(struct virtio *v, unsigned queue)
{
	struct vnet *n = vnet_of(v);

	switch (queue) {
	case VNET_RX: vnet_rx(n); break;
	case VNET_TX: vnet_tx(n); break;
	case VNET_CTRL: vnet_ctrl(n); break;
	}
}

/* ---- the rest ---- */

static bool vnet_features(struct virtio *v, u64 f)
{
	(void)v;
	return !(f & VNET_F_HOST_TSO4) || f & VNET_F_CSUM;
}

static void vnet_reset(struct virtio *v)
{
	struct vnet *n = vnet_of(v);

	memcpy(n->r.mac, n->mac, sizeof(n->r.mac));
	memset(n->r.rx_mode, 0, sizeof(n->r.rx_mode));
	n->r.announce = 0;
	vnet_show(n);
}

static void vnet_loaded(struct virtio *v)
{
	struct vnet *n = vnet_of(v);

	vnet_show(n);
	n->net->ops->ready(n->net);
}

void vnet_link(struct virtio *v, bool up)
{
	struct vnet *n = vnet_of(v);

	pthread_mutex_lock(&v->dev.lock);
	n->r.down = !up;
	vnet_show(n);
	virtio_config_changed(v);
	pthread_mutex_unlock(&v->dev.lock);
}

void vnet_set_mac(struct virtio *v, const u8 mac[6], u8 was[6])
{
	struct vnet *n = vnet_of(v);

	pthread_mutex_lock(&v->dev.lock);
	memcpy(was, n->r.mac, sizeof(n->r.mac));
	memcpy(n->r.mac, mac, sizeof(n->r.mac));
	memcpy(n->mac, mac, sizeof(n->mac));
	vnet_show(n);
	virtio_config_changed(v);
	pthread_mutex_unlock(&v->dev.lock);
}

void vnet_mac(struct virtio *v, u8 mac[6])
{
	pthread_mutex_lock(&v->dev.lock);
	memcpy(mac, vnet_of(v)->r.mac, 6);
	pthread_mutex_unlock(&v->dev.lock);
}

void vnet_announce(struct virtio *v)
{
	struct vnet *n = vnet_of(v);

	pthread_mutex_lock(&v->dev.lock);
	if (virtio_has(v, VNET_F_ANNOUNCE) && !n->r.down) {
		n->r.announce = 1;
		vnet_show(n);
		virtio_config_changed(v);
	}
	pthread_mutex_unlock(&v->dev.lock);
}

static void vnet_free(struct virtio *v)
{
	struct vnet *n = vnet_of(v);

	vthread_stop(&n->thread);
	net_free(n->net);
	vthread_free(&n->thread);
}

static const struct virtio_ops vnet_ops = {
	.kick = vnet_kick,
	.features = vnet_features,
	.reset = vnet_reset,
	.loaded = vnet_loaded,
	.free = vnet_free,
};

static const struct virtio_type vnet_type = {
	.id = VIRTIO_ID_NET,
	.pci_class = 0x020000,
	.ops = &vnet_ops,
};

static const struct state_field vnet_fields[] = {
	VIRTIO_FIELDS(struct vnet_regs),
	STATE_ARRAY(struct vnet_regs, mac, 1),
	STATE_ARRAY(struct vnet_regs, rx_mode, 1),
	STATE(struct vnet_regs, down, 1),
	STATE(struct vnet_regs, announce, 1),
	STATE_ARRAY(struct vnet_regs, pad, 1),
};

static const struct state_desc vnet_state = {
	.name = "virtio-net",
	.version = 1,
	.size = sizeof(struct vnet_regs),
	.fields = vnet_fields,
	.nfields = ARRAY_LEN(vnet_fields),
	.check = virtio_check,
};

static const struct dev_class vnet_class =
	VIRTIO_CLASS("virtio-net", &vnet_state);

static u64 vnet_offer(const struct net *net)
{
	u64 f = VIRTIO_F_TRANSPORT | VNET_F_CSUM | VNET_F_GUEST_CSUM |
		VNET_F_MTU | VNET_F_MAC | VNET_F_MRG_RXBUF | VNET_F_STATUS |
		VNET_F_CTRL_VQ | VNET_F_CTRL_RX | VNET_F_CTRL_MAC |
		VNET_F_ANNOUNCE;

	return net->large ? f | VNET_F_HOST_TSO4 : f;
}

static int vnet_open(struct vnet *n, struct mem *m, bool paused, struct err *e)
{
	int rc = vthread_start(&n->thread, "virtio-net", e);

	if (rc)
		return rc;
	rc = virtio_init(&n->v, &vnet_type, &vnet_class, &n->r, m,
			 n->thread.loop, VNET_QUEUES, VNET_QUEUE_MAX,
			 vnet_offer(n->net), e);
	if (rc)
		return rc;
	n->config.max_virtqueue_pairs = 1;
	n->config.mtu = n->net->mtu;
	n->v.config = &n->config;
	n->v.config_len = sizeof(n->config);
	vnet_reset(&n->v);
	n->v.paused = paused;
	n->net->recv = vnet_recv;
	n->net->recv_end = vnet_recv_end;
	n->net->recv_arg = n;
	return net_start(n->net, n->thread.loop, e);
}

struct virtio *vnet_new(struct mem *m, struct net *net, const u8 mac[6],
			bool paused, struct err *e)
{
	struct vnet *n = calloc(1, sizeof(*n));

	if (!n) {
		net_free(net);
		err_set(e, -ENOMEM, "no memory for a network device");
		return NULL;
	}
	n->net = net;
	memcpy(n->mac, mac, sizeof(n->mac));
	if (!vnet_open(n, m, paused, e))
		return &n->v;
	vnet_free(&n->v);
	if (n->v.queue)
		virtio_fini(&n->v);
	free(n);
	return NULL;
}
