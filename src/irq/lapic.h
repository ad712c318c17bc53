/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The local APIC (SDM volume 3, chapter 11), xAPIC and x2APIC, and the bus
 * between the local APICs of a VM. Used by the soft engine only; on KVM the
 * local APIC is the kernel's, and only its registers pass through here.
 *
 * One vCPU owns each lapic: registers are its own, except IRR, the pending
 * events and the PIR-like request bits, which any thread sets atomically and
 * then calls kick. The owner looks at lapic_pending() between instructions.
 */
#ifndef IRQ_LAPIC_H
#define IRQ_LAPIC_H

#include "base/types.h"
#include "state/state.h"

#define LAPIC_BASE 0xfee00000ull
#define LAPIC_SIZE 0x1000ull

/* Events other than maskable interrupts; a set of bits, atomic. */
enum {
	LAPIC_EVENT_NMI = 1,
	LAPIC_EVENT_INIT = 2,
	LAPIC_EVENT_SIPI = 4, /* vector in lapic.sipi_vector */
	LAPIC_EVENT_SMI = 8,
};

/* Saved registers, in the layout of the 4 KiB APIC page (one u32 each). */
struct lapic_regs {
	u64 apic_base;    /* IA32_APIC_BASE */
	u64 tsc_deadline; /* IA32_TSC_DEADLINE */
	u64 timer_ns;     /* clock_ns() when the current count was loaded, as
			     an age in ns when saved */
	u32 id, ldr, dfr, tpr, svr, esr, icr_lo, icr_hi;
	u32 lvt[7]; /* CMCI, timer, thermal, perf, LINT0, LINT1, error */
	u32 timer_icr, timer_dcr, esr_pending;
	u32 isr[8], tmr[8], irr[8];
};

extern const struct state_desc lapic_state;

struct lapic;
struct apic_bus;

/* What a lapic needs of its vCPU. */
struct lapic_host {
	/* Makes the vCPU look at its lapic soon; any thread. */
	void (*kick)(void *arg);
	/* Calls lapic_timer_fired() at clock_ns() >= deadline; 0 disarms. */
	void (*timer)(void *arg, u64 deadline_ns);
	/* The vCPU's IA32_TIME_STAMP_COUNTER now, and the frequency. */
	u64 (*tsc)(void *arg);
	u64 tsc_hz;
	void *arg;
};

/* eoi: a level-triggered vector was ended; broadcast to I/O APICs. */
struct apic_bus *apic_bus_new(void (*eoi)(void *arg, u8 vector), void *arg);
void apic_bus_free(struct apic_bus *b);
/* Delivers an MSI; the form that I/O APIC and devices use. Any thread. */
void apic_bus_msi(void *bus, u64 address, u32 data);
/* A change of the 8259's INTR wire, seen at LINT0 of the boot processor. */
void apic_bus_extint(void *bus, unsigned n, bool level);
/* NMI wire or operator's NMI: to every LINT1 wired as NMI. */
void apic_bus_nmi(struct apic_bus *b);
/* KVM_HC_SEND_IPI (Linux KVM hypercalls): bitmap of APIC ids from min. */
u64 apic_bus_pv_ipi(struct apic_bus *b, u64 low, u64 high, u32 min, u32 icr);

struct lapic *lapic_new(struct apic_bus *b, u32 apic_id,
			const struct lapic_host *h);
void lapic_free(struct lapic *l);
void lapic_reset(struct lapic *l, bool init); /* init: by INIT, ID kept */

/* Registers; owner's thread. offset within the page; len 4 is what counts. */
u32 lapic_read(struct lapic *l, u32 offset);
void lapic_write(struct lapic *l, u32 offset, u32 val);

/*
 * MSRs 0x1b (APIC_BASE), 0x6e0 (TSC_DEADLINE), 0x800..0x8ff (x2APIC).
 * False: #GP. The caller has checked CPL.
 */
bool lapic_msr_read(struct lapic *l, u32 msr, u64 *val);
bool lapic_msr_write(struct lapic *l, u32 msr, u64 val);

/* CR8 = TPR[7:4]. */
u8 lapic_get_cr8(const struct lapic *l);
void lapic_set_cr8(struct lapic *l, u8 cr8);

/* True if there may be something to deliver; cheap, any thread. */
bool lapic_pending(const struct lapic *l);
/* The same for who looks at it by itself: a word that is not zero then. */
const u32 *lapic_pending_word(const struct lapic *l);
/* Takes and clears events (INIT, SIPI, NMI, SMI). Owner. */
u32 lapic_take_events(struct lapic *l);
void lapic_post_event(struct lapic *l, u32 event); /* any thread; kicks */
u8 lapic_sipi_vector(const struct lapic *l);
/* Highest deliverable vector above PPR, or -1; ExtINT: LAPIC_EXTINT. */
#define LAPIC_EXTINT 256
int lapic_highest(struct lapic *l);
/* Accepts that vector: IRR to ISR. Not for LAPIC_EXTINT. */
void lapic_accept(struct lapic *l, u8 vector);
void lapic_eoi(struct lapic *l);         /* also PV EOI */
void lapic_timer_fired(struct lapic *l); /* any thread */
void lapic_set_tsc(struct lapic *l);     /* TSC was written: rearm */

/* Registers for snapshots and for the other engine; vCPU paused. */
void lapic_get_regs(struct lapic *l, struct lapic_regs *r);
void lapic_set_regs(struct lapic *l, const struct lapic_regs *r);
/* To and from the 1 KiB register page that KVM_GET/SET_LAPIC use. */
void lapic_regs_to_page(const struct lapic_regs *r, u8 page[1024]);
void lapic_regs_from_page(struct lapic_regs *r, const u8 page[1024]);

#endif
