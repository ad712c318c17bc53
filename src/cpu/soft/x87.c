/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * x87 instructions: each runs for real between FXRSTOR64 and FXSAVE64 of the
 * guest's state, with its memory operand at a host address (SDM 1, chapter 8).
 *
 * Exceptions come out as on hardware: an unmasked one is only recorded by the
 * instruction that meets it (FSW.ES) and raised by the next waiting one, and
 * here that is checked before anything waiting runs. The host's x87 is in its
 * initial state whenever C code runs.
 *
 * The CPU records host addresses as instruction and data pointers, and the
 * opcode with another ModRM. Where it has recorded anything (newer CPUs do so
 * less often) the guest's values are put in place of them.
 */
#include "cpu/soft/x87_priv.h"

enum { X87_SLOT = 64 }; /* bytes of code a thunk */

/* ---- Entering ---- */

void x87_enter(struct soft_vcpu *v, bool wait)
{
	if (unlikely(v->cr0 & (CR0_EM | CR0_TS)))
		soft_fault(v, VEC_NM);
	/* With NE clear the error goes to the interrupt controller (FERR#),
	 * where nobody is wired to it. */
	if (wait && unlikely(xs16(v, FX_FSW) & FSW_ES) && v->cr0 & CR0_NE)
		soft_fault(v, VEC_MF);
}

void mmx_check(struct soft_vcpu *v)
{
	if (unlikely(v->cr0 & CR0_EM))
		soft_fault(v, VEC_UD);
	x87_enter(v, true);
}

/* Brings physical register 0 to the front of the image: TOP becomes 0. */
static void x87_rotate_top(struct soft_vcpu *v)
{
	unsigned top = xs16(v, FX_FSW) >> FSW_TOP_SHIFT & 7;
	u8 st[128];

	if (!top)
		return;
	memcpy(st, v->xsave + FX_ST, sizeof(st));
	for (unsigned k = 0; k < 8; k++)
		memcpy(v->xsave + FX_ST + 16 * k, st + 16 * ((k - top) & 7),
		       16);
	xs_set16(v, FX_FSW, xs16(v, FX_FSW) & (u16) ~(7 << FSW_TOP_SHIFT));
}

void mmx_enter(struct soft_vcpu *v)
{
	x87_rotate_top(v);
	v->xsave[FX_FTW] = 0xff;
}

void mmx_emms(struct soft_vcpu *v, const struct insn *i)
{
	(void)i;
	mmx_check(v);
	mmx_enter(v);
	v->xsave[FX_FTW] = 0;
}

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
	u8 *start = p;

	if (op_rows[i->row].flags_read) {          /* FCMOVcc */
		p = X87_EMIT(p, 0x66, 0x8b, 0x81); /* mov ax, [rcx + fl] */
		p = x87_emit_field(p, offsetof(struct soft_vcpu, fl));
		p = X87_EMIT(p, 0x9e); /* sahf */
	}
	p = X87_EMIT(p, 0x48, 0x0f, 0xae, 0x89); /* fxrstor64 */
	p = x87_emit_field(p, offsetof(struct soft_vcpu, xsave));
	if (short_form)
		p = X87_EMIT(p, 0x66);
	p = X87_EMIT(p, esc, i->mem ? (u8)((i->modrm & 0x38) | 6) : i->modrm);
	if (op_rows[i->row].flags_written) {             /* FCOMI */
		p = X87_EMIT(p, 0x9f, 0x0f, 0x90, 0xc0); /* lahf; seto al */
		p = X87_EMIT(p, 0x66, 0x89, 0x81);
		p = x87_emit_field(p, offsetof(struct soft_vcpu, fl));
	}
	p = X87_EMIT(p, 0x48, 0x0f, 0xae, 0x81); /* fxsave64 */
	p = x87_emit_field(p, offsetof(struct soft_vcpu, xsave));
	p = X87_EMIT(p, 0xdb, 0xe3);       /* fninit */
	p = X87_EMIT(p, 0x4c, 0x8b, 0x81); /* mov r8, v->simd */
	p = x87_emit_field(p, offsetof(struct soft_vcpu, simd));
	p = X87_EMIT(p, 0x41, 0x0f, 0xae, 0x50,
		     offsetof(struct soft_simd, mxcsr_host));
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

/* What a thunk must not see, because it records its own. */
struct x87_pointers {
	u64 fip, fdp;
	u16 fop, held; /* flags held back (CR0.NE clear) */
};

static u16 x87_guest_fop(const struct insn *i)
{
	return (u16)(i->reg4 << 8 | i->modrm);
}

static u16 x87_host_fop(const struct insn *i)
{
	u8 modrm = i->mem ? (u8)((i->modrm & 0x38) | 6) : i->modrm;

	return (u16)(i->reg4 << 8 | modrm);
}

/* FLDENV and FRSTOR replace the whole environment, but wait before. */
static bool x87_replaces(const struct insn *i)
{
	return i->op == OP_FLDENV || i->op == OP_FRSTOR;
}

static bool x87_waits(const struct insn *i)
{
	return !(op_rows[i->row].attr & OPA_X87CTL) || x87_replaces(i);
}

static struct x87_pointers x87_before(struct soft_vcpu *v, const struct insn *i)
{
	struct x87_pointers p = {.fip = xs64(v, FX_FIP),
				 .fdp = xs64(v, FX_FDP),
				 .fop = xs16(v, FX_FOP)};
	u16 fsw = xs16(v, FX_FSW);

	/* Values that no thunk records. */
	xs_set64(v, FX_FIP, 0);
	xs_set64(v, FX_FDP, 0);
	xs_set16(v, FX_FOP, x87_host_fop(i) ^ 0x7ff);
	if (unlikely(fsw & FSW_ES) && x87_waits(i)) {
		p.held = fsw & (FSW_ES | FSW_B | 0x3f);
		xs_set16(v, FX_FSW, fsw & (u16)~p.held);
	}
	return p;
}

/* FNINIT and FNSAVE clear all pointers, of their own doing. */
static bool x87_initialises(const struct insn *i)
{
	return i->op == OP_FNINIT || i->op == OP_FNSAVE;
}

static void x87_after(struct soft_vcpu *v, const struct insn *i,
		      const struct x87_pointers *p)
{
	if (x87_initialises(i))
		return;
	xs_set64(v, FX_FIP, xs64(v, FX_FIP) ? v->rip : p->fip);
	xs_set64(v, FX_FDP, xs64(v, FX_FDP) ? soft_ea(v, i) : p->fdp);
	xs_set16(v, FX_FOP,
		 xs16(v, FX_FOP) == x87_host_fop(i) ? x87_guest_fop(i)
						    : p->fop);
	if (unlikely(p->held) && !x87_replaces(i))
		xs_set16(v, FX_FSW, xs16(v, FX_FSW) | p->held);
}

void x87_call(struct soft_vcpu *v, const struct insn *i, void *mem)
{
	struct x87_pointers p = x87_before(v, i);

	((thunk_fn *)i->aux)(NULL, mem, NULL, v);
	x87_after(v, i, &p);
}

static void x87_regs(struct soft_vcpu *v, const struct insn *i)
{
	x87_enter(v, true);
	x87_call(v, i, NULL);
}

/* FNINIT and others that do not wait. */
static void x87_regs_nowait(struct soft_vcpu *v, const struct insn *i)
{
	x87_enter(v, false);
	x87_call(v, i, NULL);
}

static gva_t x87_lin(struct soft_vcpu *v, const struct insn *i,
		     enum mmu_access access)
{
	gva_t lin;

	if (i->memsize <= 8)
		return simd_lin(v, i, i->memsize, access);
	/* A multi-part access has the alignment of its parts. */
	lin = simd_lin(v, i, 1, access);
	if (v->mode & MODE_AC && lin & 7)
		soft_fault_err(v, VEC_AC, 0);
	(void)soft_lin(v, i->seg, soft_ea(v, i) + i->memsize - 1, 1, access);
	return lin;
}

static void x87_load(struct soft_vcpu *v, const struct insn *i)
{
	gva_t lin;
	void *p;

	x87_enter(v, true);
	lin = x87_lin(v, i, MMU_READ);
	p = soft_host(v, lin, i->memsize, MMU_READ);
	if (unlikely(!p)) {
		p = v->simd->bounce;
		soft_ld_bytes(v, lin, p, i->memsize);
	}
	x87_call(v, i, p);
}

/*
 * An unmasked exception may suppress the store; through the bounce buffer
 * that shows by its contents being left.
 */
static void x87_store(struct soft_vcpu *v, const struct insn *i)
{
	u8 *bounce = v->simd->bounce, untouched[16];
	gva_t lin;
	void *p;

	x87_enter(v, true);
	lin = x87_lin(v, i, MMU_WRITE);
	p = soft_host(v, lin, i->memsize, MMU_WRITE);
	if (likely(p)) {
		x87_call(v, i, p);
		return;
	}
	soft_probe(v, lin, i->memsize, MMU_WRITE);
	memset(untouched, 0xa5, sizeof(untouched));
	memcpy(bounce, untouched, i->memsize);
	x87_call(v, i, bounce);
	if (!(xs16(v, FX_FSW) & FSW_ES) ||
	    memcmp(bounce, untouched, i->memsize))
		soft_st_bytes(v, lin, bounce, i->memsize);
}

/*
 * What was loaded from outside is put through the CPU, which drops what it
 * does not keep and makes ES and B follow from flags and masks.
 */
void x87_clean(struct soft_vcpu *v)
{
	u8 image[512] __attribute__((aligned(16)));
	u32 mxcsr = MXCSR_INIT;

	if (!(xs16(v, FX_FSW) & (FSW_B | FSW_ES | 0x3f)) &&
	    !((xs16(v, FX_FCW) ^ 0x40) & 0xf0c0))
		return;
	memcpy(image, v->xsave, 512);
	memcpy(image + FX_MXCSR, &mxcsr, 4);
	__asm__ volatile("fxrstor64 %0\n\t"
			 "fxsave64 %0\n\t"
			 "fninit"
			 : "+m"(image)
			 :
			 : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
			   "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
			   "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
	memcpy(v->xsave, image, FX_MXCSR);
	memcpy(v->xsave + FX_ST, image + FX_ST, 128);
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
	if (!i->mem)
		return op_rows[i->row].attr & OPA_X87CTL ? x87_regs_nowait
							 : x87_regs;
	return op_rows[i->row].attr & OPA_STORE ? x87_store : x87_load;
}
