/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ACPI fixed hardware (ACPI 6.4, 4.8): PM1a event and control registers, PM
 * timer, GPE0 block. The reset register, port 0xcf9, is the PCI host's.
 * SCI_EN is always set: there is no SMI command port.
 *
 * Registers from the base address, ACPI_PM_SIZE bytes:
 *   0 PM1_STS (2)  2 PM1_EN (2)  4 PM1_CNT (2)  8 PM_TMR (4)
 *   16 GPE0_STS (2)  18 GPE0_EN (2)
 */
#ifndef DEVICE_ACPI_PM_H
#define DEVICE_ACPI_PM_H

#include "base/loop.h"
#include "bus/dev.h"
#include "irq/irq.h"

#define ACPI_PM_SIZE    32ull
#define ACPI_PM1_EVT    0u /* PM1_EVT_LEN 4 */
#define ACPI_PM1_CNT    4u /* PM1_CNT_LEN 2 */
#define ACPI_PM_TMR     8u /* PM_TMR_LEN 4 */
#define ACPI_GPE0       16u
#define ACPI_GPE0_LEN   4u
#define ACPI_PM_TMR_HZ  3579545u
#define ACPI_S5_SLP_TYP 5u /* for the DSDT's \_S5 */

struct acpi_pm;

struct acpi_pm_config {
	struct irq_line sci;          /* level-triggered, active high */
	void (*power_off)(void *arg); /* dev.lock is held; must not call back */
	void *arg;
};

struct acpi_pm *acpi_pm_new(struct loop *l, const struct acpi_pm_config *c);
static inline struct dev *acpi_pm_dev(struct acpi_pm *p)
{
	return (struct dev *)p;
}
int acpi_pm_map(struct acpi_pm *p, struct io_space *ports, u64 base,
		struct err *e);

/* The power button is pressed. Any thread. */
void acpi_pm_power_button(struct acpi_pm *p);
/* Event gpe (0..15) has happened. Any thread. */
void acpi_pm_gpe(struct acpi_pm *p, unsigned gpe);

#endif
