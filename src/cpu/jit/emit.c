/* SPDX-License-Identifier: BSD-2-Clause */
/* Encoding of host instructions: SDM volume 2, chapter 2. */
#include "cpu/jit/emit.h"

#include <string.h>

void emit_bytes(struct emit *e, const void *p, unsigned n)
{
	if ((size_t)(e->end - e->p) < n) {
		e->full = true;
		return;
	}
	memcpy(e->p, p, n);
	e->p += n;
}

void emit_u32(struct emit *e, u32 v)
{
	emit_bytes(e, &v, 4);
}

void emit_u64(struct emit *e, u64 v)
{
	emit_bytes(e, &v, 8);
}

static u8 emit_ext(u8 reg)
{
	return reg != H_NONE && reg & 8;
}

static void emit_vex(struct emit *e, const struct opc *o, u8 r, u8 x, u8 b)
{
	u8 p = o->pfx == 0x66 ? 1 : o->pfx == 0xf3 ? 2 : o->pfx ? 3 : 0;

	emit_u8(e, 0xc4);
	emit_u8(e, (u8)((!r << 7) | (!x << 6) | (!b << 5) | o->map));
	emit_u8(e,
		(u8)((o->w << 7) | ((~o->vvvv & 15) << 3) | (o->l << 2) | p));
}

static void emit_rex(struct emit *e, const struct opc *o, u8 reg,
		     const struct rm *rm, u8 r, u8 x, u8 b)
{
	static const u8 escape[] = {0, 0, 0x38, 0x3a};
	bool force = o->byte &&
		     ((reg >= 4 && reg < 8) ||
		      (rm->kind == RM_REG && rm->reg >= 4 && rm->reg < 8));
	u8 rex = (u8)(0x40 | (o->w << 3) | (!!r << 2) | (!!x << 1) | !!b);

	if (rex != 0x40 || force)
		emit_u8(e, rex);
	if (o->map)
		emit_u8(e, 0x0f);
	if (o->map > 1)
		emit_u8(e, escape[o->map]);
}

static void emit_modrm(struct emit *e, u8 reg, const struct rm *rm)
{
	u8 mod, r = (u8)((reg & 7) << 3);

	if (rm->kind == RM_REG) {
		emit_u8(e, (u8)(0xc0 | r | (rm->reg & 7)));
		return;
	}
	if (rm->kind == RM_GS || rm->reg == H_NONE) {
		emit_u8(e, r | 4);
		emit_u8(e, (u8)(rm->scale << 6 |
				(rm->index == H_NONE ? 4 : rm->index & 7) << 3 |
				5));
		emit_u32(e, (u32)rm->disp);
		return;
	}
	if (!rm->disp && (rm->reg & 7) != H_BP)
		mod = 0;
	else
		mod = rm->disp == (s8)rm->disp ? 0x40 : 0x80;
	if (rm->index != H_NONE || (rm->reg & 7) == H_SP) {
		emit_u8(e, mod | r | 4);
		emit_u8(e, (u8)(rm->scale << 6 |
				(rm->index == H_NONE ? 4 : rm->index & 7) << 3 |
				(rm->reg & 7)));
	} else {
		emit_u8(e, (u8)(mod | r | (rm->reg & 7)));
	}
	if (mod == 0x40)
		emit_u8(e, (u8)rm->disp);
	else if (mod == 0x80)
		emit_u32(e, (u32)rm->disp);
}

void emit_op(struct emit *e, struct opc o, u8 reg, struct rm rm)
{
	u8 r = reg & 8, x = emit_ext(rm.index), b = emit_ext(rm.reg);

	if (rm.kind == RM_GS)
		emit_u8(e, 0x65);
	if (o.vex) {
		emit_vex(e, &o, r, x, b);
	} else {
		if (o.lock)
			emit_u8(e, 0xf0);
		if (o.word && o.pfx != 0x66)
			emit_u8(e, 0x66);
		if (o.pfx)
			emit_u8(e, o.pfx);
		emit_rex(e, &o, reg, &rm, r, x, b);
	}
	emit_u8(e, o.code);
	emit_modrm(e, reg, &rm);
}

void emit_mov(struct emit *e, u8 dst, u8 src)
{
	if (dst != src)
		emit_rr(e, 0x89, true, src, dst);
}

void emit_load(struct emit *e, u8 dst, struct rm m)
{
	emit_op(e, (struct opc){.code = 0x8b, .w = 1}, dst, m);
}

void emit_store(struct emit *e, u8 src, struct rm m)
{
	emit_op(e, (struct opc){.code = 0x89, .w = 1}, src, m);
}

void emit_lea(struct emit *e, u8 dst, struct rm m, bool w)
{
	emit_op(e, (struct opc){.code = 0x8d, .w = w}, dst, m);
}

void emit_mov_imm(struct emit *e, u8 dst, u64 imm)
{
	if (imm == (u32)imm) {
		if (dst & 8)
			emit_u8(e, 0x41);
		emit_u8(e, 0xb8 | (dst & 7));
		emit_u32(e, (u32)imm);
	} else if (imm == (u64)(s64)(s32)imm) {
		emit_op(e, (struct opc){.code = 0xc7, .w = 1}, 0, rm_reg(dst));
		emit_u32(e, (u32)imm);
	} else {
		emit_u8(e, 0x48 | (dst >> 3));
		emit_u8(e, 0xb8 | (dst & 7));
		emit_u64(e, imm);
	}
}

void emit_rorx(struct emit *e, bool w, u8 dst, u8 src, u8 n)
{
	emit_op(e,
		(struct opc){
			.code = 0xf0, .map = 3, .pfx = 0xf2, .w = w, .vex = 1},
		dst, rm_reg(src));
	emit_u8(e, n);
}

void emit_alu_imm(struct emit *e, u8 digit, bool w, u8 dst, s32 imm)
{
	bool small = imm == (s8)imm;

	emit_op(e, (struct opc){.code = small ? 0x83 : 0x81, .w = w}, digit,
		rm_reg(dst));
	if (small)
		emit_u8(e, (u8)imm);
	else
		emit_u32(e, (u32)imm);
}

u8 *emit_jmp(struct emit *e)
{
	emit_u8(e, 0xe9);
	emit_u32(e, 0);
	return e->p - 4;
}

u8 *emit_jcc(struct emit *e, u8 cc)
{
	emit_u8(e, 0x0f);
	emit_u8(e, 0x80 | cc);
	emit_u32(e, 0);
	return e->p - 4;
}

u8 *emit_call(struct emit *e)
{
	emit_u8(e, 0xe8);
	emit_u32(e, 0);
	return e->p - 4;
}

u8 *emit_jrcxz(struct emit *e)
{
	emit_u8(e, 0xe3);
	emit_u8(e, 0);
	return e->p - 1;
}

u8 *emit_jecxz(struct emit *e)
{
	emit_u8(e, 0x67);
	return emit_jrcxz(e);
}

void emit_patch32(u8 *at, const u8 *target)
{
	s32 rel = (s32)(target - (at + 4));

	memcpy(at, &rel, 4);
}

void emit_patch8(struct emit *e, u8 *at, const u8 *target)
{
	s64 rel = target - (at + 1);

	if (rel != (s8)rel)
		e->full = true;
	else
		*at = (u8)rel;
}

void emit_jmp_to(struct emit *e, const u8 *target)
{
	u8 *at = emit_jmp(e);

	if (!e->full)
		emit_patch32(at, target);
}

void emit_call_to(struct emit *e, const u8 *target)
{
	u8 *at = emit_call(e);

	if (!e->full)
		emit_patch32(at, target);
}
