/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Thunks: one SIMD or MMX instruction of the guest, made to run on the host.
 *
 * The instruction is encoded again with fixed registers (ModRM.reg is xmm1,
 * mm1 or rax, ModRM.rm xmm2, mm2, rax or [rsi], VEX.vvvv xmm3, imm8[7:4]
 * xmm4), between loads of them through the pointers that the thunk is called
 * with and stores of those that it writes. So all uses of an opcode share a
 * thunk, whichever registers and addresses they name.
 *
 * Thunks are never freed: decoded code points to them. Once the table is full
 * (no sane guest gets there) a thunk is remade for each run.
 */
#include "cpu/soft/simd_priv.h"

#define THUNK_MAX 192 /* bytes of code, at most */

/* The key: everything of the encoding but the registers and the address. */
enum {
	KEY_OP = 0,
	KEY_IMM = 8,
	KEY_ROW = 16,
	KEY_PP = 32,  /* 0, 66, F3, F2 */
	KEY_EXT = 34, /* ModRM.reg where it extends the opcode */
	KEY_REG4 = 37,
	KEY_W = 41,
	KEY_L = 42,
	KEY_MEM = 43,
	KEY_HAS_IMM = 44,
	KEY_VALID = 63,
};

static unsigned key_field(u64 key, unsigned at, unsigned bits)
{
	return (unsigned)(key >> at) & (BIT(bits) - 1);
}

/* What the operands of a row are, by place in the encoding. */
struct shape {
	u8 reg, rm, vex, reg4; /* OPK_* with READ and WRITE; 0: none */
	bool xmm0;
};

static struct shape thunk_shape(const struct op_row *r)
{
	struct shape s = {0};

	for (unsigned k = 0; k < OP_OPERANDS; k++)
		switch (r->opnd[k] & OPK_KIND) {
		case OPK_V:
		case OPK_P:
		case OPK_G: s.reg = r->opnd[k]; break;
		case OPK_W:
		case OPK_Q:
		case OPK_E:
		case OPK_M: s.rm = r->opnd[k]; break;
		case OPK_H: s.vex = r->opnd[k]; break;
		case OPK_L: s.reg4 = r->opnd[k]; break;
		case OPK_XMM0: s.xmm0 = true; break;
		}
	return s;
}

static bool thunk_has_gpr(const struct shape *s)
{
	return (s->reg & OPK_KIND) == OPK_G || (s->rm & OPK_KIND) == OPK_E;
}

static unsigned thunk_pp(const struct insn *i, const u8 *bytes)
{
	unsigned pp = 0;

	if (i->prefix & PFX_VEX)
		return bytes[i->opc_off - 1] & 3;
	for (unsigned k = 0; k < i->opc_off; k++)
		if (bytes[k] == 0xf3)
			pp = 2;
		else if (bytes[k] == 0xf2)
			pp = 3;
		else if (bytes[k] == 0x66 && !pp)
			pp = 1;
	return pp;
}

u64 thunk_key(const struct soft_vcpu *v, const struct insn *i, const u8 *bytes)
{
	const struct op_row *r = &op_rows[i->row];
	struct shape s = thunk_shape(r);
	u64 key = BIT64(KEY_VALID) | (u64)bytes[i->opc_off] << KEY_OP |
		  (u64)i->row << KEY_ROW | (u64)thunk_pp(i, bytes) << KEY_PP;
	bool w = i->prefix & PFX_REXW;

	/* Outside 64-bit mode W does not widen general registers. */
	if (!(v->mode & MODE_CS64) && (thunk_has_gpr(&s) || r->attr & OPA_ESTR))
		w = false;
	key |= (u64)w << KEY_W;
	key |= (u64) !!(i->prefix & PFX_VEXL) << KEY_L;
	key |= (u64) !!i->mem << KEY_MEM;
	if (!s.reg)
		key |= (u64)(i->modrm >> 3 & 7) << KEY_EXT;
	if (s.reg4)
		key |= (u64)i->reg4 << KEY_REG4;
	if (i->immsize) {
		u8 imm = bytes[i->len - 1];

		if (s.reg4)
			imm = (imm & 0xf) | 0x40;
		key |= BIT64(KEY_HAS_IMM) | (u64)imm << KEY_IMM;
	}
	return key;
}

/* ---- Encoding ---- */

struct emit {
	u8 *p;
	const struct op_row *row;
	struct shape s;
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

/* Emits all at e->p; returns where a trapped run goes on, or NULL. */
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

/* Where in struct soft_vcpu the registers of an operand are. */
static void thunk_place(struct thunk *t, unsigned which, u8 opnd)
{
	size_t xsave = offsetof(struct soft_vcpu, xsave);

	t->shift[which] = 4;
	switch (opnd & OPK_KIND) {
	case OPK_V:
	case OPK_W:
	case OPK_H: t->base[which] = (u16)(xsave + FX_XMM); break;
	case OPK_P:
	case OPK_Q: t->base[which] = (u16)(xsave + FX_ST); break;
	case OPK_G:
	case OPK_E:
		t->base[which] = offsetof(struct soft_vcpu, gpr);
		t->shift[which] = 3;
		break;
	}
}

static void thunk_make(struct soft_simd *s, struct thunk *t, u64 key, u8 *code)
{
	struct emit e = {.p = code,
			 .key = key,
			 .row = &op_rows[key_field(key, KEY_ROW, 16)],
			 .wide = key_field(key, KEY_L, 1)};
	const u8 *skip;

	e.s = thunk_shape(e.row);
	e.vex = e.row->map == MAP_V0F || e.row->map == MAP_V38 ||
		e.row->map == MAP_V3A;
	skip = emit_thunk(&e);
	ASSERT(e.p <= code + THUNK_MAX);
	*t = (struct thunk){.key = key};
	t->fn = (thunk_fn *)codebuf_exec(&s->code, code);
	t->skip = skip ? codebuf_exec(&s->code, skip) : NULL;
	thunk_place(t, 0, e.s.reg);
	thunk_place(t, 1, e.s.rm);
	thunk_place(t, 2, e.s.vex);
	/* Give back what the estimate took too much. */
	if (t != &s->slow)
		s->code.used = (size_t)(e.p - s->code.write);
}

static u32 *thunk_bucket(struct soft_simd *s, u64 key)
{
	return &s->bucket[(key * 0x9e3779b97f4a7c15ull) >> 54];
}

void thunk_init(struct soft_simd *s)
{
	_Static_assert(THUNK_BUCKETS == 1 << 10, "hash uses 10 bits");
	_Static_assert(sizeof(struct soft_vcpu) < 65536, "u16 base");
	s->thunks = 1;
	s->slow_code = codebuf_alloc(&s->code, THUNK_MAX, 64);
}

/* The table is full: code for this run only. */
static const struct thunk *thunk_remake(struct soft_simd *s, u64 key)
{
	if (s->slow.key != key) {
		thunk_make(s, &s->slow, key, s->slow_code);
		codebuf_serialize();
	}
	s->slow_runs++;
	return &s->slow;
}

/* NULL: no room; the caller keeps the key and calls thunk_slow(). */
const struct thunk *thunk_find(struct soft_simd *s, u64 key)
{
	u32 *b = thunk_bucket(s, key);
	struct thunk *t;
	u8 *code;

	for (u32 n = *b; n; n = s->thunk[n].next)
		if (s->thunk[n].key == key)
			return &s->thunk[n];
	if (s->thunks == THUNKS)
		return NULL;
	code = codebuf_alloc(&s->code, THUNK_MAX, 16);
	if (!code)
		return NULL;
	t = &s->thunk[s->thunks];
	thunk_make(s, t, key, code);
	t->next = *b;
	*b = s->thunks++;
	return t;
}

const struct thunk *thunk_slow(struct soft_simd *s, u64 key)
{
	const struct thunk *t = thunk_find(s, key);

	return t ? t : thunk_remake(s, key);
}
