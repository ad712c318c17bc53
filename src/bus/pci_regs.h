/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Offsets and bits of PCI configuration space: PCI 3.0 chapter 6, and the
 * MSI-X capability, section 6.8.2.
 */
#ifndef BUS_PCI_REGS_H
#define BUS_PCI_REGS_H

enum {
	PCI_VENDOR_ID = 0x00,
	PCI_DEVICE_ID = 0x02,
	PCI_COMMAND = 0x04,
	PCI_STATUS = 0x06,
	PCI_REVISION = 0x08,
	PCI_CLASS = 0x09, /* three bytes */
	PCI_CACHE_LINE = 0x0c,
	PCI_HEADER_TYPE = 0x0e,
	PCI_BAR0 = 0x10,
	PCI_SUB_VENDOR = 0x2c,
	PCI_SUB_DEVICE = 0x2e,
	PCI_CAP_PTR = 0x34,
	PCI_INT_LINE = 0x3c,
	PCI_INT_PIN = 0x3d,
	PCI_FIRST_CAP = 0x40,
};

enum {
	PCI_COMMAND_IO = 0x0001,
	PCI_COMMAND_MEMORY = 0x0002,
	PCI_COMMAND_MASTER = 0x0004,
	PCI_COMMAND_PARITY = 0x0040,
	PCI_COMMAND_SERR = 0x0100,
	PCI_COMMAND_INTX_OFF = 0x0400,

	PCI_STATUS_INTERRUPT = 0x0008,
	PCI_STATUS_CAP_LIST = 0x0010,
	PCI_STATUS_ERRORS = 0xf900, /* cleared by writing ones */

	PCI_HEADER_MULTI = 0x80,
};

enum {
	PCI_BAR_IO = 1,
	PCI_BAR_64 = 4,
	PCI_BAR_PREFETCH = 8,
};

enum {
	PCI_CAP_VENDOR = 0x09,
	PCI_CAP_MSIX = 0x11,
	PCI_CAP_MSIX_LEN = 12,
};

enum {
	MSIX_CONTROL = 2, /* offsets in the capability */
	MSIX_TABLE = 4,
	MSIX_PBA = 8,
	MSIX_CONTROL_MASK_ALL = 0x4000,
	MSIX_CONTROL_ENABLE = 0x8000,
	MSIX_ENTRY_SIZE = 16,
	MSIX_ENTRY_MASKED = 1, /* vector control */
};

#endif
