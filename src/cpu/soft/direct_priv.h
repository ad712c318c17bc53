/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of direct execution share. */
#ifndef CPU_SOFT_DIRECT_PRIV_H
#define CPU_SOFT_DIRECT_PRIV_H

#define _GNU_SOURCE
#include <sched.h>

#include "cpu/direct/dspace.h"
#include "cpu/soft/direct.h"

#define DIRECT_SPACES 8
#define DIRECT_NOTES  64

/* With less than this part of a space's pages left another program has it. */
#define OTHER_PART 4

/* What is mapped in 2 MiB: index of the RAM page and rights; 0: nothing. */
enum { RIGHT_R = 1, RIGHT_W = 2, RIGHT_X = 4, RIGHTS = 7, RIGHT_BITS = 3 };
#define REGION_PAGES   512
#define DIRECT_REGIONS 8192u
#define DIRECT_HASH    16384u
struct direct_region {
	u64 tag; /* lin >> 21 */
	u32 page[REGION_PAGES];
};

struct direct_drop {
	gva_t lin;
	unsigned shift;
};

/* A guest's address space and its child. */
struct direct_space {
	struct dspace *child; /* NULL: free */
	u64 cr3;              /* the table's address */
	u64 used;             /* for LRU */
	/* Where its TLB entries are; another set: all of it is to be looked
	 * at. The following is what else is. */
	const struct mmu_set *set;
	bool stale;
	bool other; /* so little is left that it is another program's */
	unsigned ndrops, nhosts;
	struct direct_drop drop[DIRECT_NOTES];
	u32 host[DIRECT_NOTES]; /* RAM pages */
	gva_t pending;          /* had a fault, is to be mapped; 0: none */
	struct direct_region *region; /* [DIRECT_REGIONS] */
	u16 *hash;                    /* [DIRECT_HASH]; region + 1 */
	unsigned regions;
	/* Policy: whether it is run, not before when (TSC); stops since it
	 * was last judged, and the child's CPU time then. */
	bool on;
	unsigned fails;
	u32 stops;
	u64 not_before, time;
	/* Whether CPUID faults; how often code stopped that waits for that. */
	bool cpuid_faults;
	u32 cpuid_stops;
	int cpu; /* the child's; -1: as allowed */
	/* What the child has of vectors, and its ID flag. */
	bool vectors_known;
	bool beyond; /* it has used vectors that the guest's CPU has not */
	u64 id;
	u8 vectors[DSPACE_XSAVE_SIZE];
};

/* CPUID: if that does not fault. UNSURE: because of what may be on the pages
 * around it. */
enum { SCAN_UNKNOWN, SCAN_PLAIN, SCAN_CPUID, SCAN_SENSITIVE, SCAN_UNSURE };

struct soft_direct {
	struct direct_space space[DIRECT_SPACES];
	struct direct_space *now; /* of the CR3 in use, or NULL */
	u8 *scan;                 /* SCAN_*, a byte a page of RAM */
	u64 scan_size;
	u64 tick;
	bool broken; /* the host does not permit it */
	u64 ms;      /* TSC ticks */
	/* soft_direct_sample(): what was seen last time */
	u64 sample_time, sample_cr3; /* CPU time of the thread, ns */
	u32 sample_exits, sample_hits;
	/* direct_place.c: one CPU for the thread and its children */
	cpu_set_t allowed; /* the thread's own */
	int cpu;           /* -1: as allowed */
	u64 placed;        /* TSC, since when */
};

/* direct_map.c. 0, or -errno: the child has nothing mapped any more. */
int direct_mend(struct soft_vcpu *v, struct direct_space *s);
/* Whether user code at lin can run in the child; maps it there. -errno. */
int direct_code(struct soft_vcpu *v, struct direct_space *s, gva_t lin);
/* Whether it does already. */
bool direct_is_code(struct direct_space *s, gva_t lin);
/* SCAN_* of the page, if it is mapped at all. */
u8 direct_scanned(struct soft_vcpu *v, struct direct_space *s, gva_t lin);
void direct_forget(struct direct_space *s);

/* direct_state.c */
bool direct_ready(const struct soft_vcpu *v);
bool direct_state_in(struct soft_vcpu *v, struct direct_space *s);
bool direct_state_out(struct soft_vcpu *v, struct direct_space *s);

/* direct_place.c */
void direct_place(struct soft_vcpu *v, struct direct_space *s);
void direct_unplace(struct soft_vcpu *v);

#endif
