/* SPDX-License-Identifier: BSD-2-Clause */
/* Virtio network device (virtio 1.2, 5.1). */
#ifndef DEVICE_VIRTIO_NET_H
#define DEVICE_VIRTIO_NET_H

#include "backend/net.h"
#include "bus/virtio.h"

/*
 * Takes over net, also on failure. The device has an I/O thread of its own, on
 * which the backend runs too. paused: frames wait until virtio_resume(), as
 * nothing is loaded yet. For virtio_pci_add().
 */
struct virtio *vnet_new(struct mem *m, struct net *net, const u8 mac[6],
			bool paused, struct err *e);

/* Plugs the cable in or out. Any thread. */
void vnet_link(struct virtio *v, bool up);

/* The device's address is another from now on, also after a reset. The guest's
 * driver looks at it only when it starts; was: what it has until then. Any
 * thread. */
void vnet_set_mac(struct virtio *v, const u8 mac[6], u8 was[6]);
/* The one of now. Any thread. */
void vnet_mac(struct virtio *v, u8 mac[6]);

/* The machine came from elsewhere: asks the guest to make its address known
 * to the network (VIRTIO_NET_F_GUEST_ANNOUNCE). Any thread. */
void vnet_announce(struct virtio *v);

#endif
