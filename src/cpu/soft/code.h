/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoded code of one vCPU: blocks of straight-line code, and the ways to
 * find them.
 *
 * A block is known by where its first byte lies in guest memory (offset in the
 * memfd) and by how it was decoded, so it outlives translations. From a linear
 * address it is found, fastest first, by
 *   1. link[] of the block before: direct branches within one page, which is
 *      the same physical page as long as it is executing;
 *   2. map[]: tagged with the linear address and v->code_key, which changes
 *      with every flush of the TLB and with mode and privilege;
 *   3. code_lookup(): translates, then looks in hash[].
 *
 * Memory of blocks is a bump arena, emptied as a whole when it is full. A
 * block whose code was overwritten is dropped at once: it is unlinked, and the
 * handlers of all its instructions are replaced by one that leaves it, so it
 * stops even if it is the one that runs.
 *
 * An instruction that crosses a page is a block of its own, flagged CROSS, and
 * only ever found by 3, which checks the second page's translation too.
 */
#ifndef CPU_SOFT_CODE_H
#define CPU_SOFT_CODE_H

#include "cpu/soft/access.h"

/* soft_block.key */
enum {
	BLOCK_CS64 = MODE_CS64,
	BLOCK_CS32 = MODE_CS32,
	BLOCK_VEX = MODE_PE,   /* protected and not VM86: VEX is allowed */
	BLOCK_SINGLE = BIT(8), /* one instruction, for the slow loop */
	BLOCK_CROSS = BIT(9),
	BLOCK_FLAT = BIT(10), /* RIP is linear, and no limit below the page */
};
#define BLOCK_KEY \
	(BLOCK_CS64 | BLOCK_CS32 | BLOCK_VEX | BLOCK_SINGLE | BLOCK_FLAT)

#define BLOCK_MAX_INSNS 64
#define BLOCK_MAX_SLOTS (2 * BLOCK_MAX_INSNS + 1)

struct soft_block {
	u64 at;                     /* offset in the memfd */
	struct soft_block *link[2]; /* successors: not taken, taken */
	struct soft_block *hash_next;
	struct soft_block *page_next;  /* in code_page.blocks */
	struct soft_block *cross_next; /* in code_page.crossing */
	u32 page2;                     /* CROSS: index of the second page */
	u16 key;                       /* BLOCK_* */
	u16 heat; /* entries until the translator is asked; 1: always */
	u16 len;  /* bytes */
	u8 n;     /* guest instructions */
	u8 slots; /* entries of insn[]; those with len 0 are no instructions */
	bool dropped;
	struct insn insn[];
};

/* Of addresses in tables: neighbours share cache lines. */
#define CODE_SHIFT     2
#define CODE_MAP_BITS  14
#define CODE_MAP_SIZE  BIT(CODE_MAP_BITS)
#define CODE_HASH_BITS 15
#define CODE_HASH_SIZE BIT(CODE_HASH_BITS)
#define CODE_PAGE_HASH 1024u
#define CODE_POSTS     32

struct code_entry {
	u64 tag;
	struct soft_block *block;
};

/* A RAM page that has (or had) decoded code here; counted in world. */
struct code_page {
	u32 page;
	u64 granules; /* bit n: bytes [64n, 64n + 64) are decoded */
	struct soft_block *blocks;   /* that begin here */
	struct soft_block *crossing; /* that end here */
	struct code_page *next;
};

/* Bytes of a page that were written by somebody else, not yet looked at. */
struct code_post {
	u32 page;
	u64 granules;
};

struct code_inbox {
	struct soft_vcpu *v; /* NULL: no vCPU here */
	unsigned n;
	bool all; /* too many: drop everything */
	struct code_post post[CODE_POSTS];
};

/* Entries of a block until the translator is asked once more, after it could
 * do nothing; the first time it is v->heat. */
#define SOFT_HEAT_AGAIN 4096
#define SOFT_HEAT_NEVER 0xffff

struct soft_code {
	struct soft_vcpu *v;
	struct code_entry map[CODE_MAP_SIZE];
	struct soft_block *hash[CODE_HASH_SIZE];
	struct code_page *page_hash[CODE_PAGE_HASH];
	u8 *arena;
	size_t arena_size, arena_used;
	struct code_page *pages; /* pool */
	unsigned npages, max_pages;
	bool feature[FEATURES]; /* that instructions may be of */
	struct mem *mem;
	struct code_world *world;
	struct soft_block *scratch; /* for code that is not in RAM */
	u64 flushes;
};

/* Tag of linear address lin; only for flat code, where it equals RIP. */
static inline u64 code_tag(const struct soft_vcpu *v, u64 lin)
{
	return (lin & (BIT64(48) - 1)) | v->code_key;
}

static inline struct code_entry *code_slot(const struct soft_vcpu *v, u64 lin)
{
	u64 h = lin ^ (lin >> CODE_MAP_BITS);

	return &v->code->map[h >> CODE_SHIFT & (CODE_MAP_SIZE - 1)];
}

/* The block at v->rip by a short look, or NULL. */
static inline struct soft_block *code_known(const struct soft_vcpu *v)
{
	const struct code_entry *e = code_slot(v, v->rip);

	if (likely(e->tag == code_tag(v, v->rip) && lin_canonical(v->rip) &&
		   !e->block->dropped))
		return e->block;
	return NULL;
}

/*
 * The block at v->rip, decoded now if need be; v->block is NULL meanwhile.
 * May leave by soft_fault(). single: of one instruction, not remembered.
 */
struct soft_block *code_lookup(struct soft_vcpu *v, bool single);

/* Drops every block; not while one runs. */
void code_flush(struct soft_code *c);

/* code_world.c: who else holds decoded code of a page */
void code_world_join(struct code_world *w, struct soft_vcpu *v);
void code_world_leave(struct code_world *w, struct soft_vcpu *v);
/* This vCPU begins to hold code of the page; true if it is the first. */
void code_world_hold(struct code_world *w, u64 page);
/* It holds none any more; the last one clears MEM_ATTR_CODE. */
void code_world_release(struct code_world *w, u64 page);
/* Tells all vCPUs but one (NULL: all) that hold code, and wakes them. */
void code_world_post(struct code_world *w, const struct soft_vcpu *but,
		     u64 page, u64 granules);
/* Takes what was posted; returns the count, or -1 for everything. */
int code_world_take(struct code_world *w, struct soft_vcpu *v,
		    struct code_post *out);
/* Whether another vCPU holds code of the page too. */
bool code_world_shared(struct code_world *w, u64 page, bool own);

#endif
