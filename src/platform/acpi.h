/* SPDX-License-Identifier: BSD-2-Clause */
/* The firmware tables of the board: ACPI 6.4 and SMBIOS 3. */
#ifndef PLATFORM_ACPI_H
#define PLATFORM_ACPI_H

#include "base/err.h"
#include "mem/mem.h"

/* Writes all tables below 1 MiB; *rsdp is where the root pointer is. */
int acpi_write(struct mem *m, unsigned cpus, gpa_t *rsdp, struct err *e);

/* Writes the SMBIOS structures and their entry point. */
int smbios_write(struct mem *m, unsigned cpus, struct err *e);

/* The DSDT's body. Returns its length, 0 if it does not fit. */
u32 acpi_dsdt(u8 *buf, u32 size, unsigned cpus, u64 mmio64);

#endif
