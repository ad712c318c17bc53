/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every SIMD, MMX and x87 row of the opcode table against the real CPU: the
 * same bytes run natively from, and through a handler on, the same registers
 * and memory, and everything that comes out is compared, faults too.
 */
#define _GNU_SOURCE
#include "cpu/soft/thunk_native.h"

#include "cpu/soft/thunk_gen.h"

struct machine {
	struct soft_vcpu *v;
	struct regs in, native, soft;
	unsigned long cases, faults;
};

/* Gathers: indices that stay near rbx. */
static void tame_indices(struct machine *m, const struct insn *i)
{
	u8 *lo = m->in.xsave + FX_XMM + 16 * i->index;
	u8 *hi = m->in.xsave + XS_YMMH + 16 * i->index;
	bool wide = i->op == OP_VPGATHERQD || i->op == OP_VPGATHERQQ ||
		    i->op == OP_VGATHERQPS || i->op == OP_VGATHERQPD;

	for (unsigned k = 0; k < 8; k++) {
		u32 x = wide && (k & 1) ? 0 : (u32)rnd() & 0x3f;

		memcpy((k < 4 ? lo : hi) + (k & 3) * 4, &x, 4);
	}
}

/* Components that both have; a header that is valid more often than not. */
static void tame_xsave(struct machine *m)
{
	u8 *area = m->in.mem + 64;
	u32 mxcsr = (u32)rnd() & MXCSR_VALID;

	m->in.gpr[REG_AX] = rnd() & 7;
	m->in.gpr[REG_DX] = 0;
	if (rnd() & 1) {
		memset(m->in.xsave + XS_YMMH, 0, 256);
		m->in.xsave[XS_HEADER] &= (u8)~XF_AVX;
	}
	if (rnd() & 3)
		memcpy(area + FX_MXCSR, &mxcsr, 4);
	memset(area + XS_HEADER, 0, 64);
	area[XS_HEADER] = rnd() & 7;
	if (rnd() & 1) {
		area[XS_HEADER + 8] = (u8)(area[XS_HEADER] | (rnd() & 7));
		area[XS_HEADER + 15] = 0x80;
	}
	if (!(rnd() & 7))
		area[XS_HEADER + rnd() % 64] ^= 1;
}

/* Comparable form: what is not defined or not the guest's is blanked. */
static void blank(struct regs *r, const struct op_row *o)
{
	if (r->vector == VEC_MF)
		r->vector = VEC_XM; /* both are SIGFPE */
	if (r->vector == VEC_AC || r->vector == VEC_NM)
		r->vector = -2;
	r->flags &= RFLAGS_ARITH & ~(u64)o->flags_undef;
	r->gpr[4] = r->gpr[15] = 0;
	memset(r->xsave + FX_MXCSR_MASK, 0, 4);
	memset(r->xsave + FX_SIZE, 0, XS_YMMH - FX_SIZE);
}

static void dump(const char *what, const struct regs *a, const struct regs *b)
{
	const u8 *x = (const u8 *)a, *y = (const u8 *)b;

	print_error("%s\n", what);
	for (size_t k = 0; k < sizeof(*a); k++)
		if (x[k] != y[k])
			print_error(
				"  +%zu (%s%zu): native %02x soft %02x\n", k,
				k < offsetof(struct regs, xsave) ? "gpr/flags "
				: k < offsetof(struct regs, mem)
					? "xsave "
					: "mem/vector ",
				k < offsetof(struct regs, xsave) ? k
				: k < offsetof(struct regs, mem)
					? k - offsetof(struct regs, xsave)
					: k - offsetof(struct regs, mem),
				x[k], y[k]);
}

static bool test_case(struct machine *m, const struct op_row *o)
{
	struct encoding e = {0};
	struct insn i;
	u8 *code, *at;
	char hex[64] = "";

	encode(&e, o);
	if (insn_decode(&i, e.bytes, e.len, DECODE_64) != DECODE_OK ||
	    i.op == OP_INVALID)
		return true; /* e.g. VEX.L of a row of the other size */
	if (i.len != e.len || op_rows[i.row].op != o->op)
		return true;
	random_regs(&m->in);
	m->in.gpr[3] = (u64)test_page + 64 - 0x10;
	m->in.gpr[7] = (u64)test_page + 64 + rnd() % 64;
	if (i.base != 3)
		m->in.gpr[3] = rnd();
	if (!(rnd() & 7)) /* misaligned */
		m->in.gpr[3] += rnd() & 15;
	if (i.vsib)
		tame_indices(m, &i);
	if (o->feature == FEAT_XSAVE || o->feature == FEAT_XSAVEOPT ||
	    o->feature == FEAT_XSAVEC)
		tame_xsave(m);
	test_slow = rnd() & 1;

	codebuf_reset(&native_code);
	code = codebuf_alloc(&native_code, 512, 64);
	at = native_emit(code, e.bytes, e.len);
	m->v->rip = (u64)codebuf_exec(&native_code, at);

	m->native = m->in;
	memcpy(test_page, m->in.mem, TEST_MEM);
	native_run(&m->native, codebuf_exec(&native_code, code));
	memcpy(m->native.mem, test_page, TEST_MEM);

	m->soft = m->in;
	i.fn = simd_bind(m->v, &i, e.bytes);
	assert_non_null(i.fn);
	soft_run_insn(m->v, &m->soft, &i);

	m->cases++;
	blank(&m->native, o);
	blank(&m->soft, o);
	if (m->native.vector != -1) {
		m->faults++;
		/* Registers of a fault are not ours to see, flags are. */
		if (m->soft.vector == m->native.vector &&
		    !memcmp(m->soft.xsave + FX_MXCSR,
			    m->native.xsave + FX_MXCSR, 4))
			return true;
	}
	if (!memcmp(&m->native, &m->soft, sizeof(m->soft)))
		return true;
	for (unsigned k = 0; k < e.len; k++)
		snprintf(hex + 3 * k, 4, "%02x ", e.bytes[k]);
	print_error("%s: %s vector native %d soft %d%s\n", o->name, hex,
		    m->native.vector, m->soft.vector, test_slow ? " slow" : "");
	dump("differences", &m->native, &m->soft);
	return false;
}

static bool row_is_ours(const struct op_row *o)
{
	struct insn i = {.op = o->op, .prefix = PFX_VEX};

	if (o->op == OP_XSAVES || o->op == OP_XRSTORS)
		return false; /* not at CPL 3 */
	return o->attr & (OPA_SIMD | OPA_X87) || xsave_bind(&i);
}

static void test_rows(void **state)
{
	struct machine *m = *state;
	unsigned long before;
	unsigned bad = 0, rows = 0;

	for (unsigned r = 1; r < op_row_count; r++) {
		const struct op_row *o = &op_rows[r];

		if (!row_is_ours(o) ||
		    (test_only && strcmp(test_only, o->name)))
			continue;
		before = m->cases;
		for (unsigned k = 0; k < test_rounds; k++)
			if (!test_case(m, o)) {
				bad++;
				break;
			}
		if (m->cases == before)
			print_message("%s (row %u): no case\n", o->name, r);
		else
			rows++;
	}
	print_message("%u rows, %lu cases, %lu of them faults, %u thunks\n",
		      rows, m->cases, m->faults, m->v->simd->thunks);
	assert_int_equal(bad, 0);
	assert_true(m->cases > 10000 || test_only);
}

/* ---- Odd encodings: what the decoder lets through, the CPU must know ---- */

static void mutate(struct encoding *e)
{
	static const u8 prefix[] = {0x66, 0xf2, 0xf3, 0x2e, 0x3e, 0x40,
				    0x48, 0x44, 0x41, 0x4f, 0x42};
	bool vex = e->bytes[0] == 0xc4;
	unsigned opcode = vex ? 3 : 0;

	while (!vex && opcode < 3 && e->bytes[opcode] != 0x0f)
		opcode++;
	switch (rnd() % 4) {
	case 0: /* one more prefix */
		memmove(e->bytes + 1, e->bytes, 14);
		e->bytes[0] = prefix[rnd() % ARRAY_LEN(prefix)];
		e->len++;
		break;
	case 1: /* another opcode */
		e->bytes[opcode + (vex ? 0 : 1)] = (u8)rnd();
		break;
	case 2: /* other VEX fields, or ModRM.reg */
		if (vex)
			e->bytes[1 + (rnd() & 1)] ^= (u8)BIT(rnd() & 7);
		else
			e->bytes[opcode + 2] ^= (u8)(rnd() & 0x38);
		break;
	case 3: /* the two-byte VEX */
		if (vex && (e->bytes[1] & 0x7f) == 0x61) {
			e->bytes[1] = (u8)((e->bytes[2] & 0x7f) |
					   (e->bytes[1] & 0x80));
			memmove(e->bytes + 2, e->bytes + 3, 12);
			e->bytes[0] = 0xc5;
			e->len--;
		}
		break;
	}
}

static bool row_is_ours(const struct op_row *o);

/* The stack and the test's own: no operands for native code. */
static bool rsp_or_r15(unsigned reg)
{
	return reg == 4 || reg == 15;
}

static bool odd_case(struct machine *m, const struct op_row *o)
{
	struct encoding e = {0};
	struct insn i;
	u8 *code, *at;

	encode(&e, o);
	mutate(&e);
	if (insn_decode(&i, e.bytes, 15, DECODE_64) != DECODE_OK ||
	    i.op == OP_INVALID || !row_is_ours(&op_rows[i.row]) ||
	    i.prefix & PFX_LOCK)
		return true;
	if (i.mem &&
	    (i.base != 3 || i.adsize != 8 || (!i.vsib && i.index < 16)))
		return true;
	if ((row_operand(&op_rows[i.row], OPK_G) && rsp_or_r15(i.reg)) ||
	    (!i.mem && row_operand(&op_rows[i.row], OPK_E) && rsp_or_r15(i.rm)))
		return true;
	random_regs(&m->in);
	m->in.gpr[3] = (u64)test_page + 64 - 0x10;
	m->in.gpr[7] = (u64)test_page + 64;
	m->in.gpr[REG_AX] &= 7;
	m->in.gpr[REG_DX] = 0;
	memset(m->in.xsave + FX_FSW, 0, 1);
	if (i.vsib)
		tame_indices(m, &i);
	codebuf_reset(&native_code);
	code = codebuf_alloc(&native_code, 512, 64);
	at = native_emit(code, e.bytes, i.len);
	m->v->rip = (u64)codebuf_exec(&native_code, at);
	m->native = m->soft = m->in;
	memcpy(test_page, m->in.mem, TEST_MEM);
	native_run(&m->native, codebuf_exec(&native_code, code));
	memcpy(m->native.mem, test_page, TEST_MEM);
	i.fn = simd_bind(m->v, &i, e.bytes);
	if (m->native.vector == VEC_UD)
		goto bad; /* and not tried: it would be our end */
	soft_run_insn(m->v, &m->soft, &i);
	m->cases++;
	blank(&m->native, &op_rows[i.row]);
	blank(&m->soft, &op_rows[i.row]);
	if (m->native.vector == m->soft.vector &&
	    (m->native.vector != -1 ||
	     !memcmp(&m->native, &m->soft, sizeof(m->soft))))
		return true;
bad:
	print_error("%s: ", op_rows[i.row].name);
	for (unsigned k = 0; k < i.len; k++)
		print_error("%02x ", e.bytes[k]);
	print_error("native %d soft %d\n", m->native.vector, m->soft.vector);
	return false;
}

static void test_odd(void **state)
{
	struct machine *m = *state;
	unsigned bad = 0;

	m->cases = 0;
	test_slow = false;
	for (unsigned n = 0; n < test_rounds; n++)
		for (unsigned r = 1; r < op_row_count; r++)
			if (op_rows[r].attr & OPA_SIMD &&
			    row_is_ours(&op_rows[r]) &&
			    !(op_rows[r].attr & OPA_SYSTEM))
				bad += !odd_case(m, &op_rows[r]);
	print_message("%lu odd encodings\n", m->cases);
	assert_int_equal(bad, 0);
}

/* ---- Sequences: x87 and MMX state stays in the CPU between them ---- */

#define SEQUENCE 6

struct sequence {
	u8 bytes[SEQUENCE * 16];
	unsigned len;
	struct insn insn[SEQUENCE];
	unsigned at[SEQUENCE];
	u16 flags_undef;
};

static const struct op_row *sequence_row(void)
{
	for (;;) {
		const struct op_row *o =
			&op_rows[1 + rnd() % (op_row_count - 1)];

		if (o->op == OP_FXSAVE || o->op == OP_FXRSTOR)
			return o;
		if (o->attr & OPA_MMX && !(rnd() & 3) && o->op != OP_MASKMOVQ)
			return o;
		if (o->attr & OPA_X87)
			return o;
	}
}

static void sequence_make(struct machine *m, struct sequence *q)
{
	q->len = q->flags_undef = 0;
	for (unsigned k = 0; k < SEQUENCE;) {
		const struct op_row *o = sequence_row();
		struct insn *i = &q->insn[k];
		struct encoding e = {0};

		encode(&e, o);
		if (insn_decode(i, e.bytes, e.len, DECODE_64) != DECODE_OK ||
		    i->op != o->op || i->len != e.len)
			continue;
		if ((o->attr & OPA_GPR_DST) && i->reg == 3)
			continue; /* rbx is the address */
		if (row_operand(o, OPK_E) && i->rm == 3)
			continue;
		i->fn = simd_bind(m->v, i, e.bytes);
		q->at[k++] = q->len;
		memcpy(q->bytes + q->len, e.bytes, e.len);
		q->len += e.len;
		q->flags_undef |= o->flags_undef;
	}
}

static void sequence_soft(struct machine *m, const struct sequence *q, u64 rip)
{
	struct soft_vcpu *v = m->v;
	struct regs *r = &m->soft;

	memcpy(test_page, r->mem, TEST_MEM);
	v->simd->trap_ready = false;
	soft_from_regs(v, r);
	r->vector = -1;
	for (unsigned k = 0; k < SEQUENCE && r->vector == -1; k++) {
		v->rip = rip + q->at[k];
		r->vector = test_run(v, &q->insn[k]);
	}
	soft_to_regs(v, r);
	memcpy(r->mem, test_page, TEST_MEM);
}

static bool sequence_case(struct machine *m)
{
	struct op_row o = {0};
	struct sequence q;
	u8 *code, *at;

	sequence_make(m, &q);
	random_regs(&m->in);
	if (rnd() & 3) /* mostly without errors, or none gets far */
		memset(m->in.xsave + FX_FSW, 0, 1);
	m->in.gpr[3] = (u64)test_page + 64 - 0x10;
	test_slow = rnd() & 1;
	codebuf_reset(&native_code);
	code = codebuf_alloc(&native_code, 512, 64);
	at = native_emit(code, q.bytes, q.len);
	m->native = m->soft = m->in;
	memcpy(test_page, m->in.mem, TEST_MEM);
	native_run(&m->native, codebuf_exec(&native_code, code));
	memcpy(m->native.mem, test_page, TEST_MEM);
	sequence_soft(m, &q, (u64)codebuf_exec(&native_code, at));
	m->cases++;
	o.flags_undef = q.flags_undef;
	blank(&m->native, &o);
	blank(&m->soft, &o);
	if (m->native.vector != -1 && m->native.vector == m->soft.vector) {
		m->faults++;
		return true;
	}
	if (!memcmp(&m->native, &m->soft, sizeof(m->soft)))
		return true;
	for (unsigned k = 0; k < SEQUENCE; k++)
		print_error("%s%s ", op_rows[q.insn[k].row].name,
			    q.insn[k].mem ? "(mem)" : "");
	print_error("vector native %d soft %d%s\n", m->native.vector,
		    m->soft.vector, test_slow ? " slow" : "");
	dump("differences", &m->native, &m->soft);
	return false;
}

static void test_sequences(void **state)
{
	struct machine *m = *state;

	m->cases = m->faults = 0;
	for (unsigned k = 0; k < 500 * test_rounds; k++)
		assert_true(sequence_case(m));
	print_message("%lu sequences, %lu with a fault\n", m->cases, m->faults);
	assert_true(m->faults < m->cases / 2);
}

static int machine_init(void **state)
{
	struct machine *m = aligned_alloc(64, ALIGN_UP(sizeof(*m), 64));

	if (!m)
		return -1;
	memset(m, 0, sizeof(*m));
	m->v = test_vcpu_new();
	*state = m;
	return codebuf_init(&native_code, 4096, NULL);
}

static int machine_fini(void **state)
{
	struct machine *m = *state;

	test_vcpu_free(m->v);
	free(m);
	codebuf_fini(&native_code);
	return 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_odd),
		cmocka_unit_test(test_sequences),
	};

	if (argc > 1)
		test_rounds = (unsigned)atoi(argv[1]);
	if (argc > 2)
		test_only = *argv[2] ? argv[2] : NULL;
	if (argc > 3)
		test_seed = strtoull(argv[3], NULL, 0);
	return cmocka_run_group_tests(tests, machine_init, machine_fini);
}
