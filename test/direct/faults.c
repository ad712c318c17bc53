/* SPDX-License-Identifier: BSD-2-Clause */
/* Faults of user code: signal, code, address, vector, error code, place. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cases.h"

/* A snippet of code NAME; what faults in it is at its start + offset. */
#define CODE(name, text)                                                   \
	extern const u8 name[];                                            \
	__asm__(".pushsection .text\n.balign 16\n.globl " #name "\n" #name \
		":\n" text "\nret\n.popsection\n")

CODE(code_div, "xor %edx, %edx; mov $5, %eax; xor %ecx, %ecx; div %ecx");
CODE(code_idiv, "movabs $1 << 63, %rax; cqo; mov $-1, %rcx; idiv %rcx");
CODE(code_ud2, "nop; ud2");
CODE(code_ud_lock, ".byte 0xf0, 0x89, 0xc8");
CODE(code_ud_far, ".byte 0xea, 0, 0, 0, 0, 0, 0");
CODE(code_hlt, "nop; hlt");
CODE(code_cli, "cli");
CODE(code_in, "in $0x60, %al");
CODE(code_out, "out %al, $0x80");
CODE(code_rdmsr, "mov $0x10, %ecx; rdmsr");
CODE(code_cr, "mov %cr0, %rax");
CODE(code_dr, "mov %dr7, %rax");
CODE(code_lgdt, "lgdt -16(%rsp)");
CODE(code_wbinvd, "wbinvd");
CODE(code_read, "mov (%rax), %rcx");
CODE(code_write, "mov %rcx, (%rax)");
CODE(code_add, "lock addl $1, 2(%rax)");
CODE(code_jump, "jmp *%rax");
CODE(code_push, "mov %rsp, %rbp; mov %rax, %rsp; push %rcx; mov %rbp, %rsp");
CODE(code_int3, "nop; int3; nop");
CODE(code_int3_long, ".byte 0xcd, 3");
CODE(code_int1, ".byte 0xf1");
CODE(code_int4, "int $4");
CODE(code_int14, "int $14");
CODE(code_int21, "int $0x21");
CODE(code_movaps, "movaps %xmm0, 8(%rax)");
CODE(code_movdqa, "vmovdqa 16(%rax), %ymm1");
CODE(code_ac, "pushfq; orl $0x40000, (%rsp); popfq; movl 1(%rax), %ecx");
CODE(code_xm, "sub $8, %rsp; movl $0x1d80, (%rsp); ldmxcsr (%rsp);"
	      "pxor %xmm0, %xmm0; movl $1, %ecx; cvtsi2sd %ecx, %xmm1;"
	      "divsd %xmm0, %xmm1; add $8, %rsp");
CODE(code_mf, "sub $8, %rsp; movw $0x37b, (%rsp); fldcw (%rsp); fld1; fldz;"
	      "fdivrp; fwait; add $8, %rsp");
CODE(code_rep, "mov %rax, %rdi; mov %rbx, %rsi; mov $8192, %ecx; rep movsb");
CODE(code_rep_down, "std; mov %rax, %rdi; mov %rbx, %rsi; mov $8192, %ecx;"
		    "rep movsq; cld");
CODE(code_avx, "vmovdqu %ymm0, -16(%rax)");
CODE(code_gather, "vpcmpeqd %ymm2, %ymm2, %ymm2; vpxor %ymm1, %ymm1, %ymm1;"
		  "vpgatherdd %ymm2, (%rax, %ymm1), %ymm0");
CODE(code_step, "pushfq; orl $0x100, (%rsp); popfq; nop; nop");
CODE(code_step_call, "mov $39, %eax; pushfq; orl $0x100, (%rsp); popfq;"
		     "syscall; nop");

static u8 *data; /* a page to use, a page not to, a page to read */

enum where { NOWHERE, DATA, GUARD, READ_ONLY, BORDER, FAR, KERNEL, FILE_END };

static const struct fault {
	const char *name;
	const u8 *code;
	enum where a;
} faults[] = {
	{"div", code_div, NOWHERE},
	{"idiv", code_idiv, NOWHERE},
	{"ud2", code_ud2, NOWHERE},
	{"lock mov", code_ud_lock, NOWHERE},
	{"far jmp", code_ud_far, NOWHERE},
	{"hlt", code_hlt, NOWHERE},
	{"cli", code_cli, NOWHERE},
	{"in", code_in, NOWHERE},
	{"out", code_out, NOWHERE},
	{"rdmsr", code_rdmsr, NOWHERE},
	{"mov cr0", code_cr, NOWHERE},
	{"mov dr7", code_dr, NOWHERE},
	{"lgdt", code_lgdt, NOWHERE},
	{"wbinvd", code_wbinvd, NOWHERE},
	{"read 0", code_read, NOWHERE},
	{"write 0", code_write, NOWHERE},
	{"jump 0", code_jump, NOWHERE},
	{"read", code_read, GUARD},
	{"write", code_write, GUARD},
	{"jump", code_jump, GUARD},
	{"write read-only", code_write, READ_ONLY},
	{"add read-only", code_add, READ_ONLY},
	{"jump NX", code_jump, DATA},
	{"read across", code_read, BORDER},
	{"write across", code_write, BORDER},
	{"add across", code_add, BORDER},
	{"ymm across", code_avx, GUARD},
	{"gather", code_gather, GUARD},
	{"read non-canonical", code_read, FAR},
	{"jump non-canonical", code_jump, FAR},
	{"push non-canonical", code_push, FAR},
	{"read kernel", code_read, KERNEL},
	{"write kernel", code_write, KERNEL},
	{"jump kernel", code_jump, KERNEL},
	{"read behind file", code_read, FILE_END},
	{"int3", code_int3, NOWHERE},
	{"int 3", code_int3_long, NOWHERE},
	{"int1", code_int1, NOWHERE},
	{"int 4", code_int4, NOWHERE},
	{"int 14", code_int14, NOWHERE},
	{"int 0x21", code_int21, NOWHERE},
	{"movaps", code_movaps, DATA},
	{"vmovdqa", code_movdqa, DATA},
	{"alignment", code_ac, DATA},
	{"#XM", code_xm, NOWHERE},
	{"#MF", code_mf, NOWHERE},
	{"single step", code_step, NOWHERE},
	{"single step of a call", code_step_call, NOWHERE},
};

static void *file_end(void)
{
	int fd = open("/tmp/direct.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	void *p = mmap(NULL, 2 * PAGE, PROT_READ, MAP_SHARED, fd, 0);

	check(fd >= 0 && write(fd, "x", 1) == 1 && p != MAP_FAILED, "a file");
	close(fd);
	unlink("/tmp/direct.file");
	return (u8 *)p + PAGE;
}

static u64 place(enum where w)
{
	switch (w) {
	case DATA: return (u64)data;
	case GUARD: return (u64)data + PAGE;
	case READ_ONLY: return (u64)data + 2 * PAGE;
	case BORDER: return (u64)data + PAGE - 4;
	case FAR: return 0x8000000000000000u;
	case KERNEL: return 0xffffffff81000000u;
	case FILE_END: return (u64)file_end();
	default: return 0;
	}
}

static void prepare(void)
{
	data = pages(NULL, 3 * PAGE, PROT_READ | PROT_WRITE);
	mprotect(data + PAGE, PAGE, PROT_NONE);
	mprotect(data + 2 * PAGE, PAGE, PROT_READ);
	warm();
}

/* Of an address, what does not depend on where things are. */
static long relative(u64 addr, const u8 *code, u64 a)
{
	if (addr - (u64)code < 64)
		return (long)(addr - (u64)code);
	return addr - a < 4 * PAGE || a - addr < 4 * PAGE ? (long)(addr - a)
							  : -1;
}

static void say_caught(const char *what, const struct caught *c, const u8 *code,
		       u64 a)
{
	say("%s: signal %d code %d address %ld rip %ld trap %lu error %lu",
	    what, c->signo, c->code, relative(c->addr, code, a),
	    relative(c->rip, code, a), c->trap, c->error);
}

static void run_faults(void)
{
	prepare();
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned k = 0; k < ARRAY_LEN(faults); k++) {
			u64 a = place(faults[k].a);
			struct caught c;

			catch (&c, faults[k].code, a, 0);
			__asm__ volatile("fninit");
			say_caught(faults[k].name, &c, faults[k].code, a);
			check(c.signo, "a signal");
		}
	}
}

/* How far string instructions come before they fault. */
static void run_strings(void)
{
	u8 *to;
	struct caught c;

	prepare();
	to = pages(NULL, 4 * PAGE, PROT_READ | PROT_WRITE);
	mprotect(to, PAGE, PROT_NONE);
	mprotect(to + 3 * PAGE, PAGE, PROT_READ);
	catch (&c, code_rep, (u64)to + 2 * PAGE - 100, (u64)data);
	say("up: rcx %ld rsi %ld rdi %ld", c.rcx, c.rsi - (u64)data,
	    c.rdi - (u64)to);
	catch (&c, code_rep, (u64)to + 2 * PAGE + 1, (u64)to + PAGE);
	say("up: rcx %ld rsi %ld rdi %ld", c.rcx, c.rsi - (u64)to,
	    c.rdi - (u64)to);
	catch (&c, code_rep_down, (u64)to + 2 * PAGE, (u64)to + 3 * PAGE - 8);
	say("down: rcx %ld rsi %ld rdi %ld", c.rcx, c.rsi - (u64)to,
	    c.rdi - (u64)to);
}

/* The same place faults over and over and is mended each time. */
static void run_toggle(void)
{
	struct caught c;
	unsigned n = 0;

	prepare();
	for (unsigned k = 0; k < 300; k++) {
		mprotect(data, PAGE, k % 3 ? PROT_READ : PROT_NONE);
		catch (&c, k % 2 ? code_write : code_read, (u64)data, 0);
		n = n * 7 + (unsigned)c.signo + (unsigned)c.error;
		mprotect(data, PAGE, PROT_READ | PROT_WRITE);
		data[k] = (u8)k;
		catch (&c, code_write, (u64)data + 512, 0);
		check(!c.signo, "no fault where all is allowed");
	}
	say("%#x", n);
}

/* Code that is hot already meets alignment checks, and runs without again. */
static void run_alignment(void)
{
	volatile u64 sum = 0;
	struct caught c;

	prepare();
	for (unsigned k = 0; k < 100; k++) {
		catch (&c, code_ac, (u64)data, 0);
		check(c.signo == 7 && c.trap == 17, "an alignment fault");
		for (unsigned n = 0; n < 400; n++)
			sum += *(u32 *)(data + n);
	}
	say("%lu", sum);
}

const struct test_case fault_cases[] = {
	{"faults", run_faults},
	{"strings", run_strings},
	{"toggle", run_toggle},
	{"alignment", run_alignment},
	{0},
};
