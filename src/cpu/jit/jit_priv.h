/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator of one vCPU, shared by the files of this folder.
 *
 * While generated code runs, GS base points to the soft_vcpu, the guest's
 * general registers are in host registers as jit_host[] says (four of them
 * stay in v->gpr), RCX, R11 and R14 are scratch, RSP is the host's stack. Guest
 * flags that are live are in the host's flags; vector registers are in v->xsave
 * at every entry and exit and are cached in host registers in between.
 *
 * Everything belongs to the vCPU's thread.
 */
#ifndef CPU_JIT_JIT_PRIV_H
#define CPU_JIT_JIT_PRIV_H

#include "cpu/jit/emit.h"
#include "cpu/jit/unit.h"
#include "cpu/soft/codebuf.h"
#include "cpu/soft/soft.h"

#define JIT_S1  H_CX /* scratch: addresses, shift counts */
#define JIT_S2  H_11 /* scratch */
#define JIT_S3  H_14 /* scratch */
#define JIT_AX  H_AX
#define JIT_SP  H_10 /* guest RSP */
#define JIT_GCX H_15 /* guest RCX */

/* Host register of each guest register; H_NONE: in v->gpr. */
extern const u8 jit_host[16];

#define JIT_HEAT          16
#define JIT_CACHE_DEFAULT (32 * MIB)
#define JIT_MAP_BITS      15
/* Of addresses in tables: units are seldom nearer, and so neighbours share
 * cache lines. */
#define JIT_MAP_SHIFT 2
#define JIT_MAP_SIZE  BIT(JIT_MAP_BITS)
#define JIT_HASH_SIZE 65536u
#define JIT_PAGE_HASH 8192u
#define JIT_SLOTS     4u
#define JIT_PATIENCE  32
#define JIT_SEGMENTS  8u
#define JIT_REMAPS    1024 /* changes of mappings before none is pinned */

#define JIT_TRACES (TRACE_BLOCKS | TRACE_CODE | TRACE_PERFMAP)

struct jit_unit;
struct tr;

/* A direct branch out of a unit. */
struct jit_link {
	u64 key;        /* cross: fetch_key, and code_page of the */
	u64 page;       /* branch, for which "to" is right */
	s32 patience;   /* other ones until it is made for them */
	s32 off;        /* of the target, from the branch's page */
	u32 site;       /* place in the code: of the rel32 that is patched; */
	u32 unlinked;   /* of where it goes if not linked */
	u32 to;         /* number of a unit; 0: not linked */
	u32 next, prev; /* numbers of other links to it, or 0 */
	bool cross;     /* other page: checks key, unless */
	bool pinned;    /* it is of a pinned unit; "page" is that's */
	bool in_fl;     /* flags are in v->fl */
	u8 level;       /* enum unit_level of the unit it is to */
};

struct jit_unit {
	u64 at;            /* offset in the memfd */
	u64 pin;           /* pinned: linear address of the page; else 0 */
	u32 page;          /* index of the RAM page */
	u32 links, nlinks; /* outgoing: number of the first, how many */
	u32 incoming;      /* number of a link, or 0 */
	u64 granules;
	bool code32; /* of 32-bit code */
	u8 level;    /* enum unit_level */
	bool second; /* none: stands for twin in the page where that ends */
	u8 nslots;
	u16 slot[JIT_SLOTS];   /* entries of jit.map that may lead here */
	struct jit_unit *twin; /* of an instruction that crosses pages */
	u8 *entry_fl;          /* flags are in v->fl */
	u8 *entry_host;        /* flags are in the host's */
	struct jit_unit *hash_next, *page_next;
};

/* Branches look their target up here. */
struct jit_entry {
	u64 lin, key;
	const void *code;
	struct jit_unit *unit;
};

/* Why generated code was left. */
enum jit_exit {
	JIT_EXIT_POLL,     /* attention; go on at v->rip */
	JIT_EXIT_INDIRECT, /* the same, its target is not in jit.map */
	JIT_EXIT_LINK,  /* the same, and link v->jit_pending to what is there */
	JIT_EXIT_FAULT, /* a page fault was delivered; go on in its handler */
	/* From here on the instruction at v->rip is the interpreter's: */
	JIT_EXIT_OP,      /* there is no translation for it */
	JIT_EXIT_ACCESS,  /* its memory access is not plain */
	JIT_EXIT_VALUE,   /* it may fault with these operands */
	JIT_EXIT_SIMD,    /* v->jit_no_simd */
	JIT_EXIT_ADDRESS, /* it branches to a non-canonical address */
	JIT_EXIT_NONE,    /* never was in: there is no unit */
	JIT_EXITS,
	JIT_EXIT_INTERP = JIT_EXIT_OP,
};

/* Slow ways of memory accesses, by log2 of the size and direction. */
#define JIT_FILL_SIZES 6

/* Ways out of code; those with off take it in RCX, from the beginning of the
 * page, and all want live flags in v->fl. */
struct jit_ways {
	u8 *out[JIT_EXITS]; /* at off */
	u8 *link;           /* the link whose number is in RCX wants a target */
	u8 *pinned;         /* the same, of a pinned unit, to another page */
	u8 *other;          /* the link R11 has one, for another mapping */
};

/* How much is used of a part of the code cache, of the tables of units and of
 * links. What lies in one is dropped together (space.c). */
struct jit_segment {
	u32 units, links;
	size_t code;
};

struct jit {
	struct codebuf buf;
	/* Common code, made once; addresses in the writable view. */
	u8 *enter, *exit, *out[JIT_EXITS], *call, *branch;
	struct jit_ways way[2]; /* [1]: of 32-bit code */
	u8 *fill[2][JIT_FILL_SIZES];
	u8 *window[WINDOW_SPANS]; /* move v->window */
	struct jit_entry map[JIT_MAP_SIZE];
	struct jit_unit *hash[JIT_HASH_SIZE];
	struct jit_unit *pages[JIT_PAGE_HASH]; /* by page, through page_next */
	struct jit_unit *unit;                 /* by number; number 0 is none */
	struct jit_link *link;                 /* the same */
	struct jit_segment seg[JIT_SEGMENTS];
	struct jit_segment room; /* of each segment */
	unsigned now;            /* the segment that is being filled */
	struct unit u;           /* under translation */
	struct tr *tr;
	bool changed; /* units were dropped since this was last cleared */
	bool mapped;  /* there may be links of pinned units across pages */
	u32 remaps;   /* how often these were unlinked */
	struct lockstep *lock; /* NULL: not in lock step */
	/* Instructions left to the interpreter; any thread reads */
	u64 left[JIT_EXITS][X86_OPS];
	bool has[FEATURES]; /* of the host's CPU */
};

/* translate.c: writes j->u as a unit, for which there is room; false: it is
 * longer than any unit should be. */
bool jit_translate(struct soft_vcpu *v, struct jit *j, struct jit_unit *t);

/* exits.c: code was left; attention was set then. */
void jit_count(struct soft_vcpu *v, enum jit_exit why, bool attention);
unsigned jit_left(const struct soft_vcpu *v, struct vcpu_left *out,
		  unsigned max);

/* Runs generated code from there on; GS base is the vCPU. */
enum jit_exit jit_go(struct soft_vcpu *v, const void *code);

/* common.c: the code that all units share. */
bool jit_common(struct soft_vcpu *v, struct jit *j);

/* branch.c: what ways out share. */
void jit_common_ways(struct emit *e, const struct jit *j, struct jit_ways *w,
		     bool code32);

/* branch.c: to the linear address in RCX by way of the map; the flags are in
 * v->fl. */
u8 *jit_common_branch(struct emit *e, const struct jit *j);

/* call.c: the part of it that calls handlers; and after one has left by a
 * fault. */
u8 *jit_common_call(struct emit *e, struct soft_vcpu *v);
void jit_left_by_fault(struct soft_vcpu *v);

/* jit.c: the unit at v->rip under the present mapping, which becomes
 * v->code_page; or NULL. */
struct jit_unit *jit_lookup(struct soft_vcpu *v);
/* Whether vector instructions may not run as they are. */
u32 jit_no_simd(const struct soft_vcpu *v);

#endif
