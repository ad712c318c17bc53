/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio over PCI, modern (virtio 1.2, 4.1). */
#ifndef BUS_VIRTIO_PCI_H
#define BUS_VIRTIO_PCI_H

#include "bus/pci.h"
#include "bus/virtio.h"

/*
 * Puts v on the bus (slot 0: the next free one) and hands it and its PCI
 * function to l. From here on v belongs to l, also if this fails, when it is
 * freed at once.
 */
int virtio_pci_add(struct pci_bus *b, unsigned slot, struct virtio *v,
		   struct dev_list *l, struct err *e);

#endif
