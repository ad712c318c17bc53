/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Instructions on segment registers and descriptor tables: MOV and LDS to
 * segments, LAR to VERW, LGDT to STR, ARPL, SWAPGS, FSGSBASE.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

static void sys_shadow_ss(struct soft_vcpu *v, unsigned seg)
{
	if (seg == SEG_SS)
		v->shadow = 2;
}

static void sys_mov_to_sreg(struct soft_vcpu *v, const struct insn *i)
{
	if (i->reg == SEG_CS || i->reg > SEG_GS)
		soft_fault(v, VEC_UD);
	seg_load(v, i->reg, (u16)sys_rm_get(v, i, 2));
	sys_shadow_ss(v, i->reg);
}

static void sys_mov_from_sreg(struct soft_vcpu *v, const struct insn *i)
{
	if (i->reg > SEG_GS)
		soft_fault(v, VEC_UD);
	sys_rm_set(v, i, i->mem ? 2 : i->opsize, v->seg[i->reg].sel);
}

/* A 32-bit push of a segment register writes 16 bits, as processors do. */
static void sys_push_sreg(struct soft_vcpu *v, const struct insn *i)
{
	u16 sel = (u16)v->seg[i->reg].sel;
	struct soft_stack s;

	stack_current(v, &s);
	if (i->opsize == 4) {
		s.sp = (s.sp & ~s.mask) | ((s.sp - 2) & s.mask);
		stack_push(v, &s, 2, sel);
	} else {
		stack_push(v, &s, i->opsize, sel);
	}
	stack_commit(v, &s);
}

static void sys_pop_sreg(struct soft_vcpu *v, const struct insn *i)
{
	struct soft_stack s;
	struct seg_state seg;
	u32 mode = v->mode;
	u16 sel;

	stack_current(v, &s);
	/* Only the selector is read, however far the stack pointer moves. */
	sel = (u16)stack_pop(v, &s, 2);
	s.sp = (s.sp & ~s.mask) | ((s.sp + i->opsize - 2) & s.mask);
	seg = seg_load_check(v, i->reg, sel);
	stack_commit(v, &s);
	seg_set(v, i->reg, &seg);
	sys_shadow_ss(v, i->reg);
	if (v->mode != mode)
		soft_attention(v, ATTN_MODE);
}

static void sys_load_far_pointer(struct soft_vcpu *v, const struct insn *i,
				 unsigned seg)
{
	unsigned n = i->opsize + 2u;
	gva_t lin = soft_lin(v, i->seg, soft_ea(v, i), n, MMU_READ);
	u8 buf[10];

	soft_ld_bytes(v, lin, buf, n);
	seg_load(v, seg, (u16)host_ld(buf + i->opsize, 2));
	sys_reg_set(v, i->reg, i->opsize, host_ld(buf, i->opsize));
}

static void sys_les(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_far_pointer(v, i, SEG_ES);
}

static void sys_lds(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_far_pointer(v, i, SEG_DS);
}

static void sys_lss(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_far_pointer(v, i, SEG_SS);
}

static void sys_lfs(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_far_pointer(v, i, SEG_FS);
}

static void sys_lgs(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_far_pointer(v, i, SEG_GS);
}

static void sys_set_zf(struct soft_vcpu *v, bool zf)
{
	v->fl = (u16)((v->fl & ~0x4000) | (zf ? 0x4000 : 0));
}

/* Reads the descriptor for LAR, LSL, VERR, VERW: false where it may not. */
static bool sys_peek(struct soft_vcpu *v, u16 sel, struct desc *d)
{
	u64 x;

	if (!(sel & 0xfffc) || !desc_addr(v, sel, 8, &d->lin))
		return false;
	x = soft_ld_sys(v, d->lin, 8);
	d->lo = (u32)x;
	d->hi = (u32)(x >> 32);
	return true;
}

static bool sys_visible(const struct soft_vcpu *v, u16 sel,
			const struct desc *d)
{
	if (desc_code(d) && desc_conforming(d))
		return true;
	return desc_dpl(d) >= v->cpl && desc_dpl(d) >= (sel & 3u);
}

/* System types that LAR (all) and LSL (with a limit) accept. */
static bool sys_type_known(const struct soft_vcpu *v, const struct desc *d,
			   bool limit)
{
	u32 lar = soft_long(v) ? 0x1a04 : 0x1a3e;
	u32 lsl = soft_long(v) ? 0x0a04 : 0x0a0e;

	return desc_s(d) || (limit ? lsl : lar) >> desc_type(d) & 1;
}

static void sys_lar_lsl(struct soft_vcpu *v, const struct insn *i, bool limit)
{
	u16 sel = (u16)sys_rm_get(v, i, 2);
	struct desc d;

	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	if (!sys_peek(v, sel, &d) || !sys_type_known(v, &d, limit) ||
	    !sys_visible(v, sel, &d)) {
		sys_set_zf(v, false);
		return;
	}
	sys_reg_set(v, i->reg, i->opsize,
		    limit ? desc_limit(&d) : d.hi & 0x00ffff00);
	sys_set_zf(v, true);
}

static void sys_lar(struct soft_vcpu *v, const struct insn *i)
{
	sys_lar_lsl(v, i, false);
}

static void sys_lsl(struct soft_vcpu *v, const struct insn *i)
{
	sys_lar_lsl(v, i, true);
}

static void sys_verify(struct soft_vcpu *v, const struct insn *i, bool write)
{
	u16 sel = (u16)sys_rm_get(v, i, 2);
	struct desc d;
	bool ok;

	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	ok = sys_peek(v, sel, &d) && desc_s(&d) && sys_visible(v, sel, &d);
	if (ok && write)
		ok = desc_writable_data(&d);
	else if (ok)
		ok = !desc_code(&d) || d.hi & BIT(9);
	sys_set_zf(v, ok);
}

static void sys_verr(struct soft_vcpu *v, const struct insn *i)
{
	sys_verify(v, i, false);
}

static void sys_verw(struct soft_vcpu *v, const struct insn *i)
{
	sys_verify(v, i, true);
}

static void sys_arpl(struct soft_vcpu *v, const struct insn *i)
{
	u16 dst, src = (u16)v->gpr[i->reg];
	bool less;

	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	dst = (u16)sys_rm_get(v, i, 2);
	less = (dst & 3) < (src & 3);
	if (less)
		sys_rm_set(v, i, 2, (dst & ~3u) | (src & 3));
	sys_set_zf(v, less);
}

static void sys_store_table(struct soft_vcpu *v, const struct insn *i,
			    const struct dtable_state *t)
{
	unsigned n = v->mode & MODE_CS64 ? 10 : 6;
	gva_t lin;
	u8 buf[10];

	sys_need_umip(v);
	lin = soft_lin(v, i->seg, soft_ea(v, i), n, MMU_WRITE);
	memcpy(buf, &t->limit, 2);
	memcpy(buf + 2, &t->base, 8);
	soft_st_bytes(v, lin, buf, n);
}

static void sys_sgdt(struct soft_vcpu *v, const struct insn *i)
{
	sys_store_table(v, i, &v->gdt);
}

static void sys_sidt(struct soft_vcpu *v, const struct insn *i)
{
	sys_store_table(v, i, &v->idt);
}

static void sys_load_table(struct soft_vcpu *v, const struct insn *i,
			   struct dtable_state *t)
{
	unsigned n = v->mode & MODE_CS64 ? 10 : 6;
	u64 base;
	gva_t lin;
	u8 buf[10] = {0};

	sys_need_cpl0(v);
	lin = soft_lin(v, i->seg, soft_ea(v, i), n, MMU_READ);
	soft_ld_bytes(v, lin, buf, n);
	base = host_ld(buf + 2, 8);
	if (n == 10 && !lin_canonical(base))
		soft_fault_err(v, VEC_GP, 0);
	if (n == 6)
		base = i->opsize == 2 ? base & 0xffffff : (u32)base;
	t->limit = host_ld(buf, 2);
	t->base = base;
}

static void sys_lgdt(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_table(v, i, &v->gdt);
}

static void sys_lidt(struct soft_vcpu *v, const struct insn *i)
{
	sys_load_table(v, i, &v->idt);
}

static void sys_store_selector(struct soft_vcpu *v, const struct insn *i,
			       u32 sel)
{
	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	sys_need_umip(v);
	sys_rm_set(v, i, i->mem ? 2 : i->opsize, sel);
}

static void sys_sldt(struct soft_vcpu *v, const struct insn *i)
{
	sys_store_selector(v, i, v->ldtr.sel);
}

static void sys_str(struct soft_vcpu *v, const struct insn *i)
{
	sys_store_selector(v, i, v->tr.sel);
}

/* A system descriptor in the GDT of one of the types in mask. */
static void sys_read_system(struct soft_vcpu *v, u16 sel, u32 mask,
			    struct desc *d)
{
	if (sel & 4)
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
	desc_read_system(v, sel, VEC_GP, 0, d);
	if (desc_s(d) || !(mask >> desc_type(d) & 1) ||
	    (soft_long(v) && d->hi3 >> 8 & 31))
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
	if (!desc_present(d))
		soft_fault_err(v, VEC_NP, sel & 0xfffc);
	if (!lin_canonical(desc_base(v, d)))
		soft_fault_err(v, VEC_GP, sel & 0xfffc);
}

static void sys_lldt(struct soft_vcpu *v, const struct insn *i)
{
	struct desc d;
	u16 sel;

	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	sys_need_cpl0(v);
	sel = (u16)sys_rm_get(v, i, 2);
	if (!(sel & 0xfffc)) {
		v->ldtr = seg_null(sel, 0);
		return;
	}
	sys_read_system(v, sel, BIT(DESC_LDT), &d);
	v->ldtr = desc_segment(&d, sel);
	v->ldtr.base = desc_base(v, &d);
}

static void sys_ltr(struct soft_vcpu *v, const struct insn *i)
{
	struct desc d;
	u16 sel;

	if (!soft_protected(v))
		soft_fault(v, VEC_UD);
	sys_need_cpl0(v);
	sel = (u16)sys_rm_get(v, i, 2);
	if (!(sel & 0xfffc))
		soft_fault_err(v, VEC_GP, 0);
	sys_read_system(v, sel,
			soft_long(v) ? BIT(DESC_TSS)
				     : BIT(DESC_TSS) | BIT(DESC_TSS16),
			&d);
	soft_st_sys(v, d.lin + 5, 1, (d.hi >> 8 & 0xff) | 2);
	v->tr = desc_segment(&d, sel);
	v->tr.base = desc_base(v, &d);
	v->tr.attr |= 2;
}

static void sys_swapgs(struct soft_vcpu *v, const struct insn *i)
{
	u64 base = v->seg[SEG_GS].base;

	(void)i;
	sys_need_cpl0(v);
	v->seg[SEG_GS].base = v->msr.kernel_gs_base;
	v->msr.kernel_gs_base = base;
}

static void sys_fsgs_check(struct soft_vcpu *v)
{
	if (!(v->cr4 & CR4_FSGSBASE))
		soft_fault(v, VEC_UD);
}

static void sys_rdfsbase(struct soft_vcpu *v, const struct insn *i)
{
	sys_fsgs_check(v);
	sys_reg_set(v, i->rm, i->opsize, v->seg[SEG_FS].base);
}

static void sys_rdgsbase(struct soft_vcpu *v, const struct insn *i)
{
	sys_fsgs_check(v);
	sys_reg_set(v, i->rm, i->opsize, v->seg[SEG_GS].base);
}

static u64 sys_new_base(struct soft_vcpu *v, const struct insn *i)
{
	u64 base = v->gpr[i->rm];

	sys_fsgs_check(v);
	if (i->opsize == 4)
		base = (u32)base;
	if (!lin_canonical(base))
		soft_fault_err(v, VEC_GP, 0);
	return base;
}

static void sys_wrfsbase(struct soft_vcpu *v, const struct insn *i)
{
	v->seg[SEG_FS].base = sys_new_base(v, i);
}

static void sys_wrgsbase(struct soft_vcpu *v, const struct insn *i)
{
	v->seg[SEG_GS].base = sys_new_base(v, i);
}

/* clang-format off */
const struct sys_op sys_ops_seg[] = {
	{ OP_MOV_TO_SREG, sys_mov_to_sreg },
	{ OP_MOV_FROM_SREG, sys_mov_from_sreg },
	{ OP_PUSH_SREG, sys_push_sreg },
	{ OP_POP_SREG, sys_pop_sreg },
	{ OP_LES, sys_les },
	{ OP_LDS, sys_lds },
	{ OP_LSS, sys_lss },
	{ OP_LFS, sys_lfs },
	{ OP_LGS, sys_lgs },
	{ OP_LAR, sys_lar },
	{ OP_LSL, sys_lsl },
	{ OP_VERR, sys_verr },
	{ OP_VERW, sys_verw },
	{ OP_ARPL, sys_arpl },
	{ OP_SGDT, sys_sgdt },
	{ OP_SIDT, sys_sidt },
	{ OP_LGDT, sys_lgdt },
	{ OP_LIDT, sys_lidt },
	{ OP_SLDT, sys_sldt },
	{ OP_STR, sys_str },
	{ OP_LLDT, sys_lldt },
	{ OP_LTR, sys_ltr },
	{ OP_SWAPGS, sys_swapgs },
	{ OP_RDFSBASE, sys_rdfsbase },
	{ OP_RDGSBASE, sys_rdgsbase },
	{ OP_WRFSBASE, sys_wrfsbase },
	{ OP_WRGSBASE, sys_wrgsbase },
	{ 0, NULL },
};
