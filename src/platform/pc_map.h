/* SPDX-License-Identifier: BSD-2-Clause */
/* The board's addresses and wires: read by the board, ACPI and the loaders. */
#ifndef PLATFORM_PC_MAP_H
#define PLATFORM_PC_MAP_H

#include "mem/mem.h"

/* RAM: 0 up to the hole, the rest from 4 GiB. No RAM where VGA would be. */
#define PC_VGA_HOLE     0xa0000ull
#define PC_BIOS_BASE    0xc0000ull /* RAM again; tables for the guest */
#define PC_TABLES_BASE  0xe0000ull
#define PC_VMGENID_BASE 0xef000ull /* a page of its own */
#define PC_SMBIOS_BASE  0xf0000ull
#define PC_BIOS_END     0x100000ull
#define PC_HOLE_BASE    0xc0000000ull
#define PC_HIGH_BASE    0x100000000ull
#define PC_MEMORY_MIN   (16 * MIB)
#define PC_MEMORY_MAX   (1024 * GIB)
#define PC_CPUS_MAX     64

/* PCI memory windows; the 64-bit one lies above the RAM: pc_mmio64(). */
#define PC_MMIO32_BASE 0xc0000000ull
#define PC_MMIO32_SIZE 0x20000000ull
#define PC_ECAM_BASE   0xe0000000ull
/* Linux asks every bus that MCFG names for its 32 slots: name no idle ones. */
#define PC_ECAM_BUSES  1u
#define PC_ECAM_SIZE   (PC_ECAM_BUSES * MIB)
#define PC_MMIO64_SIZE (16 * GIB)
#define PC_PCI_IO_BASE 0x1000u
#define PC_PCI_IO_SIZE 0xf000u

#define PC_IOAPIC_BASE 0xfec00000ull
#define PC_IOAPIC_PINS 24u
#define PC_IOAPIC_ID   0u
#define PC_LAPIC_BASE  0xfee00000ull

/* Ports */
#define PC_COM1_PORT   0x3f8u
#define PC_PM_BASE     0x600u /* PM1a event, control, PM timer */
#define PC_RESET_PORT  0xcf9u
#define PC_RESET_VALUE 0x06u

/* ISA interrupts and what PCI's INTA..INTD are soldered to. */
enum {
	PC_IRQ_TIMER = 0,
	PC_IRQ_KEYBOARD = 1,
	PC_IRQ_CASCADE = 2,
	PC_IRQ_COM1 = 4,
	PC_IRQ_RTC = 8,
	PC_IRQ_SCI = 9,
	PC_IRQ_MOUSE = 12,
	PC_IRQ_PCI_A = 10, /* with the 8259; INTC is at 10 again */
	PC_IRQ_PCI_B = 11,
	PC_IRQ_PCI_C = 10,
	PC_IRQ_PCI_D = 11,
	PC_GSI_TIMER = 2,
	PC_GSI_PCI = 16, /* 16..19 */
};

/* General purpose events of ACPI */
enum { PC_GPE_VMGENID = 5 };

static inline u64 pc_ram_low(const struct mem *m)
{
	return MIN(m->size, PC_HOLE_BASE);
}

static inline u64 pc_ram_high(const struct mem *m)
{
	return m->size - pc_ram_low(m);
}

/* Base of the 64-bit PCI window, above all RAM. */
static inline u64 pc_mmio64(const struct mem *m)
{
	return MAX(ALIGN_UP(PC_HIGH_BASE + pc_ram_high(m), PC_MMIO64_SIZE),
		   2 * PC_MMIO64_SIZE);
}

#endif
