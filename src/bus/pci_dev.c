/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One PCI function: configuration space with a type 0 header (PCI 3.0, 6.1),
 * its capabilities and BARs.
 */
#include <errno.h>

#include "bus/pci_priv.h"

static const struct state_field pci_fields[] = {
	STATE_ARRAY(struct pci_regs, cfg, 1),
	STATE_ARRAY(struct pci_regs, msix, 1),
	STATE_ARRAY(struct pci_regs, msix_pending, 1),
	STATE(struct pci_regs, intx, 1),
};

static const struct state_desc pci_state = {
	.name = "pci",
	.version = 1,
	.size = sizeof(struct pci_regs),
	.fields = pci_fields,
	.nfields = ARRAY_LEN(pci_fields),
};

static u64 pci_bar_read(void *arg, u64 off, unsigned len)
{
	struct pci_bar *bar = arg;
	struct pci_dev *d = bar->d;
	unsigned n = (unsigned)(bar - d->bar);
	u64 v;

	if (off + len > bar->size)
		return ~0ull;
	if (pci_msix_read(d, n, off, len, &v))
		return v;
	return d->ops->bar_read ? d->ops->bar_read(d, n, off, len) : 0;
}

static void pci_bar_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct pci_bar *bar = arg;
	struct pci_dev *d = bar->d;
	unsigned n = (unsigned)(bar - d->bar);

	if (off + len > bar->size || pci_msix_write(d, n, off, val, len))
		return;
	if (d->ops->bar_write)
		d->ops->bar_write(d, n, off, val, len);
}

static const struct io_ops pci_bar_ops = {
	.read = pci_bar_read,
	.write = pci_bar_write,
};

/* Where the BAR's registers and the command register put it; 0: nowhere. */
static u64 pci_bar_base(const struct pci_dev *d, unsigned n)
{
	const struct pci_bar *bar = &d->bar[n];
	bool io = bar->flags & PCI_BAR_IO;
	u16 need = io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	u64 base = pci_get32(d->r.cfg, PCI_BAR0 + 4 * n) & (io ? ~3u : ~15u);

	if (!bar->size || !(pci_get16(d->r.cfg, PCI_COMMAND) & need))
		return 0;
	if (bar->flags & PCI_BAR_64)
		base |= (u64)pci_get32(d->r.cfg, PCI_BAR0 + 4 * n + 4) << 32;
	if (io && base > 0xffff)
		return 0;
	return base + bar->size > base ? base : 0; /* all ones: being sized */
}

static void pci_bar_move(struct pci_dev *d, struct pci_bar *bar, u64 base)
{
	struct pci_bus *b = d->bus;
	struct io_space *s = bar->flags & PCI_BAR_IO ? b->w.pio : b->w.mmio;

	if (bar->at)
		io_unmap(s, bar->at);
	if (base &&
	    io_map(s, base, bar->size, &pci_bar_ops, bar, d->name, NULL)) {
		b->bad_bars++;
		base = 0;
	}
	bar->at = base;
	if (d->ops->bar_moved)
		d->ops->bar_moved(d, (unsigned)(bar - d->bar), base);
}

/* Only cfg is read without dev.lock: the bus lock keeps its writers out. */
void pci_dev_remap(struct pci_dev *d)
{
	for (unsigned i = 0; i < PCI_BARS; i++) {
		u64 base = d->bar[i].size ? pci_bar_base(d, i) : 0;

		if (base != d->bar[i].at)
			pci_bar_move(d, &d->bar[i], base);
	}
}

static u8 pci_cfg_byte(const struct pci_dev *d, unsigned off)
{
	return off < PCI_CFG_SIZE ? d->r.cfg[off] : 0;
}

/* Past 255 there are no extended capabilities: zero, up to the page's end. */
u32 pci_dev_read(struct pci_dev *d, unsigned off, unsigned len)
{
	u32 v = 0;

	if (off >= PCI_FIRST_CAP && d->ops->cfg_reading)
		d->ops->cfg_reading(d, off, len);
	pthread_mutex_lock(&d->dev.lock);
	for (unsigned i = 0; i < len; i++)
		v |= (u32)pci_cfg_byte(d, off + i) << (8 * i);
	pthread_mutex_unlock(&d->dev.lock);
	return v;
}

/* Single bytes are also read without the lock: pci_master(). */
static void pci_cfg_put(struct pci_dev *d, unsigned off, unsigned val)
{
	__atomic_store_n(&d->r.cfg[off], (u8)val, __ATOMIC_RELAXED);
}

static void pci_cfg_store(struct pci_dev *d, unsigned off, u8 val)
{
	unsigned keep = d->r.cfg[off] & ~d->wmask[off];

	pci_cfg_put(d, off,
		    (keep | (val & d->wmask[off])) & ~(val & d->w1c[off]));
}

void pci_dev_write(struct pci_dev *d, unsigned off, u32 val, unsigned len)
{
	u16 before = pci_get16(d->r.cfg, PCI_COMMAND), now;

	if (off >= PCI_CFG_SIZE)
		return;
	len = MIN(len, PCI_CFG_SIZE - off);
	pthread_mutex_lock(&d->dev.lock);
	for (unsigned i = 0; i < len; i++)
		pci_cfg_store(d, off + i, (u8)(val >> (8 * i)));
	pci_msix_update_locked(d);
	pci_wire_update_locked(d);
	pthread_mutex_unlock(&d->dev.lock);

	now = pci_get16(d->r.cfg, PCI_COMMAND);
	if (off < PCI_BAR0 + 4 * PCI_BARS)
		pci_dev_remap(d);
	if ((before ^ now) & PCI_COMMAND_MASTER && d->ops->master)
		d->ops->master(d, now & PCI_COMMAND_MASTER);
	if (off + len > PCI_FIRST_CAP && d->ops->cfg_written)
		d->ops->cfg_written(d, off, len);
}

void pci_wire_update_locked(struct pci_dev *d)
{
	u16 command = pci_get16(d->r.cfg, PCI_COMMAND);
	bool level = d->r.intx && !(command & PCI_COMMAND_INTX_OFF) && d->pin;

	if (level == d->wire)
		return;
	d->wire = level;
	pci_bus_wire(d->bus, pci_intx_wire(d->devfn, d->pin), level);
}

void pci_intx(struct pci_dev *d, bool level)
{
	u16 status;

	pthread_mutex_lock(&d->dev.lock);
	d->r.intx = level;
	status = pci_get16(d->r.cfg, PCI_STATUS) & ~PCI_STATUS_INTERRUPT;
	if (level)
		status |= PCI_STATUS_INTERRUPT;
	pci_put16(d->r.cfg, PCI_STATUS, status);
	pci_wire_update_locked(d);
	pthread_mutex_unlock(&d->dev.lock);
}

bool pci_master(struct pci_dev *d)
{
	u8 low = __atomic_load_n(&d->r.cfg[PCI_COMMAND], __ATOMIC_RELAXED);

	return low & PCI_COMMAND_MASTER;
}

/* The caller, the list of devices, holds dev.lock; no vCPU runs. */
static void pci_dev_reset(struct dev *dev)
{
	struct pci_dev *d = container_of(dev, struct pci_dev, dev);

	for (unsigned i = 0; i < PCI_CFG_SIZE; i++)
		pci_cfg_put(d, i, d->reset_cfg[i]);
	d->r.intx = 0;
	pci_msix_reset_locked(d);
	pci_wire_update_locked(d);
	pci_dev_remap(d);
}

static void pci_dev_loaded(struct dev *dev)
{
	struct pci_dev *d = container_of(dev, struct pci_dev, dev);

	pci_dev_remap(d);
	pci_wire_update_locked(d);
	pci_msix_update_locked(d);
}

static int pci_dev_other(struct pci_dev *d, const struct pci_regs *r,
			 unsigned at, struct err *e)
{
	if (at >= PCI_COMMAND && at < sizeof(r->cfg))
		return err_set(e, -ENODEV,
			       "PCI device %u (%s) has %#x in byte %#x of its "
			       "configuration, here it is %#x",
			       d->dev.instance, d->name, r->cfg[at], at,
			       d->reset_cfg[at]);
	return err_set(e, -ENODEV,
		       "PCI device %u is %04x:%04x, here it is %s, %04x:%04x",
		       d->dev.instance, pci_get16(r->cfg, PCI_VENDOR_ID),
		       pci_get16(r->cfg, PCI_DEVICE_ID), d->name,
		       pci_get16(d->reset_cfg, PCI_VENDOR_ID),
		       pci_get16(d->reset_cfg, PCI_DEVICE_ID));
}

/* The same card in the same slot: bits that nobody can write are the same. */
static int pci_dev_fits(struct dev *dev, const void *regs, struct err *e)
{
	struct pci_dev *d = container_of(dev, struct pci_dev, dev);
	const struct pci_regs *r = regs;

	for (unsigned i = 0; i < PCI_CFG_SIZE; i++)
		if ((r->cfg[i] ^ d->reset_cfg[i]) & ~d->wmask[i] &&
		    i / 2 != PCI_STATUS / 2)
			return pci_dev_other(d, r, i, e);
	return 0;
}

void pci_detach(struct pci_dev *d)
{
	if (!d->bus)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (d->bar[i].at)
			pci_bar_move(d, &d->bar[i], 0);
	pci_msix_fini(d);
	d->bus->fn[d->devfn] = NULL;
	d->bus = NULL;
}

static void pci_dev_free(struct dev *dev)
{
	struct pci_dev *d = container_of(dev, struct pci_dev, dev);

	if (d->ops->free)
		d->ops->free(d);
	pci_detach(d);
}

static const struct dev_class pci_dev_class = {
	.name = "pci",
	.state = &pci_state,
	.reset = pci_dev_reset,
	.loaded = pci_dev_loaded,
	.fits = pci_dev_fits,
	.free = pci_dev_free,
};

/* A power-on value, seen at once. */
static void pci_preset(struct pci_dev *d, unsigned off, const void *p,
		       unsigned len)
{
	memcpy(d->reset_cfg + off, p, len);
	memcpy(d->r.cfg + off, p, len);
}

void pci_dev_init(struct pci_dev *d, const struct pci_dev_ops *ops,
		  const struct pci_id *id, const char *name)
{
	u32 class = id->class << 8 | id->revision;

	memset(d, 0, sizeof(*d));
	dev_init(&d->dev, &pci_dev_class, &d->r);
	d->ops = ops;
	d->name = name;
	d->next_cap = PCI_FIRST_CAP;
	for (unsigned i = 0; i < PCI_VECTORS; i++)
		d->irqfd[i] = -1;
	pci_preset(d, PCI_VENDOR_ID, &id->vendor, 2);
	pci_preset(d, PCI_DEVICE_ID, &id->device, 2);
	pci_preset(d, PCI_REVISION, &class, 4);
	pci_preset(d, PCI_SUB_VENDOR, &id->sub_vendor, 2);
	pci_preset(d, PCI_SUB_DEVICE, &id->sub_device, 2);
	pci_put16(d->wmask, PCI_COMMAND,
		  PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY |
			  PCI_COMMAND_SERR | PCI_COMMAND_INTX_OFF);
	pci_put16(d->w1c, PCI_STATUS, PCI_STATUS_ERRORS);
	d->wmask[PCI_CACHE_LINE] = 0xff;
	d->wmask[PCI_INT_LINE] = 0xff;
}

void pci_bar(struct pci_dev *d, unsigned n, u64 size, u8 flags)
{
	unsigned off = PCI_BAR0 + 4 * n;
	u32 type = flags;

	ASSERT(n < PCI_BARS && size >= 16 && !(size & (size - 1)));
	ASSERT(!(flags & PCI_BAR_64) || n + 1 < PCI_BARS);
	d->bar[n] = (struct pci_bar){.d = d, .size = size, .flags = flags};
	pci_preset(d, off, &type, 4);
	pci_put32(d->wmask, off, (u32) ~(size - 1));
	if (flags & PCI_BAR_64)
		pci_put32(d->wmask, off + 4, (u32)(~(size - 1) >> 32));
	if (flags & PCI_BAR_IO)
		d->wmask[PCI_COMMAND] |= PCI_COMMAND_IO;
}

unsigned pci_cap(struct pci_dev *d, u8 id, const void *body, const void *wmask,
		 unsigned len)
{
	u8 at = d->next_cap, head[2] = {id, 0};
	u16 status = PCI_STATUS_CAP_LIST;

	ASSERT(len > 2 && at + len <= PCI_CFG_SIZE);
	pci_preset(d, d->last_cap ? d->last_cap + 1u : PCI_CAP_PTR, &at, 1);
	pci_preset(d, at, head, 2);
	pci_preset(d, at + 2u, body, len - 2);
	if (wmask)
		memcpy(d->wmask + at + 2, wmask, len - 2);
	pci_preset(d, PCI_STATUS, &status, 2);
	d->last_cap = at;
	d->next_cap = (u8)ALIGN_UP(at + len, 4);
	return at;
}

void pci_pin(struct pci_dev *d, unsigned pin)
{
	d->pin = (u8)pin;
	pci_preset(d, PCI_INT_PIN, &d->pin, 1);
}
