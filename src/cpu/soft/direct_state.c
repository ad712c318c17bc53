/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Registers of the vCPU and of the child. Both are of the same kind, but a
 * 64-bit process of the host has selectors, flags and components of its own:
 * direct_ready() says which guests look like one.
 */
#include "cpu/soft/direct_priv.h"

#include <string.h>

#include "cpu/soft/simd_priv.h"
#include "mem/mem.h"

/* Selectors of 64-bit user code, the same in every Linux. */
enum { USER_CS = 0x33, USER_DS = 0x2b };

/* Components of XSTATE_BV: opmasks and the upper parts of AVX-512's registers
 * (SDM vol. 1, 13.1). */
#define XF_AVX512 0xe0u

/* What user code changes of RFLAGS by itself; ID is special. */
#define USER_FLAGS \
	((u64)(RFLAGS_ARITH | RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_TF))
/* With which it does not run here, and without which */
#define ODD_FLAGS                                                             \
	((u64)(RFLAGS_TF | RFLAGS_AC | RFLAGS_IOPL | RFLAGS_VM | RFLAGS_VIF | \
	       RFLAGS_VIP))

static bool ready_data(const struct seg_state *s)
{
	return !s->sel || s->sel == USER_DS;
}

static bool ready_segments(const struct soft_vcpu *v)
{
	return v->seg[SEG_CS].sel == USER_CS && v->seg[SEG_SS].sel == USER_DS &&
	       ready_data(&v->seg[SEG_DS]) && ready_data(&v->seg[SEG_ES]) &&
	       !v->seg[SEG_FS].sel && !v->seg[SEG_GS].sel &&
	       v->seg[SEG_FS].base < DSPACE_END &&
	       v->seg[SEG_GS].base < DSPACE_END;
}

static bool ready_control(const struct soft_vcpu *v)
{
	u64 cr4 = CR4_OSFXSR | CR4_OSXSAVE | CR4_FSGSBASE;

	return !(v->cr0 & (CR0_TS | CR0_EM)) && (v->cr4 & cr4) == cr4 &&
	       v->xcr0 == XF_ALL && !(v->dr7 & 0xff);
}

static bool ready_memory(const struct soft_vcpu *v)
{
	const struct mem *m = soft_mem(v);

	return !__atomic_load_n(&m->dirty, __ATOMIC_SEQ_CST) &&
	       !__atomic_load_n(&m->alone, __ATOMIC_SEQ_CST) && !mem_absent(m);
}

/*
 * Where the child has its stub the guest must have nothing, or it would see
 * that: not one page in 512 GiB there, which is one entry to look at.
 */
static bool ready_place(const struct soft_vcpu *v)
{
	const u64 *top =
		mem_ptr(soft_mem(v), v->cr3 & v->mmu->addr_mask, PAGE_SIZE);

	return top &&
	       !(__atomic_load_n(&top[DSPACE_STUB >> 39], __ATOMIC_RELAXED) &
		 PTE_P);
}

bool direct_ready(const struct soft_vcpu *v)
{
	return (v->mode & (MODE_CS64 | MODE_CPL3 | MODE_PG)) ==
		       (MODE_CS64 | MODE_CPL3 | MODE_PG) &&
	       !(v->rflags & ODD_FLAGS) && v->rflags & RFLAGS_IF &&
	       !v->shadow && v->rip < DSPACE_END && ready_segments(v) &&
	       ready_control(v) && ready_memory(v) && ready_place(v);
}

static bool state_vectors_in(struct soft_vcpu *v, struct direct_space *s)
{
	x87_sync(v);
	if (s->vectors_known && !memcmp(s->vectors, v->xsave, XS_HEADER) &&
	    !memcmp(s->vectors + XS_YMMH, v->xsave + XS_YMMH, 256))
		return true;
	s->vectors_known = dspace_set_vectors(s->child, v->xsave);
	return s->vectors_known;
}

bool direct_state_in(struct soft_vcpu *v, struct direct_space *s)
{
	struct dspace_regs *r = dspace_regs(s->child);
	const u64 *g = v->gpr;

	*r = (struct dspace_regs){
		.rax = g[0],
		.rcx = g[1],
		.rdx = g[2],
		.rbx = g[3],
		.rsp = g[4],
		.rbp = g[5],
		.rsi = g[6],
		.rdi = g[7],
		.r8 = g[8],
		.r9 = g[9],
		.r10 = g[10],
		.r11 = g[11],
		.r12 = g[12],
		.r13 = g[13],
		.r14 = g[14],
		.r15 = g[15],
		.rip = v->rip,
		.eflags = (soft_rflags(v) & USER_FLAGS) | RFLAGS_IF |
			  RFLAGS_FIXED,
		.cs = USER_CS,
		.ss = USER_DS,
		.ds = v->seg[SEG_DS].sel,
		.es = v->seg[SEG_ES].sel,
		.fs_base = v->seg[SEG_FS].base,
		.gs_base = v->seg[SEG_GS].base,
	};
	return state_vectors_in(v, s);
}

/*
 * Selectors that user code has loaded itself. That was by the host's table,
 * where those of user code are the guest's too; a base is the host's word.
 */
static void state_selector(struct soft_vcpu *v, unsigned seg, u64 sel)
{
	struct seg_state *s = &v->seg[seg];

	if (likely(s->sel == sel))
		return;
	s->sel = (u32)sel;
	s->attr = SEG_ATTR_UNUSABLE;
	s->limit = 0;
	if (sel & 0xfffc) {
		s->limit = 0xffffffff;
		s->attr = seg != SEG_CS    ? 0xc0f3
			  : sel == USER_CS ? 0xa0fb
					   : 0xc0fb;
	}
	if (seg == SEG_CS || seg == SEG_SS)
		soft_update_mode(v);
}

static void state_selectors(struct soft_vcpu *v, const struct dspace_regs *r)
{
	state_selector(v, SEG_CS, r->cs);
	state_selector(v, SEG_SS, r->ss);
	state_selector(v, SEG_DS, r->ds);
	state_selector(v, SEG_ES, r->es);
	state_selector(v, SEG_FS, r->fs);
	state_selector(v, SEG_GS, r->gs);
	v->seg[SEG_FS].base = r->fs_base;
	v->seg[SEG_GS].base = r->gs_base;
}

static void state_flags(struct soft_vcpu *v, struct direct_space *s, u64 eflags)
{
	u64 keep = soft_rflags(v) & ~USER_FLAGS;

	keep ^= (eflags ^ s->id) & RFLAGS_ID;
	s->id = eflags & RFLAGS_ID;
	soft_set_rflags(v, keep | (eflags & USER_FLAGS));
}

bool direct_state_out(struct soft_vcpu *v, struct direct_space *s)
{
	const struct dspace_regs *r = dspace_regs(s->child);
	u64 *g = v->gpr, components;

	g[0] = r->rax, g[1] = r->rcx, g[2] = r->rdx, g[3] = r->rbx;
	g[4] = r->rsp, g[5] = r->rbp, g[6] = r->rsi, g[7] = r->rdi;
	g[8] = r->r8, g[9] = r->r9, g[10] = r->r10, g[11] = r->r11;
	g[12] = r->r12, g[13] = r->r13, g[14] = r->r14, g[15] = r->r15;
	v->rip = r->rip;
	state_selectors(v, r);
	state_flags(v, s, r->eflags);
	if (!dspace_get_vectors(s->child, v->xsave))
		return false;
	memcpy(&components, v->xsave + XS_HEADER, sizeof(components));
	s->beyond = components & XF_AVX512;
	simd_loaded(v);
	memcpy(s->vectors, v->xsave, DSPACE_XSAVE_SIZE);
	return !s->beyond;
}
