/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio block device (virtio 1.2, 5.2). */
#ifndef DEVICE_VIRTIO_BLK_H
#define DEVICE_VIRTIO_BLK_H

#include "backend/disk.h"
#include "bus/virtio.h"

#define VBLK_QUEUES 4u

/*
 * Takes over disk, also on failure. queues: as many as vCPUs, cut to
 * VBLK_QUEUES. serial: up to 20 characters that the guest can ask for.
 * The device has an I/O thread of its own. For virtio_pci_add().
 */
struct virtio *vblk_new(struct mem *m, struct disk *disk, unsigned queues,
			const char *serial, struct err *e);

#endif
