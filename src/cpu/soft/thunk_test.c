/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every SIMD, MMX and x87 row of the opcode table against the real CPU: the
 * same bytes run natively from, and through a handler on, the same registers
 * and memory, and everything that comes out is compared, faults too.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <ucontext.h>

#include "cpu/soft/simd_bed.h"
#include "cpu/x86/optable.h"

/* ---- The real CPU ---- */

#define TEST_MEM 1088

struct regs {
	u64 gpr[16];
	u64 flags;
	u8 xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));
	u8 mem[TEST_MEM] __attribute__((aligned(64)));
	int vector; /* -1: none */
};

static struct codebuf native_code;
static sigjmp_buf native_env;
static struct regs *native_regs;

static void native_handler(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	struct regs *r = native_regs;

	(void)info;
	if (!r)
		abort();
	r->vector = sig == SIGFPE   ? VEC_XM
		    : sig == SIGILL ? VEC_UD
		    : info->si_addr ? VEC_PF
				    : VEC_GP;
	if (info->si_signo == SIGSEGV && info->si_code == SI_KERNEL)
		r->vector = VEC_GP;
	/* What matters after a fault: MXCSR's flags. */
	memcpy(r->xsave + FX_MXCSR, &uc->uc_mcontext.fpregs->mxcsr, 4);
	native_regs = NULL;
	siglongjmp(native_env, 1);
}

static u8 *put(u8 *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

#define PUT(p, ...) \
	put(p, (const u8[]){__VA_ARGS__}, sizeof((const u8[]){__VA_ARGS__}))

static u8 *put32(u8 *p, size_t x)
{
	u32 y = (u32)x;

	return put(p, &y, 4);
}

/* mov between register n and [r15 + 8 * n] */
static u8 *put_gpr(u8 *p, unsigned n, u8 opcode)
{
	p = PUT(p, (u8)(0x49 | (n & 8) >> 1), opcode,
		(u8)(0x87 | (n & 7) << 3));
	return put32(p, offsetof(struct regs, gpr) + 8 * n);
}

/* Calls the bytes with all of r loaded, r15 apart; returns where they are. */
static u8 *native_emit(u8 *p, const u8 *bytes, unsigned len)
{
	u8 *at;

	p = PUT(p, 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57);
	p = PUT(p, 0x49, 0x89, 0xff);             /* mov r15, rdi */
	p = PUT(p, 0xb8, 7, 0, 0, 0, 0x31, 0xd2); /* eax 7, edx 0 */
	p = PUT(p, 0x49, 0x0f, 0xae, 0xaf);       /* xrstor64 */
	p = put32(p, offsetof(struct regs, xsave));
	p = PUT(p, 0x41, 0xff, 0xb7); /* push flags */
	p = put32(p, offsetof(struct regs, flags));
	p = PUT(p, 0x9d);
	for (unsigned n = 0; n < 15; n++)
		if (n != 4)
			p = put_gpr(p, n, 0x8b);
	at = p;
	p = put(p, bytes, len);
	for (unsigned n = 0; n < 15; n++)
		if (n != 4)
			p = put_gpr(p, n, 0x89);
	p = PUT(p, 0x9c, 0x41, 0x8f, 0x87); /* pushf; pop */
	p = put32(p, offsetof(struct regs, flags));
	p = PUT(p, 0xb8, 7, 0, 0, 0, 0x31, 0xd2);
	p = PUT(p, 0x49, 0x0f, 0xae, 0xa7); /* xsave64 */
	p = put32(p, offsetof(struct regs, xsave));
	p = PUT(p, 0xdb, 0xe3, 0xc5, 0xf8, 0x77); /* fninit, vzeroupper */
	PUT(p, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b,
	    0xc3);
	return at;
}

/* The engine takes SIGFPE for itself when it needs it. */
static const struct sigaction native_action = {
	.sa_sigaction = native_handler,
	.sa_flags = SA_SIGINFO | SA_NODEFER,
};

static void native_host_state(void)
{
	u32 mxcsr = MXCSR_INIT;

	__asm__ volatile("ldmxcsr %0; fninit; vzeroupper" : : "m"(mxcsr));
}

static void native_run(struct regs *r, const u8 *code)
{
	static const int sigs[] = {SIGFPE, SIGILL, SIGSEGV, SIGBUS};
	void (*fn)(struct regs *) = (void (*)(struct regs *))code;

	r->vector = -1;
	native_regs = r;
	for (unsigned k = 0; k < ARRAY_LEN(sigs); k++)
		sigaction(sigs[k], &native_action, NULL);
	if (!sigsetjmp(native_env, 1))
		fn(r);
	native_regs = NULL;
	native_host_state();
}

/* ---- The engine ---- */

static void soft_from_regs(struct soft_vcpu *v, const struct regs *r)
{
	memcpy(v->gpr, r->gpr, sizeof(v->gpr));
	memcpy(v->xsave, r->xsave, sizeof(v->xsave));
	v->rflags = r->flags & ~(u64)RFLAGS_ARITH;
	v->fl = (u16)((r->flags & 0xff) << 8 | !!(r->flags & RFLAGS_OF));
	simd_loaded(v);
}

static void soft_to_regs(struct soft_vcpu *v, struct regs *r)
{
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	x87_sync(v);
	memcpy(r->xsave, v->xsave, sizeof(r->xsave));
	r->flags = v->rflags | (v->fl >> 8 & RFLAGS_ARITH) |
		   (v->fl & 1 ? RFLAGS_OF : 0);
}

static void soft_run_insn(struct soft_vcpu *v, struct regs *r,
			  const struct insn *i)
{
	memcpy(test_page, r->mem, TEST_MEM);
	v->simd->trap_ready = false;
	soft_from_regs(v, r);
	r->vector = test_run(v, i);
	soft_to_regs(v, r);
	memcpy(r->mem, test_page, TEST_MEM);
}

/* ---- Cases ---- */

static unsigned test_rounds = 40;
static const char *test_only;
static u64 test_seed = 0x1234567;

static u64 rnd(void)
{
	test_seed ^= test_seed << 13;
	test_seed ^= test_seed >> 7;
	test_seed ^= test_seed << 17;
	return test_seed * 0x2545f4914f6cdd1dull;
}

static const u64 special64[] = {
	0,
	1ull << 63,
	0x3ff0000000000000,
	0xbff8000000000000,
	0x7ff0000000000000,
	0xfff0000000000000,
	0x7ff8000000000001,
	0x7ff0000000000001,
	1,
	0x000fffffffffffff,
	0x0010000000000000,
	0x7fefffffffffffff,
	0x41dfffffffc00000,
	0xc1e0000000200000,
	0x43e0000000000000,
	0x3810000000000000,
	0x36a0000000000000,
	0x47efffffe0000000,
	~0ull,
	0x8000000080000000,
	0x3fe0000000000000,
};

static const u32 special32[] = {
	0,          0x80000000, 0x3f800000, 0xbfc00000, 0x7f800000, 0xff800000,
	0x7fc00001, 0x7f800001, 1,          0x007fffff, 0x00800000, 0x7f7fffff,
	0x4f000000, 0xcf000000, 0x3fc00000, 0x40490fdb, 0xffffffff, 7,
};

static void random_lanes(u8 *p, unsigned n)
{
	for (unsigned k = 0; k < n; k += 8) {
		u64 x;

		switch (rnd() % 5) {
		case 0: x = special64[rnd() % ARRAY_LEN(special64)]; break;
		case 1:
			x = special32[rnd() % ARRAY_LEN(special32)] |
			    (u64)special32[rnd() % ARRAY_LEN(special32)] << 32;
			break;
		case 2: x = rnd() & 0x0101010101010101; break;
		case 3: { /* doubles near one another */
			double d = (double)(s64)rnd() / 65536.0 /
				   (double)(rnd() | 1);

			memcpy(&x, &d, 8);
			break;
		}
		default: x = rnd(); break;
		}
		memcpy(p + k, &x, 8);
	}
}

static void random_x87(u8 *xs)
{
	static const u16 exps[] = {0,      1,      0x3fff, 0x3ffe, 0x4000,
				   0x7fff, 0x7ffe, 0xbfff, 0xffff, 0x8000,
				   0x403e, 0x401e, 0x3c01};
	u16 fcw = 0x37f, fsw = (u16)(rnd() & 0x7f00);

	if (rnd() & 1)
		fcw = (u16)(0x40 | (rnd() & 0xf00) | 0x3f);
	if (!(rnd() & 3))
		fcw &= (u16) ~(rnd() & 0x3f);
	if (!(rnd() & 3))
		fsw |= (u16)(rnd() & 0x3f);
	memcpy(xs + FX_FCW, &fcw, 2);
	memcpy(xs + FX_FSW, &fsw, 2);
	xs[FX_FTW] = rnd() & 1 ? 0xff : (u8)rnd();
	for (unsigned k = 0; k < 8; k++) {
		u8 *st = xs + FX_ST + 16 * k;
		u16 e = exps[rnd() % ARRAY_LEN(exps)];

		random_lanes(st, 8);
		if (rnd() & 1)
			st[7] |= 0x80;
		if (rnd() & 1)
			e = (u16)(0x3fff - 20 + rnd() % 90);
		memcpy(st + 8, &e, 2);
	}
}

static void random_regs(struct regs *r)
{
	u32 mxcsr = MXCSR_INIT;
	u64 bv = XF_ALL;

	memset(r, 0, sizeof(*r));
	for (unsigned n = 0; n < 16; n++)
		r->gpr[n] = rnd() & 1 ? rnd()
				      : (u64)(s64)(s32)rnd() >> (rnd() & 31);
	r->flags = RFLAGS_FIXED | RFLAGS_IF | (rnd() & RFLAGS_ARITH);
	random_x87(r->xsave);
	random_lanes(r->xsave + FX_XMM, 256);
	random_lanes(r->xsave + XS_YMMH, 256);
	random_lanes(r->mem, TEST_MEM);
	if (!(rnd() & 3)) {
		memset(r->xsave + FX_FSW, 0, 22);
		memset(r->xsave + FX_ST, 0, 128);
		r->xsave[FX_FCW] = 0x7f;
		r->xsave[FX_FCW + 1] = 3;
		bv &= ~(u64)XF_X87;
	}
	if (rnd() & 1)
		mxcsr = (u32)rnd() & MXCSR_VALID;
	if (rnd() & 1)
		mxcsr |= MXCSR_MASKS;
	memcpy(r->xsave + FX_MXCSR, &mxcsr, 4);
	memcpy(r->xsave + XS_HEADER, &bv, 8);
}

/* An encoding of a row; memory operands are [rbx + disp8]. */
struct encoding {
	u8 bytes[16];
	unsigned len;
	bool mem;
};

static u8 row_prefix(const struct op_row *o)
{
	static const u8 prefix[] = {0, 0x66, 0xf3, 0xf2};

	return prefix[o->sel & o->sel >> 16 & 3];
}

/* A value for a field of the selector: as demanded, or random. */
static unsigned row_choice(const struct op_row *o, unsigned bit, unsigned bits)
{
	unsigned mask = BIT(bits) - 1;
	unsigned fixed = o->sel >> 16 >> bit & mask;

	return ((o->sel >> bit & fixed) | ((unsigned)rnd() & ~fixed)) & mask;
}

static unsigned gpr_number(void)
{
	unsigned n;

	do
		n = rnd() % 15;
	while (n == 4);
	return n;
}

static bool row_operand(const struct op_row *o, unsigned kind)
{
	for (unsigned k = 0; k < OP_OPERANDS; k++)
		if ((o->opnd[k] & OPK_KIND) == kind)
			return true;
	return false;
}

static bool row_is_vex(const struct op_row *o)
{
	return o->map == MAP_V0F || o->map == MAP_V38 || o->map == MAP_V3A;
}

static bool encode_x87(struct encoding *e, const struct op_row *o)
{
	u8 *p = e->bytes;

	if (o->map == MAP_1B) { /* FWAIT */
		e->bytes[0] = o->opcode;
		e->len = 1;
		return true;
	}
	e->mem = o->map == MAP_X87M;
	if (e->mem && !(rnd() & 7))
		p = PUT(p, 0x66);
	p = PUT(p, (u8)(0xd8 | o->opcode >> 3));
	if (e->mem)
		p = PUT(p, (u8)(0x43 | (o->opcode & 7) << 3), 0x10);
	else
		p = PUT(p, (u8)(0xc0 | (o->opcode & 7) << 3 |
				row_choice(o, KEY_RM_BIT, 3)));
	e->len = (unsigned)(p - e->bytes);
	return true;
}

static void encode(struct encoding *e, const struct op_row *o)
{
	u8 *p = e->bytes;
	unsigned w, reg, rm, vreg = 0, l;
	bool gpr_reg = row_operand(o, OPK_G), gpr_rm = row_operand(o, OPK_E);
	unsigned fixed = o->sel >> 16;

	memset(e, 0, sizeof(*e));
	if (o->map == MAP_X87M || o->map == MAP_X87R || o->map == MAP_1B) {
		encode_x87(e, o);
		return;
	}
	w = fixed & KEY_W     ? !!(o->sel & KEY_W)
	    : fixed & KEY_W64 ? !!(o->sel & KEY_W64)
			      : rnd() & 1;
	l = fixed & KEY_L ? !!(o->sel & KEY_L) : rnd() & 1;
	e->mem = fixed & KEY_REG ? !(o->sel & KEY_REG) : rnd() & 1;
	reg = gpr_reg ? gpr_number() : rnd() & 15;
	rm = gpr_rm ? gpr_number() : rnd() & 15;
	if (fixed >> KEY_DIGIT_BIT & 7)
		reg = row_choice(o, KEY_DIGIT_BIT, 3);
	if (fixed >> KEY_RM_BIT & 7)
		rm = row_choice(o, KEY_RM_BIT, 3);
	if (!(o->attr & OPA_NOVVVV))
		vreg = rnd() & 15;
	if (row_is_vex(o)) {
		static const u8 pps[] = {0, 1, 2, 3};
		unsigned map = o->map == MAP_V0F   ? 1
			       : o->map == MAP_V38 ? 2
						   : 3;

		p = PUT(p, 0xc4,
			(u8)((reg & 8 ? 0 : 0x80) | 0x40 |
			     (!e->mem && rm & 8 ? 0 : 0x20) | map),
			(u8)(w << 7 | (~vreg & 15) << 3 | l << 2 |
			     pps[o->sel & o->sel >> 16 & 3]));
	} else {
		unsigned rex =
			0x40 | w << 3 | reg >> 3 << 2 | (e->mem ? 0 : rm >> 3);

		if (row_prefix(o))
			p = PUT(p, row_prefix(o));
		if (rex != 0x40)
			p = PUT(p, (u8)rex);
		p = PUT(p, 0x0f);
		if (o->map == MAP_38)
			p = PUT(p, 0x38);
		if (o->map == MAP_3A)
			p = PUT(p, 0x3a);
	}
	p = PUT(p, o->opcode);
	if (o->attr & OPA_VSIB) /* [rbx + xmm * scale + 16] */
		p = PUT(p, (u8)(0x44 | (reg & 7) << 3),
			(u8)((rnd() & 3) << 6 | (rnd() & 7) << 3 | 3), 0x10);
	else if (o->opcode == 0x77 && (o->map == MAP_0F || o->map == MAP_V0F))
		; /* EMMS, VZEROUPPER: no ModRM */
	else if (e->mem)
		p = PUT(p, (u8)(0x43 | (reg & 7) << 3), 0x10);
	else
		p = PUT(p, (u8)(0xc0 | (reg & 7) << 3 | (rm & 7)));
	if (o->imm)
		p = PUT(p, (u8)rnd());
	e->len = (unsigned)(p - e->bytes);
}

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
	struct encoding e;
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
	struct encoding e;
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
		struct encoding e;

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
