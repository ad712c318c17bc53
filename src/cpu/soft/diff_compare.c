/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What must be equal of a case's two results, on the real CPU and on the soft
 * engine, and what the manual leaves to the CPU: undefined flags, which of
 * several faults comes first, what a fault in the middle has done already.
 */
#include <stdio.h>
#include <string.h>

#include "cpu/soft/diff.h"

static bool differ_u64(bool show, const char *what, u64 real, u64 soft)
{
	if (real == soft)
		return false;
	if (show)
		printf("  %-8s real %016llx soft %016llx\n", what,
		       (unsigned long long)real, (unsigned long long)soft);
	return true;
}

static bool differ_bytes(bool show, const char *what, const u8 *real,
			 const u8 *soft, unsigned n)
{
	if (!memcmp(real, soft, n))
		return false;
	for (unsigned k = 0, shown = 0; show && k < n && shown < 4; k++) {
		if (real[k] == soft[k])
			continue;
		printf("  %-8s +%x: real %02x soft %02x\n", what, k, real[k],
		       soft[k]);
		shown++;
	}
	return true;
}

/* The return from the kernel makes any null selector 0. */
static bool differ_sel(bool show, const char *what, u16 real, u16 soft)
{
	return differ_u64(show, what, real < 4 ? 0 : real, soft < 4 ? 0 : soft);
}

/*
 * Which bits of a register count: what is in the upper halves outside 64-bit
 * mode, and in those of counts and pointers where a REP with 32-bit addresses
 * faults or has nothing to do, is the CPU's.
 */
static u64 defined_bits(const struct diff_case *c, const struct diff_result *r,
			unsigned reg)
{
	bool string = c->row->attr & OPA_STRING && c->insn.adsize == 4 &&
		      (r->vector != DIFF_NO_FAULT || !(u32)c->in.gpr[REG_CX]);

	if (r->r.cs != DIFF_CS64 && reg < 8)
		return 0xffffffff;
	if (string && (reg == REG_CX || reg == REG_SI || reg == REG_DI))
		return 0xffffffff;
	return ~0ull;
}

static bool differ_regs(bool show, const struct diff_case *c,
			const struct diff_result *ra,
			const struct diff_result *rb, u64 flags)
{
	static const char *const names[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	const struct diff_regs *a = &ra->r, *b = &rb->r;
	bool d = false;
	u64 bits;

	for (unsigned k = 0; k < 16; k++) {
		bits = defined_bits(c, ra, k);
		d |= differ_u64(show, names[k], a->gpr[k] & bits,
				b->gpr[k] & bits);
	}
	d |= differ_u64(show, "rip", a->rip, b->rip);
	d |= differ_u64(show, "rflags", a->rflags & flags, b->rflags & flags);
	d |= differ_u64(show, "cs", a->cs, b->cs);
	d |= differ_u64(show, "ss", a->ss, b->ss);
	d |= differ_sel(show, "ds", a->ds, b->ds);
	d |= differ_sel(show, "es", a->es, b->es);
	d |= differ_sel(show, "fs", a->fs, b->fs);
	d |= differ_sel(show, "gs", a->gs, b->gs);
	d |= differ_u64(show, "fs base", a->fs_base, b->fs_base);
	d |= differ_u64(show, "gs base", a->gs_base, b->gs_base);
	return d;
}

static bool differ_x87(bool show, const u8 *a, const u8 *b)
{
	bool d = differ_bytes(show, "x87", a, b, 24);

	for (unsigned k = 0; k < 8; k++)
		d |= differ_bytes(show, "st", a + 32 + 16 * k, b + 32 + 16 * k,
				  10);
	return d;
}

static bool differ_vectors(bool show, const u8 *a, const u8 *b)
{
	bool d = false;

	d |= differ_bytes(show, "xmm", a + 160, b + 160, 256);
	d |= differ_bytes(show, "ymmh", a + 576, b + 576, 256);
	return d;
}

/* Flags that count; on a fault the instruction has changed none. */
static u64 defined_flags(const struct diff_case *c, const struct diff_result *r)
{
	bool ran = r->vector == DIFF_NO_FAULT || r->vector == VEC_DB ||
		   r->vector == VEC_BP || r->r.rip != c->in.rip;

	return ran ? ~(u64)c->row->flags_undef : ~0ull;
}

/*
 * Where an access of many bytes, or several accesses, fault, which address is
 * told is the CPU's: XSAVE tells the last byte, far returns read the selector
 * first, CMPS reads [rDI] first.
 */
static bool differ_cr2(bool show, const struct diff_case *c, u64 real, u64 soft)
{
	u32 attr = c->row->attr;
	u64 room = 0;

	if (attr & OPA_SIMD && !c->insn.memsize)
		room = XSAVE_AREA_SIZE;
	else if (attr & OPA_X87 || attr & OPA_MASKED || attr & OPA_STACK)
		room = 128;
	else if (c->insn.op == OP_CMPS)
		return false;
	if (room && c->insn.adsize < 8)
		return false; /* it may wrap around */
	if (real - soft + room <= 2 * room)
		return false;
	return differ_u64(show, "cr2", real, soft);
}

/*
 * An MMX store that faults has made TOP 0 and all registers valid, or not. */
static bool mmx_fault(const struct diff_case *c, const struct diff_result *r)
{
	return c->row->attr & OPA_MMX && c->row->attr & OPA_STORE &&
	       r->vector != DIFF_NO_FAULT && r->vector != VEC_DB;
}

static bool is_memory_fault(u32 vector)
{
	return vector == VEC_PF || vector == VEC_GP || vector == VEC_SS ||
	       vector == VEC_AC;
}

/*
 * Two faults at once, of which the manual does not say which is first: in the
 * several accesses of a far transfer; and an x87 store that is not done because
 * of an unmasked exception may or may not look at its memory.
 */
static bool either_fault(const struct diff_case *c, const struct diff_result *a,
			 const struct diff_result *b)
{
	bool ended = a->vector == DIFF_NO_FAULT || a->vector == VEC_BP ||
		     a->vector == VEC_DB || a->r.rip != c->in.rip;

	/* Whether bytes that are masked off are looked at is the CPU's. */
	if (c->row->attr & OPA_MASKED && !(c->row->attr & OPA_VSIB) &&
	    is_memory_fault(a->vector) &&
	    (a->vector != b->vector || b->r.rip != c->in.rip))
		return true;
	if (!is_memory_fault(b->vector))
		return false;
	if ((c->row->attr & OPA_ALIGN || c->insn.op == OP_CMPXCHG16B) &&
	    a->vector == VEC_GP)
		return b->vector == VEC_SS; /* not aligned nor canonical */
	if (is_memory_fault(a->vector) && c->in.rflags & RFLAGS_AC &&
	    (a->vector == VEC_AC || b->vector == VEC_AC))
		return true;
	if (c->mode != DECODE_64 && a->vector == VEC_PF && a->cr2 >= 0xffffff00)
		return true; /* across 4 GiB: SDM volume 3, 5.3 */
	switch (c->insn.op) {
	case OP_RET_FAR: /* may read two bytes of a selector, or all */
	case OP_IRET: return true;
	case OP_CALL_FAR:
	case OP_JMP_FAR:
	case OP_FLDENV:
	case OP_FRSTOR:
	case OP_FNSTENV:
	case OP_FNSAVE:
	case OP_LDS:
	case OP_LES:
	case OP_LFS:
	case OP_LGS:
	case OP_LSS:
	case OP_FXRSTOR:
	case OP_FXSAVE:
	case OP_XSAVE:
	case OP_XSAVEC:
	case OP_CALL:
	case OP_CMPS: return is_memory_fault(a->vector);
	case OP_BOUND: /* two reads */
		return a->vector == VEC_BR || is_memory_fault(a->vector);
	case OP_FLD: /* 80 bits are two reads */
	case OP_FBLD:
		return is_memory_fault(a->vector) && c->insn.memsize != 4 &&
		       c->insn.memsize != 8;
	case OP_XRSTOR:
		return is_memory_fault(a->vector) ||
		       (ended && !(c->in.gpr[REG_AX] & 7));
	case OP_FST:
	case OP_FSTP:
	case OP_FIST:
	case OP_FISTP:
	case OP_FISTTP:
	case OP_FBSTP: return ended && a->r.xsave[2] & 0x80;
	}
	return false;
}

/* A CALL to where nothing can be has pushed its return address, or not. */
static void forget_push(const struct diff_case *c, const struct diff_result *a,
			u8 *mem)
{
	u64 at = (a->r.gpr[REG_SP] & (c->mode == DECODE_64 ? ~0ull : ~0u)) -
		 DIFF_DATA;

	if (c->insn.op != OP_CALL && c->insn.op != OP_CALL_FAR)
		return;
	for (unsigned k = 1; k <= 16; k++)
		if (is_memory_fault(a->vector) && at - k < DIFF_DATA_SIZE)
			mem[at - k] = 0;
}

/* What a fault in the middle leaves of POPA and of 80-bit stores. */
static bool partial(const struct diff_case *c, const struct diff_result *a)
{
	return is_memory_fault(a->vector) &&
	       (c->insn.op == OP_POPA ||
		(c->row->attr & OPA_X87 && c->insn.memsize == 10));
}

static bool differ_memory(bool show, const struct diff_case *c,
			  const struct diff_result *a, const u8 *real,
			  const u8 *soft)
{
	u8 copy[2][DIFF_DATA_SIZE];

	if (!memcmp(real, soft, DIFF_DATA_SIZE))
		return false;
	memcpy(copy[0], real, DIFF_DATA_SIZE);
	memcpy(copy[1], soft, DIFF_DATA_SIZE);
	forget_push(c, a, copy[0]);
	forget_push(c, a, copy[1]);
	return differ_bytes(show, "memory", copy[0], copy[1], DIFF_DATA_SIZE);
}

bool diff_differ(bool show, const struct diff_case *c,
		 const struct diff_result *a, const struct diff_result *b,
		 const u8 *mem_a, const u8 *mem_b)
{
	u64 flags = defined_flags(c, a);
	bool d;

	if (either_fault(c, a, b))
		return false;
	d = differ_u64(show, "vector", a->vector, b->vector);

	/* Elsewhere the host has pages of its own. */
	if (a->vector == VEC_PF && a->cr2 >= DIFF_CODE - PAGE_SIZE &&
	    a->cr2 < DIFF_TRAMPOLINE)
		d |= differ_u64(show, "error", a->error, b->error);
	else
		d |= differ_u64(show, "error", a->error & ~1u, b->error & ~1u);
	if (a->vector == VEC_PF)
		d |= differ_cr2(show, c, a->cr2, b->cr2);
	if (partial(c, a))
		return d;
	d |= differ_regs(show, c, a, b, flags);
	d |= differ_vectors(show, a->r.xsave, b->r.xsave);
	/* VCVTPS2PH whose store faults has raised its flags, or not. */
	if (c->insn.op != OP_VCVTPS2PH || !is_memory_fault(a->vector))
		d |= differ_bytes(show, "mxcsr", a->r.xsave + 24,
				  b->r.xsave + 24, 4);
	if (!mmx_fault(c, a))
		d |= differ_x87(show, a->r.xsave, b->r.xsave);
	d |= differ_memory(show, c, a, mem_a, mem_b);
	return d;
}
