/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One translation under way, shared by the files that write its parts:
 * access.c (memory operands), vector.c (vector registers), flags in
 * translate.c, branch.c (ways out).
 */
#ifndef CPU_JIT_TRANSLATE_H
#define CPU_JIT_TRANSLATE_H

#include "cpu/jit/jit_priv.h"

/* Which vector registers are in host registers; a bit each. */
struct vec_state {
	u16 low, full;             /* loaded: 128 bits, 256 bits */
	u16 dirty_low, dirty_full; /* v->xsave is stale */
};

/* Out-of-line code of a memory access whose TLB check failed. */
struct slow_access {
	u8 *from; /* rel32 of the branch here */
	u8 *back; /* where to go on with the host address in RCX */
	u32 off;  /* of the instruction in the page */
	u8 size_log2;
	bool write;
	struct vec_state vec;
};

/* Out-of-line code that ends in another unit or in the monitor. */
struct way_out {
	u8 *from;   /* rel32 of the branch here; NULL: falls in, none */
	s64 off;    /* where it goes, from the beginning of the page */
	u16 live;   /* flags live there */
	u8 kind;    /* enum way_kind */
	bool in_fl; /* they are in v->fl, else in the host's flags */
	s16 label;  /* WAY_LABEL: index of the instruction */
	/* WAY_SHARE: the instruction, and its own access */
	struct unit_insn *share;
	u8 share_size;
	bool share_store;
	struct vec_state vec;
};

enum way_kind {
	WAY_LINK,   /* direct branch to off */
	WAY_OP,     /* the interpreter runs off: not translated, */
	WAY_VALUE,  /* operands that may fault, */
	WAY_SIMD,   /* or vector instructions are off */
	WAY_POLL,   /* attention was set: to the monitor, go on at off */
	WAY_WINDOW, /* the stack is not where v->window is */
	WAY_SHARE,  /* a check for several accesses failed */
	WAY_LABEL,  /* to another instruction of this unit, vectors stored */
};

#define TR_SLOWS 256
#define TR_WAYS  512

struct tr {
	struct emit e;
	struct unit *u;
	struct unit_insn *x; /* under translation */
	struct jit *j;
	struct jit_unit *t;
	struct soft_vcpu *v;
	struct vec_state vec;
	/* Where the live flags are: in the host's flags, in v->fl, or both. */
	bool fl_host, fl_mem;
	u8 *window_ok; /* where a unit goes on after the check of its window */
	/* RCX has v->window.addend: since before this instruction; after it. */
	bool addend_loaded, addend_kept;
	unsigned nslow, nway, nfix, ncall;
	u8 *tail;    /* where out-of-line code begins */
	bool called; /* x by its handler: which sets v->fl */
	struct slow_access slow[TR_SLOWS];
	struct way_out way[TR_WAYS];
	/* rel32s that go to an instruction of this unit */
	struct {
		u8 *at;
		s16 target;
	} fix[2 * UNIT_INSNS];
	/* rel32s that go to what is called there (call.c) */
	struct {
		u8 *at;
		struct unit_insn *x;
	} call[UNIT_INSNS];
};

/* reg = reg + n; no flags are touched. */
void tr_add(struct tr *t, u8 reg, s64 n);
/* reg = linear address of what is at off, from the beginning of the page. */
void tr_rip(struct tr *t, u8 reg, s64 off);

/* v->fl = the host's flags, and back. Clobber R11 only. */
void tr_save_flags(struct tr *t);
void tr_restore_flags(struct tr *t);
/* Before the host's flags are clobbered: live ones are brought to v->fl. */
void tr_guard_flags(struct tr *t);
/* Before they are used: live ones are brought to the host's flags. */
void tr_need_flags(struct tr *t);

/* access.c: where size bytes at x's memory operand are, by RCX; may clobber R11
 * and the host's flags. */
struct rm tr_operand(struct tr *t, unsigned size, bool write);
/* Puts the host address of the linear address that is in RCX in RCX; clobbers
 * R11, R14 and the host's flags. */
void tr_access(struct tr *t, unsigned size, bool write);
/* R11 = the first TLB entry for the linear address in RCX; clobbers flags. */
void jit_tlb_entry(struct emit *e);
/* The effective address (with segment base if linear) in RCX. */
void tr_address(struct tr *t, bool linear);
void tr_slow_accesses(struct tr *t);

/* window.c: plans which accesses are in the unit's window; checks it at the
 * entry, where flags that are live are in v->fl. */
void window_plan(struct unit *u);
void tr_window_check(struct tr *t);
void tr_window_out(struct tr *t, const struct way_out *w);
/* RSP + disp in the window, and 8 bytes there in or out of it; by RCX. */
struct rm tr_window(struct tr *t, s32 disp);
struct rm tr_stack(struct tr *t, s32 disp, bool write);

/* share.c: plans which accesses share a check; x's operand, if it does. */
void share_plan(struct unit *u);
struct rm tr_share(struct tr *t, unsigned size, bool write);
void tr_share_out(struct tr *t, const struct way_out *w);

/* vector.c */
void vec_use(struct tr *t, unsigned reg, bool full, bool read);
void vec_dirty(struct tr *t, unsigned reg, bool full);
void vec_store_all(struct tr *t, const struct vec_state *s);
void vec_load_all(struct tr *t, const struct vec_state *s);
void tr_simd(struct tr *t);
/* Which loops keep their vector registers; what is loaded at a label. */
void vec_plan(struct unit *u);
struct vec_state vec_at(const struct unit_insn *x);

/* plain.c */
void tr_plain(struct tr *t);
void tr_div(struct tr *t);
void tr_cx(struct tr *t);
void tr_push(struct tr *t);
void tr_pop(struct tr *t);
void tr_leave(struct tr *t);
/* Guest register g into host register r, and back. */
void tr_get(struct tr *t, u8 r, u8 g);
void tr_put(struct tr *t, u8 g, u8 r);

/* The stack's unit: 8 bytes, in 32-bit code 4; such a load, such a store, and
 * RSP or ESP moved by n. Keep the flags. */
static inline s32 tr_slot(const struct tr *t)
{
	return t->u->code32 ? 4 : 8;
}
void tr_load_slot(struct tr *t, u8 reg, struct rm m);
void tr_store_slot(struct tr *t, u8 reg, struct rm m);
void tr_move_sp(struct tr *t, s32 n);
/* In 32-bit code: the upper half of a register becomes 0. */
void tr_cut(struct tr *t, u8 reg);

/* branch.c */
void tr_jcc(struct tr *t);
void tr_jmp(struct tr *t);
/* What x branches to where it does: "at" is the rel32 of that jump. */
void tr_branch_to(struct tr *t, u8 *at);
void tr_call(struct tr *t);
void tr_jmp_ind(struct tr *t);
void tr_call_ind(struct tr *t);
void tr_ret(struct tr *t);
void tr_interp(struct tr *t);
void tr_poll(struct tr *t, s64 off, u16 live);
/* A branch here from "from" (rel32), that leaves the unit. */
void tr_way(struct tr *t, u8 *from, enum way_kind kind, s64 off, u16 live);
/* To the unit of that level at off; live flags are in v->fl. */
void tr_link_plain(struct tr *t, s64 off, enum unit_level level);
void tr_fall_off(struct tr *t);
void tr_ways_out(struct tr *t);

void tr_bits(struct tr *t); /* bits.c */
void tr_loop(struct tr *t); /* loop.c */
void tr_sys(struct tr *t);  /* sys.c */
/* call.c: a call of the handler, and the data of all of them at the end. */
void tr_called(struct tr *t);
void tr_calls(struct tr *t);

/* The mandatory prefix that the last byte of a VEX prefix stands for. */
static inline u8 jit_vex_prefix(u8 last)
{
	static const u8 pfx[] = {0, 0x66, 0xf3, 0xf2};

	return pfx[last & 3];
}

static inline struct rm rm_v(size_t off)
{
	return rm_gs(off);
}
#define V(field)    offsetof(struct soft_vcpu, field)
#define V_GPR(g)    (offsetof(struct soft_vcpu, gpr) + 8u * (g))
#define V_XMM(n)    (offsetof(struct soft_vcpu, xsave) + 160 + 16u * (n))
#define V_YMM_HI(n) (offsetof(struct soft_vcpu, xsave) + 576 + 16u * (n))

#endif
