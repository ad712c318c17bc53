/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Direct execution: user code of compute-bound phases runs in child processes
 * (cpu/direct) whose address spaces mirror the guest's page tables; the rest
 * of the guest stays where it was.
 *
 * The mirror rule: a page is mapped in a child only while an entry of the
 * software TLB might stand for it. Whoever drops TLB entries or tags says so
 * here (direct_note_*()); as no child runs while its vCPU is in the monitor,
 * it is enough that the mirror is mended before the child runs next. A vCPU in
 * a child is stopped by soft_attention(), as generated code is.
 *
 * All of it on the vCPU's thread, but the notes, which may also come from who
 * keeps the vCPU out of vcpu_run().
 */
#ifndef CPU_SOFT_DIRECT_H
#define CPU_SOFT_DIRECT_H

#include "cpu/soft/mmu.h"

/* Of a vCPU that may do so; v->direct stays NULL where it cannot. */
void soft_direct_init(struct soft_vcpu *v);
void soft_direct_fini(struct soft_vcpu *v);

/*
 * v->direct_on and at CPL 3: runs user code. False: not this code, go on
 * otherwise. May leave by soft_fault().
 */
bool soft_direct_run(struct soft_vcpu *v);

/* An interrupt is about to be delivered: time to see what kind of code runs. */
void soft_direct_sample(struct soft_vcpu *v);

/* CR3 was loaded, v->mmu->set is the set for it. */
void soft_direct_switched(struct soft_vcpu *v);

/* User code was left for the guest's kernel. */
static inline void soft_user_left(struct soft_vcpu *v)
{
	v->user_exits++;
	v->direct_on = v->direct_want;
}

/* What was dropped: all of a set; 2^shift bytes of it; write tags of a page of
 * RAM (NULL: of all); code of a page, by index, or of all of them. */
void direct_note_set(struct soft_vcpu *v, const struct mmu_set *s);
void direct_note_page(struct soft_vcpu *v, const struct mmu_set *s, gva_t lin,
		      unsigned shift);
void direct_note_host(struct soft_vcpu *v, const u8 *host);
void direct_note_code(struct soft_vcpu *v, u64 page);
void direct_note_all_code(struct soft_vcpu *v);

#endif
