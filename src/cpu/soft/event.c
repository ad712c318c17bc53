/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events from outside at an instruction boundary: INIT, SIPI, NMI and
 * maskable interrupts (SDM volume 3, 6.9 and 8.4), by the local APIC.
 */
#include "cpu/soft/event.h"

#include "cpu/soft/direct.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

static void event_init(struct soft_vcpu *v)
{
	soft_init(v);
	lapic_reset(v->vcpu.lapic, true);
	sys_apic_base_changed(v);
	soft_attention(v, ATTN_MODE);
}

static void event_sipi(struct soft_vcpu *v)
{
	u8 vector = lapic_sipi_vector(v->vcpu.lapic);

	if (v->mp_state != MP_WAIT_SIPI)
		return;
	v->seg[SEG_CS].sel = (u32)vector << 8;
	v->seg[SEG_CS].base = (u64)vector << 12;
	v->rip = 0;
	v->mp_state = MP_RUNNABLE;
	soft_update_mode(v);
	soft_attention(v, ATTN_MODE);
}

static void event_external(struct soft_vcpu *v, u8 vector)
{
	struct event e = {
		.kind = EVENT_EXTERNAL,
		.vector = vector,
		.rip = v->rip,
		.rflags = soft_rflags(v),
	};

	v->mp_state = MP_RUNNABLE;
	v->delivering = 1; /* benign */
	event_deliver(v, &e);
	v->delivering = 0;
}

/* What was under delivery when the state was saved elsewhere. */
static void event_reinject(struct soft_vcpu *v)
{
	struct soft_sys *s = v->sys;

	s->inject = false;
	if (s->inject_soft) {
		soft_interrupt(v, s->inject_vector, v->rip, INT_SOFT);
	} else if (s->inject_exception) {
		v->fault_vector = s->inject_vector;
		v->fault_has_error = s->inject_has_error;
		v->fault_error = s->inject_error;
		soft_deliver_exception(v);
	} else {
		event_external(v, s->inject_vector);
	}
}

/* The vector to deliver now, accepted; -1 if there is none. */
static int event_take_interrupt(struct soft_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	int n = lapic_highest(v->vcpu.lapic);

	if (n == LAPIC_EXTINT)
		return c->ops->extint_ack(c->machine);
	if (n >= 0) {
		lapic_accept(v->vcpu.lapic, (u8)n);
		pv_eoi_offer(v, (u8)n);
	}
	return n;
}

void soft_take_messages(struct soft_vcpu *v)
{
	u32 events = lapic_take_events(v->vcpu.lapic);

	if (events & LAPIC_EVENT_INIT)
		event_init(v);
	if (events & LAPIC_EVENT_SIPI)
		event_sipi(v);
	if (events & LAPIC_EVENT_NMI)
		v->nmi_pending = true;
}

static bool event_nmi_ready(const struct soft_vcpu *v)
{
	return v->nmi_pending && !v->nmi_masked;
}

static bool event_irq_ready(struct soft_vcpu *v)
{
	return v->rflags & RFLAGS_IF && lapic_highest(v->vcpu.lapic) >= 0;
}

bool soft_events_pending(struct soft_vcpu *v)
{
	return event_nmi_ready(v) || event_irq_ready(v);
}

static void event_trace_irq(const struct soft_vcpu *v, int vector)
{
	char at[128];

	if (trace_on(soft_trace(v), TRACE_IRQS))
		trace_line(soft_trace(v), "vCPU %u irq %d at %s", v->vcpu.id,
			   vector,
			   trace_name(soft_trace(v), v->rip, at, sizeof(at)));
}

bool soft_deliver_events(struct soft_vcpu *v)
{
	soft_take_messages(v);
	if (v->mp_state == MP_WAIT_SIPI)
		return false;
	if (v->shadow) {
		if (soft_events_pending(v))
			soft_attention(v, ATTN_IRQ);
		return v->mp_state == MP_RUNNABLE;
	}
	if (v->sys->inject)
		event_reinject(v);
	pv_eoi_collect(v);
	pv_steal_tick(v);
	if (event_nmi_ready(v)) {
		v->nmi_pending = false;
		v->nmi_masked = true;
		event_external(v, VEC_NMI);
		if (soft_events_pending(v))
			soft_attention(v, ATTN_IRQ);
	} else if (v->rflags & RFLAGS_IF) {
		int n = event_take_interrupt(v);

		if (n >= 0) {
			v->vcpu.stat[VCPU_STAT_IRQ]++;
			event_trace_irq(v, n);
			if (v->direct)
				soft_direct_sample(v);
			event_external(v, (u8)n);
		}
	}
	return v->mp_state == MP_RUNNABLE;
}
