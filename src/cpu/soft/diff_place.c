/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Addresses for the differential test: mostly in mapped memory, often at odd
 * places, across pages and at the edges.
 */
#include "cpu/soft/diff_place.h"

#include <string.h>

void diff_put(struct diff_gen *g, u64 lin, const void *p, unsigned n)
{
	for (unsigned k = 0; k < n; k++)
		if (lin + k - DIFF_DATA < DIFF_DATA_SIZE)
			g->data[lin + k - DIFF_DATA] = ((const u8 *)p)[k];
}

static u64 place_seg_base(const struct diff_case *c, unsigned seg)
{
	u16 sel = seg == SEG_DS   ? c->in.ds
		  : seg == SEG_ES ? c->in.es
		  : seg == SEG_SS ? c->in.ss
		  : seg == SEG_CS ? c->in.cs
				  : 0;

	if (seg == SEG_FS)
		return c->in.fs_base;
	if (seg == SEG_GS)
		return c->in.gs_base;
	return sel == DIFF_DS16 ? DIFF_DATA : sel == DIFF_CS16 ? DIFF_CODE : 0;
}

/*
 * A linear address for an operand of size bytes; align 0: any. locked: not
 * across a cache line (a split lock stops all of the machine for a while, and
 * hosts slow down those who do it).
 */
static u64 place_target(struct diff_gen *g, unsigned size, unsigned align,
			bool locked)
{
	unsigned room = DIFF_DATA_SIZE - 64;
	u64 t;

	size = size ? size : 1;
	switch (locked ? 6 : diff_pick(&g->r, 32)) {
	case 0:
	case 1: /* across two pages */
		return DIFF_DATA + PAGE_SIZE - 1 - diff_pick(&g->r, size);
	case 2: /* over the end */
		return DIFF_DATA + DIFF_DATA_SIZE - diff_pick(&g->r, size + 1);
	case 3: /* over the beginning */
		return DIFF_DATA - diff_pick(&g->r, size + 1);
	case 4: return DIFF_RO + diff_pick(&g->r, DIFF_RO_SIZE - 64);
	case 5: return diff_value(&g->r);
	default: t = DIFF_DATA + 32 + diff_pick(&g->r, room - 32); break;
	}
	if (locked)
		return ALIGN_DOWN(t, size);
	return align && !diff_chance(&g->r, 16) ? ALIGN_DOWN(t, align) : t;
}

static unsigned place_align(struct diff_gen *g, const struct diff_case *c)
{
	unsigned size = c->insn.memsize;

	switch (c->insn.op) {
	case OP_XSAVE:
	case OP_XSAVEC:
	case OP_XSAVEOPT:
	case OP_XRSTOR: return 64;
	case OP_FXSAVE:
	case OP_FXRSTOR:
	case OP_CMPXCHG16B: return 16;
	}
	if (c->row->attr & OPA_ALIGN || c->in.rflags & RFLAGS_AC)
		return size & (size - 1) ? 8 : size;
	return diff_chance(&g->r, 2) && !(size & (size - 1)) ? size : 0;
}

static bool place_locked(const struct diff_case *c)
{
	if (!(c->insn.prefix & PFX_LOCK) && c->insn.op != OP_XCHG)
		return false;
	return c->insn.memsize != 0;
}

static u64 place_room(const struct diff_case *c)
{
	return c->insn.memsize ? c->insn.memsize : XSAVE_AREA_SIZE;
}

/* Replaces the displacement, at the end but for the immediate. */
static void place_disp(struct diff_case *c, u64 disp, unsigned size)
{
	memcpy(c->bytes + c->len - c->insn.immsize - size, &disp, size);
	c->insn.disp = (s32)disp;
}

/* Upper bits of an address register count for nothing: make them random. */
static u64 place_upper(struct diff_gen *g, const struct diff_case *c, u64 v)
{
	switch (c->insn.adsize) {
	case 2: return (v & 0xffff) | (diff_rnd(&g->r) & ~0xffffull);
	case 4:
		return (v & 0xffffffff) |
		       (c->mode == DECODE_64 ? diff_rnd(&g->r) << 32 : 0);
	default: return v;
	}
}

static void place_no_base(struct diff_gen *g, struct diff_case *c, u64 ea)
{
	struct insn *i = &c->insn;
	unsigned size = i->adsize == 2 ? 2 : 4;

	if (i->index != INSN_REG_NONE && !i->vsib) {
		c->in.gpr[i->index] = diff_pick(&g->r, 128);
		ea -= c->in.gpr[i->index] << i->scale;
		c->in.gpr[i->index] = place_upper(g, c, c->in.gpr[i->index]);
	}
	place_disp(c, ea, size);
}

static void place_base_index(struct diff_gen *g, struct diff_case *c, u64 ea)
{
	struct insn *i = &c->insn;
	u64 *base = &c->in.gpr[i->base], *index;

	ea -= (u64)(s64)i->disp;
	if (i->index == INSN_REG_NONE || i->vsib) {
		*base = place_upper(g, c, ea);
		return;
	}
	index = &c->in.gpr[i->index];
	if (base == index) {
		*base = place_upper(g, c,
				    (ea & 0xffffffff) / (1 + (1u << i->scale)));
		return;
	}
	if (diff_chance(&g->r, 2))
		*index = diff_pick(&g->r, 256);
	*base = place_upper(g, c, ea - (*index << i->scale));
	*index = place_upper(g, c, *index);
}

u64 diff_place(struct diff_gen *g, struct diff_case *c)
{
	struct insn *i = &c->insn;
	u64 t = place_target(g, (unsigned)place_room(c), place_align(g, c),
			     place_locked(c));
	u64 ea = t - place_seg_base(c, i->seg);

	/* Which parts of such an area are touched is the CPU's. */
	if (!i->memsize && i->mem && t - DIFF_DATA < DIFF_DATA_SIZE &&
	    t > DIFF_DATA + DIFF_DATA_SIZE - XSAVE_AREA_SIZE) {
		t -= 1024;
		ea -= 1024;
	}
	if (i->op == OP_XLAT) {
		c->in.gpr[REG_BX] =
			place_upper(g, c, ea - (c->in.gpr[REG_AX] & 0xff));
	} else if (i->form == FORM_MOFFS) {
		memcpy(c->bytes + c->len - i->adsize, &ea, i->adsize);
	} else if (!i->mem && i->base == INSN_REG_NONE) {
		return 0;
	} else if (i->base == INSN_REG_RIP) {
		place_disp(c, ea - (c->in.rip + c->len), 4);
	} else if (i->base == INSN_REG_NONE) {
		place_no_base(g, c, ea);
	} else {
		place_base_index(g, c, ea);
	}
	return t;
}

/* Linear address of the memory operand. */
static u64 place_lin(const struct diff_case *c)
{
	const struct insn *i = &c->insn;
	u64 ea = (u64)(s64)i->disp;

	if (i->base == INSN_REG_RIP)
		ea += c->in.rip + c->len;
	else if (i->base != INSN_REG_NONE)
		ea += c->in.gpr[i->base];
	if (i->index != INSN_REG_NONE && !i->vsib)
		ea += c->in.gpr[i->index] << i->scale;
	if (i->adsize < 8)
		ea &= BIT64(8 * i->adsize) - 1;
	ea += place_seg_base(c, i->seg);
	return c->mode == DECODE_64 ? ea : (u32)ea;
}

bool diff_placed(const struct diff_case *c)
{
	const struct insn *i = &c->insn;
	u64 lin;

	if (!i->mem)
		return true;
	lin = place_lin(c);
	if (c->mode != DECODE_64 && lin >= 0xfffff000)
		return false;
	if (!(i->prefix & PFX_LOCK) && i->op != OP_XCHG)
		return true;
	return (lin & 63) + i->memsize <= 64;
}

void diff_place_reg(struct diff_gen *g, struct diff_case *c, unsigned reg,
		    unsigned seg, unsigned size)
{
	unsigned align = c->in.rflags & RFLAGS_AC ? size : 0;

	c->in.gpr[reg] = place_upper(g, c,
				     place_target(g, size, align, false) -
					     place_seg_base(c, seg));
}

u64 diff_stack_lin(const struct diff_case *c)
{
	u64 sp = c->in.gpr[REG_SP];

	return c->mode == DECODE_64 ? sp : (u32)sp;
}

void diff_place_stack(struct diff_gen *g, struct diff_case *c)
{
	unsigned align = diff_chance(&g->r, 8) ? 0 : 8;

	if (c->in.rflags & RFLAGS_AC)
		align = 8;
	c->in.gpr[REG_SP] = place_target(g, 8, align, false);
}
