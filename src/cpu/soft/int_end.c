/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where the threaded handlers of a block end or step aside: entries that are
 * no instructions, callers of handlers of other files, faults, and the slow
 * paths of memory operands with their assembly stubs.
 */
#include "cpu/soft/int.h"

NORETURN void int_gp(struct soft_vcpu *v, const struct insn *i)
{
	int_sync(v, i);
	soft_fault_err(v, VEC_GP, 0);
}

NORETURN void int_fault(struct soft_vcpu *v, const struct insn *i, u8 vector)
{
	int_sync(v, i);
	soft_fault(v, vector);
}

void int_uncount(struct soft_vcpu *v, const struct insn *i)
{
	const struct soft_block *b = v->block;

	if (!b)
		return; /* called by the translator, which does not count */
	for (; i < b->insn + b->slots; i++)
		if (i->len)
			v->insns--;
}

void int_leave(struct soft_vcpu *v, const struct insn *i)
{
	int_sync(v, i);
	int_uncount(v, i);
}

/* The block ends without a branch. */
HANDLER(int_fall)
{
	u64 rip = v->block_rip + i->off;
	struct soft_block *b = v->block->link[0];
	const struct code_entry *e;

	if (likely(b)) {
		int_enter(v, b, rip);
		return;
	}
	e = code_slot(v, rip);
	if (e->tag != code_tag(v, rip) || !lin_canonical(rip)) {
		v->rip = rip;
		return;
	}
	if (!((rip ^ v->block_rip) & ~PAGE_MASK))
		v->block->link[0] = e->block;
	int_enter(v, e->block, rip);
}

/* The block was dropped while it ran, or was entered by a stale link. */
HANDLER(int_dropped)
{
	int_leave(v, i);
}

/* After a handler that was called by itself: what comes next. */
HANDLER(int_stop)
{
	int_sync(v, i);
	v->block_pc = NULL;
}

HANDLER(int_undefined)
{
	int_fault(v, i, VEC_UD);
}

HANDLER(int_too_long)
{
	int_gp(v, i);
}

/* i[1].aux is the handler of i. */
HANDLER(int_call)
{
	insn_fn *fn = (insn_fn *)i[1].aux;

	int_sync(v, i);
	fn(v, i);
	if (unlikely(__atomic_load_n(&v->attention, __ATOMIC_RELAXED) &
		     ATTN_MODE)) {
		int_uncount(v, i + 1);
		v->rip += i->len;
		return;
	}
	int_go(v, i + 2);
}

/* The same for a handler that stores v->rip. */
HANDLER(int_call_end)
{
	insn_fn *fn = (insn_fn *)i[1].aux;

	int_sync(v, i);
	fn(v, i);
	if (lin_canonical(v->rip))
		int_jump(v, v->rip);
}

u64 soft_ea(const struct soft_vcpu *v, const struct insn *i)
{
	u64 ea = (u64)(s64)i->disp;

	if (i->base == INSN_REG_RIP)
		ea += v->rip + i->len;
	else if (i->base != INSN_REG_NONE)
		ea += v->gpr[i->base];
	if (i->index != INSN_REG_NONE && !i->vsib)
		ea += v->gpr[i->index] << i->scale;
	return int_mask(i->adsize, ea);
}

gva_t soft_ea_lin(struct soft_vcpu *v, const struct insn *i,
		  enum mmu_access access)
{
	return soft_lin(v, i->seg, soft_ea(v, i), i->memsize, access);
}

/*
 * The linear address, checked: lin was formed without. In 64-bit code that is
 * the canonical form and alignment.
 */
static gva_t int_slow_lin(struct soft_vcpu *v, const struct insn *i, u64 lin,
			  unsigned how, enum mmu_access access)
{
	unsigned seg = how & HOW_STACK ? SEG_SS : i->seg;

	int_sync(v, i);
	if (how & HOW_CHECKED)
		return lin;
	if (seg == SEG_FS || seg == SEG_GS)
		lin -= v->seg[seg].base;
	return soft_lin(v, seg, lin, how & 0xff, access);
}

u64 int_ld_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		unsigned how)
{
	lin = int_slow_lin(v, i, lin, how, MMU_READ);
	return soft_ld(v, lin, how & 0xff);
}

gva_t int_lin_any(struct soft_vcpu *v, const struct insn *i, unsigned size,
		  enum mmu_access access, u64 delta)
{
	u64 lin = int_ea64(v, i) + delta;

	int_sync(v, i);
	lin = i->adsize == 8 ? lin : i->adsize == 4 ? (u32)lin : (u16)lin;
	return soft_lin(v, i->seg, lin, size, access);
}

void int_st_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		 unsigned how, u64 val)
{
	lin = int_slow_lin(v, i, lin, how, MMU_WRITE);
	soft_st(v, lin, how & 0xff, val);
}

void *int_rmw_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		   unsigned how)
{
	unsigned size = how & 0xff;
	void *p;

	lin = int_slow_lin(v, i, lin, how, MMU_WRITE);
	soft_probe(v, lin, size, MMU_WRITE);
	p = soft_host(v, lin, size, MMU_WRITE);
	if (p)
		return p;
	v->rmw[0] = soft_ld(v, lin, size);
	return &v->rmw;
}

void int_rmw_end_slow(struct soft_vcpu *v, const struct insn *i, u64 lin,
		      unsigned how)
{
	(void)i;
	soft_st(v, lin, how & 0xff, v->rmw[0]);
}

/*
 * The stubs: arguments 1 to 3 are in place, the 4th is in eax (of int_st the
 * 5th in rcx). All registers but rax are preserved.
 */
#define STUB(name, move)                                           \
	asm(".text\n\t"                                            \
	    ".globl " name "_stub\n\t"                             \
	    ".type " name "_stub, @function\n" name "_stub:\n\t"   \
	    ".cfi_startproc\n\t"                                   \
	    "push %rbp\n\t"                                        \
	    ".cfi_def_cfa_offset 16\n\t"                           \
	    ".cfi_offset %rbp, -16\n\t"                            \
	    "mov %rsp, %rbp\n\t"                                   \
	    ".cfi_def_cfa_register %rbp\n\t"                       \
	    "push %rcx\n\tpush %rdx\n\tpush %rsi\n\tpush %rdi\n\t" \
	    "push %r8\n\tpush %r9\n\tpush %r10\n\tpush %r11\n\t"   \
	    "and $-16, %rsp\n\t" move "mov %eax, %ecx\n\t"         \
	    "call " name "_slow\n\t"                               \
	    "lea -64(%rbp), %rsp\n\t"                              \
	    "pop %r11\n\tpop %r10\n\tpop %r9\n\tpop %r8\n\t"       \
	    "pop %rdi\n\tpop %rsi\n\tpop %rdx\n\tpop %rcx\n\t"     \
	    "pop %rbp\n\t"                                         \
	    ".cfi_def_cfa %rsp, 8\n\t"                             \
	    "ret\n\t"                                              \
	    ".cfi_endproc\n\t"                                     \
	    ".size " name "_stub, . - " name "_stub")

STUB("int_ld", "");
STUB("int_st", "mov %rcx, %r8\n\t");
STUB("int_rmw", "");
STUB("int_rmw_end", "");
