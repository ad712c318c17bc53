/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * KVM's paravirtual interface (Linux documentation, "KVM-specific MSRs",
 * "Linux KVM Hypercall"): clocks, steal time, PV EOI, TLB flush by the
 * preempted flag, IPIs. Asynchronous page faults are not offered.
 *
 * The paravirtual clock is the boot processor's TSC in nanoseconds plus a
 * constant, one straight line for all vCPUs, so it is stable.
 */
#include <sched.h>
#include <time.h>

#include "base/clock.h"
#include "cpu/soft/access.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/sys.h"
#include "mem/mem.h"

enum {
	MSR_PV_WALL_CLOCK_OLD = 0x11,
	MSR_PV_SYSTEM_TIME_OLD = 0x12,
	MSR_PV_WALL_CLOCK = 0x4b564d00,
	MSR_PV_SYSTEM_TIME,
	MSR_PV_ASYNC_PF,
	MSR_PV_STEAL_TIME,
	MSR_PV_EOI,
	MSR_PV_POLL_CONTROL,
	MSR_PV_ASYNC_PF_INT,
	MSR_PV_ASYNC_PF_ACK,
};

enum {
	HC_VAPIC_POLL_IRQ = 1,
	HC_KICK_CPU = 5,
	HC_SEND_IPI = 10,
	HC_SCHED_YIELD = 11
};
#define HC_EPERM  (-1ull)
#define HC_ENOSYS (-1000ull)

struct pv_time_info {
	u32 version, pad0;
	u64 tsc_timestamp, system_time;
	u32 tsc_to_system_mul;
	s8 tsc_shift;
	u8 flags;
	u8 pad[2];
};

struct pv_wall_clock {
	u32 version, sec, nsec;
};

struct pv_steal_time {
	u64 steal;
	u32 version, flags;
	u8 preempted;
	u8 pad[47];
};

#define PV_TSC_STABLE      1
#define PV_GUEST_STOPPED   2 /* cleared by the guest: no lock-up, a pause */
#define PV_PREEMPTED       1
#define PV_FLUSH_TLB       2
#define PV_STEAL_PERIOD_NS 10000000

_Static_assert(sizeof(struct pv_time_info) == 32, "ABI");
_Static_assert(sizeof(struct pv_steal_time) == 64, "ABI");

/* ns = ticks * 2^shift * mul / 2^32 */
static void pv_scale(u64 hz, u32 *mul, s8 *shift)
{
	u64 f = hz;
	int s = 0;

	while (f > 2000000000) {
		f >>= 1;
		s--;
	}
	while (f <= 1000000000) {
		f <<= 1;
		s++;
	}
	*mul = (u32)((1000000000ull << 32) / f);
	*shift = (s8)s;
}

static u64 pv_apply_scale(u64 ticks, u32 mul, s8 shift)
{
	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return (u64)((unsigned __int128)ticks * mul >> 32);
}

/* Where the line of the clock starts, for the host's TSC at g->tsc_base. */
static u64 pv_clock_at_base(const struct soft_engine *g)
{
	s64 ticks = (s64)(g->tsc_base + g->tsc_offset);
	u32 mul;
	s8 shift;

	/* A counter set to 0 later than the line's start was less then. */
	pv_scale(g->tsc_hz, &mul, &shift);
	if (ticks < 0)
		return g->clock_shift - pv_apply_scale((u64)-ticks, mul, shift);
	return g->clock_shift + pv_apply_scale((u64)ticks, mul, shift);
}

/* At a moment of the host's TSC not before g->tsc_base. */
static u64 pv_clock_at(const struct soft_engine *g, u64 host_tsc)
{
	u32 mul;
	s8 shift;

	pv_scale(g->tsc_hz, &mul, &shift);
	return pv_clock_at_base(g) +
	       pv_apply_scale(host_tsc - g->tsc_base, mul, shift);
}

static u64 pv_clock_now(const struct soft_engine *g)
{
	return pv_clock_at(g, clock_tsc());
}

u64 pv_clock_get(const struct soft_engine *g)
{
	return pv_clock_now(g);
}

/* Writes a structure that starts with (or has at vers) a version word. */
static void pv_publish(struct soft_vcpu *v, gpa_t gpa, void *buf, u64 len,
		       u64 vers)
{
	struct mem *m = soft_mem(v);
	u32 version = 0;

	if (!mem_read(m, gpa + vers, &version, 4))
		return;
	version = (version | 1) + 2;
	mem_write(m, gpa + vers, &version, 4);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	memcpy((u8 *)buf + vers, &version, 4);
	mem_write(m, gpa, buf, len);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	version++;
	mem_write(m, gpa + vers, &version, 4);
}

static void pv_update_clock(struct soft_vcpu *v, u8 flags)
{
	const struct soft_engine *g = soft_engine_of(v);
	struct pv_time_info t = {
		.tsc_timestamp = g->tsc_base + v->tsc_offset,
		.system_time = pv_clock_at_base(g),
		.flags = PV_TSC_STABLE | flags,
	};

	if (!(v->msr.pv_system_time & 1))
		return;
	pv_scale(g->tsc_hz, &t.tsc_to_system_mul, &t.tsc_shift);
	pv_publish(v, v->msr.pv_system_time & ~1ull, &t, sizeof(t), 0);
}

static void pv_update_wall_clock(struct soft_vcpu *v, gpa_t gpa)
{
	u64 boot = clock_real_ns() - pv_clock_now(soft_engine_of(v));
	struct pv_wall_clock w = {
		.sec = (u32)(boot / 1000000000),
		.nsec = (u32)(boot % 1000000000),
	};

	pv_publish(v, gpa, &w, sizeof(w), 0);
}

/* Time that this thread wanted to run and did not. */
static u64 pv_waited_ns(void)
{
	return clock_ns() - clock_read_ns(CLOCK_THREAD_CPUTIME_ID);
}

static struct pv_steal_time *pv_steal_page(struct soft_vcpu *v)
{
	if (!(v->msr.pv_steal_time & 1))
		return NULL;
	return mem_ptr(soft_mem(v), v->msr.pv_steal_time & ~63ull,
		       sizeof(struct pv_steal_time));
}

static void pv_add_steal(struct soft_vcpu *v, struct pv_steal_time *st)
{
	u64 waited = pv_waited_ns();
	u64 steal = __atomic_load_n(&st->steal, __ATOMIC_RELAXED);
	u32 version = __atomic_load_n(&st->version, __ATOMIC_RELAXED) | 1;

	if (waited > v->sys->pv_steal_from)
		steal += waited - v->sys->pv_steal_from;
	v->sys->pv_steal_from = waited;
	__atomic_store_n(&st->version, version + 2, __ATOMIC_SEQ_CST);
	__atomic_store_n(&st->steal, steal, __ATOMIC_SEQ_CST);
	__atomic_store_n(&st->version, version + 3, __ATOMIC_SEQ_CST);
	mem_written(soft_mem(v), v->msr.pv_steal_time & ~63ull, sizeof(*st));
}

void pv_steal_tick(struct soft_vcpu *v)
{
	u64 now = clock_tsc();
	struct pv_steal_time *st;

	if (!(v->msr.pv_steal_time & 1) ||
	    now - v->sys->pv_steal_tick <
		    soft_engine_of(v)->tsc_hz /
			    (1000000000 / PV_STEAL_PERIOD_NS))
		return;
	v->sys->pv_steal_tick = now;
	st = pv_steal_page(v);
	if (st)
		pv_add_steal(v, st);
}

void pv_enter(struct soft_vcpu *v)
{
	struct pv_steal_time *st = pv_steal_page(v);

	/* What passed outside vcpu_run() was no wish to run. */
	if (v->msr.pv_steal_time & 1)
		v->sys->pv_steal_from = pv_waited_ns();
	if (st && __atomic_exchange_n(&st->preempted, 0, __ATOMIC_SEQ_CST) &
			  PV_FLUSH_TLB)
		mmu_flush_all(v);
}

void pv_leave(struct soft_vcpu *v)
{
	struct pv_steal_time *st = pv_steal_page(v);

	if (!st)
		return;
	pv_add_steal(v, st);
	__atomic_store_n(&st->preempted, PV_PREEMPTED, __ATOMIC_SEQ_CST);
}

/*
 * The guest's clock goes on from where its structure says it was, whoever
 * filled that in: another engine need not count from the TSC's zero.
 */
void pv_continue_clock(struct soft_vcpu *v, u64 tsc)
{
	struct soft_engine *g = soft_engine_of(v);
	struct pv_time_info t;
	u64 ns;

	if (v->vcpu.id || !(v->msr.pv_system_time & 1) ||
	    !mem_read(soft_mem(v), v->msr.pv_system_time & ~1ull, &t,
		      sizeof(t)))
		return;
	if (!t.version || t.version & 1 || !t.tsc_to_system_mul ||
	    t.tsc_shift > 31 || t.tsc_shift < -31 ||
	    (s64)(tsc - t.tsc_timestamp) < 0)
		return;
	ns = t.system_time + pv_apply_scale(tsc - t.tsc_timestamp,
					    t.tsc_to_system_mul, t.tsc_shift);
	g->tsc_offset = v->tsc_offset;
	g->clock_shift = 0;
	g->clock_shift = ns - pv_clock_at(g, tsc - v->tsc_offset);
}

void pv_loaded(struct soft_vcpu *v)
{
	if (v->vcpu.id == 0)
		soft_engine_of(v)->tsc_offset = v->tsc_offset;
	pv_update_clock(v, PV_GUEST_STOPPED);
}

void pv_run_begin(struct soft_vcpu *v)
{
	u64 left = v->sys->left_tsc;

	/* Less than a second is no matter for a watchdog. */
	if (left && clock_tsc() - left > soft_engine_of(v)->tsc_hz)
		pv_update_clock(v, PV_GUEST_STOPPED);
	pv_enter(v);
}

void pv_run_end(struct soft_vcpu *v)
{
	pv_leave(v);
	v->sys->left_tsc = clock_tsc();
}

/* ---- PV EOI: bit 0 of a word of the guest says "no EOI needed" ---- */

static u32 *pv_eoi_word(struct soft_vcpu *v)
{
	if (!(v->msr.pv_eoi & 1))
		return NULL;
	return mem_ptr(soft_mem(v), v->msr.pv_eoi & ~3ull, 4);
}

static bool pv_eoi_possible(struct soft_vcpu *v, u8 vector)
{
	struct lapic_regs *r = &v->sys->pv_regs;

	lapic_get_regs(v->vcpu.lapic, r);
	if (r->tmr[vector / 32] >> (vector % 32) & 1)
		return false; /* level: the I/O APIC waits for the EOI */
	for (unsigned i = 0; i < 8; i++)
		if (r->irr[i])
			return false; /* the next one needs the EOI at once */
	return true;
}

void pv_eoi_offer(struct soft_vcpu *v, u8 vector)
{
	u32 *word = pv_eoi_word(v);

	if (!word || !pv_eoi_possible(v, vector))
		return;
	__atomic_or_fetch(word, 1, __ATOMIC_SEQ_CST);
	mem_written(soft_mem(v), v->msr.pv_eoi & ~3ull, 4);
	v->sys->pv_eoi_set = true;
}

/* Ends the interrupt if the guest cleared the bit, else takes the offer
 * back, so that the guest will write EOI itself. */
void pv_eoi_collect(struct soft_vcpu *v)
{
	u32 *word;

	if (!v->sys->pv_eoi_set)
		return;
	v->sys->pv_eoi_set = false;
	word = pv_eoi_word(v);
	if (!word || !(__atomic_fetch_and(word, ~1u, __ATOMIC_SEQ_CST) & 1))
		lapic_eoi(v->vcpu.lapic);
	else /* it is not the guest that wrote */
		mem_written(soft_mem(v), v->msr.pv_eoi & ~3ull, 4);
}

/* ---- MSRs and hypercalls ---- */

static u64 *pv_msr_field(struct soft_vcpu *v, u32 msr)
{
	switch (msr) {
	case MSR_PV_WALL_CLOCK_OLD:
	case MSR_PV_WALL_CLOCK: return &v->msr.pv_wall_clock;
	case MSR_PV_SYSTEM_TIME_OLD:
	case MSR_PV_SYSTEM_TIME: return &v->msr.pv_system_time;
	case MSR_PV_STEAL_TIME: return &v->msr.pv_steal_time;
	case MSR_PV_EOI: return &v->msr.pv_eoi;
	case MSR_PV_POLL_CONTROL: return &v->msr.pv_poll_control;
	}
	return NULL;
}

bool pv_msr_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	u64 *p = pv_msr_field(v, msr);

	if (!p)
		return false;
	*val = *p;
	return true;
}

/* Bits that must be zero in each of them. */
static u64 pv_msr_reserved(u32 msr)
{
	switch (msr) {
	case MSR_PV_STEAL_TIME: return 0x3e;
	case MSR_PV_EOI: return 2;
	case MSR_PV_POLL_CONTROL: return ~1ull;
	}
	return 0;
}

bool pv_msr_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	u64 *p = pv_msr_field(v, msr);

	if (!p || val & pv_msr_reserved(msr))
		return false;
	if (p == &v->msr.pv_eoi)
		pv_eoi_collect(v);
	*p = val;
	if (p == &v->msr.pv_wall_clock)
		pv_update_wall_clock(v, val);
	else if (p == &v->msr.pv_system_time)
		pv_update_clock(v, 0);
	else if (p == &v->msr.pv_steal_time)
		v->sys->pv_steal_from = pv_waited_ns();
	return true;
}

u64 pv_hypercall(struct soft_vcpu *v, u64 nr, u64 a0, u64 a1, u64 a2, u64 a3)
{
	struct apic_bus *bus = v->vcpu.engine->config.apics;

	if (v->cpl)
		return HC_EPERM;
	switch (nr) {
	case HC_VAPIC_POLL_IRQ:
	case HC_KICK_CPU: return 0;
	case HC_SEND_IPI: return apic_bus_pv_ipi(bus, a0, a1, (u32)a2, (u32)a3);
	case HC_SCHED_YIELD: sched_yield(); return 0;
	}
	return HC_ENOSYS;
}
