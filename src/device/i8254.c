/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8254 interval timer (Intel 8254 data sheet) with the PC's port 0x61.
 *
 * Nothing ticks: a counter is the time since it was loaded, and its value and
 * output are computed when somebody looks. Only counter 0 has a loop timer,
 * for the edges on IRQ 0; ticks that the host was too late for are left out,
 * the next comes where it would have come. A new count takes effect at once
 * in every mode; the data sheet lets modes 2 and 3 finish their cycle first.
 *
 * Offsets: 0..2 counters, 3 control word, 4 port 0x61.
 */
#include "device/i8254.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"

#define COUNTERS 3u
#define NS       1000000000u

/* Interrupts closer than this would leave the host no time for the guest. */
#define EDGE_MIN_NS 50000u

#define PORT61_GATE     BIT(0)
#define PORT61_SPEAKER  BIT(1)
#define PORT61_WRITABLE 0x0fu
#define REFRESH_NS      15085u

enum { RW_LATCH, RW_LOW, RW_HIGH, RW_BOTH };
enum { IDLE, COUNTING, PAUSED };

/* Each array: one element a counter. */
struct i8254_regs {
	u64 age_ns[3]; /* since loaded; kept while PAUSED, else when saved */
	u32 reload[3]; /* count loaded, 1 .. 65536; 0: none yet */
	u16 latch[3];  /* value latched */
	u8 latched[3]; /* bytes of it still to be read, RW_* */
	u8 status[3];  /* status latched */
	u8 status_latched[3];
	u8 mode[3], rw[3], bcd[3];
	u8 phase[3]; /* IDLE ... */
	u8 gate[3];
	u8 write_low[3];                /* low byte of RW_BOTH, if write_high */
	u8 write_high[3], read_high[3]; /* the next byte is the high one */
	u8 port61;
	u8 pad[12]; /* zero */
};

struct i8254 {
	struct dev dev;
	struct i8254_regs r; /* dev.lock */
	u64 start_ns[3];     /* when loaded, while COUNTING; dev.lock */
	u64 edge_ns;         /* when IRQ 0 is due, or 0; dev.lock */
	struct irq_line irq0;
	struct loop_timer *timer; /* owned */
};

/* ---- time ---- */

static u64 i8254_ticks(const struct i8254 *p, unsigned n, u64 now)
{
	u64 ns = p->r.phase[n] == COUNTING ? now - p->start_ns[n]
		 : p->r.phase[n] == PAUSED ? p->r.age_ns[n]
					   : 0;

	return mul_div(ns, I8254_HZ, NS);
}

/* The host time of a counter's tick, rounded up. */
static u64 i8254_when(const struct i8254 *p, unsigned n, u64 tick)
{
	return p->start_ns[n] + mul_div(tick, NS, I8254_HZ) + 1;
}

static bool i8254_periodic(u8 mode)
{
	return mode == 2 || mode == 3;
}

static u16 i8254_value(const struct i8254 *p, unsigned n, u64 now)
{
	u64 d = i8254_ticks(p, n, now), count = p->r.reload[n];

	if (!count)
		return 0;
	if (p->r.mode[n] == 2)
		d %= count;
	else if (p->r.mode[n] == 3)
		d = d * 2 % count & ~1ull;
	if (p->r.bcd[n])
		return (u16)((count + 10000 - d % 10000) % 10000);
	return (u16)(count - d);
}

static bool i8254_out(const struct i8254 *p, unsigned n, u64 now)
{
	u64 d = i8254_ticks(p, n, now), count = p->r.reload[n];

	if (p->r.phase[n] == IDLE || !count)
		return p->r.mode[n] != 0;
	switch (p->r.mode[n]) {
	case 0:
	case 1: return d >= count;
	case 2: return !p->r.gate[n] || d % count != count - 1;
	case 3: return !p->r.gate[n] || d % count < (count + 1) / 2;
	default: return d != count;
	}
}

/* ---- counter 0 and its interrupt ---- */

/* The tick of the next rising edge of OUT, or 0. */
static u64 i8254_next_edge(const struct i8254 *p, u64 now)
{
	u64 d = i8254_ticks(p, 0, now), count = p->r.reload[0];

	if (p->r.phase[0] != COUNTING || !count)
		return 0;
	if (i8254_periodic(p->r.mode[0]))
		return (d / count + 1) * count;
	if (p->r.mode[0] >= 4)
		count++; /* the strobe is one tick long */
	return d < count ? count : 0;
}

static void i8254_arm(struct i8254 *p, u64 now, u64 not_before)
{
	u64 tick = i8254_next_edge(p, now);

	p->edge_ns = tick ? i8254_when(p, 0, tick) : 0;
	loop_timer_arm(p->timer, tick ? MAX(p->edge_ns, not_before) : 0);
}

/* The edge comes up again before the interrupt controllers look: they latch
 * edges. In mode 0 OUT stays high. */
static void i8254_edge(struct i8254 *p)
{
	irq_set(&p->irq0, true);
	if (p->r.mode[0] != 0)
		irq_set(&p->irq0, false);
}

static void i8254_fired(void *arg)
{
	struct i8254 *p = arg;
	u64 now = clock_ns();

	pthread_mutex_lock(&p->dev.lock);
	if (p->edge_ns && now >= p->edge_ns) {
		i8254_edge(p);
		i8254_arm(p, now, now + EDGE_MIN_NS);
	}
	pthread_mutex_unlock(&p->dev.lock);
}

/* After any change of a counter. */
static void i8254_changed(struct i8254 *p, unsigned n)
{
	u64 now = clock_ns();

	if (n != 0)
		return;
	irq_set(&p->irq0, p->r.mode[0] == 0 && i8254_out(p, 0, now));
	i8254_arm(p, now, 0);
}

/* ---- counters ---- */

static void i8254_start(struct i8254 *p, unsigned n)
{
	p->r.age_ns[n] = 0;
	p->start_ns[n] = clock_ns();
	p->r.phase[n] =
		p->r.gate[n] || p->r.mode[n] % 4 == 1 ? COUNTING : PAUSED;
}

static u32 i8254_from_bcd(u16 v)
{
	return (v >> 12) * 1000u + (v >> 8 & 15) * 100u + (v >> 4 & 15) * 10u +
	       (v & 15);
}

static u16 i8254_to_bcd(u16 v)
{
	return (u16)(v / 1000 % 10 << 12 | v / 100 % 10 << 8 |
		     v / 10 % 10 << 4 | v % 10);
}

/* Modes 1 and 5 wait for their gate's rising edge. */
static void i8254_load(struct i8254 *p, unsigned n, u16 val)
{
	u32 count = p->r.bcd[n] ? i8254_from_bcd(val) % 10000 : val;

	if (!count)
		count = p->r.bcd[n] ? 10000 : 65536;
	/* a period of one is not allowed, and would not be an edge */
	if (count == 1 && i8254_periodic(p->r.mode[n]))
		count = 2;
	p->r.reload[n] = count;
	if (p->r.mode[n] != 1 && p->r.mode[n] != 5)
		i8254_start(p, n);
	i8254_changed(p, n);
}

static void i8254_set_gate(struct i8254 *p, unsigned n, bool gate)
{
	bool was = p->r.gate[n];
	u8 mode = p->r.mode[n];

	if (was == gate)
		return;
	p->r.gate[n] = gate;
	if (mode == 1 || mode == 5) {
		if (gate && p->r.reload[n])
			i8254_start(p, n);
	} else if (gate && p->r.phase[n] == PAUSED) {
		if (i8254_periodic(mode))
			p->r.age_ns[n] = 0;
		p->start_ns[n] = clock_ns() - p->r.age_ns[n];
		p->r.phase[n] = COUNTING;
	} else if (!gate && p->r.phase[n] == COUNTING) {
		p->r.age_ns[n] = clock_ns() - p->start_ns[n];
		p->r.phase[n] = PAUSED;
	}
	i8254_changed(p, n);
}

static void i8254_latch_count(struct i8254 *p, unsigned n)
{
	u16 v;

	if (p->r.latched[n])
		return;
	v = i8254_value(p, n, clock_ns());
	p->r.latch[n] = p->r.bcd[n] ? i8254_to_bcd(v) : v;
	p->r.latched[n] = p->r.rw[n];
}

static void i8254_latch_status(struct i8254 *p, unsigned n)
{
	if (p->r.status_latched[n])
		return;
	p->r.status_latched[n] = 1;
	p->r.status[n] = (u8)(i8254_out(p, n, clock_ns()) << 7 |
			      (p->r.phase[n] == IDLE) << 6 | p->r.rw[n] << 4 |
			      p->r.mode[n] << 1 | p->r.bcd[n]);
}

/* ---- registers ---- */

static void i8254_control(struct i8254 *p, u8 val)
{
	unsigned n = val >> 6, rw = val >> 4 & 3, mode = val >> 1 & 7;

	if (n == COUNTERS) { /* read-back: both bits are active low */
		for (n = 0; n < COUNTERS; n++) {
			if (!(val & 2u << n))
				continue;
			if (!(val & BIT(5)))
				i8254_latch_count(p, n);
			if (!(val & BIT(4)))
				i8254_latch_status(p, n);
		}
		return;
	}
	if (rw == RW_LATCH) {
		i8254_latch_count(p, n);
		return;
	}
	p->r.rw[n] = (u8)rw;
	p->r.mode[n] = (u8)(mode > 5 ? mode & 3 : mode);
	p->r.bcd[n] = val & 1;
	p->r.phase[n] = IDLE;
	p->r.reload[n] = 0;
	p->r.write_high[n] = p->r.read_high[n] = 0;
	p->r.latched[n] = p->r.status_latched[n] = 0;
	i8254_changed(p, n);
}

static void i8254_write_counter(struct i8254 *p, unsigned n, u8 val)
{
	switch (p->r.rw[n]) {
	case RW_LOW: i8254_load(p, n, val); break;
	case RW_HIGH: i8254_load(p, n, (u16)(val << 8)); break;
	default:
		p->r.write_high[n] = !p->r.write_high[n];
		if (p->r.write_high[n])
			p->r.write_low[n] = val;
		else
			i8254_load(p, n, (u16)(val << 8 | p->r.write_low[n]));
		break;
	}
}

static u8 i8254_read_latch(struct i8254 *p, unsigned n)
{
	switch (p->r.latched[n]) {
	case RW_BOTH: p->r.latched[n] = RW_HIGH; return (u8)p->r.latch[n];
	case RW_HIGH: p->r.latched[n] = 0; return (u8)(p->r.latch[n] >> 8);
	default: p->r.latched[n] = 0; return (u8)p->r.latch[n];
	}
}

static u8 i8254_read_counter(struct i8254 *p, unsigned n)
{
	u16 v;

	if (p->r.status_latched[n]) {
		p->r.status_latched[n] = 0;
		return p->r.status[n];
	}
	if (p->r.latched[n])
		return i8254_read_latch(p, n);
	v = i8254_value(p, n, clock_ns());
	if (p->r.bcd[n])
		v = i8254_to_bcd(v);
	if (p->r.rw[n] == RW_BOTH)
		p->r.read_high[n] = !p->r.read_high[n];
	if (p->r.rw[n] == RW_HIGH ||
	    (p->r.rw[n] == RW_BOTH && !p->r.read_high[n]))
		return (u8)(v >> 8);
	return (u8)v;
}

/* Bit 4 follows memory refresh, by which old software measures time. */
static u8 i8254_read_61(const struct i8254 *p)
{
	u64 now = clock_ns();

	return (u8)(p->r.port61 | (now / REFRESH_NS & 1) << 4 |
		    i8254_out(p, 2, now) << 5);
}

static u64 i8254_read(struct dev *d, u64 off, unsigned len)
{
	struct i8254 *p = (struct i8254 *)d;

	(void)len;
	if (off == 4)
		return i8254_read_61(p);
	return off < COUNTERS ? i8254_read_counter(p, (unsigned)off) : 0xff;
}

static void i8254_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct i8254 *p = (struct i8254 *)d;

	(void)len;
	if (off < COUNTERS) {
		i8254_write_counter(p, (unsigned)off, (u8)val);
	} else if (off == 3) {
		i8254_control(p, (u8)val);
	} else {
		p->r.port61 = val & PORT61_WRITABLE;
		i8254_set_gate(p, 2, val & PORT61_GATE);
	}
}

/* ---- life ---- */

static void i8254_reset(struct dev *d)
{
	struct i8254 *p = (struct i8254 *)d;

	p->r = (struct i8254_regs){
		.rw = {RW_BOTH, RW_BOTH, RW_BOTH},
		.mode = {3, 3, 3},
		.gate = {1, 1, 0},
	};
	i8254_changed(p, 0);
}

static void i8254_saving(struct dev *d)
{
	struct i8254 *p = (struct i8254 *)d;
	u64 now = clock_ns();

	if (p->edge_ns && now >= p->edge_ns) { /* due, but not yet told of */
		i8254_edge(p);
		i8254_arm(p, now, now + EDGE_MIN_NS);
	}
	for (unsigned n = 0; n < COUNTERS; n++)
		if (p->r.phase[n] == COUNTING)
			p->r.age_ns[n] = now - p->start_ns[n];
}

static void i8254_loaded(struct dev *d)
{
	struct i8254 *p = (struct i8254 *)d;
	u64 now = clock_ns();

	for (unsigned n = 0; n < COUNTERS; n++)
		p->start_ns[n] = now - p->r.age_ns[n];
	i8254_changed(p, 0);
}

static void i8254_free(struct dev *d)
{
	loop_timer_free(((struct i8254 *)d)->timer);
}

static const struct state_field i8254_fields[] = {
	STATE_ARRAY(struct i8254_regs, age_ns, 1),
	STATE_ARRAY(struct i8254_regs, reload, 1),
	STATE_ARRAY(struct i8254_regs, latch, 1),
	STATE_ARRAY(struct i8254_regs, latched, 1),
	STATE_ARRAY(struct i8254_regs, status, 1),
	STATE_ARRAY(struct i8254_regs, status_latched, 1),
	STATE_ARRAY(struct i8254_regs, mode, 1),
	STATE_ARRAY(struct i8254_regs, rw, 1),
	STATE_ARRAY(struct i8254_regs, bcd, 1),
	STATE_ARRAY(struct i8254_regs, phase, 1),
	STATE_ARRAY(struct i8254_regs, gate, 1),
	STATE_ARRAY(struct i8254_regs, write_low, 1),
	STATE_ARRAY(struct i8254_regs, write_high, 1),
	STATE_ARRAY(struct i8254_regs, read_high, 1),
	STATE(struct i8254_regs, port61, 1),
	STATE_ARRAY(struct i8254_regs, pad, 1),
};

static int i8254_check(const void *regs, struct err *e)
{
	const struct i8254_regs *r = regs;

	for (unsigned n = 0; n < COUNTERS; n++)
		if (r->reload[n] > 65536 || r->mode[n] > 5 ||
		    r->rw[n] > RW_BOTH || !r->rw[n] || r->bcd[n] > 1 ||
		    r->phase[n] > PAUSED || r->gate[n] > 1 ||
		    r->latched[n] > RW_BOTH || r->age_ns[n] > 1ull << 62)
			return err_set(e, -EDOM,
				       "i8254: counter %u is in no state it "
				       "could be in",
				       n);
	return 0;
}

static const struct state_desc i8254_state = {
	.name = "i8254",
	.version = 1,
	.size = sizeof(struct i8254_regs),
	.fields = i8254_fields,
	.nfields = ARRAY_LEN(i8254_fields),
	.check = i8254_check,
};

static const struct dev_class i8254_class = {
	.name = "i8254",
	.state = &i8254_state,
	.width = 1,
	.read = i8254_read,
	.write = i8254_write,
	.reset = i8254_reset,
	.saving = i8254_saving,
	.loaded = i8254_loaded,
	.free = i8254_free,
};

struct i8254 *i8254_new(struct loop *l, struct irq_line irq0)
{
	struct i8254 *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->timer = loop_timer_new(l, i8254_fired, p);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	dev_init(&p->dev, &i8254_class, &p->r);
	p->irq0 = irq0;
	i8254_reset(&p->dev);
	return p;
}

int i8254_map(struct i8254 *p, struct io_space *ports, struct err *e)
{
	static const struct dev_window windows[] = {
		{0x40, 4, 0, "8254"},
		{0x61, 1, 4, "port 61"},
	};

	return dev_map(&p->dev, ports, 0, windows, ARRAY_LEN(windows), e);
}
