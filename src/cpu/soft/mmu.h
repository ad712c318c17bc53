/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU's private side: TLB sets, walks, invalidation (SDM volume 3,
 * chapter 4). Files that change control registers use the second half.
 *
 * A set holds the TLBs of one PCID: user, supervisor, and supervisor with
 * EFLAGS.AC (which SMAP makes different), and a cache of page directory
 * entries. There are a few sets, so that switching address spaces with PCIDs
 * drops nothing. Every set has its own copies of global pages.
 */
#ifndef CPU_SOFT_MMU_H
#define CPU_SOFT_MMU_H

#include "cpu/soft/soft.h"

enum mmu_kind { TLB_SUPER, TLB_USER, TLB_SUPER_AC, TLB_KINDS };

#define MMU_SETS   8
#define MMU_WALKS  64
#define MMU_REVOKE 32

struct mmu_tlb {
	/* The second half has what was displaced from the first; only who
	 * misses there looks. */
	struct tlb_entry e[2 * TLB_SIZE];
	u64 global[2 * TLB_SIZE / 64];
	u64 used[2 * TLB_SIZE / 64]; /* filled since last dropped; a bit each */
	bool second;                 /* there is something in the second half */
	bool made;                   /* else all zeros, untouched memory */
};

/* A page table that was reached: lin >> 21 and its host address. */
struct mmu_pde {
	u64 tag;
	u64 *table;
	gpa_t gpa;
	u32 perm; /* PTE_W | PTE_U of the levels above */
	bool nx;
};

/*
 * What was translated for fetching since gen was given: decoded code is found
 * by linear address and gen, so while neither a page in the filter is
 * invalidated nor, for CPL 0 to 2, the address space of pages that are not
 * global, gen stays.
 */
struct mmu_exec {
	u64 gen;       /* 0: a new one is due */
	u64 region[8]; /* filter: hash of lin >> 21 */
	bool giant;    /* by 1 GiB pages */
	bool local;    /* by pages that are not global */
};

struct mmu_set {
	struct mmu_tlb tlb[TLB_KINDS];
	struct mmu_pde pde[MMU_WALKS];
	u64 large[8];    /* filter: pieces of 2 and 4 MiB pages; tlb_hash() */
	u64 giant[8];    /* filter: of 1 GiB pages, by lin >> 30 */
	bool low_global; /* a global page in the lower half is cached */
	struct mmu_exec exec; /* user code */
	u64 used;             /* for LRU */
	u16 pcid;
	bool live;  /* holds translations of pcid */
	bool stale; /* must be flushed before use */
};

struct soft_mmu {
	struct mmu_set *set; /* of the current PCID */
	enum mmu_kind kind;  /* which v->tlb is */
	/* v->window of the other kinds */
	struct soft_window window[TLB_KINDS];
	u64 tick;
	u64 pdpte[4];         /* PAE */
	u64 rsvd[5][2];       /* reserved bits by level and "is a leaf" */
	u64 addr_mask;        /* physical address bits of an entry */
	gpa_t apic_page;      /* of the xAPIC, or ~0 */
	struct mmu_exec exec; /* code of CPL 0 to 2, in all address spaces */
	u64 gens;             /* given so far */
	u8 bounce[16] __attribute__((aligned(16)));
	pthread_mutex_t revoke_lock; /* the next two */
	u64 revoke[MMU_REVOKE];      /* host pages whose write tags go */
	unsigned revokes;            /* > MMU_REVOKE: all of them */
	struct mmu_tlb none;         /* never filled */
	struct mmu_set sets[MMU_SETS];
};

struct mmu_page {
	gpa_t gpa; /* of the page's first byte */
	u8 *host;  /* NULL: not RAM */
	bool code, readonly;
	bool writable; /* directly, without looking */
};

int mmu_init(struct soft_vcpu *v, struct err *e);
void mmu_fini(struct soft_vcpu *v);

/*
 * Translates and fills the TLB. False: the access faults; *error is the #PF
 * code. sys: implicit supervisor access.
 */
bool mmu_translate(struct soft_vcpu *v, gva_t lin, enum mmu_access access,
		   bool sys, struct mmu_page *page, u32 *error);
/*
 * Fills the TLB for stores to lin if that takes nothing else: the page table
 * is known, and accessed and dirty bits are set. At CPL.
 */
void mmu_refill(struct soft_vcpu *v, gva_t lin);
/* Announces a write tag; false if the page holds code and must not have one. */
bool mmu_may_write(struct soft_vcpu *v, const u8 *host);
NORETURN void mmu_fault(struct soft_vcpu *v, gva_t lin, u32 error);

/* Bytes at a guest physical address that is not RAM: APIC or cpu_ops. */
u64 mmu_phys_ld(struct soft_vcpu *v, gpa_t gpa, unsigned size);
void mmu_phys_st(struct soft_vcpu *v, gpa_t gpa, unsigned size, u64 val);

/* After CR0, CR4, EFER or APIC_BASE changed: drops everything. */
void mmu_mode_changed(struct soft_vcpu *v);
/* Points v->tlb at the right TLB for CPL and AC; by soft_update_mode(). */
void mmu_select(struct soft_vcpu *v);
/* v->cr3 is new. keep: bit 63 was set, nothing need be dropped. */
void mmu_cr3_changed(struct soft_vcpu *v, bool keep);
/* Loads and checks PDPTEs at cr3; false: #GP. */
bool mmu_load_pdptes(struct soft_vcpu *v, u64 cr3);
void mmu_flush_all(struct soft_vcpu *v);
/* The same; and gives the memory of all sets back to the host. */
void mmu_trim(struct soft_vcpu *v);
void mmu_flush_nonglobal(struct soft_vcpu *v); /* of all PCIDs */
void mmu_invlpg(struct soft_vcpu *v, gva_t lin);
void mmu_invpcid_addr(struct soft_vcpu *v, u16 pcid, gva_t lin);
void mmu_invpcid_single(struct soft_vcpu *v, u16 pcid);

/* Revocation (revoke.c): asks one vCPU to drop its write tags of host page,
 * of everything with NULL; wait: till it has, or is outside vcpu_run(). */
void mmu_revoke_post(struct soft_vcpu *w, const u8 *host);
void mmu_revoke_wait(struct soft_vcpu *self, struct soft_vcpu *w);
bool mmu_revoking(const struct soft_vcpu *w); /* asked, not yet answered */

/*
 * While stores are noted (v->undo): notes the whole page of lin and gives it a
 * write tag; false: it cannot have one. Then takes these tags away.
 */
bool mmu_note_page(struct soft_vcpu *v, gva_t lin);
void mmu_noted_pages_done(struct soft_vcpu *v);

/* TLB internals (tlb.c) for mmu.c and revoke.c */
void tlb_fill(struct soft_vcpu *v, enum mmu_kind kind, gva_t lin,
	      const struct tlb_entry *e, bool global, u64 size);
/* Before t is first used. */
void tlb_make(struct mmu_tlb *t);
/* lin was translated for fetching. */
void tlb_fetched(struct soft_vcpu *v, enum mmu_kind kind, gva_t lin,
		 bool global, u64 size);
void tlb_set_flush(struct soft_vcpu *v, struct mmu_set *s);
/* Empties v->window and those of other kinds: their pages may be others now. */
void tlb_window_drop(struct soft_vcpu *v);
void tlb_drop_write(struct soft_vcpu *v, struct mmu_set *s, const u8 *host);

#endif
