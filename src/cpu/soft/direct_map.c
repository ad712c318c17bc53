/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The mirror of a guest's page tables in a child: what is mapped there, by
 * regions of 2 MiB, and what becomes of it when TLB entries are dropped.
 *
 * A page that may stay is looked up in the guest's tables anew, as a CPU might
 * do with any translation it has dropped: if accessed is set and, for stores,
 * dirty, nothing need be written there.
 */
#include "cpu/soft/direct_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "cpu/direct/scan.h"
#include "cpu/soft/access.h"
#include "mem/mem.h"

/* Pages around one that had a fault, which are mapped with it. */
#define AROUND_PAGES 16u

/* ---- Regions ---- */

static u16 *region_slot(struct direct_space *s, u64 tag)
{
	u32 h = (u32)(tag ^ tag >> 14) & (DIRECT_HASH - 1);

	while (s->hash[h] && s->region[s->hash[h] - 1].tag != tag)
		h = (h + 1) & (DIRECT_HASH - 1);
	return &s->hash[h];
}

static struct direct_region *region_find(struct direct_space *s, gva_t lin)
{
	u16 n = *region_slot(s, lin >> 21);

	return n ? &s->region[n - 1] : NULL;
}

/* NULL: there are too many. */
static struct direct_region *region_get(struct direct_space *s, gva_t lin)
{
	u16 *slot = region_slot(s, lin >> 21);

	if (!*slot) {
		if (s->regions == DIRECT_REGIONS)
			return NULL;
		*slot = (u16)++s->regions;
		s->region[*slot - 1].tag = lin >> 21;
	}
	return &s->region[*slot - 1];
}

void direct_forget(struct direct_space *s)
{
	memset(s->region, 0, s->regions * sizeof(s->region[0]));
	memset(s->hash, 0, DIRECT_HASH * sizeof(s->hash[0]));
	s->regions = 0;
	s->ndrops = s->nhosts = 0;
	s->stale = false;
	s->set = NULL;
	s->vectors_known = false;
}

/* ---- The guest's tables ---- */

struct map_walk {
	const u64 *table; /* of 4 KiB pages, or NULL: */
	u64 leaf;         /* of a larger page, which begins before gpa */
	gpa_t gpa;        /* of the region */
	u32 perm;         /* of the levels above */
	bool nx;
};

#define WALK_NEED ((u64)(PTE_P | PTE_A))

/* For the region of lin; false: no page of it is to be had. */
static bool map_walk(struct soft_vcpu *v, gva_t lin, struct map_walk *w)
{
	const struct soft_mmu *m = v->mmu;
	gpa_t at = v->cr3 & m->addr_mask;

	*w = (struct map_walk){.perm = PTE_W | PTE_U};
	for (unsigned level = 4; level >= 2; level--) {
		unsigned shift = PAGE_SHIFT + 9 * (level - 1);
		const u64 *table = mem_ptr(soft_mem(v), at, PAGE_SIZE);
		bool leaf;
		u64 pte;

		if (!table)
			return false;
		pte = __atomic_load_n(&table[lin >> shift & 511],
				      __ATOMIC_RELAXED);
		leaf = level < 4 && pte & PTE_PS;
		if ((pte & WALK_NEED) != WALK_NEED ||
		    pte & m->rsvd[level][leaf])
			return false;
		w->perm &= (u32)pte;
		w->nx |= pte >> 63;
		at = pte & m->addr_mask;
		if (leaf) {
			u64 size = BIT64(shift);

			w->leaf = pte;
			w->gpa = (at & ~(size - 1)) |
				 (lin & (size - 1) & ~(2 * MIB - 1));
			return w->perm & PTE_U;
		}
	}
	w->table = mem_ptr(soft_mem(v), at, PAGE_SIZE);
	return w->table && w->perm & PTE_U;
}

static bool map_plain(struct soft_vcpu *v, const struct direct_space *s,
		      u64 page)
{
	u8 scan = v->direct->scan[page];

	return scan == SCAN_PLAIN || (scan == SCAN_CPUID && s->cpuid_faults);
}

/* The entry for its page n, which may be that of a larger page. */
static u64 map_pte(const struct map_walk *w, unsigned n)
{
	return w->table ? __atomic_load_n(&w->table[n], __ATOMIC_RELAXED)
			: w->leaf;
}

static bool map_executable(const struct map_walk *w, u64 pte)
{
	return !w->nx && !(pte >> 63);
}

/* What may be done with its page n, and where that is; 0: nothing. */
static u32 map_legal(struct soft_vcpu *v, const struct direct_space *s,
		     const struct map_walk *w, unsigned n)
{
	const struct soft_mmu *m = v->mmu;
	const struct mem_slot *slot;
	u64 pte = map_pte(w, n);
	gpa_t gpa = w->gpa + n * PAGE_SIZE;
	u32 rights = RIGHT_R;
	const u8 *host;

	if (w->table) {
		gpa = pte & m->addr_mask;
		if ((pte & (WALK_NEED | PTE_U)) != (WALK_NEED | PTE_U) ||
		    pte & m->rsvd[1][1])
			return 0;
	}
	slot = mem_find(soft_mem(v), gpa);
	if (!slot || gpa == m->apic_page)
		return 0;
	host = slot->host + (gpa - slot->gpa);
	if (w->perm & pte & PTE_W && pte & PTE_D && !slot->readonly &&
	    mmu_may_write(v, host))
		rights |= RIGHT_W;
	else if (map_executable(w, pte) &&
		 map_plain(v, s, mem_page(soft_mem(v), host)))
		rights |= RIGHT_X;
	return (u32)mem_page(soft_mem(v), host) << RIGHT_BITS | rights;
}

/* ---- Commands, of runs of pages that continue each other ---- */

struct map_run {
	struct direct_space *s;
	gva_t lin;
	u64 pages;
	u32 first; /* as in a region */
	int rc;
	unsigned seen, kept; /* pages looked at, still where they were */
};

static int map_prot(u32 entry)
{
	return (entry & RIGHT_R ? PROT_READ : 0) |
	       (entry & RIGHT_W ? PROT_WRITE : 0) |
	       (entry & RIGHT_X ? PROT_EXEC : 0);
}

static void run_end(struct map_run *r)
{
	u64 len = r->pages * PAGE_SIZE;

	if (!r->pages || r->rc)
		return;
	if (r->first)
		r->rc = dspace_map(r->s->child, r->lin, len,
				   (u64)(r->first >> RIGHT_BITS) << PAGE_SHIFT,
				   map_prot(r->first));
	else
		r->rc = dspace_unmap(r->s->child, r->lin, len);
	r->pages = 0;
}

static void run_add(struct map_run *r, gva_t lin, u32 *entry, u32 now)
{
	u32 next = r->first;

	*entry = now;
	if (next)
		next += (u32)r->pages << RIGHT_BITS;
	if (r->pages && lin == r->lin + r->pages * PAGE_SIZE && now == next) {
		r->pages++;
		return;
	}
	run_end(r);
	r->lin = lin;
	r->first = now;
	r->pages = 1;
}

/* ---- Mending ---- */

/* Rights that the page has already, and no others, as far as it may have
 * them; another page has all it may. */
static u32 map_kept(u32 old, u32 legal)
{
	u32 rights = legal & RIGHTS;

	if (old >> RIGHT_BITS == legal >> RIGHT_BITS)
		rights &= old;
	return rights ? (legal & ~(u32)RIGHTS) | rights : 0;
}

/* Pages [from, to) of the region. */
static void mend_region(struct soft_vcpu *v, struct map_run *r,
			struct direct_region *g, unsigned from, unsigned to)
{
	gva_t lin = g->tag << 21;
	struct map_walk w;
	bool any = map_walk(v, lin, &w);

	for (unsigned n = from; n < to; n++) {
		u32 old = g->page[n], now = 0;

		if (!old)
			continue;
		if (any)
			now = map_kept(old, map_legal(v, r->s, &w, n));
		r->seen++;
		r->kept += now && now >> RIGHT_BITS == old >> RIGHT_BITS;
		if (now != old)
			run_add(r, lin + n * PAGE_SIZE, &g->page[n], now);
	}
}

static void mend_drop(struct soft_vcpu *v, struct map_run *r,
		      const struct direct_drop *d)
{
	u64 size = BIT64(d->shift);
	gva_t lin = d->lin & ~(size - 1), end = lin + size;

	for (; lin < end; lin = (lin | (2 * MIB - 1)) + 1) {
		struct direct_region *g = region_find(r->s, lin);
		unsigned n = lin >> PAGE_SHIFT & (REGION_PAGES - 1);

		if (g)
			mend_region(v, r, g, n,
				    (unsigned)MIN(REGION_PAGES,
						  n + (size >> PAGE_SHIFT)));
	}
}

static bool mend_has(const struct direct_space *s, u32 entry)
{
	for (unsigned k = 0; k < s->nhosts; k++)
		if (s->host[k] == entry >> RIGHT_BITS)
			return true;
	return false;
}

/* Pages of RAM whose rights have become less. */
static void mend_hosts(struct soft_vcpu *v, struct map_run *r)
{
	struct direct_space *s = r->s;

	for (unsigned k = 0; k < s->regions; k++)
		for (unsigned n = 0; n < REGION_PAGES; n++)
			if (s->region[k].page[n] &&
			    mend_has(s, s->region[k].page[n]))
				mend_region(v, r, &s->region[k], n, n + 1);
}

/* ---- Faults ---- */

/* Where the page of lin is, to look at; NULL: nowhere. */
static const u8 *map_peek(struct soft_vcpu *v, gva_t lin)
{
	struct map_walk w;
	u64 pte;

	if (lin >= DSPACE_END || !map_walk(v, lin, &w))
		return NULL;
	lin &= 2 * MIB - 1;
	if (w.leaf)
		return mem_ptr(soft_mem(v), w.gpa + lin, PAGE_SIZE);
	pte = map_pte(&w, (unsigned)(lin >> PAGE_SHIFT));
	return pte & PTE_P ? mem_ptr(soft_mem(v), pte & v->mmu->addr_mask,
				     PAGE_SIZE)
			   : NULL;
}

/* The page at lin, with what is around it there. */
static u8 map_judge(const u8 *before, const u8 *page, const u8 *after)
{
	u8 buf[DIRECT_SCAN_BEFORE + PAGE_SIZE + DIRECT_SCAN_AFTER];

	if (before)
		memcpy(buf, before + PAGE_SIZE - DIRECT_SCAN_BEFORE,
		       DIRECT_SCAN_BEFORE);
	memcpy(buf + DIRECT_SCAN_BEFORE, page, PAGE_SIZE);
	if (after)
		memcpy(buf + DIRECT_SCAN_BEFORE + PAGE_SIZE, after,
		       DIRECT_SCAN_AFTER);
	if (direct_scan(buf + DIRECT_SCAN_BEFORE,
			before ? DIRECT_SCAN_BEFORE : 0,
			after ? DIRECT_SCAN_AFTER : 0))
		return SCAN_PLAIN;
	if (direct_scan_but_cpuid(buf + DIRECT_SCAN_BEFORE,
				  before ? DIRECT_SCAN_BEFORE : 0,
				  after ? DIRECT_SCAN_AFTER : 0))
		return SCAN_CPUID;
	return before && after ? SCAN_SENSITIVE : SCAN_UNSURE;
}

/* Decides about the RAM page's code; it is watched from now on. */
static void map_scan(struct soft_vcpu *v, gva_t lin, u64 page)
{
	u8 *known = &v->direct->scan[page];
	const u8 *before, *after;

	if (*known && *known != SCAN_UNSURE)
		return;
	before = map_peek(v, lin - PAGE_SIZE);
	after = map_peek(v, lin + PAGE_SIZE);
	if (*known == SCAN_UNSURE && (!before || !after))
		return;
	soft_code_hold(v, page, 0);
	*known = map_judge(before, soft_mem(v)->base + (page << PAGE_SHIFT),
			   after);
}

static void around_page(struct soft_vcpu *v, struct map_run *r,
			const struct map_walk *w, struct direct_region *g,
			unsigned n, bool code)
{
	u32 now = map_legal(v, r->s, w, n);

	if (code && now && !(now & RIGHT_W) &&
	    map_executable(w, map_pte(w, n))) {
		map_scan(v, (g->tag << 21) + n * PAGE_SIZE, now >> RIGHT_BITS);
		now = map_legal(v, r->s, w, n);
	}
	if (now != g->page[n])
		run_add(r, (g->tag << 21) + n * PAGE_SIZE, &g->page[n], now);
}

/* The region that has the child's own pages: nothing is mapped beside them. */
static bool map_in_stub(gva_t lin)
{
	return lin >> 21 == DSPACE_STUB >> 21;
}

/* The page of lin, and its neighbours if they are there. */
static int map_around(struct soft_vcpu *v, struct direct_space *s, gva_t lin,
		      bool code)
{
	struct map_run r = {.s = s};
	struct direct_region *g;
	unsigned n = lin >> PAGE_SHIFT & (REGION_PAGES - 1);
	unsigned from = n & ~(AROUND_PAGES - 1), to = from + AROUND_PAGES;
	struct map_walk w;

	if (lin >= DSPACE_END || map_in_stub(lin) || !map_walk(v, lin, &w))
		return 0;
	g = region_get(s, lin);
	if (!g)
		return -ENOSPC;
	if (w.leaf)
		from = 0, to = REGION_PAGES;
	for (unsigned k = from; k < to && !r.rc; k++)
		if (k == n || !g->page[k])
			around_page(v, &r, &w, g, k, code && k == n);
	run_end(&r);
	return r.rc;
}

static int map_failed(struct direct_space *s, int rc)
{
	direct_forget(s);
	return dspace_clear(s->child) ? -ESRCH : rc == -ESRCH ? rc : -EAGAIN;
}

int direct_mend(struct soft_vcpu *v, struct direct_space *s)
{
	struct map_run r = {.s = s};
	int rc;

	if (s->stale || s->set != v->mmu->set) {
		for (unsigned k = 0; k < s->regions; k++)
			mend_region(v, &r, &s->region[k], 0, REGION_PAGES);
		s->other = r.kept < r.seen / OTHER_PART;
	} else {
		for (unsigned k = 0; k < s->ndrops; k++)
			mend_drop(v, &r, &s->drop[k]);
		if (s->nhosts)
			mend_hosts(v, &r);
	}
	run_end(&r);
	s->stale = false;
	s->set = v->mmu->set;
	s->ndrops = s->nhosts = 0;
	rc = r.rc;
	if (!rc && s->pending)
		rc = map_around(v, s, s->pending, false);
	s->pending = 0;
	return rc ? map_failed(s, rc) : 0;
}

bool direct_is_code(struct direct_space *s, gva_t lin)
{
	const struct direct_region *g = region_find(s, lin);
	unsigned n = lin >> PAGE_SHIFT & (REGION_PAGES - 1);

	return g && g->page[n] & RIGHT_X;
}

u8 direct_scanned(struct soft_vcpu *v, struct direct_space *s, gva_t lin)
{
	const struct direct_region *g = region_find(s, lin);
	u32 entry = g ? g->page[lin >> PAGE_SHIFT & (REGION_PAGES - 1)] : 0;

	return entry ? v->direct->scan[entry >> RIGHT_BITS] : SCAN_UNKNOWN;
}

/* To mark a page as code may take others' marks, and so rights, away. */
int direct_code(struct soft_vcpu *v, struct direct_space *s, gva_t lin)
{
	int rc = 0;

	if (direct_is_code(s, lin))
		return true;
	rc = map_around(v, s, lin, true);
	if (rc)
		return map_failed(s, rc);
	if (s->stale || s->nhosts)
		rc = direct_mend(v, s);
	return rc ? rc : direct_is_code(s, lin);
}
