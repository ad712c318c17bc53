/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The MMU by itself: permissions against a model written from the manual's
 * rules, error codes, accessed and dirty bits, all paging modes, accesses
 * across pages, invalidation, MMIO, code pages, dirty logging.
 */
#include <time.h>

#include "base/clock.h"
#include "cpu/soft/rig_test.h"

#define NO_FAULT 0x100

/* What an access came to: NO_FAULT, or vector and error code. */
struct outcome {
	unsigned vector;
	u32 error;
	u64 cr2, val;
};

enum { DO_LD, DO_ST, DO_EXEC, DO_LD_SYS, DO_ST_SYS };

static struct outcome try_access(struct rig *r, int what, gva_t lin,
				 unsigned size, u64 val)
{
	struct soft_vcpu *v = r->v;
	struct outcome o = {.vector = NO_FAULT};

	v->cr2 = 0;
	if (sigsetjmp(v->fault_env, 0)) {
		o.vector = v->fault_vector;
		o.error = v->fault_error;
		o.cr2 = v->cr2;
		return o;
	}
	switch (what) {
	case DO_LD: o.val = soft_ld(v, lin, size); break;
	case DO_ST: soft_st(v, lin, size, val); break;
	case DO_EXEC: o.val = (u64)soft_fetch(v, lin); break;
	case DO_LD_SYS: o.val = soft_ld_sys(v, lin, size); break;
	case DO_ST_SYS: soft_st_sys(v, lin, size, val); break;
	}
	return o;
}

/* Tables at 0x10000 up: PML4, PDPT, PD, PT for linear LIN. */
#define PML4 0x10000ull
#define LIN  0x12345678000ull /* any, with different indices */

static gpa_t entry_at(unsigned level)
{
	gpa_t table = PML4 + (4 - level) * PAGE_SIZE;

	return table + (LIN >> (12 + 9 * (level - 1)) & 511) * 8;
}

static void map_lin(struct rig *r, gpa_t page, u64 flags, u64 above)
{
	for (unsigned level = 4; level > 1; level--)
		rig_put(r, entry_at(level),
			(PML4 + (5 - level) * PAGE_SIZE) | above);
	rig_put(r, entry_at(1), page | flags);
	rig_put(r, entry_at(1) + 8, (page + PAGE_SIZE) | flags);
}

static void long_state(struct rig *r, unsigned cpl)
{
	struct cpu_state *s = &r->s;

	s->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET;
	s->cr3 = PML4;
	s->cr4 = CR4_PAE | CR4_PGE;
	s->efer = EFER_LME | EFER_LMA | EFER_NXE;
	rig_segments(r, rig_segment(8 | cpl, 0xa09b | cpl << 5, ~0u),
		     rig_segment(16 | cpl, 0xc093 | cpl << 5, ~0u));
}

static void load_state(struct rig *r)
{
	assert_int_equal(soft_engine.vcpu_set(r->vc, &r->s, NULL), 0);
}

/* ---- The whole matrix against the rules of SDM 4.6 ---- */

struct access_case {
	unsigned cpl;
	int what;
	bool ac, wp, smep, smap;
	bool u, w, nx;
};

static bool rule_allows(const struct access_case *c)
{
	bool sys = c->what >= DO_LD_SYS;
	bool user = c->cpl == 3 && !sys;
	bool write = c->what == DO_ST || c->what == DO_ST_SYS;

	if (c->what == DO_EXEC) {
		if (c->nx)
			return false;
		return user ? c->u : !(c->u && c->smep);
	}
	if (user)
		return c->u && (!write || c->w);
	if (c->u && c->smap && (sys || !c->ac))
		return false;
	return !write || c->w || !c->wp;
}

static u32 rule_error(const struct access_case *c)
{
	bool sys = c->what >= DO_LD_SYS;
	u32 e = PF_P;

	if (c->what == DO_ST || c->what == DO_ST_SYS)
		e |= PF_W;
	if (c->what == DO_EXEC)
		e |= PF_I;
	if (c->cpl == 3 && !sys)
		e |= PF_U;
	return e;
}

static void check_case(struct rig *r, const struct access_case *c)
{
	struct outcome o;
	u64 leaf = PTE_P | (c->w ? PTE_W : 0) | (c->u ? PTE_U : 0) |
		   (c->nx ? PTE_NX : 0);

	long_state(r, c->cpl);
	if (!c->wp)
		r->s.cr0 &= ~CR0_WP;
	r->s.cr4 |= (c->smep ? CR4_SMEP : 0) | (c->smap ? CR4_SMAP : 0);
	r->s.rflags = RFLAGS_FIXED | (c->ac ? (u64)RFLAGS_AC : 0);
	map_lin(r, 0x200000, leaf, PTE_P | PTE_W | PTE_U);
	load_state(r);
	/* twice: through the walk, and through the TLB */
	for (unsigned i = 0; i < 2; i++) {
		o = try_access(r, c->what, LIN + 8, 8, 5);
		if (rule_allows(c)) {
			assert_int_equal(o.vector, NO_FAULT);
			continue;
		}
		assert_int_equal(o.vector, VEC_PF);
		assert_int_equal(o.error, rule_error(c));
		assert_int_equal(o.cr2, LIN + 8);
	}
}

static void test_matrix(void **state)
{
	for (unsigned n = 0; n < 2 * 5 * 128; n++) {
		struct access_case c = {
			.cpl = n & 1 ? 3 : 0,
			.ac = n >> 1 & 1,
			.wp = n >> 2 & 1,
			.smep = n >> 3 & 1,
			.smap = n >> 4 & 1,
			.u = n >> 5 & 1,
			.w = n >> 6 & 1,
			.nx = n >> 7 & 1,
			.what = (int)(n >> 8),
		};

		check_case(*state, &c);
	}
}

/* ---- Errors at each level ---- */

static void test_not_present(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	for (unsigned level = 4; level >= 1; level--) {
		long_state(r, 3);
		map_lin(r, 0x200000, 7, 7);
		rig_put(r, entry_at(level),
			rig_get(r, entry_at(level)) & ~1ull);
		load_state(r);
		o = try_access(r, DO_LD, LIN, 1, 0);
		assert_int_equal(o.vector, VEC_PF);
		assert_int_equal(o.error, PF_U);
		o = try_access(r, DO_ST_SYS, LIN + 5, 1, 0);
		assert_int_equal(o.error, PF_W);
		assert_int_equal(o.cr2, LIN + 5);
	}
}

static void test_reserved(void **state)
{
	struct rig *r = *state;
	unsigned bits = soft_engine_of(r->v)->phys_bits;
	struct outcome o;

	for (unsigned level = 4; level >= 1; level--) {
		long_state(r, 0);
		map_lin(r, 0x200000, 7, 7);
		rig_put(r, entry_at(level),
			rig_get(r, entry_at(level)) | BIT64(bits));
		load_state(r);
		o = try_access(r, DO_ST, LIN, 4, 0);
		assert_int_equal(o.vector, VEC_PF);
		assert_int_equal(o.error, PF_P | PF_W | PF_RSVD);
	}
	/* NX is reserved without EFER.NXE; bits 62:52 are free */
	map_lin(r, 0x200000, 7 | PTE_NX, 7);
	r->s.efer &= ~EFER_NXE;
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 4, 0).error, PF_P | PF_RSVD);
	map_lin(r, 0x200000, 7 | 0x7ffull << 52, 7);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 4, 0).vector, NO_FAULT);
	/* a page table outside of memory reads as all ones */
	rig_put(r, entry_at(2), 0x40000000 | 7);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 4, 0).error, PF_P | PF_RSVD);
}

/* ---- Accessed and dirty ---- */

static u64 flags_of(struct rig *r, unsigned level)
{
	return rig_get(r, entry_at(level)) & (PTE_A | PTE_D);
}

static void test_accessed_dirty(void **state)
{
	struct rig *r = *state;

	long_state(r, 3);
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	try_access(r, DO_LD, LIN, 4, 0);
	for (unsigned level = 4; level >= 1; level--)
		assert_int_equal(flags_of(r, level), PTE_A);
	try_access(r, DO_ST, LIN, 4, 1);
	assert_int_equal(flags_of(r, 1), PTE_A | PTE_D);
	assert_int_equal(flags_of(r, 2), PTE_A);
	/* a store that faults sets neither */
	map_lin(r, 0x200000, PTE_P | PTE_U, 7);
	load_state(r);
	try_access(r, DO_ST, LIN, 4, 1);
	assert_int_equal(flags_of(r, 1), 0);
	/* cleared by the guest, then flushed: set again */
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	try_access(r, DO_ST, LIN, 4, 1);
	rig_put(r, entry_at(1), 0x200000 | 7);
	mmu_invlpg(r->v, LIN);
	try_access(r, DO_LD, LIN, 4, 0);
	assert_int_equal(flags_of(r, 1), PTE_A);
}

/* ---- Page sizes and modes ---- */

static void test_large_pages(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	map_lin(r, 0, 7, 7);
	rig_put(r, entry_at(2), 0x400000 | 0x83); /* 2 MiB */
	rig_put(r, 0x400000 + (LIN & 0x1fffff), 0x1111);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 0x1111);
	try_access(r, DO_ST, LIN, 8, 1);
	assert_int_equal(flags_of(r, 2), PTE_A | PTE_D);
	/* INVLPG of another address in the page drops this one too */
	rig_put(r, entry_at(2), 0x600000 | 0x83);
	rig_put(r, 0x600000 + (LIN & 0x1fffff), 0x2222);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
	mmu_invlpg(r->v, LIN ^ 0x100000);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 0x2222);
	rig_put(r, entry_at(2), 0x400000 | 0x2083); /* bit 13 is reserved */
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).error, PF_P | PF_RSVD);
	rig_put(r, entry_at(3), 0x83); /* 1 GiB at 0: RAM, then nothing */
	rig_put(r, LIN & 0x3fffffff & (RIG_MEM - 1), 0);
	load_state(r);
	assert_int_equal(
		try_access(r, DO_LD, LIN & ~0x3fffffffull, 8, 0).vector,
		NO_FAULT);
}

static void test_32_bit(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	long_state(r, 3);
	r->s.cr4 = CR4_PSE;
	r->s.efer = 0;
	r->s.seg[SEG_CS].attr = 0xc0fb;
	r->s.cr3 = 0x20000;
	rig_put32(r, 0x20000, 0x21000 | 7);
	rig_put32(r, 0x20004, 0x400000 | 0x87);     /* 4 MiB */
	rig_put32(r, 0x20008, 0x400000 | 0x200087); /* bit 21 is reserved */
	rig_put32(r, 0x21004, 0x300000 | 5);
	load_state(r);
	rig_put(r, 0x300010, 0x33);
	rig_put(r, 0x412340, 0x44);
	assert_int_equal(try_access(r, DO_LD, 0x1010, 8, 0).val, 0x33);
	assert_int_equal(try_access(r, DO_LD, 0x412340, 8, 0).val, 0x44);
	assert_int_equal(try_access(r, DO_ST, 0x1010, 4, 0).error,
			 PF_P | PF_W | PF_U);
	o = try_access(r, DO_EXEC, 0x2000, 1, 0);
	assert_int_equal(o.error, PF_U); /* no I bit without NX or SMEP */
	assert_int_equal(try_access(r, DO_LD, 0x800000, 1, 0).error,
			 PF_P | PF_U | PF_RSVD);
	try_access(r, DO_ST, 0x412340, 4, 9);
	assert_int_equal(rig_get(r, 0x20004) & 0xffffffff,
			 0x400000 | 0x87 | PTE_A | PTE_D);
}

static void test_pae(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	r->s.efer = EFER_NXE;
	r->s.seg[SEG_CS].attr = 0xc09b;
	r->s.cr3 = 0x20020; /* 32-byte aligned */
	rig_put(r, 0x20020, 0x21000 | 1);
	rig_put(r, 0x21000, 0x22000 | 7);
	rig_put(r, 0x22008, 0x300000 | 7 | PTE_NX);
	rig_put(r, 0x300000, 0x55);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, 0x1000, 8, 0).val, 0x55);
	assert_int_equal(try_access(r, DO_EXEC, 0x1000, 1, 0).error,
			 PF_P | PF_I);
	assert_int_equal(try_access(r, DO_LD, 0x40000000, 1, 0).error, 0);
	/* PDPTEs are loaded with CR3 and not looked at again */
	rig_put(r, 0x20020, 0);
	mmu_flush_all(r->v);
	assert_int_equal(try_access(r, DO_LD, 0x1000, 8, 0).val, 0x55);
	rig_put(r, 0x20020, 0x21000 | 3); /* R/W is reserved in a PDPTE */
	assert_false(mmu_load_pdptes(r->v, 0x20020));
}

/* ---- Accesses across pages ---- */

static void test_crossing(void **state)
{
	struct rig *r = *state;
	struct outcome o;

	long_state(r, 0);
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	rig_put(r, 0x200ffc, 0x8877665544332211);
	assert_int_equal(try_access(r, DO_LD, LIN + 0xffc, 8, 0).val,
			 0x8877665544332211);
	try_access(r, DO_ST, LIN + 0xffb, 8, 0x0102030405060708);
	assert_int_equal(rig_get(r, 0x200ffb), 0x0102030405060708);
	/* the second page is absent: nothing of the first is written */
	rig_put(r, entry_at(1) + 8, 0);
	mmu_invlpg(r->v, LIN + PAGE_SIZE);
	rig_put(r, 0x200ff8, 0);
	o = try_access(r, DO_ST, LIN + 0xffc, 8, ~0ull);
	assert_int_equal(o.vector, VEC_PF);
	assert_int_equal(o.error, PF_W);
	assert_int_equal(o.cr2, LIN + PAGE_SIZE);
	assert_int_equal(rig_get(r, 0x200ff8), 0);
	/* both absent: the first one is reported */
	rig_put(r, entry_at(1), 0);
	mmu_invlpg(r->v, LIN);
	o = try_access(r, DO_ST, LIN + 0xffc, 8, ~0ull);
	assert_int_equal(o.cr2, LIN + 0xffc);
}

static void test_mmio(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	map_lin(r, RIG_MMIO, 7, 7);
	rig_put(r, entry_at(1) - 8, 0x200000 | 7); /* RAM before it */
	load_state(r);
	r->mmio[0] = 0x1122334455667788;
	assert_int_equal(try_access(r, DO_LD, LIN, 4, 0).val, 0x55667788);
	assert_int_equal(r->mmio_reads, 1);
	try_access(r, DO_ST, LIN + 8, 2, 0xabcd);
	assert_int_equal(r->mmio[1], 0xabcd);
	assert_int_equal(r->mmio_len, 2);
	assert_int_equal(r->mmio_last, RIG_MMIO + 8);
	/* 6 bytes of RAM, 2 of MMIO */
	try_access(r, DO_ST, LIN - 6, 8, 0xeeff000000000001);
	assert_int_equal(r->mmio_last, RIG_MMIO);
	assert_int_equal(r->mmio_len, 2);
	assert_int_equal(r->mmio[0] & 0xffff, 0xeeff);
	assert_int_equal(rig_get(r, 0x200ffa) & 0xffffffffffff, 1);
	assert_null(soft_host(r->v, LIN, 4, MMU_READ));
}

/* ---- PCIDs and global pages ---- */

static void set_cr3(struct rig *r, u64 val)
{
	if (sigsetjmp(r->v->fault_env, 0))
		fail_msg("fault %u", r->v->fault_vector);
	sys_set_cr3(r->v, val);
}

/* A change of the entry that is not announced: is it seen? */
static u64 after_silent_change(struct rig *r, gpa_t page, u64 flags)
{
	rig_put(r, entry_at(1), page | flags);
	return try_access(r, DO_LD, LIN, 8, 0).val;
}

static void test_pcid(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	r->s.cr4 |= CR4_PCIDE;
	r->s.cr3 = PML4 | 1;
	map_lin(r, 0x200000, 7, 7);
	rig_put(r, 0x200000, 1);
	rig_put(r, 0x300000, 2);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
	set_cr3(r, PML4 | 2);
	assert_int_equal(after_silent_change(r, 0x300000, 7), 2);
	/* back without a flush: PCID 1 still has its translation */
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
	assert_int_equal(r->v->cr3, PML4 | 1);
	/* with a flush it has not */
	set_cr3(r, PML4 | 1);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 2);
	/* INVPCID of another PCID's address, seen on return */
	set_cr3(r, PML4 | 2 | BIT64(63));
	rig_put(r, entry_at(1), 0x200000 | 7);
	mmu_invpcid_addr(r->v, 1, LIN);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 2);
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
}

static void test_many_pcids(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	r->s.cr4 |= CR4_PCIDE;
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	/* more than there are sets: each use must be right all the same */
	for (u64 i = 0; i < 100; i++) {
		u64 pcid = 1 + i * 7 % 20;

		set_cr3(r, PML4 | pcid);
		rig_put(r, 0x200000, i);
		assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, i);
	}
}

static void test_global(void **state)
{
	struct rig *r = *state;

	long_state(r, 0);
	map_lin(r, 0x200000, 7 | PTE_G, 7);
	rig_put(r, 0x200000, 1);
	rig_put(r, 0x300000, 2);
	load_state(r);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
	set_cr3(r, PML4);
	assert_int_equal(after_silent_change(r, 0x300000, 7), 1);
	mmu_invlpg(r->v, LIN);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 2);
	/* not global now: gone with CR3 */
	assert_int_equal(after_silent_change(r, 0x200000, 7), 2);
	set_cr3(r, PML4);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 1);
}

/* ---- Generations of translations for fetching ---- */

static u64 fetch_gen(struct rig *r, gva_t lin)
{
	assert_int_equal(try_access(r, DO_EXEC, lin, 1, 0).vector, NO_FAULT);
	return r->v->fetch_gen[r->v->cpl == 3];
}

static void test_fetch_gen(void **state)
{
	struct rig *r = *state;
	u64 gen;

	long_state(r, 3);
	r->s.cr4 |= CR4_PCIDE;
	r->s.cr3 = PML4 | 1;
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	gen = fetch_gen(r, LIN);
	/* data elsewhere is invalidated: nothing to do with code */
	mmu_invlpg(r->v, LIN + 64 * MIB);
	assert_int_equal(fetch_gen(r, LIN), gen);
	/* another PCID and back */
	set_cr3(r, PML4 | 2);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_int_equal(fetch_gen(r, LIN), gen);
	/* flushed, or the page itself invalidated, also from afar */
	set_cr3(r, PML4 | 1);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
	gen = fetch_gen(r, LIN);
	mmu_invlpg(r->v, LIN);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
	gen = fetch_gen(r, LIN);
	set_cr3(r, PML4 | 2 | BIT64(63));
	mmu_invpcid_addr(r->v, 1, LIN);
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_int_not_equal(fetch_gen(r, LIN), gen);
}

/* What was cached is gone, also of other address spaces, and found again. */
static void test_trim(void **state)
{
	struct rig *r = *state;
	u64 gen;

	long_state(r, 3);
	r->s.cr4 |= CR4_PCIDE;
	r->s.cr3 = PML4 | 1;
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	gen = fetch_gen(r, LIN);
	assert_int_equal(try_access(r, DO_ST, LIN, 8, 5).vector, NO_FAULT);
	set_cr3(r, PML4 | 2);
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 5);
	mmu_trim(r->v);
	map_lin(r, 0x201000, 7, 7);
	assert_int_equal(try_access(r, DO_ST, LIN, 8, 6).vector, NO_FAULT);
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_int_equal(try_access(r, DO_LD, LIN, 8, 0).val, 6);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
	assert_int_equal(tlb_slot(r->v->tlb, 0)->tag_read, TLB_NONE);
}

static void test_fetch_gen_kernel(void **state)
{
	struct rig *r = *state;
	u64 gen;

	long_state(r, 0);
	map_lin(r, 0x200000, 3 | PTE_G, 3);
	load_state(r);
	gen = fetch_gen(r, LIN);
	set_cr3(r, PML4); /* only global code: it stays */
	assert_int_equal(fetch_gen(r, LIN), gen);
	mmu_invlpg(r->v, LIN + PAGE_SIZE);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
	rig_put(r, entry_at(1) + 8, 0x201000 | 3);
	gen = fetch_gen(r, LIN + PAGE_SIZE); /* not global */
	set_cr3(r, PML4);
	assert_int_not_equal(fetch_gen(r, LIN), gen);
}

/* None comes twice, in the short form neither while the first may be known. */
static void test_fetch_gen_wraps(void **state)
{
	struct rig *r = *state;
	u64 gen, last = 0;

	long_state(r, 3);
	r->s.cr4 |= CR4_PCIDE;
	r->s.cr3 = PML4 | 1;
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	gen = fetch_gen(r, LIN);
	for (unsigned i = 0; i < 2 * FETCH_GENS; i++) {
		set_cr3(r, PML4 | 2);
		assert_true(fetch_gen(r, LIN) > last);
		last = fetch_gen(r, LIN);
		assert_int_not_equal(last % FETCH_GENS, 0);
	}
	set_cr3(r, PML4 | 1 | BIT64(63));
	assert_true(fetch_gen(r, LIN) > gen + FETCH_GENS);
}

/* ---- Segments ---- */

static void test_canonical(void **state)
{
	struct rig *r = *state;
	struct soft_vcpu *v = r->v;

	long_state(r, 0);
	r->s.seg[SEG_FS].base = 0x7ffffffff000;
	load_state(r);
	if (sigsetjmp(v->fault_env, 0))
		fail_msg("fault %u", v->fault_vector);
	assert_int_equal(soft_lin(v, SEG_DS, 0x7fffffffffff, 1, MMU_READ),
			 0x7fffffffffff);
	assert_int_equal(soft_lin(v, SEG_FS, 8, 8, MMU_READ), 0x7ffffffff008);
	for (volatile unsigned i = 0; i < 3; i++) {
		static const u8 seg[] = {SEG_DS, SEG_FS, SEG_SS};
		static const u64 off[] = {0x7fffffffffff, 0x1000,
					  0x800000000000};

		if (sigsetjmp(v->fault_env, 0)) {
			assert_int_equal(v->fault_vector,
					 seg[i] == SEG_SS ? VEC_SS : VEC_GP);
			assert_int_equal(v->fault_error, 0);
			continue;
		}
		soft_lin(v, seg[i], off[i], 2, MMU_READ);
		fail_msg("no fault");
	}
}

struct limit_case {
	u32 attr, limit, off;
	unsigned size;
	enum mmu_access access;
	bool ok;
};

static void test_limits(void **state)
{
	static const struct limit_case cases[] = {
		{0xc093, 0xffff, 0xfffc, 4, MMU_READ, true},
		{0xc093, 0xffff, 0xfffd, 4, MMU_READ, false},
		{0x4091, 0xffff, 0, 4, MMU_WRITE, false}, /* read-only */
		{0x409b, 0xffff, 0, 4, MMU_READ, true},
		{0x4099, 0xffff, 0, 4, MMU_READ, false}, /* execute-only */
		{0x409b, 0xffff, 0, 4, MMU_WRITE, false},
		/* expand-down: above the limit, to 64 KiB or 4 GiB */
		{0x4097, 0xfff, 0xfff, 1, MMU_READ, false},
		{0x4097, 0xfff, 0x1000, 1, MMU_READ, true},
		{0x4097, 0xfff, 0xffffffff, 1, MMU_READ, true},
		{0x4097, 0xfff, 0xffffffff, 2, MMU_READ, false},
		{0x0097, 0xfff, 0x10000, 1, MMU_READ, false},
		{0x0097, 0xfff, 0xffff, 1, MMU_WRITE, true},
		{0x10000, 0xffffffff, 0, 1, MMU_READ, false}, /* null */
	};
	struct rig *r = *state;
	struct soft_vcpu *v = r->v;

	r->s.cr0 = CR0_PE | CR0_ET;
	for (volatile unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		const struct limit_case *c = &cases[i];
		volatile bool faulted = true;

		rig_segments(r, rig_segment(8, 0xc09b, ~0u),
			     rig_segment(16, c->attr, c->limit));
		r->s.seg[SEG_DS].base = 0x100000;
		load_state(r);
		if (!sigsetjmp(v->fault_env, 0)) {
			gva_t lin =
				soft_lin(v, SEG_DS, c->off, c->size, c->access);

			faulted = false;
			assert_int_equal(lin, (u32)(0x100000 + c->off));
		}
		if (faulted == c->ok)
			fail_msg("case %u", i);
	}
}

/* ---- Atomics, code pages, dirty log ---- */

static void test_atomic(void **state)
{
	struct rig *r = *state;
	struct soft_vcpu *v = r->v;
	u64 *p;

	long_state(r, 0);
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	if (sigsetjmp(v->fault_env, 0))
		fail_msg("fault %u", v->fault_vector);
	rig_put(r, 0x200000, 5);
	p = soft_atomic_begin(v, LIN, 8);
	assert_ptr_equal(p, mem_ptr(&r->mem, 0x200000, 8));
	__atomic_add_fetch(p, 1, __ATOMIC_SEQ_CST);
	soft_atomic_end(v, LIN, 8, p);
	assert_int_equal(rig_get(r, 0x200000), 6);
	rig_put(r, 0x200ffc, 0xffffffff);
	p = soft_atomic_begin(v, LIN + 0xffc, 8);
	assert_int_equal(*p, 0xffffffff);
	*p += 1;
	soft_atomic_end(v, LIN + 0xffc, 8, p);
	assert_int_equal(rig_get(r, 0x200ffc), 0x100000000);
}

static bool page_dirty(struct rig *r, u64 page)
{
	unsigned long bits[RIG_MEM / PAGE_SIZE / 64];

	soft_engine.dirty_sync(r->g, NULL);
	mem_dirty_collect(&r->mem, bits);
	return bits[page / 64] >> (page % 64) & 1;
}

static void test_dirty_log(void **state)
{
	struct rig *r = *state;
	struct err e;

	long_state(r, 0);
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	try_access(r, DO_ST, LIN, 8, 1); /* a write tag from before */
	assert_int_equal(mem_dirty_start(&r->mem, &e), 0);
	assert_int_equal(soft_engine.dirty_start(r->g, &e), 0);
	page_dirty(r, 0x200);
	assert_false(page_dirty(r, 0x200));
	try_access(r, DO_LD, LIN, 8, 0);
	assert_false(page_dirty(r, 0x200));
	try_access(r, DO_ST, LIN, 8, 2);
	/* stored to again after collecting, with the tag still there */
	mem_dirty_collect(&r->mem, (unsigned long[32]){0});
	try_access(r, DO_ST, LIN + 8, 8, 3);
	assert_true(page_dirty(r, 0x200));
	assert_false(page_dirty(r, 0x200));
	mem_dirty_stop(&r->mem);
	soft_engine.dirty_stop(r->g);
}

static void test_code_page(void **state)
{
	struct rig *r = *state;
	u64 page = 0x200;

	long_state(r, 0);
	map_lin(r, 0x200000, 7, 7);
	load_state(r);
	try_access(r, DO_ST, LIN, 8, 1);
	assert_non_null(soft_host(r->v, LIN, 8, MMU_WRITE));
	mmu_mark_code(r->v, page);
	assert_true(r->mem.attr[page] & MEM_ATTR_CODE);
	assert_null(soft_host(r->v, LIN, 8, MMU_WRITE));
	assert_non_null(soft_host(r->v, LIN, 8, MMU_READ));
	try_access(r, DO_ST, LIN, 8, 7);
	assert_int_equal(rig_get(r, 0x200000), 7);
}

/* ---- Speed: not asserted beyond the absurd; printed ---- */

static void test_miss_speed(void **state)
{
	enum { PAGES = 512, ROUNDS = 200 };
	struct rig *r = *state;
	u64 start, ns, sum = 0;

	long_state(r, 0);
	map_lin(r, 0x200000, 7, 7);
	for (unsigned i = 0; i < PAGES; i++)
		rig_put(r, (entry_at(1) & ~PAGE_MASK) + i * 8,
			(0x200000 + i * PAGE_SIZE) | 0x67);
	load_state(r);
	start = clock_ns();
	for (unsigned n = 0; n < ROUNDS; n++) {
		mmu_flush_all(r->v);
		for (unsigned i = 0; i < PAGES; i++)
			sum += soft_ld(r->v,
				       (LIN & ~0x1fffffull) + i * PAGE_SIZE, 8);
	}
	ns = clock_ns() - start;
	print_message("%llu ns a miss, flush included (%llu)\n",
		      (unsigned long long)(ns / (ROUNDS * PAGES)),
		      (unsigned long long)sum);
	assert_true(ns / (ROUNDS * PAGES) < 10000);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(test_matrix),
		T(test_not_present),
		T(test_reserved),
		T(test_accessed_dirty),
		T(test_large_pages),
		T(test_32_bit),
		T(test_pae),
		T(test_crossing),
		T(test_mmio),
		T(test_pcid),
		T(test_many_pcids),
		T(test_global),
		T(test_fetch_gen),
		T(test_trim),
		T(test_fetch_gen_kernel),
		T(test_fetch_gen_wraps),
		T(test_canonical),
		T(test_limits),
		T(test_atomic),
		T(test_dirty_log),
		T(test_code_page),
		T(test_miss_speed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
