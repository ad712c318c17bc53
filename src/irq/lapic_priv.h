/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of the local APIC and of the bus between them. */
#ifndef IRQ_LAPIC_PRIV_H
#define IRQ_LAPIC_PRIV_H

#include "irq/lapic.h"

/* Register numbers: offset in the page / 16, MSR - 0x800. */
enum {
	APIC_ID = 0x02,
	APIC_VERSION = 0x03,
	APIC_TPR = 0x08,
	APIC_APR = 0x09,
	APIC_PPR = 0x0a,
	APIC_EOI = 0x0b,
	APIC_RRD = 0x0c,
	APIC_LDR = 0x0d,
	APIC_DFR = 0x0e,
	APIC_SVR = 0x0f,
	APIC_ISR = 0x10,
	APIC_TMR = 0x18,
	APIC_IRR = 0x20,
	APIC_ESR = 0x28,
	APIC_CMCI = 0x2f,
	APIC_ICR_LO = 0x30,
	APIC_ICR_HI = 0x31,
	APIC_LVT = 0x32, /* to 0x37: timer .. error */
	APIC_TIMER_ICR = 0x38,
	APIC_TIMER_CCR = 0x39,
	APIC_TIMER_DCR = 0x3e,
	APIC_SELF_IPI = 0x3f,
	APIC_REGS = 0x40,
};

/* Index into lapic_regs.lvt */
enum {
	LVT_CMCI,
	LVT_TIMER,
	LVT_THERMAL,
	LVT_PERF,
	LVT_LINT0,
	LVT_LINT1,
	LVT_ERROR,
	LVTS,
};

#define LVT_VECTOR       0xffu
#define LVT_MODE(v)      ((v) >> 8 & 7)
#define LVT_MASKED       BIT(16)
#define LVT_TIMER_MODE   (3u << 17)
#define LVT_PERIODIC     (1u << 17)
#define LVT_TSC_DEADLINE (2u << 17)

/* Delivery modes of ICR, LVT and MSI */
enum {
	APIC_DM_FIXED,
	APIC_DM_LOWEST,
	APIC_DM_SMI,
	APIC_DM_NMI = 4,
	APIC_DM_INIT,
	APIC_DM_STARTUP,
	APIC_DM_EXTINT,
};

#define APIC_BASE_BSP      BIT64(8)
#define APIC_BASE_X2APIC   BIT64(10)
#define APIC_BASE_ENABLE   BIT64(11)
#define APIC_BASE_RESERVED (0x2ffull | ~0ull << 52)

#define SVR_ENABLE       BIT(8)
#define SVR_NO_BROADCAST BIT(12) /* of EOI */

enum {
	ESR_SEND_VECTOR = BIT(5),
	ESR_RECEIVE_VECTOR = BIT(6),
	ESR_REGISTER = BIT(7),
};

/* lapic.work: LAPIC_EVENT_* in the low bits, and: */
enum {
	WORK_EVENTS = 0xf,
	WORK_IRQ = BIT(4),    /* IRR, INTR or PPR changed: look at them */
	WORK_TIMER = BIT(5),  /* the timer's deadline passed */
	WORK_EXTINT = BIT(6), /* an I/O APIC's ExtINT message came */
};

/* How a register may be accessed: in the page, as an MSR. */
enum {
	APIC_R = 1,
	APIC_W = 2,
	APIC_RX = 4,
	APIC_WX = 8,
};

/* at: offset in lapic_regs or APIC_NONE; bits: those that can be written. */
struct apic_reg {
	u8 access;
	u16 at;
	u32 bits;
};
#define APIC_NONE 0xffff

struct lapic {
	struct lapic_regs r; /* owner; irr, tmr, esr_pending are atomic */
	u32 id;
	u32 work;        /* atomic; WORK_* */
	u32 sipi_vector; /* atomic */
	u64 deadline;    /* owner; of the timer in clock_ns(), 0: stopped */
	struct apic_bus *bus;
	struct lapic_host host;
};

struct apic_msg {
	u32 dest;
	bool x2apic; /* dest has 32 bits; else 0xff is everybody */
	bool logical;
	bool level;
	u8 mode, vector;
};

static inline u64 lapic_base(const struct lapic *l)
{
	return __atomic_load_n(&l->r.apic_base, __ATOMIC_RELAXED);
}

static inline bool lapic_hw_enabled(const struct lapic *l)
{
	return lapic_base(l) & APIC_BASE_ENABLE;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
	return lapic_base(l) & APIC_BASE_X2APIC;
}

static inline bool lapic_sw_enabled(const struct lapic *l)
{
	return __atomic_load_n(&l->r.svr, __ATOMIC_RELAXED) & SVR_ENABLE;
}

static inline u32 lapic_lvt(const struct lapic *l, unsigned n)
{
	return __atomic_load_n(&l->r.lvt[n], __ATOMIC_RELAXED);
}

/* lapic.c; owner */
void lapic_name(struct lapic *l);
void lapic_reset_regs(struct lapic *l);

/* lapic_regs.c */
extern const struct apic_reg apic_regs[APIC_REGS];
u32 lapic_reg_read(struct lapic *l, unsigned n);

static inline u32 *apic_reg_at(struct lapic_regs *r, const struct apic_reg *a)
{
	return (u32 *)((u8 *)r + a->at);
}

/* lapic_irq.c */
void lapic_work(struct lapic *l, u32 bits);                    /* any thread */
void lapic_request(struct lapic *l, u8 vector, bool level);    /* any thread */
void lapic_error(struct lapic *l, u32 esr);                    /* any thread */
void lapic_deliver(struct lapic *l, const struct apic_msg *m); /* any thread */
void lapic_lint(struct lapic *l, unsigned lvt, bool rising);   /* any thread */
u32 lapic_ppr(const struct lapic *l);
void lapic_recheck(struct lapic *l);

/* lapic_timer.c; owner */
void lapic_timer_load(struct lapic *l);
void lapic_timer_rearm(struct lapic *l);
void lapic_timer_divide(struct lapic *l, u32 dcr);
void lapic_timer_sync(struct lapic *l);
/* The time, at which a timer that is due has fired. */
u64 lapic_timer_settle(struct lapic *l);
u32 lapic_timer_count(const struct lapic *l);
void lapic_timer_lvt_changed(struct lapic *l, u32 was);
unsigned lapic_timer_shift(u32 dcr);

/* apic_bus.c */
int apic_bus_add(struct apic_bus *b, struct lapic *l);
void apic_bus_remove(struct apic_bus *b, struct lapic *l);
void apic_bus_send(struct apic_bus *b, const struct apic_msg *m,
		   const struct lapic *but);
void apic_bus_eoi(struct apic_bus *b, u8 vector);
bool apic_bus_intr(const struct apic_bus *b);

#endif
