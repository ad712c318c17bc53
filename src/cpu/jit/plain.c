/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Integer instructions, re-encoded: the same opcode with the guest's registers
 * replaced by where they are, and the memory operand by [RCX].
 *
 * A register that is not in a host register is loaded to scratch and stored
 * back. AH, CH, DH, BH are reached by rotating the whole register into scratch
 * and back, which leaves the flags alone (RORX).
 */
#include "cpu/jit/plan.h"
#include "cpu/jit/translate.h"

/* One register operand on its way: host register, and what to do after. */
struct opnd {
	u8 host, guest, use;
	bool rotated;
};

static struct opnd plain_open(struct tr *t, u8 g, u8 use, u8 scratch)
{
	struct opnd o = {.host = scratch, .guest = g, .use = use};

	if (g >= INSN_REG_HIGH8) {
		o.guest = g - INSN_REG_HIGH8;
		o.rotated = true;
		emit_rorx(&t->e, true, scratch, jit_host[o.guest], 8);
	} else if (jit_host[g] != H_NONE) {
		o.host = jit_host[g];
	} else if (use & USE_R) {
		emit_load(&t->e, scratch, rm_v(V_GPR(g)));
	}
	return o;
}

static void plain_close(struct tr *t, const struct opnd *o)
{
	if (!(o->use & USE_W))
		return;
	if (o->rotated)
		emit_rorx(&t->e, true, jit_host[o->guest], o->host, 56);
	else if (jit_host[o->guest] == H_NONE)
		emit_store(&t->e, o->host, rm_v(V_GPR(o->guest)));
}

static bool plain_needs_scratch(u8 g)
{
	return g >= INSN_REG_HIGH8 || jit_host[g] == H_NONE;
}

static struct opc plain_opc(const struct tr *t)
{
	static const u8 map[MAPS] = {
		[MAP_0F] = 1,  [MAP_38] = 2,  [MAP_3A] = 3,
		[MAP_V0F] = 1, [MAP_V38] = 2, [MAP_V3A] = 3};
	const struct insn *i = &t->x->i;
	const struct op_row *row = &op_rows[i->row];
	bool vex = i->prefix & PFX_VEX;
	struct opc o = {.code = t->x->bytes[i->opc_off],
			.map = map[row->map],
			.w = i->opsize == 8,
			.lock = !!(i->prefix & PFX_LOCK),
			.byte = i->opsize == 1 || i->srcsize == 1,
			.vex = vex};

	if (vex) {
		o.pfx = jit_vex_prefix(t->x->bytes[i->opc_off - 1]);
	} else if (i->prefix & PFX_REPNE) {
		o.pfx = 0xf2;
	} else if (i->prefix & PFX_REP) {
		o.pfx = 0xf3;
	} else if (i->prefix & PFX_66) {
		o.pfx = 0x66;
	}
	o.word = !vex && i->opsize == 2;
	/* F2 and F3 mean something to these only; XACQUIRE is dropped. */
	if (o.pfx == 0xf2 && !vex && i->op != OP_CRC32)
		o.pfx = 0;
	if (o.pfx == 0xf3 && !vex && i->op != OP_POPCNT && i->op != OP_LZCNT &&
	    i->op != OP_TZCNT && i->op != OP_ADOX)
		o.pfx = 0;
	return o;
}

static void plain_imm(struct tr *t)
{
	const struct insn *i = &t->x->i;

	emit_bytes(&t->e, t->x->bytes + i->len - i->immsize, i->immsize);
}

/* Opcodes without ModRM: operands AL, AX..., or none. */
static void plain_bare(struct tr *t)
{
	const struct insn *i = &t->x->i;

	if (i->opsize == 2)
		emit_u8(&t->e, 0x66);
	if (i->op == OP_PAUSE)
		emit_u8(&t->e, 0xf3);
	if (i->opsize == 8)
		emit_u8(&t->e, 0x48);
	if (op_rows[i->row].map == MAP_0F) { /* LFENCE ... */
		emit_u8(&t->e, 0x0f);
		emit_u8(&t->e, t->x->bytes[i->opc_off]);
		emit_u8(&t->e, i->modrm);
		return;
	}
	emit_u8(&t->e, t->x->bytes[i->opc_off]);
	plain_imm(t);
}

/* A register in the opcode's low bits: BSWAP, XCHG with RAX, MOV imm. */
static void plain_opcode_reg(struct tr *t)
{
	const struct insn *i = &t->x->i;
	struct plan_use use = plan_use(i);
	struct opc o = {.w = i->opsize == 8, .byte = i->opsize == 1};
	struct opnd rm = plain_open(t, i->rm, use.rm, JIT_S2);

	if (i->opsize == 2)
		o.pfx = 0x66;
	if (i->op == OP_INC || i->op == OP_DEC) { /* one byte: 32-bit code */
		tr_need_flags(t);
		o.code = 0xff;
		emit_op(&t->e, o, i->op == OP_DEC, rm_reg(rm.host));
	} else if (i->op == OP_XCHG) {
		o.code = 0x87;
		emit_op(&t->e, o, JIT_AX, rm_reg(rm.host));
	} else if (i->op == OP_BSWAP) {
		u8 rex = (u8)(0x40 | (o.w << 3) | (rm.host >> 3));

		if (o.pfx)
			emit_u8(&t->e, o.pfx);
		if (rex != 0x40)
			emit_u8(&t->e, rex);
		emit_u8(&t->e, 0x0f);
		emit_u8(&t->e, 0xc8 | (rm.host & 7));
	} else if (i->opsize >= 4) {
		emit_mov_imm(&t->e, rm.host,
			     i->opsize == 8 ? i->imm : (u32)i->imm);
	} else {
		o.code = i->opsize == 1 ? 0xc6 : 0xc7;
		emit_op(&t->e, o, 0, rm_reg(rm.host));
		plain_imm(t);
	}
	plain_close(t, &rm);
}

/* Whether the instruction has a ModRM.reg that is a register. */
static bool plain_has_reg(const struct insn *i)
{
	switch (i->form) {
	case FORM_RM_R:
	case FORM_RM_R_I:
	case FORM_RM_R_CL:
	case FORM_R_RM:
	case FORM_R_RM_I:
	case FORM_VEX_R_V_RM:
	case FORM_VEX_R_RM_V: return true;
	default: return false;
	}
}

static bool plain_has_v(const struct insn *i)
{
	return i->form == FORM_VEX_R_V_RM || i->form == FORM_VEX_R_RM_V ||
	       i->form == FORM_VEX_V_RM;
}

/* Scratch registers the operands take; more than there are: not translated. */
static bool plain_fits(const struct insn *i)
{
	bool cl = i->form == FORM_RM_CL || i->form == FORM_RM_R_CL;
	unsigned need = cl || i->mem;

	/* The halves of one register would overwrite each other. */
	if ((i->op == OP_XCHG || i->op == OP_XADD || i->op == OP_CMPXCHG) &&
	    (i->reg >= INSN_REG_HIGH8 || (!i->mem && i->rm >= INSN_REG_HIGH8)))
		return false;
	if (cl && i->mem)
		need = 2;
	if (i->op == OP_LEA)
		need = 1;
	if (plain_has_reg(i))
		need += plain_needs_scratch(i->reg);
	if (plain_has_v(i))
		need += plain_needs_scratch(i->vreg);
	if (!i->mem)
		need += plain_needs_scratch(i->rm);
	return need <= 3;
}

/* Those of form RM_R that a 64-bit memory operand may be given. */
static bool plain_stores(u16 op)
{
	switch (op) {
	case OP_ADD:
	case OP_OR:
	case OP_ADC:
	case OP_SBB:
	case OP_AND:
	case OP_SUB:
	case OP_XOR:
	case OP_MOV: return true;
	default: return false;
	}
}

/*
 * A register in v->gpr whose place there may stand for it: it is only read, or
 * all of it is written by what needs no lock and counts no bits beyond it.
 */
static bool plain_in_place(const struct insn *i, u8 use)
{
	if (i->mem || i->rm >= 16 || jit_host[i->rm] != H_NONE ||
	    i->op == OP_BT || i->op == OP_XCHG)
		return false;
	return use == USE_R ||
	       (i->opsize == 8 &&
		(i->form == FORM_RM_I || i->form == FORM_RM ||
		 i->form == FORM_RM_1 ||
		 (i->form == FORM_RM_R && plain_stores(i->op))));
}

/* XOR or SUB of a register in v->gpr with itself. */
static bool plain_zeroes(const struct insn *i)
{
	return !i->mem && i->rm == i->reg && i->rm < 16 &&
	       jit_host[i->rm] == H_NONE && i->opsize >= 4 &&
	       (i->form == FORM_RM_R || i->form == FORM_R_RM) &&
	       (i->op == OP_XOR || i->op == OP_SUB);
}

static void plain_zero(struct tr *t)
{
	emit_rr(&t->e, 0x31, false, JIT_S2, JIT_S2); /* XOR */
	emit_store(&t->e, JIT_S2, rm_v(V_GPR(t->x->i.rm)));
	t->addend_kept = t->addend_loaded;
}

static void plain_modrm(struct tr *t)
{
	const struct insn *i = &t->x->i;
	bool cl = i->form == FORM_RM_CL || i->form == FORM_RM_R_CL;
	struct plan_use use = plan_use(i);
	struct opc o = plain_opc(t);
	static const u8 scratch[] = {JIT_S1, JIT_S2, JIT_S3, H_NONE};
	struct opnd reg = {.host = (i->modrm >> 3) & 7}, rm = {0}, v = {0};
	const u8 *next = &scratch[(i->mem || cl) + (i->mem && cl)];
	struct rm at;

	if (i->mem)
		at = tr_operand(t, i->memsize,
				op_rows[i->row].attr & OPA_STORE);
	tr_need_flags(t);
	if (i->mem && cl) {
		emit_mov(&t->e, JIT_S2, JIT_S1);
		at.reg = JIT_S2;
	}
	t->addend_kept &= !cl;
	if (cl)
		emit_mov(&t->e, H_CX, JIT_GCX);
	if (plain_in_place(i, use.rm)) {
		at = rm_v(V_GPR(i->rm));
	} else if (!i->mem) {
		rm = plain_open(t, i->rm, use.rm, *next);
		at = rm_reg(rm.host);
		next += rm.host == *next;
	}
	if (plain_has_reg(i)) {
		reg = plain_open(t, i->reg, use.reg, *next);
		next += reg.host == *next;
	}
	if (plain_has_v(i)) {
		v = plain_open(t, i->vreg, use.v, *next);
		o.vvvv = v.host;
		next += v.host == *next;
	}
	if (next == scratch)
		t->addend_kept = t->addend_loaded;
	emit_op(&t->e, o, reg.host, at);
	plain_imm(t);
	plain_close(t, &v);
	plain_close(t, &reg);
	if (!i->mem)
		plain_close(t, &rm);
}

/* The address as a host operand, if all of it is in host registers. */
static bool plain_address(const struct insn *i, struct rm *m)
{
	u8 base = H_NONE, index = H_NONE;

	if (i->base == INSN_REG_RIP || i->adsize < MAX(i->opsize, 4))
		return false;
	if (i->base != INSN_REG_NONE && (base = jit_host[i->base]) == H_NONE)
		return false;
	if (i->index != INSN_REG_NONE && (index = jit_host[i->index]) == H_NONE)
		return false;
	*m = rm_sib(base, index, i->scale, i->disp);
	return base != H_NONE || index != H_NONE;
}

static void plain_lea(struct tr *t)
{
	const struct insn *i = &t->x->i;
	u8 dst = jit_host[i->reg] == H_NONE ? JIT_S2 : jit_host[i->reg];
	struct rm m;

	if (i->opsize >= 4 && plain_address(i, &m)) {
		emit_lea(&t->e, dst, m, i->opsize == 8);
		tr_put(t, i->reg, dst);
		return;
	}
	tr_address(t, false);
	if (i->opsize == 2) {
		tr_get(t, JIT_S2, i->reg);
		emit_op(&t->e, (struct opc){.code = 0x89, .pfx = 0x66}, JIT_S1,
			rm_reg(JIT_S2));
		tr_put(t, i->reg, JIT_S2);
		return;
	}
	emit_rr(&t->e, 0x89, i->opsize == 8, JIT_S1, dst);
	tr_put(t, i->reg, dst);
}

void tr_plain(struct tr *t)
{
	const struct insn *i = &t->x->i;

	switch (i->form) {
	case FORM_NONE:
	case FORM_A_I:
		tr_need_flags(t);
		plain_bare(t);
		return;
	case FORM_R:
	case FORM_R_I: plain_opcode_reg(t); return;
	default: break;
	}
	if (i->op == OP_LEA)
		plain_lea(t);
	else if (plain_zeroes(i))
		plain_zero(t);
	else if (plain_fits(i))
		plain_modrm(t);
	else
		tr_called(t);
}

/*
 * Division runs as it is once it cannot fault: RDX below the divisor, or for
 * IDIV: RDX:RAX the sign extension of RAX, divisor neither 0 nor -1. All else
 * is the interpreter's. The flags are undefined afterwards.
 */
void tr_div(struct tr *t)
{
	const struct insn *i = &t->x->i;
	bool w = i->opsize == 8;
	struct rm at;
	struct opnd rm;

	if (i->mem) {
		at = tr_operand(t, i->memsize, false);
	} else {
		rm = plain_open(t, i->rm, USE_R, JIT_S1);
		at = rm_reg(rm.host);
	}
	tr_guard_flags(t);
	if (i->op == OP_DIV) {
		emit_op(&t->e, (struct opc){.code = 0x3b, .w = w}, H_DX, at);
		tr_way(t, emit_jcc(&t->e, 3), WAY_VALUE, t->x->off, t->x->live);
	} else {
		emit_rr(&t->e, 0x89, w, H_AX, JIT_S2);
		emit_op(&t->e, (struct opc){.code = 0xc1, .w = w}, 7,
			rm_reg(JIT_S2)); /* SAR */
		emit_u8(&t->e, w ? 63 : 31);
		emit_rr(&t->e, 0x3b, w, H_DX, JIT_S2);
		tr_way(t, emit_jcc(&t->e, 5), WAY_VALUE, t->x->off, t->x->live);
		emit_op(&t->e, (struct opc){.code = 0x8b, .w = w}, JIT_S2, at);
		emit_lea(&t->e, JIT_S2, rm_mem(JIT_S2, 1), w);
		emit_alu_imm(&t->e, 7, w, JIT_S2, 1);
		tr_way(t, emit_jcc(&t->e, 6), WAY_VALUE, t->x->off, t->x->live);
	}
	emit_op(&t->e, (struct opc){.code = 0xf7, .w = w},
		i->op == OP_DIV ? 6 : 7, at);
}

/* CMPXCHG8B/16B: guest RCX has to be in RCX. */
void tr_cx(struct tr *t)
{
	const struct insn *i = &t->x->i;
	bool wide = i->op == OP_CMPXCHG16B;
	struct rm at = tr_operand(t, wide ? 16 : 8, true);

	if (wide) {
		tr_guard_flags(t);
		emit_lea(&t->e, JIT_S2, at, true);
		emit_op(&t->e, (struct opc){.code = 0xf6}, 0, rm_reg(JIT_S2));
		emit_u8(&t->e, 15);
		tr_way(t, emit_jcc(&t->e, 5), WAY_VALUE, t->x->off, t->x->live);
	}
	tr_need_flags(t);
	emit_lea(&t->e, JIT_S2, at, true);
	emit_mov(&t->e, H_CX, JIT_GCX);
	t->addend_kept = false;
	emit_op(&t->e,
		(struct opc){.code = 0xc7,
			     .map = 1,
			     .w = wide,
			     .lock = !!(i->prefix & PFX_LOCK)},
		1, rm_mem(JIT_S2, 0));
}

void tr_push(struct tr *t)
{
	const struct insn *i = &t->x->i;
	struct emit *e = &t->e;
	u8 src = JIT_S2;
	struct rm at;

	if (i->mem) {
		tr_load_slot(t, JIT_S2,
			     tr_operand(t, (unsigned)tr_slot(t), false));
		emit_store(e, JIT_S2, rm_v(V(jit_tmp)));
		t->addend_loaded = t->addend_kept;
	}
	at = tr_stack(t, -tr_slot(t), true);
	if (i->form == FORM_I) {
		emit_op(e, (struct opc){.code = 0xc7, .w = !t->u->code32}, 0,
			at);
		emit_u32(e, (u32)i->imm);
	} else {
		if (i->mem)
			emit_load(e, src, rm_v(V(jit_tmp)));
		else if (jit_host[i->rm] == H_NONE)
			emit_load(e, src, rm_v(V_GPR(i->rm)));
		else
			src = jit_host[i->rm];
		tr_store_slot(t, src, at);
	}
	tr_move_sp(t, -tr_slot(t));
}

void tr_pop(struct tr *t)
{
	u8 g = t->x->i.rm;
	struct rm at = tr_stack(t, 0, false);
	u8 to = jit_host[g] == H_NONE ? JIT_S2 : jit_host[g];

	tr_load_slot(t, to, at);
	if (g != REG_SP)
		tr_move_sp(t, tr_slot(t));
	if (to == JIT_S2)
		tr_put(t, g, to);
}

void tr_leave(struct tr *t)
{
	emit_mov(&t->e, JIT_S1, H_BP);
	tr_cut(t, JIT_S1);
	tr_access(t, (unsigned)tr_slot(t), false);
	emit_lea(&t->e, JIT_SP, rm_mem(H_BP, tr_slot(t)), !t->u->code32);
	tr_load_slot(t, H_BP, rm_mem(JIT_S1, 0));
}
