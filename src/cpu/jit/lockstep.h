/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Lock step: whatever translated code does is taken back and done again by the
 * interpreter, and both must agree on registers, flags that somebody may still
 * read, and memory.
 *
 * One run is from an entry to a unit to wherever generated code is left; polls
 * leave it after a few rounds (v->jit_budget), so a run is short. Then
 *
 *	1. registers are saved, stores noted (v->undo), the code runs;
 *	2. what it wrote is put aside and taken back, so are the registers;
 *	3. the interpreter steps from there until it stands at the same RIP with
 *	   the same registers, or cannot any more;
 *	4. what both wrote is compared. The interpreter's result stays.
 *
 * A difference that is not there when the run is repeated was made by a device
 * that wrote to memory in between. What cannot be done twice (most system
 * instructions, REP, RDTSC) is left to the interpreter: struct
 * unit.twice. One vCPU only, its thread.
 */
#ifndef CPU_JIT_LOCKSTEP_H
#define CPU_JIT_LOCKSTEP_H

#include "cpu/jit/jit_priv.h"
#include "cpu/soft/undo.h"

/* What a unit can change. */
struct lock_regs {
	u64 gpr[16];
	u64 rip, rflags, gs_base, kernel_gs_base;
	u16 fl;
	u8 xsave[XSAVE_AREA_SIZE];
};

#define LOCK_STEPS 4096 /* of the interpreter, until it has lost its way */
#define LOCK_PATH  64   /* last ones of them, kept for the report */

/* The outcome of one comparison. */
enum lock_result {
	LOCK_SAME,
	LOCK_IDLE,   /* the code did nothing */
	LOCK_PLACE,  /* the interpreter does not come where the code left */
	LOCK_REGS,   /* it does, with other registers */
	LOCK_MEMORY, /* it wrote something else */
	LOCK_FAULT,  /* it faulted on the way */
	LOCK_FULL,   /* too many stores to take back */
};

struct lockstep {
	u64 until;        /* v->insns */
	u64 runs, checks; /* of generated code; those that did something */
	unsigned turn;
	struct lock_regs before, code, interp; /* interp: at the first R */
	struct soft_undo by_code, by_interp;
	enum jit_exit why;
	u16 undefined; /* flags, after the steps so far */
	u32 steps;
	u64 path[LOCK_PATH]; /* RIPs; a ring */
	const struct undo_write *bad;
	u8 *bad_at; /* LOCK_MEMORY: the first byte that differs */
};

/* Begins with the next run; NULL: no memory. */
struct lockstep *lockstep_new(struct soft_vcpu *v, u64 insns);
void lockstep_free(struct soft_vcpu *v, struct lockstep *l);

/* Runs code, which begins at v->rip, and checks it. *why: how it was left.
 * With a difference v->stop is set and the report is written. */
enum jit_exit lockstep_run(struct soft_vcpu *v, struct lockstep *l,
			   const void *code);

/* lockstep_flags.c: the instruction at rip as a unit would have it; false:
 * none, or not there. */
bool lockstep_look(struct soft_vcpu *v, struct unit_insn *x, u64 rip);
/* Those of want that may be read on some way from rip. */
u16 lockstep_live(struct soft_vcpu *v, u64 rip, u16 want);

/* lockstep_report.c: tells at length what differs. */
void lockstep_report(struct soft_vcpu *v, const struct lockstep *l,
		     enum lock_result r);

#endif
