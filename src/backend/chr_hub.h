/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A console that several may watch and type at: the terminal the VM was
 * started from, if any, and whoever attaches over a stream socket. The last
 * 64 KiB of output are kept, and shown to whoever comes.
 *
 * All see all output. One who reads too slowly to keep up with 64 KiB loses
 * what is in between and is told so; nobody holds up the guest. What any of
 * them types goes to the guest.
 */
#ifndef BACKEND_CHR_HUB_H
#define BACKEND_CHR_HUB_H

#include "backend/chr.h"

/* front: taken over, also on failure; NULL: none. */
struct chr *chr_hub_new(struct loop *l, struct chr *front, struct err *e);

/*
 * Adds a client, unless it is full; takes fd over, also on failure. It is
 * closed when the peer ends or the hub is freed. Loop thread. -EBUSY: there are
 * too many.
 */
bool chr_hub_full(const struct chr *hub);
int chr_hub_attach(struct chr *hub, int fd, struct err *e);

#endif
