/* SPDX-License-Identifier: BSD-2-Clause */
/* Flag instructions, hints, fences, cache lines, random numbers, BOUND, SALC.
 */
#include <sched.h>

#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

static HANDLER(misc_nop)
{
	NEXT();
}

/*
 * A guest that spins may wait for a vCPU whose thread is not running: now and
 * then the host is let choose again.
 */
static HANDLER(misc_pause)
{
	__builtin_ia32_pause();
	if (!(++v->pauses % 256))
		sched_yield();
	NEXT();
}

static HANDLER(misc_mfence)
{
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	NEXT();
}

static HANDLER(misc_clflush)
{
	u64 lin = int_lin(v, i, EA_ANY, 1, MMU_READ);

	soft_probe(v, lin, 1, MMU_READ);
	NEXT();
}

static HANDLER(misc_clc)
{
	v->fl &= (u16)~FL_CF;
	NEXT();
}

static HANDLER(misc_stc)
{
	v->fl |= FL_CF;
	NEXT();
}

static HANDLER(misc_cmc)
{
	v->fl ^= FL_CF;
	NEXT();
}

static HANDLER(misc_cld)
{
	v->rflags &= ~(u64)RFLAGS_DF;
	NEXT();
}

static HANDLER(misc_std)
{
	v->rflags |= RFLAGS_DF;
	NEXT();
}

static HANDLER(misc_lahf)
{
	reg_set(v, REG_AX + 16, 1, v->fl >> 8);
	NEXT();
}

static HANDLER(misc_sahf)
{
	u8 ah = (u8)reg_get(v, REG_AX + 16, 1);

	v->fl = (v->fl & FL_OF) | (ah & 0xd5) << 8 | FL_FIXED;
	NEXT();
}

/* AL = CF ? 0xff : 0 */
static HANDLER(misc_salc)
{
	reg_set(v, REG_AX, 1, v->fl & FL_CF ? 0xff : 0);
	NEXT();
}

static HANDLER(misc_bound)
{
	unsigned size = i->opsize;
	u64 lin = int_lin(v, i, EA_ANY, 2 * size, MMU_READ);
	unsigned shift = 64 - 8 * size;
	s64 index = (s64)(v->gpr[i->reg] << shift);
	s64 low = (s64)(soft_ld(v, lin, size) << shift);
	s64 high = (s64)(soft_ld(v, lin + size, size) << shift);

	if (index < low || index > high)
		int_fault(v, i, VEC_BR);
	NEXT();
}

#define RANDOM_SIZE(name, size, k)                        \
	static HANDLER(name##size)                        \
	{                                                 \
		u64 r;                                    \
		u16 fl;                                   \
		asm volatile(#name " %" k "0\n\t" FL_SAVE \
			     : "=&r"(r), "=&a"(fl)        \
			     :                            \
			     : "cc");                     \
		v->fl = fl;                               \
		reg_set(v, i->rm, size, r);               \
		NEXT();                                   \
	}
RANDOM_SIZE(rdrand, 2, "w")
RANDOM_SIZE(rdrand, 4, "k")
RANDOM_SIZE(rdrand, 8, "q")
RANDOM_SIZE(rdseed, 2, "w")
RANDOM_SIZE(rdseed, 4, "k")
RANDOM_SIZE(rdseed, 8, "q")

static insn_fn *const misc_rdrand[] = {NULL, rdrand2, rdrand4, rdrand8};
static insn_fn *const misc_rdseed[] = {NULL, rdseed2, rdseed4, rdseed8};

insn_fn *int_bind_misc(const struct insn *i)
{
	unsigned s = int_size_index(i->opsize | 16) & 3;

	switch (i->op) {
	case OP_NOP:
	case OP_ENDBR32:
	case OP_ENDBR64:
	case OP_PREFETCHW:
	case OP_PREFETCHNTA:
	case OP_PREFETCHT0:
	case OP_PREFETCHT1:
	case OP_PREFETCHT2: return misc_nop;
	case OP_PAUSE: return misc_pause;
	case OP_LFENCE:
	case OP_SFENCE:
	case OP_MFENCE: return misc_mfence;
	case OP_CLFLUSH:
	case OP_CLFLUSHOPT:
	case OP_CLWB: return misc_clflush;
	case OP_CLC: return misc_clc;
	case OP_STC: return misc_stc;
	case OP_CMC: return misc_cmc;
	case OP_CLD: return misc_cld;
	case OP_STD: return misc_std;
	case OP_LAHF: return misc_lahf;
	case OP_SAHF: return misc_sahf;
	case OP_SALC: return misc_salc;
	case OP_BOUND: return misc_bound;
	case OP_RDRAND: return misc_rdrand[s];
	case OP_RDSEED: return misc_rdseed[s];
	default: return NULL;
	}
}
