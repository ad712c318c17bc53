/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine for unit tests of the soft engine: 8 MiB of memory, one or more
 * vCPUs, a port that stops the vCPU, a port that collects bytes, and a page
 * of MMIO. Guest code is assembled by the C compiler: CODE(name, bits, "...")
 * and put into guest memory with rig_code().
 */
#ifndef CPU_SOFT_RIG_TEST_H
#define CPU_SOFT_RIG_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/soft/access.h"
#include "cpu/soft/engine_soft.h"
#include "cpu/soft/mmu.h"
#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"
#include "mem/mem.h"

#define RIG_MEM  (8 * MIB)
#define RIG_MMIO 0xd0000000ull
#define RIG_STOP 0xf4 /* OUT ends vcpu_run(); the value is kept */
#define RIG_OUT  0xe9 /* OUT collects */

#define CODE(name, bits, ...)                                            \
	extern const u8 name[], name##_end[];                            \
	asm(".section .rodata\n" #name ":\n.code" #bits "\n" __VA_ARGS__ \
	    "\n" #name "_end:\n.code64\n.previous\n")

struct rig {
	struct mem mem;
	struct apic_bus *bus;
	struct engine *g;
	struct vcpu *vc;
	struct soft_vcpu *v;
	struct cpu_state s;
	u32 stop_value;
	bool stopped;
	u8 out[256];
	unsigned nout;
	u64 mmio[512];
	unsigned mmio_reads, mmio_writes;
	gpa_t mmio_last;
	unsigned mmio_len;
};

static u64 rig_pio_read(void *m, u16 port, unsigned len)
{
	(void)m;
	(void)len;
	return port;
}

static void rig_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	struct rig *r = m;

	(void)len;
	if (port == RIG_STOP) {
		r->stop_value = (u32)val;
		r->stopped = true;
		r->vc->class->vcpu_kick(r->vc);
	} else if (port == RIG_OUT && r->nout < sizeof(r->out)) {
		r->out[r->nout++] = (u8)val;
	}
}

static u64 rig_mmio_read(void *m, gpa_t gpa, unsigned len)
{
	struct rig *r = m;
	u64 val = ~0ull;

	r->mmio_reads++;
	if (gpa - RIG_MMIO < sizeof(r->mmio))
		memcpy(&val, (u8 *)r->mmio + (gpa - RIG_MMIO), len);
	return val;
}

static void rig_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	struct rig *r = m;

	r->mmio_writes++;
	r->mmio_last = gpa;
	r->mmio_len = len;
	if (gpa - RIG_MMIO < sizeof(r->mmio))
		memcpy((u8 *)r->mmio + (gpa - RIG_MMIO), &val, len);
}

static int rig_extint_ack(void *m)
{
	(void)m;
	return -1;
}

static const struct cpu_ops rig_ops = {
	.pio_read = rig_pio_read,
	.pio_write = rig_pio_write,
	.mmio_read = rig_mmio_read,
	.mmio_write = rig_mmio_write,
	.extint_ack = rig_extint_ack,
};

static inline int rig_setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct engine_config c = {.ops = &rig_ops, .machine = r, .cpus = 4};
	struct err e = {""};

	assert_int_equal(mem_init(&r->mem, RIG_MEM, &e), 0);
	assert_int_equal(mem_add_slot(&r->mem, 0, RIG_MEM, 0, false, &e), 0);
	r->bus = apic_bus_new(NULL, NULL);
	c.mem = &r->mem;
	c.apics = r->bus;
	r->g = soft_engine.new(&c, &e);
	assert_non_null(r->g);
	r->vc = soft_engine.vcpu_new(r->g, 0, &e);
	assert_non_null(r->vc);
	r->v = container_of(r->vc, struct soft_vcpu, vcpu);
	cpu_state_reset(&r->s, 0);
	*state = r;
	return 0;
}

static inline int rig_teardown(void **state)
{
	struct rig *r = *state;

	soft_engine.vcpu_free(r->vc);
	soft_engine.free(r->g);
	apic_bus_free(r->bus);
	mem_fini(&r->mem);
	free(r);
	return 0;
}

static inline void rig_code(struct rig *r, gpa_t gpa, const u8 *code,
			    const u8 *end)
{
	assert_true(mem_write(&r->mem, gpa, code, (u64)(end - code)));
}
#define RIG_CODE(r, gpa, name) rig_code(r, gpa, name, name##_end)

static inline void rig_put(struct rig *r, gpa_t gpa, u64 val)
{
	assert_true(mem_write(&r->mem, gpa, &val, 8));
}

static inline void rig_put32(struct rig *r, gpa_t gpa, u32 val)
{
	assert_true(mem_write(&r->mem, gpa, &val, 4));
}

static inline u64 rig_get(struct rig *r, gpa_t gpa)
{
	u64 val = 0;

	assert_true(mem_read(&r->mem, gpa, &val, 8));
	return val;
}

/* Runs from r->s until the stop port, a shutdown or an error. */
static inline enum vcpu_exit rig_run(struct rig *r)
{
	enum vcpu_exit why;

	r->stopped = false;
	assert_int_equal(soft_engine.vcpu_set(r->vc, &r->s, NULL), 0);
	do
		why = soft_engine.vcpu_run(r->vc);
	while (why == VCPU_EXIT_KICKED && !r->stopped);
	if (why != VCPU_EXIT_KICKED)
		print_message("%s\n", r->vc->report);
	assert_int_equal(soft_engine.vcpu_get(r->vc, &r->s, NULL), 0);
	return why;
}

/* ---- Memory map of protected and long mode tests ---- */

enum {
	RIG_GDT = 0x1000,
	RIG_IDT = 0x2000,
	RIG_TSS = 0x3000,
	RIG_PT = 0x10000,      /* PML4, PDPT, PD, PT of the first 2 MiB */
	RIG_CODE0 = 0x20000,   /* CPL 0 code */
	RIG_CODE3 = 0x30000,   /* CPL 3 code */
	RIG_HANDLER = 0x40000, /* handler of vector n at + 16 n */
	RIG_STACK0 = 0x50000,  /* top */
	RIG_STACK3 = 0x60000,
	RIG_IST1 = 0x58000,
	RIG_FRAME = 0x70000, /* what the common handler noted */
	RIG_DATA = 0x100000,
};

/* Selectors */
enum {
	RIG_CS0_64 = 0x08,
	RIG_DS0 = 0x10,
	RIG_CS3_32 = 0x1b,
	RIG_DS3 = 0x23,
	RIG_CS3_64 = 0x2b,
	RIG_CS0_32 = 0x30,
	RIG_TSS_SEL = 0x38, /* 16 bytes */
	RIG_CS0_16 = 0x48,
	RIG_DS0_16 = 0x50,
	RIG_FREE = 0x58, /* from here on the test's own */
};

static inline void rig_gdt(struct rig *r)
{
	static const u64 gdt[] = {
		0,
		0x00af9b000000ffff, /* 64-bit code, DPL 0 */
		0x00cf93000000ffff, /* data, DPL 0 */
		0x00cffb000000ffff, /* 32-bit code, DPL 3 */
		0x00cff3000000ffff, /* data, DPL 3 */
		0x00affb000000ffff, /* 64-bit code, DPL 3 */
		0x00cf9b000000ffff, /* 32-bit code, DPL 0 */
		0x00008b0000000067 | (u64)RIG_TSS << 16,
		0,
		0x00009b000000ffff, /* 16-bit code */
		0x000093000000ffff, /* 16-bit data */
	};

	for (unsigned i = 0; i < ARRAY_LEN(gdt); i++)
		rig_put(r, RIG_GDT + 8 * i, gdt[i]);
	r->s.gdt.base = RIG_GDT;
	r->s.gdt.limit = 0xfff;
}

static inline struct seg_state rig_segment(u16 sel, u32 attr, u32 limit)
{
	return (struct seg_state){.limit = limit, .attr = attr, .sel = sel};
}

static inline void rig_segments(struct rig *r, struct seg_state cs,
				struct seg_state ds)
{
	for (unsigned i = 0; i < 6; i++)
		r->s.seg[i] = ds;
	r->s.seg[SEG_CS] = cs;
	r->s.tr = rig_segment(RIG_TSS_SEL, 0x8b, 0x67);
	r->s.tr.base = RIG_TSS;
	r->s.ldtr = rig_segment(0, SEG_ATTR_UNUSABLE, 0);
}

static inline void rig_gate64(struct rig *r, u8 vector, u64 off, u16 sel,
			      u32 attr)
{
	gpa_t at = RIG_IDT + 16 * (u64)vector;

	rig_put(r, at,
		(off & 0xffff) | (u64)sel << 16 | (u64)attr << 32 |
			(off >> 16 & 0xffff) << 48);
	rig_put(r, at + 8, off >> 32);
}

static inline void rig_gate32(struct rig *r, u8 vector, u32 off, u16 sel,
			      u32 attr)
{
	rig_put(r, RIG_IDT + 8 * (u64)vector,
		(off & 0xffff) | (u64)sel << 16 | (u64)attr << 32 |
			(u64)(off >> 16) << 48);
}

static inline void rig_page_tables(struct rig *r)
{
	rig_put(r, RIG_PT, (RIG_PT + 0x1000) | 7);
	rig_put(r, RIG_PT + 0x1000, (RIG_PT + 0x2000) | 7);
	rig_put(r, RIG_PT + 0x2000, (RIG_PT + 0x3000) | 7);
	for (unsigned i = 1; i < 4; i++)
		rig_put(r, RIG_PT + 0x2000 + 8 * i, i * 2 * MIB | 0x87);
	for (unsigned i = 0; i < 512; i++)
		rig_put(r, RIG_PT + 0x3000 + 8 * i, i * PAGE_SIZE | 7);
}

/* ---- 64-bit mode with a handler for every vector ---- */

/*
 * All vectors lead here with the vector pushed: notes vector, the frame from
 * the error code (or 0) on, CR2 and CS, then stops.
 */
CODE(note_frame, 64,
     "push %rax\n push %rcx\n push %rdi\n push %rsi\n"
     "mov $0x70000, %edi\n lea 32(%rsp), %rsi\n mov $7, %ecx\n"
     "cld\n rep movsq\n"
     "mov %cr2, %rax\n mov %rax, 0x70040\n"
     "mov %cs, %eax\n mov %rax, 0x70048\n"
     "mov %ss, %eax\n mov %rax, 0x70050\n"
     "pushfq\n pop %rax\n mov %rax, 0x70058\n"
     "lea 32(%rsp), %rax\n mov %rax, 0x70060\n"
     "out %al, $0xf4\n"
     "pop %rsi\n pop %rdi\n pop %rcx\n pop %rax\n add $16, %rsp\n iretq\n");

struct frame {
	u64 vector, error, rip, cs, rflags, rsp, ss, pad;
	u64 cr2, now_cs, now_ss, now_rflags, now_rsp;
};

static inline bool rig_has_error_code(unsigned n)
{
	return n == 8 || (n >= 10 && n <= 14) || n == 17;
}

static inline void rig_long_mode(struct rig *r)
{
	static const u8 jump[] = {0x68, 0, 0, 0, 0, 0xe9}; /* push n; jmp */

	rig_gdt(r);
	rig_page_tables(r);
	for (unsigned n = 0; n < 64; n++) {
		gpa_t at = RIG_HANDLER + 16 * n;
		gpa_t p = at;
		s32 rel;

		if (!rig_has_error_code(n)) {
			mem_write(&r->mem, p, "\x6a", 2); /* push 0 */
			p += 2;
		}
		mem_write(&r->mem, p, jump, sizeof(jump));
		rig_put32(r, p + 1, n);
		mem_write(&r->mem, p + 5, "\xe9", 1);
		rel = (s32)(RIG_HANDLER + 0x1000 - (p + 10));
		rig_put32(r, p + 6, (u32)rel);
		rig_gate64(r, (u8)n, at, RIG_CS0_64, 0x8e00);
	}
	RIG_CODE(r, RIG_HANDLER + 0x1000, note_frame);
	rig_put(r, RIG_TSS + 4, RIG_STACK0);
	rig_put(r, RIG_TSS + 36, RIG_IST1);
	rig_put32(r, RIG_TSS + 0x64, 0x680000);
	r->s.idt.base = RIG_IDT;
	r->s.idt.limit = 0xfff;
	rig_segments(r, rig_segment(RIG_CS0_64, 0xa09b, ~0u),
		     rig_segment(RIG_DS0, 0xc093, ~0u));
	r->s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP;
	r->s.cr3 = RIG_PT;
	r->s.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR;
	r->s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	r->s.rip = RIG_CODE0;
	r->s.gpr[REG_SP] = RIG_STACK0 - 0x1000;
}

static inline void rig_user(struct rig *r)
{
	r->s.seg[SEG_CS] = rig_segment(RIG_CS3_64, 0xa0fb, ~0u);
	r->s.seg[SEG_SS] = rig_segment(RIG_DS3, 0xc0f3, ~0u);
	r->s.rip = RIG_CODE3;
	r->s.gpr[REG_SP] = RIG_STACK3;
}

static inline struct frame rig_frame(struct rig *r)
{
	struct frame f;

	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_true(mem_read(&r->mem, RIG_FRAME, &f, sizeof(f)));
	return f;
}

#define BYTES(r, gpa, str) \
	assert_true(mem_write(&(r)->mem, gpa, str, sizeof(str) - 1))

#endif
