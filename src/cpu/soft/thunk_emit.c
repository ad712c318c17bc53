/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The code of a thunk: loads, the guest's instruction with fixed registers,
 * stores. See thunk.c for which registers, simd_priv.h for how it is called:
 * rdi, rsi, rdx point to operands, rcx is the vCPU; r8 to r11 are scratch.
 *
 * Where the instruction may raise SIMD exceptions it runs under the guest's
 * MXCSR with all of them masked, and stores are skipped if it has raised a
 * flag that the guest has unmasked.
 */
#include "cpu/soft/thunk_priv.h"

struct emit {
	u8 *p;
	const struct op_row *row;
	struct thunk_shape s;
	u64 key;
	bool vex, wide; /* VEX encoded; 256 bits */
};

static void emit(struct emit *e, const void *bytes, size_t n)
{
	memcpy(e->p, bytes, n);
	e->p += n;
}

#define EMIT(e, ...) \
	emit(e, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static void emit_u32(struct emit *e, size_t val)
{
	u32 x = (u32)val;

	emit(e, &x, 4);
}

/* Bases of memory operands. */
enum { HOST_RDX = 2, HOST_RSI = 6, HOST_RDI = 7 };

/* movups, of all 256 bits if wide; the register's home is at [base]. */
static void emit_load_vector(struct emit *e, unsigned xmm, unsigned base)
{
	u8 modrm = (u8)(xmm << 3 | base);

	if (!e->vex) {
		EMIT(e, 0x0f, 0x10, modrm);
		return;
	}
	EMIT(e, 0xc5, 0xf8, 0x10, modrm);
	if (e->wide) { /* vinsertf128 ymm, ymm, [base + upper], 1 */
		EMIT(e, 0xc4, 0xe3, (u8)(0x05 | (~xmm & 15) << 3), 0x18,
		     modrm | 0x80);
		emit_u32(e, XS_YMMH_FROM_XMM);
		EMIT(e, 1);
	}
}

/* VEX forms write all of the register, the upper half also when it is 0. */
static void emit_store_vector(struct emit *e, unsigned xmm, unsigned base)
{
	u8 modrm = (u8)(xmm << 3 | base);

	if (!e->vex) {
		EMIT(e, 0x0f, 0x11, modrm);
		return;
	}
	EMIT(e, 0xc5, 0xf8, 0x11, modrm);
	/* vextractf128 [base + upper], ymm, 1 */
	EMIT(e, 0xc4, 0xe3, 0x7d, 0x19, modrm | 0x80);
	emit_u32(e, XS_YMMH_FROM_XMM);
	EMIT(e, 1);
}

/* A vector register of the guest at its fixed place in struct soft_vcpu. */
static void emit_load_fixed(struct emit *e, unsigned xmm, unsigned guest)
{
	/* lea r8, [rcx + off]; then through r8 */
	EMIT(e, 0x4c, 0x8d, 0x81);
	emit_u32(e, offsetof(struct soft_vcpu, xsave) + FX_XMM + 16 * guest);
	if (!e->vex) {
		EMIT(e, 0x41, 0x0f, 0x10, (u8)(xmm << 3));
		return;
	}
	EMIT(e, 0xc4, 0xc1, 0x78, 0x10, (u8)(xmm << 3));
	if (e->wide) {
		EMIT(e, 0xc4, 0xc3, (u8)(0x05 | (~xmm & 15) << 3), 0x18,
		     (u8)(0x80 | xmm << 3));
		emit_u32(e, XS_YMMH_FROM_XMM);
		EMIT(e, 1);
	}
}

static void emit_load_operand(struct emit *e, u8 opnd, unsigned num,
			      unsigned base)
{
	switch (opnd & OPK_KIND) {
	case OPK_V:
	case OPK_W:
	case OPK_H: emit_load_vector(e, num, base); break;
	case OPK_P:
	case OPK_Q: EMIT(e, 0x0f, 0x6f, (u8)(num << 3 | base)); break;
	case OPK_G:
	case OPK_E:
		EMIT(e, 0x48, 0x8b, (u8)base); /* mov rax, [base] */
		break;
	}
}

static void emit_store_operand(struct emit *e, u8 opnd, unsigned num,
			       unsigned base)
{
	if (!(opnd & OPK_WRITE))
		return;
	switch (opnd & OPK_KIND) {
	case OPK_V:
	case OPK_W:
	case OPK_H: emit_store_vector(e, num, base); break;
	case OPK_P:
	case OPK_Q:
		EMIT(e, 0x0f, 0x7f, (u8)(num << 3 | base));
		/* mov word [base + 8], 0xffff: NaN to the x87 */
		EMIT(e, 0x66, 0xc7, (u8)(0x40 | base), 8, 0xff, 0xff);
		break;
	case OPK_G:
	case OPK_E: EMIT(e, 0x48, 0x89, (u8)base); break;
	}
}

static bool emit_rm_in_memory(const struct emit *e)
{
	return key_field(e->key, KEY_MEM, 1);
}

static void emit_loads(struct emit *e)
{
	emit_load_operand(e, e->s.reg, 1, HOST_RDI);
	emit_load_operand(e, e->s.vex, 3, HOST_RDX);
	if (e->s.reg4)
		emit_load_fixed(e, 4, key_field(e->key, KEY_REG4, 4));
	if (e->s.xmm0)
		emit_load_fixed(e, 0, 0);
	if (!emit_rm_in_memory(e))
		emit_load_operand(e, e->s.rm, 2, HOST_RSI);
}

static void emit_stores(struct emit *e)
{
	emit_store_operand(e, e->s.reg, 1, HOST_RDI);
	emit_store_operand(e, e->s.vex, 3, HOST_RDX);
	if (!emit_rm_in_memory(e))
		emit_store_operand(e, e->s.rm, 2, HOST_RSI);
}

static u8 emit_modrm(const struct emit *e)
{
	unsigned reg, rm;

	switch (e->s.reg & OPK_KIND) {
	case OPK_NONE: reg = key_field(e->key, KEY_EXT, 3); break;
	case OPK_G: reg = 0; break;
	default: reg = 1; break;
	}
	if (emit_rm_in_memory(e))
		return (u8)(reg << 3 | HOST_RSI);
	rm = (e->s.rm & OPK_KIND) == OPK_E ? 0 : 2;
	return (u8)(0xc0 | reg << 3 | rm);
}

static void emit_legacy_opcode(struct emit *e)
{
	static const u8 mandatory[] = {0, 0x66, 0xf3, 0xf2};
	unsigned pp = key_field(e->key, KEY_PP, 2);

	if (pp)
		EMIT(e, mandatory[pp]);
	if (key_field(e->key, KEY_W, 1))
		EMIT(e, 0x48);
	EMIT(e, 0x0f);
	if (e->row->map == MAP_38)
		EMIT(e, 0x38);
	else if (e->row->map == MAP_3A)
		EMIT(e, 0x3a);
}

static void emit_vex_opcode(struct emit *e)
{
	unsigned map = e->row->map == MAP_V0F   ? 1
		       : e->row->map == MAP_V38 ? 2
						: 3;
	unsigned v = e->s.vex ? 3 : 0;

	EMIT(e, 0xc4, (u8)(0xe0 | map),
	     (u8)(key_field(e->key, KEY_W, 1) << 7 | (~v & 15) << 3 |
		  (unsigned)e->wide << 2 | key_field(e->key, KEY_PP, 2)));
}

static void emit_guest_insn(struct emit *e)
{
	if (e->vex)
		emit_vex_opcode(e);
	else
		emit_legacy_opcode(e);
	EMIT(e, (u8)key_field(e->key, KEY_OP, 8), emit_modrm(e));
	if (key_field(e->key, KEY_HAS_IMM, 1))
		EMIT(e, (u8)key_field(e->key, KEY_IMM, 8));
}

/* PCMPxSTRx: lengths in rax and rdx, the index in rcx, where v is. */
static void emit_string_compare(struct emit *e)
{
	if (e->row->attr & OPA_ESTR) {
		EMIT(e, 0x48, 0x8b, 0x81); /* mov rax, [rcx + ...] */
		emit_u32(e, offsetof(struct soft_vcpu, gpr[REG_AX]));
		EMIT(e, 0x48, 0x8b, 0x91); /* mov rdx, [rcx + ...] */
		emit_u32(e, offsetof(struct soft_vcpu, gpr[REG_DX]));
	}
	EMIT(e, 0x49, 0x89, 0xc8); /* mov r8, rcx */
	emit_guest_insn(e);
	EMIT(e, 0x49, 0x89, 0xc9); /* mov r9, rcx */
	EMIT(e, 0x4c, 0x89, 0xc1); /* mov rcx, r8 */
	if (e->row->attr & OPA_STRI) {
		EMIT(e, 0x4c, 0x89, 0x89); /* mov [rcx + ...], r9 */
		emit_u32(e, offsetof(struct soft_vcpu, gpr[REG_CX]));
	} else { /* the mask is in xmm0: mov it where it is stored */
		EMIT(e, 0x4c, 0x8d, 0x81);
		emit_u32(e, offsetof(struct soft_vcpu, xsave) + FX_XMM);
		if (e->vex) {
			EMIT(e, 0xc4, 0xc1, 0x78, 0x11, 0x00);
			EMIT(e, 0xc4, 0xc3, 0x7d, 0x19, 0x80);
			emit_u32(e, XS_YMMH_FROM_XMM);
			EMIT(e, 1);
		} else {
			EMIT(e, 0x41, 0x0f, 0x11, 0x00);
		}
	}
}

static bool emit_is_string_compare(const struct emit *e)
{
	switch (e->row->op) {
	case OP_PCMPESTRI:
	case OP_PCMPESTRM:
	case OP_PCMPISTRI:
	case OP_PCMPISTRM:
	case OP_VPCMPESTRI:
	case OP_VPCMPESTRM:
	case OP_VPCMPISTRI:
	case OP_VPCMPISTRM: return true;
	default: return false;
	}
}

/* mov r8, v->simd; then an operation on a field of it. */
static void emit_mxcsr_load(struct emit *e)
{
	EMIT(e, 0x4c, 0x8b, 0x81);
	emit_u32(e, offsetof(struct soft_vcpu, simd));
	EMIT(e, 0x41, 0x0f, 0xae, 0x50,
	     offsetof(struct soft_simd, mxcsr_run)); /* ldmxcsr */
}

/*
 * After the instruction: its flags to r9d, the host's MXCSR back, and a jump
 * to the end, of which the place of the displacement is returned, if one of
 * the flags is unmasked.
 */
static u8 *emit_mxcsr_check(struct emit *e)
{
	EMIT(e, 0x41, 0x0f, 0xae, 0x58, offsetof(struct soft_simd, mxcsr_out));
	EMIT(e, 0x45, 0x8b, 0x48, offsetof(struct soft_simd, mxcsr_out));
	EMIT(e, 0x41, 0x0f, 0xae, 0x50, offsetof(struct soft_simd, mxcsr_host));
	/* test [r8 + unmasked], r9d; jnz */
	EMIT(e, 0x45, 0x85, 0x48, offsetof(struct soft_simd, unmasked));
	EMIT(e, 0x75, 0);
	return e->p - 1;
}

static void emit_mxcsr_commit(struct emit *e)
{
	EMIT(e, 0x41, 0x83, 0xe1, MXCSR_FLAGS); /* and r9d, 0x3f */
	EMIT(e, 0x44, 0x09, 0x89);              /* or [rcx + ...], r9d */
	emit_u32(e, offsetof(struct soft_vcpu, xsave) + FX_MXCSR);
}

/* Leaves no upper halves behind (they slow the host's SSE), no MMX state. */
static void emit_leave(struct emit *e)
{
	if (e->vex)
		EMIT(e, 0xc5, 0xf8, 0x77); /* vzeroupper */
	if (e->row->attr & OPA_MMX)
		EMIT(e, 0x0f, 0x77); /* emms */
}

static u8 *emit_thunk(struct emit *e)
{
	bool mxcsr = e->row->attr & OPA_MXCSR;
	u8 *jump = NULL, *skip = NULL;

	emit_loads(e);
	if (mxcsr)
		emit_mxcsr_load(e);
	if (emit_is_string_compare(e))
		emit_string_compare(e);
	else
		emit_guest_insn(e);
	if (e->row->attr & OPA_FLAGS)
		EMIT(e, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
	if (mxcsr) {
		jump = emit_mxcsr_check(e);
		emit_mxcsr_commit(e);
	}
	if (e->row->attr & OPA_FLAGS) {
		EMIT(e, 0x66, 0x89, 0x81); /* mov [rcx + fl], ax */
		emit_u32(e, offsetof(struct soft_vcpu, fl));
	}
	emit_stores(e);
	emit_leave(e);
	EMIT(e, 0x31, 0xc0, 0xc3); /* xor eax, eax; ret */
	if (mxcsr) {
		skip = e->p;
		*jump = (u8)(e->p - jump - 1);
		emit_leave(e);
		EMIT(e, 0x41, 0x83, 0xe1, MXCSR_FLAGS);
		EMIT(e, 0x44, 0x89, 0xc8, 0xc3); /* mov eax, r9d; ret */
	}
	return skip;
}

u8 *thunk_emit(u8 **p, u64 key, const struct thunk_shape *s)
{
	struct emit e = {.p = *p,
			 .key = key,
			 .s = *s,
			 .row = &op_rows[key_field(key, KEY_ROW, 16)],
			 .wide = key_field(key, KEY_L, 1)};
	u8 *skip;

	e.vex = e.row->map == MAP_V0F || e.row->map == MAP_V38 ||
		e.row->map == MAP_V3A;
	skip = emit_thunk(&e);
	*p = e.p;
	return skip;
}
