/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running a thunk with SIMD exceptions unmasked, as a guest has them.
 *
 * Only for guests that unmask them, and then only where a masked run has found
 * an exception (or cannot, for underflow). The host's #XM arrives as SIGFPE;
 * the handler sends the thread to the thunk's end with the flags that the CPU
 * has set. The handler is installed once for the process and is the same for
 * every vCPU: what it needs hangs on the thread.
 */
#define _GNU_SOURCE
#include "cpu/soft/simd_priv.h"

#include <signal.h>
#include <ucontext.h>

/* The thunk that runs unmasked on this thread. */
static __thread const struct thunk *simd_trap;

static void simd_trap_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	const struct thunk *t = simd_trap;

	(void)info;
	if (!t || !uc->uc_mcontext.fpregs) {
		signal(sig, SIG_DFL); /* not ours: die of it */
		return;
	}
	uc->uc_mcontext.gregs[REG_R9] = uc->uc_mcontext.fpregs->mxcsr;
	uc->uc_mcontext.gregs[REG_RIP] = (greg_t)t->skip;
	uc->uc_mcontext.fpregs->mxcsr = MXCSR_INIT;
}

static void simd_trap_prepare(struct soft_simd *s)
{
	struct sigaction sa = {.sa_sigaction = simd_trap_handler,
			       .sa_flags = SA_SIGINFO};
	sigset_t fpe;

	sigemptyset(&sa.sa_mask);
	sigaction(SIGFPE, &sa, NULL);
	sigemptyset(&fpe);
	sigaddset(&fpe, SIGFPE);
	pthread_sigmask(SIG_UNBLOCK, &fpe, NULL);
	s->trap_ready = true;
}

/* As thunk_fn; the thunk either completes or is stopped by a trap. */
u32 simd_trapped_run(struct soft_vcpu *v, const struct thunk *t, void *reg,
		     void *rm, void *vex)
{
	struct soft_simd *s = v->simd;
	u32 run = s->mxcsr_run, flags;

	if (!s->trap_ready)
		simd_trap_prepare(s);
	s->mxcsr_run = xs32(v, FX_MXCSR) & ~MXCSR_FLAGS;
	simd_trap = t;
	__asm__ volatile("" ::: "memory");
	flags = t->fn(reg, rm, vex, v);
	__asm__ volatile("" ::: "memory");
	simd_trap = NULL;
	s->mxcsr_run = run;
	return flags;
}
