/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every exception that a program can bring about: vector, error code, CR2,
 * where RIP points, from CPL 0 and CPL 3, through IST and interrupt gates of
 * all privileges.
 */
#include "lib/guest.h"

#define NONCANONICAL 0x8000000000000000ull

static u16 selectors[4];
static u8 fxarea[512] __attribute__((aligned(16)));

static void divide(void)
{
	SHOW("idivl %%ecx", "c"(0), "d"(0));
	SHOW("idivl %%ecx", "c"(1), "d"(0x7fffffff));
}

static void traps(void)
{
	SHOW("int3");
	SHOW("int $3");
	SHOW("int $4");
	SHOW("int $0x80");
	unsure();
	SHOW(".byte 0xf1"); /* ICEBP */
}

static void undefined(void)
{
	SHOW("ud2");
	SHOW(".byte 0x0f, 0xff, 0xc0"); /* UD0 */
	SHOW(".byte 0x06");             /* PUSH ES */
	SHOW(".byte 0x0f, 0x0b");
	SHOW(".byte 0xf0, 0x90"); /* LOCK NOP */
	SHOW(".byte 0xf0, 0x8b, 0x07", "D"(selectors));
	SHOW(".byte 0x0f, 0x20, 0xc8"); /* MOV EAX, CR1 */
}

static void protection(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} idtr = {0x7f, 0};

	SHOW("mov (%%rdi), %%al", "D"(NONCANONICAL));
	SHOW("mov %%al, (%%rdi)", "D"(NONCANONICAL));
	SHOW("push (%%rdi)", "D"(NONCANONICAL));
	unsure();
	SHOW("jmp *%%rdi", "D"(NONCANONICAL));
	SHOW("mov %%ecx, %%ds", "c"(0x100));
	SHOW("mov %%ecx, %%ds", "c"(0x104));
	SHOW("mov %%ecx, %%ss", "c"(0));
	SHOW("mov %%ecx, %%ss", "c"(SEL_DATA));
	SHOW("mov %%ecx, %%ss", "c"(SEL_CODE));
	SHOW("mov %%ecx, %%ss", "c"(SEL_UDATA));
	SHOW("mov %%ecx, %%fs", "c"(SEL_TSS));
	SHOW("lldt %%cx", "c"(SEL_DATA));
	SHOW("ltr %%cx", "c"(SEL_TSS)); /* busy */
	SHOW("wrmsr", "c"(0xc0000080), "d"(~0u));
	SHOW("rdmsr", "c"(0xdeadbeef));
	SHOW("mov %%rcx, %%cr0", "c"(0x80000000)); /* PG without PE */
	SHOW("mov %%rcx, %%cr4", "c"(0));          /* no PAE */
	unsure();
	SHOW("mov %%rcx, %%cr8", "c"(16));
	SHOW("mov %%rcx, %%dr7", "c"(1ull << 32));
	unsure();
	SHOW("xsetbv", "c"(0), "d"(0));
	SHOW("movaps (%%rdi), %%xmm0", "D"(fxarea + 8));
	SHOW("fxsave (%%rdi)", "D"(fxarea + 8));
	SHOW("cmpxchg16b (%%rdi)", "D"(fxarea + 8));
	__asm__ volatile("sidt %0" : "=m"(idtr));
	idtr.limit = 0x90 * 16 - 1;
	__asm__ volatile("lidt %0" : : "m"(idtr));
	SHOW("int $0x90");
	idt_load();
	idt_set(0x91, trap_stubs[0x91], SEL_CODE, 0x0e, 0); /* not present */
	SHOW("int $0x91");
	idt_set(0x91, trap_stubs[0x91], SEL_DATA, 0x8e, 0);
	SHOW("int $0x91");
	idt_set(0x91, trap_stubs[0x91], 0x100, 0x8e, 0);
	SHOW("int $0x91");
	idt_set(0x91, trap_stubs[0x91], SEL_CODE, 0x85, 0); /* task gate */
	SHOW("int $0x91");
	idt_set(0x91, NONCANONICAL, SEL_CODE, 0x8e, 0);
	unsure();
	SHOW("int $0x91");
	SHOW(".fill 14, 1, 0x66\n .byte 0x90");
	SHOW(".fill 15, 1, 0x66\n .byte 0x90"); /* 16 bytes */
}

static void segments(void)
{
	u8 zero;

	gdt[SEL_FREE / 8] = 0x00cf13000000ffff; /* data, not present */
	SHOW("mov %%ecx, %%ds", "c"(SEL_FREE));
	SHOW("mov %%ecx, %%ss", "c"(SEL_FREE));
	gdt[SEL_FREE / 8] = 0x00af1b000000ffff; /* code, not present */
	SHOW_AT("push %%rcx\n push $0\n 1: lretq", "c"(SEL_FREE));
	gdt[SEL_FREE / 8] = 0;
	SHOW("mov %%ecx, %%gs", "c"(SEL_FREE)); /* type 0, system */
	__asm__ volatile("verr %w1\n setz %0" : "=q"(zero) : "r"(SEL_FREE));
	print("verr of an empty descriptor: ZF %u\n", zero);
}

static void floating(void)
{
	static const double one = 1, zero;
	u32 mxcsr = 0x1f80 & ~0x200u; /* divide by zero unmasked */
	u16 cw = 0x37f & ~4u;

	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	unsure();
	SHOW_AT("movsd (%%rsi), %%xmm0\n 1: divsd (%%rdi), %%xmm0", "S"(&one),
		"D"(&zero));
	mxcsr = 0x1f80;
	__asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
	__asm__ volatile("fninit; fldcw %0" : : "m"(cw));
	SHOW_AT("fldl (%%rsi)\n fdivl (%%rdi)\n 1: fwait", "S"(&one),
		"D"(&zero));
	__asm__ volatile("fninit");
	write_cr0(read_cr0() | 8); /* TS */
	SHOW("fnop");
	SHOW("addps %%xmm0, %%xmm0");
	SHOW("fwait");
	write_cr0((read_cr0() & ~8ull) | 4); /* EM */
	SHOW("fnop");
	SHOW("addps %%xmm0, %%xmm0");
	SHOW("fwait");
	write_cr0(read_cr0() & ~4ull);
	write_cr4(read_cr4() & ~0x200ull);
	SHOW("addps %%xmm0, %%xmm0");
	write_cr4(read_cr4() | 0x200);
}

/* A stack that is not there: the #PF or #SS of it cannot be delivered. */
static void double_fault(void)
{
	idt_set(8, trap_stubs[8], SEL_CODE, 0x8e, 1);
	SHOW_AT("mov %%rdi, %%rsp\n 1: push %%rax", "D"(NONCANONICAL));
}

/* ---- CPL 3 ---- */

#define USER(name, text)                            \
	__asm__(".text\nuser_" #name ": " text "\n" \
		"mov $0x1234, %eax\n syscall\n");   \
	extern const u8 user_##name[];
USER(nothing, "nop")
USER(cli, "cli")
USER(hlt, "hlt")
USER(in, "in $0x80, %al")
USER(cr0, "mov %cr0, %rax")
USER(cr8, "mov %cr8, %rax")
USER(wrmsr, "wrmsr")
USER(lgdt, "lgdt (%rsp)")
USER(invlpg, "invlpg (%rsp)")
USER(swapgs, "swapgs")
USER(int3, "int3")
USER(int80, "int $0x80")
USER(int81, "int $0x81")
USER(ud2, "ud2")
USER(kernel, "mov 0x100000, %eax")
USER(kernel_write, "movl %eax, 0x100000")
USER(kernel_jump, "mov $0x100000, %eax\n jmp *%rax")
USER(align, "mov 1(%rsp), %eax")
USER(noncanonical, "mov $1, %rax\n ror $1, %rax\n mov (%rax), %eax")
USER(stack, "mov $1, %rax\n ror $1, %rax\n mov %rax, %rsp\n push %rax")
USER(far, "push $8\n push $0\n lretq")
USER(ring, "mov $0x10, %eax\n mov %eax, %ss")
USER(null_ss, "xor %eax, %eax\n mov %eax, %ss")
USER(null_ds, "xor %eax, %eax\n mov %eax, %ds")
USER(popf, "pushq $0x3202\n popfq\n pushfq\n pop %rax\n syscall")
USER(iret, "pushq $0x2b\n push %rsp\n pushq $2\n pushq $8\n pushq $0\n iretq")
USER(sysexit, "sysexitl")
USER(sysret, "sysretq")
USER(div, "xor %ecx, %ecx\n div %ecx")

static void user(const char *name, const void *code, u64 flags)
{
	user_run(code, flags, SEL_UCODE);
	if (user_by_syscall) {
		print("%s: system call, rax %lx\n", name, user_saved_rax);
		return;
	}
	show(name);
}
#define U(name) user("user " #name, user_##name, 0x200)

static void user_mode(void)
{
	idt_set(0x81, trap_stubs[0x81], SEL_CODE, 0xee, 0); /* DPL 3 */
	U(nothing);
	U(cli);
	U(hlt);
	U(in);
	U(cr0);
	U(cr8);
	U(wrmsr);
	U(lgdt);
	U(invlpg);
	U(swapgs);
	/* Without NRIPS KVM skips the instruction before it injects. */
	unsure();
	U(int3);
	unsure();
	U(int80);
	U(int81);
	U(ud2);
	U(kernel);
	U(kernel_write);
	U(kernel_jump);
	U(noncanonical);
	unsure();
	U(stack);
	U(far);
	U(ring);
	U(null_ss);
	U(null_ds);
	U(popf);
	U(iret);
	U(sysexit);
	U(sysret);
	U(div);
	U(align);
	write_cr0(read_cr0() | 1 << 18); /* AM */
	user("user cli, IOPL 3", user_cli, 0x3200);
	user("user popf, IOPL 3", user_popf, 0x3200);
	idt_set(3, trap_stubs[3], SEL_CODE, 0xee, 0);
	U(int3);
	idt_set(6, trap_stubs[6], SEL_CODE, 0x8e, 1);
	U(ud2);
	print("on IST 1: %d\n", fault.vector == 6);
}

int main(void)
{
	divide();
	traps();
	undefined();
	protection();
	segments();
	floating();
	double_fault();
	user_mode();
	return 0;
}
