/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Model-specific registers (SDM volume 4): a table of ranges with a reader and
 * a writer each. Next comes the table of constants that both engines have
 * (cpu/x86/msr.h). What is in neither is #GP, as on hardware.
 */
#include "cpu/x86/msr.h"
#include "base/clock.h"
#include "cpu/soft/access.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/sys.h"

enum msr_check { MSR_ANY, MSR_CANONICAL, MSR_LOW32, MSR_PAT_TYPES, MSR_MASK };

/*
 * One range: functions, or field, the offset of a u64 in struct cpu_state, or
 * const_val for those without either, which ignore writes where write_ok.
 */
struct msr_row {
	u32 first, last;
	u32 field; /* 0: none (gpr[] is no MSR) */
	enum msr_check check;
	u64 mask; /* MSR_MASK: writable bits */
	bool (*read)(struct soft_vcpu *v, u32 msr, u64 *val);
	bool (*write)(struct soft_vcpu *v, u32 msr, u64 val);
	u64 const_val;
	bool write_ok;
};

u64 soft_tsc(const struct soft_vcpu *v)
{
	return clock_tsc() + v->tsc_offset;
}

static void msr_move_tsc(struct soft_vcpu *v, u64 delta)
{
	v->tsc_offset += delta;
	v->msr.tsc_adjust += delta;
	lapic_set_tsc(v->vcpu.lapic);
	pv_loaded(v);
}

static bool msr_tsc_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	(void)msr;
	*val = soft_tsc(v);
	return true;
}

static bool msr_tsc_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	(void)msr;
	msr_move_tsc(v, val - soft_tsc(v));
	return true;
}

static bool msr_tsc_adjust_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	(void)msr;
	msr_move_tsc(v, val - v->msr.tsc_adjust);
	return true;
}

void sys_apic_base_changed(struct soft_vcpu *v)
{
	gpa_t page = ~0ull;
	u64 base = 0;

	lapic_msr_read(v->vcpu.lapic, MSR_APIC_BASE, &base);
	v->msr.lapic.apic_base = base;
	if ((base & (BIT(11) | BIT(10))) == BIT(11))
		page = base & v->mmu->addr_mask;
	if (page != v->mmu->apic_page) {
		v->mmu->apic_page = page;
		mmu_flush_all(v);
	}
}

static bool msr_lapic_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	return lapic_msr_read(v->vcpu.lapic, msr, val);
}

static bool msr_lapic_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	if (!lapic_msr_write(v->vcpu.lapic, msr, val))
		return false;
	if (msr == MSR_APIC_BASE)
		sys_apic_base_changed(v);
	if (lapic_pending(v->vcpu.lapic))
		soft_attention(v, ATTN_IRQ);
	return true;
}

static bool msr_efer_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	(void)msr;
	*val = v->efer;
	return true;
}

static bool msr_efer_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	u64 changed = v->efer ^ val;

	(void)msr;
	if (val & ~(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE))
		return false;
	if (changed & EFER_LME && v->cr0 & CR0_PG)
		return false;
	v->efer = (val & ~EFER_LMA) | (v->efer & EFER_LMA);
	if (changed & EFER_NXE)
		mmu_mode_changed(v);
	soft_update_mode(v);
	return true;
}

static bool msr_base_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	*val = v->seg[msr == MSR_FS_BASE ? SEG_FS : SEG_GS].base;
	return true;
}

static bool msr_base_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	if (!lin_canonical(val))
		return false;
	v->seg[msr == MSR_FS_BASE ? SEG_FS : SEG_GS].base = val;
	return true;
}

static bool msr_arch_capabilities(struct soft_vcpu *v, u32 msr, u64 *val)
{
	(void)msr;
	*val = soft_engine_of(v)->cpuid.arch_capabilities;
	return *val != 0;
}

static bool msr_xss_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	(void)v;
	(void)msr;
	return !val; /* no supervisor component is announced */
}

static bool msr_mtrr_var_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	unsigned n = (msr - MSR_MTRR_BASE0) / 2;

	*val = msr & 1 ? v->msr.mtrr_mask[n] : v->msr.mtrr_base[n];
	return true;
}

static bool msr_mtrr_var_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	unsigned n = (msr - MSR_MTRR_BASE0) / 2;

	if (val & ~(v->mmu->addr_mask | 0xfff))
		return false;
	if (msr & 1)
		v->msr.mtrr_mask[n] = val & ~0x7ffull;
	else
		v->msr.mtrr_base[n] = val & ~0xf00ull;
	return true;
}

/* 0x250; 0x258, 0x259; 0x268 to 0x26f as elements 0 to 10 */
static int msr_mtrr_fixed_index(u32 msr)
{
	if (msr == 0x250)
		return 0;
	if (msr <= 0x259)
		return msr >= 0x258 ? (int)msr - 0x257 : -1;
	return msr >= 0x268 ? (int)msr - 0x265 : -1;
}

static bool msr_mtrr_fixed_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	int n = msr_mtrr_fixed_index(msr);

	if (n < 0)
		return false;
	*val = v->msr.mtrr_fixed[n];
	return true;
}

static bool msr_mtrr_fixed_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	int n = msr_mtrr_fixed_index(msr);

	if (n < 0)
		return false;
	v->msr.mtrr_fixed[n] = val;
	return true;
}

/* Microcode revision: software writes 0, CPUID puts the number there. */
static bool msr_ignore(struct soft_vcpu *v, u32 msr, u64 val)
{
	(void)v;
	(void)msr;
	(void)val;
	return true;
}

#define FIELD(f) offsetof(struct cpu_state, f)

/* clang-format off */
static const struct msr_row msr_rows[] = {
	{ .first = MSR_TSC, .last = MSR_TSC, .read = msr_tsc_read,
	  .write = msr_tsc_write },
	{ .first = MSR_APIC_BASE, .last = MSR_APIC_BASE,
	  .read = msr_lapic_read, .write = msr_lapic_write },
	{ .first = MSR_TSC_DEADLINE, .last = MSR_TSC_DEADLINE,
	  .read = msr_lapic_read, .write = msr_lapic_write },
	{ .first = MSR_X2APIC_FIRST, .last = MSR_X2APIC_LAST,
	  .read = msr_lapic_read, .write = msr_lapic_write },
	{ .first = MSR_TSC_ADJUST, .last = MSR_TSC_ADJUST,
	  .field = FIELD(tsc_adjust), .write = msr_tsc_adjust_write },
	{ .first = MSR_SPEC_CTRL, .last = MSR_SPEC_CTRL,
	  .field = FIELD(spec_ctrl), .check = MSR_MASK, .mask = 0x407 },
	{ .first = MSR_PRED_CMD, .last = MSR_PRED_CMD, .write_ok = true },
	{ .first = MSR_BIOS_SIGN_ID, .last = MSR_BIOS_SIGN_ID,
	  .write = msr_ignore, .const_val = 1ull << 32 },
	{ .first = MSR_MTRRCAP, .last = MSR_MTRRCAP, .const_val = 0x508 },
	{ .first = MSR_ARCH_CAPABILITIES, .last = MSR_ARCH_CAPABILITIES,
	  .read = msr_arch_capabilities },
	{ .first = MSR_SYSENTER_CS, .last = MSR_SYSENTER_CS,
	  .field = FIELD(sysenter_cs), .check = MSR_LOW32 },
	{ .first = MSR_SYSENTER_ESP, .last = MSR_SYSENTER_ESP,
	  .field = FIELD(sysenter_esp), .check = MSR_CANONICAL },
	{ .first = MSR_SYSENTER_EIP, .last = MSR_SYSENTER_EIP,
	  .field = FIELD(sysenter_eip), .check = MSR_CANONICAL },
	{ .first = MSR_MCG_CAP, .last = MSR_MCG_CAP },
	{ .first = MSR_MCG_STATUS, .last = MSR_MCG_STATUS, .write_ok = true },
	{ .first = MSR_MISC_ENABLE, .last = MSR_MISC_ENABLE,
	  .field = FIELD(misc_enable), .check = MSR_MASK,
	  .mask = 0x3ffffffff },
	{ .first = MSR_DEBUGCTL, .last = MSR_DEBUGCTL,
	  .field = FIELD(debugctl), .check = MSR_MASK, .mask = 0xdfc3 },
	{ .first = MSR_MTRR_BASE0, .last = MSR_MTRR_BASE0 + 15,
	  .read = msr_mtrr_var_read, .write = msr_mtrr_var_write },
	{ .first = MSR_MTRR_FIX64K, .last = 0x26f, .read = msr_mtrr_fixed_read,
	  .write = msr_mtrr_fixed_write },
	{ .first = MSR_PAT, .last = MSR_PAT, .field = FIELD(pat),
	  .check = MSR_PAT_TYPES },
	{ .first = MSR_MTRR_DEF_TYPE, .last = MSR_MTRR_DEF_TYPE,
	  .field = FIELD(mtrr_def_type), .check = MSR_MASK, .mask = 0xcff },
	{ .first = MSR_XSS, .last = MSR_XSS, .field = FIELD(xss),
	  .write = msr_xss_write },
	{ .first = MSR_EFER, .last = MSR_EFER, .read = msr_efer_read,
	  .write = msr_efer_write },
	{ .first = MSR_STAR, .last = MSR_STAR, .field = FIELD(star) },
	{ .first = MSR_LSTAR, .last = MSR_LSTAR, .field = FIELD(lstar),
	  .check = MSR_CANONICAL },
	{ .first = MSR_CSTAR, .last = MSR_CSTAR, .field = FIELD(cstar),
	  .check = MSR_CANONICAL },
	{ .first = MSR_SFMASK, .last = MSR_SFMASK, .field = FIELD(sfmask),
	  .check = MSR_LOW32 },
	{ .first = MSR_FS_BASE, .last = MSR_GS_BASE, .read = msr_base_read,
	  .write = msr_base_write },
	{ .first = MSR_KERNEL_GS_BASE, .last = MSR_KERNEL_GS_BASE,
	  .field = FIELD(kernel_gs_base), .check = MSR_CANONICAL },
	{ .first = MSR_TSC_AUX, .last = MSR_TSC_AUX, .field = FIELD(tsc_aux),
	  .check = MSR_LOW32 },
};
/* clang-format on */

static const struct msr_row *msr_find(u32 msr)
{
	for (unsigned i = 0; i < ARRAY_LEN(msr_rows); i++)
		if (msr - msr_rows[i].first <=
		    msr_rows[i].last - msr_rows[i].first)
			return &msr_rows[i];
	return NULL;
}

static bool msr_pat_ok(u64 val)
{
	for (unsigned i = 0; i < 8; i++) {
		u8 type = (u8)(val >> (8 * i));

		if (type > 7 || type == 2 || type == 3)
			return false;
	}
	return true;
}

static bool msr_value_ok(const struct msr_row *r, u64 val)
{
	switch (r->check) {
	case MSR_CANONICAL: return lin_canonical(val);
	case MSR_LOW32: return !(val >> 32);
	case MSR_PAT_TYPES: return msr_pat_ok(val);
	case MSR_MASK: return !(val & ~r->mask);
	case MSR_ANY: break;
	}
	return true;
}

bool msr_read(struct soft_vcpu *v, u32 msr, u64 *val)
{
	const struct msr_row *r = msr_find(msr);

	if (!r)
		return x86_msr_read(msr, val) || pv_msr_read(v, msr, val);
	if (r->read)
		return r->read(v, msr, val);
	*val = r->field ? *(u64 *)((u8 *)&v->msr + r->field) : r->const_val;
	return true;
}

bool msr_write(struct soft_vcpu *v, u32 msr, u64 val)
{
	const struct msr_row *r = msr_find(msr);

	if (!r)
		return x86_msr_write(msr) || pv_msr_write(v, msr, val);
	if (!msr_value_ok(r, val))
		return false;
	if (r->write)
		return r->write(v, msr, val);
	if (r->field) {
		*(u64 *)((u8 *)&v->msr + r->field) = val;
		return true;
	}
	return r->write_ok;
}
