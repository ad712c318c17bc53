/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The DSDT: PCI host bridge with its windows and interrupt routing, the
 * legacy devices an OS wants to be told of, processors, soft off.
 */
#include <stdio.h>

#include "device/acpi_pm.h"
#include "device/mc146818.h"
#include "platform/acpi.h"
#include "platform/aml.h"
#include "platform/pc_map.h"

#define PCI_SLOTS 32u

/* _S5: SLP_TYP for PM1a and PM1b. */
static void dsdt_sleep(struct aml *a)
{
	aml_name(a, "\\_S5_");
	aml_package(a, 4);
	aml_int(a, ACPI_S5_SLP_TYP);
	aml_int(a, ACPI_S5_SLP_TYP);
	aml_int(a, 0);
	aml_int(a, 0);
	aml_end(a);
}

/* The OS says by _PIC whether it uses the I/O APIC; _PRT depends on it. */
static void dsdt_pic_mode(struct aml *a)
{
	aml_name_int(a, "\\PICM", 0);
	aml_method(a, "\\_PIC", 1);
	aml_store_arg0(a, "PICM");
	aml_end(a);
}

/* Each function's four pins, turned by slot; {address, pin, 0, GSI}. */
static void dsdt_routes(struct aml *a, const char *name, const u8 *gsi)
{
	aml_name(a, name);
	aml_package(a, (PCI_SLOTS - 1) * 4);
	for (unsigned slot = 1; slot < PCI_SLOTS; slot++)
		for (unsigned pin = 0; pin < 4; pin++) {
			aml_package(a, 4);
			aml_int(a, slot << 16 | 0xffff);
			aml_int(a, pin);
			aml_int(a, 0);
			aml_int(a, gsi[(slot + pin) & 3]);
			aml_end(a);
		}
	aml_end(a);
}

static void dsdt_prt(struct aml *a)
{
	static const u8 ioapic[] = {PC_GSI_PCI, PC_GSI_PCI + 1, PC_GSI_PCI + 2,
				    PC_GSI_PCI + 3};
	static const u8 pic[] = {PC_IRQ_PCI_A, PC_IRQ_PCI_B, PC_IRQ_PCI_C,
				 PC_IRQ_PCI_D};

	dsdt_routes(a, "PRTA", ioapic);
	dsdt_routes(a, "PRTP", pic);
	aml_method(a, "_PRT", 0);
	aml_if_not_zero(a, "PICM");
	aml_return(a, "PRTA");
	aml_end(a);
	aml_return(a, "PRTP");
	aml_end(a);
}

static void dsdt_pci(struct aml *a, u64 mmio64)
{
	aml_device(a, "PCI0");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_SEG", 0);
	aml_name_int(a, "_BBN", 0);
	aml_name_int(a, "_CCA", 1);
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_res_buses(a, 0, PC_ECAM_BUSES - 1);
	aml_res_io(a, 0xcf8, 8);
	aml_res_io_window(a, 0, 0xcf7);
	aml_res_io_window(a, 0xd00, 0xffff);
	aml_res_mem32_window(a, PC_MMIO32_BASE, PC_MMIO32_SIZE);
	aml_res_mem64_window(a, mmio64, PC_MMIO64_SIZE);
	aml_end(a);
	dsdt_prt(a);
	aml_end(a);
}

/* What lies in the way of windows but belongs to the board. */
static void dsdt_board(struct aml *a)
{
	aml_device(a, "MBRD");
	aml_name(a, "_HID");
	aml_eisa_id(a, "PNP0C02");
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_res_memory(a, PC_ECAM_BASE, PC_ECAM_SIZE);
	aml_res_io(a, PC_PM_BASE, ACPI_PM_SIZE);
	aml_end(a);
	aml_end(a);
}

static void dsdt_isa(struct aml *a, const char *name, const char *hid, u16 port,
		     u8 len, unsigned irq)
{
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_eisa_id(a, hid);
	aml_name_int(a, "_UID", 0);
	aml_name_int(a, "_STA", 0xf);
	aml_name(a, "_CRS");
	aml_resources(a);
	aml_res_io(a, port, len);
	aml_res_irq(a, irq);
	aml_end(a);
	aml_end(a);
}

static void dsdt_processor(struct aml *a, unsigned id)
{
	char name[8];

	snprintf(name, sizeof(name), "C%03X", id & 0xfff);
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_string(a, "ACPI0007");
	aml_name_int(a, "_UID", id);
	aml_end(a);
}

/* Where the generation id is, low and high half of the address. */
static void dsdt_vmgenid(struct aml *a)
{
	aml_device(a, "VGEN");
	aml_name(a, "_HID");
	aml_string(a, "SBLT0001");
	aml_name(a, "_CID");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "_DDN");
	aml_string(a, "VM_Gen_Counter");
	aml_name(a, "ADDR");
	aml_package(a, 2);
	aml_int(a, PC_VMGENID_BASE);
	aml_int(a, 0);
	aml_end(a);
	aml_end(a);
}

/* An edge: the OS clears the event, then calls the method. */
static void dsdt_events(struct aml *a)
{
	char name[8];

	aml_scope(a, "\\_GPE");
	snprintf(name, sizeof(name), "_E%02X", PC_GPE_VMGENID);
	aml_method(a, name, 0);
	aml_notify(a, "\\_SB_VGEN", 0x80);
	aml_end(a);
	aml_end(a);
}

u32 acpi_dsdt(u8 *buf, u32 size, unsigned cpus, u64 mmio64)
{
	struct aml a;

	aml_init(&a, buf, size);
	dsdt_sleep(&a);
	dsdt_pic_mode(&a);
	aml_scope(&a, "\\_SB_");
	dsdt_pci(&a, mmio64);
	dsdt_board(&a);
	dsdt_isa(&a, "COM1", "PNP0501", 0x3f8, 8, PC_IRQ_COM1);
	dsdt_isa(&a, "RTC_", "PNP0B00", 0x70, 2, PC_IRQ_RTC);
	dsdt_isa(&a, "TIMR", "PNP0100", 0x40, 4, PC_IRQ_TIMER);
	for (unsigned i = 0; i < cpus; i++)
		dsdt_processor(&a, i);
	dsdt_vmgenid(&a);
	aml_end(&a);
	dsdt_events(&a);
	return a.full ? 0 : a.len;
}
