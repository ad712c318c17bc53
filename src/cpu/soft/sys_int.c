/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * INT n and its kin, CLI, STI, HLT, UD: instructions about events.
 */
#include "cpu/soft/event.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

static void sys_int(struct soft_vcpu *v, const struct insn *i)
{
	v->sys->skip_step = true;
	soft_interrupt(v, (u8)i->imm, insn_next(v, i), INT_SOFT);
}

static void sys_int3(struct soft_vcpu *v, const struct insn *i)
{
	v->sys->skip_step = true;
	soft_interrupt(v, VEC_BP, insn_next(v, i), INT_SOFT);
}

static void sys_int1(struct soft_vcpu *v, const struct insn *i)
{
	v->sys->skip_step = true;
	soft_interrupt(v, VEC_DB, insn_next(v, i), INT_PRIV);
}

static void sys_into(struct soft_vcpu *v, const struct insn *i)
{
	if (!(v->fl & 1)) {
		v->rip = insn_next(v, i);
		return;
	}
	v->sys->skip_step = true;
	soft_interrupt(v, VEC_OF, insn_next(v, i), INT_SOFT);
}

static void sys_undefined(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	soft_fault(v, VEC_UD);
}

/* CPL above IOPL, or VM86 with IOPL below 3 */
static void sys_need_iopl(struct soft_vcpu *v)
{
	unsigned iopl = v->rflags >> 12 & 3;

	if (v->mode & MODE_PE && v->cpl > iopl)
		soft_fault_err(v, VEC_GP, 0);
}

static void sys_cli(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_need_iopl(v);
	v->rflags &= ~(u64)RFLAGS_IF;
}

static void sys_sti(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	sys_need_iopl(v);
	if (v->rflags & RFLAGS_IF)
		return;
	v->rflags |= RFLAGS_IF;
	v->shadow = 1;
	/* "sti; nop; cli" is a window: do not run on through it. */
	if (v->nmi_pending || lapic_pending(v->vcpu.lapic))
		soft_attention(v, ATTN_IRQ | ATTN_MODE);
}

static void sys_hlt(struct soft_vcpu *v, const struct insn *i)
{
	sys_need_cpl0(v);
	v->rip = insn_next(v, i);
	v->shadow = 0;
	v->mp_state = MP_HALTED;
	v->vcpu.stat[VCPU_STAT_HALT]++;
	soft_attention(v, ATTN_IRQ | ATTN_MODE);
}

const struct sys_op sys_ops_int[] = {
	{OP_INT, sys_int},       {OP_INT3, sys_int3},
	{OP_INT1, sys_int1},     {OP_INTO, sys_into},
	{OP_UD0, sys_undefined}, {OP_UD1, sys_undefined},
	{OP_UD2, sys_undefined}, {OP_RSM, sys_undefined},
	{OP_CLI, sys_cli},       {OP_STI, sys_sti},
	{OP_HLT, sys_hlt},       {0, NULL},
};
