/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC as a whole: making, resetting, saving, and the conversion
 * from and to KVM's. What it does lives in lapic_regs.c (registers),
 * lapic_irq.c (interrupts), lapic_timer.c and apic_bus.c.
 */
#include "irq/lapic.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "irq/lapic_priv.h"

/* The identification registers in the form of the mode. */
void lapic_name(struct lapic *l)
{
	if (!lapic_x2apic(l)) {
		l->r.id = l->id << 24;
		return;
	}
	l->r.id = l->id;
	__atomic_store_n(&l->r.ldr, l->id >> 4 << 16 | BIT(l->id & 15),
			 __ATOMIC_RELAXED);
}

void lapic_reset_regs(struct lapic *l)
{
	struct lapic_regs r = {
		.apic_base = l->r.apic_base,
		.dfr = ~0u,
		.svr = 0xff,
	};

	for (unsigned i = 0; i < LVTS; i++)
		r.lvt[i] = LVT_MASKED;
	/* as firmware leaves it: the 8259 reaches the boot processor */
	if (r.apic_base & APIC_BASE_BSP)
		r.lvt[LVT_LINT0] = APIC_DM_EXTINT << 8;
	l->r = r;
	lapic_name(l);
	lapic_timer_rearm(l);
}

/* ---- life ---- */

struct lapic *lapic_new(struct apic_bus *b, u32 apic_id,
			const struct lapic_host *h)
{
	struct lapic *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	l->bus = b;
	l->id = apic_id;
	l->host = *h;
	lapic_reset(l, false);
	if (apic_bus_add(b, l)) {
		free(l);
		return NULL;
	}
	return l;
}

void lapic_free(struct lapic *l)
{
	if (!l)
		return;
	apic_bus_remove(l->bus, l);
	free(l);
}

/* INIT leaves IA32_APIC_BASE and with it the mode as they are. */
void lapic_reset(struct lapic *l, bool init)
{
	if (!init) {
		l->r.apic_base = LAPIC_BASE | APIC_BASE_ENABLE;
		if (l->id == 0)
			l->r.apic_base |= APIC_BASE_BSP;
		__atomic_store_n(&l->work, 0, __ATOMIC_SEQ_CST);
	}
	lapic_reset_regs(l);
	if (apic_bus_intr(l->bus))
		lapic_work(l, WORK_IRQ);
}

/* ---- the whole of it, for snapshots and the other engine ---- */

void lapic_get_regs(struct lapic *l, struct lapic_regs *r)
{
	u64 now;

	lapic_timer_sync(l);
	now = lapic_timer_settle(l);
	*r = l->r;
	r->timer_ns = now - r->timer_ns;
}

void lapic_set_regs(struct lapic *l, const struct lapic_regs *r)
{
	l->r = *r;
	l->r.timer_ns = clock_ns() - r->timer_ns;
	lapic_name(l);
	lapic_timer_rearm(l);
	lapic_recheck(l);
}

/* Registers that are kept, plus those KVM wants beside them. */
void lapic_regs_to_page(const struct lapic_regs *r, u8 page[1024])
{
	struct lapic l = {.r = *r};
	u32 val;

	l.r.timer_ns = clock_ns() - r->timer_ns;
	memset(page, 0, 1024);
	for (unsigned n = 0; n < APIC_REGS; n++) {
		if (!(apic_regs[n].access & (APIC_R | APIC_RX)))
			continue;
		val = lapic_reg_read(&l, n);
		memcpy(page + n * 16, &val, 4);
	}
	memcpy(page + APIC_CMCI * 16, &r->lvt[LVT_CMCI], 4);
}

void lapic_regs_from_page(struct lapic_regs *r, const u8 page[1024])
{
	u32 count;

	for (unsigned n = 0; n < APIC_REGS; n++)
		if (apic_regs[n].at != APIC_NONE && apic_regs[n].access)
			memcpy(apic_reg_at(r, &apic_regs[n]), page + n * 16, 4);
	memcpy(&r->lvt[LVT_CMCI], page + APIC_CMCI * 16, 4);
	memcpy(&count, page + APIC_TIMER_CCR * 16, 4);
	r->esr_pending = 0;
	r->timer_ns = (u64)(r->timer_icr - MIN(count, r->timer_icr))
		      << lapic_timer_shift(r->timer_dcr);
}

/* ---- state ---- */

static const struct state_field lapic_fields[] = {
	STATE(struct lapic_regs, apic_base, 1),
	STATE(struct lapic_regs, tsc_deadline, 1),
	STATE(struct lapic_regs, timer_ns, 1),
	STATE(struct lapic_regs, id, 1),
	STATE(struct lapic_regs, ldr, 1),
	STATE(struct lapic_regs, dfr, 1),
	STATE(struct lapic_regs, tpr, 1),
	STATE(struct lapic_regs, svr, 1),
	STATE(struct lapic_regs, esr, 1),
	STATE(struct lapic_regs, icr_lo, 1),
	STATE(struct lapic_regs, icr_hi, 1),
	STATE_ARRAY(struct lapic_regs, lvt, 1),
	STATE(struct lapic_regs, timer_icr, 1),
	STATE(struct lapic_regs, timer_dcr, 1),
	STATE(struct lapic_regs, esr_pending, 1),
	STATE_ARRAY(struct lapic_regs, isr, 1),
	STATE_ARRAY(struct lapic_regs, tmr, 1),
	STATE_ARRAY(struct lapic_regs, irr, 1),
};

static int lapic_check(const void *regs, struct err *e)
{
	const struct lapic_regs *r = regs;
	u64 mode = r->apic_base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);

	if (r->apic_base & APIC_BASE_RESERVED || mode == APIC_BASE_X2APIC)
		return err_set(e, -EDOM, "lapic: IA32_APIC_BASE is %#lx",
			       r->apic_base);
	for (unsigned n = 0; n < APIC_LVT + 6; n++) {
		const struct apic_reg *a = &apic_regs[n];
		u32 val, bits = a->bits;

		if (n != APIC_TPR && n != APIC_SVR && n < APIC_LVT)
			continue;
		if (n >= APIC_LVT)
			bits |= BIT(12) | BIT(14);
		memcpy(&val, (const u8 *)regs + a->at, 4);
		if (val & ~bits)
			return err_set(e, -EDOM, "lapic: register %#x is %#x",
				       n * 16, val);
	}
	if (r->timer_dcr & ~apic_regs[APIC_TIMER_DCR].bits)
		return err_set(e, -EDOM, "lapic: divider is %#x", r->timer_dcr);
	return 0;
}

const struct state_desc lapic_state = {
	.name = "lapic",
	.version = 1,
	.size = sizeof(struct lapic_regs),
	.fields = lapic_fields,
	.nfields = ARRAY_LEN(lapic_fields),
	.check = lapic_check,
};
