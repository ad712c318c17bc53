/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x87 instructions: each runs for real, with its memory operand at a host
 * address, on the guest's state in the host's x87 (x87_live.c; SDM 1,
 * chapter 8).
 *
 * Exceptions come out as on hardware: an unmasked one is only recorded by the
 * instruction that meets it (FSW.ES) and raised by the next waiting one, and
 * here that is checked before anything waiting runs.
 */
#include "cpu/soft/x87_priv.h"

enum { X87_SLOT = 64 }; /* bytes of code a thunk */

/* ---- Code ---- */

static u8 *x87_emit(u8 *p, const void *bytes, size_t n)
{
	memcpy(p, bytes, n);
	return p + n;
}

#define X87_EMIT(p, ...)                       \
	x87_emit(p, (const u8[]){__VA_ARGS__}, \
		 sizeof((const u8[]){__VA_ARGS__}))

static u8 *x87_emit_field(u8 *p, size_t offset)
{
	u32 x = (u32)offset;

	return x87_emit(p, &x, 4);
}

/* The place of a thunk: memory forms, these with 66, register forms. */
static unsigned x87_slot(const struct insn *i, u8 esc, bool short_form)
{
	if (i->mem)
		return (esc & 7u) << 3 | (i->modrm >> 3 & 7) |
		       (unsigned)short_form << 6;
	return 128 + ((esc & 7u) << 6 | (i->modrm & 63));
}

static void x87_make(u8 *p, const struct insn *i, u8 esc, bool short_form)
{
	size_t xsave = offsetof(struct soft_vcpu, xsave);
	u8 *start = p;

	if (op_rows[i->row].flags_read) {          /* FCMOVcc */
		p = X87_EMIT(p, 0x66, 0x8b, 0x81); /* mov ax, [rcx + fl] */
		p = x87_emit_field(p, offsetof(struct soft_vcpu, fl));
		p = X87_EMIT(p, 0x9e); /* sahf */
	}
	if (short_form)
		p = X87_EMIT(p, 0x66);
	p = X87_EMIT(p, esc, i->mem ? (u8)((i->modrm & 0x38) | 6) : i->modrm);
	if (op_rows[i->row].flags_written) {             /* FCOMI */
		p = X87_EMIT(p, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
		p = X87_EMIT(p, 0x66, 0x89, 0x81);
		p = x87_emit_field(p, offsetof(struct soft_vcpu, fl));
	}
	if (i->op == OP_FLDCW) {
		p = X87_EMIT(p, 0xd9, 0xb9); /* fnstcw [rcx + FCW] */
		p = x87_emit_field(p, xsave + FX_FCW);
	}
	p = X87_EMIT(p, 0xdf, 0xe0, 0x66, 0x89, 0x81); /* fnstsw ax; mov */
	p = x87_emit_field(p, xsave + FX_FSW);
	p = X87_EMIT(p, 0xc3);
	ASSERT(p - start <= X87_SLOT);
}

void x87_init(struct soft_simd *s)
{
	s->x87_code = codebuf_alloc(&s->code, X87_THUNKS * X87_SLOT, 64);
	ASSERT(s->x87_code);
}

static thunk_fn *x87_thunk(struct soft_vcpu *v, const struct insn *i, u8 esc)
{
	struct soft_simd *s = v->simd;
	bool environment = i->op == OP_FLDENV || i->op == OP_FNSTENV ||
			   i->op == OP_FRSTOR || i->op == OP_FNSAVE;
	bool short_form = environment && i->opsize == 2;
	unsigned slot = x87_slot(i, esc, short_form);
	u8 *code = s->x87_code + slot * X87_SLOT;

	if (!s->x87_made[slot]) {
		x87_make(code, i, esc, short_form);
		s->x87_made[slot] = true;
	}
	return (thunk_fn *)codebuf_exec(&s->code, code);
}

/* ---- Running ---- */

static u32 x87_run(struct soft_vcpu *v, const struct insn *i, void *mem)
{
	if (unlikely(!v->simd->x87.live))
		x87_go_live(v);
	return ((thunk_fn *)i->aux)(NULL, mem, NULL, v);
}

/* An error is pending that the guest does not want to hear of (CR0.NE). */
static void x87_run_held(struct soft_vcpu *v, const struct insn *i, void *mem)
{
	u16 held;

	x87_sync(v);
	held = xs16(v, FX_FSW) & (FSW_ES | FSW_B | 0x3f);
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) & (u16)~held);
	x87_run(v, i, mem);
	x87_sync(v);
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) | held);
}

/*
 * A computing instruction: notes what the CPU may record. A pending error is
 * never left in the host's x87, and belongs to what was noted last.
 */
static ALWAYS_INLINE void x87_compute(struct soft_vcpu *v, const struct insn *i,
				      void *mem, u64 ea)
{
	struct x87_state *x = &v->simd->x87;

	x->rip = v->rip;
	x->fop = (u16)(i->reg4 << 8 | i->modrm);
	if (mem)
		x->ea = ea;
	if (unlikely(xs16(v, FX_FSW) & FSW_ES))
		x87_run_held(v, i, mem);
	else if (unlikely(x87_run(v, i, mem) & FSW_ES))
		x87_sync(v);
}

/* An instruction that works on the state as a whole. */
void x87_alone(struct soft_vcpu *v, const struct insn *i, void *mem)
{
	x87_sync(v);
	x87_run(v, i, mem);
	x87_sync(v);
}

static void x87_regs(struct soft_vcpu *v, const struct insn *i)
{
	x87_enter(v, true);
	x87_compute(v, i, NULL, 0);
}

/* FNENI and the like: nothing is noted, nothing waited for. */
static void x87_regs_nowait(struct soft_vcpu *v, const struct insn *i)
{
	x87_enter(v, false);
	x87_alone(v, i, NULL);
}

static void x87_fninit(struct soft_vcpu *v, const struct insn *i)
{
	x87_enter(v, false);
	x87_alone(v, i, NULL);
	x87_clear_pointers(v);
}

static void x87_fldcw(struct soft_vcpu *v, const struct insn *i)
{
	u16 *fcw = (u16 *)v->simd->bounce;

	x87_enter(v, true);
	*fcw = (u16)soft_ld(v, simd_lin(v, i, 2, MMU_READ), 2);
	if (unlikely(xs16(v, FX_FSW) & FSW_ES))
		x87_run_held(v, i, fcw);
	else if (unlikely(x87_run(v, i, fcw) & FSW_ES))
		x87_sync(v);
}

static ALWAYS_INLINE gva_t x87_lin(struct soft_vcpu *v, const struct insn *i,
				   u64 ea, enum mmu_access access)
{
	gva_t lin;

	if (likely(i->memsize <= 8))
		return soft_lin(v, i->seg, ea, i->memsize, access);
	/* A multi-part access has the alignment of its parts. */
	lin = soft_lin(v, i->seg, ea, 1, access);
	if (v->mode & MODE_AC && lin & 7)
		soft_fault_err(v, VEC_AC, 0);
	(void)soft_lin(v, i->seg, ea + i->memsize - 1, 1, access);
	return lin;
}

static void x87_load(struct soft_vcpu *v, const struct insn *i)
{
	u64 ea = soft_ea(v, i);
	gva_t lin;
	void *p;

	x87_enter(v, true);
	lin = x87_lin(v, i, ea, MMU_READ);
	p = soft_host(v, lin, i->memsize, MMU_READ);
	if (unlikely(!p)) {
		p = v->simd->bounce;
		soft_ld_bytes(v, lin, p, i->memsize);
	}
	x87_compute(v, i, p, ea);
}

/*
 * An unmasked exception may suppress the store; through the bounce buffer
 * that shows by its contents being left.
 */
static void x87_store(struct soft_vcpu *v, const struct insn *i)
{
	u8 *bounce = v->simd->bounce, untouched[16];
	u64 ea = soft_ea(v, i);
	gva_t lin;
	void *p;

	x87_enter(v, true);
	lin = x87_lin(v, i, ea, MMU_WRITE);
	p = soft_host(v, lin, i->memsize, MMU_WRITE);
	if (likely(p)) {
		x87_compute(v, i, p, ea);
		return;
	}
	soft_probe(v, lin, i->memsize, MMU_WRITE);
	memset(untouched, 0xa5, sizeof(untouched));
	memcpy(bounce, untouched, i->memsize);
	x87_compute(v, i, bounce, ea);
	if (!(xs16(v, FX_FSW) & FSW_ES) ||
	    memcmp(bounce, untouched, i->memsize))
		soft_st_bytes(v, lin, bounce, i->memsize);
}

insn_fn *x87_bind(struct soft_vcpu *v, struct insn *i, const u8 *bytes)
{
	u8 esc = bytes[i->opc_off];
	insn_fn *fn = x87_control_bind(i);

	if (fn && !x87_control_has_thunk(i))
		return fn;
	i->reg4 = esc & 7;
	i->aux = (void *)x87_thunk(v, i, esc);
	if (fn)
		return fn;
	if (i->op == OP_FNINIT)
		return x87_fninit;
	if (i->op == OP_FLDCW)
		return x87_fldcw;
	if (!i->mem)
		return op_rows[i->row].attr & OPA_X87CTL ? x87_regs_nowait
							 : x87_regs;
	return op_rows[i->row].attr & OPA_STORE ? x87_store : x87_load;
}
