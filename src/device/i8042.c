/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * 8042 keyboard controller of a PC/AT with PS/2 commands, a keyboard that
 * answers but has no keys pressed, and no mouse. A20 is a bit that can be
 * read back; memory always has its line 20.
 *
 * Offsets: 0 data (0x60), 1 command and status (0x64).
 */
#include "device/i8042.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	STATUS_OBF = BIT(0),
	STATUS_SYS = BIT(2),
	STATUS_CMD = BIT(3),
	STATUS_UNLOCKED = BIT(4),
	STATUS_TIMEOUT = BIT(6),
};
enum {
	CFG_KBD_INT = BIT(0),
	CFG_SYS = BIT(2),
	CFG_KBD_OFF = BIT(4),
	CFG_AUX_OFF = BIT(5),
	CFG_TRANSLATE = BIT(6),
};
enum { OUT_NOT_RESET = BIT(0), OUT_A20 = BIT(1) };

/* Commands to the controller */
enum {
	CTL_READ_CFG = 0x20,
	CTL_WRITE_CFG = 0x60,
	CTL_AUX_OFF = 0xa7,
	CTL_AUX_ON = 0xa8,
	CTL_AUX_TEST = 0xa9,
	CTL_SELF_TEST = 0xaa,
	CTL_KBD_TEST = 0xab,
	CTL_KBD_OFF = 0xad,
	CTL_KBD_ON = 0xae,
	CTL_READ_IN = 0xc0,
	CTL_READ_OUT = 0xd0,
	CTL_WRITE_OUT = 0xd1,
	CTL_KBD_LOOP = 0xd2,
	CTL_AUX_LOOP = 0xd3,
	CTL_WRITE_AUX = 0xd4,
	CTL_PULSE = 0xf0,
};
/* Commands to the keyboard, and its answers */
enum {
	KBD_LEDS = 0xed,
	KBD_ECHO = 0xee,
	KBD_SCAN_SET = 0xf0,
	KBD_IDENTIFY = 0xf2,
	KBD_RATE = 0xf3,
	KBD_ENABLE = 0xf4,
	KBD_DISABLE = 0xf5,
	KBD_DEFAULTS = 0xf6,
	KBD_RESET = 0xff,
	KBD_PASSED = 0xaa,
	KBD_ACK = 0xfa,
	KBD_RESEND = 0xfe,
};

#define AUX_STUCK 0x01 /* answer to the test of a port with no mouse */

struct i8042_regs {
	u8 cfg, outport;
	u8 flags;             /* STATUS_CMD, STATUS_TIMEOUT */
	u8 out, out_full;     /* the output buffer */
	u8 reply, reply_full; /* the controller's next byte for it */
	u8 expect;            /* command whose parameter is next, or 0 */
	u8 kbd_expect;        /* the same of the keyboard */
	u8 scan_set;
	u8 kbd_len;
	u8 kbd[16]; /* the keyboard's next bytes */
	u8 pad[5];  /* zero */
};

struct i8042 {
	struct dev dev;
	struct i8042_regs r; /* dev.lock */
	struct i8042_config c;
};

/* Fills the output buffer if it is empty. */
static void i8042_update(struct i8042 *k)
{
	if (!k->r.out_full && k->r.reply_full) {
		k->r.out = k->r.reply;
		k->r.out_full = 1;
		k->r.reply_full = 0;
	} else if (!k->r.out_full && k->r.kbd_len &&
		   !(k->r.cfg & CFG_KBD_OFF)) {
		k->r.out = k->r.kbd[0];
		k->r.out_full = 1;
		k->r.kbd_len--;
		memmove(k->r.kbd, k->r.kbd + 1, sizeof(k->r.kbd) - 1);
		k->r.kbd[sizeof(k->r.kbd) - 1] = 0;
	}
	irq_set(&k->c.irq1, k->r.out_full && k->r.cfg & CFG_KBD_INT);
}

/* The controller's own answer replaces what is in the buffer. */
static void i8042_reply(struct i8042 *k, u8 val)
{
	k->r.out_full = 0;
	k->r.reply = val;
	k->r.reply_full = 1;
	k->r.flags &= ~STATUS_TIMEOUT;
}

static void i8042_do_reset(struct i8042 *k)
{
	if (k->c.reset)
		k->c.reset(k->c.arg);
}

/* ---- the keyboard ---- */

static void i8042_kbd_say(struct i8042 *k, u8 val)
{
	if (k->r.kbd_len < sizeof(k->r.kbd))
		k->r.kbd[k->r.kbd_len++] = val;
}

static void i8042_kbd_parameter(struct i8042 *k, u8 val)
{
	bool ask = k->r.kbd_expect == KBD_SCAN_SET && val == 0;

	if (k->r.kbd_expect == KBD_SCAN_SET && val >= 1 && val <= 3)
		k->r.scan_set = val;
	k->r.kbd_expect = 0;
	i8042_kbd_say(k, KBD_ACK);
	if (ask)
		i8042_kbd_say(k, k->r.scan_set);
}

static void i8042_kbd_command(struct i8042 *k, u8 val)
{
	switch (val) {
	case KBD_ECHO: i8042_kbd_say(k, KBD_ECHO); return;
	case KBD_LEDS:
	case KBD_SCAN_SET:
	case KBD_RATE:
		k->r.kbd_expect = val;
		i8042_kbd_say(k, KBD_ACK);
		return;
	case KBD_IDENTIFY:
		i8042_kbd_say(k, KBD_ACK);
		i8042_kbd_say(k, 0xab);
		i8042_kbd_say(k, k->r.cfg & CFG_TRANSLATE ? 0x41 : 0x83);
		return;
	case KBD_RESET:
		k->r.kbd_len = 0;
		k->r.scan_set = 2;
		i8042_kbd_say(k, KBD_ACK);
		i8042_kbd_say(k, KBD_PASSED);
		return;
	case KBD_DEFAULTS:
	case KBD_DISABLE:
	case KBD_ENABLE:
		if (val != KBD_ENABLE)
			k->r.scan_set = 2;
		i8042_kbd_say(k, KBD_ACK);
		return;
	default: i8042_kbd_say(k, KBD_RESEND); return;
	}
}

/* With nothing attached, the controller says at once that it timed out: a
 * prober need not wait. */
static void i8042_to_kbd(struct i8042 *k, u8 val)
{
	k->r.cfg &= ~CFG_KBD_OFF;
	if (!k->c.keyboard) {
		i8042_reply(k, KBD_RESEND);
		k->r.flags |= STATUS_TIMEOUT;
	} else if (k->r.kbd_expect && val < 0x80) {
		i8042_kbd_parameter(k, val);
	} else {
		k->r.kbd_expect = 0;
		i8042_kbd_command(k, val);
	}
}

/* ---- the controller ---- */

static void i8042_write_outport(struct i8042 *k, u8 val)
{
	k->r.outport = val | OUT_NOT_RESET;
	if (!(val & OUT_NOT_RESET))
		i8042_do_reset(k);
}

static void i8042_parameter(struct i8042 *k, u8 command, u8 val)
{
	switch (command) {
	case CTL_WRITE_CFG: k->r.cfg = val & 0x7f; break;
	case CTL_WRITE_OUT: i8042_write_outport(k, val); break;
	case CTL_KBD_LOOP:
	/* not marked as from a mouse: by that, systems see there is none */
	case CTL_AUX_LOOP: i8042_reply(k, val); break;
	case CTL_WRITE_AUX:
		i8042_reply(k, KBD_RESEND);
		k->r.flags |= STATUS_TIMEOUT;
		break;
	default: break;
	}
}

static void i8042_command(struct i8042 *k, u8 val)
{
	k->r.expect = 0;
	switch (val) {
	case CTL_READ_CFG: i8042_reply(k, k->r.cfg); break;
	case CTL_AUX_OFF: k->r.cfg |= CFG_AUX_OFF; break;
	case CTL_AUX_ON: k->r.cfg &= ~CFG_AUX_OFF; break;
	case CTL_AUX_TEST: i8042_reply(k, AUX_STUCK); break;
	case CTL_SELF_TEST:
		k->r.cfg |= CFG_SYS;
		i8042_reply(k, 0x55);
		break;
	case CTL_KBD_TEST: i8042_reply(k, 0); break;
	case CTL_KBD_OFF: k->r.cfg |= CFG_KBD_OFF; break;
	case CTL_KBD_ON: k->r.cfg &= ~CFG_KBD_OFF; break;
	case CTL_READ_IN: i8042_reply(k, 0x80); break;
	case CTL_READ_OUT:
		i8042_reply(k, k->r.outport | (k->r.out_full ? BIT(4) : 0));
		break;
	case CTL_WRITE_CFG:
	case CTL_WRITE_OUT:
	case CTL_KBD_LOOP:
	case CTL_AUX_LOOP:
	case CTL_WRITE_AUX: k->r.expect = val; break;
	default:
		if (val >= CTL_PULSE && !(val & OUT_NOT_RESET))
			i8042_do_reset(k);
		break;
	}
}

static u64 i8042_read(struct dev *d, u64 off, unsigned len)
{
	struct i8042 *k = (struct i8042 *)d;
	u8 val;

	(void)len;
	if (off == 1)
		return (k->r.out_full ? STATUS_OBF : 0) | STATUS_UNLOCKED |
		       (k->r.cfg & CFG_SYS ? STATUS_SYS : 0) | k->r.flags;
	val = k->r.out;
	k->r.out_full = 0;
	k->r.flags &= ~STATUS_TIMEOUT;
	irq_set(&k->c.irq1, false); /* the next byte is a new edge */
	i8042_update(k);
	return val;
}

static void i8042_write_data(struct i8042 *k, u8 val)
{
	u8 command = k->r.expect;

	k->r.flags &= ~STATUS_CMD;
	k->r.expect = 0;
	if (command)
		i8042_parameter(k, command, val);
	else
		i8042_to_kbd(k, val);
}

static void i8042_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct i8042 *k = (struct i8042 *)d;

	(void)len;
	if (off == 0) {
		i8042_write_data(k, (u8)val);
	} else {
		k->r.flags |= STATUS_CMD;
		i8042_command(k, (u8)val);
	}
	i8042_update(k);
}

/* ---- life ---- */

/* As a PC's firmware leaves it: tested, translating, keyboard on. */
static void i8042_reset(struct dev *d)
{
	struct i8042 *k = (struct i8042 *)d;

	k->r = (struct i8042_regs){
		.cfg = CFG_TRANSLATE | CFG_SYS | CFG_AUX_OFF,
		.outport = OUT_NOT_RESET | OUT_A20 | 0xcc,
		.scan_set = 2,
	};
	i8042_update(k);
}

static void i8042_loaded(struct dev *d)
{
	i8042_update((struct i8042 *)d);
}

static const struct state_field i8042_fields[] = {
	STATE(struct i8042_regs, cfg, 1),
	STATE(struct i8042_regs, outport, 1),
	STATE(struct i8042_regs, flags, 1),
	STATE(struct i8042_regs, out, 1),
	STATE(struct i8042_regs, out_full, 1),
	STATE(struct i8042_regs, reply, 1),
	STATE(struct i8042_regs, reply_full, 1),
	STATE(struct i8042_regs, expect, 1),
	STATE(struct i8042_regs, kbd_expect, 1),
	STATE(struct i8042_regs, scan_set, 1),
	STATE(struct i8042_regs, kbd_len, 1),
	STATE_ARRAY(struct i8042_regs, kbd, 1),
	STATE_ARRAY(struct i8042_regs, pad, 1),
};

static int i8042_check(const void *regs, struct err *e)
{
	const struct i8042_regs *r = regs;

	if (r->kbd_len > sizeof(r->kbd) || r->out_full > 1 ||
	    r->reply_full > 1 || r->flags & ~(STATUS_CMD | STATUS_TIMEOUT) ||
	    !r->scan_set || r->scan_set > 3 || !(r->outport & OUT_NOT_RESET))
		return err_set(e, -EDOM, "i8042: impossible registers");
	return 0;
}

static const struct state_desc i8042_state = {
	.name = "i8042",
	.version = 1,
	.size = sizeof(struct i8042_regs),
	.fields = i8042_fields,
	.nfields = ARRAY_LEN(i8042_fields),
	.check = i8042_check,
};

static const struct dev_class i8042_class = {
	.name = "i8042",
	.state = &i8042_state,
	.width = 1,
	.read = i8042_read,
	.write = i8042_write,
	.reset = i8042_reset,
	.loaded = i8042_loaded,
};

struct i8042 *i8042_new(const struct i8042_config *c)
{
	struct i8042 *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	dev_init(&k->dev, &i8042_class, &k->r);
	k->c = *c;
	i8042_reset(&k->dev);
	return k;
}

int i8042_map(struct i8042 *k, struct io_space *ports, struct err *e)
{
	static const struct dev_window windows[] = {
		{0x60, 1, 0, "8042 data"},
		{0x64, 1, 1, "8042 command"},
	};

	return dev_map(&k->dev, ports, 0, windows, ARRAY_LEN(windows), e);
}
