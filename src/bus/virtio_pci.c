/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio over PCI (virtio 1.2, 4.1): BAR 0 holds the four register blocks and
 * the MSI-X table. The driver finds the blocks by vendor capabilities, the
 * fifth of which reaches the BAR through configuration space.
 *
 * A kick is a write to the queue's own notify address, which goes straight to
 * the queue's eventfd where the engine offers that.
 */
#include "bus/virtio_pci.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bus/pci_priv.h"

#define VPCI_VENDOR      0x1af4
#define VPCI_DEVICE_BASE 0x1040

/* Layout of BAR 0. */
enum {
	VPCI_COMMON = 0x0000,
	VPCI_ISR = 0x1000,
	VPCI_DEVICE = 0x2000,
	VPCI_NOTIFY = 0x3000,
	VPCI_MSIX = 0x4000,
	VPCI_PBA = 0x4800,
	VPCI_BAR_SIZE = 0x8000,
	VPCI_BLOCK = 0x1000,
	VPCI_NOTIFY_STEP = 4,
};

enum {
	VPCI_CAP_COMMON = 1,
	VPCI_CAP_NOTIFY = 2,
	VPCI_CAP_ISR = 3,
	VPCI_CAP_DEVICE = 4,
	VPCI_CAP_PCI = 5,
};

/* struct virtio_pci_cap without the two bytes of every capability. */
struct vpci_cap {
	u8 len, type, bar, id, padding[2];
	u32 offset, length;
	u32 extra; /* notify: multiplier; PCI: the data window */
} __attribute__((packed));

enum {
	VPCI_CAP_LEN = 16,
	VPCI_CAP_LEN_EXTRA = 20,
	VPCI_WINDOW_BAR = 4, /* offsets in the PCI capability */
	VPCI_WINDOW_OFFSET = 8,
	VPCI_WINDOW_LENGTH = 12,
	VPCI_WINDOW_DATA = 16,
};

/* struct virtio_pci_common_cfg (4.1.4.3). */
struct vpci_common {
	u32 device_feature_select, device_feature;
	u32 driver_feature_select, driver_feature;
	u16 config_msix_vector, num_queues;
	u8 device_status, config_generation;
	u16 queue_select, queue_size, queue_msix_vector;
	u16 queue_enable, queue_notify_off;
	u64 queue_desc, queue_driver, queue_device;
	u16 queue_notify_data, queue_reset;
} __attribute__((packed));

struct vpci {
	struct pci_dev pci; /* first */
	struct virtio *v;
	unsigned window; /* offset of the PCI capability */
	u64 notify_at;   /* where ioeventfds are; 0: none. bus lock */
};

static struct vpci *vpci_of(struct pci_dev *d)
{
	return container_of(d, struct vpci, pci);
}

/* ---- common configuration ---- */

/* The queue that is selected, or NULL. */
static struct virtq *vpci_queue(struct virtio *v)
{
	u16 q = v->r->queue_select;

	return q < v->nqueues ? virtio_q(v, q) : NULL;
}

static void vpci_common_render(struct virtio *v, struct vpci_common *c)
{
	const struct virtio_regs *r = v->r;
	const struct virtq *q = vpci_queue(v);

	*c = (struct vpci_common){
		.device_feature_select = r->device_feature_select,
		.device_feature =
			virtio_features_read(v, r->device_feature_select),
		.driver_feature_select = r->driver_feature_select,
		.config_msix_vector = r->config_vector,
		.num_queues = (u16)v->nqueues,
		.device_status = r->status,
		.config_generation = r->generation,
		.queue_select = r->queue_select,
		.queue_msix_vector = VIRTIO_NO_VECTOR,
	};
	if (r->driver_feature_select < 2)
		c->driver_feature = (u32)(r->driver_features >>
					  (32 * r->driver_feature_select));
	if (!q)
		return;
	c->queue_size = q->s.size;
	c->queue_msix_vector = q->s.vector;
	c->queue_enable = q->s.enabled;
	c->queue_notify_off = r->queue_select;
	c->queue_desc = q->s.desc;
	c->queue_driver = q->s.driver;
	c->queue_device = q->s.device;
}

static u64 vpci_common_read(struct vpci *p, u64 off, unsigned len)
{
	struct vpci_common c;
	u64 val = 0;

	if (off >= sizeof(c))
		return 0;
	virtio_lock(p->v);
	vpci_common_render(p->v, &c);
	virtio_unlock(p->v);
	memcpy(&val, (u8 *)&c + off, MIN(len, sizeof(c) - off));
	return val;
}

static u16 vpci_vector(const struct vpci *p, u64 val)
{
	return val < p->pci.nvectors ? (u16)val : VIRTIO_NO_VECTOR;
}

/* One half, or all, of an address of the selected queue. */
static void vpci_address(struct virtio *v, u64 *field, unsigned at, u64 val,
			 unsigned len)
{
	if (!vpci_queue(v)->s.enabled)
		memcpy((u8 *)field + at, &val, len);
}

#define C(m) offsetof(struct vpci_common, m)

/* Fields of the selected queue, which exists. */
static void vpci_queue_write(struct vpci *p, u64 off, u64 val, unsigned len)
{
	struct virtio *v = p->v;
	struct virtq *q = vpci_queue(v);

	if (off >= C(queue_desc) && off < C(queue_notify_data)) {
		u64 *field = off < C(queue_driver)   ? &q->s.desc
			     : off < C(queue_device) ? &q->s.driver
						     : &q->s.device;

		vpci_address(v, field, off & 7, val, len);
		return;
	}
	switch (off) {
	case C(queue_size):
		virtio_queue_size(v, v->r->queue_select, (u16)val);
		break;
	case C(queue_msix_vector): q->s.vector = vpci_vector(p, val); break;
	case C(queue_enable):
		if (val == 1)
			virtio_queue_enable(v, v->r->queue_select);
		break;
	case C(queue_reset):
		if (val == 1)
			virtio_queue_reset(v, v->r->queue_select);
		break;
	}
}

static void vpci_field_write(struct vpci *p, u64 off, u64 val, unsigned len)
{
	struct virtio *v = p->v;
	struct virtio_regs *r = v->r;

	switch (off) {
	case C(device_feature_select):
		r->device_feature_select = (u32)val;
		break;
	case C(driver_feature_select):
		r->driver_feature_select = (u32)val;
		break;
	case C(driver_feature):
		virtio_features_write(v, r->driver_feature_select, (u32)val);
		break;
	case C(config_msix_vector):
		r->config_vector = vpci_vector(p, val);
		break;
	case C(device_status): virtio_status_write(v, (u8)val); break;
	case C(queue_select): r->queue_select = (u16)val; break;
	default:
		if (vpci_queue(v))
			vpci_queue_write(p, off, val, len);
		break;
	}
}

/* Width of the field at off; addresses also in halves (4.1.3.1). */
static bool vpci_width_ok(u64 off, unsigned len)
{
	if (off < C(config_msix_vector))
		return len == 4 && !(off & 3);
	if (off == C(device_status) || off == C(config_generation))
		return len == 1;
	if (off >= C(queue_desc) && off < C(queue_notify_data))
		return (len == 4 || len == 8) && !(off & (len - 1));
	return len == 2 && !(off & 1) && off < sizeof(struct vpci_common);
}

static void vpci_common_write(struct vpci *p, u64 off, u64 val, unsigned len)
{
	if (!vpci_width_ok(off, len))
		return;
	virtio_lock(p->v);
	vpci_field_write(p, off, val, len);
	virtio_unlock(p->v);
}

/* ---- BAR 0 ---- */

static u64 vpci_bar_read(struct pci_dev *d, unsigned bar, u64 off, unsigned len)
{
	struct vpci *p = vpci_of(d);
	u64 val = 0;

	if (bar != 0)
		return 0;
	if (off < VPCI_ISR)
		return vpci_common_read(p, off - VPCI_COMMON, len);
	if (off == VPCI_ISR || (off >= VPCI_DEVICE && off < VPCI_NOTIFY)) {
		virtio_lock(p->v);
		val = off == VPCI_ISR ? virtio_isr_read(p->v)
				      : virtio_config_read(
						p->v, off - VPCI_DEVICE, len);
		virtio_unlock(p->v);
	}
	return val;
}

static void vpci_notify(struct vpci *p, u64 off)
{
	u64 q = off / VPCI_NOTIFY_STEP;

	if (off % VPCI_NOTIFY_STEP || q >= p->v->nqueues)
		return;
	__atomic_fetch_add(&p->v->queue[q].kick_exits, 1, __ATOMIC_RELAXED);
	virtio_kick(p->v, (unsigned)q);
}

static void vpci_bar_write(struct pci_dev *d, unsigned bar, u64 off, u64 val,
			   unsigned len)
{
	struct vpci *p = vpci_of(d);

	if (bar != 0)
		return;
	if (off < VPCI_ISR) {
		vpci_common_write(p, off - VPCI_COMMON, val, len);
	} else if (off >= VPCI_DEVICE && off < VPCI_NOTIFY) {
		virtio_lock(p->v);
		virtio_config_write(p->v, off - VPCI_DEVICE, val, len);
		virtio_unlock(p->v);
	} else if (off >= VPCI_NOTIFY && off < VPCI_MSIX) {
		vpci_notify(p, off - VPCI_NOTIFY);
	}
}

static void vpci_ioeventfds(struct vpci *p, u64 notify, bool add)
{
	const struct accel *a = &p->pci.bus->w.accel;

	if (!a->ops || !a->ops->ioeventfd)
		return;
	for (unsigned i = 0; i < p->v->nqueues; i++)
		a->ops->ioeventfd(a->arg, notify + i * VPCI_NOTIFY_STEP, 2,
				  p->v->queue[i].kick_fd, add);
}

static void vpci_bar_moved(struct pci_dev *d, unsigned bar, u64 base)
{
	struct vpci *p = vpci_of(d);

	if (bar != 0)
		return;
	if (p->notify_at)
		vpci_ioeventfds(p, p->notify_at, false);
	p->notify_at = base ? base + VPCI_NOTIFY : 0;
	if (p->notify_at)
		vpci_ioeventfds(p, p->notify_at, true);
}

/* What was kicked while DMA was off waits in the rings. */
static void vpci_master(struct pci_dev *d, bool on)
{
	if (on)
		virtio_kick_all(vpci_of(d)->v);
}

/* ---- the window in configuration space (4.1.4.9) ---- */

/* The access that the capability describes; false: none, or a wrong one. */
static bool vpci_window(struct vpci *p, unsigned off, unsigned len, u32 *at,
			u32 *width)
{
	const u8 *cap = p->pci.r.cfg + p->window;

	if (!pci_overlap(off, len, p->window + VPCI_WINDOW_DATA, 4))
		return false;
	*at = pci_get32(cap, VPCI_WINDOW_OFFSET);
	*width = pci_get32(cap, VPCI_WINDOW_LENGTH);
	return cap[VPCI_WINDOW_BAR] == 0 &&
	       (*width == 1 || *width == 2 || *width == 4) &&
	       !(*at & (*width - 1)) && *at < VPCI_BAR_SIZE;
}

static void vpci_cfg_reading(struct pci_dev *d, unsigned off, unsigned len)
{
	struct vpci *p = vpci_of(d);
	u32 at, width, val;

	if (!vpci_window(p, off, len, &at, &width))
		return;
	val = (u32)vpci_bar_read(d, 0, at, width);
	pthread_mutex_lock(&d->dev.lock);
	memcpy(d->r.cfg + p->window + VPCI_WINDOW_DATA, &val, width);
	pthread_mutex_unlock(&d->dev.lock);
}

static void vpci_cfg_written(struct pci_dev *d, unsigned off, unsigned len)
{
	struct vpci *p = vpci_of(d);
	u32 at, width, val;

	if (!vpci_window(p, off, len, &at, &width))
		return;
	val = pci_get32(d->r.cfg, p->window + VPCI_WINDOW_DATA);
	vpci_bar_write(d, 0, at, val & (u32)(~0ull >> (64 - 8 * width)), width);
}

/* Freed before the device, which must not reach for it any more. */
static void vpci_free(struct pci_dev *d)
{
	struct virtio *v = vpci_of(d)->v;

	virtio_lock(v);
	v->transport = NULL;
	virtio_unlock(v);
}

static const struct pci_dev_ops vpci_pci_ops = {
	.bar_read = vpci_bar_read,
	.bar_write = vpci_bar_write,
	.bar_moved = vpci_bar_moved,
	.cfg_reading = vpci_cfg_reading,
	.cfg_written = vpci_cfg_written,
	.master = vpci_master,
	.free = vpci_free,
};

/* ---- interrupts ---- */

static void vpci_irq(void *arg, u16 vector)
{
	struct vpci *p = arg;

	if (!pci_msix_on(&p->pci))
		pci_intx(&p->pci, true);
	else if (vector != VIRTIO_NO_VECTOR)
		pci_msix_send(&p->pci, vector);
}

static void vpci_isr_clear(void *arg)
{
	pci_intx(&((struct vpci *)arg)->pci, false);
}

static bool vpci_may_dma(void *arg)
{
	return pci_master(&((struct vpci *)arg)->pci);
}

static const struct virtio_transport vpci_transport = {
	.queue_irq = vpci_irq,
	.config_irq = vpci_irq,
	.isr_clear = vpci_isr_clear,
	.may_dma = vpci_may_dma,
};

/* ---- making one ---- */

static unsigned vpci_cap(struct vpci *p, u8 type, u32 offset, u32 length,
			 u32 extra)
{
	bool more = type == VPCI_CAP_NOTIFY || type == VPCI_CAP_PCI;
	u8 len = more ? VPCI_CAP_LEN_EXTRA : VPCI_CAP_LEN;
	struct vpci_cap c = {
		.len = len,
		.type = type,
		.offset = offset,
		.length = length,
		.extra = extra,
	};
	struct vpci_cap w = {
		.bar = 0xff,
		.offset = ~0u,
		.length = ~0u,
		.extra = ~0u,
	};

	return pci_cap(&p->pci, PCI_CAP_VENDOR, &c,
		       type == VPCI_CAP_PCI ? &w : NULL, len);
}

static void vpci_describe(struct vpci *p)
{
	struct virtio *v = p->v;
	u16 id = (u16)(VPCI_DEVICE_BASE + v->type->id);
	struct pci_id pid = {
		.vendor = VPCI_VENDOR,
		.device = id,
		.sub_vendor = VPCI_VENDOR,
		.sub_device = id,
		.class = v->type->pci_class,
		.revision = 1,
	};

	pci_dev_init(&p->pci, &vpci_pci_ops, &pid, v->dev.class->name);
	pci_bar(&p->pci, 0, VPCI_BAR_SIZE, PCI_BAR_64);
	vpci_cap(p, VPCI_CAP_COMMON, VPCI_COMMON, VPCI_BLOCK, 0);
	vpci_cap(p, VPCI_CAP_ISR, VPCI_ISR, VPCI_BLOCK, 0);
	if (v->config_len)
		vpci_cap(p, VPCI_CAP_DEVICE, VPCI_DEVICE, VPCI_BLOCK, 0);
	vpci_cap(p, VPCI_CAP_NOTIFY, VPCI_NOTIFY, VPCI_BLOCK, VPCI_NOTIFY_STEP);
	p->window = vpci_cap(p, VPCI_CAP_PCI, 0, 0, 0);
	pci_msix(&p->pci, v->nqueues + 1, 0, VPCI_MSIX, VPCI_PBA);
	pci_pin(&p->pci, 1);
}

int virtio_pci_add(struct pci_bus *b, unsigned slot, struct virtio *v,
		   struct dev_list *l, struct err *e)
{
	struct vpci *p = calloc(1, sizeof(*p));
	int rc = -ENOMEM;

	if (!p) {
		err_set(e, rc, "no memory for %s", v->dev.class->name);
		goto free;
	}
	p->v = v;
	vpci_describe(p);
	rc = pci_attach(b, slot, &p->pci, e);
	if (rc)
		goto free;
	v->transport = &vpci_transport;
	v->transport_arg = p;
	rc = virtio_start(v, e);
	if (rc) {
		v->transport = NULL;
		pci_detach(&p->pci);
		goto free;
	}
	dev_add(l, &v->dev);
	dev_add(l, &p->pci.dev);
	return 0;
free:
	free(p);
	dev_free(&v->dev);
	return rc;
}
