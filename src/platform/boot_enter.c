/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The boot processor at a kernel's entry: flat segments, and for a 64-bit
 * entry long mode with the first 4 GiB mapped one to one.
 */
#include "cpu/x86/x86.h"
#include "platform/boot_priv.h"

enum { GDT_CODE = 2, GDT_DATA = 3, GDT_TSS = 4, GDT_ENTRIES = 6 };

#define ATTR_CODE32 0xc09bu /* read, accessed, 4 GiB */
#define ATTR_CODE64 0xa09bu
#define ATTR_DATA   0xc093u
#define ATTR_TSS    0x008bu /* 32-bit (or 64-bit), busy */

#define MTRR_ENABLE      BIT(11)
#define MTRR_WRITE_BACK  6u
#define APIC_SVR_ENABLE  BIT(8)
#define APIC_MODE_NMI    0x400u
#define APIC_MODE_EXTINT 0x700u
enum { LVT_LINT0 = 4, LVT_LINT1 = 5 };

static u64 enter_descriptor(u32 attr, u32 limit)
{
	u64 raw = attr & SEG_ATTR_G ? limit >> 12 : limit;

	return (raw & 0xffff) | (raw & 0xf0000) << 32 |
	       (u64)(attr & 0xf0ff) << 40;
}

static void enter_segment(struct seg_state *s, unsigned index, u32 attr)
{
	*s = (struct seg_state){
		.limit = 0xffffffff,
		.attr = attr,
		.sel = index * 8,
	};
}

static void enter_segments(struct mem *m, bool is64, struct cpu_state *cpu)
{
	u32 code = is64 ? ATTR_CODE64 : ATTR_CODE32;
	u64 gdt[GDT_ENTRIES] = {
		[GDT_CODE] = enter_descriptor(code, 0xffffffff),
		[GDT_DATA] = enter_descriptor(ATTR_DATA, 0xffffffff),
		[GDT_TSS] = enter_descriptor(ATTR_TSS, 0x67),
	};

	mem_write(m, BOOT_GDT, gdt, sizeof(gdt));
	for (unsigned i = 0; i < 6; i++)
		enter_segment(&cpu->seg[i], GDT_DATA, ATTR_DATA);
	enter_segment(&cpu->seg[SEG_CS], GDT_CODE, code);
	cpu->tr = (struct seg_state){
		.limit = 0x67,
		.attr = ATTR_TSS,
		.sel = GDT_TSS * 8,
	};
	cpu->gdt = (struct dtable_state){BOOT_GDT, sizeof(gdt) - 1};
	cpu->idt = (struct dtable_state){0, 0};
}

static void enter_paging(struct mem *m, struct cpu_state *cpu)
{
	u64 pml4 = BOOT_PAGE_TABLES, pdpt = pml4 + PAGE_SIZE;
	u64 pd = pdpt + PAGE_SIZE, v;

	v = pdpt | PTE_P | PTE_W;
	mem_write(m, pml4, &v, 8);
	for (u64 i = 1; i < 512; i++) {
		v = 0;
		mem_write(m, pml4 + i * 8, &v, 8);
	}
	for (u64 i = 0; i < 512; i++) {
		v = i < 4 ? (pd + i * PAGE_SIZE) | PTE_P | PTE_W : 0;
		mem_write(m, pdpt + i * 8, &v, 8);
	}
	for (u64 i = 0; i < 4 * 512; i++) {
		v = i * 2 * MIB | PTE_P | PTE_W | PTE_PS;
		mem_write(m, pd + i * 8, &v, 8);
	}
	cpu->cr3 = pml4;
	cpu->cr4 |= CR4_PAE;
	cpu->efer |= EFER_LME | EFER_LMA;
	cpu->cr0 |= CR0_PG;
}

/*
 * What firmware leaves behind on the boot processor: all memory write-back
 * (a kernel distrusts the PAT where the MTRRs are off), and the local APIC in
 * virtual wire mode, so that the 8259 and NMI reach the processor.
 */
static void enter_firmware(struct cpu_state *cpu)
{
	cpu->mtrr_def_type = MTRR_ENABLE | MTRR_WRITE_BACK;
	cpu->lapic.svr = APIC_SVR_ENABLE | 0xff;
	cpu->lapic.lvt[LVT_LINT0] = APIC_MODE_EXTINT;
	cpu->lapic.lvt[LVT_LINT1] = APIC_MODE_NMI;
}

void boot_enter(struct mem *m, const struct boot_entry *b,
		struct cpu_state *cpu)
{
	bool is64 = b->mode == BOOT_MODE_LONG;

	for (unsigned i = 0; i < 16; i++)
		cpu->gpr[i] = 0;
	cpu->rip = b->rip;
	cpu->rflags = RFLAGS_FIXED;
	cpu->gpr[REG_AX] = b->eax;
	cpu->gpr[REG_BX] = b->ebx;
	cpu->gpr[REG_SI] = b->rsi;
	cpu->gpr[REG_SP] = BOOT_STACK;
	cpu->cr0 = CR0_PE | CR0_ET | CR0_NE;
	cpu->cr4 = 0;
	enter_segments(m, is64, cpu);
	if (is64)
		enter_paging(m, cpu);
	enter_firmware(cpu);
	cpu->mp_state = MP_RUNNABLE;
}
