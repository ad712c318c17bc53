/* SPDX-License-Identifier: BSD-2-Clause */
/* The board as an engine sees it. */
#include "device/i8259.h"
#include "device/ioapic.h"
#include "platform/pc_priv.h"

static u64 pc_pio_read(void *m, u16 port, unsigned len)
{
	return io_read(((struct pc *)m)->pio, port, len);
}

static void pc_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	io_write(((struct pc *)m)->pio, port, val, len);
}

static u64 pc_mmio_read(void *m, gpa_t gpa, unsigned len)
{
	return io_read(((struct pc *)m)->mmio, gpa, len);
}

static void pc_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	io_write(((struct pc *)m)->mmio, gpa, val, len);
}

static int pc_extint_ack(void *m)
{
	return i8259_ack(((struct pc *)m)->pic);
}

static void pc_cpu_eoi(void *m, u8 vector)
{
	ioapic_eoi(((struct pc *)m)->ioapic, vector);
}

static void pc_cpu_wake(void *m, unsigned id)
{
	const struct pc_host *h = &((struct pc *)m)->c.host;

	h->wake(h->arg, id);
}

static void pc_cpu_timer(void *m, unsigned id, u64 deadline_ns)
{
	const struct pc_host *h = &((struct pc *)m)->c.host;

	h->timer(h->arg, id, deadline_ns);
}

const struct cpu_ops pc_cpu_ops = {
	.pio_read = pc_pio_read,
	.pio_write = pc_pio_write,
	.mmio_read = pc_mmio_read,
	.mmio_write = pc_mmio_write,
	.extint_ack = pc_extint_ack,
	.eoi = pc_cpu_eoi,
	.wake = pc_cpu_wake,
	.timer = pc_cpu_timer,
};
