/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * NS16550A (National Semiconductor PC16550D data sheet). Left out: line
 * errors other than overrun, and time: a byte is sent the moment it is
 * written, and one that waits in the receive FIFO below its trigger level is
 * reported as a time-out at once.
 *
 * The far side minds RTS: what is typed before a system has opened the port
 * waits, instead of being lost when the driver clears the FIFO. Software that
 * never touches the modem control register gets input once it polls for it.
 */
#include "device/ns16550.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	IER_RX = BIT(0),
	IER_THRE = BIT(1),
	IER_LINE = BIT(2),
	IER_MODEM = BIT(3),
};
enum {
	IIR_MODEM = 0x0,
	IIR_NONE = 0x1,
	IIR_THRE = 0x2,
	IIR_RX = 0x4,
	IIR_LINE = 0x6,
	IIR_TIMEOUT = 0xc,
	IIR_FIFO = 0xc0,
};
enum {
	FCR_ENABLE = BIT(0),
	FCR_CLEAR_RX = BIT(1),
};
enum {
	LCR_DLAB = BIT(7),
	MCR_RTS = BIT(1),
	MCR_LOOP = BIT(4),
};
enum {
	LSR_DR = BIT(0),
	LSR_OE = BIT(1),
	LSR_THRE = BIT(5),
	LSR_TEMT = BIT(6),
};
enum {
	MSR_DELTA = 0x0f,
	MSR_CTS = BIT(4),
	MSR_DSR = BIT(5),
	MSR_RI = BIT(6),
	MSR_DCD = BIT(7),
};

struct ns16550_regs {
	u8 ier, fcr, lcr, mcr, msr, scr;
	u8 dll, dlm;
	u8 overrun;      /* LSR.OE */
	u8 thre_pending; /* a THRE interrupt is due */
	u8 rbr;          /* what an empty receiver reads as */
	u8 rx_len;
	u8 rx[16];
	u8 known;  /* KNOWN_* */
	u8 pad[3]; /* zero */
};

/* What the guest has shown of itself since reset. */
enum { KNOWN_POLLS = 1, KNOWN_MCR = 2 };

struct ns16550 {
	struct dev dev;
	struct ns16550_regs r; /* dev.lock */
	struct chr *chr;       /* owned; may be NULL */
	struct irq_line irq;
	bool stalled; /* the chr holds input; dev.lock */
};

static unsigned ns16550_capacity(const struct ns16550 *u)
{
	return u->r.fcr & FCR_ENABLE ? sizeof(u->r.rx) : 1;
}

static u8 ns16550_iir(const struct ns16550 *u)
{
	static const u8 trigger[4] = {1, 4, 8, 14};
	u8 fifo = u->r.fcr & FCR_ENABLE ? IIR_FIFO : 0;

	if (u->r.ier & IER_LINE && u->r.overrun)
		return fifo | IIR_LINE;
	if (u->r.ier & IER_RX && u->r.rx_len) {
		if (!fifo || u->r.rx_len >= trigger[u->r.fcr >> 6])
			return fifo | IIR_RX;
		return fifo | IIR_TIMEOUT;
	}
	if (u->r.ier & IER_THRE && u->r.thre_pending)
		return fifo | IIR_THRE;
	if (u->r.ier & IER_MODEM && u->r.msr & MSR_DELTA)
		return fifo | IIR_MODEM;
	return fifo | IIR_NONE;
}

static void ns16550_update(struct ns16550 *u)
{
	irq_set(&u->irq, !(ns16550_iir(u) & IIR_NONE));
}

/* ---- receiving ---- */

static bool ns16550_listens(const struct ns16550 *u)
{
	if (u->r.known & KNOWN_MCR)
		return (u->r.mcr & (MCR_RTS | MCR_LOOP)) == MCR_RTS;
	return u->r.known & KNOWN_POLLS;
}

static void ns16550_resume(struct ns16550 *u)
{
	if (u->stalled && ns16550_listens(u) &&
	    u->r.rx_len < ns16550_capacity(u)) {
		u->stalled = false;
		chr_input_ready(u->chr);
	}
}

static void ns16550_clear_rx(struct ns16550 *u)
{
	u->r.rx_len = 0;
	ns16550_resume(u);
}

static size_t ns16550_put(struct ns16550 *u, const u8 *buf, size_t n)
{
	n = MIN(n, ns16550_capacity(u) - u->r.rx_len);
	memcpy(u->r.rx + u->r.rx_len, buf, n);
	u->r.rx_len += (u8)n;
	return n;
}

static u8 ns16550_get(struct ns16550 *u)
{
	if (!u->r.rx_len)
		return u->r.rbr;
	u->r.rbr = u->r.rx[0];
	u->r.rx_len--;
	memmove(u->r.rx, u->r.rx + 1, u->r.rx_len);
	u->r.rx[u->r.rx_len] = 0;
	if (!u->r.rx_len)
		ns16550_clear_rx(u);
	return u->r.rbr;
}

/* The loop's thread. */
static size_t ns16550_input(void *arg, const u8 *buf, size_t n)
{
	struct ns16550 *u = arg;
	size_t took = 0;

	pthread_mutex_lock(&u->dev.lock);
	if (ns16550_listens(u) && ns16550_capacity(u) > u->r.rx_len)
		took = ns16550_put(u, buf, n);
	u->stalled = took < n;
	ns16550_update(u);
	pthread_mutex_unlock(&u->dev.lock);
	return took;
}

/* ---- registers ---- */

/*
 * The interrupt goes away and comes back, so that an edge-triggered input
 * sees a new one.
 */
static void ns16550_send(struct ns16550 *u, u8 val)
{
	u->r.thre_pending = 0;
	ns16550_update(u);
	if (!(u->r.mcr & MCR_LOOP))
		chr_write(u->chr, &val, 1);
	else if (ns16550_capacity(u) <= u->r.rx_len)
		u->r.overrun = 1;
	else
		ns16550_put(u, &val, 1);
	u->r.thre_pending = 1;
}

static void ns16550_set_ier(struct ns16550 *u, u8 val)
{
	if (val & ~u->r.ier & IER_THRE)
		u->r.thre_pending = 1;
	u->r.ier = val & 0x0f;
}

static void ns16550_set_fcr(struct ns16550 *u, u8 val)
{
	if ((val ^ u->r.fcr) & FCR_ENABLE || val & FCR_CLEAR_RX)
		ns16550_clear_rx(u);
	u->r.fcr = val & FCR_ENABLE ? val & 0xc9 : 0;
}

/* Modem inputs: all good, or what the outputs say when looped back. */
static void ns16550_set_mcr(struct ns16550 *u, u8 val)
{
	u8 was = u->r.msr & 0xf0, now = MSR_CTS | MSR_DSR | MSR_DCD;

	if (val & MCR_LOOP)
		now = (u8)((val & 2) << 3 | (val & 1) << 5 | (val & 4) << 4 |
			   (val & 8) << 4);
	u->r.msr |= (was ^ now) >> 4 & ~(MSR_RI >> 4);
	if (was & ~now & MSR_RI)
		u->r.msr |= MSR_RI >> 4;
	u->r.msr = (u->r.msr & MSR_DELTA) | now;
	u->r.mcr = val & 0x1f;
	u->r.known |= KNOWN_MCR;
	ns16550_resume(u);
}

static u8 ns16550_read_reg(struct ns16550 *u, u64 off)
{
	bool dlab = u->r.lcr & LCR_DLAB;
	u8 val;

	switch (off) {
	case 0: return dlab ? u->r.dll : ns16550_get(u);
	case 1: return dlab ? u->r.dlm : u->r.ier;
	case 2:
		val = ns16550_iir(u);
		if ((val & 0xf) == IIR_THRE)
			u->r.thre_pending = 0;
		return val;
	case 3: return u->r.lcr;
	case 4: return u->r.mcr;
	case 5:
		val = LSR_THRE | LSR_TEMT;
		val |= u->r.rx_len ? LSR_DR : 0;
		val |= u->r.overrun ? LSR_OE : 0;
		u->r.overrun = 0;
		if (!(u->r.known & KNOWN_POLLS)) {
			u->r.known |= KNOWN_POLLS;
			ns16550_resume(u);
		}
		return val;
	case 6:
		val = u->r.msr;
		u->r.msr &= ~MSR_DELTA;
		return val;
	default: return u->r.scr;
	}
}

static u64 ns16550_read(struct dev *d, u64 off, unsigned len)
{
	struct ns16550 *u = (struct ns16550 *)d;
	u8 val = ns16550_read_reg(u, off);

	(void)len;
	ns16550_update(u);
	return val;
}

static void ns16550_write_reg(struct ns16550 *u, u64 off, u8 val)
{
	bool dlab = u->r.lcr & LCR_DLAB;

	switch (off) {
	case 0:
		if (dlab)
			u->r.dll = val;
		else
			ns16550_send(u, val);
		break;
	case 1:
		if (dlab)
			u->r.dlm = val;
		else
			ns16550_set_ier(u, val);
		break;
	case 2: ns16550_set_fcr(u, val); break;
	case 3: u->r.lcr = val; break;
	case 4: ns16550_set_mcr(u, val); break;
	case 7: u->r.scr = val; break;
	default: break; /* LSR and MSR are read-only */
	}
}

static void ns16550_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct ns16550 *u = (struct ns16550 *)d;

	(void)len;
	ns16550_write_reg(u, off, (u8)val);
	ns16550_update(u);
}

/* ---- life ---- */

static void ns16550_reset(struct dev *d)
{
	struct ns16550 *u = (struct ns16550 *)d;

	u->r = (struct ns16550_regs){
		.msr = MSR_CTS | MSR_DSR | MSR_DCD, .dll = 12, /* 9600 baud */
	};
	ns16550_clear_rx(u);
	ns16550_update(u);
}

static void ns16550_loaded(struct dev *d)
{
	struct ns16550 *u = (struct ns16550 *)d;

	ns16550_update(u);
	u->stalled = false;
	chr_input_ready(u->chr);
}

static void ns16550_free(struct dev *d)
{
	chr_free(((struct ns16550 *)d)->chr);
}

static const struct state_field ns16550_fields[] = {
	STATE(struct ns16550_regs, ier, 1),
	STATE(struct ns16550_regs, fcr, 1),
	STATE(struct ns16550_regs, lcr, 1),
	STATE(struct ns16550_regs, mcr, 1),
	STATE(struct ns16550_regs, msr, 1),
	STATE(struct ns16550_regs, scr, 1),
	STATE(struct ns16550_regs, dll, 1),
	STATE(struct ns16550_regs, dlm, 1),
	STATE(struct ns16550_regs, overrun, 1),
	STATE(struct ns16550_regs, thre_pending, 1),
	STATE(struct ns16550_regs, rbr, 1),
	STATE(struct ns16550_regs, rx_len, 1),
	STATE_ARRAY(struct ns16550_regs, rx, 1),
	STATE(struct ns16550_regs, known, 1),
	STATE_ARRAY(struct ns16550_regs, pad, 1),
};

static int ns16550_check(const void *regs, struct err *e)
{
	const struct ns16550_regs *r = regs;
	unsigned room = r->fcr & FCR_ENABLE ? sizeof(r->rx) : 1;

	if (r->rx_len > room)
		return err_set(e, -EDOM, "ns16550: %u bytes in a FIFO of %u",
			       r->rx_len, room);
	if (r->ier & ~0x0f || r->mcr & ~0x1f || r->known > 3)
		return err_set(e, -EDOM, "ns16550: reserved bits are set");
	return 0;
}

static const struct state_desc ns16550_state = {
	.name = "ns16550",
	.version = 1,
	.size = sizeof(struct ns16550_regs),
	.fields = ns16550_fields,
	.nfields = ARRAY_LEN(ns16550_fields),
	.check = ns16550_check,
};

static const struct dev_class ns16550_class = {
	.name = "ns16550",
	.state = &ns16550_state,
	.width = 1,
	.read = ns16550_read,
	.write = ns16550_write,
	.reset = ns16550_reset,
	.loaded = ns16550_loaded,
	.free = ns16550_free,
};

struct ns16550 *ns16550_new(struct chr *chr, struct irq_line irq)
{
	struct ns16550 *u = calloc(1, sizeof(*u));

	if (!u) {
		chr_free(chr);
		return NULL;
	}
	dev_init(&u->dev, &ns16550_class, &u->r);
	u->chr = chr;
	u->irq = irq;
	ns16550_reset(&u->dev);
	chr_receive(chr, ns16550_input, u);
	return u;
}
