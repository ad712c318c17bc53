/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio entropy device (virtio 1.2, 5.4). */
#ifndef DEVICE_VIRTIO_RNG_H
#define DEVICE_VIRTIO_RNG_H

#include "bus/virtio.h"

/* Random bytes of the host's kernel. Served on l. For virtio_pci_add(). */
struct virtio *vrng_new(struct mem *m, struct loop *l, struct err *e);

#endif
