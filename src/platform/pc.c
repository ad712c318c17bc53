/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The schematic. Interrupts:
 *
 *   ISA n ---+--> 8259 input n -----> INTR ----> LINT0 of the boot CPU
 *            +--> I/O APIC pin n (the timer: pin 2)
 *   INTA..D -+--> I/O APIC pins 16..19
 *            +--> 8259 inputs 10 and 11, two wires or-ed on each
 *   I/O APIC, MSI, MSI-X ----> messages to the local APICs
 *
 * The local APICs are the engine's, so messages and INTR go to whichever
 * engine pc_connect() named.
 */
#include "platform/pc.h"

#include <errno.h>
#include <stdlib.h>

#include "bus/pci.h"
#include "bus/virtio_pci.h"
#include "device/acpi_pm.h"
#include "device/debug_port.h"
#include "device/fw_cfg.h"
#include "device/i8042.h"
#include "device/i8254.h"
#include "device/i8259.h"
#include "device/ioapic.h"
#include "device/mc146818.h"
#include "device/ns16550.h"
#include "device/vmgenid.h"
#include "irq/wire.h"
#include "platform/acpi.h"
#include "platform/pc_priv.h"

#define ISA_IRQS 16u

/* What is wired where; the arguments of io_map() in one place. */
static int pc_map_port(struct pc *pc, u64 port, u64 len, struct dev *d,
		       struct err *e)
{
	return io_map(pc->pio, port, len, &dev_io_ops, d, d->class->name, e);
}

/* Messages and INTR to whoever has the local APICs. */
static void pc_msi(void *arg, u64 address, u32 data)
{
	struct pc *pc = arg;

	if (pc->engine && pc->engine->class->msi)
		pc->engine->class->msi(pc->engine, address, data);
	else
		apic_bus_msi(pc->apics, address, data);
}

static void pc_intr(void *arg, unsigned n, bool level)
{
	struct pc *pc = arg;

	if (pc->engine && pc->engine->class->extint)
		pc->engine->class->extint(pc->engine, level);
	else
		apic_bus_extint(pc->apics, n, level);
}

static void pc_eoi(void *arg, u8 vector)
{
	struct pc *pc = arg;

	ioapic_eoi(pc->ioapic, vector);
}

/* Events for the VM */
static void pc_event_reset(void *arg)
{
	struct pc *pc = arg;

	pc->c.host.event(pc->c.host.arg, PC_EVENT_RESET, 0);
}

static void pc_event_power_off(void *arg)
{
	struct pc *pc = arg;

	pc->c.host.event(pc->c.host.arg, PC_EVENT_POWER_OFF, 0);
}

static void pc_event_debug_exit(void *arg, unsigned status)
{
	struct pc *pc = arg;

	pc->c.host.event(pc->c.host.arg, PC_EVENT_DEBUG_EXIT, status);
}

static struct irq_line pc_isa(struct pc *pc, unsigned irq)
{
	return irq_split_input(&pc->isa[irq]);
}

/* Interrupt controllers and the wires between them. */
static int pc_make_irqs(struct pc *pc, struct err *e)
{
	int rc;

	pc->pic = i8259_new((struct irq_line){pc_intr, pc, 0});
	if (!pc->pic)
		return -ENOMEM;
	dev_add(&pc->devs, i8259_dev(pc->pic));
	pc->ioapic = ioapic_new((struct msi_sink){pc_msi, pc});
	if (!pc->ioapic)
		return -ENOMEM;
	dev_add(&pc->devs, ioapic_dev(pc->ioapic));
	rc = i8259_map(pc->pic, pc->pio, e);
	if (!rc)
		rc = io_map(pc->mmio, PC_IOAPIC_BASE, IOAPIC_SIZE, &dev_io_ops,
			    ioapic_dev(pc->ioapic), "ioapic", e);
	for (unsigned i = 0; i < ISA_IRQS; i++) {
		unsigned pin = i == PC_IRQ_TIMER ? PC_GSI_TIMER : i;

		if (i == PC_IRQ_CASCADE)
			continue;
		pc->isa[i].out[0] = i8259_line(pc->pic, i);
		pc->isa[i].out[1] = ioapic_line(pc->ioapic, pin);
	}
	return rc;
}

/* PCI pins: each to its own I/O APIC pin, and in pairs to the 8259. */
static void pc_wire_intx(struct pc *pc, struct pci_wiring *w)
{
	irq_or_init(&pc->pic_pci[0], i8259_line(pc->pic, PC_IRQ_PCI_A));
	irq_or_init(&pc->pic_pci[1], i8259_line(pc->pic, PC_IRQ_PCI_B));
	for (unsigned i = 0; i < 4; i++) {
		struct irq_split *s = &pc->intx[i];

		s->out[0] = ioapic_line(pc->ioapic, PC_GSI_PCI + i);
		s->out[1] = irq_or_input(&pc->pic_pci[i & 1], i);
		w->intx[i] = irq_split_input(s);
	}
}

static int pc_accel_ioeventfd(void *arg, gpa_t gpa, unsigned len, int fd,
			      bool add)
{
	struct pc *pc = arg;

	if (!pc->engine || !pc->engine->class->ioeventfd)
		return -ENOTSUP;
	return pc->engine->class->ioeventfd(pc->engine, gpa, len, fd, add);
}

static int pc_accel_irqfd(void *arg, int fd, u64 address, u32 data)
{
	struct pc *pc = arg;

	if (!pc->engine || !pc->engine->class->irqfd)
		return -ENOTSUP;
	return pc->engine->class->irqfd(pc->engine, fd, address, data);
}

static const struct accel_ops pc_accel = {
	.ioeventfd = pc_accel_ioeventfd,
	.irqfd = pc_accel_irqfd,
};

static int pc_make_pci(struct pc *pc, struct err *e)
{
	struct pci_wiring w = {
		.pio = pc->pio,
		.mmio = pc->mmio,
		.msi = {pc_msi, pc},
		.accel = {&pc_accel, pc},
		.reset = pc_event_reset,
		.reset_arg = pc,
	};

	pc_wire_intx(pc, &w);
	pc->pci = pci_bus_new(&w, e);
	if (!pc->pci)
		return -ENOMEM;
	pci_bus_add(pc->pci, &pc->devs);
	return pci_bus_ecam(pc->pci, PC_ECAM_BASE, PC_ECAM_SIZE, e);
}

/* Timers and clock */
static int pc_make_clocks(struct pc *pc, struct err *e)
{
	struct i8254 *pit = i8254_new(pc->c.loop, pc_isa(pc, PC_IRQ_TIMER));
	struct mc146818 *rtc;
	int rc;

	if (!pit)
		return -ENOMEM;
	dev_add(&pc->devs, i8254_dev(pit));
	rc = i8254_map(pit, pc->pio, e);
	if (rc)
		return rc;
	rtc = mc146818_new(pc->c.loop, pc_isa(pc, PC_IRQ_RTC),
			   pc_ram_low(pc->c.mem), pc_ram_high(pc->c.mem));
	if (!rtc)
		return -ENOMEM;
	dev_add(&pc->devs, mc146818_dev(rtc));
	return pc_map_port(pc, 0x70, 2, mc146818_dev(rtc), e);
}

static int pc_make_power(struct pc *pc, struct err *e)
{
	struct acpi_pm_config c = {
		.sci = pc_isa(pc, PC_IRQ_SCI),
		.power_off = pc_event_power_off,
		.arg = pc,
	};

	pc->pm = acpi_pm_new(pc->c.loop, &c);
	if (!pc->pm)
		return -ENOMEM;
	dev_add(&pc->devs, acpi_pm_dev(pc->pm));
	return acpi_pm_map(pc->pm, pc->pio, PC_PM_BASE, e);
}

static void pc_vmgenid_changed(void *arg)
{
	acpi_pm_gpe(((struct pc *)arg)->pm, PC_GPE_VMGENID);
}

static int pc_make_vmgenid(struct pc *pc, struct err *e)
{
	struct vmgenid_config c = {
		.mem = pc->c.mem,
		.gpa = PC_VMGENID_BASE,
		.changed = pc_vmgenid_changed,
		.arg = pc,
	};

	(void)e;
	pc->vmgenid = vmgenid_new(&c);
	if (!pc->vmgenid)
		return -ENOMEM;
	dev_add(&pc->devs, vmgenid_dev(pc->vmgenid));
	dev_reset(vmgenid_dev(pc->vmgenid));
	return 0;
}

static int pc_make_keyboard(struct pc *pc, struct err *e)
{
	struct i8042_config c = {
		.irq1 = pc_isa(pc, PC_IRQ_KEYBOARD),
		.irq12 = pc_isa(pc, PC_IRQ_MOUSE),
		.keyboard = true,
		.reset = pc_event_reset,
		.arg = pc,
	};
	struct i8042 *k = i8042_new(&c);

	if (!k)
		return -ENOMEM;
	dev_add(&pc->devs, i8042_dev(k));
	return i8042_map(k, pc->pio, e);
}

static int pc_make_serial(struct pc *pc, struct err *e)
{
	struct chr *chr = pc->c.com1;
	struct ns16550 *u;

	pc->c.com1 = NULL;
	u = ns16550_new(chr, pc_isa(pc, PC_IRQ_COM1));
	if (!u)
		return -ENOMEM;
	dev_add(&pc->devs, ns16550_dev(u));
	return pc_map_port(pc, PC_COM1_PORT, 8, ns16550_dev(u), e);
}

static int pc_make_fw_cfg(struct pc *pc, struct err *e)
{
	struct fw_cfg *f = fw_cfg_new(pc->c.mem);

	if (!f)
		return -ENOMEM;
	dev_add(&pc->devs, fw_cfg_dev(f));
	return pc_map_port(pc, FW_CFG_PORT, FW_CFG_SIZE, fw_cfg_dev(f), e);
}

/* System control port A (0x92): bit 0 resets, bit 1 is the A20 gate, which
 * is always open. Port 0x80 takes what firmware and old delays write. */
static u64 pc_port92_read(void *arg, u64 off, unsigned len)
{
	(void)arg;
	(void)off;
	(void)len;
	return 2;
}

static void pc_port92_write(void *arg, u64 off, u64 val, unsigned len)
{
	(void)off;
	(void)len;
	if (val & 1)
		pc_event_reset(arg);
}

static const struct io_ops pc_port92_ops = {pc_port92_read, pc_port92_write};

static u64 pc_post_read(void *arg, u64 off, unsigned len)
{
	(void)arg;
	(void)off;
	(void)len;
	return 0;
}

static void pc_post_write(void *arg, u64 off, u64 val, unsigned len)
{
	(void)arg;
	(void)off;
	(void)val;
	(void)len;
}

static const struct io_ops pc_post_ops = {pc_post_read, pc_post_write};

static int pc_make_small_ports(struct pc *pc, struct err *e)
{
	int rc = io_map(pc->pio, 0x92, 1, &pc_port92_ops, pc, "port 92", e);

	return rc ? rc : io_map(pc->pio, 0x80, 1, &pc_post_ops, pc, "post", e);
}

/* Last, so that a port already in use is told of. */
static int pc_make_debug(struct pc *pc, struct err *e)
{
	struct chr *chr = pc->c.debug_chr;
	struct dev *d;
	int rc = 0;

	pc->c.debug_chr = NULL;
	if (pc->c.debug_exit_port) {
		d = debug_exit_new(pc_event_debug_exit, pc);
		if (!d)
			return -ENOMEM;
		dev_add(&pc->devs, d);
		rc = pc_map_port(pc, pc->c.debug_exit_port, 4, d, e);
	}
	if (!pc->c.debug_chr_port || rc) {
		chr_free(chr);
		return rc;
	}
	d = debug_console_new(chr);
	if (!d)
		return -ENOMEM;
	dev_add(&pc->devs, d);
	return pc_map_port(pc, pc->c.debug_chr_port, 1, d, e);
}

static int (*const pc_makers[])(struct pc *pc, struct err *e) = {
	pc_make_irqs,        pc_make_clocks,   pc_make_power, pc_make_vmgenid,
	pc_make_serial,      pc_make_keyboard, pc_make_pci,   pc_make_fw_cfg,
	pc_make_small_ports, pc_make_debug,
};

static int pc_make(struct pc *pc, struct err *e)
{
	pc->pio = io_space_new("ports");
	pc->mmio = io_space_new("memory");
	pc->apics = apic_bus_new(pc_eoi, pc);
	if (!pc->pio || !pc->mmio || !pc->apics)
		return err_set(e, -ENOMEM, "no memory for the board");
	for (size_t i = 0; i < ARRAY_LEN(pc_makers); i++) {
		struct err why = {"no memory for a device"};
		int rc = pc_makers[i](pc, &why);

		if (rc)
			return err_set(e, rc, "%s", why.text);
	}
	return 0;
}

struct pc *pc_new(const struct pc_config *c, struct err *e)
{
	struct pc *pc = calloc(1, sizeof(*pc));

	if (!pc) {
		err_set(e, -ENOMEM, "no memory for the board");
		chr_free(c->com1);
		chr_free(c->debug_chr);
		return NULL;
	}
	pc->c = *c;
	if (!pc_make(pc, e))
		return pc;
	pc_free(pc);
	return NULL;
}

void pc_free(struct pc *pc)
{
	dev_list_free(&pc->devs);
	chr_free(pc->c.com1); /* if no device took them over */
	chr_free(pc->c.debug_chr);
	if (pc->pci)
		for (unsigned i = 0; i < 2; i++)
			irq_or_fini(&pc->pic_pci[i]);
	if (pc->apics)
		apic_bus_free(pc->apics);
	if (pc->mmio)
		io_space_free(pc->mmio);
	if (pc->pio)
		io_space_free(pc->pio);
	free(pc);
}

int pc_add_virtio(struct pc *pc, struct virtio *v, struct err *e)
{
	return virtio_pci_add(pc->pci, 0, v, &pc->devs, e);
}

struct apic_bus *pc_apics(struct pc *pc)
{
	return pc->apics;
}

void pc_connect(struct pc *pc, struct engine *g)
{
	pc->engine = g;
}

int pc_boot(struct pc *pc, const struct boot_config *b, struct cpu_state *cpu,
	    struct err *e)
{
	struct mem *m = pc->c.mem;
	struct boot_entry entry;
	gpa_t rsdp;
	int rc;

	rc = pci_bus_assign(pc->pci, PC_MMIO32_BASE, PC_MMIO32_SIZE, e);
	if (!rc)
		rc = acpi_write(m, pc->c.cpus, &rsdp, e);
	if (!rc)
		rc = smbios_write(m, pc->c.cpus, e);
	if (!rc)
		rc = boot_load(m, b, rsdp, &entry, e);
	if (!rc)
		boot_enter(m, &entry, cpu);
	return rc;
}

void pc_reset(struct pc *pc)
{
	dev_list_reset(&pc->devs);
}

struct dev_list *pc_devices(struct pc *pc)
{
	return &pc->devs;
}

void pc_power_button(struct pc *pc)
{
	acpi_pm_power_button(pc->pm);
}

void pc_new_generation(struct pc *pc)
{
	vmgenid_renew(pc->vmgenid);
}

void pc_generation(struct pc *pc, u8 id[VMGENID_SIZE])
{
	vmgenid_get(pc->vmgenid, id);
}

void pc_nmi(struct pc *pc)
{
	apic_bus_nmi(pc->apics);
}
