/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupt acceptance and delivery in the local APIC (SDM volume 3, 11.8).
 *
 * Whoever sends sets bits in IRR and then WORK_IRQ in the work word; the owner
 * clears WORK_IRQ and then scans IRR. Both are sequentially consistent, so one
 * of the two sees the other: nothing is lost. WORK_IRQ stays set while there
 * is something deliverable, so lapic_pending() is one load.
 */
#include "irq/lapic_priv.h"

bool lapic_pending(const struct lapic *l)
{
	return __atomic_load_n(&l->work, __ATOMIC_ACQUIRE);
}

const u32 *lapic_pending_word(const struct lapic *l)
{
	return &l->work;
}

void lapic_work(struct lapic *l, u32 bits)
{
	__atomic_or_fetch(&l->work, bits, __ATOMIC_SEQ_CST);
	l->host.kick(l->host.arg);
}

/* ---- requests, from any thread ---- */

void lapic_request(struct lapic *l, u8 vector, bool level)
{
	u32 bit = BIT(vector % 32);

	if (vector < 16) {
		lapic_error(l, ESR_RECEIVE_VECTOR);
		return;
	}
	if (!lapic_hw_enabled(l) || !lapic_sw_enabled(l))
		return;
	if (level)
		__atomic_or_fetch(&l->r.tmr[vector / 32], bit,
				  __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(&l->r.tmr[vector / 32], ~bit,
				   __ATOMIC_SEQ_CST);
	__atomic_or_fetch(&l->r.irr[vector / 32], bit, __ATOMIC_SEQ_CST);
	lapic_work(l, WORK_IRQ);
}

/* An error that is already noted interrupts no second time. */
void lapic_error(struct lapic *l, u32 esr)
{
	u32 lvt = lapic_lvt(l, LVT_ERROR);
	u32 was = __atomic_fetch_or(&l->r.esr_pending, esr, __ATOMIC_SEQ_CST);

	if (was & esr || lvt & LVT_MASKED || (lvt & LVT_VECTOR) < 16)
		return;
	lapic_request(l, lvt & LVT_VECTOR, false);
}

/* INIT makes a SIPI that was under way pointless. */
void lapic_post_event(struct lapic *l, u32 event)
{
	if (event & LAPIC_EVENT_INIT)
		__atomic_and_fetch(&l->work, ~(u32)LAPIC_EVENT_SIPI,
				   __ATOMIC_SEQ_CST);
	lapic_work(l, event & WORK_EVENTS);
}

void lapic_deliver(struct lapic *l, const struct apic_msg *m)
{
	switch (m->mode) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST: lapic_request(l, m->vector, m->level); break;
	case APIC_DM_SMI: lapic_post_event(l, LAPIC_EVENT_SMI); break;
	case APIC_DM_NMI: lapic_post_event(l, LAPIC_EVENT_NMI); break;
	case APIC_DM_INIT: lapic_post_event(l, LAPIC_EVENT_INIT); break;
	case APIC_DM_STARTUP:
		__atomic_store_n(&l->sipi_vector, m->vector, __ATOMIC_SEQ_CST);
		lapic_post_event(l, LAPIC_EVENT_SIPI);
		break;
	case APIC_DM_EXTINT: lapic_work(l, WORK_EXTINT); break;
	default: break; /* reserved */
	}
}

/*
 * INTR and NMI are wired past a local APIC that is switched off: to the boot
 * processor, as a PC's chipset has it.
 */
static bool lapic_lint_direct(const struct lapic *l)
{
	return !lapic_hw_enabled(l) && (lapic_base(l) & APIC_BASE_BSP);
}

void lapic_lint(struct lapic *l, unsigned n, bool rising)
{
	u32 lvt = lapic_lvt(l, n);

	if (!lapic_hw_enabled(l)) {
		if (lapic_lint_direct(l) && n == LVT_LINT0)
			lapic_work(l, WORK_IRQ);
		else if (lapic_lint_direct(l) && rising)
			lapic_post_event(l, LAPIC_EVENT_NMI);
		return;
	}
	if (lvt & LVT_MASKED)
		return;
	if (LVT_MODE(lvt) == APIC_DM_EXTINT)
		lapic_work(l, WORK_IRQ);
	else if (LVT_MODE(lvt) == APIC_DM_NMI && rising)
		lapic_post_event(l, LAPIC_EVENT_NMI);
	else if (LVT_MODE(lvt) == APIC_DM_FIXED && rising)
		lapic_request(l, lvt & LVT_VECTOR, false);
}

/* ---- the owner's side ---- */

u32 lapic_take_events(struct lapic *l)
{
	if (!(__atomic_load_n(&l->work, __ATOMIC_ACQUIRE) & WORK_EVENTS))
		return 0;
	return __atomic_fetch_and(&l->work, ~(u32)WORK_EVENTS,
				  __ATOMIC_SEQ_CST) &
	       WORK_EVENTS;
}

u8 lapic_sipi_vector(const struct lapic *l)
{
	return (u8)__atomic_load_n(&l->sipi_vector, __ATOMIC_SEQ_CST);
}

static int lapic_top(const u32 *words)
{
	for (int i = 7; i >= 0; i--) {
		u32 w = __atomic_load_n(&words[i], __ATOMIC_SEQ_CST);

		if (w)
			return i * 32 + 31 - __builtin_clz(w);
	}
	return -1;
}

u32 lapic_ppr(const struct lapic *l)
{
	int isr = lapic_top(l->r.isr);
	u32 service = isr < 0 ? 0 : (u32)isr & 0xf0;

	return l->r.tpr >> 4 >= service >> 4 ? l->r.tpr : service;
}

/* PPR may have fallen, or a pin been unmasked: is there something for it? */
void lapic_recheck(struct lapic *l)
{
	if (lapic_top(l->r.irr) >= 0 || apic_bus_intr(l->bus))
		lapic_work(l, WORK_IRQ);
}

static bool lapic_extint(struct lapic *l)
{
	u32 lvt = l->r.lvt[LVT_LINT0];

	if (!apic_bus_intr(l->bus)) {
		if (__atomic_load_n(&l->work, __ATOMIC_RELAXED) & WORK_EXTINT)
			__atomic_and_fetch(&l->work, ~(u32)WORK_EXTINT,
					   __ATOMIC_SEQ_CST);
		return false;
	}
	if (!lapic_hw_enabled(l))
		return lapic_lint_direct(l);
	if (__atomic_load_n(&l->work, __ATOMIC_SEQ_CST) & WORK_EXTINT)
		return true;
	return !(lvt & LVT_MASKED) && LVT_MODE(lvt) == APIC_DM_EXTINT;
}

static int lapic_deliverable(struct lapic *l)
{
	int vector;

	if (lapic_extint(l))
		return LAPIC_EXTINT;
	vector = lapic_top(l->r.irr);
	if (vector < 0 || (u32)vector >> 4 <= lapic_ppr(l) >> 4)
		return -1;
	return vector;
}

int lapic_highest(struct lapic *l)
{
	int vector;

	lapic_timer_sync(l);
	if (!(__atomic_load_n(&l->work, __ATOMIC_ACQUIRE) &
	      (WORK_IRQ | WORK_EXTINT)))
		return -1;
	__atomic_and_fetch(&l->work, ~(u32)WORK_IRQ, __ATOMIC_SEQ_CST);
	vector = lapic_deliverable(l);
	if (vector >= 0)
		__atomic_or_fetch(&l->work, WORK_IRQ, __ATOMIC_SEQ_CST);
	return vector;
}

void lapic_accept(struct lapic *l, u8 vector)
{
	u32 bit = BIT(vector % 32);

	__atomic_and_fetch(&l->r.irr[vector / 32], ~bit, __ATOMIC_SEQ_CST);
	l->r.isr[vector / 32] |= bit;
}

void lapic_eoi(struct lapic *l)
{
	int vector = lapic_top(l->r.isr);
	u32 bit = BIT(vector % 32u), tmr;

	if (vector < 0)
		return;
	l->r.isr[vector / 32] &= ~bit;
	tmr = __atomic_load_n(&l->r.tmr[vector / 32], __ATOMIC_SEQ_CST);
	if (tmr & bit && !(l->r.svr & SVR_NO_BROADCAST))
		apic_bus_eoi(l->bus, (u8)vector);
	lapic_recheck(l);
}

u8 lapic_get_cr8(const struct lapic *l)
{
	return (l->r.tpr >> 4) & 0xf;
}

void lapic_set_cr8(struct lapic *l, u8 cr8)
{
	__atomic_store_n(&l->r.tpr, (cr8 & 0xfu) << 4, __ATOMIC_RELAXED);
	lapic_recheck(l);
}
