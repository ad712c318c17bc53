/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Port I/O: IN, OUT, INS, OUTS, with IOPL and the TSS's I/O permission bitmap
 * (SDM volume 1, chapter 19). A REP form stops between two elements when
 * something wants attention, and goes on by being executed again.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

#define IO_CHUNK 4096

/* The bitmap's bits of these ports must all be clear. */
static bool io_bitmap_allows(struct soft_vcpu *v, u16 port, unsigned size)
{
	u64 base, bits;

	if (!(v->tr.attr & 8) || v->tr.limit < 0x67)
		return false;
	base = soft_ld_sys(v, v->tr.base + 0x66, 2);
	if (base + port / 8 + 1 > v->tr.limit)
		return false;
	bits = soft_ld_sys(v, v->tr.base + base + port / 8, 2);
	return !(bits >> (port & 7) & (BIT(size) - 1));
}

static void io_check(struct soft_vcpu *v, u16 port, unsigned size)
{
	unsigned iopl = v->rflags >> 12 & 3;

	if (!(v->mode & MODE_PE))
		return;
	if ((v->cpl > iopl || v->mode & MODE_VM86) &&
	    !io_bitmap_allows(v, port, size))
		soft_fault_err(v, VEC_GP, 0);
}

/* I/O breakpoints (CR4.DE, R/W 2): a trap after the instruction. */
static void io_watch(struct soft_vcpu *v, u16 port, unsigned size)
{
	if (likely(!(v->dr7 & 0xff)) || !(v->cr4 & CR4_DE))
		return;
	for (unsigned i = 0; i < 4; i++) {
		u64 len = (v->dr7 >> (18 + 4 * i) & 3) + 1;

		if (v->dr7 >> (2 * i) & 3 &&
		    (v->dr7 >> (16 + 4 * i) & 3) == 2 &&
		    port < v->dr[i] + len && v->dr[i] < (u64)port + size)
			v->db_pending |= BIT(i);
	}
}

static u64 io_in(struct soft_vcpu *v, u16 port, unsigned size)
{
	const struct engine_config *c = &v->vcpu.engine->config;

	v->vcpu.stat[VCPU_STAT_PIO]++;
	io_watch(v, port, size);
	return c->ops->pio_read(c->machine, port, size);
}

static void io_out(struct soft_vcpu *v, u16 port, unsigned size, u64 val)
{
	const struct engine_config *c = &v->vcpu.engine->config;

	v->vcpu.stat[VCPU_STAT_PIO]++;
	io_watch(v, port, size);
	c->ops->pio_write(c->machine, port, val & (BIT64(size * 8) - 1), size);
}

static u16 io_port(const struct soft_vcpu *v, const struct insn *i)
{
	if (i->form == FORM_A_IB || i->form == FORM_IB_A)
		return (u8)i->imm;
	return (u16)v->gpr[REG_DX];
}

static void sys_in(struct soft_vcpu *v, const struct insn *i)
{
	u16 port = io_port(v, i);

	io_check(v, port, i->opsize);
	sys_reg_set(v, REG_AX, i->opsize, io_in(v, port, i->opsize));
}

static void sys_out(struct soft_vcpu *v, const struct insn *i)
{
	u16 port = io_port(v, i);

	io_check(v, port, i->opsize);
	io_out(v, port, i->opsize, v->gpr[REG_AX]);
}

static u64 io_index(const struct soft_vcpu *v, const struct insn *i,
		    unsigned reg)
{
	u64 val = v->gpr[reg];

	return i->adsize == 8 ? val : i->adsize == 4 ? (u32)val : (u16)val;
}

static void io_advance(struct soft_vcpu *v, const struct insn *i, unsigned reg)
{
	u64 step = i->opsize;

	if (v->rflags & RFLAGS_DF)
		step = -step;
	sys_reg_set(v, reg, i->adsize, v->gpr[reg] + step);
}

static void io_ins_one(struct soft_vcpu *v, const struct insn *i, u16 port)
{
	gva_t lin = soft_lin(v, SEG_ES, io_index(v, i, REG_DI), i->opsize,
			     MMU_WRITE);

	soft_probe(v, lin, i->opsize, MMU_WRITE);
	soft_st(v, lin, i->opsize, io_in(v, port, i->opsize));
	io_advance(v, i, REG_DI);
}

static void io_outs_one(struct soft_vcpu *v, const struct insn *i, u16 port)
{
	gva_t lin = soft_lin(v, i->seg, io_index(v, i, REG_SI), i->opsize,
			     MMU_READ);

	io_out(v, port, i->opsize, soft_ld(v, lin, i->opsize));
	io_advance(v, i, REG_SI);
}

/* Runs one element, or as many as REP wants and attention lets. */
static void io_string(struct soft_vcpu *v, const struct insn *i,
		      void (*one)(struct soft_vcpu *, const struct insn *, u16))
{
	u16 port = (u16)v->gpr[REG_DX];
	u64 next = insn_next(v, i);

	io_check(v, port, i->opsize);
	if (!(i->prefix & (PFX_REP | PFX_REPNE))) {
		one(v, i, port);
		v->rip = next;
		return;
	}
	for (unsigned n = 0; n < IO_CHUNK && io_index(v, i, REG_CX); n++) {
		one(v, i, port);
		sys_reg_set(v, REG_CX, i->adsize, v->gpr[REG_CX] - 1);
		if (v->attention)
			break;
	}
	if (!io_index(v, i, REG_CX))
		v->rip = next;
}

static void sys_ins(struct soft_vcpu *v, const struct insn *i)
{
	io_string(v, i, io_ins_one);
}

static void sys_outs(struct soft_vcpu *v, const struct insn *i)
{
	io_string(v, i, io_outs_one);
}

const struct sys_op sys_ops_io[] = {
	{OP_IN, sys_in},     {OP_OUT, sys_out}, {OP_INS, sys_ins},
	{OP_OUTS, sys_outs}, {0, NULL},
};
