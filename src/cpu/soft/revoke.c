/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Taking write tags back from other vCPUs' TLBs, before code is decoded from
 * a page and when dirty pages are collected.
 *
 * The asker posts the page, counts flush_req up and sets ATTN_FLUSH; the
 * owner answers between two instructions. A vCPU outside vcpu_run() counts as
 * having answered: it does so before its next instruction, unless who collects
 * dirty pages has done it for the vCPU meanwhile. Who waits answers
 * what is asked of itself, so two askers cannot block each other.
 *
 * MEM_ATTR_WTAG on a page says that somebody may have a write tag of it;
 * without it nobody need be asked, which is the usual case.
 */
#include "cpu/soft/mmu.h"

#include <sched.h>

#include "cpu/soft/access.h"
#include "cpu/soft/direct.h"
#include "mem/mem.h"

void mmu_revoke_post(struct soft_vcpu *w, const u8 *host)
{
	struct soft_mmu *m = w->mmu;

	pthread_mutex_lock(&m->revoke_lock);
	if (!host)
		m->revokes = MMU_REVOKE + 1;
	else if (m->revokes < MMU_REVOKE)
		m->revoke[m->revokes++] = (u64)host;
	else
		m->revokes = MMU_REVOKE + 1;
	__atomic_add_fetch(&w->flush_req, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&m->revoke_lock);
	soft_attention(w, ATTN_FLUSH);
}

void mmu_answer(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;
	u64 page[MMU_REVOKE];
	unsigned n;
	u32 req;

	pthread_mutex_lock(&m->revoke_lock);
	n = m->revokes;
	m->revokes = 0;
	memcpy(page, m->revoke, sizeof(page));
	req = __atomic_load_n(&v->flush_req, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&m->revoke_lock);

	for (unsigned i = 0; i < MMU_SETS; i++) {
		struct mmu_set *s = &m->sets[i];

		if (!s->live || s->stale || !n)
			continue;
		if (s != m->set && !soft_mem(v)->dirty)
			s->stale = true;
		else if (n > MMU_REVOKE)
			tlb_drop_write(v, s, NULL);
		else
			for (unsigned k = 0; k < n; k++)
				tlb_drop_write(v, s, (u8 *)page[k]);
	}
	for (unsigned k = 0; v->direct && k < MIN(n, MMU_REVOKE + 1); k++)
		direct_note_host(v, n > MMU_REVOKE ? NULL : (u8 *)page[k]);
	__atomic_store_n(&v->flush_done, req, __ATOMIC_SEQ_CST);
}

static void mmu_answer_own(struct soft_vcpu *v)
{
	u32 bit = ATTN_FLUSH;

	if (__atomic_load_n(&v->attention, __ATOMIC_SEQ_CST) & bit) {
		__atomic_and_fetch(&v->attention, ~bit, __ATOMIC_SEQ_CST);
		mmu_answer(v);
	}
}

bool mmu_revoking(const struct soft_vcpu *w)
{
	u32 req = __atomic_load_n(&w->flush_req, __ATOMIC_SEQ_CST);

	return (s32)(__atomic_load_n(&w->flush_done, __ATOMIC_SEQ_CST) - req) <
	       0;
}

void mmu_revoke_wait(struct soft_vcpu *self, struct soft_vcpu *w)
{
	u32 req = __atomic_load_n(&w->flush_req, __ATOMIC_SEQ_CST);
	unsigned spins = 0;

	while (__atomic_load_n(&w->running, __ATOMIC_SEQ_CST)) {
		u32 done = __atomic_load_n(&w->flush_done, __ATOMIC_SEQ_CST);

		if ((s32)(done - req) >= 0)
			return;
		if (self)
			mmu_answer_own(self);
		/* more vCPUs than host CPUs: let the other one run */
		if (++spins % 256)
			__builtin_ia32_pause();
		else
			sched_yield();
	}
}

void mmu_mark_code(struct soft_vcpu *v, u64 page)
{
	struct soft_engine *g = soft_engine_of(v);
	struct mem *m = soft_mem(v);
	const u8 *host = m->base + (page << PAGE_SHIFT);
	u8 old = __atomic_fetch_or(&m->attr[page], MEM_ATTR_CODE,
				   __ATOMIC_SEQ_CST);

	if (!(old & MEM_ATTR_WTAG))
		return;
	for (unsigned i = 0; i < SOFT_CPUS; i++) {
		struct soft_vcpu *w =
			__atomic_load_n(&g->cpus[i], __ATOMIC_ACQUIRE);

		if (w)
			mmu_revoke_post(w, host);
	}
	mmu_answer_own(v);
	for (unsigned i = 0; i < SOFT_CPUS; i++) {
		struct soft_vcpu *w =
			__atomic_load_n(&g->cpus[i], __ATOMIC_ACQUIRE);

		if (w && w != v)
			mmu_revoke_wait(v, w);
	}
	__atomic_and_fetch(&m->attr[page], (u8)~MEM_ATTR_WTAG,
			   __ATOMIC_SEQ_CST);
}
