/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One terminal for two consoles: the serial port, where kernels speak first,
 * and the virtio console, where a shell may be. Output of both goes to the
 * terminal. Input goes to the serial port until the guest writes something to
 * the virtio console, and from then on there.
 */
#ifndef VM_VM_CONSOLE_H
#define VM_VM_CONSOLE_H

#include "backend/chr.h"

enum { VM_CONSOLE_SERIAL, VM_CONSOLE_VIRTIO, VM_CONSOLES };

/* Takes back over, also on failure (-ENOMEM). Both fronts are to be freed. */
int vm_console_new(struct chr *back, struct chr *front[VM_CONSOLES]);

/* Which front gets the input, for saving; front is any of the two. */
unsigned vm_console_which(const struct chr *front);
void vm_console_choose(struct chr *front, unsigned which);

#endif
