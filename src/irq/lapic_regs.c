/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC's registers as the guest sees them: the xAPIC page (SDM
 * volume 3, 11.4.1) and the x2APIC MSRs (11.12), from one table.
 */
#include "irq/lapic_priv.h"

#define MSR_APIC_BASE    0x1bu
#define MSR_TSC_DEADLINE 0x6e0u
#define MSR_X2APIC       0x800u

/* Version 0x14, six LVT entries, EOI broadcast can be suppressed. */
#define LAPIC_VERSION 0x01050014u

/* clang-format off */
#define R    APIC_R
#define W    APIC_W
#define RX   APIC_RX
#define WX   APIC_WX
#define ALL  (R | W | RX | WX)
#define NONE APIC_NONE
#define AT(m) offsetof(struct lapic_regs, m)

const struct apic_reg apic_regs[APIC_REGS] = {
	[APIC_ID]        = {R | RX,         AT(id),       0},
	[APIC_VERSION]   = {R | RX,         NONE,         0},
	[APIC_TPR]       = {ALL,            AT(tpr),      0xff},
	[APIC_APR]       = {R,              NONE,         0},
	[APIC_PPR]       = {R | RX,         NONE,         0},
	[APIC_EOI]       = {W | WX,         NONE,         0},
	[APIC_RRD]       = {R,              NONE,         0},
	[APIC_LDR]       = {R | W | RX,     AT(ldr),      0xff000000},
	[APIC_DFR]       = {R | W,          AT(dfr),      0xf0000000},
	[APIC_SVR]       = {ALL,            AT(svr),      0x13ff},
	[APIC_ISR + 0]   = {R | RX,         AT(isr[0]),   0},
	[APIC_ISR + 1]   = {R | RX,         AT(isr[1]),   0},
	[APIC_ISR + 2]   = {R | RX,         AT(isr[2]),   0},
	[APIC_ISR + 3]   = {R | RX,         AT(isr[3]),   0},
	[APIC_ISR + 4]   = {R | RX,         AT(isr[4]),   0},
	[APIC_ISR + 5]   = {R | RX,         AT(isr[5]),   0},
	[APIC_ISR + 6]   = {R | RX,         AT(isr[6]),   0},
	[APIC_ISR + 7]   = {R | RX,         AT(isr[7]),   0},
	[APIC_TMR + 0]   = {R | RX,         AT(tmr[0]),   0},
	[APIC_TMR + 1]   = {R | RX,         AT(tmr[1]),   0},
	[APIC_TMR + 2]   = {R | RX,         AT(tmr[2]),   0},
	[APIC_TMR + 3]   = {R | RX,         AT(tmr[3]),   0},
	[APIC_TMR + 4]   = {R | RX,         AT(tmr[4]),   0},
	[APIC_TMR + 5]   = {R | RX,         AT(tmr[5]),   0},
	[APIC_TMR + 6]   = {R | RX,         AT(tmr[6]),   0},
	[APIC_TMR + 7]   = {R | RX,         AT(tmr[7]),   0},
	[APIC_IRR + 0]   = {R | RX,         AT(irr[0]),   0},
	[APIC_IRR + 1]   = {R | RX,         AT(irr[1]),   0},
	[APIC_IRR + 2]   = {R | RX,         AT(irr[2]),   0},
	[APIC_IRR + 3]   = {R | RX,         AT(irr[3]),   0},
	[APIC_IRR + 4]   = {R | RX,         AT(irr[4]),   0},
	[APIC_IRR + 5]   = {R | RX,         AT(irr[5]),   0},
	[APIC_IRR + 6]   = {R | RX,         AT(irr[6]),   0},
	[APIC_IRR + 7]   = {R | RX,         AT(irr[7]),   0},
	[APIC_ESR]       = {ALL,            AT(esr),      0},
	[APIC_ICR_LO]    = {ALL,            AT(icr_lo),   0xccfff},
	[APIC_ICR_HI]    = {R | W,          AT(icr_hi),   0xff000000},
	[APIC_LVT + 0]   = {ALL,            AT(lvt[1]),   0x700ff},
	[APIC_LVT + 1]   = {ALL,            AT(lvt[2]),   0x107ff},
	[APIC_LVT + 2]   = {ALL,            AT(lvt[3]),   0x107ff},
	[APIC_LVT + 3]   = {ALL,            AT(lvt[4]),   0x1a7ff},
	[APIC_LVT + 4]   = {ALL,            AT(lvt[5]),   0x1a7ff},
	[APIC_LVT + 5]   = {ALL,            AT(lvt[6]),   0x100ff},
	[APIC_TIMER_ICR] = {ALL,            AT(timer_icr), ~0u},
	[APIC_TIMER_CCR] = {R | RX,         NONE,         0},
	[APIC_TIMER_DCR] = {ALL,            AT(timer_dcr), 0xb},
	[APIC_SELF_IPI]  = {WX,             NONE,         0xff},
};
/* clang-format on */

/* Read by other threads (destinations, priorities), hence atomic. */
static void apic_reg_set(u32 *at, u32 val)
{
	__atomic_store_n(at, val, __ATOMIC_RELAXED);
}

u32 lapic_reg_read(struct lapic *l, unsigned n)
{
	const struct apic_reg *a = &apic_regs[n];

	switch (n) {
	case APIC_VERSION: return LAPIC_VERSION;
	case APIC_PPR: return lapic_ppr(l);
	case APIC_TIMER_CCR: return lapic_timer_count(l);
	default: break;
	}
	if (a->at == NONE)
		return 0;
	return __atomic_load_n(apic_reg_at(&l->r, a), __ATOMIC_RELAXED);
}

/* ---- writes that do something ---- */

/* Switched off by software, every LVT entry is masked and stays so. */
static void lapic_write_svr(struct lapic *l, u32 val)
{
	apic_reg_set(&l->r.svr, val);
	for (unsigned i = 1; !(val & SVR_ENABLE) && i < LVTS; i++)
		apic_reg_set(&l->r.lvt[i], l->r.lvt[i] | LVT_MASKED);
}

static void lapic_write_lvt(struct lapic *l, unsigned i, u32 val)
{
	u32 was = l->r.lvt[i];

	if (!lapic_sw_enabled(l))
		val |= LVT_MASKED;
	apic_reg_set(&l->r.lvt[i], val);
	if (i == LVT_TIMER)
		lapic_timer_lvt_changed(l, was);
	else if (i == LVT_LINT0)
		lapic_recheck(l);
}

static void lapic_send(struct lapic *l)
{
	u32 icr = l->r.icr_lo, shorthand = icr >> 18 & 3;
	struct apic_msg m = {
		.dest = lapic_x2apic(l) ? l->r.icr_hi : l->r.icr_hi >> 24,
		.x2apic = lapic_x2apic(l),
		.logical = icr & BIT(11),
		.mode = icr >> 8 & 7,
		.vector = icr & 0xff,
	};

	if (m.mode <= APIC_DM_LOWEST && m.vector < 16)
		lapic_error(l, ESR_SEND_VECTOR);
	/* an INIT's de-assertion is of the past and does nothing */
	if (m.mode == APIC_DM_INIT && !(icr & BIT(14)))
		return;
	if (m.mode == APIC_DM_EXTINT)
		return; /* reserved in an ICR */
	if (shorthand == 1) {
		lapic_deliver(l, &m);
		return;
	}
	if (shorthand) {
		m.dest = ~0u;
		m.x2apic = true;
		m.logical = false;
	}
	apic_bus_send(l->bus, &m, shorthand == 3 ? l : NULL);
}

static void lapic_reg_write(struct lapic *l, unsigned n, u32 val)
{
	const struct apic_reg *a = &apic_regs[n];

	val &= a->bits;
	switch (n) {
	case APIC_EOI: lapic_eoi(l); return;
	case APIC_SVR: lapic_write_svr(l, val); return;
	case APIC_ESR:
		l->r.esr = __atomic_exchange_n(&l->r.esr_pending, 0,
					       __ATOMIC_SEQ_CST);
		return;
	case APIC_TIMER_DCR: lapic_timer_divide(l, val); return;
	case APIC_SELF_IPI: lapic_request(l, (u8)val, false); return;
	case APIC_DFR: val |= 0x0fffffff; break;
	case APIC_ICR_LO: val &= ~BIT(12); break; /* idle, always */
	default: break;
	}
	if (n >= APIC_LVT && n < APIC_LVT + 6) {
		lapic_write_lvt(l, n - APIC_LVT + 1, val);
		return;
	}
	apic_reg_set(apic_reg_at(&l->r, a), val);
	if (n == APIC_TPR)
		lapic_recheck(l);
	else if (n == APIC_ICR_LO)
		lapic_send(l);
	else if (n == APIC_TIMER_ICR)
		lapic_timer_load(l);
}

/* ---- the page ---- */

static bool lapic_in_page(const struct lapic *l)
{
	return lapic_hw_enabled(l) && !lapic_x2apic(l);
}

u32 lapic_read(struct lapic *l, u32 offset)
{
	unsigned n = offset >> 4;

	if (!lapic_in_page(l))
		return ~0u;
	if (offset & 0xf)
		return 0;
	if (n >= APIC_REGS || !(apic_regs[n].access & R)) {
		lapic_error(l, ESR_REGISTER);
		return 0;
	}
	lapic_timer_sync(l);
	return lapic_reg_read(l, n);
}

void lapic_write(struct lapic *l, u32 offset, u32 val)
{
	unsigned n = offset >> 4;

	if (!lapic_in_page(l) || offset & 0xf)
		return;
	if (n < APIC_REGS && apic_regs[n].access & W)
		lapic_reg_write(l, n, val);
	else if (n >= APIC_REGS || !(apic_regs[n].access & R))
		lapic_error(l, ESR_REGISTER);
}

/* ---- MSRs ---- */

static bool lapic_x2apic_read(struct lapic *l, unsigned n, u64 *val)
{
	if (!lapic_x2apic(l) || n >= APIC_REGS || !(apic_regs[n].access & RX))
		return false;
	lapic_timer_sync(l);
	*val = lapic_reg_read(l, n);
	if (n == APIC_ICR_LO)
		*val |= (u64)l->r.icr_hi << 32;
	return true;
}

/* Bits that are read-only in the page may be written back as they are. */
static u32 lapic_x2apic_bits(unsigned n)
{
	u32 bits = apic_regs[n].bits;

	if (n == APIC_LVT + 3 || n == APIC_LVT + 4)
		bits |= BIT(14);
	if (n >= APIC_LVT && n < APIC_LVT + 6)
		bits |= BIT(12);
	return bits;
}

static bool lapic_x2apic_write(struct lapic *l, unsigned n, u64 val)
{
	u64 bits;

	if (!lapic_x2apic(l) || n >= APIC_REGS || !(apic_regs[n].access & WX))
		return false;
	bits = lapic_x2apic_bits(n);
	if (n == APIC_ICR_LO)
		bits |= ~0ull << 32;
	if (val & ~bits)
		return false;
	if (n == APIC_ICR_LO)
		l->r.icr_hi = (u32)(val >> 32);
	lapic_reg_write(l, n, (u32)val);
	return true;
}

static bool lapic_write_base(struct lapic *l, u64 val)
{
	u64 was = l->r.apic_base;
	u64 mode = val & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
	u64 mode_was = was & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);

	if (val & APIC_BASE_RESERVED || mode == APIC_BASE_X2APIC)
		return false;
	/* x2APIC is entered from xAPIC only, and left to off only */
	if (mode == (APIC_BASE_ENABLE | APIC_BASE_X2APIC) && !mode_was)
		return false;
	if (mode == APIC_BASE_ENABLE && mode_was & APIC_BASE_X2APIC)
		return false;
	__atomic_store_n(&l->r.apic_base, val, __ATOMIC_SEQ_CST);
	if (mode == mode_was)
		return true;
	if (!mode)
		lapic_reset_regs(l);
	if (mode & APIC_BASE_X2APIC)
		l->r.icr_hi = 0;
	lapic_name(l);
	lapic_recheck(l);
	return true;
}

static u64 lapic_read_deadline(struct lapic *l)
{
	lapic_timer_sync(l);
	return l->r.tsc_deadline;
}

static void lapic_write_deadline(struct lapic *l, u64 val)
{
	if ((l->r.lvt[LVT_TIMER] & LVT_TIMER_MODE) != LVT_TSC_DEADLINE)
		return;
	l->r.tsc_deadline = val;
	lapic_timer_rearm(l);
}

bool lapic_msr_read(struct lapic *l, u32 msr, u64 *val)
{
	switch (msr) {
	case MSR_APIC_BASE: *val = l->r.apic_base; return true;
	case MSR_TSC_DEADLINE: *val = lapic_read_deadline(l); return true;
	default: return lapic_x2apic_read(l, msr - MSR_X2APIC, val);
	}
}

bool lapic_msr_write(struct lapic *l, u32 msr, u64 val)
{
	switch (msr) {
	case MSR_APIC_BASE: return lapic_write_base(l, val);
	case MSR_TSC_DEADLINE: lapic_write_deadline(l, val); return true;
	default: return lapic_x2apic_write(l, msr - MSR_X2APIC, val);
	}
}
