/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Events: faults and their delivery, interrupts, NMI, INIT, SIPI, stepping.
 *
 * The loop arms v->fault_env once; a soft_fault() anywhere comes back there
 * and the loop calls soft_deliver_exception(). A fault while an event is
 * being delivered comes back there too and is combined with it (double and
 * triple faults), so the loop needs no care for that.
 *
 *	if (sigsetjmp(v->fault_env, 0))
 *		soft_deliver_exception(v);
 *	while (!v->stop) {
 *		if (v->attention)
 *			... ATTN_IRQ: if (!soft_deliver_events(v)) halted
 *		run a block
 *	}
 *
 * RIP: a handler finds v->rip at its own instruction. Handlers of rows with
 * OPA_BRANCH or OPA_STRING store v->rip in any case (next, target, or the
 * same again for a REP that is not done); all others leave it to the loop.
 * A handler that changed what decoding or mapping depends on, or that wants
 * events looked at, sets ATTN_MODE: the loop ends the block after it, clears
 * the bit and goes on by v->mode, v->rip.
 */
#ifndef CPU_SOFT_EVENT_H
#define CPU_SOFT_EVENT_H

#include "cpu/soft/soft.h"

/* Delivers v->fault_* at v->rip. May end in v->stop (triple fault). */
void soft_deliver_exception(struct soft_vcpu *v);

/*
 * Takes INIT, SIPI, NMI and the highest interrupt if they are allowed now,
 * at an instruction boundary; the caller cleared ATTN_IRQ before. False: the
 * vCPU is halted or waits for SIPI (leave with VCPU_EXIT_HALTED). If
 * something is pending but held off by v->shadow, ATTN_IRQ is set again and
 * the caller runs one instruction by the slow loop. What IF or TPR hold off
 * sets ATTN_IRQ when that changes.
 */
bool soft_deliver_events(struct soft_vcpu *v);
/* Acts on INIT, SIPI and NMI that have come; also while it stands still. */
void soft_take_messages(struct soft_vcpu *v);

/* Whether soft_deliver_events() would have something to do but for shadow. */
bool soft_events_pending(struct soft_vcpu *v);

/*
 * The slow loop (ATTN_STEP or v->shadow set): begin before an instruction
 * (instruction breakpoints: may fault), end after it with what begin
 * returned (single step, data and I/O breakpoints: #DB trap; the shadow
 * ends; RF is cleared). v->rip is the next instruction in end.
 */
u64 soft_step_begin(struct soft_vcpu *v);
void soft_step_end(struct soft_vcpu *v, u64 begin);

/* INT n, INT3, INTO, INT1; i->len past v->rip is the return address. */
enum soft_int_kind { INT_SOFT, INT_PRIV };
void soft_interrupt(struct soft_vcpu *v, u8 vector, u64 return_rip,
		    enum soft_int_kind kind);

/* Fills vcpu.report and sets stop. */
void soft_stop(struct soft_vcpu *v, enum soft_stop why, const char *fmt, ...)
	PRINTF(3, 4);

#endif
