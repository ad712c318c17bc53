/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * BT, BTS, BTR, BTC of a bit string in memory: the register's value is a bit
 * offset from the operand, of any size and sign (SDM volume 1, 3.1.1.9).
 */
#include "cpu/jit/translate.h"

/* RCX += the bytes from the operand to the word with the bit. */
static void bits_address(struct tr *t)
{
	const struct insn *i = &t->x->i;
	struct emit *e = &t->e;
	u8 log2 = i->opsize == 8 ? 6 : i->opsize == 4 ? 5 : 4;

	tr_get(t, JIT_S2, i->reg);
	if (i->opsize == 4)
		emit_op(e, (struct opc){.code = 0x63, .w = 1}, JIT_S2,
			rm_reg(JIT_S2)); /* MOVSXD */
	else if (i->opsize == 2)
		emit_op(e, (struct opc){.code = 0xbf, .map = 1, .w = 1}, JIT_S2,
			rm_reg(JIT_S2)); /* MOVSX */
	emit_op(e, (struct opc){.code = 0xc1, .w = 1}, 7, rm_reg(JIT_S2));
	emit_u8(e, log2); /* SAR */
	emit_lea(e, JIT_S1, rm_sib(JIT_S1, JIT_S2, (u8)(log2 - 3), 0), true);
}

void tr_bits(struct tr *t)
{
	const struct insn *i = &t->x->i;
	struct emit *e = &t->e;

	tr_guard_flags(t);
	tr_address(t, true);
	bits_address(t);
	tr_access(t, i->opsize, op_rows[i->row].attr & OPA_STORE);
	tr_get(t, JIT_S3, i->reg);
	emit_alu_imm(e, 4, false, JIT_S3, i->opsize * 8 - 1);
	tr_need_flags(t); /* those that it leaves alone */
	emit_op(e,
		(struct opc){.code = t->x->bytes[i->opc_off],
			     .map = 1,
			     .pfx = i->opsize == 2 ? 0x66 : 0,
			     .w = i->opsize == 8,
			     .lock = !!(i->prefix & PFX_LOCK)},
		JIT_S3, rm_mem(JIT_S1, 0));
}
