/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A unit of translation: instructions that follow each other within one page,
 * from an entry point through conditional branches up to a transfer that never
 * falls through, and what is known about them before code is written: which
 * are branched to from within, and which flags are live.
 *
 * Live means that some way from here reads the flag before writing it. What
 * lies outside the unit is looked at a little way (within the page), else all
 * flags are live there.
 *
 * Nothing depends on the linear address of the page: where it is known, that
 * is where it counts from. But pinned units, those of a kernel, run only at the
 * one place where that is.
 */
#ifndef CPU_JIT_UNIT_H
#define CPU_JIT_UNIT_H

#include "cpu/x86/insn.h"
#include "cpu/x86/x86.h"

#define UNIT_INSNS 96

/* How the translator goes about an instruction. */
enum unit_kind {
	UNIT_INTERP, /* leave: the interpreter runs it; ends the unit */
	UNIT_PLAIN,  /* integer, re-encoded */
	UNIT_SIMD,   /* vector, re-encoded */
	UNIT_JCC,
	UNIT_JMP,     /* direct */
	UNIT_LOOP,    /* LOOP..., JCXZ (loop.c) */
	UNIT_CALL,    /* direct */
	UNIT_JMP_IND, /* through a register or memory */
	UNIT_CALL_IND,
	UNIT_RET,
	UNIT_PUSH, /* register, memory or immediate */
	UNIT_POP,
	UNIT_LEAVE,
	UNIT_NOP, /* nothing at all */
	UNIT_DIV,
	UNIT_CX,         /* CMPXCHG8B, CMPXCHG16B */
	UNIT_BITS,       /* BT... of a bit string */
	UNIT_SYS,        /* system instructions (sys.c) */
	UNIT_CALLED,     /* by its handler (call.c) */
	UNIT_CALLED_END, /* the same, and it branches */
};

enum unit_share { SHARE_NONE, SHARE_FIRST, SHARE_NEXT };

/* How much a unit takes for granted: each is for where the one before fails. */
enum unit_level {
	UNIT_WINDOW,  /* the stack is in v->window (window.c) */
	UNIT_SHARES,  /* neighbouring accesses are in one page (share.c) */
	UNIT_CHECKED, /* nothing */
};

struct unit_insn {
	struct insn i;
	u8 bytes[15];    /* copied once: the guest may change them */
	u32 off;         /* in the page */
	u8 kind;         /* enum unit_kind */
	bool label;      /* branched to from within the unit */
	bool loop;       /* ... backwards: look at attention here */
	bool window;     /* its stack access is in the unit's window */
	bool window_mem; /* its memory operand is */
	/* Its operand's check is shared (share.c): enum unit_share; of the
	 * first, by the register: where all lie, and whether one stores. */
	u8 share;
	bool share_write;
	u16 share_span;
	s32 share_low;
	const u8 *share_ok; /* once written: where the check succeeded */
	u16 read, write;    /* flags: read; certainly written */
	u16 live;           /* flags live before it */
	u16 live_after;
	s16 target; /* index of a branch's target, -1: outside */
	/* Vector registers that are loaded, and may be dirty, where it begins
	 * if that is a loop that keeps them (vec_plan()). */
	u16 vec_loaded, vec_dirty;
	u8 *code; /* where its code begins, once written */
};

struct unit {
	u32 off;         /* of the first instruction in its page */
	u64 pin;         /* linear address of its page, if pinned, or 0 */
	const u8 *page;  /* host address of its page */
	unsigned n, len; /* instructions, bytes */
	bool simd, avx;  /* has vector instructions */
	bool twice;      /* nothing that cannot be run twice (lockstep.h) */
	bool code32;     /* 32-bit code in flat segments, else 64-bit */
	bool crosses;    /* is one instruction that ends in the next page */
	u16 live_out;    /* flags live where it falls off the end */
	u64 granules;    /* 64-byte pieces of the page it depends on */
	/* Relative to RSP at entry: what one check may cover (window.c). */
	s64 window_low, window_end;
	struct unit_insn in[UNIT_INSNS];
};

/* An instruction here may cross into the next page. */
static inline bool unit_near_end(s64 off)
{
	return (off & PAGE_MASK) > PAGE_SIZE - 15;
}

/*
 * Reads a unit at that offset of a page, of u->code32; page is the page's host
 * address, next that of the one after (NULL: not known; only used if the first
 * instruction crosses). False: not even one instruction.
 */
bool unit_read(struct unit *u, u32 off, const u8 *page, const u8 *next);

/* Decodes the one instruction at off, whose first n bytes are in x->bytes, as
 * a unit of this kind would have it. */
bool unit_look(const struct unit *u, struct unit_insn *x, u32 off, unsigned n);

/* Where a direct branch goes, relative to the beginning of its page. */
static inline s64 unit_target(const struct unit_insn *x)
{
	return (s64)x->off + x->i.len + (s64)x->i.imm;
}

static inline bool unit_in_page(s64 off)
{
	return (u64)off < PAGE_SIZE;
}

#endif
