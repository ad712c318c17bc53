/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MSI-X (PCI 3.0, 6.8.2): a table of messages in a BAR, pending bits for
 * those that are masked. Messages go to the board's msi_sink; a vector that
 * has an eventfd is also routed by the engine, past the monitor.
 */
#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bus/pci_priv.h"

struct msix_cap {
	u16 control;
	u32 table, pba; /* offset | BAR */
} __attribute__((packed));

void pci_msix(struct pci_dev *d, unsigned vectors, unsigned bar, u32 table,
	      u32 pba)
{
	struct msix_cap cap = {
		.control = (u16)(vectors - 1),
		.table = table | bar,
		.pba = pba | bar,
	};
	struct msix_cap wmask = {
		.control = MSIX_CONTROL_ENABLE | MSIX_CONTROL_MASK_ALL,
	};

	ASSERT(vectors && vectors <= PCI_VECTORS);
	d->msix_cap =
		(u8)pci_cap(d, PCI_CAP_MSIX, &cap, &wmask, PCI_CAP_MSIX_LEN);
	d->nvectors = (u16)vectors;
	d->msix_bar = (u8)bar;
	d->msix_table = table;
	d->msix_pba = pba;
	pci_msix_reset_locked(d);
}

static u16 msix_control(const struct pci_dev *d)
{
	return pci_get16(d->r.cfg, d->msix_cap + MSIX_CONTROL);
}

static bool msix_on(const struct pci_dev *d)
{
	return d->msix_cap && msix_control(d) & MSIX_CONTROL_ENABLE;
}

static bool msix_masked(const struct pci_dev *d, unsigned v)
{
	return msix_control(d) & MSIX_CONTROL_MASK_ALL ||
	       d->r.msix[v * 4 + 3] & MSIX_ENTRY_MASKED;
}

static u64 msix_address(const struct pci_dev *d, unsigned v)
{
	return d->r.msix[v * 4] | (u64)d->r.msix[v * 4 + 1] << 32;
}

/* A message is a write to memory: without bus mastering it does not leave. */
static bool msix_open(struct pci_dev *d, unsigned v)
{
	return msix_on(d) && !msix_masked(d, v) && pci_master(d);
}

static void msix_raise(struct pci_dev *d, unsigned v)
{
	if (msix_open(d, v))
		msi_send(&d->bus->w.msi, msix_address(d, v),
			 d->r.msix[v * 4 + 2]);
	else if (msix_on(d) && msix_masked(d, v))
		d->r.msix_pending[v / 32] |= BIT(v % 32);
}

void pci_msix_send(struct pci_dev *d, unsigned vector)
{
	if (vector >= d->nvectors)
		return;
	pthread_mutex_lock(&d->dev.lock);
	msix_raise(d, vector);
	pthread_mutex_unlock(&d->dev.lock);
}

bool pci_msix_on(struct pci_dev *d)
{
	bool on;

	pthread_mutex_lock(&d->dev.lock);
	on = msix_on(d);
	pthread_mutex_unlock(&d->dev.lock);
	return on;
}

/* Signals that came while the vector was not routed are ours to keep. */
static void msix_fd_collect(struct pci_dev *d, unsigned v)
{
	eventfd_t n;

	if (d->irqfd[v] >= 0 && !d->irqfd_route[v] &&
	    !eventfd_read(d->irqfd[v], &n))
		msix_raise(d, v);
}

static void msix_fd_route(struct pci_dev *d, unsigned v)
{
	const struct accel *a = &d->bus->w.accel;
	u64 to = msix_open(d, v) ? msix_address(d, v) : 0;
	u32 data = d->r.msix[v * 4 + 2];

	if (d->irqfd[v] < 0)
		return;
	if (to != d->irqfd_route[v] || (to && data != d->irqfd_data[v])) {
		if (a->ops->irqfd(a->arg, d->irqfd[v], to, data))
			to = 0;
		d->irqfd_route[v] = to;
		d->irqfd_data[v] = data;
	}
	msix_fd_collect(d, v);
}

static void msix_flush(struct pci_dev *d, unsigned v)
{
	u32 *word = &d->r.msix_pending[v / 32];

	msix_fd_route(d, v);
	if (!(*word & BIT(v % 32)) || !msix_open(d, v))
		return;
	*word &= ~BIT(v % 32);
	msix_raise(d, v);
}

void pci_msix_update_locked(struct pci_dev *d)
{
	for (unsigned v = 0; v < d->nvectors; v++)
		msix_flush(d, v);
}

void pci_msix_reset_locked(struct pci_dev *d)
{
	memset(d->r.msix, 0, sizeof(d->r.msix));
	memset(d->r.msix_pending, 0, sizeof(d->r.msix_pending));
	for (unsigned v = 0; v < d->nvectors; v++)
		d->r.msix[v * 4 + 3] = MSIX_ENTRY_MASKED;
	if (d->bus)
		pci_msix_update_locked(d);
}

int pci_msix_fd(struct pci_dev *d, unsigned vector)
{
	const struct accel *a = &d->bus->w.accel;
	int fd = -ENOTSUP;

	if (!a->ops || !a->ops->irqfd || vector >= d->nvectors)
		return fd;
	pthread_mutex_lock(&d->dev.lock);
	if (d->irqfd[vector] < 0)
		d->irqfd[vector] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fd = d->irqfd[vector] < 0 ? -errno : d->irqfd[vector];
	msix_fd_route(d, vector);
	pthread_mutex_unlock(&d->dev.lock);
	return fd;
}

void pci_msix_fini(struct pci_dev *d)
{
	const struct accel *a = &d->bus->w.accel;

	for (unsigned v = 0; v < d->nvectors; v++) {
		if (d->irqfd[v] < 0)
			continue;
		if (d->irqfd_route[v])
			a->ops->irqfd(a->arg, d->irqfd[v], 0, 0);
		close(d->irqfd[v]);
		d->irqfd[v] = -1;
	}
}

static bool msix_in(u64 off, unsigned len, u64 base, u64 size)
{
	return off >= base && off + len <= base + size;
}

bool pci_msix_read(struct pci_dev *d, unsigned bar, u64 off, unsigned len,
		   u64 *val)
{
	const u8 *from = NULL;
	bool table;

	if (!d->msix_cap || bar != d->msix_bar)
		return false;
	table = msix_in(off, len, d->msix_table, d->nvectors * 16u);
	if (!table &&
	    !msix_in(off, len, d->msix_pba, ALIGN_UP(d->nvectors, 64u) / 8))
		return false;
	*val = 0;
	pthread_mutex_lock(&d->dev.lock);
	for (unsigned v = 0; !table && v < d->nvectors; v++)
		msix_fd_collect(d, v);
	from = table ? (u8 *)d->r.msix + (off - d->msix_table)
		     : (u8 *)d->r.msix_pending + (off - d->msix_pba);
	memcpy(val, from, len);
	pthread_mutex_unlock(&d->dev.lock);
	return true;
}

static void msix_store(struct pci_dev *d, unsigned dword, u32 val)
{
	static const u32 writable[4] = {~3u, ~0u, ~0u, MSIX_ENTRY_MASKED};

	d->r.msix[dword] = val & writable[dword % 4];
	msix_flush(d, dword / 4);
}

/* Software must write whole dwords or qwords; other widths are dropped. */
bool pci_msix_write(struct pci_dev *d, unsigned bar, u64 off, u64 val,
		    unsigned len)
{
	unsigned dword;

	if (!d->msix_cap || bar != d->msix_bar)
		return false;
	if (msix_in(off, len, d->msix_pba, ALIGN_UP(d->nvectors, 64u) / 8))
		return true;
	if (!msix_in(off, len, d->msix_table, d->nvectors * 16u))
		return false;
	dword = (unsigned)(off - d->msix_table) / 4;
	if (len < 4 || off % len)
		return true;
	pthread_mutex_lock(&d->dev.lock);
	msix_store(d, dword, (u32)val);
	if (len == 8)
		msix_store(d, dword + 1, (u32)(val >> 32));
	pthread_mutex_unlock(&d->dev.lock);
	return true;
}
