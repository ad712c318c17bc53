/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI bus: the host bridge's two windows to configuration space, ports
 * 0xcf8/0xcfc (PCI 3.0, 3.2.2.3.2) and ECAM, and the four interrupt wires.
 * Port 0xcf9, which lies between, is the reset control register of Intel's
 * chip sets: bit 2 going from 0 to 1 resets.
 */
#include "bus/pci.h"

#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "bus/pci_priv.h"

#define PCI_PORTS      0xcf8
#define PCI_PORTS_LEN  8
#define PCI_ADDRESS_ON 0x80000000u
#define PCI_ADDRESS_RW 0x80fffffcu

enum {
	RST_SYS = 0x02,
	RST_CPU = 0x04,
	RST_FULL = 0x08,
};

static u32 pci_ones(unsigned len)
{
	return len >= 4 ? ~0u : BIT(len * 8) - 1;
}

u32 pci_cfg_read(struct pci_bus *b, unsigned bdf, unsigned off, unsigned len)
{
	u32 v = pci_ones(len);

	if (bdf >= PCI_FUNCTIONS)
		return v;
	pthread_mutex_lock(&b->dev.lock);
	if (b->fn[bdf])
		v = pci_dev_read(b->fn[bdf], off, len);
	pthread_mutex_unlock(&b->dev.lock);
	return v;
}

void pci_cfg_write(struct pci_bus *b, unsigned bdf, unsigned off, u32 val,
		   unsigned len)
{
	if (bdf >= PCI_FUNCTIONS)
		return;
	pthread_mutex_lock(&b->dev.lock);
	if (b->fn[bdf])
		pci_dev_write(b->fn[bdf], off, val, len);
	pthread_mutex_unlock(&b->dev.lock);
}

/* The address register, if it selects a configuration cycle. */
static bool pci_selected(struct pci_bus *b, u32 *address)
{
	*address = __atomic_load_n(&b->r.address, __ATOMIC_RELAXED);
	return *address & PCI_ADDRESS_ON;
}

/* off counts from 0xcf8; the data window is its upper half. */
static u64 pci_port_read(void *arg, u64 off, unsigned len)
{
	struct pci_bus *b = arg;
	u32 a;

	if (off + len > PCI_PORTS_LEN)
		return pci_ones(len);
	if (off >= 4)
		return pci_selected(b, &a)
			       ? pci_cfg_read(b, a >> 8 & 0xffff,
					      (a & 0xfc) + (off & 3), len)
			       : pci_ones(len);
	if (off == 0 && len == 4)
		return __atomic_load_n(&b->r.address, __ATOMIC_RELAXED);
	if (off == 1 && len == 1)
		return __atomic_load_n(&b->r.rst_control, __ATOMIC_RELAXED);
	return pci_ones(len);
}

static void pci_rst_control(struct pci_bus *b, u8 val)
{
	bool go;

	pthread_mutex_lock(&b->dev.lock);
	go = val & RST_CPU && !(b->r.rst_control & RST_CPU);
	b->r.rst_control = val & (RST_SYS | RST_CPU | RST_FULL);
	pthread_mutex_unlock(&b->dev.lock);
	if (go && b->w.reset)
		b->w.reset(b->w.reset_arg);
}

static void pci_port_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct pci_bus *b = arg;
	u32 a;

	if (off + len > PCI_PORTS_LEN)
		return;
	if (off >= 4) {
		if (pci_selected(b, &a))
			pci_cfg_write(b, a >> 8 & 0xffff,
				      (a & 0xfc) + (off & 3), (u32)val, len);
	} else if (off == 0 && len == 4) {
		__atomic_store_n(&b->r.address, (u32)val & PCI_ADDRESS_RW,
				 __ATOMIC_RELAXED);
	} else if (off == 1 && len == 1) {
		pci_rst_control(b, (u8)val);
	}
}

static const struct io_ops pci_port_ops = {
	.read = pci_port_read,
	.write = pci_port_write,
};

/* An access of 8 bytes arrives as two. */
static u64 pci_ecam_read(void *arg, u64 off, unsigned len)
{
	unsigned bdf = (unsigned)(off >> 12), reg = off & 0xfff;
	u64 v = pci_cfg_read(arg, bdf, reg, MIN(len, 4u));

	if (len == 8)
		v |= (u64)pci_cfg_read(arg, bdf, reg + 4, 4) << 32;
	return v;
}

static void pci_ecam_write(void *arg, u64 off, u64 val, unsigned len)
{
	unsigned bdf = (unsigned)(off >> 12), reg = off & 0xfff;

	pci_cfg_write(arg, bdf, reg, (u32)val, MIN(len, 4u));
	if (len == 8)
		pci_cfg_write(arg, bdf, reg + 4, (u32)(val >> 32), 4);
}

static const struct io_ops pci_ecam_ops = {
	.read = pci_ecam_read,
	.write = pci_ecam_write,
};

int pci_bus_ecam(struct pci_bus *b, u64 base, u64 len, struct err *e)
{
	int rc = io_map(b->w.mmio, base, len, &pci_ecam_ops, b, "pci-ecam", e);

	if (!rc)
		b->ecam = base;
	return rc;
}

void pci_bus_wire(struct pci_bus *b, unsigned wire, bool level)
{
	pthread_mutex_lock(&b->wire_lock);
	if (level && b->wires[wire]++ == 0)
		irq_set(&b->w.intx[wire], true);
	if (!level && --b->wires[wire] == 0)
		irq_set(&b->w.intx[wire], false);
	pthread_mutex_unlock(&b->wire_lock);
}

static void pci_bus_reset(struct dev *dev)
{
	struct pci_bus *b = container_of(dev, struct pci_bus, dev);

	b->r = (struct pci_bus_regs){0};
}

static void pci_bus_free(struct dev *dev)
{
	struct pci_bus *b = container_of(dev, struct pci_bus, dev);

	io_unmap(b->w.pio, PCI_PORTS);
	if (b->ecam)
		io_unmap(b->w.mmio, b->ecam);
	pthread_mutex_destroy(&b->wire_lock);
}

static const struct state_field pci_bus_fields[] = {
	STATE(struct pci_bus_regs, address, 1),
	STATE(struct pci_bus_regs, rst_control, 1),
};

static const struct state_desc pci_bus_state = {
	.name = "pci-bus",
	.version = 1,
	.size = sizeof(struct pci_bus_regs),
	.fields = pci_bus_fields,
	.nfields = ARRAY_LEN(pci_bus_fields),
};

static const struct dev_class pci_bus_class = {
	.name = "pci-bus",
	.state = &pci_bus_state,
	.reset = pci_bus_reset,
	.free = pci_bus_free,
};

static const struct pci_id pci_bridge_id = {
	.vendor = 0x1b36, /* Red Hat's, as virtio's own vendor id is */
	.device = 0x0008, /* PCI Express host bridge */
	.class = 0x060000,
};

static const struct pci_dev_ops pci_bridge_ops = {0};

static struct pci_bus *pci_bus_alloc(const struct pci_wiring *w)
{
	struct pci_bus *b = calloc(1, sizeof(*b));
	struct pci_dev *d = calloc(1, sizeof(*d));

	if (!b || !d) {
		free(b);
		free(d);
		return NULL;
	}
	dev_init(&b->dev, &pci_bus_class, &b->r);
	pthread_mutex_init(&b->wire_lock, NULL);
	b->w = *w;
	pci_dev_init(d, &pci_bridge_ops, &pci_bridge_id, "pci-bridge");
	d->bus = b;
	b->fn[0] = b->bridge = d;
	return b;
}

struct pci_bus *pci_bus_new(const struct pci_wiring *w, struct err *e)
{
	struct pci_bus *b = pci_bus_alloc(w);

	if (!b) {
		err_set(e, -ENOMEM, "no memory for the PCI bus");
		return NULL;
	}
	if (io_map(w->pio, PCI_PORTS, PCI_PORTS_LEN, &pci_port_ops, b, "pci",
		   e)) {
		free(b->bridge);
		free(b);
		return NULL;
	}
	return b;
}

void pci_bus_add(struct pci_bus *b, struct dev_list *l)
{
	dev_add(l, &b->dev);
	dev_add(l, &b->bridge->dev);
}

static int pci_slot_free(struct pci_bus *b, unsigned slot)
{
	for (unsigned s = slot ? slot : 1; s < PCI_FUNCTIONS / 8; s++) {
		if (!b->fn[PCI_DEVFN(s, 0)])
			return (int)s;
		if (slot)
			break;
	}
	return -1;
}

int pci_attach(struct pci_bus *b, unsigned slot, struct pci_dev *d,
	       struct err *e)
{
	int s = pci_slot_free(b, slot);

	if (s < 0)
		return err_set(e, -ENOSPC, "%s: no free PCI slot", d->name);
	d->bus = b;
	d->devfn = (u8)PCI_DEVFN(s, 0);
	pthread_mutex_lock(&b->dev.lock);
	b->fn[d->devfn] = d;
	pthread_mutex_unlock(&b->dev.lock);
	return 0;
}

/* The next address for a BAR of this size, or 0. */
static u64 pci_place(u64 *at, u64 end, u64 size)
{
	u64 base = ALIGN_UP(*at, MAX(size, PAGE_SIZE));

	if (base < *at || base > end || size > end - base)
		return 0;
	*at = base + size;
	return base;
}

static int pci_assign_dev(struct pci_dev *d, u64 *at, u64 end, struct err *e)
{
	u32 command;

	for (unsigned i = 0; i < PCI_BARS; i++) {
		u64 base;

		if (!d->bar[i].size || d->bar[i].flags & PCI_BAR_IO)
			continue;
		base = pci_place(at, end, d->bar[i].size);
		if (!base)
			return err_set(e, -ENOSPC,
				       "%s: no room for its registers in the "
				       "PCI window",
				       d->name);
		pci_dev_write(d, PCI_BAR0 + 4 * i, (u32)base, 4);
		if (d->bar[i].flags & PCI_BAR_64)
			pci_dev_write(d, PCI_BAR0 + 4 * i + 4,
				      (u32)(base >> 32), 4);
	}
	command = pci_dev_read(d, PCI_COMMAND, 2);
	pci_dev_write(d, PCI_COMMAND, command | PCI_COMMAND_MEMORY, 2);
	return 0;
}

int pci_bus_assign(struct pci_bus *b, u64 base, u64 len, struct err *e)
{
	u64 at = base;
	int rc = 0;

	pthread_mutex_lock(&b->dev.lock);
	for (unsigned i = 1; !rc && i < PCI_FUNCTIONS; i++)
		if (b->fn[i])
			rc = pci_assign_dev(b->fn[i], &at, base + len, e);
	pthread_mutex_unlock(&b->dev.lock);
	return rc;
}
