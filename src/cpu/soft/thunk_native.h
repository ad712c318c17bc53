/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For thunk_test.c: runs bytes of code on the real CPU and handlers in the
 * engine from the same struct regs, and says what came of it. Included with
 * _GNU_SOURCE defined.
 */
#ifndef CPU_SOFT_THUNK_NATIVE_H
#define CPU_SOFT_THUNK_NATIVE_H

#include <signal.h>
#include <ucontext.h>

#include "cpu/soft/simd_bed.h"

#define TEST_MEM 1088

struct regs {
	u64 gpr[16];
	u64 flags;
	u8 xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));
	u8 mem[TEST_MEM] __attribute__((aligned(64)));
	int vector; /* -1: none */
};

static struct codebuf native_code;
static sigjmp_buf native_env;
static struct regs *native_regs;

static void native_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct regs *r = native_regs;

	(void)info;
	if (!r)
		abort();
	r->vector = sig == SIGFPE   ? VEC_XM
		    : sig == SIGILL ? VEC_UD
		    : info->si_addr ? VEC_PF
				    : VEC_GP;
	if (info->si_signo == SIGSEGV && info->si_code == SI_KERNEL)
		r->vector = VEC_GP;
	/* What matters after a fault: MXCSR's flags. */
	memcpy(r->xsave + FX_MXCSR, &uc->uc_mcontext.fpregs->mxcsr, 4);
	native_regs = NULL;
	siglongjmp(native_env, 1);
}

static u8 *put(u8 *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

#define PUT(p, ...) \
	put(p, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static u8 *put32(u8 *p, size_t x)
{
	u32 y = (u32)x;

	return put(p, &y, 4);
}

/* mov between register n and [r15 + 8 * n] */
static u8 *put_gpr(u8 *p, unsigned n, u8 opcode)
{
	p = PUT(p, (u8)(0x49 | (n & 8) >> 1), opcode,
		(u8)(0x87 | (n & 7) << 3));
	return put32(p, offsetof(struct regs, gpr) + 8 * n);
}

/* Calls the bytes with all of r loaded, r15 apart; returns where they are. */
static u8 *native_emit(u8 *p, const u8 *bytes, unsigned len)
{
	u8 *at;

	p = PUT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
	p = PUT(p, 0x49, 0x89, 0xff);             /* mov r15, rdi */
	p = PUT(p, 0xb8, 7, 0, 0, 0, 0x31, 0xd2); /* eax 7, edx 0 */
	p = PUT(p, 0x49, 0x0f, 0xae, 0xaf);       /* xrstor64 */
	p = put32(p, offsetof(struct regs, xsave));
	p = PUT(p, 0x41, 0xff, 0xb7); /* push flags */
	p = put32(p, offsetof(struct regs, flags));
	p = PUT(p, 0x9d);
	for (unsigned n = 0; n < 15; n++)
		if (n != 4)
			p = put_gpr(p, n, 0x8b);
	at = p;
	p = put(p, bytes, len);
	for (unsigned n = 0; n < 15; n++)
		if (n != 4)
			p = put_gpr(p, n, 0x89);
	p = PUT(p, 0x9c, 0x41, 0x8f, 0x87); /* pushf; pop */
	p = put32(p, offsetof(struct regs, flags));
	p = PUT(p, 0xb8, 7, 0, 0, 0, 0x31, 0xd2);
	p = PUT(p, 0x49, 0x0f, 0xae, 0xa7); /* xsave64 */
	p = put32(p, offsetof(struct regs, xsave));
	p = PUT(p, 0xdb, 0xe3, 0xc5, 0xf8, 0x77); /* fninit, vzeroupper */
	PUT(p, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b,
	    0xc3);
	return at;
}

/* The engine takes SIGFPE for itself when it needs it. */
static const struct sigaction native_action = {
	.sa_sigaction = native_handler,
	.sa_flags = SA_SIGINFO | SA_NODEFER,
};

static void native_host_state(void)
{
	u32 mxcsr = MXCSR_INIT;

	__asm__ volatile("ldmxcsr %0; fninit; vzeroupper" : : "m"(mxcsr));
}

static void native_run(struct regs *r, const u8 *code)
{
	static const int sigs[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
	void (*fn)(struct regs *) = (void (*)(struct regs *))code;

	r->vector = -1;
	native_regs = r;
	for (unsigned k = 0; k < ARRAY_LEN(sigs); k++)
		sigaction(sigs[k], &native_action, NULL);
	if (!sigsetjmp(native_env, 1))
		fn(r);
	native_regs = NULL;
	native_host_state();
}

/* ---- The engine ---- */

static void soft_from_regs(struct soft_vcpu *v, const struct regs *r)
{
	memcpy(v->gpr, r->gpr, sizeof(v->gpr));
	memcpy(v->xsave, r->xsave, sizeof(v->xsave));
	v->rflags = r->flags & ~(u64)RFLAGS_ARITH;
	v->fl = (u16)((r->flags & 0xff) << 8 | !!(r->flags & RFLAGS_OF));
	simd_loaded(v);
}

static void soft_to_regs(struct soft_vcpu *v, struct regs *r)
{
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	x87_sync(v);
	memcpy(r->xsave, v->xsave, sizeof(r->xsave));
	r->flags = v->rflags | (v->fl >> 8 & RFLAGS_ARITH) |
		   (v->fl & 1 ? RFLAGS_OF : 0);
}

static void soft_run_insn(struct soft_vcpu *v, struct regs *r,
			  const struct insn *i)
{
	memcpy(test_page, r->mem, TEST_MEM);
	v->simd->trap_ready = false;
	soft_from_regs(v, r);
	r->vector = test_run(v, i);
	soft_to_regs(v, r);
	memcpy(r->mem, test_page, TEST_MEM);
}

#endif
