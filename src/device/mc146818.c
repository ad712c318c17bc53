/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MC146818 real-time clock (Motorola data sheet; PC NVRAM cells).
 *
 * The clock is the host's plus an offset. Flags of register C are worked out
 * when somebody looks, from the time since the last look; a loop timer runs
 * only while an interrupt is enabled that has not yet been raised. Left out:
 * square wave, daylight saving, the divider chain.
 */
#include "device/mc146818.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "device/calendar.h"

#define NS        1000000000ull
#define UPDATE_NS 244000u /* UIP leads the update by this */

/* Cells */
enum {
	SECONDS,
	SECONDS_ALARM,
	MINUTES,
	MINUTES_ALARM,
	HOURS,
	HOURS_ALARM,
	WEEKDAY,
	DAY,
	MONTH,
	YEAR,
	REG_A,
	REG_B,
	REG_C,
	REG_D,
	BASE_KB = 0x15,     /* 2: conventional memory */
	EXTENDED_KB = 0x17, /* 2: above 1 MiB, to 64 MiB */
	CHECKSUM_FROM = 0x10,
	CHECKSUM = 0x2e, /* 2: sum of 0x10..0x2d, high byte first */
	EXTENDED_KB_2 = 0x30,
	CENTURY = 0x32,
	ABOVE_16M = 0x34, /* 2: in units of 64 KiB */
	ABOVE_4G = 0x5b,  /* 3: in units of 64 KiB */
};

enum { A_UIP = BIT(7), A_RATE = 0x0f };
enum {
	B_24H = BIT(1),
	B_BINARY = BIT(2),
	B_UIE = BIT(4),
	B_AIE = BIT(5),
	B_PIE = BIT(6),
	B_SET = BIT(7),
};
enum { C_UF = BIT(4), C_AF = BIT(5), C_PF = BIT(6), C_IRQF = BIT(7) };
enum { D_VALID = BIT(7) };

#define INTERRUPTS (B_UIE | B_AIE | B_PIE)

struct mc146818_regs {
	s64 offset_ns; /* guest's clock - host's */
	u64 seen_ns;   /* guest's clock when flags were last worked out */
	u8 cell[128];  /* times here count only while B_SET */
	u8 index;
	u8 pad[7]; /* zero */
};

struct mc146818 {
	struct dev dev;
	struct mc146818_regs r; /* dev.lock */
	struct irq_line irq8;
	struct loop_timer *timer; /* owned */
};

/* ---- time and its cells ---- */

static u64 mc146818_now(const struct mc146818 *m)
{
	return clock_real_ns() + (u64)m->r.offset_ns;
}

static u8 mc146818_code(const struct mc146818 *m, unsigned v)
{
	if (m->r.cell[REG_B] & B_BINARY)
		return (u8)v;
	return (u8)(v / 10 << 4 | v % 10);
}

static unsigned mc146818_decode(const struct mc146818 *m, u8 v)
{
	if (m->r.cell[REG_B] & B_BINARY)
		return v;
	return (v >> 4) * 10u + (v & 15);
}

/* 12-hour clocks count 12, 1 .. 11, with PM in bit 7. */
static u8 mc146818_code_hour(const struct mc146818 *m, unsigned hour)
{
	if (m->r.cell[REG_B] & B_24H)
		return mc146818_code(m, hour);
	return mc146818_code(m, hour % 12 ? hour % 12 : 12) |
	       (hour >= 12 ? 0x80 : 0);
}

static unsigned mc146818_decode_hour(const struct mc146818 *m, u8 v)
{
	if (m->r.cell[REG_B] & B_24H)
		return mc146818_decode(m, v);
	return mc146818_decode(m, v & 0x7f) % 12 + (v & 0x80 ? 12 : 0);
}

/* The cells get the time; while B_SET they keep what the guest wrote. */
static void mc146818_show(struct mc146818 *m)
{
	struct calendar c;

	if (m->r.cell[REG_B] & B_SET)
		return;
	calendar_from_seconds(&c, (s64)(mc146818_now(m) / NS));
	m->r.cell[SECONDS] = mc146818_code(m, c.second);
	m->r.cell[MINUTES] = mc146818_code(m, c.minute);
	m->r.cell[HOURS] = mc146818_code_hour(m, c.hour);
	m->r.cell[WEEKDAY] = mc146818_code(m, c.weekday + 1);
	m->r.cell[DAY] = mc146818_code(m, c.day);
	m->r.cell[MONTH] = mc146818_code(m, c.month);
	m->r.cell[YEAR] = mc146818_code(m, (unsigned)c.year % 100);
	m->r.cell[CENTURY] = mc146818_code(m, (unsigned)c.year / 100);
}

/* The clock gets the cells' time. Nonsense in them is clipped. */
static void mc146818_adopt(struct mc146818 *m)
{
	const u8 *cell = m->r.cell;
	struct calendar c = {
		.second = MIN(mc146818_decode(m, cell[SECONDS]), 59u),
		.minute = MIN(mc146818_decode(m, cell[MINUTES]), 59u),
		.hour = MIN(mc146818_decode_hour(m, cell[HOURS]), 23u),
		.day = MIN(MAX(mc146818_decode(m, cell[DAY]), 1u), 31u),
		.month = MIN(MAX(mc146818_decode(m, cell[MONTH]), 1u), 12u),
		.year = (int)(MIN(mc146818_decode(m, cell[CENTURY]), 99u) *
				      100 +
			      MIN(mc146818_decode(m, cell[YEAR]), 99u)),
	};
	u64 host = clock_real_ns(), sub = (host + (u64)m->r.offset_ns) % NS;

	/* what 64 bits of nanoseconds since 1970 can say, and its difference */
	c.year = MIN(MAX(c.year, 1970), 2225);
	m->r.offset_ns = (s64)((u64)calendar_to_seconds(&c) * NS + sub - host);
	m->r.seen_ns = mc146818_now(m);
}

/* ---- flags and the interrupt ---- */

static u64 mc146818_period_hz(const struct mc146818 *m)
{
	unsigned rate = m->r.cell[REG_A] & A_RATE;

	if (!rate)
		return 0;
	return 32768u >> ((rate <= 2 ? rate + 7 : rate) - 1);
}

/* Whether second s of a day is the alarm's; 0xc0 and above match anything. */
static bool mc146818_alarm_at(const struct mc146818 *m, u64 s)
{
	u8 sec = m->r.cell[SECONDS_ALARM], min = m->r.cell[MINUTES_ALARM];
	u8 hour = m->r.cell[HOURS_ALARM];

	return (sec >= 0xc0 || mc146818_code(m, s % 60) == sec) &&
	       (min >= 0xc0 || mc146818_code(m, s / 60 % 60) == min) &&
	       ((hour & 0xc0) == 0xc0 ||
		mc146818_code_hour(m, (unsigned)(s / 3600 % 24)) == hour);
}

static bool mc146818_alarm_within(const struct mc146818 *m, u64 from, u64 to)
{
	if (to > from + 86400)
		from = to - 86400;
	while (from++ < to)
		if (mc146818_alarm_at(m, from % 86400))
			return true;
	return false;
}

/* Brings register C up to the present. */
static void mc146818_sync(struct mc146818 *m)
{
	u64 was = m->r.seen_ns, now = mc146818_now(m);
	u64 hz = mc146818_period_hz(m);
	u8 *c = &m->r.cell[REG_C];

	m->r.seen_ns = now;
	if (now <= was) /* the host's clock was set back */
		return;
	if (hz && mul_div(now, hz, NS) != mul_div(was, hz, NS))
		*c |= C_PF;
	if (m->r.cell[REG_B] & B_SET || now / NS == was / NS)
		return;
	*c |= C_UF;
	if (!(*c & C_AF) && mc146818_alarm_within(m, was / NS, now / NS))
		*c |= C_AF;
}

/* The guest time at which a flag that may interrupt can next be set, or 0. */
static u64 mc146818_next(const struct mc146818 *m)
{
	u64 hz = mc146818_period_hz(m), now = m->r.seen_ns, at = 0, tick;
	u8 b = m->r.cell[REG_B];

	if (m->r.cell[REG_C] & C_IRQF)
		return 0;
	if (b & (B_UIE | B_AIE) && !(b & B_SET))
		at = (now / NS + 1) * NS;
	if (b & B_PIE && hz) {
		tick = mul_div(mul_div(now, hz, NS) + 1, NS, hz) + 1;
		at = at ? MIN(at, tick) : tick;
	}
	return at;
}

static void mc146818_update(struct mc146818 *m)
{
	u8 *c = &m->r.cell[REG_C];
	u64 at;

	mc146818_sync(m);
	*c &= ~C_IRQF;
	if (*c & m->r.cell[REG_B] & INTERRUPTS)
		*c |= C_IRQF;
	irq_set(&m->irq8, *c & C_IRQF);
	at = mc146818_next(m);
	loop_timer_arm(m->timer, at ? clock_ns() + (at - m->r.seen_ns) : 0);
}

static void mc146818_fired(void *arg)
{
	struct mc146818 *m = arg;

	pthread_mutex_lock(&m->dev.lock);
	mc146818_update(m);
	pthread_mutex_unlock(&m->dev.lock);
}

/* ---- cells ---- */

static u8 mc146818_read_cell(struct mc146818 *m, unsigned n)
{
	u8 val;

	switch (n) {
	case REG_A:
		val = m->r.cell[REG_A];
		if (!(m->r.cell[REG_B] & B_SET) &&
		    mc146818_now(m) % NS >= NS - UPDATE_NS)
			val |= A_UIP;
		return val;
	case REG_C:
		mc146818_update(m);
		val = m->r.cell[REG_C];
		m->r.cell[REG_C] = 0;
		mc146818_update(m);
		return val;
	default:
		if (n <= YEAR || n == CENTURY)
			mc146818_show(m);
		return m->r.cell[n];
	}
}

/* The format bits change how the cells are read from now on. */
static void mc146818_write_b(struct mc146818 *m, u8 val)
{
	u8 was = m->r.cell[REG_B];

	mc146818_sync(m);
	if (val & ~was & B_SET)
		mc146818_show(m);
	m->r.cell[REG_B] = val;
	if (was & ~val & B_SET)
		mc146818_adopt(m);
	mc146818_update(m);
}

static bool mc146818_is_time(unsigned n)
{
	return (n <= YEAR && n != SECONDS_ALARM && n != MINUTES_ALARM &&
		n != HOURS_ALARM) ||
	       n == CENTURY;
}

static void mc146818_write_cell(struct mc146818 *m, unsigned n, u8 val)
{
	switch (n) {
	case REG_A:
		mc146818_sync(m);
		m->r.cell[REG_A] = val & ~A_UIP;
		mc146818_update(m);
		return;
	case REG_B: mc146818_write_b(m, val); return;
	case REG_C:
	case REG_D: return; /* read-only */
	default: break;
	}
	mc146818_sync(m);
	if (mc146818_is_time(n))
		mc146818_show(m);
	m->r.cell[n] = val;
	if (mc146818_is_time(n) && !(m->r.cell[REG_B] & B_SET))
		mc146818_adopt(m);
	mc146818_update(m);
}

static u64 mc146818_read(struct dev *d, u64 off, unsigned len)
{
	struct mc146818 *m = (struct mc146818 *)d;

	(void)len;
	return off == 1 ? mc146818_read_cell(m, m->r.index) : 0xff;
}

/* Bit 7 of the index masks NMI on a PC; nothing here makes one by port. */
static void mc146818_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct mc146818 *m = (struct mc146818 *)d;

	(void)len;
	if (off == 0)
		m->r.index = val & 0x7f;
	else
		mc146818_write_cell(m, m->r.index, (u8)val);
}

/* ---- life ---- */

/* The clock has a battery: a reset only disables its interrupts. */
static void mc146818_reset(struct dev *d)
{
	struct mc146818 *m = (struct mc146818 *)d;

	m->r.index = 0;
	m->r.cell[REG_B] &= ~(INTERRUPTS | B_SET);
	m->r.cell[REG_C] = 0;
	m->r.seen_ns = mc146818_now(m);
	mc146818_update(m);
}

static void mc146818_saving(struct dev *d)
{
	mc146818_sync((struct mc146818 *)d);
	mc146818_show((struct mc146818 *)d);
}

static void mc146818_loaded(struct dev *d)
{
	mc146818_update((struct mc146818 *)d);
}

static void mc146818_free(struct dev *d)
{
	loop_timer_free(((struct mc146818 *)d)->timer);
}

static const struct state_field mc146818_fields[] = {
	STATE(struct mc146818_regs, offset_ns, 1),
	STATE(struct mc146818_regs, seen_ns, 1),
	STATE_ARRAY(struct mc146818_regs, cell, 1),
	STATE(struct mc146818_regs, index, 1),
	STATE_ARRAY(struct mc146818_regs, pad, 1),
};

static int mc146818_check(const void *regs, struct err *e)
{
	const struct mc146818_regs *r = regs;

	if (r->index > 0x7f || r->cell[REG_A] & A_UIP ||
	    r->cell[REG_D] != D_VALID)
		return err_set(e, -EDOM, "mc146818: impossible registers");
	return 0;
}

static const struct state_desc mc146818_state = {
	.name = "mc146818",
	.version = 1,
	.size = sizeof(struct mc146818_regs),
	.fields = mc146818_fields,
	.nfields = ARRAY_LEN(mc146818_fields),
	.check = mc146818_check,
};

static const struct dev_class mc146818_class = {
	.name = "mc146818",
	.state = &mc146818_state,
	.width = 1,
	.read = mc146818_read,
	.write = mc146818_write,
	.reset = mc146818_reset,
	.saving = mc146818_saving,
	.loaded = mc146818_loaded,
	.free = mc146818_free,
};

static void mc146818_put(struct mc146818 *m, unsigned at, unsigned bytes,
			 u64 val)
{
	for (unsigned i = 0; i < bytes; i++)
		m->r.cell[at + i] = (u8)(val >> 8 * i);
}

static void mc146818_tell_memory(struct mc146818 *m, u64 low, u64 high)
{
	u64 extended = low > MIB ? (low - MIB) / KIB : 0, sum = 0;
	u64 above = low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0;

	extended = MIN(extended, 0xffffu);
	mc146818_put(m, BASE_KB, 2, 640);
	mc146818_put(m, EXTENDED_KB, 2, extended);
	mc146818_put(m, EXTENDED_KB_2, 2, extended);
	mc146818_put(m, ABOVE_16M, 2, MIN(above, 0xffffu));
	mc146818_put(m, ABOVE_4G, 3, high / (64 * KIB));
	for (unsigned i = CHECKSUM_FROM; i < CHECKSUM; i++)
		sum += m->r.cell[i];
	m->r.cell[CHECKSUM] = (u8)(sum >> 8);
	m->r.cell[CHECKSUM + 1] = (u8)sum;
}

struct mc146818 *mc146818_new(struct loop *l, struct irq_line irq8, u64 ram_low,
			      u64 ram_high)
{
	struct mc146818 *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->timer = loop_timer_new(l, mc146818_fired, m);
	if (!m->timer) {
		free(m);
		return NULL;
	}
	dev_init(&m->dev, &mc146818_class, &m->r);
	m->irq8 = irq8;
	m->r.cell[REG_A] = 0x26; /* 32.768 kHz, 1024 Hz */
	m->r.cell[REG_B] = B_24H;
	m->r.cell[REG_D] = D_VALID;
	mc146818_tell_memory(m, ram_low, ram_high);
	mc146818_reset(&m->dev);
	return m;
}
