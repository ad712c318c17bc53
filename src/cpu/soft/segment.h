/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Segments and descriptors (SDM volume 3, chapters 3 and 5), shared by
 * segment.c, far.c, interrupt.c, task.c and the system instructions.
 *
 * Functions named _check or _read may fault and change no register; those
 * named _set only change registers.
 */
#ifndef CPU_SOFT_SEGMENT_H
#define CPU_SOFT_SEGMENT_H

#include "cpu/soft/access.h"

/* Descriptor types with S = 0 */
enum {
	DESC_TSS16 = 1,
	DESC_LDT = 2,
	DESC_TSS16_BUSY = 3,
	DESC_CALL16 = 4,
	DESC_TASK = 5,
	DESC_INT16 = 6,
	DESC_TRAP16 = 7,
	DESC_TSS = 9,
	DESC_TSS_BUSY = 11,
	DESC_CALL = 12,
	DESC_INT = 14,
	DESC_TRAP = 15,
};

/* A descriptor as loaded once; hi2 and hi3 only for 16-byte ones. */
struct desc {
	u32 lo, hi, hi2, hi3;
	gva_t lin;
};

static inline unsigned desc_type(const struct desc *d)
{
	return d->hi >> 8 & 15;
}

static inline bool desc_s(const struct desc *d)
{
	return d->hi >> 12 & 1;
}

static inline unsigned desc_dpl(const struct desc *d)
{
	return d->hi >> 13 & 3;
}

static inline bool desc_present(const struct desc *d)
{
	return d->hi >> 15 & 1;
}

static inline bool desc_l(const struct desc *d)
{
	return d->hi >> 21 & 1;
}

static inline bool desc_db(const struct desc *d)
{
	return d->hi >> 22 & 1;
}

/* S = 1: code, conforming code, data that may be written, readable */
static inline bool desc_code(const struct desc *d)
{
	return (d->hi >> 11 & 3) == 3;
}

static inline bool desc_conforming(const struct desc *d)
{
	return d->hi >> 10 & 1;
}

static inline bool desc_writable_data(const struct desc *d)
{
	return (d->hi & (BIT(12) | BIT(11) | BIT(9))) == (BIT(12) | BIT(9));
}

static inline bool soft_protected(const struct soft_vcpu *v)
{
	return (v->mode & (MODE_PE | MODE_VM86)) == MODE_PE;
}

static inline bool soft_long(const struct soft_vcpu *v)
{
	return v->mode & MODE_LMA;
}

/* Address of the descriptor; false: outside its table (or null LDT). */
bool desc_addr(const struct soft_vcpu *v, u16 sel, unsigned size, gva_t *lin);
/* Reads it, else faults vector with (sel & ~3) | ext. */
void desc_read(struct soft_vcpu *v, u16 sel, u8 vector, unsigned ext,
	       struct desc *d);
/* For 16-byte descriptors and gates of IA-32e mode (8 otherwise). */
void desc_read_system(struct soft_vcpu *v, u16 sel, u8 vector, unsigned ext,
		      struct desc *d);
/* Sets the accessed bit in memory. */
void desc_accessed(struct soft_vcpu *v, const struct desc *d);
/* The hidden part of a segment register. */
struct seg_state desc_segment(const struct desc *d, u16 sel);
struct seg_state seg_null(u16 sel, unsigned dpl);
struct seg_state seg_real(u16 sel, const struct seg_state *old);
struct seg_state seg_vm86(u16 sel);
/* Limit in bytes, base of a system descriptor (16 bytes in IA-32e mode). */
u32 desc_limit(const struct desc *d);
u64 desc_base(const struct soft_vcpu *v, const struct desc *d);

/* MOV, POP, LDS... to seg (not CS): all checks, then sets it. */
void seg_load(struct soft_vcpu *v, unsigned seg, u16 sel);
/* The same in two steps. cpl: as at that privilege level. */
struct seg_state seg_load_check(struct soft_vcpu *v, unsigned seg, u16 sel);
/* SS for a new privilege level; bad: the vector for most failures. */
struct seg_state seg_stack_check(struct soft_vcpu *v, u16 sel, unsigned cpl,
				 u8 bad, unsigned ext);
void seg_set(struct soft_vcpu *v, unsigned seg, const struct seg_state *s);

/* CS for a new CPL, and RIP; sets mode. Checked before. */
void soft_set_cs(struct soft_vcpu *v, const struct seg_state *cs, unsigned cpl,
		 u64 rip);
/* #GP(ext) if rip is not inside this code segment. */
void soft_check_rip(struct soft_vcpu *v, const struct seg_state *cs, u64 rip,
		    unsigned ext);

/*
 * A stack under construction: pushes and pops with no register changed.
 * cpl: whose access rights; ext: for the #SS of a full stack.
 */
struct soft_stack {
	struct seg_state ss;
	u64 sp;
	u64 mask; /* of SP: 16, 32, 64 bits */
	unsigned cpl;
	u32 error; /* of #SS */
	bool wide; /* 64-bit mode: no base, no limit, canonical */
};

void stack_current(struct soft_vcpu *v, struct soft_stack *s);
void stack_push(struct soft_vcpu *v, struct soft_stack *s, unsigned size,
		u64 val);
u64 stack_pop(struct soft_vcpu *v, struct soft_stack *s, unsigned size);
/* RSP from the stack: only the bits under mask change. */
void stack_commit(struct soft_vcpu *v, const struct soft_stack *s);

/* SSn:ESPn or RSPn of the current TSS; ist 1..7: IST pointer. */
void tss_stack(struct soft_vcpu *v, unsigned cpl, unsigned ist, unsigned ext,
	       struct soft_stack *s);

/* Task switch (task.c). Not in IA-32e mode. */
enum task_reason { TASK_JUMP, TASK_CALL, TASK_IRET, TASK_GATE };
void task_switch(struct soft_vcpu *v, u16 sel, enum task_reason why,
		 u64 next_rip, bool has_error, u32 error);

/* Event delivery (interrupt.c), for exception.c and task.c */
enum event_kind { EVENT_SOFT, EVENT_PRIV, EVENT_FAULT, EVENT_EXTERNAL };
struct event {
	enum event_kind kind;
	u8 vector;
	bool has_error;
	u32 error;
	u64 rip;    /* to return to */
	u64 rflags; /* to push */
};
void event_deliver(struct soft_vcpu *v, const struct event *e);

#endif
