/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * I/O APIC (Intel 82093AA data sheet; ICH's EOI register). Wires carry
 * "asserted", so the polarity bit is kept but changes nothing.
 */
#include "device/ioapic.h"

#include <errno.h>
#include <stdlib.h>

/* Offsets in the page */
enum {
	IOREGSEL = 0x00,
	IOWIN = 0x10,
	IOEOI = 0x40,
};
/* Indices */
enum {
	IOAPICID = 0,
	IOAPICVER = 1,
	IOAPICARB = 2,
	IOREDTBL = 0x10,
};

#define IOAPIC_VERSION (0x20u | (IOAPIC_PINS - 1) << 16)

#define RTE_VECTOR     0xffull
#define RTE_MODE(e)    ((e) >> 8 & 7)
#define RTE_LOGICAL    BIT64(11)
#define RTE_REMOTE_IRR BIT64(14)
#define RTE_LEVEL      BIT64(15)
#define RTE_MASKED     BIT64(16)
#define RTE_READ_ONLY  (BIT64(12) | RTE_REMOTE_IRR)
/* Destination in 63:56, its extension (see apic_bus_msi()) in 55:49. */
#define RTE_WRITABLE (0xfffe00000001ffffull & ~RTE_READ_ONLY)

enum { MODE_FIXED, MODE_LOWEST };

struct ioapic_regs {
	u64 redir[IOAPIC_PINS];
	u32 level; /* of the pins */
	u32 index;
	u32 id;
	u32 pad; /* zero */
};

struct ioapic {
	struct dev dev;
	struct ioapic_regs r; /* dev.lock */
	struct msi_sink out;
};

static u64 ioapic_address(u64 rte)
{
	return 0xfee00000ull | (rte >> 56) << 12 | (rte >> 49 & 0x7f) << 5 |
	       (RTE_MODE(rte) == MODE_LOWEST ? 1u << 3 : 0) |
	       (rte & RTE_LOGICAL ? 1u << 2 : 0);
}

static u32 ioapic_data(u64 rte)
{
	u32 data = (u32)(rte & 0x7ff);

	return rte & RTE_LEVEL ? data | 0xc000 : data;
}

/* Level-triggered operation is defined for these two delivery modes. */
static bool ioapic_is_level(u64 rte)
{
	return rte & RTE_LEVEL && RTE_MODE(rte) <= MODE_LOWEST;
}

static void ioapic_send(struct ioapic *a, unsigned pin)
{
	u64 rte = a->r.redir[pin];

	if (rte & RTE_MASKED)
		return;
	if (ioapic_is_level(rte)) {
		if (rte & RTE_REMOTE_IRR || !(a->r.level & BIT(pin)))
			return;
		a->r.redir[pin] |= RTE_REMOTE_IRR;
	}
	msi_send(&a->out, ioapic_address(rte), ioapic_data(rte));
}

/* ---- pins ---- */

static void ioapic_set(void *arg, unsigned pin, bool level)
{
	struct ioapic *a = arg;
	u32 was;

	pthread_mutex_lock(&a->dev.lock);
	was = a->r.level;
	a->r.level = level ? was | BIT(pin) : was & ~BIT(pin);
	if (level && !(was & BIT(pin)))
		ioapic_send(a, pin);
	pthread_mutex_unlock(&a->dev.lock);
}

struct irq_line ioapic_line(struct ioapic *a, unsigned pin)
{
	ASSERT(pin < IOAPIC_PINS);
	return (struct irq_line){ioapic_set, a, pin};
}

static void ioapic_eoi_locked(struct ioapic *a, u8 vector)
{
	for (unsigned i = 0; i < IOAPIC_PINS; i++) {
		u64 rte = a->r.redir[i];

		if (!(rte & RTE_REMOTE_IRR) || (rte & RTE_VECTOR) != vector)
			continue;
		a->r.redir[i] &= ~RTE_REMOTE_IRR;
		ioapic_send(a, i);
	}
}

void ioapic_eoi(void *ioapic, u8 vector)
{
	struct ioapic *a = ioapic;

	pthread_mutex_lock(&a->dev.lock);
	ioapic_eoi_locked(a, vector);
	pthread_mutex_unlock(&a->dev.lock);
}

/* ---- registers ---- */

static u32 ioapic_read_reg(const struct ioapic *a)
{
	unsigned n = a->r.index - IOREDTBL;

	switch (a->r.index) {
	case IOAPICID:
	case IOAPICARB: return a->r.id;
	case IOAPICVER: return IOAPIC_VERSION;
	default: break;
	}
	if (n >= 2 * IOAPIC_PINS)
		return 0;
	return (u32)(a->r.redir[n / 2] >> (n & 1 ? 32 : 0));
}

static u64 ioapic_read(struct dev *d, u64 off, unsigned len)
{
	struct ioapic *a = (struct ioapic *)d;

	(void)len;
	if (off == IOREGSEL)
		return a->r.index;
	return off == IOWIN ? ioapic_read_reg(a) : 0;
}

/* An edge-triggered pin has no remote IRR; guests reset it that way. */
static void ioapic_write_redir(struct ioapic *a, unsigned n, u32 val)
{
	unsigned pin = n / 2, shift = n & 1 ? 32 : 0;
	u64 mask = (u64)0xffffffff << shift & RTE_WRITABLE;
	u64 rte = a->r.redir[pin];

	rte = (rte & ~mask) | ((u64)val << shift & mask);
	if (!ioapic_is_level(rte))
		rte &= ~RTE_REMOTE_IRR;
	a->r.redir[pin] = rte;
	if (ioapic_is_level(rte))
		ioapic_send(a, pin);
}

static void ioapic_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct ioapic *a = (struct ioapic *)d;
	unsigned n = a->r.index - IOREDTBL;

	(void)len;
	if (off == IOREGSEL)
		a->r.index = val & 0xff;
	else if (off == IOEOI)
		ioapic_eoi_locked(a, (u8)val);
	else if (off == IOWIN && a->r.index == IOAPICID)
		a->r.id = val & 0x0f000000;
	else if (off == IOWIN && n < 2 * IOAPIC_PINS)
		ioapic_write_redir(a, n, (u32)val);
}

/* ---- life ---- */

/* The pins' levels are their drivers' affair. */
static void ioapic_reset(struct dev *d)
{
	struct ioapic *a = (struct ioapic *)d;

	a->r.index = a->r.id = 0;
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		a->r.redir[i] = RTE_MASKED;
}

static const struct state_field ioapic_fields[] = {
	STATE_ARRAY(struct ioapic_regs, redir, 1),
	STATE(struct ioapic_regs, level, 1),
	STATE(struct ioapic_regs, index, 1),
	STATE(struct ioapic_regs, id, 1),
	STATE(struct ioapic_regs, pad, 1),
};

static int ioapic_check(const void *regs, struct err *e)
{
	const struct ioapic_regs *r = regs;

	if (r->index > 0xff || r->level >> IOAPIC_PINS || r->pad)
		return err_set(e, -EDOM, "ioapic: impossible index or level");
	for (unsigned i = 0; i < IOAPIC_PINS; i++)
		if (r->redir[i] & ~(RTE_WRITABLE | RTE_READ_ONLY) ||
		    (r->redir[i] & RTE_REMOTE_IRR &&
		     !ioapic_is_level(r->redir[i])))
			return err_set(e, -EDOM, "ioapic: entry %u is %#lx", i,
				       r->redir[i]);
	return 0;
}

static const struct state_desc ioapic_state = {
	.name = "ioapic",
	.version = 1,
	.size = sizeof(struct ioapic_regs),
	.fields = ioapic_fields,
	.nfields = ARRAY_LEN(ioapic_fields),
	.check = ioapic_check,
};

static const struct dev_class ioapic_class = {
	.name = "ioapic",
	.state = &ioapic_state,
	.read = ioapic_read,
	.write = ioapic_write,
	.reset = ioapic_reset,
};

struct ioapic *ioapic_new(struct msi_sink out)
{
	struct ioapic *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	dev_init(&a->dev, &ioapic_class, &a->r);
	a->out = out;
	ioapic_reset(&a->dev);
	return a;
}
