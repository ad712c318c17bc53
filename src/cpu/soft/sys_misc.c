/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CPUID, time stamps, MSR access, STAC and CLAC, hypercalls, caches.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

static u32 cpuid_xsave_size(u64 components)
{
	return components & 4 ? 832 : 576;
}

struct cpuid_regs sys_cpuid(const struct soft_vcpu *v, u32 leaf, u32 subleaf)
{
	struct cpuid_regs r = cpuid_model_get(&soft_engine_of(v)->cpuid, leaf,
					      subleaf, v->vcpu.id);

	if (leaf == 1) {
		if (v->cr4 & CR4_OSXSAVE)
			r.ecx |= BIT(27);
		if (!(v->msr.lapic.apic_base & BIT(11)))
			r.edx &= ~BIT(9);
	} else if (leaf == 0xd && subleaf == 0 && r.eax) {
		r.ebx = cpuid_xsave_size(v->xcr0);
	} else if (leaf == 0xd && subleaf == 1 && r.ebx) {
		r.ebx = cpuid_xsave_size(v->xcr0 | v->msr.xss);
	}
	return r;
}

static void sys_do_cpuid(struct soft_vcpu *v, const struct insn *i)
{
	struct cpuid_regs r =
		sys_cpuid(v, (u32)v->gpr[REG_AX], (u32)v->gpr[REG_CX]);

	(void)i;
	v->gpr[REG_AX] = r.eax;
	v->gpr[REG_BX] = r.ebx;
	v->gpr[REG_CX] = r.ecx;
	v->gpr[REG_DX] = r.edx;
}

static void sys_set_edx_eax(struct soft_vcpu *v, u64 val)
{
	v->gpr[REG_AX] = (u32)val;
	v->gpr[REG_DX] = val >> 32;
}

static void sys_rdtsc(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	if (v->cr4 & CR4_TSD)
		sys_need_cpl0(v);
	sys_set_edx_eax(v, soft_tsc(v));
}

static void sys_rdtscp(struct soft_vcpu *v, const struct insn *i)
{
	sys_rdtsc(v, i);
	v->gpr[REG_CX] = (u32)v->msr.tsc_aux;
}

static void sys_rdpid(struct soft_vcpu *v, const struct insn *i)
{
	v->gpr[i->rm] = v->msr.tsc_aux;
}

/* There are no counters: every index is out of range. */
static void sys_rdpmc(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	soft_fault_err(v, VEC_GP, 0);
}

static void sys_rdmsr(struct soft_vcpu *v, const struct insn *i)
{
	u64 val = 0;

	(void)i;
	sys_need_cpl0(v);
	if (!msr_read(v, (u32)v->gpr[REG_CX], &val))
		soft_fault_err(v, VEC_GP, 0);
	sys_set_edx_eax(v, val);
}

static void sys_wrmsr(struct soft_vcpu *v, const struct insn *i)
{
	u64 val = (u32)v->gpr[REG_AX] | v->gpr[REG_DX] << 32;

	sys_need_cpl0(v);
	if (!msr_write(v, (u32)v->gpr[REG_CX], val))
		soft_fault_err(v, VEC_GP, 0);
	v->rip = insn_next(v, i);
}

/* AC alone changes: no more than another TLB. */
static void sys_set_ac(struct soft_vcpu *v, u64 ac)
{
	if (!(v->cr4 & CR4_SMAP))
		soft_fault(v, VEC_UD);
	if (v->cpl)
		soft_fault(v, VEC_UD);
	v->rflags = (v->rflags & ~(u64)RFLAGS_AC) | ac;
	mmu_select(v);
}

static void sys_stac(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_set_ac(v, RFLAGS_AC);
}

static void sys_clac(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_set_ac(v, 0);
}

static void sys_wbinvd(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_need_cpl0(v);
}

static void sys_hypercall(struct soft_vcpu *v, const struct insn *i)
{
	bool wide = v->mode & MODE_CS64;
	u64 a[5] = {v->gpr[REG_AX], v->gpr[REG_BX], v->gpr[REG_CX],
		    v->gpr[REG_DX], v->gpr[REG_SI]};
	u64 ret;

	(void)i;
	if (!wide)
		for (unsigned n = 0; n < 5; n++)
			a[n] = (u32)a[n];
	v->vcpu.stat[VCPU_STAT_HYPERCALL]++;
	ret = pv_hypercall(v, a[0], a[1], a[2], a[3], a[4]);
	v->gpr[REG_AX] = wide ? ret : (u32)ret;
}

/* clang-format off */
const struct sys_op sys_ops_misc[] = {
	{ OP_CPUID, sys_do_cpuid },
	{ OP_RDTSC, sys_rdtsc },
	{ OP_RDTSCP, sys_rdtscp },
	{ OP_RDPID, sys_rdpid },
	{ OP_RDPMC, sys_rdpmc },
	{ OP_RDMSR, sys_rdmsr },
	{ OP_WRMSR, sys_wrmsr },
	{ OP_STAC, sys_stac },
	{ OP_CLAC, sys_clac },
	{ OP_INVD, sys_wbinvd },
	{ OP_WBINVD, sys_wbinvd },
	{ OP_VMCALL, sys_hypercall },
	{ OP_VMMCALL, sys_hypercall },
	{ 0, NULL },
};
