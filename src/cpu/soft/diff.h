/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The differential test of the CPU: one instruction, from one state, on the
 * real CPU and on the soft engine; everything that comes out is compared.
 *
 * diff_gen.c makes cases: bytes for a row of the opcode table, registers,
 * memory. diff_native.c runs a case on the real CPU, in user mode; diff_soft.c
 * on a soft vCPU, at CPL 3 of a tiny guest. diff_compare.c compares,
 * diff_test.c counts and reports.
 *
 * Both sides have the same few pages at the same linear addresses below 2 GiB,
 * so that 16- and 32-bit code reaches them too.
 */
#ifndef CPU_SOFT_DIFF_H
#define CPU_SOFT_DIFF_H

#include "cpu/soft/soft.h"

/* Linear memory. Around each range nothing is mapped. */
#define DIFF_CODE       0x10000000ull /* executable; filled with INT3 */
#define DIFF_CODE_SIZE  0x2000u
#define DIFF_DATA       0x10010000ull /* read, write */
#define DIFF_DATA_SIZE  0x2000u
#define DIFF_RO         0x10018000ull /* read only */
#define DIFF_RO_SIZE    0x1000u
#define DIFF_TRAMPOLINE 0x10020000ull /* real CPU only: the way out */

/* Selectors, as on Linux; the last two are of the LDT. */
enum {
	DIFF_CS32 = 0x23,
	DIFF_DS = 0x2b,
	DIFF_CS64 = 0x33,
	DIFF_CS16 = 0x07, /* base DIFF_CODE, limit 64 KiB */
	DIFF_DS16 = 0x0f, /* base DIFF_DATA, limit DIFF_DATA_SIZE - 1 */
};

struct diff_regs {
	u64 gpr[16];
	u64 rip, rflags;
	u16 cs, ss, ds, es, fs, gs;
	u64 fs_base, gs_base;
	u8 xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));
};

/* Linear address of the instruction. */
static inline u64 diff_code_lin(const struct diff_regs *r)
{
	return r->cs == DIFF_CS16 ? DIFF_CODE + (r->rip & 0xffff) : r->rip;
}

#define DIFF_NO_FAULT 0xffu
#define DIFF_HANG     0xfeu /* the alarm came first */

/* What came out. vector: the exception, or DIFF_NO_FAULT. */
struct diff_result {
	struct diff_regs r;
	u32 vector, error;
	u64 cr2;
};

struct diff_case {
	const struct op_row *row;
	unsigned row_number;
	enum decode_mode mode;
	u8 bytes[16];
	unsigned len;
	struct insn insn;
	bool spoilt; /* made undefined; insn is what it was before */
	bool lands;  /* goes on at the next instruction unless it faults */
	struct diff_regs in;
	const u8 *data; /* contents of DIFF_DATA before */
};

/* Random numbers; one state for a run. */
struct diff_rng {
	u64 s;
};
static inline u64 diff_rnd(struct diff_rng *r)
{
	r->s ^= r->s << 13;
	r->s ^= r->s >> 7;
	r->s ^= r->s << 17;
	return r->s * 0x2545f4914f6cdd1dull;
}
static inline bool diff_chance(struct diff_rng *r, unsigned n)
{
	return (diff_rnd(r) >> 20) % n == 0;
}
static inline unsigned diff_pick(struct diff_rng *r, unsigned n)
{
	return (unsigned)((diff_rnd(r) >> 20) % n);
}

/* The constant contents of DIFF_RO. */
static inline void diff_fill_ro(u8 *p)
{
	for (unsigned k = 0; k < DIFF_RO_SIZE; k++)
		p[k] = (u8)(k * 37 + (k >> 8));
}

/* diff_gen.c */
struct diff_gen;
struct diff_gen *diff_gen_new(u64 seed);
void diff_gen_free(struct diff_gen *g);
/* Whether the row can be run, and if not, why. */
const char *diff_gen_excluded(const struct op_row *o);
/* Makes a case for the row in the mode; false if it has none there. */
bool diff_gen_case(struct diff_gen *g, unsigned row, enum decode_mode mode,
		   struct diff_case *c);

/* diff_native.c: data is the contents of DIFF_DATA afterwards. */
struct diff_native;
struct diff_native *diff_native_new(void);
void diff_native_free(struct diff_native *n);
void diff_native_run(struct diff_native *n, const struct diff_case *c,
		     struct diff_result *out);
const u8 *diff_native_data(void);

/* diff_soft.c */
struct diff_soft;
/* With the translator, which translates at once; NULL if it cannot be had. */
struct diff_soft *diff_soft_new(bool jit);
void diff_soft_free(struct diff_soft *s);
/* False: the engine gave up; it has said why on stderr. */
bool diff_soft_run(struct diff_soft *s, const struct diff_case *c,
		   struct diff_result *out);
const u8 *diff_soft_data(struct diff_soft *s);

/*
 * diff_compare.c: whether the results (real: a, soft: b) and the memory
 * afterwards differ in what is defined; show prints where.
 */
bool diff_differ(bool show, const struct diff_case *c,
		 const struct diff_result *a, const struct diff_result *b,
		 const u8 *mem_a, const u8 *mem_b);

#endif
