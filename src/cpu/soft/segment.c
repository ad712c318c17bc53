/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Descriptors, segment registers, linear addresses, and stacks under
 * construction (SDM volume 3, chapters 3 and 5).
 */
#include "cpu/soft/segment.h"

bool desc_addr(const struct soft_vcpu *v, u16 sel, unsigned size, gva_t *lin)
{
	u64 base = v->gdt.base, limit = v->gdt.limit;

	if (sel & 4) {
		if (v->ldtr.attr & SEG_ATTR_UNUSABLE)
			return false;
		base = v->ldtr.base;
		limit = v->ldtr.limit;
	}
	if ((sel & ~7u) + size - 1 > limit)
		return false;
	*lin = base + (sel & ~7u);
	if (!soft_long(v))
		*lin = (u32)*lin;
	return true;
}

static void desc_read_bytes(struct soft_vcpu *v, u16 sel, unsigned size,
			    u8 vector, unsigned ext, struct desc *d)
{
	u64 x;

	if (!desc_addr(v, sel, size, &d->lin))
		soft_fault_err(v, vector, (sel & 0xfffcu) | ext);
	x = soft_ld_sys(v, d->lin, 8);
	d->lo = (u32)x;
	d->hi = (u32)(x >> 32);
	x = size == 16 ? soft_ld_sys(v, d->lin + 8, 8) : 0;
	d->hi2 = (u32)x;
	d->hi3 = (u32)(x >> 32);
}

void desc_read(struct soft_vcpu *v, u16 sel, u8 vector, unsigned ext,
	       struct desc *d)
{
	desc_read_bytes(v, sel, 8, vector, ext, d);
}

void desc_read_system(struct soft_vcpu *v, u16 sel, u8 vector, unsigned ext,
		      struct desc *d)
{
	desc_read_bytes(v, sel, soft_long(v) ? 16 : 8, vector, ext, d);
}

void desc_accessed(struct soft_vcpu *v, const struct desc *d)
{
	if (desc_s(d) && !(d->hi & BIT(8)))
		soft_st_sys(v, d->lin + 5, 1, (d->hi >> 8 & 0xff) | 1);
}

u32 desc_limit(const struct desc *d)
{
	u32 limit = (d->lo & 0xffff) | (d->hi & 0xf0000);

	return d->hi & BIT(23) ? limit << 12 | 0xfff : limit;
}

static u32 desc_base32(const struct desc *d)
{
	return d->lo >> 16 | (d->hi & 0xff) << 16 | (d->hi & 0xff000000);
}

u64 desc_base(const struct soft_vcpu *v, const struct desc *d)
{
	u64 base = desc_base32(d);

	return soft_long(v) ? base | (u64)d->hi2 << 32 : base;
}

struct seg_state desc_segment(const struct desc *d, u16 sel)
{
	struct seg_state s = {
		.base = desc_base32(d),
		.limit = desc_limit(d),
		.attr = d->hi >> 8 & 0xf0ff,
		.sel = sel,
	};

	if (desc_s(d))
		s.attr |= 1;
	return s;
}

struct seg_state seg_null(u16 sel, unsigned dpl)
{
	return (struct seg_state){
		.attr = SEG_ATTR_UNUSABLE | dpl << 5,
		.sel = sel,
	};
}

/* Real mode changes selector and base; "unreal" limits stay. */
struct seg_state seg_real(u16 sel, const struct seg_state *old)
{
	struct seg_state s = *old;

	if (s.attr & SEG_ATTR_UNUSABLE)
		s.limit = 0xffff;
	s.attr = 0x93 | (s.attr & (SEG_ATTR_G | SEG_ATTR_DB));
	s.base = (u32)sel << 4;
	s.sel = sel;
	return s;
}

struct seg_state seg_vm86(u16 sel)
{
	return (struct seg_state){
		.base = (u32)sel << 4,
		.limit = 0xffff,
		.attr = 0xf3,
		.sel = sel,
	};
}

/* A null selector: allowed but for SS, and there in 64-bit mode below 3. */
static struct seg_state seg_check_null(struct soft_vcpu *v, unsigned seg,
				       u16 sel)
{
	if (seg == SEG_SS &&
	    (!(v->mode & MODE_CS64) || v->cpl == 3 || (sel & 3) != v->cpl))
		soft_fault_err(v, VEC_GP, 0);
	return seg_null(sel, seg == SEG_SS ? v->cpl : 0);
}

struct seg_state seg_stack_check(struct soft_vcpu *v, u16 sel, unsigned cpl,
				 u8 bad, unsigned ext)
{
	u32 error = (sel & 0xfffcu) | ext;
	struct desc d;

	if (!(sel & 0xfffc))
		soft_fault_err(v, bad, ext);
	desc_read(v, sel, bad, ext, &d);
	if ((sel & 3u) != cpl || !desc_writable_data(&d) || desc_dpl(&d) != cpl)
		soft_fault_err(v, bad, error);
	if (!desc_present(&d))
		soft_fault_err(v, VEC_SS, error);
	desc_accessed(v, &d);
	return desc_segment(&d, sel);
}

static struct seg_state seg_check_data(struct soft_vcpu *v, u16 sel)
{
	struct desc d;

	desc_read(v, sel, VEC_GP, 0, &d);
	if (!desc_s(&d) || (desc_code(&d) && !(d.hi & BIT(9))))
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
	if (!(desc_code(&d) && desc_conforming(&d)) &&
	    ((sel & 3u) > desc_dpl(&d) || v->cpl > desc_dpl(&d)))
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
	if (!desc_present(&d))
		soft_fault_err(v, VEC_NP, sel & 0xfffc);
	desc_accessed(v, &d);
	return desc_segment(&d, sel);
}

struct seg_state seg_load_check(struct soft_vcpu *v, unsigned seg, u16 sel)
{
	if (v->mode & MODE_VM86)
		return seg_vm86(sel);
	if (!(v->mode & MODE_PE))
		return seg_real(sel, &v->seg[seg]);
	if (!(sel & 0xfffc))
		return seg_check_null(v, seg, sel);
	if (seg == SEG_SS)
		return seg_stack_check(v, sel, v->cpl, VEC_GP, 0);
	return seg_check_data(v, sel);
}

void seg_set(struct soft_vcpu *v, unsigned seg, const struct seg_state *s)
{
	v->seg[seg] = *s;
	soft_update_mode(v);
}

void seg_load(struct soft_vcpu *v, unsigned seg, u16 sel)
{
	u32 mode = v->mode;
	struct seg_state s = seg_load_check(v, seg, sel);

	seg_set(v, seg, &s);
	if (v->mode != mode)
		soft_attention(v, ATTN_MODE);
}

void soft_set_cs(struct soft_vcpu *v, const struct seg_state *cs, unsigned cpl,
		 u64 rip)
{
	v->seg[SEG_CS] = *cs;
	v->cpl = (u8)cpl;
	v->rip = rip;
	soft_update_mode(v);
}

void soft_check_rip(struct soft_vcpu *v, const struct seg_state *cs, u64 rip,
		    unsigned ext)
{
	bool ok;

	if (v->efer & EFER_LMA && cs->attr & SEG_ATTR_L)
		ok = lin_canonical(rip);
	else
		ok = rip <= cs->limit;
	if (!ok)
		soft_fault_err(v, VEC_GP, ext);
}

static NORETURN void seg_violation(struct soft_vcpu *v, unsigned seg)
{
	soft_fault_err(v, seg == SEG_SS ? VEC_SS : VEC_GP, 0);
}

/* Whether [off, off + size) lies within the segment's limits. */
static bool seg_in_limit(const struct seg_state *s, u32 off, u64 size)
{
	u64 last = off + size - 1;
	u32 top = s->attr & SEG_ATTR_DB ? 0xffffffff : 0xffff;

	if ((s->attr & (SEG_ATTR_S | 0xc)) == (SEG_ATTR_S | 4))
		return off > s->limit && last <= top;
	return last <= s->limit;
}

static bool seg_type_allows(const struct seg_state *s, enum mmu_access access)
{
	bool code = s->attr & 8;

	switch (access) {
	case MMU_READ: return !code || s->attr & 2;
	case MMU_WRITE: return !code && s->attr & 2;
	default: return code;
	}
}

gva_t mmu_lin(struct soft_vcpu *v, unsigned seg, u64 off, u64 size,
	      enum mmu_access access)
{
	const struct seg_state *s = &v->seg[seg];
	gva_t lin;

	if (v->mode & MODE_CS64) {
		lin = off + (seg == SEG_FS || seg == SEG_GS ? s->base : 0);
		if (!lin_canonical(lin) || !lin_canonical(lin + size - 1))
			seg_violation(v, seg);
	} else {
		if (soft_protected(v) && (s->attr & SEG_ATTR_UNUSABLE ||
					  !seg_type_allows(s, access)))
			seg_violation(v, seg);
		if (!seg_in_limit(s, (u32)off, size))
			seg_violation(v, seg);
		lin = (u32)(s->base + off);
	}
	if (v->mode & MODE_AC && access != MMU_EXEC && size <= 8 &&
	    !(size & (size - 1)) && lin & (size - 1))
		soft_fault_err(v, VEC_AC, 0);
	return lin;
}

void stack_current(struct soft_vcpu *v, struct soft_stack *s)
{
	*s = (struct soft_stack){
		.ss = v->seg[SEG_SS],
		.sp = v->gpr[REG_SP],
		.mask = 0xffff,
		.cpl = v->cpl,
		.wide = v->mode & MODE_CS64,
	};
	if (s->wide)
		s->mask = ~0ull;
	else if (v->mode & MODE_SS32)
		s->mask = 0xffffffff;
}

static gva_t stack_lin(struct soft_vcpu *v, const struct soft_stack *s, u64 sp,
		       unsigned size)
{
	if (v->mode & MODE_AC && s->cpl == 3 && sp & (size - 1))
		soft_fault_err(v, VEC_AC, 0);
	if (s->wide) {
		if (!lin_canonical(sp) || !lin_canonical(sp + size - 1))
			soft_fault_err(v, VEC_SS, s->error);
		return sp;
	}
	if (!seg_in_limit(&s->ss, (u32)sp, size))
		soft_fault_err(v, VEC_SS, s->error);
	return (u32)(s->ss.base + sp);
}

void stack_push(struct soft_vcpu *v, struct soft_stack *s, unsigned size,
		u64 val)
{
	u64 sp = (s->sp - size) & s->mask;
	gva_t lin = stack_lin(v, s, sp, size);

	if (s->cpl == v->cpl)
		soft_st(v, lin, size, val);
	else
		soft_st_sys(v, lin, size, val);
	s->sp = (s->sp & ~s->mask) | sp;
}

u64 stack_pop(struct soft_vcpu *v, struct soft_stack *s, unsigned size)
{
	u64 sp = s->sp & s->mask;
	u64 val = soft_ld(v, stack_lin(v, s, sp, size), size);

	s->sp = (s->sp & ~s->mask) | ((sp + size) & s->mask);
	return val;
}

void stack_commit(struct soft_vcpu *v, const struct soft_stack *s)
{
	u64 sp = v->gpr[REG_SP];

	v->gpr[REG_SP] = (sp & ~s->mask) | (s->sp & s->mask);
	if (s->mask == 0xffffffff)
		v->gpr[REG_SP] = (u32)v->gpr[REG_SP];
}

static u64 tss_load(struct soft_vcpu *v, u32 off, unsigned size, unsigned ext)
{
	if ((u64)off + size - 1 > v->tr.limit)
		soft_fault_err(v, VEC_TS, (v->tr.sel & 0xfffcu) | ext);
	return soft_ld_sys(v, v->tr.base + off, size);
}

static void tss_stack64(struct soft_vcpu *v, unsigned cpl, unsigned ist,
			unsigned ext, struct soft_stack *s)
{
	u32 off = ist ? 28 + ist * 8 : 4 + cpl * 8;

	s->wide = true;
	s->mask = ~0ull;
	s->sp = tss_load(v, off, 8, ext);
	s->ss = seg_null((u16)cpl, cpl);
	if (!lin_canonical(s->sp))
		soft_fault_err(v, VEC_SS, ext);
}

void tss_stack(struct soft_vcpu *v, unsigned cpl, unsigned ist, unsigned ext,
	       struct soft_stack *s)
{
	u16 sel;

	*s = (struct soft_stack){.cpl = cpl};
	if (soft_long(v)) {
		tss_stack64(v, cpl, ist, ext, s);
		return;
	}
	if (v->tr.attr & 8) {
		s->sp = tss_load(v, 4 + cpl * 8, 4, ext);
		sel = (u16)tss_load(v, 8 + cpl * 8, 2, ext);
	} else {
		s->sp = tss_load(v, 2 + cpl * 4, 2, ext);
		sel = (u16)tss_load(v, 4 + cpl * 4, 2, ext);
	}
	s->ss = seg_stack_check(v, sel, cpl, VEC_TS, ext);
	s->error = (sel & 0xfffcu) | ext;
	s->mask = s->ss.attr & SEG_ATTR_DB ? 0xffffffff : 0xffff;
}
