/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every row of the opcode table that CPL 3 can run, with generated operands,
 * on the real CPU and on the soft engine, interpreted and (64-bit code)
 * translated: registers, flags, vector and x87 state, memory and faults are
 * equal bit for bit. What the manual leaves to the CPU is left out: undefined
 * flags, and which of several faults comes first (either_fault()).
 *
 * diff_test [--seed N] [--cases N | --seconds N | --forever] [--row NAME]
 *	[--mode 16|32|64] [--list] [--max N]
 * DIFF_CASES in the environment is the default of --cases. Without --seed,
 * timed runs take their seed from the clock, others always the same.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "cpu/soft/diff.h"
#include "cpu/x86/cpuid.h"

#include <sys/auxv.h> /* its elf.h has macros named like PF_W of x86.h */

struct options {
	u64 seed, cases, seconds;
	const char *row;
	int mode; /* enum decode_mode, or -1 */
	bool forever, list;
	unsigned max; /* differences to show */
};

/* The modes of decoding, and 64-bit code that is translated. */
enum { MODE_JIT = 3, MODES };

/* For each row and mode. */
struct count {
	unsigned run, landed, differ;
};

struct run {
	struct options o;
	struct diff_gen *gen;
	struct diff_native *native;
	struct diff_soft *soft, *jit;
	struct count (*count)[MODES];
	u64 done, differ, hung;
};

static const char *const mode_names[] = {"16", "32", "64", "64_translated"};

/* ---- Comparing ---- */

static void show_case(const struct run *t, const struct diff_case *c,
		      unsigned mode)
{
	char text[128];

	insn_format(&c->insn, c->in.rip, text, sizeof(text));
	printf("\nrow %u %s, mode %s, seed %llu, case %llu:", c->row_number,
	       c->row->name, mode_names[mode], (unsigned long long)t->o.seed,
	       (unsigned long long)t->done);
	for (unsigned k = 0; k < c->len; k++)
		printf(" %02x", c->bytes[k]);
	printf("  %s%s\n  at %llx flags %llx", text,
	       c->spoilt ? " (spoilt)" : "", (unsigned long long)c->in.rip,
	       (unsigned long long)c->in.rflags);
	printf(" ds %x es %x fs %llx gs %llx mxcsr %x\n ", c->in.ds, c->in.es,
	       (unsigned long long)c->in.fs_base,
	       (unsigned long long)c->in.gs_base, *(u32 *)(c->in.xsave + 24));
	for (unsigned k = 0; k < 16; k++)
		printf(" %llx", (unsigned long long)c->in.gpr[k]);
	printf("\n");
}

static bool differ_u64(bool show, const char *what, u64 real, u64 soft)
{
	if (real == soft)
		return false;
	if (show)
		printf("  %-8s real %016llx soft %016llx\n", what,
		       (unsigned long long)real, (unsigned long long)soft);
	return true;
}

static bool differ_bytes(bool show, const char *what, const u8 *real,
			 const u8 *soft, unsigned n)
{
	if (!memcmp(real, soft, n))
		return false;
	for (unsigned k = 0, shown = 0; show && k < n && shown < 4; k++) {
		if (real[k] == soft[k])
			continue;
		printf("  %-8s +%x: real %02x soft %02x\n", what, k, real[k],
		       soft[k]);
		shown++;
	}
	return true;
}

/* The return from the kernel makes any null selector 0. */
static bool differ_sel(bool show, const char *what, u16 real, u16 soft)
{
	return differ_u64(show, what, real < 4 ? 0 : real, soft < 4 ? 0 : soft);
}

/*
 * Which bits of a register count: what is in the upper halves outside 64-bit
 * mode, and in those of counts and pointers where a REP with 32-bit addresses
 * faults or has nothing to do, is the CPU's.
 */
static u64 defined_bits(const struct diff_case *c, const struct diff_result *r,
			unsigned reg)
{
	bool string = c->row->attr & OPA_STRING && c->insn.adsize == 4 &&
		      (r->vector != DIFF_NO_FAULT || !(u32)c->in.gpr[REG_CX]);

	if (r->r.cs != DIFF_CS64 && reg < 8)
		return 0xffffffff;
	if (string && (reg == REG_CX || reg == REG_SI || reg == REG_DI))
		return 0xffffffff;
	return ~0ull;
}

static bool differ_regs(bool show, const struct diff_case *c,
			const struct diff_result *ra,
			const struct diff_result *rb, u64 flags)
{
	static const char *const names[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
		"r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
	const struct diff_regs *a = &ra->r, *b = &rb->r;
	bool d = false;
	u64 bits;

	for (unsigned k = 0; k < 16; k++) {
		bits = defined_bits(c, ra, k);
		d |= differ_u64(show, names[k], a->gpr[k] & bits,
				b->gpr[k] & bits);
	}
	d |= differ_u64(show, "rip", a->rip, b->rip);
	d |= differ_u64(show, "rflags", a->rflags & flags, b->rflags & flags);
	d |= differ_u64(show, "cs", a->cs, b->cs);
	d |= differ_u64(show, "ss", a->ss, b->ss);
	d |= differ_sel(show, "ds", a->ds, b->ds);
	d |= differ_sel(show, "es", a->es, b->es);
	d |= differ_sel(show, "fs", a->fs, b->fs);
	d |= differ_sel(show, "gs", a->gs, b->gs);
	d |= differ_u64(show, "fs base", a->fs_base, b->fs_base);
	d |= differ_u64(show, "gs base", a->gs_base, b->gs_base);
	return d;
}

static bool differ_x87(bool show, const u8 *a, const u8 *b)
{
	bool d = differ_bytes(show, "x87", a, b, 24);

	for (unsigned k = 0; k < 8; k++)
		d |= differ_bytes(show, "st", a + 32 + 16 * k, b + 32 + 16 * k,
				  10);
	return d;
}

static bool differ_vectors(bool show, const u8 *a, const u8 *b)
{
	bool d = false;

	d |= differ_bytes(show, "xmm", a + 160, b + 160, 256);
	d |= differ_bytes(show, "ymmh", a + 576, b + 576, 256);
	return d;
}

/* Flags that count; on a fault the instruction has changed none. */
static u64 defined_flags(const struct diff_case *c, const struct diff_result *r)
{
	bool ran = r->vector == DIFF_NO_FAULT || r->vector == VEC_DB ||
		   r->vector == VEC_BP || r->r.rip != c->in.rip;

	return ran ? ~(u64)c->row->flags_undef : ~0ull;
}

/*
 * Where an access of many bytes, or several accesses, fault, which address is
 * told is the CPU's: XSAVE tells the last byte, far returns read the selector
 * first, CMPS reads [rDI] first.
 */
static bool differ_cr2(bool show, const struct diff_case *c, u64 real, u64 soft)
{
	u32 attr = c->row->attr;
	u64 room = 0;

	if (attr & OPA_SIMD && !c->insn.memsize)
		room = XSAVE_AREA_SIZE;
	else if (attr & OPA_X87 || attr & OPA_MASKED || attr & OPA_STACK)
		room = 128;
	else if (c->insn.op == OP_CMPS)
		return false;
	if (room && c->insn.adsize < 8)
		return false; /* it may wrap around */
	if (real - soft + room <= 2 * room)
		return false;
	return differ_u64(show, "cr2", real, soft);
}

/*
 * An MMX store that faults has made TOP 0 and all registers valid, or not. */
static bool mmx_fault(const struct diff_case *c, const struct diff_result *r)
{
	return c->row->attr & OPA_MMX && c->row->attr & OPA_STORE &&
	       r->vector != DIFF_NO_FAULT && r->vector != VEC_DB;
}

static bool is_memory_fault(u32 vector)
{
	return vector == VEC_PF || vector == VEC_GP || vector == VEC_SS ||
	       vector == VEC_AC;
}

/*
 * Two faults at once, of which the manual does not say which is first: in the
 * several accesses of a far transfer; and an x87 store that is not done because
 * of an unmasked exception may or may not look at its memory.
 */
static bool either_fault(const struct diff_case *c, const struct diff_result *a,
			 const struct diff_result *b)
{
	bool ended = a->vector == DIFF_NO_FAULT || a->vector == VEC_BP ||
		     a->vector == VEC_DB || a->r.rip != c->in.rip;

	/* Whether bytes that are masked off are looked at is the CPU's. */
	if (c->row->attr & OPA_MASKED && !(c->row->attr & OPA_VSIB) &&
	    is_memory_fault(a->vector) &&
	    (a->vector != b->vector || b->r.rip != c->in.rip))
		return true;
	if (!is_memory_fault(b->vector))
		return false;
	if ((c->row->attr & OPA_ALIGN || c->insn.op == OP_CMPXCHG16B) &&
	    a->vector == VEC_GP)
		return b->vector == VEC_SS; /* not aligned nor canonical */
	if (is_memory_fault(a->vector) && c->in.rflags & RFLAGS_AC &&
	    (a->vector == VEC_AC || b->vector == VEC_AC))
		return true;
	if (c->mode != DECODE_64 && a->vector == VEC_PF && a->cr2 >= 0xffffff00)
		return true; /* across 4 GiB: SDM volume 3, 5.3 */
	switch (c->insn.op) {
	case OP_RET_FAR: /* may read two bytes of a selector, or all */
	case OP_IRET: return true;
	case OP_CALL_FAR:
	case OP_JMP_FAR:
	case OP_FLDENV:
	case OP_FRSTOR:
	case OP_FNSTENV:
	case OP_FNSAVE:
	case OP_LDS:
	case OP_LES:
	case OP_LFS:
	case OP_LGS:
	case OP_LSS:
	case OP_FXRSTOR:
	case OP_FXSAVE:
	case OP_XSAVE:
	case OP_XSAVEC:
	case OP_CALL:
	case OP_CMPS: return is_memory_fault(a->vector);
	case OP_BOUND: /* two reads */
		return a->vector == VEC_BR || is_memory_fault(a->vector);
	case OP_FLD: /* 80 bits are two reads */
	case OP_FBLD:
		return is_memory_fault(a->vector) && c->insn.memsize != 4 &&
		       c->insn.memsize != 8;
	case OP_XRSTOR:
		return is_memory_fault(a->vector) ||
		       (ended && !(c->in.gpr[REG_AX] & 7));
	case OP_FST:
	case OP_FSTP:
	case OP_FIST:
	case OP_FISTP:
	case OP_FISTTP:
	case OP_FBSTP: return ended && a->r.xsave[2] & 0x80;
	}
	return false;
}

/* A CALL to where nothing can be has pushed its return address, or not. */
static void forget_push(const struct diff_case *c, const struct diff_result *a,
			u8 *mem)
{
	u64 at = (a->r.gpr[REG_SP] & (c->mode == DECODE_64 ? ~0ull : ~0u)) -
		 DIFF_DATA;

	if (c->insn.op != OP_CALL && c->insn.op != OP_CALL_FAR)
		return;
	for (unsigned k = 1; k <= 16; k++)
		if (is_memory_fault(a->vector) && at - k < DIFF_DATA_SIZE)
			mem[at - k] = 0;
}

/* What a fault in the middle leaves of POPA and of 80-bit stores. */
static bool partial(const struct diff_case *c, const struct diff_result *a)
{
	return is_memory_fault(a->vector) &&
	       (c->insn.op == OP_POPA ||
		(c->row->attr & OPA_X87 && c->insn.memsize == 10));
}

static bool differ_memory(bool show, const struct diff_case *c,
			  const struct diff_result *a, const u8 *real,
			  const u8 *soft)
{
	u8 copy[2][DIFF_DATA_SIZE];

	if (!memcmp(real, soft, DIFF_DATA_SIZE))
		return false;
	memcpy(copy[0], real, DIFF_DATA_SIZE);
	memcpy(copy[1], soft, DIFF_DATA_SIZE);
	forget_push(c, a, copy[0]);
	forget_push(c, a, copy[1]);
	return differ_bytes(show, "memory", copy[0], copy[1], DIFF_DATA_SIZE);
}

static bool differ(bool show, const struct diff_case *c,
		   const struct diff_result *a, const struct diff_result *b,
		   const u8 *mem_a, const u8 *mem_b)
{
	u64 flags = defined_flags(c, a);
	bool d;

	if (either_fault(c, a, b))
		return false;
	d = differ_u64(show, "vector", a->vector, b->vector);

	/* Elsewhere the host has pages of its own. */
	if (a->vector == VEC_PF && a->cr2 >= DIFF_CODE - PAGE_SIZE &&
	    a->cr2 < DIFF_TRAMPOLINE)
		d |= differ_u64(show, "error", a->error, b->error);
	else
		d |= differ_u64(show, "error", a->error & ~1u, b->error & ~1u);
	if (a->vector == VEC_PF)
		d |= differ_cr2(show, c, a->cr2, b->cr2);
	if (partial(c, a))
		return d;
	d |= differ_regs(show, c, a, b, flags);
	d |= differ_vectors(show, a->r.xsave, b->r.xsave);
	/* VCVTPS2PH whose store faults has raised its flags, or not. */
	if (c->insn.op != OP_VCVTPS2PH || !is_memory_fault(a->vector))
		d |= differ_bytes(show, "mxcsr", a->r.xsave + 24,
				  b->r.xsave + 24, 4);
	if (!mmx_fault(c, a))
		d |= differ_x87(show, a->r.xsave, b->r.xsave);
	d |= differ_memory(show, c, a, mem_a, mem_b);
	return d;
}

/* INT3 right behind the instruction is where it was to land. */
static void land(const struct diff_case *c, struct diff_result *r)
{
	if (!c->lands || r->vector != VEC_BP || r->r.cs != c->in.cs ||
	    r->r.rip != c->in.rip + c->len + 1)
		return;
	r->vector = DIFF_NO_FAULT;
	r->r.rip--;
}

/* The same on a soft vCPU; a is what came out on the real CPU. */
static void run_soft(struct run *t, struct diff_soft *soft, unsigned mode,
		     const struct diff_case *c, const struct diff_result *a)
{
	struct count *n = &t->count[c->row_number][mode];
	struct diff_result b;
	bool ran = diff_soft_run(soft, c, &b);

	n->run++;
	n->landed += a->vector == DIFF_NO_FAULT || c->row->attr & OPA_BRANCH;
	if (ran)
		land(c, &b);
	if (ran &&
	    !differ(false, c, a, &b, diff_native_data(), diff_soft_data(soft)))
		return;
	n->differ++;
	if (t->differ++ >= t->o.max)
		return;
	show_case(t, c, mode);
	if (ran)
		differ(true, c, a, &b, diff_native_data(),
		       diff_soft_data(soft));
}

static void run_case(struct run *t, const struct diff_case *c)
{
	struct diff_result a;

	diff_native_run(t->native, c, &a);
	if (a.vector == DIFF_HANG) { /* a slow host, or a split lock */
		t->hung++;
		return;
	}
	land(c, &a);
	run_soft(t, t->soft, c->mode, c, &a);
	if (c->mode == DECODE_64 && t->jit)
		run_soft(t, t->jit, MODE_JIT, c, &a);
	t->done++;
}

/* ---- Choosing rows ---- */

static bool feature_there(u32 feature)
{
	const struct op_feature_bit *f = &op_features[feature];
	struct cpuid_regs r;

	if (feature == FEAT_NONE)
		return true;
	r = cpuid_host(NULL, f->leaf,
		       f->leaf == 0xd && feature != FEAT_XSAVE ? 1 : 0);
	return (u32[]){r.eax, r.ebx, r.ecx, r.edx}[f->reg] >> f->bit & 1;
}

static const char *row_excluded(const struct run *t, unsigned row)
{
	const struct op_row *o = &op_rows[row];

	if (t->o.row && strcasecmp(t->o.row, o->name))
		return "not asked for";
	if (!feature_there(o->feature))
		return "the host's CPU does not have it";
	return diff_gen_excluded(o);
}

/* About cases cases over all rows and modes; false: none can be made. */
static bool run_round(struct run *t, u64 cases)
{
	struct diff_case c;
	u64 before = t->done;

	while (t->done - before < cases) {
		u64 start = t->done;

		for (unsigned row = 1; row < op_row_count; row++) {
			if (row_excluded(t, row))
				continue;
			for (int m = 0; m < 3; m++) {
				if (t->o.mode >= 0 && m != t->o.mode)
					continue;
				for (unsigned k = 0; k < 8; k++)
					if (diff_gen_case(t->gen, row,
							  (enum decode_mode)m,
							  &c))
						run_case(t, &c);
			}
		}
		if (t->done == start)
			return false;
	}
	return true;
}

/* ---- Reporting ---- */

static void report_rows(const struct run *t)
{
	unsigned covered = 0, excluded = 0, missed = 0;

	for (unsigned row = 1; row < op_row_count; row++) {
		const struct op_row *o = &op_rows[row];
		const char *why = row_excluded(t, row);
		struct count *n = t->count[row];
		unsigned run = n[0].run + n[1].run + n[2].run;

		if (run) {
			covered++;
		} else if (why) {
			excluded++;
			if (!t->o.row)
				printf("row %u %s not run: %s\n", row, o->name,
				       why);
		} else {
			missed++;
			printf("row %u %s: no case could be made\n", row,
			       o->name);
		}
	}
	printf("%u rows run, %u not, %u missed\n", covered, excluded, missed);
	if (!t->o.row)
		printf("%s every_row_that_can_run_has_run\n",
		       missed ? "not ok" : "ok");
}

static void report_list(const struct run *t)
{
	for (unsigned row = 1; row < op_row_count; row++) {
		struct count *n = t->count[row];

		printf("row %u %s:", row, op_rows[row].name);
		for (int m = 0; m < MODES; m++)
			printf("  %u/%u/%u", n[m].run, n[m].landed,
			       n[m].differ);
		printf("\n");
	}
}

static void report_differences(const struct run *t)
{
	for (unsigned row = 1; row < op_row_count; row++) {
		struct count *n = t->count[row];

		for (int m = 0; m < MODES; m++)
			if (n[m].differ)
				printf("row %u %s, mode %s: %u of %u differ\n",
				       row, op_rows[row].name, mode_names[m],
				       n[m].differ, n[m].run);
	}
	for (int m = 0; m < MODES; m++) {
		u64 bad = 0, run = 0;

		for (unsigned row = 1; row < op_row_count; row++) {
			bad += t->count[row][m].differ;
			run += t->count[row][m].run;
		}
		if (run)
			printf("%s mode_%s: %llu cases, %llu differ\n",
			       bad ? "not ok" : "ok", mode_names[m],
			       (unsigned long long)run,
			       (unsigned long long)bad);
	}
}

static bool parse(struct options *o, int argc, char **argv)
{
	for (int k = 1; k < argc; k++) {
		const char *a = argv[k], *v = k + 1 < argc ? argv[k + 1] : "0";

		if (!strcmp(a, "--seed"))
			o->seed = strtoull(v, NULL, 0), k++;
		else if (!strcmp(a, "--cases"))
			o->cases = strtoull(v, NULL, 0), k++;
		else if (!strcmp(a, "--seconds"))
			o->seconds = strtoull(v, NULL, 0), k++;
		else if (!strcmp(a, "--row"))
			o->row = v, k++;
		else if (!strcmp(a, "--mode"))
			o->mode = atoi(v) == 64 ? 2 : atoi(v) == 32, k++;
		else if (!strcmp(a, "--max"))
			o->max = (unsigned)atoi(v), k++;
		else if (!strcmp(a, "--forever"))
			o->forever = true;
		else if (!strcmp(a, "--list"))
			o->list = true;
		else
			return false;
	}
	return true;
}

/* NULL, or why the test cannot run here. */
static const char *host_lacks(void)
{
#ifdef __SANITIZE_ADDRESS__
	return "with the address sanitizer too much of low memory is mapped";
#endif
	if (!(getauxval(AT_HWCAP2) & 2)) /* HWCAP2_FSGSBASE */
		return "the host lacks FSGSBASE";
	if (!(cpuid_host(NULL, 1, 0).ecx & BIT(28)))
		return "the host lacks AVX";
	return NULL;
}

int main(int argc, char **argv)
{
	const char *cases = getenv("DIFF_CASES");
	struct run t = {
		.o = {.cases = cases ? strtoull(cases, NULL, 0) : 2100000,
		      .mode = -1,
		      .max = 10}};
	bool some;
	u64 until;

	if (!parse(&t.o, argc, argv)) {
		fprintf(stderr,
			"usage: %s [--seed N] [--cases N] [--seconds N] "
			"[--row NAME] [--mode 16|32|64] [--max N] [--forever] "
			"[--list]\n",
			argv[0]);
		return 2;
	}
	if (host_lacks()) {
		printf("skip diff: %s\n", host_lacks());
		return 0;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* Timed runs look for new cases; others repeat what is known. */
	if (!t.o.seed)
		t.o.seed = t.o.seconds || t.o.forever ? (u64)time(NULL) : 1;
	until = (u64)time(NULL) + t.o.seconds;
	printf("seed %llu\n", (unsigned long long)t.o.seed);
	t.gen = diff_gen_new(t.o.seed);
	t.native = diff_native_new();
	t.soft = diff_soft_new(false);
	t.jit = diff_soft_new(true);
	if (!t.jit)
		printf("skip translated: the host lacks what it needs\n");
	t.count = calloc(op_row_count, sizeof(*t.count));
	ASSERT(t.count);
	do
		some = run_round(&t, t.o.seconds || t.o.forever ? 50000
								: t.o.cases);
	while (some && (t.o.forever ? !t.differ : (u64)time(NULL) < until));
	if (t.hung)
		printf("%llu cases did not end on the real CPU\n",
		       (unsigned long long)t.hung);
	report_rows(&t);
	if (t.o.list)
		report_list(&t);
	report_differences(&t);
	diff_soft_free(t.soft);
	if (t.jit)
		diff_soft_free(t.jit);
	diff_native_free(t.native);
	diff_gen_free(t.gen);
	free(t.count);
	return t.differ != 0 || !some;
}
