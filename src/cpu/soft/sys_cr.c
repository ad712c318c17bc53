/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Control and debug registers, XCR0, and TLB invalidation (SDM volume 3, 2.5,
 * 4.10, 17.2).
 */
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

#define CR0_KNOWN                                                       \
	(CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | \
	 CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define CR4_ALWAYS                                                            \
	(CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_PCE | \
	 CR4_OSFXSR | CR4_OSXMMEXCPT)

static NORETURN void cr_fault(struct soft_vcpu *v)
{
	soft_fault_err(v, VEC_GP, 0);
}

/* Bits of CR4 that CPUID announces. */
static u64 cr4_known(const struct soft_vcpu *v)
{
	static const struct {
		u32 leaf;
		bool ecx;
		u8 bit;
		u64 cr4;
	} feature[] = {
		{7, false, 0, CR4_FSGSBASE}, {7, false, 7, CR4_SMEP},
		{7, false, 20, CR4_SMAP},    {7, true, 2, CR4_UMIP},
		{1, true, 17, CR4_PCIDE},    {1, true, 26, CR4_OSXSAVE},
	};
	const struct cpuid_model *m = &soft_engine_of(v)->cpuid;
	u64 known = CR4_ALWAYS;

	for (unsigned i = 0; i < ARRAY_LEN(feature); i++) {
		struct cpuid_regs r =
			cpuid_model_get(m, feature[i].leaf, 0, v->vcpu.id);

		if ((feature[i].ecx ? r.ecx : r.ebx) >> feature[i].bit & 1)
			known |= feature[i].cr4;
	}
	return known;
}

static bool cr_pae_paging(u64 cr0, u64 cr4, u64 efer)
{
	return cr0 & CR0_PG && cr4 & CR4_PAE && !(efer & EFER_LME);
}

/* Going into or out of long mode by CR0.PG; returns the new EFER. */
static u64 cr0_long_mode(struct soft_vcpu *v, u64 val)
{
	u64 efer = v->efer;

	if (!((v->cr0 ^ val) & CR0_PG) || !(efer & EFER_LME))
		return efer;
	if (val & CR0_PG) {
		if (!(v->cr4 & CR4_PAE) || v->seg[SEG_CS].attr & SEG_ATTR_L)
			cr_fault(v);
		return efer | EFER_LMA;
	}
	if (v->mode & MODE_CS64)
		cr_fault(v);
	return efer & ~EFER_LMA;
}

void sys_set_cr0(struct soft_vcpu *v, u64 val)
{
	u64 changed, efer;

	if (val >> 32 || (val & CR0_PG && !(val & CR0_PE)) ||
	    (val & CR0_NW && !(val & CR0_CD)))
		cr_fault(v);
	val = (val & CR0_KNOWN) | CR0_ET;
	changed = v->cr0 ^ val;
	if (changed & CR0_PG && v->cr4 & CR4_PCIDE)
		cr_fault(v);
	efer = cr0_long_mode(v, val);
	if (changed & (CR0_PG | CR0_CD | CR0_NW) &&
	    cr_pae_paging(val, v->cr4, efer) && !mmu_load_pdptes(v, v->cr3))
		cr_fault(v);
	v->cr0 = val;
	v->efer = efer;
	if (changed & (CR0_PG | CR0_WP | CR0_PE))
		mmu_mode_changed(v);
	soft_update_mode(v);
	soft_attention(v, ATTN_MODE);
}

void sys_set_cr3(struct soft_vcpu *v, u64 val)
{
	bool keep = false;

	if (v->efer & EFER_LMA) {
		if (v->cr4 & CR4_PCIDE) {
			keep = val >> 63;
			val &= ~BIT64(63);
		}
		if (val & ~(v->mmu->addr_mask | PAGE_MASK))
			cr_fault(v);
	} else {
		val = (u32)val;
		if (cr_pae_paging(v->cr0, v->cr4, v->efer) &&
		    !mmu_load_pdptes(v, val))
			cr_fault(v);
	}
	v->cr3 = val;
	mmu_cr3_changed(v, keep);
	soft_attention(v, ATTN_MODE);
}

void sys_set_cr4(struct soft_vcpu *v, u64 val)
{
	u64 changed = v->cr4 ^ val;
	u64 paging =
		CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PCIDE;

	if (val & ~cr4_known(v))
		cr_fault(v);
	if (v->efer & EFER_LMA && !(val & CR4_PAE))
		cr_fault(v);
	if (changed & val & CR4_PCIDE &&
	    (!(v->efer & EFER_LMA) || v->cr3 & PAGE_MASK))
		cr_fault(v);
	if (changed & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_SMEP) &&
	    cr_pae_paging(v->cr0, val, v->efer) && !mmu_load_pdptes(v, v->cr3))
		cr_fault(v);
	v->cr4 = val;
	if (changed & paging)
		mmu_mode_changed(v);
	soft_update_mode(v);
	soft_attention(v, ATTN_MODE);
}

static void sys_set_cr8(struct soft_vcpu *v, u64 val)
{
	if (val > 15)
		cr_fault(v);
	lapic_set_cr8(v->vcpu.lapic, (u8)val);
	if (lapic_pending(v->vcpu.lapic))
		soft_attention(v, ATTN_IRQ);
}

static void sys_mov_to_cr(struct soft_vcpu *v, const struct insn *i)
{
	u64 val = v->gpr[i->rm];

	if (!(v->mode & MODE_CS64))
		val = (u32)val;
	sys_need_cpl0(v);
	switch (i->reg) {
	case 0: sys_set_cr0(v, val); break;
	case 2: v->cr2 = val; break;
	case 3: sys_set_cr3(v, val); break;
	case 4: sys_set_cr4(v, val); break;
	case 8: sys_set_cr8(v, val); break;
	default: soft_fault(v, VEC_UD);
	}
	v->rip = insn_next(v, i);
}

static void sys_mov_from_cr(struct soft_vcpu *v, const struct insn *i)
{
	u64 val;

	sys_need_cpl0(v);
	switch (i->reg) {
	case 0: val = v->cr0; break;
	case 2: val = v->cr2; break;
	case 3: val = v->cr3; break;
	case 4: val = v->cr4; break;
	case 8: val = lapic_get_cr8(v->vcpu.lapic); break;
	default: soft_fault(v, VEC_UD);
	}
	v->gpr[i->rm] = v->mode & MODE_CS64 ? val : (u32)val;
}

static void sys_lmsw(struct soft_vcpu *v, const struct insn *i)
{
	u64 val;

	sys_need_cpl0(v);
	val = sys_rm_get(v, i, 2) & 15;
	/* PE can be set so, but not cleared */
	sys_set_cr0(v, (v->cr0 & ~14ull) | val);
}

static void sys_smsw(struct soft_vcpu *v, const struct insn *i)
{
	sys_need_umip(v);
	sys_rm_set(v, i, i->mem ? 2 : i->opsize, v->cr0);
}

static void sys_clts(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_need_cpl0(v);
	v->cr0 &= ~CR0_TS;
}

/* The register that MOV DR means; checks CPL, DE, GD. */
static unsigned sys_dr_number(struct soft_vcpu *v, const struct insn *i)
{
	unsigned n = i->reg;

	sys_need_cpl0(v);
	if (n > 7 || ((n == 4 || n == 5) && v->cr4 & CR4_DE))
		soft_fault(v, VEC_UD);
	if (v->dr7 & BIT64(13)) {
		v->dr6 |= BIT64(13);
		soft_fault(v, VEC_DB);
	}
	return n == 4 || n == 5 ? n + 2 : n;
}

static void sys_mov_from_dr(struct soft_vcpu *v, const struct insn *i)
{
	unsigned n = sys_dr_number(v, i);

	v->gpr[i->rm] = n < 4 ? v->dr[n] : n == 6 ? v->dr6 : v->dr7;
}

static void sys_mov_to_dr(struct soft_vcpu *v, const struct insn *i)
{
	unsigned n = sys_dr_number(v, i);
	u64 val = v->gpr[i->rm];

	if (!(v->mode & MODE_CS64))
		val = (u32)val;
	if (n >= 6 && val >> 32)
		cr_fault(v);
	if (n < 4)
		v->dr[n] = val;
	else if (n == 6)
		v->dr6 = (val & 0xe00f) | 0xffff0ff0;
	else
		v->dr7 = (val & 0xffff23ff) | 0x400;
	v->rip = insn_next(v, i);
	/* Watched pages must not stay in the TLB. */
	if (n != 6 && (v->dr7 & 0xff || n == 7)) {
		mmu_flush_all(v);
		soft_update_mode(v);
	}
	soft_attention(v, ATTN_MODE);
}

static void sys_invlpg(struct soft_vcpu *v, const struct insn *i)
{
	u64 lin = soft_ea(v, i);

	sys_need_cpl0(v);
	if (!(v->mode & MODE_CS64))
		lin = (u32)(lin + v->seg[i->seg].base);
	else if (i->seg == SEG_FS || i->seg == SEG_GS)
		lin += v->seg[i->seg].base;
	mmu_invlpg(v, lin);
	soft_attention(v, ATTN_MODE);
}

static void sys_invpcid(struct soft_vcpu *v, const struct insn *i)
{
	u64 type = v->gpr[i->reg], d[2];
	gva_t lin;

	sys_need_cpl0(v);
	if (!(v->mode & MODE_CS64))
		type = (u32)type;
	lin = soft_lin(v, i->seg, soft_ea(v, i), 16, MMU_READ);
	soft_ld_bytes(v, lin, d, 16);
	if (type > 3 || d[0] >> 12 ||
	    (type < 2 && d[0] && !(v->cr4 & CR4_PCIDE)) ||
	    (type == 0 && !lin_canonical(d[1])))
		cr_fault(v);
	switch (type) {
	case 0: mmu_invpcid_addr(v, (u16)d[0], d[1]); break;
	case 1: mmu_invpcid_single(v, (u16)d[0]); break;
	case 2: mmu_flush_all(v); break;
	case 3: mmu_flush_nonglobal(v); break;
	}
	soft_attention(v, ATTN_MODE);
}

static void sys_xgetbv(struct soft_vcpu *v, const struct insn *i)
{
	u64 val = v->xcr0;

	(void)i;
	if (!(v->cr4 & CR4_OSXSAVE))
		soft_fault(v, VEC_UD);
	if ((u32)v->gpr[REG_CX] > 1)
		cr_fault(v);
	if ((u32)v->gpr[REG_CX] == 1)
		val &= simd_xinuse(v);
	v->gpr[REG_AX] = (u32)val;
	v->gpr[REG_DX] = val >> 32;
}

static void sys_xsetbv(struct soft_vcpu *v, const struct insn *i)
{
	u64 val = (u32)v->gpr[REG_AX] | v->gpr[REG_DX] << 32;

	if (!(v->cr4 & CR4_OSXSAVE))
		soft_fault(v, VEC_UD);
	sys_need_cpl0(v);
	if ((u32)v->gpr[REG_CX] || !(val & 1) ||
	    val & ~soft_engine_of(v)->cpuid.xcr0_mask ||
	    (val & 4 && !(val & 2)))
		cr_fault(v);
	v->xcr0 = val;
	v->rip = insn_next(v, i);
	soft_attention(v, ATTN_MODE);
}

/* clang-format off */
const struct sys_op sys_ops_cr[] = {
	{ OP_MOV_TO_CR, sys_mov_to_cr },
	{ OP_MOV_FROM_CR, sys_mov_from_cr },
	{ OP_MOV_TO_DR, sys_mov_to_dr },
	{ OP_MOV_FROM_DR, sys_mov_from_dr },
	{ OP_LMSW, sys_lmsw },
	{ OP_SMSW, sys_smsw },
	{ OP_CLTS, sys_clts },
	{ OP_INVLPG, sys_invlpg },
	{ OP_INVPCID, sys_invpcid },
	{ OP_XGETBV, sys_xgetbv },
	{ OP_XSETBV, sys_xsetbv },
	{ 0, NULL },
};
