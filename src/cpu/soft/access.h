/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest linear memory: the inline fast paths over the TLB, and what mmu.c
 * and access.c do where they miss.
 *
 * Any alignment; page crossing, MMIO, self-modifying code, dirty tracking and
 * data breakpoints are taken care of. Every function may leave by
 * soft_fault() unless it says otherwise; a store that faults has written
 * nothing, also when it crosses a page.
 */
#ifndef CPU_SOFT_ACCESS_H
#define CPU_SOFT_ACCESS_H

#include <string.h>

#include "cpu/soft/soft.h"

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Slow paths; sys: implicit supervisor access. size: 1, 2, 4, 8. */
u64 mmu_ld(struct soft_vcpu *v, gva_t lin, unsigned size, bool sys);
void mmu_st(struct soft_vcpu *v, gva_t lin, unsigned size, u64 val, bool sys);

static ALWAYS_INLINE struct tlb_entry *tlb_slot(struct tlb_entry *tlb,
						gva_t lin)
{
	return &tlb[(lin >> PAGE_SHIFT) & (TLB_SIZE - 1)];
}

/*
 * The slot is chosen by the first byte and the tag compared with the page of
 * the last: an access that crosses a page never matches.
 */
static ALWAYS_INLINE bool tlb_hit(u64 tag, gva_t lin, u64 n)
{
	return likely(((lin + n - 1) & ~PAGE_MASK) == tag);
}

static ALWAYS_INLINE u64 host_ld(const void *p, unsigned size)
{
	u64 val = 0;

	switch (size) {
	case 1: return *(const volatile u8 *)p;
	case 2: {
		u16 x;
		memcpy(&x, p, 2);
		return x;
	}
	case 4: {
		u32 x;
		memcpy(&x, p, 4);
		return x;
	}
	case 8: memcpy(&val, p, 8); return val;
	}
	return val;
}

static ALWAYS_INLINE void host_st(void *p, unsigned size, u64 val)
{
	switch (size) {
	case 1: *(volatile u8 *)p = (u8)val; break;
	case 2: memcpy(p, &val, 2); break;
	case 4: memcpy(p, &val, 4); break;
	case 8: memcpy(p, &val, 8); break;
	}
}

/* Explicit load and store, at CPL. Other vCPUs see them as one access. */
static ALWAYS_INLINE u64 soft_ld(struct soft_vcpu *v, gva_t lin, unsigned size)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_read, lin, size))
		return host_ld((void *)(lin + t->addend), size);
	return mmu_ld(v, lin, size, false);
}

static ALWAYS_INLINE void soft_st(struct soft_vcpu *v, gva_t lin, unsigned size,
				  u64 val)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_write, lin, size))
		host_st((void *)(lin + t->addend), size, val);
	else
		mmu_st(v, lin, size, val, false);
}

/* Implicit supervisor accesses: descriptor tables, TSS, stacks of gates. */
static inline u64 soft_ld_sys(struct soft_vcpu *v, gva_t lin, unsigned size)
{
	struct tlb_entry *t = tlb_slot(v->tlb_sys, lin);

	if (tlb_hit(t->tag_read, lin, size))
		return host_ld((void *)(lin + t->addend), size);
	return mmu_ld(v, lin, size, true);
}

static inline void soft_st_sys(struct soft_vcpu *v, gva_t lin, unsigned size,
			       u64 val)
{
	struct tlb_entry *t = tlb_slot(v->tlb_sys, lin);

	if (tlb_hit(t->tag_write, lin, size))
		host_st((void *)(lin + t->addend), size, val);
	else
		mmu_st(v, lin, size, val, true);
}

/* n bytes at most PAGE_SIZE; stores all or nothing. At CPL. */
void soft_ld_bytes(struct soft_vcpu *v, gva_t lin, void *buf, u64 n);
void soft_st_bytes(struct soft_vcpu *v, gva_t lin, const void *buf, u64 n);
/* The same as implicit supervisor accesses. */
void soft_ld_bytes_sys(struct soft_vcpu *v, gva_t lin, void *buf, u64 n);
void soft_st_bytes_sys(struct soft_vcpu *v, gva_t lin, const void *buf, u64 n);

/*
 * Host address of n bytes that lie in one page of RAM and may be accessed
 * directly as said, else NULL (other page, absent, MMIO, code page for
 * MMU_WRITE). Never faults; sets accessed and dirty bits, so call it only for
 * an access about to be made. Valid until the next attention check.
 */
void *mmu_host(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access);
/* The same; tells whether such an access faults, and the #PF code. */
void *mmu_host_or_fault(struct soft_vcpu *v, gva_t lin, u64 n,
			enum mmu_access access, bool *faults, u32 *error);

static inline void *soft_host(struct soft_vcpu *v, gva_t lin, u64 n,
			      enum mmu_access access)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	u64 tag = access == MMU_WRITE  ? t->tag_write
		  : access == MMU_READ ? t->tag_read
				       : t->tag_exec;

	if (tlb_hit(tag, lin, n))
		return (void *)(lin + t->addend);
	return mmu_host(v, lin, n, access);
}

/* Raises the fault that this access to n (at most PAGE_SIZE) bytes would. */
void soft_probe(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access);

/* Whether the bytes are in one of the host's cache lines. */
static inline bool access_in_line(gva_t lin, unsigned n)
{
	return (lin & 63) + n <= 64;
}

/*
 * For LOCK and XCHG: a host pointer to n <= 16 bytes, readable and writable,
 * on which to run a host LOCK instruction; then end() with the same
 * arguments. Between the two nothing may fault. On MMIO and across cache lines,
 * where the host may punish a LOCK, it is a bounce buffer, and no other vCPU
 * runs meanwhile.
 */
void *mmu_atomic_begin(struct soft_vcpu *v, gva_t lin, unsigned n);
void mmu_atomic_end(struct soft_vcpu *v, gva_t lin, unsigned n, void *p);

static inline void *soft_atomic_begin(struct soft_vcpu *v, gva_t lin,
				      unsigned n)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_write, lin, n) && t->tag_read == t->tag_write &&
	    access_in_line(lin, n))
		return (void *)(lin + t->addend);
	return mmu_atomic_begin(v, lin, n);
}

static inline void soft_atomic_end(struct soft_vcpu *v, gva_t lin, unsigned n,
				   void *p)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (!tlb_hit(t->tag_write, lin, n) || !access_in_line(lin, n))
		mmu_atomic_end(v, lin, n, p);
}

/*
 * Code: the host address of lin for fetching up to the end of its page, or
 * NULL if the page is not RAM (then soft_fetch_bytes). #PF as MMU_EXEC. The
 * RAM page's index is mem_page(mem, host).
 */
const u8 *mmu_fetch(struct soft_vcpu *v, gva_t lin);

static inline const u8 *soft_fetch(struct soft_vcpu *v, gva_t lin)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);

	if (tlb_hit(t->tag_exec, lin, 1))
		return (const u8 *)(lin + t->addend);
	return mmu_fetch(v, lin);
}

/* Copies n code bytes from any kind of page; #PF as MMU_EXEC. */
void soft_fetch_bytes(struct soft_vcpu *v, gva_t lin, u8 *buf, unsigned n);

/*
 * Before decoded code of the RAM page (index mem_page) is kept: sets
 * MEM_ATTR_CODE, so that all stores to it take the slow path and call
 * soft_code_written(), and waits until no vCPU has a write tag of it. Read
 * the bytes to decode after this. Does not fault.
 */
void mmu_mark_code(struct soft_vcpu *v, u64 page);

/* Answers ATTN_FLUSH; the bit is already cleared. Owner's thread. */
void mmu_answer(struct soft_vcpu *v);

/* segment base, limit, type, canonical and alignment checks */
gva_t mmu_lin(struct soft_vcpu *v, unsigned seg, u64 off, u64 size,
	      enum mmu_access access);

static inline bool lin_canonical(u64 lin)
{
	return (u64)((s64)(lin << 16) >> 16) == lin;
}

/*
 * The linear address of seg:off for size bytes: segment limit and type,
 * canonical form, alignment. off has the address size applied.
 */
static ALWAYS_INLINE gva_t soft_lin(struct soft_vcpu *v, unsigned seg, u64 off,
				    u64 size, enum mmu_access access)
{
	if (likely((v->mode & (MODE_CS64 | MODE_AC)) == MODE_CS64)) {
		u64 lin = off;

		if (unlikely(seg == SEG_FS || seg == SEG_GS))
			lin += v->seg[seg].base;
		/* both ends in the same canonical half */
		if (likely(lin_canonical(lin) && lin_canonical(lin + size - 1)))
			return lin;
	} else if ((v->mode & (MODE_FLAT | MODE_AC)) == MODE_FLAT &&
		   (BIT(seg) & (BIT(SEG_ES) | BIT(SEG_SS) | BIT(SEG_DS)))) {
		if (likely((u32)off + size <= BIT64(32)))
			return (u32)off;
	}
	return mmu_lin(v, seg, off, size, access);
}

#endif
