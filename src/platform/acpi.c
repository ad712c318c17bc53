/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI tables with fixed layout (ACPI 6.4, chapter 5; MCFG: PCI Firmware
 * Specification 3.0, table 4-2). One page run below 1 MiB holds them all,
 * the root pointer first.
 */
#include "platform/acpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/acpi_pm.h"
#include "platform/pc_map.h"

#define ACPI_SPACE (PC_VMGENID_BASE - PC_TABLES_BASE)

enum { FADT_PM_PROFILE_SERVER = 4, FADT_RTC_CENTURY = 0x32 };

/* FADT.IAPC_BOOT_ARCH */
enum {
	BOOT_LEGACY_DEVICES = BIT(0),
	BOOT_8042 = BIT(1),
	BOOT_NO_VGA = BIT(2),
	BOOT_NO_ASPM = BIT(4),
};

/* FADT.Flags; a clear PWR_BUTTON bit means: there is a fixed one. */
enum {
	FADT_WBINVD = BIT(0),
	FADT_PROC_C1 = BIT(2),
	FADT_NO_SLEEP_BUTTON = BIT(5),
	FADT_TMR_VAL_EXT = BIT(8),
	FADT_RESET_REG = BIT(10),
};

/* MADT flags of interrupt inputs */
enum { INTI_HIGH = 1, INTI_LEVEL = 3 << 2 };

struct acpi_header {
	char signature[4];
	u32 length;
	u8 revision, checksum;
	char oem_id[6], oem_table_id[8];
	u32 oem_revision;
	char creator_id[4];
	u32 creator_revision;
} __attribute__((packed));

/* Generic address structure */
struct acpi_gas {
	u8 space, width, offset, access;
	u64 address;
} __attribute__((packed));

struct acpi_rsdp {
	char signature[8];
	u8 checksum;
	char oem_id[6];
	u8 revision;
	u32 rsdt, length;
	u64 xsdt;
	u8 extended_checksum, reserved[3];
} __attribute__((packed));

struct acpi_fadt {
	struct acpi_header h;
	u32 facs, dsdt;
	u8 reserved0, pm_profile;
	u16 sci_irq;
	u32 smi_cmd;
	u8 acpi_enable, acpi_disable, s4bios, pstate;
	u32 pm1a_evt, pm1b_evt, pm1a_cnt, pm1b_cnt, pm2_cnt, pm_tmr;
	u32 gpe0, gpe1;
	u8 pm1_evt_len, pm1_cnt_len, pm2_cnt_len, pm_tmr_len;
	u8 gpe0_len, gpe1_len, gpe1_base, cst;
	u16 c2_latency, c3_latency, flush_size, flush_stride;
	u8 duty_offset, duty_width, day_alarm, month_alarm, century;
	u16 boot_arch;
	u8 reserved1;
	u32 flags;
	struct acpi_gas reset;
	u8 reset_value;
	u16 arm_boot;
	u8 minor;
	u64 x_facs, x_dsdt;
	struct acpi_gas x_pm1a_evt, x_pm1b_evt, x_pm1a_cnt, x_pm1b_cnt;
	struct acpi_gas x_pm2_cnt, x_pm_tmr, x_gpe0, x_gpe1;
	struct acpi_gas sleep_control, sleep_status;
	u8 hypervisor[8];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_fadt) == 276, "FADT of ACPI 6.4");

struct acpi_facs {
	char signature[4];
	u32 length, hardware, waking, lock, flags;
	u64 x_waking;
	u8 version, reserved[31];
} __attribute__((packed));
_Static_assert(sizeof(struct acpi_facs) == 64, "FACS");

struct madt_lapic {
	u8 type, length, uid, apic_id;
	u32 flags;
} __attribute__((packed));

struct madt_ioapic {
	u8 type, length, id, reserved;
	u32 address, gsi_base;
} __attribute__((packed));

struct madt_override {
	u8 type, length, bus, source;
	u32 gsi;
	u16 flags;
} __attribute__((packed));

struct madt_lapic_nmi {
	u8 type, length, uid;
	u16 flags;
	u8 lint;
} __attribute__((packed));

struct acpi_mcfg {
	struct acpi_header h;
	u64 reserved;
	u64 base;
	u16 segment;
	u8 first_bus, last_bus;
	u32 reserved1;
} __attribute__((packed));

/* The run of tables being written. */
struct acpi_build {
	u8 *buf;
	u32 len;
	u64 table[8]; /* guest addresses for the XSDT */
	unsigned tables;
};

static u8 acpi_sum(const void *p, u32 n)
{
	u8 sum = 0;

	for (u32 i = 0; i < n; i++)
		sum += ((const u8 *)p)[i];
	return (u8)-sum;
}

static void *acpi_alloc(struct acpi_build *b, u32 n, u32 align)
{
	u32 at = ALIGN_UP(b->len, align);

	ASSERT(at + n <= ACPI_SPACE);
	b->len = at + n;
	return b->buf + at;
}

static u64 acpi_gpa(const struct acpi_build *b, const void *p)
{
	return PC_TABLES_BASE + (u64)((const u8 *)p - b->buf);
}

/* Fills in the header; the table is complete. */
static void acpi_finish(struct acpi_build *b, void *p, const char *signature,
			u8 revision, u32 length)
{
	struct acpi_header *h = p;

	memcpy(h->signature, signature, 4);
	h->length = length;
	h->revision = revision;
	memcpy(h->oem_id, "SUBLET", 6);
	memcpy(h->oem_table_id, "SUBLETPC", 8);
	h->oem_revision = 1;
	memcpy(h->creator_id, "SBLT", 4);
	h->creator_revision = 1;
	h->checksum = 0;
	h->checksum = acpi_sum(p, length);
	if (memcmp(signature, "DSDT", 4) && memcmp(signature, "XSDT", 4))
		b->table[b->tables++] = acpi_gpa(b, p);
}

static struct acpi_gas acpi_port(u32 port, u8 bytes)
{
	return (struct acpi_gas){
		.space = 1,
		.width = bytes * 8,
		.access = bytes == 4 ? 3 : bytes,
		.address = port,
	};
}

static u64 acpi_put_facs(struct acpi_build *b)
{
	struct acpi_facs *f = acpi_alloc(b, sizeof(*f), 64);

	memcpy(f->signature, "FACS", 4);
	f->length = sizeof(*f);
	f->version = 2;
	return acpi_gpa(b, f);
}

static u64 acpi_put_dsdt(struct acpi_build *b, unsigned cpus, u64 mmio64)
{
	u8 *p = acpi_alloc(b, sizeof(struct acpi_header), 16);
	u32 n = acpi_dsdt(b->buf + b->len, ACPI_SPACE - b->len, cpus, mmio64);

	ASSERT(n);
	acpi_alloc(b, n, 1);
	acpi_finish(b, p, "DSDT", 2, sizeof(struct acpi_header) + n);
	return acpi_gpa(b, p);
}

static void acpi_fadt_ports(struct acpi_fadt *f)
{
	f->pm1a_evt = PC_PM_BASE;
	f->pm1a_cnt = PC_PM_BASE + ACPI_PM1_CNT;
	f->pm_tmr = PC_PM_BASE + ACPI_PM_TMR;
	f->gpe0 = PC_PM_BASE + ACPI_GPE0;
	f->pm1_evt_len = 4;
	f->pm1_cnt_len = 2;
	f->pm_tmr_len = 4;
	f->gpe0_len = ACPI_GPE0_LEN;
	f->x_pm1a_evt = acpi_port(f->pm1a_evt, 4);
	f->x_pm1a_evt.access = 2; /* two registers of 16 bits */
	f->x_pm1a_cnt = acpi_port(f->pm1a_cnt, 2);
	f->x_pm_tmr = acpi_port(f->pm_tmr, 4);
	f->x_gpe0 = acpi_port(f->gpe0, ACPI_GPE0_LEN);
	f->x_gpe0.access = 1;
}

static void acpi_put_fadt(struct acpi_build *b, u64 facs, u64 dsdt)
{
	struct acpi_fadt *f = acpi_alloc(b, sizeof(*f), 16);

	f->facs = (u32)facs;
	f->dsdt = (u32)dsdt;
	f->x_dsdt = dsdt;
	f->pm_profile = FADT_PM_PROFILE_SERVER;
	f->sci_irq = PC_IRQ_SCI;
	f->c2_latency = f->c3_latency = 0xfff; /* none */
	f->century = FADT_RTC_CENTURY;
	f->boot_arch = BOOT_LEGACY_DEVICES | BOOT_NO_VGA | BOOT_NO_ASPM;
	f->flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_SLEEP_BUTTON |
		   FADT_TMR_VAL_EXT | FADT_RESET_REG;
	f->reset = acpi_port(PC_RESET_PORT, 1);
	f->reset_value = PC_RESET_VALUE;
	f->minor = 4;
	acpi_fadt_ports(f);
	memcpy(f->hypervisor, "Sublet\0", 8);
	acpi_finish(b, f, "FACP", 6, sizeof(*f));
}

static void acpi_madt_entry(struct acpi_build *b, const void *p, u32 n)
{
	memcpy(acpi_alloc(b, n, 1), p, n);
}
#define MADT_ENTRY(b, ...) \
	acpi_madt_entry(b, &(__VA_ARGS__), sizeof(__VA_ARGS__))

static void acpi_madt_overrides(struct acpi_build *b)
{
	MADT_ENTRY(b, (struct madt_override){2, 10, 0, PC_IRQ_TIMER,
					     PC_GSI_TIMER, 0});
	MADT_ENTRY(b, (struct madt_override){2, 10, 0, PC_IRQ_SCI, PC_IRQ_SCI,
					     INTI_HIGH | INTI_LEVEL});
	MADT_ENTRY(b, (struct madt_lapic_nmi){4, 6, 0xff, 0, 1});
}

static void acpi_put_madt(struct acpi_build *b, unsigned cpus)
{
	u8 *p = acpi_alloc(b, sizeof(struct acpi_header) + 8, 16);
	u32 fixed[2] = {(u32)PC_LAPIC_BASE, 1 /* there is an 8259 */};

	memcpy(p + sizeof(struct acpi_header), fixed, sizeof(fixed));
	for (unsigned i = 0; i < cpus; i++)
		MADT_ENTRY(b, (struct madt_lapic){0, 8, (u8)i, (u8)i, 1});
	MADT_ENTRY(b, (struct madt_ioapic){1, 12, PC_IOAPIC_ID, 0,
					   (u32)PC_IOAPIC_BASE, 0});
	acpi_madt_overrides(b);
	acpi_finish(b, p, "APIC", 5, (u32)(b->buf + b->len - p));
}

static void acpi_put_mcfg(struct acpi_build *b)
{
	struct acpi_mcfg *m = acpi_alloc(b, sizeof(*m), 16);

	m->base = PC_ECAM_BASE;
	m->last_bus = PC_ECAM_BUSES - 1;
	acpi_finish(b, m, "MCFG", 1, sizeof(*m));
}

static u64 acpi_put_xsdt(struct acpi_build *b)
{
	u32 n = sizeof(struct acpi_header) + b->tables * 8;
	u8 *p = acpi_alloc(b, n, 16);

	memcpy(p + sizeof(struct acpi_header), b->table, b->tables * 8);
	acpi_finish(b, p, "XSDT", 1, n);
	return acpi_gpa(b, p);
}

static void acpi_fill_rsdp(struct acpi_rsdp *r, u64 xsdt)
{
	memcpy(r->signature, "RSD PTR ", 8);
	memcpy(r->oem_id, "SUBLET", 6);
	r->revision = 2;
	r->length = sizeof(*r);
	r->xsdt = xsdt;
	r->checksum = acpi_sum(r, 20);
	r->extended_checksum = acpi_sum(r, sizeof(*r));
}

int acpi_write(struct mem *m, unsigned cpus, gpa_t *rsdp, struct err *e)
{
	struct acpi_build b = {.buf = calloc(1, ACPI_SPACE)};
	struct acpi_rsdp *r;
	u64 facs, dsdt;

	if (!b.buf)
		return err_set(e, -ENOMEM, "no memory for ACPI tables");
	ASSERT(cpus && cpus <= PC_CPUS_MAX);
	r = acpi_alloc(&b, sizeof(*r), 16);
	facs = acpi_put_facs(&b);
	dsdt = acpi_put_dsdt(&b, cpus, pc_mmio64(m));
	acpi_put_fadt(&b, facs, dsdt);
	acpi_put_madt(&b, cpus);
	acpi_put_mcfg(&b);
	acpi_fill_rsdp(r, acpi_put_xsdt(&b));
	*rsdp = acpi_gpa(&b, r);
	mem_write(m, PC_TABLES_BASE, b.buf, b.len);
	free(b.buf);
	return 0;
}
