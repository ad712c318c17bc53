/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Translation of linear addresses: SDM volume 3, chapter 4. 32-bit paging
 * (with PSE and PSE-36), PAE and 4-level paging; permissions, reserved bits,
 * accessed and dirty flags by compare-exchange on the guest's entry.
 *
 * An entry that lies outside RAM reads as all ones, as the bus would give.
 */
#include "cpu/soft/mmu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/soft/access.h"
#include "cpu/soft/undo.h"
#include "mem/mem.h"

#define PDPTE_RSVD (BIT64(1) | BIT64(2) | 0x1e0)

struct mmu_step {
	void *p; /* the entry in host memory, NULL: not RAM */
	gpa_t gpa;
	u64 val;
};

/* A finished walk. */
struct mmu_walk {
	struct mmu_step step[5]; /* by level; p NULL where not walked */
	unsigned leaf;           /* level of the leaf */
	u64 pte;                 /* the leaf, for its D and G */
	u64 size;                /* of the page */
	gpa_t gpa;               /* of lin's 4 KiB page */
	u32 perm;                /* PTE_W | PTE_U of all levels */
	bool nx;
};

#define WALK_OK (-1)

int mmu_init(struct soft_vcpu *v, struct err *e)
{
	struct soft_mmu *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (m == MAP_FAILED)
		return err_set(e, -ENOMEM, "no memory for a software TLB");
	pthread_mutex_init(&m->revoke_lock, NULL);
	m->apic_page = ~0ull;
	v->mmu = m;
	mmu_cr3_changed(v, false);
	mmu_mode_changed(v);
	return 0;
}

void mmu_fini(struct soft_vcpu *v)
{
	if (!v->mmu)
		return;
	pthread_mutex_destroy(&v->mmu->revoke_lock);
	munmap(v->mmu, sizeof(*v->mmu));
	v->mmu = NULL;
}

static void mmu_set_reserved(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;
	u64 high = 0xffffffffff000ull & ~m->addr_mask;
	bool lma = v->efer & EFER_LMA;

	if (!lma)
		high |= 0x7ffull << 52;
	if (!(v->efer & EFER_NXE))
		high |= PTE_NX;
	for (unsigned level = 1; level <= 4; level++)
		m->rsvd[level][0] = m->rsvd[level][1] = high;
	m->rsvd[4][0] |= PTE_PS;
	m->rsvd[3][1] |= 0x3fffe000;
	m->rsvd[2][1] |= 0x1fe000;
}

void mmu_mode_changed(struct soft_vcpu *v)
{
	unsigned bits = soft_engine_of(v)->phys_bits;

	v->mmu->addr_mask = (BIT64(bits) - 1) & ~PAGE_MASK;
	mmu_set_reserved(v);
	mmu_flush_all(v);
	mmu_cr3_changed(v, true);
}

static struct tlb_entry *mmu_made(struct mmu_tlb *t)
{
	if (unlikely(!t->made))
		tlb_make(t);
	return t->e;
}

void mmu_select(struct soft_vcpu *v)
{
	struct soft_mmu *m = v->mmu;

	enum mmu_kind kind = TLB_SUPER;

	if (v->cpl == 3)
		kind = TLB_USER;
	else if (v->rflags & RFLAGS_AC && v->cr4 & CR4_SMAP)
		kind = TLB_SUPER_AC;
	if (kind != m->kind) {
		m->window[m->kind] = v->window;
		v->window = m->window[kind];
		m->kind = kind;
	}
	/* With alignment checks on, every access takes the slow path. */
	v->tlb = mmu_made(v->mode & MODE_AC ? &m->none : &m->set->tlb[m->kind]);
	v->tlb_sys = mmu_made(&m->set->tlb[TLB_SUPER]);
}

bool mmu_load_pdptes(struct soft_vcpu *v, u64 cr3)
{
	u64 pdpte[4];
	u64 bad = PDPTE_RSVD | (~v->mmu->addr_mask & ~PAGE_MASK);

	if (!mem_read(soft_mem(v), cr3 & 0xffffffe0, pdpte, sizeof(pdpte)))
		memset(pdpte, 0, sizeof(pdpte));
	for (unsigned i = 0; i < 4; i++)
		if (pdpte[i] & PTE_P && pdpte[i] & bad)
			return false;
	memcpy(v->mmu->pdpte, pdpte, sizeof(pdpte));
	return true;
}

static inline u64 *mmu_table(struct soft_vcpu *v, gpa_t gpa)
{
	return mem_ptr(soft_mem(v), gpa, PAGE_SIZE);
}

/* The deepest start that the walk cache or CR3 knows; returns the level. */
static unsigned mmu_walk_start(struct soft_vcpu *v, gva_t lin,
			       struct mmu_walk *w, u64 **table, gpa_t *gpa)
{
	struct soft_mmu *m = v->mmu;
	struct mmu_pde *d = &m->set->pde[(lin >> 21) % MMU_WALKS];

	w->perm = PTE_W | PTE_U;
	w->nx = false;
	if (d->tag == lin >> 21) {
		w->perm = d->perm;
		w->nx = d->nx;
		*gpa = d->gpa;
		*table = d->table;
		return 1;
	}
	if (v->efer & EFER_LMA) {
		*gpa = v->cr3 & m->addr_mask;
		*table = mmu_table(v, *gpa);
		return 4;
	}
	*gpa = m->pdpte[lin >> 30 & 3] & m->addr_mask;
	*table = mmu_table(v, *gpa);
	return m->pdpte[lin >> 30 & 3] & PTE_P ? 2 : 0;
}

/* PAE and 4-level. WALK_OK or the P and RSVD bits of the error code. */
static int mmu_walk64(struct soft_vcpu *v, gva_t lin, struct mmu_walk *w)
{
	struct soft_mmu *m = v->mmu;
	u64 *table;
	gpa_t gpa;
	unsigned level = mmu_walk_start(v, lin, w, &table, &gpa);

	if (!level)
		return 0;
	for (unsigned l = level + 1; l <= 4; l++)
		w->step[l].p = NULL;
	for (;; level--) {
		unsigned shift = PAGE_SHIFT + 9 * (level - 1);
		unsigned n = lin >> shift & 511;
		u64 pte = ~0ull;
		bool leaf;

		if (likely(table != NULL))
			pte = __atomic_load_n(&table[n], __ATOMIC_RELAXED);
		if (!(pte & PTE_P))
			return 0;
		leaf = level == 1 || (level <= 3 && pte & PTE_PS);
		if (unlikely(pte & m->rsvd[level][leaf]))
			return PF_P | PF_RSVD;
		w->step[level] = (struct mmu_step){
			.p = table ? &table[n] : NULL,
			.gpa = gpa + n * 8,
			.val = pte,
		};
		w->perm &= (u32)pte;
		w->nx |= pte >> 63;
		gpa = pte & m->addr_mask;
		if (leaf) {
			w->leaf = level;
			w->size = BIT64(shift);
			w->gpa = (gpa & ~(w->size - 1)) |
				 (lin & (w->size - 1) & ~PAGE_MASK);
			return WALK_OK;
		}
		table = mmu_table(v, gpa);
	}
}

static u64 mmu_load32(struct soft_vcpu *v, gpa_t gpa, struct mmu_step *s)
{
	u32 *p = mem_ptr(soft_mem(v), gpa, 4);

	s->p = p;
	s->gpa = gpa;
	s->val = p ? __atomic_load_n(p, __ATOMIC_RELAXED) : 0xffffffff;
	return s->val;
}

static int mmu_walk32(struct soft_vcpu *v, gva_t lin, struct mmu_walk *w)
{
	u64 e = mmu_load32(v, (v->cr3 & 0xfffff000) + (lin >> 22) * 4,
			   &w->step[2]);

	w->step[1].p = w->step[3].p = w->step[4].p = NULL;
	w->nx = false;
	if (!(e & PTE_P))
		return 0;
	w->perm = (u32)e & (PTE_W | PTE_U);
	if (e & PTE_PS && v->cr4 & CR4_PSE) {
		u64 high = (e >> 13 & 0xff) << 32;

		if (e & BIT64(21) || high & ~v->mmu->addr_mask)
			return PF_P | PF_RSVD;
		w->leaf = 2;
		w->size = 4 * MIB;
		w->gpa = high | (e & 0xffc00000) | (lin & 0x3ff000);
		return WALK_OK;
	}
	e = mmu_load32(v, (e & 0xfffff000) + (lin >> 12 & 1023) * 4,
		       &w->step[1]);
	if (!(e & PTE_P))
		return 0;
	w->perm &= (u32)e;
	w->leaf = 1;
	w->size = PAGE_SIZE;
	w->gpa = e & 0xfffff000;
	return WALK_OK;
}

/* PF_P if the page is there but this access to it is not permitted. */
static inline bool mmu_permitted(const struct soft_vcpu *v,
				 const struct mmu_walk *w,
				 enum mmu_access access, enum mmu_kind kind)
{
	bool page_user = w->perm & PTE_U;

	if (access == MMU_EXEC) {
		if (w->nx)
			return false;
		return kind == TLB_USER ? page_user
					: !(page_user && v->cr4 & CR4_SMEP);
	}
	if (kind == TLB_USER)
		return page_user && (access == MMU_READ || w->perm & PTE_W);
	if (page_user && v->cr4 & CR4_SMAP && kind != TLB_SUPER_AC)
		return false;
	return access == MMU_READ || w->perm & PTE_W || !(v->cr0 & CR0_WP);
}

/* Sets bits in one entry. False: it changed meanwhile, walk again. */
static bool mmu_set_bits(struct soft_vcpu *v, struct mmu_step *s, u64 want,
			 bool wide)
{
	const struct mem_slot *slot;
	u64 val = s->val;
	u32 low = (u32)val;
	bool ok;

	if ((val & want) == want || !s->p)
		return true;
	slot = mem_find(soft_mem(v), s->gpa);
	if (!slot || slot->readonly)
		return true;
	if (wide)
		ok = __atomic_compare_exchange_n((u64 *)s->p, &val, val | want,
						 false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST);
	else
		ok = __atomic_compare_exchange_n(
			(u32 *)s->p, &low, low | (u32)want, false,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	if (!ok)
		return false;
	s->val |= want;
	if (unlikely(v->undo) && undo_has(v->undo, s->p))
		v->undo->walked = true;
	mem_written(soft_mem(v), s->gpa, wide ? 8 : 4);
	return true;
}

static bool mmu_set_accessed(struct soft_vcpu *v, struct mmu_walk *w,
			     bool write)
{
	bool wide = v->cr4 & CR4_PAE;

	for (unsigned level = 4; level >= w->leaf; level--) {
		u64 want = PTE_A;

		if (!w->step[level].p)
			continue;
		if (level == w->leaf && write)
			want |= PTE_D;
		if (!mmu_set_bits(v, &w->step[level], want, wide))
			return false;
	}
	return true;
}

static void mmu_remember_table(struct soft_vcpu *v, gva_t lin,
			       const struct mmu_walk *w)
{
	struct mmu_pde *d = &v->mmu->set->pde[(lin >> 21) % MMU_WALKS];
	gpa_t gpa;
	u64 *table;

	if (w->leaf != 1 || !(v->cr4 & CR4_PAE) || !w->step[2].p)
		return;
	gpa = w->step[2].val & v->mmu->addr_mask;
	table = mmu_table(v, gpa);
	if (!table)
		return;
	*d = (struct mmu_pde){
		.tag = lin >> 21,
		.table = table,
		.gpa = gpa,
		.perm = PTE_W | PTE_U,
		.nx = false,
	};
	for (unsigned level = 2; level <= 4; level++)
		if (w->step[level].p) {
			d->perm &= (u32)w->step[level].val;
			d->nx |= w->step[level].val >> 63;
		}
}

/* The whole page table walk; WALK_OK or the error code. */
static int mmu_walk(struct soft_vcpu *v, gva_t lin, enum mmu_access access,
		    enum mmu_kind kind, struct mmu_walk *w)
{
	u32 err = (access == MMU_WRITE ? PF_W : 0) |
		  (kind == TLB_USER ? PF_U : 0);
	int rc;

	if (access == MMU_EXEC &&
	    ((v->cr4 & CR4_PAE && v->efer & EFER_NXE) || v->cr4 & CR4_SMEP))
		err |= PF_I;
	do {
		if (v->cr4 & CR4_PAE)
			rc = mmu_walk64(v, lin, w);
		else
			rc = mmu_walk32(v, lin, w);
		if (rc != WALK_OK)
			return rc | (int)err;
		if (!mmu_permitted(v, w, access, kind))
			return (int)(err | PF_P);
	} while (unlikely(!mmu_set_accessed(v, w, access == MMU_WRITE)));
	mmu_remember_table(v, lin, w);
	w->pte = w->step[w->leaf].val;
	return WALK_OK;
}

/*
 * The usual miss: the page table is known, and the entry has its A bit, and D
 * if need be. Everything else is for mmu_walk().
 */
static inline bool mmu_walk_quick(struct soft_vcpu *v, gva_t lin,
				  enum mmu_access access, enum mmu_kind kind,
				  struct mmu_walk *w)
{
	const struct mmu_pde *d = &v->mmu->set->pde[(lin >> 21) % MMU_WALKS];
	u64 need = PTE_P | PTE_A | (access == MMU_WRITE ? PTE_D : 0);
	u64 pte;

	if (d->tag != lin >> 21)
		return false;
	pte = __atomic_load_n(&d->table[lin >> PAGE_SHIFT & 511],
			      __ATOMIC_RELAXED);
	if ((pte & need) != need || pte & v->mmu->rsvd[1][1])
		return false;
	w->perm = d->perm & (u32)pte;
	w->nx = d->nx | pte >> 63;
	w->gpa = pte & v->mmu->addr_mask;
	w->size = PAGE_SIZE;
	w->pte = pte;
	return mmu_permitted(v, w, access, kind);
}

/* Whether DR7 has a data breakpoint in this page. */
static bool mmu_watched(const struct soft_vcpu *v, gva_t lin)
{
	if (likely(!(v->dr7 & 0xff)))
		return false;
	for (unsigned i = 0; i < 4; i++)
		if (v->dr7 >> (2 * i) & 3 && v->dr7 >> (16 + 4 * i) & 1 &&
		    (v->dr[i] ^ lin) >> PAGE_SHIFT == 0)
			return true;
	return false;
}

bool mmu_may_write(struct soft_vcpu *v, const u8 *host)
{
	struct mem *m = soft_mem(v);
	u8 *attr = &m->attr[mem_page(m, host)];
	u8 old = __atomic_load_n(attr, __ATOMIC_SEQ_CST);

	if (!(old & (MEM_ATTR_WTAG | MEM_ATTR_CODE)))
		old = __atomic_fetch_or(attr, MEM_ATTR_WTAG, __ATOMIC_SEQ_CST);
	return !(old & MEM_ATTR_CODE);
}

/* Saves the second miss where a write tag needs no announcement. */
static bool mmu_has_wtag(struct soft_vcpu *v, const u8 *host)
{
	struct mem *m = soft_mem(v);

	return __atomic_load_n(&m->attr[mem_page(m, host)], __ATOMIC_SEQ_CST) &
	       MEM_ATTR_WTAG;
}

static void mmu_mark_dirty(struct mem *m, const u8 *host)
{
	unsigned long *dirty = __atomic_load_n(&m->dirty, __ATOMIC_ACQUIRE);
	u64 page = mem_page(m, host);

	if (dirty)
		__atomic_or_fetch(&dirty[page / 64], BIT64(page % 64),
				  __ATOMIC_RELAXED);
}

/* Makes the TLB entry for a page of RAM as far as the access allows. */
static inline void mmu_install(struct soft_vcpu *v, gva_t lin,
			       enum mmu_access access, enum mmu_kind kind,
			       const struct mmu_walk *w, struct mmu_page *page)
{
	gva_t base = lin & ~PAGE_MASK;
	struct tlb_entry e = {
		.tag_read = TLB_NONE,
		.tag_write = TLB_NONE,
		.tag_exec = TLB_NONE,
		.addend = (u64)page->host - base,
	};
	bool paging = v->cr0 & CR0_PG;
	bool global = paging && v->cr4 & CR4_PGE && w->pte & PTE_G;
	const struct tlb_entry *old = tlb_slot(v->mmu->set->tlb[kind].e, lin);
	bool dirty = !paging || w->pte & PTE_D;
	bool keep = !soft_mem(v)->dirty && mmu_has_wtag(v, page->host);
	bool watched = mmu_watched(v, lin);

	if (!watched && mmu_permitted(v, w, MMU_READ, kind))
		e.tag_read = base;
	if (access == MMU_EXEC) {
		e.tag_exec = base;
		tlb_fetched(v, kind, lin, global, w->size);
	} else if (old->tag_exec == base && old->addend == e.addend &&
		   mmu_permitted(v, w, MMU_EXEC, kind)) {
		e.tag_exec = base;
	}
	if (access == MMU_WRITE || keep) {
		if (!page->readonly && dirty && !mmu_may_write(v, page->host))
			page->code = true;
		else if (!page->readonly && dirty && !watched &&
			 mmu_permitted(v, w, MMU_WRITE, kind))
			e.tag_write = base;
	}
	page->writable = e.tag_write != TLB_NONE;
	if (unlikely(v->undo))
		e.tag_write = TLB_NONE;
	if (access == MMU_WRITE)
		mmu_mark_dirty(soft_mem(v), page->host);
	tlb_fill(v, kind, lin, &e, global, w->size);
}

/* What w found is installed, if it is RAM. */
static inline void mmu_reach(struct soft_vcpu *v, gva_t lin,
			     enum mmu_access access, enum mmu_kind kind,
			     const struct mmu_walk *w, struct mmu_page *page)
{
	const struct mem_slot *slot = mem_find(soft_mem(v), w->gpa);

	*page = (struct mmu_page){.gpa = w->gpa};
	if (!slot || w->gpa == v->mmu->apic_page)
		return;
	page->host = slot->host + (w->gpa - slot->gpa);
	page->readonly = slot->readonly;
	mmu_install(v, lin, access, kind, w, page);
}

void mmu_refill(struct soft_vcpu *v, gva_t lin)
{
	enum mmu_kind kind = v->mmu->kind;
	struct mmu_page page;
	struct mmu_walk w;

	if (v->cr0 & CR0_PG && mmu_walk_quick(v, lin, MMU_WRITE, kind, &w))
		mmu_reach(v, lin, MMU_WRITE, kind, &w, &page);
}

bool mmu_translate(struct soft_vcpu *v, gva_t lin, enum mmu_access access,
		   bool sys, struct mmu_page *page, u32 *error)
{
	enum mmu_kind kind = sys ? TLB_SUPER : v->mmu->kind;
	struct mmu_walk w;

	v->vcpu.stat[VCPU_STAT_TLB_MISS]++;
	if (v->cr0 & CR0_PG) {
		int rc = WALK_OK;

		if (!mmu_walk_quick(v, lin, access, kind, &w))
			rc = mmu_walk(v, lin, access, kind, &w);
		if (rc != WALK_OK) {
			*error = (u32)rc;
			return false;
		}
	} else {
		w = (struct mmu_walk){.gpa = lin & ~PAGE_MASK,
				      .size = PAGE_SIZE,
				      .perm = PTE_W | PTE_U};
	}
	mmu_reach(v, lin, access, kind, &w, page);
	return true;
}

void mmu_fault(struct soft_vcpu *v, gva_t lin, u32 error)
{
	v->cr2 = lin;
	soft_fault_err(v, VEC_PF, error);
}
