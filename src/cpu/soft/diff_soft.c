/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs one instruction on a soft vCPU, at CPL 3 of a tiny 64-bit guest.
 *
 * The guest's kernel is a GDT and an LDT as Linux has them, an IDT, and for
 * each vector a HLT, where the run ends; what came out is read from the
 * registers and the exception's stack frame.
 */
#include "cpu/soft/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Guest physical pages; the kernel's are at KERNEL + their address. */
enum {
	PG_PML4 = 0x1000,
	PG_PDPT = 0x2000,
	PG_PD = 0x3000,
	PG_PT = 0x4000,
	PG_KPDPT = 0x5000,
	PG_KPD = 0x6000,
	PG_KPT = 0x7000,
	PG_GDT = 0x8000,
	PG_TSS = 0x8400,
	PG_LDT = 0x8800,
	PG_IDT = 0x9000,
	PG_HALT = 0xa000,
	PG_STACK = 0xb000,
	PG_DATA = 0x10000,
	PG_CODE = 0x20000,
	PG_RO = 0x30000,
	MEM_SIZE = 0x40000,
};
#define KERNEL    0xffffffff80000000ull
#define KERNEL_CS 0x10

struct diff_soft {
	struct mem mem;
	struct apic_bus *apics;
	struct engine_config config;
	struct engine *engine;
	struct soft_vcpu *v;
	u8 *ram;
};

static u64 soft_no_read(void *m, u64 addr, unsigned len)
{
	(void)m;
	(void)addr;
	(void)len;
	return ~0ull;
}

static u64 soft_pio_read(void *m, u16 port, unsigned len)
{
	return soft_no_read(m, port, len);
}

static void soft_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	(void)m;
	(void)port;
	(void)val;
	(void)len;
}

static void soft_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	(void)m;
	(void)gpa;
	(void)val;
	(void)len;
}

static int soft_extint_ack(void *m)
{
	(void)m;
	return -1;
}

static const struct cpu_ops diff_ops = {
	.pio_read = soft_pio_read,
	.pio_write = soft_pio_write,
	.mmio_read = soft_no_read,
	.mmio_write = soft_mmio_write,
	.extint_ack = soft_extint_ack,
};

static void soft_no_eoi(void *arg, u8 vector)
{
	(void)arg;
	(void)vector;
}

/* ---- The guest ---- */

static void guest_st(struct diff_soft *s, u64 gpa, u64 val)
{
	memcpy(s->ram + gpa, &val, 8);
}

static void guest_map(struct diff_soft *s, u64 lin, u64 size, u64 gpa, u64 bits)
{
	for (u64 k = 0; k < size; k += PAGE_SIZE)
		guest_st(s, PG_PT + ((lin + k) >> 12 & 511) * 8,
			 (gpa + k) | bits);
}

static void guest_paging(struct diff_soft *s)
{
	u64 user = PTE_P | PTE_U | PTE_A | PTE_D;
	u64 table = PTE_P | PTE_W | PTE_U | PTE_A;

	guest_st(s, PG_PML4, PG_PDPT | table);
	guest_st(s, PG_PDPT + (DIFF_CODE >> 30 & 511) * 8, PG_PD | table);
	guest_st(s, PG_PD + (DIFF_CODE >> 21 & 511) * 8, PG_PT | table);
	guest_map(s, DIFF_CODE, DIFF_CODE_SIZE, PG_CODE, user);
	guest_map(s, DIFF_DATA, DIFF_DATA_SIZE, PG_DATA, user | PTE_W | PTE_NX);
	guest_map(s, DIFF_RO, DIFF_RO_SIZE, PG_RO, user | PTE_NX);
	guest_st(s, PG_PML4 + 511 * 8, PG_KPDPT | table);
	guest_st(s, PG_KPDPT + 510 * 8, PG_KPD | table);
	guest_st(s, PG_KPD, PG_KPT | table);
	for (u64 k = 0; k < 0x10000; k += PAGE_SIZE)
		guest_st(s, PG_KPT + k / PAGE_SIZE * 8,
			 k | PTE_P | PTE_W | PTE_A | PTE_D);
}

static const struct seg_state diff_code64 = {
	.limit = 0xffffffff, .attr = 0xa0fb, .sel = DIFF_CS64};
static const struct seg_state diff_code32 = {
	.limit = 0xffffffff, .attr = 0xc0fb, .sel = DIFF_CS32};
static const struct seg_state diff_code16 = {
	.base = DIFF_CODE, .limit = 0xffff, .attr = 0x10fb, .sel = DIFF_CS16};
static const struct seg_state diff_data16 = {.base = DIFF_DATA,
					     .limit = DIFF_DATA_SIZE - 1,
					     .attr = 0x50f3,
					     .sel = DIFF_DS16};
static const struct seg_state diff_data = {
	.limit = 0xffffffff, .attr = 0xc0f3, .sel = DIFF_DS};
static const struct seg_state diff_null = {.attr = SEG_ATTR_UNUSABLE};

/* A descriptor with byte granularity. */
static u64 guest_desc(const struct seg_state *g)
{
	return (g->limit & 0xffff) | (g->base & 0xffffff) << 16 |
	       (u64)g->attr << 40 | (u64)(g->limit >> 16 & 15) << 48 |
	       (g->base >> 24) << 56;
}

static void guest_tables(struct diff_soft *s)
{
	static const u64 gdt[] = {
		[0x08 / 8] = 0x00cf9b000000ffff, /* kernel, 32-bit */
		[0x10 / 8] = 0x00af9b000000ffff, /* kernel code */
		[0x18 / 8] = 0x00cf93000000ffff, /* kernel data */
		[0x20 / 8] = 0x00cffb000000ffff, /* user code, 32-bit */
		[0x28 / 8] = 0x00cff3000000ffff, /* user data */
		[0x30 / 8] = 0x00affb000000ffff, /* user code */
	};
	u64 at;

	memcpy(s->ram + PG_GDT, gdt, sizeof(gdt));
	guest_st(s, PG_LDT, guest_desc(&diff_code16));
	guest_st(s, PG_LDT + 8, guest_desc(&diff_data16));
	guest_st(s, PG_TSS + 4, KERNEL + PG_STACK + PAGE_SIZE);
	guest_st(s, PG_TSS + 0x60, 0x68ull << 48); /* no I/O bitmap */
	for (unsigned vector = 0; vector < 256; vector++) {
		u64 dpl = vector == 3 || vector == 4 ? 3 : 0;
		u64 gate = PG_IDT + 16 * vector;

		at = KERNEL + PG_HALT + 4 * vector;
		guest_st(s, gate,
			 (at & 0xffff) | KERNEL_CS << 16 |
				 (0x8eull | dpl << 5) << 40 |
				 (at >> 16 & 0xffff) << 48);
		guest_st(s, gate + 8, at >> 32);
		memcpy(s->ram + PG_HALT + 4 * vector, "\xf4\xeb\xfd", 3);
	}
	memset(s->ram + PG_CODE, 0xcc, DIFF_CODE_SIZE);
	diff_fill_ro(s->ram + PG_RO);
}

static void guest_state(struct diff_soft *s, struct cpu_state *st)
{
	(void)s;
	st->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
	st->cr3 = PG_PML4;
	st->cr4 = CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE | CR4_OSFXSR |
		  CR4_OSXMMEXCPT | CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE |
		  CR4_SMEP | CR4_SMAP;
	st->efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
	st->xcr0 = 7;
	st->gdt = (struct dtable_state){KERNEL + PG_GDT, 0x7f};
	st->idt = (struct dtable_state){KERNEL + PG_IDT, 0xfff};
	st->tr = (struct seg_state){.base = KERNEL + PG_TSS,
				    .limit = 0x67,
				    .attr = 0x8b,
				    .sel = 0x40};
	st->ldtr = (struct seg_state){.base = KERNEL + PG_LDT,
				      .limit = 15,
				      .attr = 0x82,
				      .sel = 0x50};
	for (unsigned k = 0; k < 6; k++)
		st->seg[k] = diff_null;
	st->seg[SEG_CS] = diff_code64;
	st->seg[SEG_SS] = diff_data;
	st->rflags = RFLAGS_FIXED | RFLAGS_IF;
	st->rip = DIFF_CODE;
	st->mp_state = MP_RUNNABLE;
}

/* The folder of the translator comes after this one: no header of its here. */
extern const struct soft_translator jit_translator;

struct diff_soft *diff_soft_new(bool jit)
{
	struct diff_soft *s = calloc(1, sizeof(*s));
	const struct engine_class *class;
	struct cpu_state st;
	struct err why, e;
	struct vcpu *vc;

	ASSERT(s);
	class = engine_find("soft", &why, &e);
	ASSERT(class);
	ASSERT(!mem_init(&s->mem, MEM_SIZE, &e));
	ASSERT(!mem_add_slot(&s->mem, 0, MEM_SIZE, 0, false, &e));
	s->ram = s->mem.base;
	s->apics = apic_bus_new(soft_no_eoi, NULL);
	s->config = (struct engine_config){
		.mem = &s->mem, .ops = &diff_ops, .apics = s->apics, .cpus = 1};
	s->config.translator = jit ? &jit_translator : NULL;
	s->engine = class->new (&s->config, &e);
	ASSERT(s->engine);
	ASSERT(!class->mem_changed(s->engine, &e));
	guest_paging(s);
	guest_tables(s);
	vc = class->vcpu_new(s->engine, 0, &e);
	ASSERT(vc && !class->vcpu_get(vc, &st, &e));
	guest_state(s, &st);
	ASSERT(!class->vcpu_set(vc, &st, &e));
	s->v = container_of(vc, struct soft_vcpu, vcpu);
	s->v->heat = 1;
	if (!jit || s->v->jit)
		return s;
	diff_soft_free(s);
	return NULL;
}

void diff_soft_free(struct diff_soft *s)
{
	const struct engine_class *class = s->engine->class;

	class->vcpu_free(&s->v->vcpu);
	class->free(s->engine);
	apic_bus_free(s->apics);
	mem_fini(&s->mem);
	free(s);
}

const u8 *diff_soft_data(struct diff_soft *s)
{
	return s->ram + PG_DATA;
}

/* ---- One case ---- */

static struct seg_state soft_seg(u16 sel)
{
	switch (sel) {
	case DIFF_CS64: return diff_code64;
	case DIFF_CS32: return diff_code32;
	case DIFF_CS16: return diff_code16;
	case DIFF_DS: return diff_data;
	case DIFF_DS16: return diff_data16;
	default: return diff_null;
	}
}

static void soft_load(struct soft_vcpu *v, const struct diff_regs *r)
{
	memcpy(v->gpr, r->gpr, sizeof(v->gpr));
	v->rip = r->rip;
	v->seg[SEG_CS] = soft_seg(r->cs);
	v->seg[SEG_SS] = soft_seg(r->ss);
	v->seg[SEG_DS] = soft_seg(r->ds);
	v->seg[SEG_ES] = soft_seg(r->es);
	v->seg[SEG_FS] = soft_seg(r->fs);
	v->seg[SEG_GS] = soft_seg(r->gs);
	v->seg[SEG_FS].base = r->fs_base;
	v->seg[SEG_GS].base = r->gs_base;
	v->cpl = 3;
	v->shadow = 0;
	v->mp_state = MP_RUNNABLE;
	v->cr2 = 0;
	v->dr6 = 0xffff0ff0;
	memcpy(v->xsave, r->xsave, XSAVE_AREA_SIZE);
	simd_loaded(v);
	/* As IRET does where there are no breakpoints that RF is for. */
	soft_set_rflags(v, r->rflags & ~(u64)RFLAGS_RF);
	soft_update_mode(v);
}

static bool vector_has_error(unsigned vector)
{
	return vector < 32 && (0x60227d00u >> vector & 1);
}

/* The vCPU halted in the handler of a vector. */
static void soft_store(struct diff_soft *s, struct diff_result *out)
{
	struct soft_vcpu *v = s->v;
	struct diff_regs *r = &out->r;
	const u64 *frame;

	out->vector = (u32)(v->rip - KERNEL - PG_HALT) / 4;
	frame = (const u64 *)(s->ram + (v->gpr[REG_SP] - KERNEL));
	out->error = vector_has_error(out->vector) ? (u32)*frame++ : 0;
	out->cr2 = v->cr2;
	memcpy(r->gpr, v->gpr, sizeof(r->gpr));
	r->gpr[REG_SP] = frame[3];
	r->rip = frame[0];
	r->rflags = frame[2];
	r->cs = (u16)frame[1];
	r->ss = (u16)frame[4];
	r->ds = (u16)v->seg[SEG_DS].sel;
	r->es = (u16)v->seg[SEG_ES].sel;
	r->fs = (u16)v->seg[SEG_FS].sel;
	r->gs = (u16)v->seg[SEG_GS].sel;
	r->fs_base = v->seg[SEG_FS].base;
	r->gs_base = v->seg[SEG_GS].base;
	simd_saved(v);
	memcpy(r->xsave, v->xsave, XSAVE_AREA_SIZE);
}

bool diff_soft_run(struct diff_soft *s, const struct diff_case *c,
		   struct diff_result *out)
{
	u64 off = diff_code_lin(&c->in) - DIFF_CODE, at = PG_CODE + off;
	unsigned len = MIN(c->len, (unsigned)(DIFF_CODE_SIZE - off));
	struct soft_vcpu *v = s->v;
	enum vcpu_exit why;

	memcpy(s->ram + PG_DATA, c->data, DIFF_DATA_SIZE);
	memcpy(s->ram + at, c->bytes, len);
	mem_written(&s->mem, at, len);
	soft_load(v, &c->in);
	why = soft_run(v);
	memset(s->ram + at, 0xcc, len);
	mem_written(&s->mem, at, len);
	if (why != VCPU_EXIT_HALTED || v->rip - KERNEL - PG_HALT >= 1024) {
		fprintf(stderr, "exit %d at %llx: %s\n", why,
			(unsigned long long)v->rip, v->vcpu.report);
		return false;
	}
	soft_store(s, out);
	return true;
}
