/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8259A pair (Intel 8259A data sheet; ELCR of the EISA chip sets). The
 * second chip's output is input 2 of the first, looked at afresh whenever
 * anything changes rather than latched. Left out: MCS-80 mode and masters
 * other than this one.
 */
#include "device/i8259.h"

#include <errno.h>
#include <stdlib.h>

#define CASCADE 2u

enum { ICW1_ICW4 = BIT(0), ICW1_SINGLE = BIT(1), ICW1_LEVEL = BIT(3) };
enum { ICW1 = BIT(4), OCW3 = BIT(3) };
enum { ICW4_AUTO_EOI = BIT(1), ICW4_SFNM = BIT(4) };

/* What the next write to the odd port is. */
enum { EXPECT_OCW1, EXPECT_ICW2, EXPECT_ICW3, EXPECT_ICW4 };

/* OCW2's upper three bits */
enum {
	EOI_CLEAR_ROTATE,
	EOI,
	EOI_NOP,
	EOI_SPECIFIC,
	EOI_SET_ROTATE,
	EOI_ROTATE,
	EOI_SET_PRIORITY,
	EOI_ROTATE_SPECIFIC,
};

static const u8 i8259_elcr_bits[2] = {0xf8, 0xde};

/* Each array: first chip, second chip. */
struct i8259_regs {
	u8 lines[2]; /* levels of the inputs */
	u8 irr[2], imr[2], isr[2], elcr[2];
	u8 icw1[2], base[2], icw4[2];
	u8 expect[2];
	u8 top[2]; /* the input of highest priority */
	u8 rotate[2], special_mask[2], poll[2], read_isr[2];
};

struct i8259 {
	struct dev dev;
	struct i8259_regs r; /* dev.lock */
	struct irq_line intr;
	bool raised; /* what intr was set to; dev.lock */
};

/* Inputs that are sensed by level. */
static u8 i8259_levels(const struct i8259 *p, unsigned c)
{
	return p->r.icw1[c] & ICW1_LEVEL ? 0xff : p->r.elcr[c];
}

/* The first set bit in order of priority, counted from the top; 8: none. */
static unsigned i8259_rank(const struct i8259 *p, unsigned c, u8 bits)
{
	unsigned rank = 0;

	while (rank < 8 && !(bits & BIT((p->r.top[c] + rank) & 7)))
		rank++;
	return rank;
}

/* The input that is to be served now, or -1. */
static int i8259_next(const struct i8259 *p, unsigned c)
{
	u8 service = p->r.isr[c];
	unsigned rank = i8259_rank(p, c, p->r.irr[c] & ~p->r.imr[c]);

	if (p->r.special_mask[c])
		service &= ~p->r.imr[c];
	if (c == 0 && p->r.icw4[0] & ICW4_SFNM)
		service &= ~BIT(CASCADE);
	if (rank >= i8259_rank(p, c, service))
		return -1;
	return (int)((p->r.top[c] + rank) & 7);
}

static void i8259_update(struct i8259 *p)
{
	bool raise;

	p->r.irr[0] &= ~BIT(CASCADE);
	if (i8259_next(p, 1) >= 0)
		p->r.irr[0] |= BIT(CASCADE);
	raise = i8259_next(p, 0) >= 0;
	if (raise != p->raised) {
		p->raised = raise;
		irq_set(&p->intr, raise);
	}
}

static void i8259_set(void *arg, unsigned irq, bool level)
{
	struct i8259 *p = arg;
	unsigned c = irq >> 3;
	u8 bit = BIT(irq & 7), was;

	pthread_mutex_lock(&p->dev.lock);
	was = p->r.lines[c];
	p->r.lines[c] = level ? was | bit : was & ~bit;
	if (level && !(was & bit))
		p->r.irr[c] |= bit;
	else if (!level && i8259_levels(p, c) & bit)
		p->r.irr[c] &= ~bit;
	i8259_update(p);
	pthread_mutex_unlock(&p->dev.lock);
}

struct irq_line i8259_line(struct i8259 *p, unsigned irq)
{
	ASSERT(irq < 16 && irq != CASCADE);
	return (struct irq_line){i8259_set, p, irq};
}

/* ---- acknowledge and end ---- */

static void i8259_accept(struct i8259 *p, unsigned c, unsigned irq)
{
	u8 bit = BIT(irq);

	if (!(i8259_levels(p, c) & bit & p->r.lines[c]))
		p->r.irr[c] &= ~bit;
	if (!(p->r.icw4[c] & ICW4_AUTO_EOI))
		p->r.isr[c] |= bit;
	else if (p->r.rotate[c])
		p->r.top[c] = (irq + 1) & 7;
}

/* INTR falls with each acknowledgement, so that the next request is an edge */
static void i8259_lower(struct i8259 *p)
{
	if (p->raised)
		irq_set(&p->intr, false);
	p->raised = false;
}

int i8259_ack(struct i8259 *p)
{
	int vector = -1, irq;

	pthread_mutex_lock(&p->dev.lock);
	irq = i8259_next(p, 0);
	if (irq >= 0) {
		i8259_accept(p, 0, (unsigned)irq);
		vector = p->r.base[0] + irq;
	}
	if (irq == CASCADE) {
		irq = i8259_next(p, 1);
		if (irq >= 0)
			i8259_accept(p, 1, (unsigned)irq);
		/* gone meanwhile: the spurious vector */
		vector = p->r.base[1] + (irq < 0 ? 7 : irq);
	}
	i8259_lower(p);
	i8259_update(p);
	pthread_mutex_unlock(&p->dev.lock);
	return vector;
}

/* The poll command: the next read acknowledges like INTA. */
static u8 i8259_poll(struct i8259 *p, unsigned c)
{
	int irq = i8259_next(p, c);

	p->r.poll[c] = 0;
	if (irq < 0)
		return 0;
	i8259_accept(p, c, (unsigned)irq);
	i8259_update(p);
	return (u8)(0x80 | irq);
}

static void i8259_ocw2(struct i8259 *p, unsigned c, u8 val)
{
	unsigned n = val & 7, rank, command = val >> 5;
	bool rotate = command == EOI_ROTATE || command == EOI_ROTATE_SPECIFIC;

	switch (command) {
	case EOI_CLEAR_ROTATE: p->r.rotate[c] = 0; return;
	case EOI_SET_ROTATE: p->r.rotate[c] = 1; return;
	case EOI_SET_PRIORITY: p->r.top[c] = (n + 1) & 7; return;
	case EOI_NOP: return;
	case EOI:
	case EOI_ROTATE:
		rank = i8259_rank(p, c, p->r.isr[c]);
		if (rank == 8)
			return;
		n = (p->r.top[c] + rank) & 7;
		break;
	default: break;
	}
	p->r.isr[c] &= ~BIT(n);
	if (rotate)
		p->r.top[c] = (n + 1) & 7;
}

/* ---- registers ---- */

static void i8259_icw1(struct i8259 *p, unsigned c, u8 val)
{
	p->r.icw1[c] = val & (ICW1_ICW4 | ICW1_SINGLE | ICW1_LEVEL);
	p->r.irr[c] = p->r.lines[c] & i8259_levels(p, c);
	p->r.imr[c] = p->r.isr[c] = p->r.icw4[c] = p->r.top[c] = 0;
	p->r.rotate[c] = p->r.special_mask[c] = 0;
	p->r.poll[c] = p->r.read_isr[c] = 0;
	p->r.expect[c] = EXPECT_ICW2;
}

static void i8259_write_even(struct i8259 *p, unsigned c, u8 val)
{
	if (val & ICW1) {
		i8259_icw1(p, c, val);
	} else if (val & OCW3) {
		if (val & BIT(2))
			p->r.poll[c] = 1;
		if (val & BIT(1))
			p->r.read_isr[c] = val & 1;
		if (val & BIT(6))
			p->r.special_mask[c] = val >> 5 & 1;
	} else {
		i8259_ocw2(p, c, val);
	}
}

static void i8259_write_odd(struct i8259 *p, unsigned c, u8 val)
{
	u8 icw1 = p->r.icw1[c];
	u8 last = icw1 & ICW1_ICW4 ? EXPECT_ICW4 : EXPECT_OCW1;

	switch (p->r.expect[c]) {
	case EXPECT_OCW1: p->r.imr[c] = val; break;
	case EXPECT_ICW2:
		p->r.base[c] = val & 0xf8;
		p->r.expect[c] = icw1 & ICW1_SINGLE ? last : EXPECT_ICW3;
		break;
	case EXPECT_ICW3: p->r.expect[c] = last; break;
	case EXPECT_ICW4:
		p->r.icw4[c] = val & (ICW4_AUTO_EOI | ICW4_SFNM);
		p->r.expect[c] = EXPECT_OCW1;
		break;
	default: break;
	}
}

/* Offsets: 0, 1 the first chip, 2, 3 the second, 4, 5 the ELCRs. */
static u64 i8259_read(struct dev *d, u64 off, unsigned len)
{
	struct i8259 *p = (struct i8259 *)d;
	unsigned c = off >> 1 & 1;

	(void)len;
	if (off >= 4)
		return p->r.elcr[off & 1];
	if (p->r.poll[c])
		return i8259_poll(p, c);
	if (off & 1)
		return p->r.imr[c];
	return p->r.read_isr[c] ? p->r.isr[c] : p->r.irr[c];
}

static void i8259_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct i8259 *p = (struct i8259 *)d;

	(void)len;
	if (off >= 4)
		p->r.elcr[off & 1] = (u8)val & i8259_elcr_bits[off & 1];
	else if (off & 1)
		i8259_write_odd(p, off >> 1, (u8)val);
	else
		i8259_write_even(p, off >> 1, (u8)val);
	i8259_update(p);
}

/* ---- life ---- */

static void i8259_reset(struct dev *d)
{
	struct i8259 *p = (struct i8259 *)d;

	for (unsigned c = 0; c < 2; c++) {
		p->r.elcr[c] = 0;
		i8259_icw1(p, c, 0);
		p->r.expect[c] = EXPECT_OCW1;
		p->r.base[c] = 0;
	}
	i8259_update(p);
}

static void i8259_loaded(struct dev *d)
{
	struct i8259 *p = (struct i8259 *)d;

	i8259_lower(p);
	i8259_update(p);
}

static const struct state_field i8259_fields[] = {
	STATE_ARRAY(struct i8259_regs, lines, 1),
	STATE_ARRAY(struct i8259_regs, irr, 1),
	STATE_ARRAY(struct i8259_regs, imr, 1),
	STATE_ARRAY(struct i8259_regs, isr, 1),
	STATE_ARRAY(struct i8259_regs, elcr, 1),
	STATE_ARRAY(struct i8259_regs, icw1, 1),
	STATE_ARRAY(struct i8259_regs, base, 1),
	STATE_ARRAY(struct i8259_regs, icw4, 1),
	STATE_ARRAY(struct i8259_regs, expect, 1),
	STATE_ARRAY(struct i8259_regs, top, 1),
	STATE_ARRAY(struct i8259_regs, rotate, 1),
	STATE_ARRAY(struct i8259_regs, special_mask, 1),
	STATE_ARRAY(struct i8259_regs, poll, 1),
	STATE_ARRAY(struct i8259_regs, read_isr, 1),
};

static int i8259_check(const void *regs, struct err *e)
{
	const struct i8259_regs *r = regs;

	for (unsigned c = 0; c < 2; c++)
		if (r->expect[c] > EXPECT_ICW4 || r->top[c] > 7 ||
		    r->base[c] & 7 || r->elcr[c] & ~i8259_elcr_bits[c] ||
		    r->rotate[c] > 1 || r->special_mask[c] > 1 ||
		    r->poll[c] > 1 || r->read_isr[c] > 1)
			return err_set(e, -EDOM,
				       "i8259: chip %u is in no state it "
				       "could be in",
				       c);
	return 0;
}

static const struct state_desc i8259_state = {
	.name = "i8259",
	.version = 1,
	.size = sizeof(struct i8259_regs),
	.fields = i8259_fields,
	.nfields = ARRAY_LEN(i8259_fields),
	.check = i8259_check,
};

static const struct dev_class i8259_class = {
	.name = "i8259",
	.state = &i8259_state,
	.width = 1,
	.read = i8259_read,
	.write = i8259_write,
	.reset = i8259_reset,
	.loaded = i8259_loaded,
};

struct i8259 *i8259_new(struct irq_line intr)
{
	struct i8259 *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	dev_init(&p->dev, &i8259_class, &p->r);
	p->intr = intr;
	i8259_reset(&p->dev);
	return p;
}

int i8259_map(struct i8259 *p, struct io_space *ports, struct err *e)
{
	static const struct dev_window windows[] = {
		{0x20, 2, 0, "8259 first"},
		{0xa0, 2, 2, "8259 second"},
		{0x4d0, 2, 4, "8259 level"},
	};

	return dev_map(&p->dev, ports, 0, windows, ARRAY_LEN(windows), e);
}
