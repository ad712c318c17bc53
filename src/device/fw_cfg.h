/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fw_cfg: how firmware asks the monitor for tables and files (QEMU's "fw_cfg
 * device" specification). The board maps FW_CFG_SIZE bytes at FW_CFG_PORT
 * with dev_io_ops: selector, data, and the DMA address register.
 */
#ifndef DEVICE_FW_CFG_H
#define DEVICE_FW_CFG_H

#include "bus/dev.h"
#include "mem/mem.h"

#define FW_CFG_PORT 0x510u
#define FW_CFG_SIZE 12u

struct fw_cfg;

struct fw_cfg *fw_cfg_new(struct mem *m);
static inline struct dev *fw_cfg_dev(struct fw_cfg *f)
{
	return (struct dev *)f;
}

/* Items and files are copied; at most 64 files. Before the guest runs. */
int fw_cfg_add_item(struct fw_cfg *f, u16 key, const void *data, size_t len,
		    struct err *e);
int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data,
		    size_t len, struct err *e);
/* A file that the guest may also write, by DMA; data stays the caller's.
 * written (NULL-able) is called after each write with dev.lock held. */
int fw_cfg_add_writable(struct fw_cfg *f, const char *name, void *data,
			size_t len, void (*written)(void *arg), void *arg,
			struct err *e);

#endif
