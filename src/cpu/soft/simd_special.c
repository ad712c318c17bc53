/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SIMD instructions whose memory accesses depend on register contents: masked
 * moves and gathers, element by element; and VZEROUPPER, VZEROALL.
 */
#include "cpu/soft/simd_priv.h"

/* ---- VZEROUPPER, VZEROALL ---- */

/* Outside 64-bit mode there are only eight registers to clear. */
static unsigned special_regs(const struct soft_vcpu *v)
{
	return v->mode & MODE_CS64 ? 16 : 8;
}

static void special_vzeroupper(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	simd_enter_vex(v);
	memset(simd_ymmh(v, 0), 0, 16 * special_regs(v));
}

static void special_vzeroall(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	simd_enter_vex(v);
	memset(simd_ymmh(v, 0), 0, 16 * special_regs(v));
	memset(simd_xmm(v, 0), 0, 16 * special_regs(v));
}

/* ---- MASKMOVQ, MASKMOVDQU: bytes chosen by the top bits of a mask ---- */

static void special_store_bytes(struct soft_vcpu *v, gva_t lin, const u8 *data,
				const u8 *mask, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		if (mask[k] & 0x80)
			soft_probe(v, lin + k, 1, MMU_WRITE);
	for (unsigned k = 0; k < n; k++)
		if (mask[k] & 0x80)
			soft_st(v, lin + k, 1, data[k]);
}

static gva_t special_rdi(struct soft_vcpu *v, const struct insn *i, unsigned n)
{
	u64 off = v->gpr[REG_DI];

	if (i->adsize == 4)
		off = (u32)off;
	else if (i->adsize == 2)
		off = (u16)off;
	return soft_lin(v, i->seg, off, n, MMU_WRITE);
}

static void special_maskmovdqu(struct soft_vcpu *v, const struct insn *i)
{
	simd_enter(v, i);
	special_store_bytes(v, special_rdi(v, i, 16), simd_xmm(v, i->reg),
			    simd_xmm(v, i->rm), 16);
}

static void special_maskmovq(struct soft_vcpu *v, const struct insn *i)
{
	mmx_check(v);
	special_store_bytes(v, special_rdi(v, i, 8), mmx_reg(v, i->reg),
			    mmx_reg(v, i->rm), 8);
	mmx_enter(v);
}

/* ---- Elements of YMM registers, kept in two places ---- */

struct ymm {
	u8 b[32];
};

static struct ymm special_get(struct soft_vcpu *v, unsigned n)
{
	struct ymm y;

	memcpy(y.b, simd_xmm(v, n), 16);
	memcpy(y.b + 16, simd_ymmh(v, n), 16);
	return y;
}

static void special_set(struct soft_vcpu *v, unsigned n, const struct ymm *y)
{
	memcpy(simd_xmm(v, n), y->b, 16);
	memcpy(simd_ymmh(v, n), y->b + 16, 16);
}

static bool special_masked(const struct ymm *mask, unsigned k, unsigned size)
{
	return mask->b[k * size + size - 1] & 0x80;
}

/* ---- VMASKMOVPS/PD, VPMASKMOVD/Q ---- */

static unsigned vmaskmov_element(const struct insn *i)
{
	switch (i->op) {
	case OP_VMASKMOVPS:
	case OP_VPMASKMOVD: return 4;
	default: return 8;
	}
}

/* An access of size bytes within the operand; no alignment is checked. */
static gva_t vmaskmov_lin(struct soft_vcpu *v, const struct insn *i, u64 ea,
			  unsigned k, unsigned size, enum mmu_access access)
{
	u64 off = ea + (u64)k * size;

	if (i->adsize == 4)
		off = (u32)off;
	else if (i->adsize == 2)
		off = (u16)off;
	/* Two halves: soft_lin() checks alignment for sizes up to 8. */
	(void)soft_lin(v, i->seg, off + size - 1, 1, access);
	return soft_lin(v, i->seg, off, 1, access);
}

static void vmaskmov_load(struct soft_vcpu *v, const struct insn *i)
{
	unsigned size = vmaskmov_element(i), n = i->opsize / size;
	struct ymm mask, y = {{0}};
	u64 ea;

	simd_enter_vex(v);
	mask = special_get(v, i->vreg);
	ea = soft_ea(v, i);
	for (unsigned k = 0; k < n; k++) {
		gva_t lin;
		u64 x;

		if (!special_masked(&mask, k, size))
			continue;
		lin = vmaskmov_lin(v, i, ea, k, size, MMU_READ);
		x = soft_ld(v, lin, size);
		memcpy(y.b + k * size, &x, size);
	}
	special_set(v, i->reg, &y);
}

static void vmaskmov_store(struct soft_vcpu *v, const struct insn *i)
{
	unsigned size = vmaskmov_element(i), n = i->opsize / size;
	struct ymm mask, y;
	gva_t lin[8];
	u64 ea;

	simd_enter_vex(v);
	mask = special_get(v, i->vreg);
	y = special_get(v, i->reg);
	ea = soft_ea(v, i);
	for (unsigned k = 0; k < n; k++) {
		if (!special_masked(&mask, k, size))
			continue;
		lin[k] = vmaskmov_lin(v, i, ea, k, size, MMU_WRITE);
		soft_probe(v, lin[k], size, MMU_WRITE);
	}
	for (unsigned k = 0; k < n; k++) {
		u64 x = 0;

		if (!special_masked(&mask, k, size))
			continue;
		memcpy(&x, y.b + k * size, size);
		soft_st(v, lin[k], size, x);
	}
}

/* ---- Gathers ---- */

struct gather {
	u8 index, data; /* element sizes */
};

static struct gather gather_sizes(const struct insn *i)
{
	switch (i->op) {
	case OP_VPGATHERDD:
	case OP_VGATHERDPS: return (struct gather){4, 4};
	case OP_VPGATHERDQ:
	case OP_VGATHERDPD: return (struct gather){4, 8};
	case OP_VPGATHERQD:
	case OP_VGATHERQPS: return (struct gather){8, 4};
	default: return (struct gather){8, 8};
	}
}

static u64 gather_offset(const struct soft_vcpu *v, const struct insn *i,
			 const struct ymm *index, unsigned k, unsigned size)
{
	u64 base = i->base < 16 ? v->gpr[i->base] : 0, off, x = 0;

	memcpy(&x, index->b + k * size, size);
	if (size == 4)
		x = (u64)(s64)(s32)x;
	off = base + (x << i->scale) + (u64)(s64)i->disp;
	return i->adsize == 4 ? (u32)off : off;
}

/*
 * Lowest element first. Each element that is done is in the destination and
 * its mask is cleared before the next is tried, so that a fault leaves what
 * the SDM demands and the instruction can be restarted.
 */
static void gather_run(struct soft_vcpu *v, const struct insn *i)
{
	struct gather g = gather_sizes(i);
	unsigned n = i->opsize / MAX(g.index, g.data);
	struct ymm mask, dst, index;

	simd_enter_vex(v);
	index = special_get(v, i->index);
	mask = special_get(v, i->vreg);
	dst = special_get(v, i->reg);
	/* The first act: mask elements become all ones or zeros. */
	for (unsigned k = 0; k < i->opsize / g.data; k++)
		memset(mask.b + k * g.data,
		       special_masked(&mask, k, g.data) ? 0xff : 0, g.data);
	memset(mask.b + i->opsize, 0, sizeof(mask.b) - i->opsize);
	special_set(v, i->vreg, &mask);
	memset(dst.b + i->opsize, 0, sizeof(dst.b) - i->opsize);
	for (unsigned k = 0; k < n; k++) {
		u64 off, x;

		if (!special_masked(&mask, k, g.data))
			continue;
		off = gather_offset(v, i, &index, k, g.index);
		x = soft_ld(v, soft_lin(v, i->seg, off, g.data, MMU_READ),
			    g.data);
		memcpy(dst.b + k * g.data, &x, g.data);
		memset(mask.b + k * g.data, 0, g.data);
		special_set(v, i->reg, &dst);
		special_set(v, i->vreg, &mask);
	}
	memset(mask.b + n * g.data, 0, sizeof(mask.b) - n * g.data);
	memset(dst.b + n * g.data, 0, sizeof(dst.b) - n * g.data);
	special_set(v, i->reg, &dst);
	special_set(v, i->vreg, &mask);
}

insn_fn *special_bind(const struct insn *i)
{
	bool store = op_rows[i->row].attr & OPA_STORE;

	switch (i->op) {
	case OP_EMMS: return mmx_emms;
	case OP_VZEROUPPER: return special_vzeroupper;
	case OP_VZEROALL: return special_vzeroall;
	case OP_MASKMOVQ: return special_maskmovq;
	case OP_MASKMOVDQU:
	case OP_VMASKMOVDQU: return special_maskmovdqu;
	case OP_VMASKMOVPS:
	case OP_VMASKMOVPD:
	case OP_VPMASKMOVD:
	case OP_VPMASKMOVQ: return store ? vmaskmov_store : vmaskmov_load;
	case OP_VPGATHERDD:
	case OP_VPGATHERDQ:
	case OP_VPGATHERQD:
	case OP_VPGATHERQQ:
	case OP_VGATHERDPS:
	case OP_VGATHERDPD:
	case OP_VGATHERQPS:
	case OP_VGATHERQPD: return gather_run;
	default: return NULL;
	}
}
