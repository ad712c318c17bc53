/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * MOVS, STOS, LODS, SCAS, CMPS (SDM volume 1, 7.3.9). With REP, as many
 * elements as lie in one page of RAM on either side are done by the host's
 * own REP instruction, whose order and flags are the guest's; elements that
 * cross a page, or are in MMIO or code, are done one by one. Registers are
 * up to date after each such piece, where faults and interrupts find them.
 */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

/* What a piece of a REP string instruction works on. */
struct string {
	unsigned size;
	bool down;     /* DF */
	u64 si, di;    /* offsets, address size applied */
	u8 *src, *dst; /* host addresses of the first elements, if n */
	u64 n; /* elements to be done at once; 0: one by soft_ld/soft_st */
};

static u64 string_mask(const struct insn *i)
{
	return int_mask(i->adsize, ~0ull);
}

static s64 string_delta(const struct string *s, u64 n)
{
	s64 bytes = (s64)(n * s->size);

	return s->down ? -bytes : bytes;
}

/* How many of n elements from seg:off on lie in a page, limit and wrap. */
static u64 string_span(struct soft_vcpu *v, const struct insn *i,
		       const struct string *s, unsigned seg, u64 off, u64 n)
{
	u64 last = string_mask(i);
	u64 in_page, lin;

	if (v->mode & MODE_CS64) {
		lin = off;
		if (seg == SEG_FS || seg == SEG_GS)
			lin += v->seg[seg].base;
	} else {
		/* Expand-down and anything odd goes one by one. */
		if ((v->seg[seg].attr & 0xc) == 4)
			return 0;
		lin = (u32)(off + v->seg[seg].base);
		last = MIN(last, v->seg[seg].limit);
	}
	in_page = lin & PAGE_MASK;
	if (off > last || last - off < s->size - 1 ||
	    in_page + s->size > PAGE_SIZE)
		return 0;
	if (s->down)
		return MIN(n, MIN(off, in_page) / s->size + 1);
	n = MIN(n, (PAGE_SIZE - in_page) / s->size);
	if (last - off < PAGE_SIZE)
		n = MIN(n, (last - off + 1) / s->size);
	return n;
}

/* Host address of the first of s->n elements at seg:off, or NULL. */
static u8 *string_host(struct soft_vcpu *v, const struct string *s,
		       unsigned seg, u64 off, enum mmu_access access)
{
	u64 below = s->down ? (s->n - 1) * s->size : 0;
	gva_t lin = soft_lin(v, seg, off, s->size, access);
	u8 *p = soft_host(v, lin - below, s->n * s->size, access);

	return p ? p + below : NULL;
}

/* One element when anything watches single ones. */
static u64 string_limit(struct soft_vcpu *v, u64 n)
{
	u32 a = __atomic_load_n(&v->attention, __ATOMIC_RELAXED);

	return a & (ATTN_STEP | ATTN_MODE) ? 1 : n;
}

/* Finds how much of count can be done at once, and where it is. */
static void string_plan(struct soft_vcpu *v, const struct insn *i,
			struct string *s, u64 count, bool src, bool dst,
			enum mmu_access access)
{
	s->n = string_limit(v, count);
	if (src)
		s->n = string_span(v, i, s, i->seg, s->si, s->n);
	if (dst && s->n)
		s->n = string_span(v, i, s, SEG_ES, s->di, s->n);
	if (src && s->n) {
		s->src = string_host(v, s, i->seg, s->si, MMU_READ);
		s->n = s->src ? s->n : 0;
	}
	if (dst && s->n) {
		s->dst = string_host(v, s, SEG_ES, s->di, access);
		s->n = s->dst ? s->n : 0;
	}
}

static void string_begin(struct soft_vcpu *v, const struct insn *i,
			 struct string *s)
{
	*s = (struct string){
		.size = i->opsize,
		.down = v->rflags & RFLAGS_DF,
		.si = v->gpr[REG_SI] & string_mask(i),
		.di = v->gpr[REG_DI] & string_mask(i),
	};
}

/* Stores index registers after n elements. */
static void string_step(struct soft_vcpu *v, const struct insn *i,
			struct string *s, u64 n, bool src, bool dst)
{
	if (src) {
		s->si = (s->si + (u64)string_delta(s, n)) & string_mask(i);
		reg_set(v, REG_SI, i->adsize, s->si);
	}
	if (dst) {
		s->di = (s->di + (u64)string_delta(s, n)) & string_mask(i);
		reg_set(v, REG_DI, i->adsize, s->di);
	}
}

static u64 string_ld(struct soft_vcpu *v, const struct string *s, unsigned seg,
		     u64 off)
{
	return soft_ld(v, soft_lin(v, seg, off, s->size, MMU_READ), s->size);
}

static void string_st(struct soft_vcpu *v, const struct string *s, u64 val)
{
	soft_st(v, soft_lin(v, SEG_ES, s->di, s->size, MMU_WRITE), s->size,
		val);
}

/* ---- The host's string instructions on pieces ---- */

/* "rep op" of s->size with the direction of s. */
#define STRING_SIZES(DO)         \
	switch (s->size) {       \
	case 1: DO("b"); break;  \
	case 2: DO("w"); break;  \
	case 4: DO("l"); break;  \
	default: DO("q"); break; \
	}

static void string_host_movs(struct string *s)
{
	u8 *src = s->src, *dst = s->dst;
	u64 n = s->n;

#define DO(b)                                                \
	if (s->down)                                         \
		asm volatile("std; rep movs" b "; cld"       \
			     : "+S"(src), "+D"(dst), "+c"(n) \
			     :                               \
			     : "memory", "cc");              \
	else                                                 \
		asm volatile("rep movs" b                    \
			     : "+S"(src), "+D"(dst), "+c"(n) \
			     :                               \
			     : "memory")
	STRING_SIZES(DO)
#undef DO
}

static void string_host_stos(struct string *s, u64 val)
{
	u8 *dst = s->dst;
	u64 n = s->n;

#define DO(b)                                          \
	if (s->down)                                   \
		asm volatile("std; rep stos" b "; cld" \
			     : "+D"(dst), "+c"(n)      \
			     : "a"(val)                \
			     : "memory", "cc");        \
	else                                           \
		asm volatile("rep stos" b              \
			     : "+D"(dst), "+c"(n)      \
			     : "a"(val)                \
			     : "memory")
	STRING_SIZES(DO)
#undef DO
}

/* Both return how many elements were compared. */
/* DO_(size's letter, direction, prefix) as s and repne want it. */
#define STRING_SEARCH(b)                  \
	if (repne && s->down)             \
		DO_(b, "std; ", "repne"); \
	else if (repne)                   \
		DO_(b, "", "repne");      \
	else if (s->down)                 \
		DO_(b, "std; ", "repe");  \
	else                              \
		DO_(b, "", "repe")

static u64 string_host_cmps(struct soft_vcpu *v, struct string *s, bool repne)
{
	u8 *src = s->src, *dst = s->dst;
	u64 n = s->n;
	u16 fl;

#define DO_(b, dir, rep)                                        \
	asm volatile(dir rep " cmps" b "\n\t" FL_SAVE "\n\tcld" \
		     : "+S"(src), "+D"(dst), "+c"(n), "=&a"(fl) \
		     :                                          \
		     : "memory", "cc")
	STRING_SIZES(STRING_SEARCH)
#undef DO_
	v->fl = fl;
	return s->n - n;
}

static u64 string_host_scas(struct soft_vcpu *v, struct string *s, bool repne)
{
	u64 ax = v->gpr[REG_AX];
	u8 *dst = s->dst;
	u64 n = s->n;

#define DO_(b, dir, rep)                                        \
	asm volatile(dir rep " scas" b "\n\t" FL_SAVE "\n\tcld" \
		     : "+D"(dst), "+c"(n), "+a"(ax)             \
		     :                                          \
		     : "memory", "cc")
	STRING_SIZES(STRING_SEARCH)
#undef DO_
	v->fl = (u16)ax;
	return s->n - n;
}

/* ---- One piece of each: the number of elements done ---- */

static u64 string_movs(struct soft_vcpu *v, const struct insn *i,
		       struct string *s, u64 count)
{
	u64 n;

	string_plan(v, i, s, count, true, true, MMU_WRITE);
	n = s->n;
	if (n) {
		string_host_movs(s);
	} else {
		string_st(v, s, string_ld(v, s, i->seg, s->si));
		n = 1;
	}
	string_step(v, i, s, n, true, true);
	return n;
}

static u64 string_stos(struct soft_vcpu *v, const struct insn *i,
		       struct string *s, u64 count)
{
	u64 n;

	string_plan(v, i, s, count, false, true, MMU_WRITE);
	n = s->n;
	if (n) {
		string_host_stos(s, v->gpr[REG_AX]);
	} else {
		string_st(v, s, v->gpr[REG_AX]);
		n = 1;
	}
	string_step(v, i, s, n, false, true);
	return n;
}

static u64 string_lods(struct soft_vcpu *v, const struct insn *i,
		       struct string *s, u64 count)
{
	(void)count;
	reg_set(v, REG_AX, s->size, string_ld(v, s, i->seg, s->si));
	string_step(v, i, s, 1, true, false);
	return 1;
}

static u64 string_cmps(struct soft_vcpu *v, const struct insn *i,
		       struct string *s, u64 count)
{
	u64 a, b, n;

	string_plan(v, i, s, count, true, true, MMU_READ);
	if (s->n) {
		n = string_host_cmps(v, s, i->prefix & PFX_REPNE);
	} else {
		a = string_ld(v, s, i->seg, s->si);
		b = string_ld(v, s, SEG_ES, s->di);
		FL_BINARY("cmp", s->size, a, b, v->fl);
		n = 1;
	}
	string_step(v, i, s, n, true, true);
	return n;
}

static u64 string_scas(struct soft_vcpu *v, const struct insn *i,
		       struct string *s, u64 count)
{
	u64 b, n;

	string_plan(v, i, s, count, false, true, MMU_READ);
	if (s->n) {
		n = string_host_scas(v, s, i->prefix & PFX_REPNE);
	} else {
		b = string_ld(v, s, SEG_ES, s->di);
		FL_BINARY("cmp", s->size, v->gpr[REG_AX], b, v->fl);
		n = 1;
	}
	string_step(v, i, s, n, false, true);
	return n;
}

typedef u64 string_fn(struct soft_vcpu *v, const struct insn *i,
		      struct string *s, u64 count);

/* CMPS and SCAS with REP stop by ZF too. */
static bool string_done(const struct soft_vcpu *v, const struct insn *i,
			bool compares)
{
	if (!compares)
		return false;
	return (i->prefix & PFX_REPNE) ? v->fl & FL_ZF : !(v->fl & FL_ZF);
}

/* False: to be gone on with later, something wants attention. */
static bool string_rep(struct soft_vcpu *v, const struct insn *i, string_fn *fn,
		       bool compares)
{
	u64 count = v->gpr[REG_CX] & string_mask(i);
	struct string s;
	u16 fl = v->fl;

	string_begin(v, i, &s);
	/* ECX, written though it does not change; CPUs leave that out for
	 * the two that have a fast form. */
	if (!count && i->op != OP_MOVS && i->op != OP_STOS)
		reg_set(v, REG_CX, i->adsize, 0);
	while (count) {
		/* Until it ends, faults and interrupts find the flags as they
		 * were before the instruction (SDM volume 2, REP). */
		v->fl = fl;
		count -= fn(v, i, &s, count);
		reg_set(v, REG_CX, i->adsize, count);
		if (string_done(v, i, compares))
			break;
		if (count && __atomic_load_n(&v->attention, __ATOMIC_RELAXED)) {
			v->fl = fl;
			return false;
		}
	}
	return true;
}

static ALWAYS_INLINE void string_run(struct soft_vcpu *v, const struct insn *i,
				     string_fn *fn, bool compares)
{
	int_sync(v, i);
	if (!string_rep(v, i, fn, compares)) {
		v->rflags |= RFLAGS_RF; /* in the flags of what interrupts it */
		int_uncount(v, i);
		return;
	}
	v->rflags &= ~(u64)RFLAGS_RF;
	NEXT();
}

static __attribute__((noinline)) void
string_one(struct soft_vcpu *v, const struct insn *i, string_fn *fn)
{
	struct string s;

	int_sync(v, i);
	string_begin(v, i, &s);
	fn(v, i, &s, 1);
}

#define STRING_HANDLERS(name, compares)           \
	static HANDLER(name##_rep)                \
	{                                         \
		string_run(v, i, name, compares); \
	}                                         \
	static HANDLER(name##_one)                \
	{                                         \
		string_one(v, i, name);           \
		NEXT();                           \
	}
STRING_HANDLERS(string_movs, false)
STRING_HANDLERS(string_stos, false)
STRING_HANDLERS(string_lods, false)
STRING_HANDLERS(string_cmps, true)
STRING_HANDLERS(string_scas, true)

insn_fn *int_bind_string(const struct insn *i)
{
	bool rep = i->prefix & (PFX_REP | PFX_REPNE);

	switch (i->op) {
	case OP_MOVS: return rep ? string_movs_rep : string_movs_one;
	case OP_STOS: return rep ? string_stos_rep : string_stos_one;
	case OP_LODS: return rep ? string_lods_rep : string_lods_one;
	case OP_CMPS: return rep ? string_cmps_rep : string_cmps_one;
	case OP_SCAS: return rep ? string_scas_rep : string_scas_one;
	default: return NULL;
	}
}
