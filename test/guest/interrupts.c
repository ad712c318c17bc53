/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Interrupts: 8259 with the 8254, I/O APIC edge and level, local APIC self
 * IPIs, priorities, TPR and CR8, masking, STI shadow, HLT, NMI.
 */
#include "lib/guest.h"

#define IOAPIC(reg) (*(volatile u32 *)(0xfec00000ull + (reg)))

static volatile u8 order[64];
volatile unsigned count;
static volatile bool pic; /* acknowledge by the 8259 */

static bool note(struct frame *f)
{
	order[count++ % 64] = (u8)f->vector;
	if (pic) {
		if (f->vector >= 0x28)
			outb(0xa0, 0x20);
		outb(0x20, 0x20);
	} else if (f->vector != 2)
		APIC(APIC_EOI) = 0;
	return true;
}

static void cli(void)
{
	__asm__ volatile("cli" ::: "memory");
}

static void sti(void)
{
	__asm__ volatile("sti; nop; nop" ::: "memory");
}

static void told(const char *what)
{
	print("%s:", what);
	for (unsigned i = 0; i < count; i++)
		print(" %x", order[i]);
	print("\n");
	count = 0;
}

static void self(u8 vector)
{
	APIC(APIC_ICR) = 0x40000 | vector;
}

static void pic_init(u8 mask)
{
	outb(0x20, 0x11);
	outb(0x21, 0x20);
	outb(0x21, 4);
	outb(0x21, 1);
	outb(0xa0, 0x11);
	outb(0xa1, 0x28);
	outb(0xa1, 2);
	outb(0xa1, 1);
	outb(0x21, mask);
	outb(0xa1, 0xff);
}

static void pit(u8 mode, u16 n)
{
	outb(0x43, 0x30 | mode << 1);
	outb(0x40, (u8)n);
	outb(0x40, (u8)(n >> 8));
}

/* Waits for n interrupts, halted or not. */
static void wait_for(unsigned n, bool halt)
{
	while (count < n)
		if (halt)
			__asm__ volatile("sti; hlt; cli" ::: "memory");
		else
			sti();
	cli();
}

static void legacy(void)
{
	pic = true;
	APIC(APIC_LVT0) = 0x700; /* ExtINT */
	pic_init(0xfe);
	pit(0, 1000);
	wait_for(1, true);
	told("8254 mode 0 by the 8259, halted");
	pit(0, 1000);
	wait_for(1, false);
	told("8254 mode 0 by the 8259, running");
	pit(2, 2000);
	wait_for(5, true);
	pit(0, 0xffff);
	outb(0x21, 0xff);
	count = 5;
	told("8254 mode 2");
	outb(0x21, 0xff);
	pic = false;
	APIC(APIC_LVT0) = 0x10700;
}

static void redirect(unsigned pin, u32 low)
{
	IOAPIC(0) = 0x11 + 2 * pin;
	IOAPIC(0x10) = 0;
	IOAPIC(0) = 0x10 + 2 * pin;
	IOAPIC(0x10) = low;
}

static void ioapic(void)
{
	redirect(2, 0x40); /* edge, pin of the 8254 */
	pit(0, 1000);
	wait_for(1, true);
	told("8254 by the I/O APIC");
	redirect(2, 0x10040);
	pit(0, 100);
	sti();
	for (int i = 0; i < 10000; i++)
		pause();
	cli();
	told("masked");
	IOAPIC(0) = 0x10 + 2 * 2;
	print("entry %x\n", IOAPIC(0x10));
}

static void priorities(void)
{
	cli();
	self(0x41);
	self(0x91);
	self(0x55);
	self(0x9f);
	sti();
	cli();
	told("by priority");
	APIC(APIC_TPR) = 0x50;
	self(0x41);
	self(0x55);
	self(0x66);
	sti();
	cli();
	told("TPR 50");
	print("IRR %x %x cr8 %lx\n", APIC(APIC_IRR + 0x20),
	      APIC(APIC_IRR + 0x10), read_cr8());
	write_cr8(4);
	print("TPR %x\n", APIC(APIC_TPR));
	sti();
	cli();
	told("cr8 4");
	write_cr8(0);
	sti();
	cli();
	told("cr8 0");
	self(0x70);
	self(0x70);
	sti();
	cli();
	told("twice the same");
}

/* Interrupts of higher classes nest, others wait for EOI. */
static bool nest(struct frame *f)
{
	order[count++ % 64] = (u8)f->vector;
	if (f->vector == 0x61) {
		self(0x62); /* same class: waits */
		self(0x71);
		sti();
		cli();
		order[count++ % 64] = 0xff;
	}
	APIC(APIC_EOI) = 0;
	return true;
}

static void nesting(void)
{
	for (unsigned v = 0x60; v < 0x80; v++)
		guest_handler[v] = nest;
	self(0x61);
	sti();
	cli();
	told("nested");
	for (unsigned v = 0x60; v < 0x80; v++)
		guest_handler[v] = note;
}

static void shadow(void)
{
	u64 a = 0, b = 0;

	self(0x80);
	__asm__ volatile("mov count, %%eax\n sti\n mov count, %%ecx\n"
			 "mov count, %%edx\n cli"
			 : "=c"(a), "=d"(b)
			 :
			 : "rax", "memory");
	print("after STI %u, then %u\n", (u32)a, (u32)b);
	count = 0;
	self(0x80);
	__asm__ volatile("sti\n cli\n mov count, %%ecx\n"
			 : "=c"(a)
			 :
			 : "memory");
	print("STI CLI: %u\n", (u32)a);
	__asm__ volatile("sti\n nop\n cli" ::: "memory");
	told("then");
	self(0x80);
	__asm__ volatile("sti\n mov %%ss, %%ecx\n mov %%ecx, %%ss\n"
			 "mov count, %%ecx\n cli\n nop"
			 : "=c"(a)
			 :
			 : "memory");
	count = 0;
	print("popf: ");
	self(0x80);
	__asm__ volatile("pushfq\n orl $0x200, (%%rsp)\n popfq\n nop\n cli" ::
				 : "memory");
	told("");
}

static void nmi(void)
{
	APIC(APIC_ICR) = 0x40000 | 4 << 8;
	told("NMI with interrupts off");
	APIC(APIC_ICR) = 0x44000; /* fixed, vector 0: illegal */
	APIC(APIC_ESR) = 0;
	unsure(); /* KVM does not count illegal vectors */
	print("ESR %x\n", APIC(APIC_ESR));
	APIC(APIC_ESR) = 0;
}

static void by_software(void)
{
	self(0x44);
	__asm__ volatile("int $0x46"); /* no EOI is due, none harms */
	told("INT with IF off");
	sti();
	cli();
	told("then the IPI");
	print("ISR %x SVR %x\n", APIC(APIC_ISR + 0x20), APIC(APIC_SVR));
}

int main(void)
{
	for (unsigned v = 0x20; v < 256; v++)
		guest_handler[v] = note;
	guest_handler[2] = note;
	APIC(APIC_SVR) = 0x1ff;
	APIC(APIC_TPR) = 0;
	legacy();
	ioapic();
	priorities();
	nesting();
	shadow();
	nmi();
	by_software();
	return 0;
}
