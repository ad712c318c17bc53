/* SPDX-License-Identifier: BSD-2-Clause */
/* The parts on the board. */
#ifndef PLATFORM_PC_PRIV_H
#define PLATFORM_PC_PRIV_H

#include "bus/dev.h"
#include "bus/io.h"
#include "irq/wire.h"
#include "platform/pc.h"

struct pc {
	struct pc_config c;
	struct io_space *pio, *mmio;
	struct dev_list devs; /* owns the devices */
	struct apic_bus *apics;
	struct engine *engine; /* not owned; set before vCPUs run */
	struct i8259 *pic;
	struct ioapic *ioapic;
	struct acpi_pm *pm;
	struct vmgenid *vmgenid;
	struct pci_bus *pci;
	struct irq_split isa[16];
	struct irq_split intx[4];
	struct irq_or pic_pci[2];
};

#endif
