/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x87 control instructions: words, FWAIT, and environments in their four
 * formats (SDM 1, 8.1.10: 16 or 32 bits, protected or real mode).
 *
 * The CPU makes and reads the environment in a buffer, in the protected mode
 * format of the same size; instruction and data pointers, which differ by mode
 * and would be the host's, are put in and taken out here.
 */
#include "cpu/soft/x87_priv.h"

static void x87_fwait(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	if ((v->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
		soft_fault(v, VEC_NM);
	if (xs16(v, FX_FSW) & FSW_ES && v->cr0 & CR0_NE)
		soft_fault(v, VEC_MF);
}

static void x87_store_word(struct soft_vcpu *v, const struct insn *i,
			   unsigned field)
{
	x87_enter(v, false);
	soft_st(v, simd_lin(v, i, 2, MMU_WRITE), 2, xs16(v, field));
}

static void x87_fnstcw(struct soft_vcpu *v, const struct insn *i)
{
	x87_store_word(v, i, FX_FCW);
}

static void x87_fnstsw(struct soft_vcpu *v, const struct insn *i)
{
	x87_store_word(v, i, FX_FSW);
}

static void x87_fnstsw_ax(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	x87_enter(v, false);
	memcpy(&v->gpr[REG_AX], v->xsave + FX_FSW, 2);
}

static void x87_fnclex(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	x87_enter(v, false);
	x87_sync(v);
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) & 0x7f00);
}

/* ---- Environments ---- */

static bool env_real_format(const struct soft_vcpu *v)
{
	return (v->mode & (MODE_PE | MODE_VM86)) != MODE_PE;
}

static u32 env_get(const u8 *env, unsigned field, unsigned size)
{
	u32 x = 0;

	memcpy(&x, env + field * size, size);
	return x;
}

static void env_set(u8 *env, unsigned field, unsigned size, u32 val)
{
	memcpy(env + field * size, &val, size);
}

struct env_pointers {
	u32 fip, fdp;
	u16 fop;
};

/*
 * Fields 3 to 6 of size bytes each. Selectors are not kept by this CPU model
 * and read as zero. In real mode pointers are linear, in two parts.
 */
static void env_put_pointers(u8 *env, unsigned size, bool real,
			     const struct env_pointers *p)
{
	/* Upper halves of 32-bit fields below the pointers read as ones. */
	if (!real) {
		env_set(env, 3, size, p->fip);
		env_set(env, 4, size, size == 4 ? (u32)p->fop << 16 : 0);
		env_set(env, 5, size, p->fdp);
		env_set(env, 6, size, size == 4 ? 0xffff0000u : 0);
		return;
	}
	if (size == 2) {
		env_set(env, 3, 2, p->fip);
		env_set(env, 4, 2, (p->fip >> 4 & 0xf000) | p->fop);
		env_set(env, 5, 2, p->fdp);
		env_set(env, 6, 2, p->fdp >> 4 & 0xf000);
		return;
	}
	env_set(env, 3, 4, 0xffff0000u | (p->fip & 0xffff));
	env_set(env, 4, 4, (p->fip >> 4 & 0xffff000) | p->fop);
	env_set(env, 5, 4, 0xffff0000u | (p->fdp & 0xffff));
	env_set(env, 6, 4, p->fdp >> 4 & 0xffff000);
}

static struct env_pointers env_get_pointers(const u8 *env, unsigned size,
					    bool real)
{
	struct env_pointers p = {0};
	u32 f3 = env_get(env, 3, size), f4 = env_get(env, 4, size);
	u32 f5 = env_get(env, 5, size), f6 = env_get(env, 6, size);

	if (!real) {
		p.fip = f3;
		p.fdp = f5;
		p.fop = size == 4 ? f4 >> 16 & 0x7ff : 0;
		return p;
	}
	p.fip = (f3 & 0xffff) | (f4 & (size == 2 ? 0xf000 : 0xffff000)) << 4;
	p.fdp = (f5 & 0xffff) | (f6 & (size == 2 ? 0xf000 : 0xffff000)) << 4;
	p.fop = f4 & 0x7ff;
	return p;
}

static gva_t env_lin(struct soft_vcpu *v, const struct insn *i,
		     enum mmu_access access)
{
	u64 ea = soft_ea(v, i);
	gva_t lin = soft_lin(v, i->seg, ea, 1, access);

	(void)soft_lin(v, i->seg, ea + i->memsize - 1, 1, access);
	if (v->mode & MODE_AC && lin & (i->opsize == 2 ? 1 : 3))
		soft_fault_err(v, VEC_AC, 0);
	return lin;
}

/* FNSTENV and FNSAVE. */
static void x87_store_env(struct soft_vcpu *v, const struct insn *i)
{
	u8 *env = v->simd->bounce;
	unsigned size = i->opsize == 2 ? 2 : 4;
	struct env_pointers p;
	gva_t lin;

	x87_enter(v, false);
	lin = env_lin(v, i, MMU_WRITE);
	soft_probe(v, lin, i->memsize, MMU_WRITE);
	x87_sync(v);
	p = (struct env_pointers){.fip = (u32)xs64(v, FX_FIP),
				  .fdp = (u32)xs64(v, FX_FDP),
				  .fop = xs16(v, FX_FOP)};
	x87_alone(v, i, env);
	if (i->op == OP_FNSAVE)
		x87_clear_pointers(v);
	env_put_pointers(env, size, env_real_format(v), &p);
	soft_st_bytes(v, lin, env, i->memsize);
}

/* FLDENV and FRSTOR. */
static void x87_load_env(struct soft_vcpu *v, const struct insn *i)
{
	u8 *env = v->simd->bounce;
	unsigned size = i->opsize == 2 ? 2 : 4;
	struct env_pointers p;
	gva_t lin;

	x87_enter(v, true);
	lin = env_lin(v, i, MMU_READ);
	soft_ld_bytes(v, lin, env, i->memsize);
	p = env_get_pointers(env, size, env_real_format(v));
	x87_sync(v);
	/* Nothing may be pending that the CPU would want to raise before. */
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) & 0x7f00);
	x87_alone(v, i, env);
	xs_set64(v, FX_FIP, p.fip);
	xs_set64(v, FX_FDP, p.fdp);
	xs_set16(v, FX_FOP, p.fop);
}

bool x87_control_has_thunk(const struct insn *i)
{
	switch (i->op) {
	case OP_FLDENV:
	case OP_FNSTENV:
	case OP_FRSTOR:
	case OP_FNSAVE: return true;
	default: return false;
	}
}

insn_fn *x87_control_bind(const struct insn *i)
{
	switch (i->op) {
	case OP_FWAIT: return x87_fwait;
	case OP_FNSTCW: return x87_fnstcw;
	case OP_FNSTSW: return i->mem ? x87_fnstsw : x87_fnstsw_ax;
	case OP_FNCLEX: return x87_fnclex;
	case OP_FNSTENV:
	case OP_FNSAVE: return x87_store_env;
	case OP_FLDENV:
	case OP_FRSTOR: return x87_load_env;
	default: return NULL;
	}
}
