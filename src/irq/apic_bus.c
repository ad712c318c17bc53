/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What connects the local APICs of a VM: who is meant by a destination (SDM
 * volume 3, 11.6.2), messages (11.11), and the two wires INTR and NMI.
 *
 * Local APICs come and go only while no vCPU runs; what travels between them
 * takes no lock.
 */
#include <errno.h>
#include <stdlib.h>

#include "irq/lapic_priv.h"

#define APIC_IDS 1024u

struct apic_bus {
	void (*eoi)(void *arg, u8 vector);
	void *arg;
	u32 end;   /* one more than the highest id; atomic */
	u32 turn;  /* where the next lowest-priority search starts; atomic */
	bool intr; /* level of the 8259's INTR; atomic */
	struct lapic *lapic[APIC_IDS]; /* by id; NULL: none; atomic */
};

struct apic_bus *apic_bus_new(void (*eoi)(void *arg, u8 vector), void *arg)
{
	struct apic_bus *b = calloc(1, sizeof(*b));

	if (b) {
		b->eoi = eoi;
		b->arg = arg;
	}
	return b;
}

void apic_bus_free(struct apic_bus *b)
{
	free(b);
}

int apic_bus_add(struct apic_bus *b, struct lapic *l)
{
	if (l->id >= APIC_IDS || b->lapic[l->id])
		return -EINVAL;
	__atomic_store_n(&b->lapic[l->id], l, __ATOMIC_RELEASE);
	if (b->end <= l->id)
		__atomic_store_n(&b->end, l->id + 1, __ATOMIC_RELEASE);
	return 0;
}

void apic_bus_remove(struct apic_bus *b, struct lapic *l)
{
	if (b->lapic[l->id] == l)
		__atomic_store_n(&b->lapic[l->id], NULL, __ATOMIC_RELEASE);
}

static u32 apic_bus_end(const struct apic_bus *b)
{
	return __atomic_load_n(&b->end, __ATOMIC_ACQUIRE);
}

/* Of the ids below end; a local APIC that is switched off hears nothing. */
static struct lapic *apic_bus_at(const struct apic_bus *b, u32 id)
{
	struct lapic *l = __atomic_load_n(&b->lapic[id], __ATOMIC_ACQUIRE);

	return l && lapic_hw_enabled(l) ? l : NULL;
}

static bool apic_everybody(const struct apic_msg *m)
{
	return m->dest == (m->x2apic ? 0xffffffff : 0xff);
}

static bool apic_match_logical(const struct lapic *l, const struct apic_msg *m)
{
	u32 ldr = __atomic_load_n(&l->r.ldr, __ATOMIC_RELAXED);
	u32 dfr = __atomic_load_n(&l->r.dfr, __ATOMIC_RELAXED);

	if (lapic_x2apic(l))
		return m->dest >> 16 == ldr >> 16 && (m->dest & ldr & 0xffff);
	ldr >>= 24;
	if (m->dest > 0xff)
		return false;
	if (dfr >> 28 == 0xf)
		return m->dest & ldr;
	return m->dest >> 4 == ldr >> 4 && (m->dest & ldr & 0xf);
}

static bool apic_match(const struct lapic *l, const struct apic_msg *m)
{
	if (apic_everybody(m))
		return true;
	return m->logical ? apic_match_logical(l, m) : m->dest == l->id;
}

static u32 apic_task_class(const struct lapic *l)
{
	return __atomic_load_n(&l->r.tpr, __ATOMIC_RELAXED) >> 4;
}

/*
 * One of those meant: the one with the lowest task priority, and among equals
 * each in its turn, so that interrupts spread.
 */
static void apic_bus_lowest(struct apic_bus *b, const struct apic_msg *m)
{
	u32 turn = __atomic_fetch_add(&b->turn, 1, __ATOMIC_RELAXED);
	u32 end = apic_bus_end(b);
	struct lapic *best = NULL;

	for (u32 i = 0; i < end; i++) {
		struct lapic *l = apic_bus_at(b, (turn + i) % end);

		if (!l || !lapic_sw_enabled(l) || !apic_match(l, m))
			continue;
		if (!best || apic_task_class(l) < apic_task_class(best))
			best = l;
	}
	if (best)
		lapic_deliver(best, m);
}

/* but: whom a shorthand leaves out, or NULL. */
void apic_bus_send(struct apic_bus *b, const struct apic_msg *m,
		   const struct lapic *but)
{
	u32 end = apic_bus_end(b);
	struct lapic *l;

	if (m->mode == APIC_DM_LOWEST) {
		apic_bus_lowest(b, m);
		return;
	}
	if (!m->logical && !apic_everybody(m)) {
		l = m->dest < end ? apic_bus_at(b, m->dest) : NULL;
		if (l)
			lapic_deliver(l, m);
		return;
	}
	for (u32 id = 0; id < end; id++) {
		l = apic_bus_at(b, id);
		if (l && l != but && apic_match(l, m))
			lapic_deliver(l, m);
	}
}

/*
 * Bits 11:5 of the address extend the destination to 15 bits, as guests know
 * from KVM's CPUID feature MSI_EXT_DEST_ID; they are zero elsewhere.
 */
void apic_bus_msi(void *bus, u64 address, u32 data)
{
	struct apic_msg m = {
		.dest = (address >> 12 & 0xff) | (address >> 5 & 0x7f) << 8,
		.logical = address & BIT(2),
		.level = data & BIT(15),
		.mode = data >> 8 & 7,
		.vector = data & 0xff,
	};

	if (address >> 20 != LAPIC_BASE >> 20)
		return;
	/* the de-assertion of a level has no meaning to a local APIC */
	if (m.level && !(data & BIT(14)) && m.mode == APIC_DM_INIT)
		return;
	apic_bus_send(bus, &m, NULL);
}

void apic_bus_extint(void *bus, unsigned n, bool level)
{
	struct apic_bus *b = bus;
	bool was = __atomic_exchange_n(&b->intr, level, __ATOMIC_SEQ_CST);

	(void)n;
	if (!level)
		return;
	for (u32 id = 0; id < apic_bus_end(b); id++) {
		struct lapic *l;

		l = __atomic_load_n(&b->lapic[id], __ATOMIC_ACQUIRE);
		if (l)
			lapic_lint(l, LVT_LINT0, !was);
	}
}

bool apic_bus_intr(const struct apic_bus *b)
{
	return __atomic_load_n(&b->intr, __ATOMIC_SEQ_CST);
}

void apic_bus_nmi(struct apic_bus *b)
{
	for (u32 id = 0; id < apic_bus_end(b); id++) {
		struct lapic *l;

		l = __atomic_load_n(&b->lapic[id], __ATOMIC_ACQUIRE);
		if (l)
			lapic_lint(l, LVT_LINT1, true);
	}
}

void apic_bus_eoi(struct apic_bus *b, u8 vector)
{
	if (b->eoi)
		b->eoi(b->arg, vector);
}

u64 apic_bus_pv_ipi(struct apic_bus *b, u64 low, u64 high, u32 min, u32 icr)
{
	struct apic_msg m = {.mode = icr >> 8 & 7, .vector = icr & 0xff};
	u64 map[2] = {low, high}, n = 0;

	if (m.mode != APIC_DM_FIXED && m.mode != APIC_DM_NMI)
		return (u64)-22; /* the hypercall's EINVAL */
	for (unsigned i = 0; i < 128; i++) {
		u64 id = (u64)min + i;
		struct lapic *l;

		if (!(map[i / 64] & BIT64(i % 64)) || id >= apic_bus_end(b))
			continue;
		l = apic_bus_at(b, (u32)id);
		if (!l)
			continue;
		lapic_deliver(l, &m);
		n++;
	}
	return n;
}
