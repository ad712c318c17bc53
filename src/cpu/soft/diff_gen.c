/* SPDX-License-Identifier: BSD-2-Clause */
/* Cases for the differential test: which rows, and the state they start in. */
#include "cpu/soft/diff_place.h"

#include <stdlib.h>
#include <string.h>

struct diff_gen *diff_gen_new(u64 seed)
{
	struct diff_gen *g = aligned_alloc(_Alignof(struct diff_gen),
					   sizeof(*g)); /* XSAVE areas */

	ASSERT(g);
	memset(g, 0, sizeof(*g));
	g->r.s = seed * 0x9e3779b97f4a7c15 + 0x1234567;
	if (!g->r.s)
		g->r.s = 1;
	for (unsigned k = 0; k < 8; k++)
		diff_rnd(&g->r);
	return g;
}

void diff_gen_free(struct diff_gen *g)
{
	free(g);
}

const char *diff_gen_excluded(const struct op_row *o)
{
	switch (o->op) {
	case OP_SYSCALL:
	case OP_SYSENTER: return "enters the host's kernel";
	case OP_VMCALL:
	case OP_VMMCALL: return "calls the host's hypervisor";
	case OP_SGDT:
	case OP_SIDT:
	case OP_SLDT:
	case OP_STR:
	case OP_SMSW: return "UMIP: the host's kernel emulates it";
	case OP_XGETBV: return "the host has other XCR0 bits";
	case OP_XSAVEOPT: return "what it leaves out is up to the CPU";
	}
	if (o->attr & OPA_NONDET && !(o->attr & OPA_PRIV))
		return "its result depends on time, chance or the host";
	return NULL;
}

static void gen_memory(struct diff_gen *g)
{
	if (g->age++ % 64 == 0)
		for (unsigned k = 0; k < DIFF_DATA_SIZE; k += 32)
			diff_fill_vector(&g->r, g->base + k, 32);
	memcpy(g->data, g->base, DIFF_DATA_SIZE);
}

/* Where the instruction is: anywhere, across pages, at the very end. */
static u64 gen_rip(struct diff_gen *g, const struct diff_case *c)
{
	u64 off = 160 + diff_pick(&g->r, DIFF_CODE_SIZE - 320);

	if (diff_chance(&g->r, 32))
		off = PAGE_SIZE - diff_pick(&g->r, c->len + 1);
	if (!c->spoilt && diff_chance(&g->r, 64))
		off = DIFF_CODE_SIZE - diff_pick(&g->r, c->len + 1);
	if (off == DIFF_CODE_SIZE)
		off--;
	return c->mode == DECODE_16 ? off : DIFF_CODE + off;
}

static void gen_segments(struct diff_gen *g, struct diff_case *c)
{
	struct diff_regs *r = &c->in;
	bool small = c->mode == DECODE_16 && c->insn.adsize == 2;

	r->cs = c->mode == DECODE_64   ? DIFF_CS64
		: c->mode == DECODE_32 ? DIFF_CS32
				       : DIFF_CS16;
	r->ss = DIFF_DS;
	r->ds = r->es = r->fs = r->gs = 0;
	if (c->mode != DECODE_64) {
		r->ds = r->es = DIFF_DS;
		if (small || diff_chance(&g->r, 4))
			r->ds = DIFF_DS16;
		if (small || diff_chance(&g->r, 4))
			r->es = DIFF_DS16;
	}
	r->fs_base = diff_pick(&g->r, 0x8000);
	r->gs_base = diff_chance(&g->r, 2) ? DIFF_DATA : 0;
}

/* Whether the run ends behind the instruction if there is no fault. */
static bool gen_lands(const struct diff_case *c)
{
	switch (c->insn.op) {
	case OP_POPF: /* may set TF */
	case OP_MOV_TO_SREG:
	case OP_POP_SREG:
	case OP_LSS: return false; /* may hold off a trap */
	}
	/* The way out is not the same on both sides, so it may not be read. */
	if (c->mode != DECODE_64 && c->insn.seg == SEG_CS)
		return false;
	return !(c->row->attr & OPA_BRANCH);
}

static bool gen_touches_vectors(const struct op_row *o)
{
	return o->attr & (OPA_SIMD | OPA_X87);
}

/* Of several accesses that raise #AC or #PF, which is first is the CPU's. */
static u64 gen_no_flags(const struct op_row *o)
{
	switch (o->op) {
	case OP_CALL_FAR:
	case OP_JMP_FAR:
	case OP_RET_FAR:
	case OP_IRET:
	case OP_LDS:
	case OP_LES:
	case OP_LFS:
	case OP_LGS:
	case OP_LSS:
	case OP_ENTER: return RFLAGS_AC;
	}
	/* Gathers check no alignment, and may trap before they are done. */
	if (o->attr & OPA_VSIB)
		return RFLAGS_AC | RFLAGS_TF;
	if (o->feature == FEAT_F16C ||
	    (o->attr & OPA_SIMD && o->attr & OPA_SYSTEM))
		return RFLAGS_AC;
	return 0;
}

bool diff_gen_case(struct diff_gen *g, unsigned row, enum decode_mode mode,
		   struct diff_case *c)
{
	const struct op_row *o = &op_rows[row];

	if (o->attr & (mode == DECODE_64 ? OPA_NO64 : OPA_ONLY64))
		return false;
	c->row = o;
	c->row_number = row;
	c->mode = mode;
	if (!diff_gen_bytes(g, c))
		return false;
	gen_memory(g);
	gen_segments(g, c);
	c->in.rip = gen_rip(g, c);
	c->in.rflags = diff_flags(&g->r) & ~gen_no_flags(o);
	for (unsigned k = 0; k < 16; k++)
		c->in.gpr[k] = diff_value(&g->r);
	if (gen_touches_vectors(o) || !g->regs.xsave[512])
		diff_fill_xsave(&g->r, g->regs.xsave);
	memcpy(c->in.xsave, g->regs.xsave, XSAVE_AREA_SIZE);
	diff_gen_operands(g, c);
	/* What is in the upper halves outside 64-bit mode is not defined. */
	for (unsigned k = 0; k < 8 && mode != DECODE_64; k++)
		c->in.gpr[k] &= 0xffffffff;
	if (!diff_placed(c))
		return false;
	c->lands = gen_lands(c);
	c->data = g->data;
	return true;
}
