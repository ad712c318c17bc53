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
#include "cpu/soft/thunk_priv.h"

static struct thunk_shape thunk_shape_of(const struct op_row *r)
{
	struct thunk_shape s = {0};

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

static bool thunk_has_gpr(const struct thunk_shape *s)
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
	struct thunk_shape s = thunk_shape_of(r);
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
	const struct op_row *r = &op_rows[key_field(key, KEY_ROW, 16)];
	struct thunk_shape shape = thunk_shape_of(r);
	u8 *end = code;
	const u8 *skip = thunk_emit(&end, key, &shape);

	ASSERT(end <= code + THUNK_MAX);
	*t = (struct thunk){.key = key};
	t->fn = (thunk_fn *)codebuf_exec(&s->code, code);
	t->skip = skip ? codebuf_exec(&s->code, skip) : NULL;
	thunk_place(t, 0, shape.reg);
	thunk_place(t, 1, shape.rm);
	thunk_place(t, 2, shape.vex);
	/* Give back what the estimate took too much. */
	if (t != &s->slow)
		s->code.used = (size_t)(end - s->code.write);
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
