/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A board with memory, a PCI bus and an event loop on a thread of its own,
 * and a driver that finds a virtio function on it as a guest does. For tests
 * and fuzzers only.
 *
 * Guest memory: 16 MiB at 0. Rings of queue q at VBOARD_RING(q); buffers are
 * handed out from VBOARD_BUFFERS upwards.
 */
#ifndef BUS_VBOARD_H
#define BUS_VBOARD_H

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "bus/vdriver.h"
#include "bus/virtio_pci.h"

#define VBOARD_ECAM    0xe0000000ull
#define VBOARD_WINDOW  0xc0000000ull
#define VBOARD_RING(q) (0x100000ull + (q)*0x100000ull)
#define VBOARD_BUFFERS 0x800000ull

struct vboard {
	struct mem mem;
	struct io_space *pio, *mmio;
	struct pci_bus *bus;
	struct dev_list devs;
	struct loop *loop;
	pthread_t thread;
	u32 msis[64]; /* by data; atomic */
	bool intx[4]; /* atomic */
	u64 next;     /* buffer */
};

/* A function as its driver sees it. */
struct vfn {
	struct vboard *b;
	unsigned bdf;
	u64 common, isr, config, notify; /* addresses */
	u32 notify_step;
	unsigned window; /* the PCI capability */
	u64 features;
};

static inline void vboard_line(void *arg, unsigned n, bool level)
{
	__atomic_store_n(&((struct vboard *)arg)->intx[n], level,
			 __ATOMIC_SEQ_CST);
}

static inline void vboard_msi(void *arg, u64 address, u32 data)
{
	(void)address;
	__atomic_add_fetch(&((struct vboard *)arg)->msis[data % 64], 1,
			   __ATOMIC_SEQ_CST);
}

static inline void *vboard_thread(void *arg)
{
	loop_run(((struct vboard *)arg)->loop);
	return NULL;
}

static inline struct vboard *vboard_new(const struct accel *accel)
{
	struct vboard *b = calloc(1, sizeof(*b));
	struct pci_wiring w = {
		.pio = b->pio = io_space_new("pio"),
		.mmio = b->mmio = io_space_new("mmio"),
		.msi = {vboard_msi, b},
	};

	if (accel)
		w.accel = *accel;
	for (unsigned i = 0; i < 4; i++)
		w.intx[i] = (struct irq_line){vboard_line, b, i};
	ASSERT(!mem_init(&b->mem, 16 * MIB, NULL));
	ASSERT(!mem_add_slot(&b->mem, 0, 16 * MIB, 0, false, NULL));
	b->bus = pci_bus_new(&w, NULL);
	pci_bus_add(b->bus, &b->devs);
	ASSERT(!pci_bus_ecam(b->bus, VBOARD_ECAM, MIB, NULL));
	b->loop = loop_new(NULL);
	ASSERT(!pthread_create(&b->thread, NULL, vboard_thread, b));
	b->next = VBOARD_BUFFERS;
	return b;
}

static inline void vboard_free(struct vboard *b)
{
	dev_list_free(&b->devs);
	loop_stop(b->loop);
	pthread_join(b->thread, NULL);
	loop_free(b->loop);
	io_space_free(b->pio);
	io_space_free(b->mmio);
	mem_fini(&b->mem);
	free(b);
}

static inline u64 vboard_buf(struct vboard *b, u64 len)
{
	u64 at = b->next;

	b->next = ALIGN_UP(at + len, 64);
	ASSERT(b->next <= 16 * MIB);
	return at;
}

static inline void *vboard_ptr(struct vboard *b, u64 gpa)
{
	return mem_ptr(&b->mem, gpa, 1);
}

static inline u32 vfn_cfg(struct vfn *f, unsigned off, unsigned len)
{
	return (u32)io_read(f->b->mmio, VBOARD_ECAM + (f->bdf << 12) + off,
			    len);
}

static inline void vfn_cfg_put(struct vfn *f, unsigned off, u32 v, unsigned len)
{
	io_write(f->b->mmio, VBOARD_ECAM + (f->bdf << 12) + off, v, len);
}

static inline u64 vfn_get(struct vfn *f, u64 at, unsigned len)
{
	return io_read(f->b->mmio, at, len);
}

static inline void vfn_put(struct vfn *f, u64 at, u64 v, unsigned len)
{
	io_write(f->b->mmio, at, v, len);
}

/* Offsets in the common configuration. */
enum {
	VFN_DFSELECT = 0,
	VFN_DF = 4,
	VFN_GFSELECT = 8,
	VFN_GF = 12,
	VFN_CONFIG_VECTOR = 16,
	VFN_NUM_QUEUES = 18,
	VFN_STATUS = 20,
	VFN_GENERATION = 21,
	VFN_SELECT = 22,
	VFN_SIZE = 24,
	VFN_VECTOR = 26,
	VFN_ENABLE = 28,
	VFN_NOTIFY_OFF = 30,
	VFN_DESC = 32,
	VFN_DRIVER = 40,
	VFN_DEVICE = 48,
	VFN_RESET = 58,
};

static inline u8 vfn_status(struct vfn *f)
{
	return (u8)vfn_get(f, f->common + VFN_STATUS, 1);
}

static inline void vfn_set_status(struct vfn *f, u8 v)
{
	vfn_put(f, f->common + VFN_STATUS, v, 1);
}

/* BARs and capabilities, as firmware and driver find them. */
static inline void vfn_find(struct vfn *f)
{
	u64 bar = vfn_cfg(f, 0x10, 4) & ~15u;
	unsigned at = vfn_cfg(f, 0x34, 1);

	bar |= (u64)vfn_cfg(f, 0x14, 4) << 32;
	for (; at; at = vfn_cfg(f, at + 1, 1)) {
		u64 where = bar + vfn_cfg(f, at + 8, 4);

		if (vfn_cfg(f, at, 1) != 9)
			continue;
		switch (vfn_cfg(f, at + 3, 1)) {
		case 1: f->common = where; break;
		case 2:
			f->notify = where;
			f->notify_step = vfn_cfg(f, at + 16, 4);
			break;
		case 3: f->isr = where; break;
		case 4: f->config = where; break;
		case 5: f->window = at; break;
		}
	}
}

/* Vector v sends data v. */
static inline void vfn_msix(struct vfn *f, unsigned vectors)
{
	u64 bar = vfn_cfg(f, 0x10, 4) & ~15u;
	unsigned at = vfn_cfg(f, 0x34, 1);

	while (vfn_cfg(f, at, 1) != 0x11)
		at = vfn_cfg(f, at + 1, 1);
	bar += vfn_cfg(f, at + 4, 4) & ~7u;
	for (unsigned v = 0; v < vectors; v++) {
		vfn_put(f, bar + 16 * v, 0xfee00000, 8);
		vfn_put(f, bar + 16 * v + 8, v, 4);
		vfn_put(f, bar + 16 * v + 12, 0, 4);
	}
	vfn_cfg_put(f, at + 2, 0x8000, 2);
}

/* Puts v on the board, which firmware sets up. */
static inline struct vfn vboard_add(struct vboard *b, struct virtio *v)
{
	struct vfn f = {.b = b};

	ASSERT(!virtio_pci_add(b->bus, 0, v, &b->devs, NULL));
	for (unsigned i = 1; i < PCI_FUNCTIONS; i++)
		if (b->bus->fn[i])
			f.bdf = i;
	ASSERT(!pci_bus_assign(b->bus, VBOARD_WINDOW, 16 * MIB, NULL));
	vfn_find(&f);
	vfn_cfg_put(&f, 4, 6, 2);
	return f;
}

static inline u64 vfn_offered(struct vfn *f)
{
	u64 v;

	vfn_put(f, f->common + VFN_DFSELECT, 0, 4);
	v = vfn_get(f, f->common + VFN_DF, 4);
	vfn_put(f, f->common + VFN_DFSELECT, 1, 4);
	return v | vfn_get(f, f->common + VFN_DF, 4) << 32;
}

/* Reset and negotiation, up to FEATURES_OK; false if it is refused. */
static inline bool vfn_negotiate(struct vfn *f, u64 features)
{
	vfn_set_status(f, 0);
	vfn_set_status(f, 1);
	vfn_set_status(f, 3);
	for (unsigned i = 0; i < 2; i++) {
		vfn_put(f, f->common + VFN_GFSELECT, i, 4);
		vfn_put(f, f->common + VFN_GF, (u32)(features >> (32 * i)), 4);
	}
	vfn_set_status(f, 11);
	f->features = features;
	return vfn_status(f) & 8;
}

/* Enables queue n with vector n + 1 and lays out its rings. */
static inline void vfn_queue(struct vfn *f, unsigned n, u16 size,
			     struct vdrv_queue *q)
{
	u64 c = f->common;

	vdrv_init(q, &f->b->mem, VBOARD_RING(n), size,
		  f->features & VIRTIO_F_RING_PACKED,
		  f->features & VIRTIO_F_INDIRECT_DESC,
		  f->features & VIRTIO_F_EVENT_IDX);
	vfn_put(f, c + VFN_SELECT, n, 2);
	vfn_put(f, c + VFN_SIZE, size, 2);
	vfn_put(f, c + VFN_VECTOR, n + 1, 2);
	vfn_put(f, c + VFN_DESC, q->desc, 8);
	vfn_put(f, c + VFN_DRIVER, (u32)q->driver, 4);
	vfn_put(f, c + VFN_DRIVER + 4, q->driver >> 32, 4);
	vfn_put(f, c + VFN_DEVICE, q->device, 8);
	vfn_put(f, c + VFN_ENABLE, 1, 2);
}

static inline void vfn_go(struct vfn *f)
{
	vfn_set_status(f, 15);
}

static inline void vfn_kick(struct vfn *f, unsigned n)
{
	vfn_put(f, f->notify + n * f->notify_step, n, 2);
}

/* All of BAR 0, as a range for dev_test(). */
static inline u64 vfn_bar_read(void *arg, u64 off, unsigned len)
{
	struct vfn *f = arg;

	return vfn_get(f, (f->common & ~0x7fffull) + off, len);
}

static inline void vfn_bar_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct vfn *f = arg;

	vfn_put(f, (f->common & ~0x7fffull) + off, val, len);
}

static const struct io_ops vfn_bar_ops = {vfn_bar_read, vfn_bar_write};

/* Waits for the next used chain; -1 after ms milliseconds. */
static inline int vdrv_wait(struct vdrv_queue *q, u32 *len, unsigned ms)
{
	u64 end = clock_ns() + ms * 1000000ull;
	int id;

	while ((id = vdrv_get(q, len)) < 0 && clock_ns() < end)
		usleep(50);
	return id;
}

/* Waits until *p is at least want. */
static inline bool vboard_until(const u32 *p, u32 want, unsigned ms)
{
	u64 end = clock_ns() + ms * 1000000ull;

	while (__atomic_load_n(p, __ATOMIC_SEQ_CST) < want)
		if (clock_ns() > end)
			return false;
		else
			usleep(50);
	return true;
}

#endif
