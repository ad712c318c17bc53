/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio console (virtio 1.2, 5.3): a terminal and named ports. */
#ifndef DEVICE_VIRTIO_CONSOLE_H
#define DEVICE_VIRTIO_CONSOLE_H

#include "backend/chr.h"
#include "bus/virtio.h"

#define VCON_PORTS 15u /* the console and the named ones */

/* A port the guest finds by its name, which outlives the device. */
struct vcon_named {
	const char *name;
	struct chr *chr;
};

/*
 * Takes over all backends, also on failure. Output is written on a thread of
 * the device's own, so a backend may block: the guest then waits, and so do
 * the other ports. Input of no bytes tells the guest that the host has closed
 * the port. For virtio_pci_add().
 */
struct virtio *vcon_new(struct mem *m, struct chr *console,
			const struct vcon_named *ports, unsigned nports,
			struct err *e);

/* The terminal has this size now. Any thread. */
void vcon_resize(struct virtio *v, u16 cols, u16 rows);

/* Somebody in the guest has the port of this name open. Any thread. */
bool vcon_is_open(struct virtio *v, const char *name);

#endif
