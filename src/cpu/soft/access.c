/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the inline accesses of access.h do where they miss: TLB fill, accesses
 * across pages, MMIO and the local APIC's page, stores to pages with decoded
 * code, data breakpoints, atomics that no host instruction can make.
 */
#include "cpu/soft/access.h"

#include "cpu/soft/exclusive.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/undo.h"
#include "mem/mem.h"

/* Up to two pages that one access touches. */
struct mmu_span {
	struct mmu_page page[2];
	u64 off; /* in page[0] */
	u64 n[2];
};

u64 mmu_phys_ld(struct soft_vcpu *v, gpa_t gpa, unsigned size)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	u64 val = 0;

	v->vcpu.stat[VCPU_STAT_MMIO]++;
	if ((gpa & ~PAGE_MASK) != v->mmu->apic_page)
		return c->ops->mmio_read(c->machine, gpa, size);
	for (unsigned i = 0; i < size; i += 4) {
		u32 off = (u32)(gpa & PAGE_MASK) + i;
		u64 reg = lapic_read(v->vcpu.lapic, off & ~3u);

		val |= reg >> (off & 3) * 8 << i * 8;
	}
	return size < 8 ? val & (BIT64(size * 8) - 1) : val;
}

void mmu_phys_st(struct soft_vcpu *v, gpa_t gpa, unsigned size, u64 val)
{
	const struct engine_config *c = &v->vcpu.engine->config;

	v->vcpu.stat[VCPU_STAT_MMIO]++;
	if ((gpa & ~PAGE_MASK) != v->mmu->apic_page)
		c->ops->mmio_write(c->machine, gpa, val, size);
	else if (size == 4 && !(gpa & 3))
		lapic_write(v->vcpu.lapic, (u32)(gpa & PAGE_MASK), (u32)val);
}

/* RAM is about to be written. */
static inline void mmu_note(struct soft_vcpu *v, void *host, u64 n)
{
	if (unlikely(v->undo))
		undo_note(v->undo, host, n);
}

/* Physical accesses have power-of-two sizes and natural alignment or less. */
static unsigned mmu_piece(gpa_t gpa, u64 n)
{
	unsigned size = 8;

	while (size > n || gpa & (size - 1))
		size /= 2;
	return size;
}

static void mmu_phys_read(struct soft_vcpu *v, gpa_t gpa, u8 *buf, u64 n)
{
	while (n) {
		unsigned size = mmu_piece(gpa, n);
		u64 val = mmu_phys_ld(v, gpa, size);

		memcpy(buf, &val, size);
		gpa += size;
		buf += size;
		n -= size;
	}
}

static void mmu_phys_write(struct soft_vcpu *v, gpa_t gpa, const u8 *buf, u64 n)
{
	while (n) {
		unsigned size = mmu_piece(gpa, n);
		u64 val = 0;

		memcpy(&val, buf, size);
		mmu_phys_st(v, gpa, size, val);
		gpa += size;
		buf += size;
		n -= size;
	}
}

/* Notes hits of data breakpoints; the trap comes after the instruction. */
static void mmu_watch(struct soft_vcpu *v, gva_t lin, u64 n, bool write)
{
	if (likely(!(v->dr7 & 0xff)))
		return;
	for (unsigned i = 0; i < 4; i++) {
		unsigned rw = v->dr7 >> (16 + 4 * i) & 3;
		u64 len = BIT64(v->dr7 >> (18 + 4 * i) & 3);

		len = len == 4 ? 8 : len == 8 ? 4 : len;
		if (!(v->dr7 >> (2 * i) & 3) || !(rw & 1) ||
		    (rw == 1 && !write))
			continue;
		if (lin < (v->dr[i] & ~(len - 1)) + len &&
		    (v->dr[i] & ~(len - 1)) < lin + n)
			v->db_pending |= BIT(i);
	}
}

static void mmu_need(struct soft_vcpu *v, gva_t lin, enum mmu_access access,
		     bool sys, struct mmu_page *page)
{
	u32 error;

	if (!mmu_translate(v, lin, access, sys, page, &error))
		mmu_fault(v, lin, error);
}

/* Both pages are translated before anything is read or written. */
static void mmu_span(struct soft_vcpu *v, gva_t lin, u64 n,
		     enum mmu_access access, bool sys, struct mmu_span *s)
{
	gva_t second = (lin + n - 1) & ~PAGE_MASK;

	if (!(v->mode & MODE_CS64))
		second = (u32)second;
	s->off = lin & PAGE_MASK;
	s->n[0] = MIN(n, PAGE_SIZE - s->off);
	s->n[1] = n - s->n[0];
	mmu_need(v, lin, access, sys, &s->page[0]);
	if (s->n[1])
		mmu_need(v, second, access, sys, &s->page[1]);
}

static void mmu_page_read(struct soft_vcpu *v, const struct mmu_page *p,
			  u64 off, u8 *buf, u64 n)
{
	if (p->host)
		memcpy(buf, p->host + off, n);
	else
		mmu_phys_read(v, p->gpa + off, buf, n);
}

static void mmu_page_write(struct soft_vcpu *v, const struct mmu_page *p,
			   u64 off, const u8 *buf, u64 n)
{
	if (!p->host || p->readonly) {
		mmu_phys_write(v, p->gpa + off, buf, n);
		return;
	}
	mmu_note(v, p->host + off, n);
	memcpy(p->host + off, buf, n);
	if (p->code)
		soft_code_written(v, p->gpa + off, n);
}

u64 mmu_ld(struct soft_vcpu *v, gva_t lin, unsigned size, bool sys)
{
	struct mmu_span s;
	u64 val = 0;

	mmu_span(v, lin, size, MMU_READ, sys, &s);
	if (!sys)
		mmu_watch(v, lin, size, false);
	if (likely(s.page[0].host && !s.n[1]))
		return host_ld(s.page[0].host + s.off, size);
	mmu_page_read(v, &s.page[0], s.off, (u8 *)&val, s.n[0]);
	if (s.n[1])
		mmu_page_read(v, &s.page[1], 0, (u8 *)&val + s.n[0], s.n[1]);
	return val;
}

void mmu_st(struct soft_vcpu *v, gva_t lin, unsigned size, u64 val, bool sys)
{
	struct mmu_span s;

	mmu_span(v, lin, size, MMU_WRITE, sys, &s);
	if (!sys)
		mmu_watch(v, lin, size, true);
	if (likely(s.page[0].host && !s.page[0].readonly && !s.n[1])) {
		mmu_note(v, s.page[0].host + s.off, size);
		host_st(s.page[0].host + s.off, size, val);
		if (s.page[0].code)
			soft_code_written(v, s.page[0].gpa + s.off, size);
		return;
	}
	mmu_page_write(v, &s.page[0], s.off, (u8 *)&val, s.n[0]);
	if (s.n[1])
		mmu_page_write(v, &s.page[1], 0, (u8 *)&val + s.n[0], s.n[1]);
}

static void mmu_ld_bytes(struct soft_vcpu *v, gva_t lin, u8 *buf, u64 n,
			 bool sys)
{
	struct tlb_entry *t = tlb_slot(sys ? v->tlb_sys : v->tlb, lin);
	struct mmu_span s;

	if (!n)
		return;
	if (tlb_hit(t->tag_read, lin, n)) {
		memcpy(buf, (void *)(lin + t->addend), n);
		return;
	}
	mmu_span(v, lin, n, MMU_READ, sys, &s);
	if (!sys)
		mmu_watch(v, lin, n, false);
	mmu_page_read(v, &s.page[0], s.off, buf, s.n[0]);
	if (s.n[1])
		mmu_page_read(v, &s.page[1], 0, buf + s.n[0], s.n[1]);
}

static void mmu_st_bytes(struct soft_vcpu *v, gva_t lin, const u8 *buf, u64 n,
			 bool sys)
{
	struct tlb_entry *t = tlb_slot(sys ? v->tlb_sys : v->tlb, lin);
	struct mmu_span s;

	if (!n)
		return;
	if (tlb_hit(t->tag_write, lin, n)) {
		memcpy((void *)(lin + t->addend), buf, n);
		return;
	}
	mmu_span(v, lin, n, MMU_WRITE, sys, &s);
	if (!sys)
		mmu_watch(v, lin, n, true);
	mmu_page_write(v, &s.page[0], s.off, buf, s.n[0]);
	if (s.n[1])
		mmu_page_write(v, &s.page[1], 0, buf + s.n[0], s.n[1]);
}

void soft_ld_bytes(struct soft_vcpu *v, gva_t lin, void *buf, u64 n)
{
	mmu_ld_bytes(v, lin, buf, n, false);
}

void soft_st_bytes(struct soft_vcpu *v, gva_t lin, const void *buf, u64 n)
{
	mmu_st_bytes(v, lin, buf, n, false);
}

void soft_ld_bytes_sys(struct soft_vcpu *v, gva_t lin, void *buf, u64 n)
{
	mmu_ld_bytes(v, lin, buf, n, true);
}

void soft_st_bytes_sys(struct soft_vcpu *v, gva_t lin, const void *buf, u64 n)
{
	mmu_st_bytes(v, lin, buf, n, true);
}

void *mmu_host_or_fault(struct soft_vcpu *v, gva_t lin, u64 n,
			enum mmu_access access, bool *faults, u32 *error)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	struct mmu_page page;
	u64 tag;

	*faults = false;
	if (!n || (lin & PAGE_MASK) + n > PAGE_SIZE)
		return NULL;
	if (!mmu_translate(v, lin, access, false, &page, error)) {
		*faults = true;
		return NULL;
	}
	if (unlikely(v->undo) && access == MMU_WRITE) {
		if (!page.host || !page.writable)
			return NULL;
		mmu_note(v, page.host + (lin & PAGE_MASK), n);
		return page.host + (lin & PAGE_MASK);
	}
	/* Only where a tag stands now may the page be touched directly. */
	tag = access == MMU_WRITE  ? t->tag_write
	      : access == MMU_READ ? t->tag_read
				   : t->tag_exec;
	return tlb_hit(tag, lin, n) ? (void *)(lin + t->addend) : NULL;
}

void *mmu_host(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access)
{
	bool faults;
	u32 error;

	return mmu_host_or_fault(v, lin, n, access, &faults, &error);
}

bool mmu_note_page(struct soft_vcpu *v, gva_t lin)
{
	struct soft_undo *u = v->undo;
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	gva_t page = lin & ~PAGE_MASK;

	if (u->tags == UNDO_TAGS || !mmu_host(v, page, PAGE_SIZE, MMU_WRITE))
		return false;
	t->tag_write = page;
	u->tag[u->tags++] = t;
	return true;
}

void mmu_noted_pages_done(struct soft_vcpu *v)
{
	struct soft_undo *u = v->undo;

	while (u->tags)
		u->tag[--u->tags]->tag_write = TLB_NONE;
	tlb_window_drop(v);
}

void soft_probe(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access)
{
	struct tlb_entry *t = tlb_slot(v->tlb, lin);
	u64 tag = access == MMU_WRITE  ? t->tag_write
		  : access == MMU_READ ? t->tag_read
				       : t->tag_exec;
	struct mmu_span s;

	if (n && !tlb_hit(tag, lin, n))
		mmu_span(v, lin, n, access, false, &s);
}

void *mmu_atomic_begin(struct soft_vcpu *v, gva_t lin, unsigned n)
{
	u8 *buf = v->mmu->bounce;
	struct mmu_span s;

	mmu_span(v, lin, n, MMU_WRITE, false, &s);
	mmu_watch(v, lin, n, true);
	if (s.page[0].host && !s.page[0].readonly && access_in_line(lin, n)) {
		mmu_note(v, s.page[0].host + s.off, n);
		return s.page[0].host + s.off;
	}
	soft_exclusive_begin(v);
	mmu_page_read(v, &s.page[0], s.off, buf, s.n[0]);
	if (s.n[1])
		mmu_page_read(v, &s.page[1], 0, buf + s.n[0], s.n[1]);
	return buf;
}

void mmu_atomic_end(struct soft_vcpu *v, gva_t lin, unsigned n, void *p)
{
	struct mmu_span s;

	/* The same translation as in begin: nothing ran in between. */
	mmu_span(v, lin, n, MMU_WRITE, false, &s);
	if (p == v->mmu->bounce) {
		mmu_page_write(v, &s.page[0], s.off, p, s.n[0]);
		if (s.n[1])
			mmu_page_write(v, &s.page[1], 0, (u8 *)p + s.n[0],
				       s.n[1]);
		soft_exclusive_end(v);
	} else if (s.page[0].code) {
		soft_code_written(v, s.page[0].gpa + s.off, n);
	}
}

const u8 *mmu_fetch(struct soft_vcpu *v, gva_t lin)
{
	struct mmu_page page;

	mmu_need(v, lin, MMU_EXEC, false, &page);
	return page.host ? page.host + (lin & PAGE_MASK) : NULL;
}

void soft_fetch_bytes(struct soft_vcpu *v, gva_t lin, u8 *buf, unsigned n)
{
	struct mmu_span s;

	mmu_span(v, lin, n, MMU_EXEC, false, &s);
	mmu_page_read(v, &s.page[0], s.off, buf, s.n[0]);
	if (s.n[1])
		mmu_page_read(v, &s.page[1], 0, buf + s.n[0], s.n[1]);
}
