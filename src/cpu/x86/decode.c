/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The instruction decoder (SDM volume 2, chapter 2): prefixes, opcode, ModRM,
 * SIB, displacement, immediate, driven by the opcode table.
 *
 * Says #UD by OP_INVALID for whatever does not depend on the CPU's state: LOCK
 * where it is not allowed, prefixes before VEX, wrong VEX.vvvv. CPUID features,
 * CPL, and VEX in real mode are the engine's to check.
 */
#include <string.h>

#include "cpu/x86/optable.h"

#define INSN_MAX 15

struct decoder {
	const u8 *bytes;
	unsigned pos, n;
	enum decode_mode mode;
	bool truncated;
	u8 rex;   /* bits W R X B, also from VEX */
	u8 seg;   /* override, or SEG_NONE */
	u8 pp;    /* as in the key */
	bool w66; /* operand-size prefix */
	bool a67;
	u8 vvvv; /* as encoded, not inverted yet */
	enum op_map map;
	u8 opcode, modrm;
};

/* The next size bytes, zero-extended; 0 and truncated if there are fewer. */
static u64 decode_take(struct decoder *d, unsigned size)
{
	u64 v = 0;

	if (d->n - d->pos < size) {
		d->truncated = true;
		d->pos = d->n;
		return 0;
	}
	memcpy(&v, d->bytes + d->pos, size);
	d->pos += size;
	return v;
}

static s64 decode_take_signed(struct decoder *d, unsigned size)
{
	unsigned shift = 64 - 8 * size;

	return size ? (s64)(decode_take(d, size) << shift) >> shift : 0;
}

static bool decode_segment(struct decoder *d, unsigned seg)
{
	if (d->mode != DECODE_64 || seg >= SEG_FS)
		d->seg = seg;
	return true;
}

/* Takes b as a legacy prefix if it is one. */
static bool decode_prefix(struct decoder *d, struct insn *i, u8 b)
{
	switch (b) {
	case 0x26: return decode_segment(d, SEG_ES);
	case 0x2e: return decode_segment(d, SEG_CS);
	case 0x36: return decode_segment(d, SEG_SS);
	case 0x3e: return decode_segment(d, SEG_DS);
	case 0x64: return decode_segment(d, SEG_FS);
	case 0x65: return decode_segment(d, SEG_GS);
	case 0x66: i->prefix |= PFX_66; return true;
	case 0x67: d->a67 = true; return true;
	case 0xf0: i->prefix |= PFX_LOCK; return true;
	case 0xf2: i->prefix = (i->prefix & ~PFX_REP) | PFX_REPNE; return true;
	case 0xf3: i->prefix = (i->prefix & ~PFX_REPNE) | PFX_REP; return true;
	}
	return false;
}

/* All prefixes; returns the byte after them. */
static u8 decode_prefixes(struct decoder *d, struct insn *i)
{
	u8 rex = 0;
	u8 b;

	for (;;) {
		b = (u8)decode_take(d, 1);
		if (d->truncated)
			return 0;
		if (d->mode == DECODE_64 && (b & 0xf0) == 0x40)
			rex = b; /* counts only if the opcode follows */
		else if (decode_prefix(d, i, b))
			rex = 0;
		else
			break;
	}
	if (rex)
		i->prefix |= PFX_REX | (rex & 8 ? PFX_REXW : 0);
	d->rex = rex & 15;
	d->w66 = i->prefix & PFX_66;
	d->pp = i->prefix & PFX_REPNE ? 3
		: i->prefix & PFX_REP ? 2
		: d->w66              ? 1
				      : 0;
	return b;
}

/* C4 and C5 are LES and LDS outside 64-bit mode if ModRM would be memory. */
static bool decode_is_vex(const struct decoder *d, u8 b)
{
	if (b != 0xc4 && b != 0xc5)
		return false;
	if (d->mode == DECODE_64)
		return true;
	return d->pos < d->n && d->bytes[d->pos] >= 0xc0;
}

/* The rest of a VEX prefix, and the opcode. False: undefined. */
static bool decode_vex(struct decoder *d, struct insn *i, u8 b)
{
	u8 p0 = (u8)decode_take(d, 1);
	u8 p1 = b == 0xc4 ? (u8)decode_take(d, 1) : p0 & 0x7f;
	unsigned mmmmm = b == 0xc4 ? p0 & 31 : 1;

	d->opcode = (u8)decode_take(d, 1);
	if (i->prefix & (PFX_LOCK | PFX_REP | PFX_REPNE | PFX_66 | PFX_REX))
		return false;
	d->rex = (p0 & 0x80 ? 0 : 4) | (p1 & 0x80 ? 8 : 0);
	if (b == 0xc4)
		d->rex |= (p0 & 0x40 ? 0 : 2) | (p0 & 0x20 ? 0 : 1);
	if (d->mode != DECODE_64)
		d->rex &= 8;
	i->prefix |=
		PFX_VEX | (p1 & 0x80 ? PFX_REXW : 0) | (p1 & 4 ? PFX_VEXL : 0);
	d->vvvv = p1 >> 3 & 15;
	i->vreg = (~d->vvvv & 15) & (d->mode == DECODE_64 ? 15 : 7);
	d->pp = p1 & 3;
	d->map = mmmmm == 1 ? MAP_V0F : mmmmm == 2 ? MAP_V38 : MAP_V3A;
	return mmmmm >= 1 && mmmmm <= 3;
}

/* Finds map and opcode, starting from the first byte after the prefixes. */
static bool decode_opcode(struct decoder *d, struct insn *i, u8 b)
{
	if (decode_is_vex(d, b))
		return decode_vex(d, i, b);
	d->map = MAP_1B;
	if (b == 0x0f) {
		d->map = MAP_0F;
		b = (u8)decode_take(d, 1);
		if (b == 0x38 || b == 0x3a) {
			d->map = b == 0x38 ? MAP_38 : MAP_3A;
			b = (u8)decode_take(d, 1);
		}
	}
	d->opcode = b;
	return true;
}

/* A bit an opcode: it is followed by ModRM. */
static const u16 decode_modrm_1b[16] = {
	0x0f0f, 0x0f0f, 0x0f0f, 0x0f0f, 0,      0,      0x0a0c, 0,
	0xffff, 0,      0,      0,      0x00f3, 0xff0f, 0,      0xc0c0,
};
static const u16 decode_modrm_0f[16] = {
	0xa00f, 0xffff, 0xffff, 0,      0xffff, 0xffff, 0xffff, 0xff7f,
	0,      0xffff, 0xf838, 0xffff, 0x00ff, 0xffff, 0xffff, 0xffff,
};

static bool decode_has_modrm(const struct decoder *d)
{
	unsigned hi = d->opcode >> 4, lo = d->opcode & 15;

	switch (d->map) {
	case MAP_1B: return decode_modrm_1b[hi] >> lo & 1;
	case MAP_0F: return decode_modrm_0f[hi] >> lo & 1;
	case MAP_V0F: return d->opcode != 0x77;
	default: return true;
	}
}

static unsigned decode_row(struct decoder *d, const struct insn *i,
			   bool has_modrm)
{
	u32 key = d->pp << KEY_PREFIX_BIT;
	u8 opcode = d->opcode;
	enum op_map map = d->map;

	if (has_modrm) {
		key |= (d->modrm >> 3 & 7) << KEY_DIGIT_BIT;
		key |= (d->modrm & 7) << KEY_RM_BIT;
		key |= d->modrm >= 0xc0 ? KEY_REG : 0;
	}
	key |= d->rex & 8 ? KEY_W : 0;
	key |= d->rex & 1 ? KEY_B : 0;
	key |= i->prefix & PFX_VEXL ? KEY_L : 0;
	if (d->mode == DECODE_64)
		key |= KEY_M64 | (d->rex & 8 ? KEY_W64 : 0);
	if (map == MAP_1B && (opcode & 0xf8) == 0xd8) {
		map = key & KEY_REG ? MAP_X87R : MAP_X87M;
		opcode = (opcode & 7) << 3 | (d->modrm >> 3 & 7);
	}
	return op_find(map, opcode, key);
}

static u8 decode_opsize(const struct decoder *d, const struct insn *i, u8 size)
{
	bool m64 = d->mode == DECODE_64;
	bool w = m64 && d->rex & 8;
	u8 z = (d->mode == DECODE_16) != d->w66 ? 2 : 4;

	switch (size) {
	case SZ_B: return 1;
	case SZ_W: return 2;
	case SZ_D: return 4;
	case SZ_Q: return 8;
	case SZ_X: return 16;
	case SZ_L: return i->prefix & PFX_VEXL ? 32 : 16;
	case SZ_V: return w ? 8 : z;
	case SZ_Z: return w ? 4 : z;
	case SZ_Y: return w ? 8 : 4;
	case SZ_V64: return !m64 ? z : w || z == 4 ? 8 : 2;
	case SZ_F64: return m64 ? 8 : z;
	case SZ_N: return m64 ? 8 : 4;
	default: return 0;
	}
}

static u8 decode_memsize(const struct decoder *d, const struct insn *i, u8 mem)
{
	bool w = d->mode == DECODE_64 && d->rex & 8;
	u8 z = (d->mode == DECODE_16) != d->w66 ? 2 : 4;
	static const u8 fixed[] = {
		[MS_0] = 0,   [MS_1] = 1,   [MS_2] = 2,
		[MS_4] = 4,   [MS_6] = 6,   [MS_8] = 8,
		[MS_10] = 10, [MS_16] = 16, [MS_32] = 32,
	};

	switch (mem) {
	case MS_OP: return i->opsize;
	case MS_V: return w ? 8 : z;
	case MS_Y: return w ? 8 : 4;
	case MS_Z: return MIN(i->opsize, 4);
	case MS_L2: return i->opsize / 2;
	case MS_L4: return i->opsize / 4;
	case MS_L8: return i->opsize / 8;
	case MS_DUP: return i->opsize == 32 ? 32 : 8;
	case MS_FAR: return i->opsize + 2;
	case MS_2OP: return 2 * i->opsize;
	case MS_DT: return d->mode == DECODE_64 ? 10 : 6;
	case MS_ENV: return i->opsize == 2 ? 14 : 28;
	case MS_SAV: return i->opsize == 2 ? 94 : 108;
	default: return fixed[mem];
	}
}

static void decode_segment_default(const struct decoder *d, struct insn *i,
				   bool stack)
{
	i->seg = d->seg != SEG_NONE ? d->seg : stack ? SEG_SS : SEG_DS;
}

static void decode_mem16(struct decoder *d, struct insn *i)
{
	static const u8 base[8] = {REG_BX, REG_BX, REG_BP, REG_BP,
				   REG_SI, REG_DI, REG_BP, REG_BX};
	static const u8 index[4] = {REG_SI, REG_DI, REG_SI, REG_DI};
	unsigned mod = d->modrm >> 6, rm = d->modrm & 7;

	i->base = base[rm];
	i->index = rm < 4 ? index[rm] : INSN_REG_NONE;
	if (mod == 0 && rm == 6) {
		i->base = INSN_REG_NONE;
		i->disp = (s32)decode_take_signed(d, 2);
	} else {
		i->disp = (s32)decode_take_signed(d, mod);
	}
	decode_segment_default(d, i, i->base == REG_BP);
}

static void decode_mem(struct decoder *d, struct insn *i)
{
	unsigned mod = d->modrm >> 6, base = d->modrm & 7;
	bool sib = base == 4;
	u8 b;

	i->index = INSN_REG_NONE;
	if (sib) {
		b = (u8)decode_take(d, 1);
		i->scale = b >> 6;
		i->index = (b >> 3 & 7) | (d->rex & 2) << 2;
		if (i->index == 4 && !i->vsib)
			i->index = INSN_REG_NONE;
		base = b & 7;
	}
	i->base = base | (d->rex & 1) << 3;
	if (mod == 0 && base == 5) {
		i->base = !sib && d->mode == DECODE_64 ? INSN_REG_RIP
						       : INSN_REG_NONE;
		mod = 2;
	}
	i->disp = (s32)decode_take_signed(d, mod == 2 ? 4 : mod);
	decode_segment_default(d, i, i->base == REG_SP || i->base == REG_BP);
}

static void decode_imm(struct decoder *d, struct insn *i, u8 imm)
{
	unsigned start = d->pos;
	unsigned z = MIN(i->opsize, 4);
	u64 lo;

	switch (imm) {
	case IMM_IB: i->imm = (u64)decode_take_signed(d, 1); break;
	case IMM_UB: i->imm = decode_take(d, 1); break;
	case IMM_UW: i->imm = decode_take(d, 2); break;
	case IMM_IZ: i->imm = (u64)decode_take_signed(d, z); break;
	case IMM_IV: i->imm = decode_take(d, i->opsize); break;
	case IMM_MOFFS: i->imm = decode_take(d, i->adsize); break;
	case IMM_FAR:
		lo = decode_take(d, z);
		i->imm = lo | decode_take(d, 2) << 32;
		break;
	case IMM_ENTER:
		lo = decode_take(d, 2);
		i->imm = lo | decode_take(d, 1) << 16;
		break;
	default: break;
	}
	i->immsize = d->pos - start;
}

/* AH, CH, DH, BH in place of SPL.. where there is no REX. */
static void decode_high8(struct insn *i, bool reg, bool rm)
{
	if (i->prefix & PFX_REX)
		return;
	if (reg && i->reg >= 4)
		i->reg += INSN_REG_HIGH8 - 4;
	if (rm && !i->mem && i->rm >= 4)
		i->rm += INSN_REG_HIGH8 - 4;
}

/* Registers that are not in ModRM, and sizes that depend on the form. */
static void decode_form(struct decoder *d, struct insn *i)
{
	bool byte = i->opsize == 1;

	switch (i->form) {
	case FORM_R:
	case FORM_R_I:
		i->rm = (d->opcode & 7) | (d->rex & 1) << 3;
		decode_high8(i, false, byte);
		break;
	case FORM_A_I: i->rm = REG_AX; break;
	case FORM_RM_R: decode_high8(i, byte, byte); break;
	case FORM_R_RM: decode_high8(i, byte, i->srcsize == 1); break;
	case FORM_RM:
	case FORM_RM_I:
	case FORM_RM_1:
	case FORM_RM_CL: decode_high8(i, false, byte); break;
	case FORM_SREG: i->reg = d->opcode >> 3 & 7; break;
	case FORM_RM_SREG:
	case FORM_SREG_RM: i->reg &= 7; break;
	}
}

/* What else is undefined, although the opcode is there. */
static bool decode_valid(const struct decoder *d, const struct insn *i,
			 const struct op_row *o)
{
	bool m64 = d->mode == DECODE_64;

	if (o->attr & (m64 ? OPA_NO64 : OPA_ONLY64))
		return false;
	if (i->prefix & PFX_LOCK && !(i->mem && o->attr & OPA_LOCK))
		return false;
	if (o->attr & OPA_NOVVVV && d->vvvv != 15)
		return false;
	switch (i->op) {
	case OP_MOV_FROM_CR:
	case OP_MOV_TO_CR: return 0x11d >> MIN(i->reg, 9) & 1;
	case OP_MOV_FROM_DR:
	case OP_MOV_TO_DR: return i->reg < 8;
	case OP_MOV_FROM_SREG: return i->reg <= SEG_GS;
	case OP_MOV_TO_SREG: return i->reg <= SEG_GS && i->reg != SEG_CS;
	}
	if (o->attr & OPA_VSIB) {
		if (i->adsize == 2 || (d->modrm & 7) != 4)
			return false;
		return i->reg != i->index && i->reg != i->vreg &&
		       i->index != i->vreg;
	}
	return true;
}

static void decode_modrm(struct decoder *d, struct insn *i,
			 const struct op_row *o)
{
	i->modrm = d->modrm;
	i->reg = (d->modrm >> 3 & 7) | (d->rex & 4) << 1;
	i->rm = (d->modrm & 7) | (d->rex & 1) << 3;
	i->mem = d->modrm < 0xc0 && o->form != FORM_RM_CR &&
		 o->form != FORM_CR_RM;
	i->vsib = !!(o->attr & OPA_VSIB);
	if (!i->mem)
		return;
	if (i->adsize == 2)
		decode_mem16(d, i);
	else
		decode_mem(d, i);
}

static void decode_operands(struct decoder *d, struct insn *i, bool has_modrm)
{
	const struct op_row *o = &op_rows[i->row];

	i->op = o->op;
	i->form = o->form;
	i->opsize = decode_opsize(d, i, o->size);
	if (has_modrm)
		decode_modrm(d, i, o);
	i->memsize = decode_memsize(d, i, o->mem);
	i->srcsize = i->memsize;
	if (o->form == FORM_SIMD)
		i->srcsize = d->mode == DECODE_64 && d->rex & 8 ? 8 : 4;
	decode_imm(d, i, o->imm);
	if (o->opnd[3] == (OPK_L | OPK_READ))
		i->reg4 = i->imm >> 4 & (d->mode == DECODE_64 ? 15 : 7);
	if (o->opnd[0] == (OPK_RDI | OPK_WRITE))
		i->base = REG_DI;
	else if (!i->mem && !(o->attr & OPA_STRING) && i->op != OP_XLAT &&
		 i->form != FORM_MOFFS)
		i->memsize = 0;
	if (o->span == 16)
		i->cc = d->opcode & 15;
	decode_form(d, i);
	if (!decode_valid(d, i, o))
		i->op = OP_INVALID;
}

static void decode_init(struct decoder *d, struct insn *i, const u8 *bytes,
			size_t n, enum decode_mode mode)
{
	*d = (struct decoder){
		.bytes = bytes,
		.n = (unsigned)MIN(n, INSN_MAX),
		.mode = mode,
		.seg = SEG_NONE,
	};
	memset(i, 0, sizeof(*i));
	i->base = i->index = INSN_REG_NONE;
}

enum decode_result insn_decode(struct insn *i, const u8 *bytes, size_t n,
			       enum decode_mode mode)
{
	struct decoder d;
	bool has_modrm = false;
	u8 b;

	decode_init(&d, i, bytes, n, mode);
	b = decode_prefixes(&d, i);
	i->adsize = mode == DECODE_64 ? (d.a67 ? 4 : 8)
				      : ((mode == DECODE_16) != d.a67 ? 2 : 4);
	decode_segment_default(&d, i, false);
	if (!d.truncated && decode_opcode(&d, i, b) && !d.truncated) {
		i->opc_off = d.pos - 1;
		has_modrm = decode_has_modrm(&d);
		if (has_modrm)
			d.modrm = (u8)decode_take(&d, 1);
		if (!d.truncated) {
			i->row = decode_row(&d, i, has_modrm);
			if (i->row)
				decode_operands(&d, i, has_modrm);
		}
	}
	if (d.truncated)
		return n >= INSN_MAX ? DECODE_TOO_LONG : DECODE_MORE;
	i->len = d.pos;
	if (i->op == OP_INVALID) {
		i->row = 0;
		i->form = FORM_NONE;
	}
	return DECODE_OK;
}
