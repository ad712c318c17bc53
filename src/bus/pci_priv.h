/* SPDX-License-Identifier: BSD-2-Clause */
/* Between pci.c (the bus), pci_dev.c (a function) and pci_msix.c. */
#ifndef BUS_PCI_PRIV_H
#define BUS_PCI_PRIV_H

#include <string.h>

#include "bus/pci.h"

static inline u16 pci_get16(const u8 *cfg, unsigned off)
{
	u16 v;

	memcpy(&v, cfg + off, sizeof(v));
	return v;
}

static inline u32 pci_get32(const u8 *cfg, unsigned off)
{
	u32 v;

	memcpy(&v, cfg + off, sizeof(v));
	return v;
}

static inline void pci_put16(u8 *cfg, unsigned off, u16 v)
{
	memcpy(cfg + off, &v, sizeof(v));
}

static inline void pci_put32(u8 *cfg, unsigned off, u32 v)
{
	memcpy(cfg + off, &v, sizeof(v));
}

static inline bool pci_overlap(unsigned a, unsigned alen, unsigned b,
			       unsigned blen)
{
	return a < b + blen && b < a + alen;
}

/* Of one function; bus lock held. */
u32 pci_dev_read(struct pci_dev *d, unsigned off, unsigned len);
void pci_dev_write(struct pci_dev *d, unsigned off, u32 val, unsigned len);
void pci_dev_remap(struct pci_dev *d);

/* The pin as command register and MSI-X let it through; dev.lock held. */
void pci_wire_update_locked(struct pci_dev *d);
/* Drives the bus's wire; keeps the wired-or. */
void pci_bus_wire(struct pci_bus *b, unsigned wire, bool level);

/* Accesses to the MSI-X part of the BAR; false: not there. */
bool pci_msix_read(struct pci_dev *d, unsigned bar, u64 off, unsigned len,
		   u64 *val);
bool pci_msix_write(struct pci_dev *d, unsigned bar, u64 off, u64 val,
		    unsigned len);
/* Enable, mask or bus mastering changed: sends what waited. */
void pci_msix_update_locked(struct pci_dev *d);
void pci_msix_reset_locked(struct pci_dev *d);
void pci_msix_fini(struct pci_dev *d);

#endif
