/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every row of the opcode table that CPL 3 can run, with generated operands,
 * on the real CPU and on the soft engine, interpreted and (32- and 64-bit code)
 * translated: registers, flags, vector and x87 state, memory and faults are
 * equal bit for bit. What the manual leaves to the CPU is left out: undefined
 * flags, and which of several faults comes first (diff_compare.c).
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

/* The modes of decoding, and those that are translated. */
enum { MODE_JIT64 = 3, MODE_JIT32, MODES };

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

static const char *const mode_names[] = {"16", "32", "64", "64_translated",
					 "32_translated"};

/* ---- Running ---- */

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
	if (ran && !diff_differ(false, c, a, &b, diff_native_data(),
				diff_soft_data(soft)))
		return;
	n->differ++;
	if (t->differ++ >= t->o.max)
		return;
	show_case(t, c, mode);
	if (ran)
		diff_differ(true, c, a, &b, diff_native_data(),
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
	if (c->mode != DECODE_16 && t->jit)
		run_soft(t, t->jit,
			 c->mode == DECODE_64 ? MODE_JIT64 : MODE_JIT32, c, &a);
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
