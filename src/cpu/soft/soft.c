/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine as an engine_class: VM contexts, vCPUs, running, halting,
 * kicking, the APIC timer. Always usable.
 *
 * A halted vCPU sleeps here, inside vcpu_run(), until something wants its
 * attention; the caller sees only kicks, shutdown and errors.
 */
#define _GNU_SOURCE
#include "cpu/soft/engine_soft.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/loop.h"
#include "cpu/soft/access.h"
#include "cpu/soft/direct.h"
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/sys.h"

/* KVM_FEATURE_*: CLOCKSOURCE NOP_IO_DELAY CLOCKSOURCE2 STEAL_TIME PV_EOI
 * PV_TLB_FLUSH PV_SEND_IPI POLL_CONTROL PV_SCHED_YIELD CLOCKSOURCE_STABLE */
#define SOFT_PV_FEATURES                                                 \
	(BIT(0) | BIT(1) | BIT(3) | BIT(5) | BIT(6) | BIT(9) | BIT(11) | \
	 BIT(12) | BIT(13) | BIT(24))

static struct soft_engine *soft_of(struct engine *g)
{
	return container_of(g, struct soft_engine, engine);
}

static struct soft_vcpu *soft_vcpu_of(struct vcpu *v)
{
	return container_of(v, struct soft_vcpu, vcpu);
}

static int soft_probe_host(struct err *e)
{
	(void)e;
	return 0;
}

/* What this engine does itself is there on any host. */
static struct cpuid_regs soft_host_cpuid(void *arg, u32 leaf, u32 subleaf)
{
	struct cpuid_regs r = cpuid_host(arg, leaf, subleaf);

	if (leaf == 1) {
		r.ecx |= BIT(17) | BIT(21) | BIT(24); /* PCID X2APIC TSC-DL */
		r.edx |= BIT(7) | BIT(9) | BIT(12) | BIT(14);
	} else if (leaf == 7 && subleaf == 0) {
		/* FSGSBASE TSC_ADJUST SMEP ERMS INVPCID SMAP; UMIP RDPID;
		 * FSRM SPEC_CTRL STIBP ARCH_CAPABILITIES SSBD */
		r.ebx |= BIT(0) | BIT(1) | BIT(7) | BIT(9) | BIT(10) | BIT(20);
		r.ecx |= BIT(2) | BIT(22);
		r.edx |= BIT(4) | BIT(26) | BIT(27) | BIT(29) | BIT(31);
	} else if (leaf == 7 && subleaf == 2) {
		r.edx |= BIT(4); /* BHI_CTRL */
	} else if (leaf == 0x80000001) {
		r.edx |= BIT(11) | BIT(20) | BIT(26) | BIT(27) | BIT(29);
	} else if (leaf == 0x80000007) {
		r.edx |= BIT(8);
	}
	return r;
}

static void *soft_loop_thread(void *arg)
{
	struct soft_engine *g = arg;

	loop_run(g->loop);
	return NULL;
}

/* The timer thread takes no signals: they are for others. */
static int soft_start_loop(struct soft_engine *g, struct err *e)
{
	sigset_t all, old;
	int rc;

	g->loop = loop_new(e);
	if (!g->loop)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&g->loop_thread, NULL, soft_loop_thread, g);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		loop_free(g->loop);
		g->loop = NULL;
		return err_errno(e, -rc, "soft: cannot start a thread");
	}
	pthread_setname_np(g->loop_thread, "apic-timer");
	return 0;
}

static void soft_engine_free(struct engine *eg)
{
	struct soft_engine *g = soft_of(eg);

	if (g->loop) {
		loop_stop(g->loop);
		pthread_join(g->loop_thread, NULL);
		loop_free(g->loop);
	}
	if (g->code)
		code_world_free(g->code);
	g->engine.config.mem->alone_begun = NULL;
	pthread_mutex_destroy(&g->lock);
	free(g);
}

static int soft_model(struct cpuid_model *m, unsigned cpus, struct err *e)
{
	(void)e;
	cpuid_model_build(m, soft_host_cpuid, NULL, cpus, clock_tsc_hz(),
			  SOFT_PV_FEATURES);
	return 0;
}

static struct soft_vcpu *soft_cpu(struct soft_engine *g, unsigned id)
{
	return __atomic_load_n(&g->cpus[id], __ATOMIC_ACQUIRE);
}

/* Drops the write tags of v for it while it is kept out of vcpu_run(). False:
 * it runs, and answers itself. */
static bool soft_answer_for(struct soft_vcpu *v)
{
	u32 out = SOFT_OUT;

	if (!__atomic_compare_exchange_n(&v->running, &out, SOFT_HELD, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	mmu_answer(v);
	__atomic_store_n(&v->running, SOFT_OUT, __ATOMIC_SEQ_CST);
	return true;
}

/* Every write tag goes, and with it what it may have hidden (tlb.c). */
static int soft_dirty_sync(struct engine *eg, struct err *e)
{
	struct soft_engine *g = soft_of(eg);

	(void)e;
	for (unsigned i = 0; i < SOFT_CPUS; i++)
		if (soft_cpu(g, i))
			mmu_revoke_post(soft_cpu(g, i), NULL);
	for (unsigned i = 0; i < SOFT_CPUS; i++) {
		struct soft_vcpu *v = soft_cpu(g, i);

		while (v && mmu_revoking(v) && !soft_answer_for(v))
			mmu_revoke_wait(NULL, v);
	}
	return 0;
}

/* Nobody runs in a child any more, nor will, for mem->alone is set. */
static void soft_mem_alone(void *arg)
{
	soft_dirty_sync(arg, NULL);
}

static struct engine *soft_engine_new(const struct engine_config *c,
				      struct err *e)
{
	struct soft_engine *g = calloc(1, sizeof(*g));

	if (!g) {
		err_set(e, -ENOMEM, "no memory for the soft engine");
		return NULL;
	}
	g->engine.class = &soft_engine;
	g->engine.config = *c;
	g->tsc_hz = clock_tsc_hz();
	g->tsc_base = clock_tsc();
	g->tsc_offset = -g->tsc_base;
	pthread_mutex_init(&g->lock, NULL);
	if (c->cpuid)
		g->cpuid = *c->cpuid;
	else
		soft_model(&g->cpuid, c->cpus, e);
	g->engine.config.cpuid = &g->cpuid;
	g->phys_bits = cpuid_model_get(&g->cpuid, 0x80000008, 0, 0).eax & 0xff;
	g->code = code_world_new(c->mem, c->cpus, e);
	c->mem->alone_arg = &g->engine;
	c->mem->alone_begun = soft_mem_alone;
	if (!g->code || soft_start_loop(g, e)) {
		soft_engine_free(&g->engine);
		return NULL;
	}
	return &g->engine;
}

static int soft_mem_changed(struct engine *eg, struct err *e)
{
	struct soft_engine *g = soft_of(eg);

	(void)e;
	for (unsigned i = 0; i < SOFT_CPUS; i++)
		if (soft_cpu(g, i))
			mmu_flush_all(soft_cpu(g, i));
	return 0;
}

static void soft_dirty_stop(struct engine *eg)
{
	soft_dirty_sync(eg, NULL);
}

/* ---- waking and timers ---- */

static void soft_futex(u32 *word, int op, u32 val, const struct timespec *ts)
{
	syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, ts, NULL,
		FUTEX_BITSET_MATCH_ANY);
}

static void soft_wake(struct soft_vcpu *v, u32 bits)
{
	soft_attention(v, bits);
	if (__atomic_load_n(&v->halted, __ATOMIC_SEQ_CST))
		soft_futex(&v->attention, FUTEX_WAKE, 1, NULL);
}

static void soft_lapic_kick(void *arg)
{
	soft_wake(arg, ATTN_IRQ);
}

static u64 soft_lapic_tsc(void *arg)
{
	return soft_tsc(arg);
}

/*
 * The lapic changes its deadline often and mostly to a later one: the timer
 * is left armed then and looks again when it fires.
 */
static void soft_lapic_timer(void *arg, u64 deadline)
{
	struct soft_vcpu *v = arg;
	u64 armed;

	__atomic_store_n(&v->timer_deadline, deadline, __ATOMIC_SEQ_CST);
	armed = __atomic_load_n(&v->timer_armed, __ATOMIC_SEQ_CST);
	if (!deadline || (armed && armed <= deadline))
		return;
	__atomic_store_n(&v->timer_armed, deadline, __ATOMIC_SEQ_CST);
	loop_timer_arm(v->timer, deadline);
}

static void soft_timer_fired(void *arg)
{
	struct soft_vcpu *v = arg;
	u64 deadline;

	__atomic_store_n(&v->timer_armed, 0, __ATOMIC_SEQ_CST);
	deadline = __atomic_load_n(&v->timer_deadline, __ATOMIC_SEQ_CST);
	if (!deadline)
		return;
	if (deadline <= clock_ns()) {
		__atomic_compare_exchange_n(&v->timer_deadline, &deadline, 0,
					    false, __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST);
		lapic_timer_fired(v->vcpu.lapic);
		return;
	}
	__atomic_store_n(&v->timer_armed, deadline, __ATOMIC_SEQ_CST);
	loop_timer_arm(v->timer, deadline);
}

/* ---- vCPUs ---- */

static void soft_vcpu_free(struct vcpu *vc)
{
	struct soft_vcpu *v = soft_vcpu_of(vc);
	struct soft_engine *g = soft_engine_of(v);

	__atomic_store_n(&g->cpus[vc->id], NULL, __ATOMIC_SEQ_CST);
	if (v->vcpu.lapic)
		lapic_free(v->vcpu.lapic);
	if (v->timer)
		loop_timer_free(v->timer);
	if (v->simd)
		simd_fini(v);
	soft_direct_fini(v);
	if (v->code)
		soft_code_fini(v);
	if (v->jit)
		v->vcpu.engine->config.translator->fini(v);
	mmu_fini(v);
	free(v->sys);
	free(v);
}

static struct lapic *soft_new_lapic(struct soft_vcpu *v)
{
	struct soft_engine *g = soft_engine_of(v);
	struct lapic_host h = {
		.kick = soft_lapic_kick,
		.timer = soft_lapic_timer,
		.tsc = soft_lapic_tsc,
		.tsc_hz = g->tsc_hz,
		.arg = v,
	};

	return lapic_new(g->engine.config.apics, v->vcpu.id, &h);
}

/* Without a translator a vCPU is slower, not wrong. */
static void soft_translator_init(struct soft_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	struct err e;

	if (c->translator && c->translator->init(v, c->code_cache, &e))
		log_info("vCPU %u: %s", v->vcpu.id, e.text);
}

static int soft_vcpu_init(struct soft_vcpu *v, struct err *e)
{
	struct soft_engine *g = soft_engine_of(v);
	struct cpu_state s;
	int rc;

	v->sys = calloc(1, sizeof(*v->sys));
	if (!v->sys)
		return err_set(e, -ENOMEM, "no memory for a vCPU");
	v->timer = loop_timer_new(g->loop, soft_timer_fired, v);
	if (!v->timer)
		return err_set(e, -ENOMEM, "no memory for a timer");
	v->vcpu.lapic = soft_new_lapic(v);
	if (!v->vcpu.lapic)
		return err_set(e, -ENOMEM, "no memory for a local APIC");
	rc = mmu_init(v, e);
	if (!rc)
		soft_translator_init(v);
	if (!rc)
		rc = soft_code_init(v, g->code, 0, e);
	if (!rc)
		rc = simd_init(v, e);
	if (rc)
		return rc;
	soft_direct_init(v);
	cpu_state_reset(&s, v->vcpu.id);
	lapic_get_regs(v->vcpu.lapic, &s.lapic);
	g->tsc_moment = g->tsc_base;
	soft_load_state(v, &s);
	g->tsc_moment = 0;
	return 0;
}

static struct vcpu *soft_vcpu_new(struct engine *eg, unsigned id, struct err *e)
{
	struct soft_engine *g = soft_of(eg);
	struct soft_vcpu *v;

	if (id >= SOFT_CPUS) {
		err_set(e, -EINVAL, "soft: at most %d vCPUs", SOFT_CPUS);
		return NULL;
	}
	v = aligned_alloc(64, ALIGN_UP(sizeof(*v), 64));
	if (!v) {
		err_set(e, -ENOMEM, "no memory for a vCPU");
		return NULL;
	}
	memset(v, 0, sizeof(*v));
	v->vcpu.class = &soft_engine;
	v->vcpu.engine = eg;
	v->vcpu.id = id;
	if (soft_vcpu_init(v, e)) {
		soft_vcpu_free(&v->vcpu);
		return NULL;
	}
	__atomic_store_n(&g->cpus[id], v, __ATOMIC_SEQ_CST);
	return &v->vcpu;
}

/* Who holds us lets go soon. */
static void soft_set_running(struct soft_vcpu *v, bool on)
{
	u32 out = SOFT_OUT;

	if (!on) {
		__atomic_store_n(&v->running, SOFT_OUT, __ATOMIC_SEQ_CST);
		return;
	}
	while (!__atomic_compare_exchange_n(&v->running, &out, SOFT_IN, false,
					    __ATOMIC_SEQ_CST,
					    __ATOMIC_SEQ_CST)) {
		out = SOFT_OUT;
		sched_yield();
	}
}

/* A guest that rests this long, now and then gives back what holds its code
 * and translations. */
#define SOFT_REST_NS 250000000ull
#define SOFT_TRIM_NS 60000000000ull

static void soft_trim(struct soft_vcpu *v)
{
	soft_set_running(v, true);
	soft_code_trim(v);
	mmu_trim(v);
	soft_set_running(v, false);
}

static void soft_sleep(struct soft_vcpu *v)
{
	u64 now = clock_ns(), until = now + SOFT_REST_NS;
	bool trim = now >= v->trim_from;
	struct timespec ts = {
		.tv_sec = (time_t)(until / 1000000000),
		.tv_nsec = (long)(until % 1000000000),
	};

	while (!__atomic_load_n(&v->attention, __ATOMIC_SEQ_CST)) {
		soft_futex(&v->attention, FUTEX_WAIT_BITSET, 0,
			   trim ? &ts : NULL);
		if (trim && clock_ns() >= until) {
			soft_trim(v);
			v->trim_from = until + SOFT_TRIM_NS;
			trim = false;
		}
	}
}

/* Sleeps until attention is wanted. */
static void soft_halt(struct soft_vcpu *v)
{
	pv_leave(v);
	soft_set_running(v, false);
	__atomic_store_n(&v->halted, 1, __ATOMIC_SEQ_CST);
	soft_sleep(v);
	__atomic_store_n(&v->halted, 0, __ATOMIC_SEQ_CST);
	soft_set_running(v, true);
	pv_enter(v);
}

static enum vcpu_exit soft_vcpu_run(struct vcpu *vc)
{
	struct soft_vcpu *v = soft_vcpu_of(vc);
	enum vcpu_exit why;

	soft_set_running(v, true);
	pv_run_begin(v);
	if (v->sys->inject || lapic_pending(v->vcpu.lapic))
		soft_attention(v, ATTN_IRQ);
	while ((why = soft_run(v)) == VCPU_EXIT_HALTED)
		soft_halt(v);
	pv_run_end(v);
	soft_set_running(v, false);
	vc->stat[VCPU_STAT_INSNS] = v->insns;
	return why;
}

static int soft_vcpu_get(struct vcpu *vc, struct cpu_state *s, struct err *e)
{
	(void)e;
	soft_save_state(soft_vcpu_of(vc), s);
	return 0;
}

static int soft_vcpu_set(struct vcpu *vc, const struct cpu_state *s,
			 struct err *e)
{
	if (s->nested_size)
		return err_set(e, -ENOTSUP,
			       "cpu: a VM with --nested goes on under KVM "
			       "only");
	soft_code_forget(soft_vcpu_of(vc));
	soft_load_state(soft_vcpu_of(vc), s);
	return 0;
}

static void soft_vcpu_kick(struct vcpu *vc)
{
	struct soft_vcpu *v = soft_vcpu_of(vc);

	__atomic_add_fetch(&vc->stat[VCPU_STAT_KICK], 1, __ATOMIC_RELAXED);
	soft_wake(v, ATTN_KICK);
}

static unsigned soft_vcpu_left(const struct vcpu *vc, struct vcpu_left *out,
			       unsigned max)
{
	const struct soft_vcpu *v = container_of(vc, struct soft_vcpu, vcpu);

	return v->jit ? v->jit_ops->left(v, out, max) : 0;
}

static void soft_vcpu_nmi(struct vcpu *vc)
{
	lapic_post_event(vc->lapic, LAPIC_EVENT_NMI);
}

static int soft_clock_get(struct engine *eg, u64 *ns)
{
	*ns = pv_clock_get(soft_of(eg));
	return 0;
}

static void soft_tsc_moment(struct engine *eg, u64 host_tsc)
{
	soft_of(eg)->tsc_moment = host_tsc;
}

const struct engine_class soft_engine = {
	.name = "soft",
	.probe = soft_probe_host,
	.model = soft_model,
	.new = soft_engine_new,
	.free = soft_engine_free,
	.mem_changed = soft_mem_changed,
	.dirty_start = soft_dirty_sync,
	.dirty_sync = soft_dirty_sync,
	.dirty_stop = soft_dirty_stop,
	.vcpu_new = soft_vcpu_new,
	.vcpu_free = soft_vcpu_free,
	.vcpu_run = soft_vcpu_run,
	.vcpu_get = soft_vcpu_get,
	.vcpu_set = soft_vcpu_set,
	.vcpu_kick = soft_vcpu_kick,
	.vcpu_left = soft_vcpu_left,
	.nmi = soft_vcpu_nmi,
	.clock_get = soft_clock_get,
	.tsc_moment = soft_tsc_moment,
};
