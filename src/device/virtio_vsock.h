/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio socket device (virtio 1.2, 5.10). */
#ifndef DEVICE_VIRTIO_VSOCK_H
#define DEVICE_VIRTIO_VSOCK_H

#include "backend/vsock.h"
#include "bus/virtio.h"

/*
 * Takes over s, also on failure. The guest's address is cid, also in a machine
 * that was saved with another: after loading, the guest is told that its
 * streams are gone and its address may be new. The device has an I/O thread of
 * its own. For virtio_pci_add().
 */
struct virtio *vvs_new(struct mem *m, struct vsock *s, u32 cid, struct err *e);

#endif
