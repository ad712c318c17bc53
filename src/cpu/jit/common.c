/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Code that all units share, generated once: the way in, the ways out, and
 * the slow path of memory accesses.
 */
#include "cpu/jit/translate.h"

#include "cpu/soft/access.h"
#include "cpu/soft/mmu.h"

/* Registers that a C function may change, of those that hold guest ones. */
static const u8 common_volatile[] = {0, 2, 4, 6, 7, 8, 9};

static void common_ldmxcsr(struct emit *e, bool store, size_t off)
{
	emit_op(e, (struct opc){.code = 0xae, .map = 1}, store ? 3 : 2,
		rm_v(off));
}

static void common_vzeroupper(struct emit *e)
{
	static const u8 code[] = {0xc5, 0xf8, 0x77};

	emit_bytes(e, code, sizeof(code));
}

static void common_push(struct emit *e, u8 r)
{
	if (r & 8)
		emit_u8(e, 0x41);
	emit_u8(e, 0x50 | (r & 7));
}

static void common_pop(struct emit *e, u8 r)
{
	if (r & 8)
		emit_u8(e, 0x41);
	emit_u8(e, 0x58 | (r & 7));
}

/* v->jit_inside = on */
static void common_inside(struct emit *e, bool on)
{
	emit_op(e, (struct opc){.code = 0xc6}, 0, rm_v(V(jit_inside)));
	emit_u8(e, on);
}

static const u8 common_saved[] = {H_BP, H_BX, H_12, H_13, H_14, H_15};

/* int enter(vcpu, code): to the code at rsi. GS base is the vCPU. */
static void common_enter(struct emit *e)
{
	for (unsigned k = 0; k < ARRAY_LEN(common_saved); k++)
		common_push(e, common_saved[k]);
	emit_alu_imm(e, 5, true, H_SP, 8);
	common_inside(e, true);
	common_ldmxcsr(e, true, V(jit_host_mxcsr));
	common_ldmxcsr(e, false, V(xsave) + 24);
	emit_mov(e, JIT_S1, H_SI);
	for (u8 g = 0; g < 16; g++)
		if (jit_host[g] != H_NONE)
			emit_load(e, jit_host[g], rm_v(V_GPR(g)));
	emit_op(e, (struct opc){.code = 0xff}, 4, rm_reg(JIT_S1));
}

/* Out, with the code of enum jit_exit in ECX. */
static void common_exit(struct emit *e)
{
	for (u8 g = 0; g < 16; g++)
		if (jit_host[g] != H_NONE)
			emit_store(e, jit_host[g], rm_v(V_GPR(g)));
	emit_rr(e, 0x89, false, H_CX, H_AX);
	common_inside(e, false);
	common_ldmxcsr(e, true, V(xsave) + 24);
	common_ldmxcsr(e, false, V(jit_host_mxcsr));
	common_vzeroupper(e);
	emit_alu_imm(e, 0, true, H_SP, 8);
	for (unsigned k = ARRAY_LEN(common_saved); k-- > 0;)
		common_pop(e, common_saved[k]);
	emit_u8(e, 0xc3);
}

static u8 *common_exit_as(struct emit *e, enum jit_exit code, const u8 *exit)
{
	u8 *at = e->p;

	if (code == JIT_EXIT_LINK)
		emit_store(e, JIT_S1, rm_v(V(jit_pending)));
	emit_mov_imm(e, H_CX, code);
	emit_jmp_to(e, exit);
	return at;
}

/*
 * The host address of an access whose TLB check failed. NULL if it faults,
 * which v->jit_fault tells, or if the interpreter must look at the instruction:
 * among others where an operand out of alignment comes before a page fault.
 */
static void *common_fill_slow(struct soft_vcpu *v, u64 lin, u64 n,
			      enum mmu_access access)
{
	bool faults;
	u32 error;
	void *p;

	v->vcpu.stat[VCPU_STAT_TR_FILL]++;
	if (!lin_canonical(lin) || !lin_canonical(lin + n - 1))
		return NULL;
	p = mmu_host_or_fault(v, lin, n, access, &faults, &error);
	if (faults && n < 16) {
		v->cr2 = lin;
		v->fault_vector = VEC_PF;
		v->fault_has_error = true;
		v->fault_error = error;
		v->jit_fault = true;
	}
	return p;
}

/*
 * RCX = f(vCPU, RCX, a, b), for code that was called itself; ZF is set if it
 * is 0. No vector register is in use.
 */
static void common_call(struct emit *e, u64 f, u32 a, u32 b)
{
	for (unsigned k = 0; k < ARRAY_LEN(common_volatile); k++)
		emit_store(e, jit_host[common_volatile[k]],
			   rm_v(V_GPR(common_volatile[k])));
	common_vzeroupper(e);
	emit_mov(e, H_SI, H_CX);
	emit_mov_imm(e, H_DX, a);
	emit_mov_imm(e, H_CX, b);
	/* RDGSBASE rdi */
	emit_op(e, (struct opc){.code = 0xae, .map = 1, .pfx = 0xf3, .w = 1}, 1,
		rm_reg(H_DI));
	emit_alu_imm(e, 5, true, H_SP, 8);
	emit_mov_imm(e, H_AX, f);
	emit_op(e, (struct opc){.code = 0xff}, 2, rm_reg(H_AX));
	emit_alu_imm(e, 0, true, H_SP, 8);
	emit_mov(e, JIT_S1, H_AX);
	emit_rr(e, 0x85, true, H_AX, H_AX);
	for (unsigned k = 0; k < ARRAY_LEN(common_volatile); k++)
		emit_load(e, jit_host[common_volatile[k]],
			  rm_v(V_GPR(common_volatile[k])));
}

/* Looks into the second half of the TLB; returns with a hit. */
static u8 *common_second(struct emit *e, unsigned size_log2, bool write)
{
	const s32 half = TLB_SIZE * sizeof(struct tlb_entry);
	size_t tag = write ? offsetof(struct tlb_entry, tag_write)
			   : offsetof(struct tlb_entry, tag_read);
	u8 *miss;

	jit_tlb_entry(e);
	emit_lea(e, JIT_S3, rm_mem(JIT_S1, (1 << size_log2) - 1), true);
	emit_alu_imm(e, 4, true, JIT_S3, -(s32)PAGE_SIZE);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S3,
		rm_mem(JIT_S2, half + (s32)tag));
	miss = emit_jcc(e, 5);
	emit_op(e, (struct opc){.code = 0x03, .w = 1}, JIT_S1,
		rm_mem(JIT_S2, half + (s32)offsetof(struct tlb_entry, addend)));
	emit_u8(e, 0xc3);
	return miss;
}

/*
 * Called with the linear address in RCX and the instruction's place in the page
 * in R11; returns with a host address in RCX, or leaves.
 */
static u8 *common_fill(struct emit *e, unsigned size_log2, bool write,
		       const u8 *exit)
{
	u8 *at = e->p, *none, *miss;

	emit_op(e, (struct opc){.code = 0x03, .w = 1}, JIT_S2,
		rm_v(V(code_page)));
	emit_store(e, JIT_S2, rm_v(V(rip)));
	miss = common_second(e, size_log2, write);
	if (e->full)
		return at;
	emit_patch32(miss, e->p);
	common_call(e, (u64)&common_fill_slow, 1u << size_log2,
		    write ? MMU_WRITE : MMU_READ);
	none = emit_jcc(e, 4);
	emit_u8(e, 0xc3);
	if (e->full)
		return at;
	emit_patch32(none, e->p);
	emit_alu_imm(e, 0, true, H_SP, 8);
	emit_jmp_to(e, exit);
	return at;
}

/* Brings what the window needs into the TLB; false: only an access can. */
static u64 common_window_fill(struct soft_vcpu *v, u64 lin)
{
	if (!lin_canonical(lin))
		return 0;
	if (unlikely(v->undo))
		return mmu_note_page(v, lin);
	mmu_refill(v, lin);
	return tlb_hit(tlb_slot(v->tlb, lin)->tag_write, lin, 1);
}

/* R11 = the TLB entry of RCX; R14 = its page; flags: whether it has a tag. */
static void common_lookup(struct emit *e, size_t tag)
{
	jit_tlb_entry(e);
	emit_mov(e, JIT_S3, JIT_S1);
	emit_alu_imm(e, 4, true, JIT_S3, -(s32)PAGE_SIZE);
	emit_op(e, (struct opc){.code = 0x3b, .w = 1}, JIT_S3,
		rm_mem(JIT_S2, (s32)tag));
}

/*
 * Called with the linear address in RCX where a range of span k begins; moves
 * the window there and returns RCX not 0, or 0 if it cannot hold all of it.
 */
static u8 *common_window(struct emit *e, unsigned k)
{
	u8 *at = e->p, *miss, *over, *none, *again;

	again = e->p;
	common_lookup(e, offsetof(struct tlb_entry, tag_write));
	miss = emit_jcc(e, 5);
	emit_rr(e, 0x29, true, JIT_S3, JIT_S1);
	emit_alu_imm(e, 7, true, JIT_S1, (s32)(PAGE_SIZE - WINDOW_SPAN(k)));
	over = emit_jcc(e, 7);
	emit_load(e, JIT_S1,
		  rm_mem(JIT_S2, offsetof(struct tlb_entry, addend)));
	emit_store(e, JIT_S1, rm_v(V(window.addend)));
	emit_store(e, JIT_S3, rm_v(V(window.page)));
	for (unsigned s = 0; s < WINDOW_SPANS; s++) {
		emit_op(e, (struct opc){.code = 0xc7, .w = 1}, 0,
			rm_v(V(window.limit) + 8 * s));
		emit_u32(e, (u32)(PAGE_SIZE - WINDOW_SPAN(s) + 1));
	}
	emit_mov_imm(e, JIT_S1, 1);
	emit_u8(e, 0xc3);
	if (e->full)
		return at;
	emit_patch32(miss, e->p);
	emit_store(e, JIT_S1, rm_v(V(jit_tmp)));
	common_call(e, (u64)&common_window_fill, 0, 0);
	none = emit_jcc(e, 4);
	emit_load(e, JIT_S1, rm_v(V(jit_tmp)));
	emit_jmp_to(e, again);
	if (e->full)
		return at;
	emit_patch32(over, e->p);
	emit_patch32(none, e->p);
	emit_mov_imm(e, JIT_S1, 0);
	emit_u8(e, 0xc3);
	return at;
}

bool jit_common(struct soft_vcpu *v, struct jit *j)
{
	u8 *p = codebuf_alloc(&j->buf, 0, 64);
	struct emit e = {.p = p, .end = j->buf.write + j->buf.size};

	j->enter = e.p;
	common_enter(&e);
	j->exit = e.p;
	common_exit(&e);
	for (unsigned k = 0; k < JIT_EXITS; k++)
		j->out[k] = common_exit_as(&e, k, j->exit);
	for (unsigned w = 0; w < 2; w++)
		for (unsigned s = 0; s < JIT_FILL_SIZES; s++)
			j->fill[w][s] =
				common_fill(&e, s, w, j->out[JIT_EXIT_ACCESS]);
	for (unsigned k = 0; k < WINDOW_SPANS; k++)
		j->window[k] = common_window(&e, k);
	j->call = jit_common_call(&e, v);
	j->branch = jit_common_branch(&e, j);
	for (unsigned k = 0; k < 2; k++)
		jit_common_ways(&e, j, &j->way[k], k);
	codebuf_alloc(&j->buf, (size_t)(e.p - p), 1);
	return !e.full;
}
