/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Two ports for people who write kernels: a write of v to the exit port ends
 * the VM with status (v << 1) | 1, bytes written to the console port appear
 * on a chr (and reading it gives 0xe9, by which guests find it). The board
 * maps 4 bytes, or 1, with dev_io_ops.
 */
#ifndef DEVICE_DEBUG_PORT_H
#define DEVICE_DEBUG_PORT_H

#include "backend/chr.h"
#include "bus/dev.h"

/* exit is called with dev.lock held and must not call back. */
struct dev *debug_exit_new(void (*exit)(void *arg, unsigned status), void *arg);
/* chr: owned from now on, also if NULL is returned; may be NULL. */
struct dev *debug_console_new(struct chr *chr);

#endif
