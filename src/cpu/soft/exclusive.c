/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running alone: all other vCPUs of the engine stand between two instructions
 * meanwhile. For the rare atomic access that no single host instruction can
 * make: across cache lines or pages, or to MMIO.
 *
 * A vCPU outside vcpu_run() stands already, and parks first if it comes in. A
 * vCPU that waits here, on either side, answers revocations (revoke.c), whose
 * waiters answer nothing else: so no two wait for each other.
 */
#include "cpu/soft/exclusive.h"

#include <sched.h>

#include "cpu/soft/access.h"

static void exclusive_wait(struct soft_vcpu *v)
{
	u32 bit = ATTN_FLUSH;

	if (__atomic_load_n(&v->attention, __ATOMIC_SEQ_CST) & bit) {
		__atomic_and_fetch(&v->attention, ~bit, __ATOMIC_SEQ_CST);
		mmu_answer(v);
	}
	if (++v->pauses % 64)
		__builtin_ia32_pause();
	else
		sched_yield();
}

static bool exclusive_busy(struct soft_engine *g)
{
	return __atomic_load_n(&g->exclusive, __ATOMIC_SEQ_CST);
}

void soft_exclusive_answer(struct soft_vcpu *v)
{
	struct soft_engine *g = soft_engine_of(v);

	/* The next one may have found this one parked just before it left: so
	 * it looks again afterwards. */
	do {
		__atomic_store_n(&v->parked, 1, __ATOMIC_SEQ_CST);
		while (exclusive_busy(g))
			exclusive_wait(v);
		__atomic_store_n(&v->parked, 0, __ATOMIC_SEQ_CST);
	} while (exclusive_busy(g));
}

/* Becomes the one; until then counts as standing for whoever is. */
static void exclusive_take(struct soft_vcpu *v)
{
	struct soft_engine *g = soft_engine_of(v);
	u32 none = 0;

	__atomic_store_n(&v->parked, 1, __ATOMIC_SEQ_CST);
	while (!__atomic_compare_exchange_n(&g->exclusive, &none, 1, false,
					    __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST)) {
		none = 0;
		exclusive_wait(v);
	}
	__atomic_store_n(&v->parked, 0, __ATOMIC_SEQ_CST);
}

static bool exclusive_stands(struct soft_vcpu *w)
{
	return __atomic_load_n(&w->parked, __ATOMIC_SEQ_CST) ||
	       !__atomic_load_n(&w->running, __ATOMIC_SEQ_CST);
}

void soft_exclusive_begin(struct soft_vcpu *v)
{
	struct soft_engine *g = soft_engine_of(v);
	unsigned cpus = MIN(g->engine.config.cpus, SOFT_CPUS);

	exclusive_take(v);
	for (unsigned id = 0; id < cpus; id++) {
		struct soft_vcpu *w =
			__atomic_load_n(&g->cpus[id], __ATOMIC_ACQUIRE);

		if (!w || w == v)
			continue;
		soft_attention(w, ATTN_SYNC);
		while (!exclusive_stands(w))
			exclusive_wait(v);
	}
}

void soft_exclusive_end(struct soft_vcpu *v)
{
	__atomic_store_n(&soft_engine_of(v)->exclusive, 0, __ATOMIC_SEQ_CST);
}
