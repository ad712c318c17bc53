/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests: soft vCPUs in 64-bit mode at CPL 0 with a few MiB of memory,
 * mapped one to one by 4 KiB pages, running pieces of assembly.
 *
 * Every exception ends the run: its handler is a HLT at RIG_VECTORS +
 * 16 * vector, with the frame on the stack. A piece ends by HLT too.
 */
#ifndef CPU_SOFT_RIG_H
#define CPU_SOFT_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/soft/code.h"
#include "cpu/soft/engine_soft.h"
#include "cpu/soft/event.h"
#include "cpu/soft/mmu.h"

#define RIG_RAM     (8 * MIB)
#define RIG_PML4    0x1000ull
#define RIG_PT      0x10000ull /* page tables of the first 4 MiB */
#define RIG_GDT     0x5000ull
#define RIG_IDT     0x6000ull
#define RIG_VECTORS 0x7000ull
#define RIG_STACK   0x80000ull
#define RIG_CODE    0x100000ull
#define RIG_DATA    0x200000ull

/* Guest code: rig_NAME to rig_NAME_end */
#define RIG(name, text)                                                      \
	__asm__(".pushsection .rodata\nrig_" #name ":\n" text "\nrig_" #name \
		"_end:\n.popsection\n");                                     \
	extern const u8 rig_##name[], rig_##name##_end[];

#define RIG_CPUS 2

struct rig {
	struct mem mem;
	struct engine *g;
	struct apic_bus *apics;
	struct soft_vcpu *v[RIG_CPUS];
	unsigned cpus;
};

static u64 rig_pio_read(void *m, u16 port, unsigned len)
{
	(void)m, (void)port, (void)len;
	return ~0ull;
}

static void rig_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	(void)m, (void)port, (void)val, (void)len;
}

static u64 rig_mmio_read(void *m, gpa_t gpa, unsigned len)
{
	(void)m, (void)gpa, (void)len;
	return 0x1122334455667788;
}

static void rig_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	(void)m, (void)gpa, (void)val, (void)len;
}

static const struct cpu_ops rig_ops = {
	.pio_read = rig_pio_read,
	.pio_write = rig_pio_write,
	.mmio_read = rig_mmio_read,
	.mmio_write = rig_mmio_write,
};

static void rig_eoi(void *arg, u8 vector)
{
	(void)arg, (void)vector;
}

static u64 *rig_q(struct rig *r, gpa_t gpa)
{
	return (u64 *)(r->mem.base + gpa);
}

/* The page table entry of lin, which is below 4 MiB */
static inline u64 *rig_pte(struct rig *r, gva_t lin)
{
	return rig_q(r, RIG_PT) + (lin >> PAGE_SHIFT);
}

static void rig_tables(struct rig *r)
{
	rig_q(r, RIG_PML4)[0] = 0x2000 | PTE_P | PTE_W | PTE_U;
	rig_q(r, 0x2000)[0] = 0x3000 | PTE_P | PTE_W | PTE_U;
	for (unsigned i = 0; i < 2; i++)
		rig_q(r, 0x3000)[i] =
			(RIG_PT + i * PAGE_SIZE) | PTE_P | PTE_W | PTE_U;
	for (u64 lin = 0; lin < 4 * MIB; lin += PAGE_SIZE)
		*rig_pte(r, lin) = lin | PTE_P | PTE_W | PTE_U;
	rig_q(r, RIG_GDT)[1] = 0x00af9b000000ffff;
	rig_q(r, RIG_GDT)[2] = 0x00cf93000000ffff;
	for (unsigned n = 0; n < 32; n++) {
		rig_q(r, RIG_IDT)[2 * n] =
			0x00008e0000080000 | (RIG_VECTORS + 16 * n);
		r->mem.base[RIG_VECTORS + 16 * n] = 0xf4;
	}
}

static void rig_registers(struct soft_vcpu *v)
{
	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_ET | CR0_NE;
	v->cr4 = CR4_PAE | CR4_OSFXSR;
	v->efer = EFER_LMA | EFER_LME | EFER_NXE;
	v->cr3 = RIG_PML4;
	v->rflags = RFLAGS_FIXED;
	v->fl = 0x200;
	v->xcr0 = 7;
	v->gdt = (struct dtable_state){RIG_GDT, 23};
	v->idt = (struct dtable_state){RIG_IDT, 32 * 16 - 1};
	for (unsigned s = 0; s < 6; s++)
		v->seg[s] = (struct seg_state){
			.limit = ~0u, .attr = 0xc093, .sel = 16};
	v->seg[SEG_CS].attr = 0xa09b;
	v->seg[SEG_CS].sel = 8;
	v->gpr[REG_SP] = RIG_STACK + v->vcpu.id * 0x8000;
}

static void rig_vcpu(struct rig *r, unsigned id, size_t arena)
{
	struct err e = {0};
	struct vcpu *vc = soft_engine.vcpu_new(r->g, id, &e);
	struct soft_vcpu *v = container_of(vc, struct soft_vcpu, vcpu);

	assert_non_null(vc);
	r->v[id] = v;
	if (arena) {
		struct code_world *w = v->code->world;

		soft_code_fini(v);
		assert_int_equal(soft_code_init(v, w, arena, &e), 0);
	}
	rig_registers(v);
	mmu_mode_changed(v);
	soft_update_mode(v);
}

static void rig_init(struct rig *r, unsigned cpus, size_t arena)
{
	struct engine_config c = {
		.mem = &r->mem,
		.ops = &rig_ops,
		.machine = r,
		.cpus = cpus,
	};
	struct err e = {0};

	memset(r, 0, sizeof(*r));
	assert_int_equal(mem_init(&r->mem, RIG_RAM, &e), 0);
	mem_add_slot(&r->mem, 0, RIG_RAM, 0, false, &e);
	r->apics = apic_bus_new(rig_eoi, NULL);
	c.apics = r->apics;
	r->g = soft_engine.new(&c, &e);
	assert_non_null(r->g);
	rig_tables(r);
	r->cpus = cpus;
	for (unsigned id = 0; id < cpus; id++)
		rig_vcpu(r, id, arena);
}

static void rig_fini(struct rig *r)
{
	for (unsigned id = 0; id < r->cpus; id++)
		soft_engine.vcpu_free(&r->v[id]->vcpu);
	soft_engine.free(r->g);
	apic_bus_free(r->apics);
	mem_fini(&r->mem);
}

static void rig_load(struct rig *r, gpa_t gpa, const u8 *code, const u8 *end)
{
	mem_write(&r->mem, gpa, code, (u64)(end - code));
}

/* Runs vCPU id from rip; returns the exit. */
static enum vcpu_exit rig_run(struct rig *r, unsigned id, u64 rip)
{
	struct soft_vcpu *v = r->v[id];
	enum vcpu_exit x;

	v->rip = rip;
	v->mp_state = MP_RUNNABLE;
	__atomic_store_n(&v->running, 1, __ATOMIC_SEQ_CST);
	x = soft_run(v);
	__atomic_store_n(&v->running, 0, __ATOMIC_SEQ_CST);
	return x;
}

/* Loads a piece at RIG_CODE and runs it to its HLT or to an exception. */
#define RIG_RUN(r, name)                                                     \
	do {                                                                 \
		rig_load(r, RIG_CODE, rig_##name, rig_##name##_end);         \
		assert_int_equal(rig_run(r, 0, RIG_CODE), VCPU_EXIT_HALTED); \
	} while (0)

/* The vector that ended the run, or -1 */
static inline int rig_vector(const struct rig *r)
{
	u64 off = r->v[0]->rip - RIG_VECTORS;

	return off < 32 * 16 ? (int)(off / 16) : -1;
}

#endif
