/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Transfers of control: IRET in all modes, far JMP, CALL and RET, call gates,
 * task switches, SYSCALL, SYSENTER, real mode and VM86 interrupts.
 */
#include "cpu/soft/rig_test.h"

#define STOP "out %al, $0xf4\n 1: jmp 1b\n"

/* ---- 32-bit protected mode without paging ---- */

/* Notes vector and frame, then stops. */
CODE(note32, 32,
     "pusha\n"
     "mov $0x70000, %edi\n lea 32(%esp), %esi\n mov $14, %ecx\n"
     "push %ss\n pop %ds\n push %ss\n pop %es\n"
     "cld\n rep movsl\n"
     "mov %cs, %eax\n mov %eax, 0x70080\n"
     "mov %ss, %eax\n mov %eax, 0x70084\n"
     "lea 32(%esp), %eax\n mov %eax, 0x70088\n"
     "pushf\n pop %eax\n mov %eax, 0x7008c\n" STOP);

struct frame32 {
	u32 vector, error, eip, cs, eflags, esp, ss, es, ds, fs, gs, more[21];
	u32 now_cs, now_ss, now_esp, now_eflags;
};

enum {
	SEL_LDT = RIG_FREE,
	SEL_GATE = RIG_FREE + 8,
	SEL_TSS2 = RIG_FREE + 16,
	SEL_TASK_GATE = RIG_FREE + 24,
	SEL_CONFORMING = RIG_FREE + 32,
	SEL_TSS1 = RIG_FREE + 40,
};

static void put_desc(struct rig *r, u16 sel, u32 base, u32 limit, u32 attr)
{
	rig_put(r, RIG_GDT + (sel & ~7u),
		(limit & 0xffff) | (u64)(base & 0xffffff) << 16 |
			(u64)attr << 40 | (u64)(limit >> 16 & 15) << 48 |
			(u64)(base >> 24) << 56);
}

static void put_call_gate(struct rig *r, u16 sel, u16 code, u32 off,
			  unsigned params, unsigned attr)
{
	rig_put(r, RIG_GDT + (sel & ~7u),
		(off & 0xffff) | (u64)code << 16 | (u64)params << 32 |
			(u64)attr << 40 | (u64)(off >> 16) << 48);
}

static void protected_mode(struct rig *r)
{
	rig_gdt(r);
	for (unsigned n = 0; n < 64; n++) {
		gpa_t at = RIG_HANDLER + 16 * n, p = at;

		if (!rig_has_error_code(n)) {
			mem_write(&r->mem, p, "\x6a", 2);
			p += 2;
		}
		mem_write(&r->mem, p, "\x68", 1);
		rig_put32(r, p + 1, n);
		mem_write(&r->mem, p + 5, "\xe9", 1);
		rig_put32(r, p + 6, (u32)(RIG_HANDLER + 0x1000 - (p + 10)));
		rig_gate32(r, (u8)n, (u32)at, RIG_CS0_32, 0xee00);
	}
	RIG_CODE(r, RIG_HANDLER + 0x1000, note32);
	rig_put32(r, RIG_TSS + 4, RIG_STACK0);
	rig_put32(r, RIG_TSS + 8, RIG_DS0);
	rig_put32(r, RIG_TSS + 0x64, 0x680000);
	put_desc(r, SEL_TSS1, RIG_TSS, 0x67, 0x8b);
	r->s.idt.base = RIG_IDT;
	r->s.idt.limit = 0x7ff;
	rig_segments(r, rig_segment(RIG_CS0_32, 0xc09b, ~0u),
		     rig_segment(RIG_DS0, 0xc093, ~0u));
	r->s.tr.sel = SEL_TSS1;
	r->s.cr0 = CR0_PE | CR0_ET | CR0_NE;
	r->s.rip = RIG_CODE0;
	r->s.gpr[REG_SP] = RIG_STACK0 - 0x1000;
}

static void user32(struct rig *r)
{
	for (unsigned i = 0; i < 6; i++)
		r->s.seg[i] = rig_segment(RIG_DS3, 0xc0f3, ~0u);
	r->s.seg[SEG_CS] = rig_segment(RIG_CS3_32, 0xc0fb, ~0u);
	r->s.rip = RIG_CODE3;
	r->s.gpr[REG_SP] = RIG_STACK3;
}

static struct frame32 run32(struct rig *r)
{
	struct frame32 f;

	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_true(mem_read(&r->mem, RIG_FRAME, &f, sizeof(f)));
	return f;
}

static void test_int32(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	user32(r);
	BYTES(r, RIG_CODE3, "\xcd\x20");
	f = run32(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.eip, RIG_CODE3 + 2);
	assert_int_equal(f.cs, RIG_CS3_32);
	assert_int_equal(f.esp, RIG_STACK3);
	assert_int_equal(f.ss, RIG_DS3);
	assert_int_equal(f.now_ss, RIG_DS0);
	assert_int_equal(f.now_esp, RIG_STACK0 - 7 * 4);
	/* the TSS's stack segment is not writable data: #TS with it */
	protected_mode(r);
	rig_put32(r, RIG_TSS + 8, RIG_CS0_32);
	user32(r);
	assert_int_equal(rig_run(r), VCPU_EXIT_SHUTDOWN); /* #TS wants it too */
	assert_int_equal(r->v->sys->last[0].vector, VEC_TS);
	assert_int_equal(r->v->sys->last[0].error, RIG_CS0_32);
}

/* ---- IRET ---- */

CODE(iret_outer, 32,
     "push $0x23\n push $0x5f000\n push $0x40286\n push $0x1b\n"
     "push $0x30000\n iret\n");
CODE(user_pushes, 32,
     "pushf\n pop %eax\n mov %cs, %ebx\n mov %ds, %ecx\n"
     "mov %esp, %edx\n int $0x20\n");

static void test_iret_outer(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	RIG_CODE(r, RIG_CODE0, iret_outer);
	RIG_CODE(r, RIG_CODE3, user_pushes);
	f = run32(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.esp, 0x5f000);
	assert_int_equal(f.cs, 0x1b);
	/* AC and IF came, IOPL too: it was CPL 0 */
	assert_int_equal(f.eflags & ~0x10000u, 0x40286);
	assert_int_equal(r->s.gpr[REG_DX], 0x5f000);
}

CODE(iret_bad_cs, 32, "push $0x202\n push $0x10\n push $0x30000\n iret\n");
CODE(iret_lower, 32, "push $0x202\n push $0x30\n push $0x30000\n iret\n");

static void test_iret_bad(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	RIG_CODE(r, RIG_CODE0, iret_bad_cs);
	f = run32(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0x10);
	assert_int_equal(f.eip,
			 RIG_CODE0 + sizeof("\x68....\x6a.\x68....") - 1);
	/* from CPL 3 to CPL 0: no */
	protected_mode(r);
	user32(r);
	RIG_CODE(r, RIG_CODE3, iret_lower);
	f = run32(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0x30);
	assert_int_equal(f.now_esp, RIG_STACK0 - 7 * 4);
}

/* ---- VM86 ---- */

CODE(to_vm86, 32,
     "push $0x1111\n push $0x2222\n push $0x3333\n push $0x4444\n"
     "push $0x5000\n push $0xff0\n push $0x23202\n push $0x3000\n push $0x10\n"
     "iret\n");
CODE(vm86_code, 16, "mov %ds, %ax\n mov %cs, %bx\n int $0x21\n");

static void test_vm86(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	RIG_CODE(r, RIG_CODE0, to_vm86);
	RIG_CODE(r, 0x30010, vm86_code);
	f = run32(r);
	assert_int_equal(f.vector, 0x21);
	assert_int_equal(f.eip, 0x10 + 6);
	assert_int_equal(f.cs, 0x3000);
	assert_int_equal(f.eflags & RFLAGS_VM, RFLAGS_VM);
	assert_int_equal(f.esp, 0xff0);
	assert_int_equal(f.ss, 0x5000);
	assert_int_equal(f.es, 0x4444);
	assert_int_equal(f.ds, 0x3333);
	assert_int_equal(f.fs, 0x2222);
	assert_int_equal(f.gs, 0x1111);
	assert_int_equal(f.now_ss, RIG_DS0);
	/* without IOPL 3 INT is for the monitor */
	protected_mode(r);
	RIG_CODE(r, RIG_CODE0, to_vm86);
	rig_put32(r, RIG_CODE0 + 0x1f, 0x20202);
	f = run32(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0);
	assert_int_equal(f.eip, 0x10 + 4);
}

/* ---- Call gates ---- */

CODE(call_gate, 32,
     "push $0xaaaa\n push $0xbbbb\n lcall $0x63, $0xdeadbeef\n"
     "mov %esp, %edx\n mov $0x77, %al\n int $0x20\n");
CODE(gate_target, 32,
     "mov %esp, %ebp\n mov 8(%ebp), %ebx\n mov 12(%ebp), %ecx\n"
     "mov %cs, %esi\n lret $8\n");

static void test_call_gate(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	put_call_gate(r, SEL_GATE, RIG_CS0_32, RIG_CODE0, 2, 0xec);
	RIG_CODE(r, RIG_CODE0, gate_target);
	user32(r);
	RIG_CODE(r, RIG_CODE3, call_gate);
	f = run32(r);
	assert_int_equal(f.vector, 0x20);
	/* parameters were copied to the inner stack, and released from both */
	mem_read(&r->mem, f.now_esp - 32, &f.more, 32); /* PUSHA's */
	assert_int_equal(f.more[4], 0xbbbb);            /* EBX */
	assert_int_equal(f.more[6], 0xaaaa);            /* ECX */
	assert_int_equal(f.more[1], RIG_CS0_32);        /* ESI */
	assert_int_equal(f.esp, RIG_STACK3);
	assert_int_equal(f.more[5], RIG_STACK3);         /* EDX */
	assert_int_equal(f.more[2], RIG_STACK0 - 6 * 4); /* EBP */
	assert_int_equal(f.cs, RIG_CS3_32);
	/* a gate of DPL 0 cannot be called from CPL 3 */
	put_call_gate(r, SEL_GATE, RIG_CS0_32, RIG_CODE0, 2, 0x8c);
	user32(r);
	f = run32(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, SEL_GATE);
	/* not present */
	put_call_gate(r, SEL_GATE, RIG_CS0_32, RIG_CODE0, 2, 0x6c);
	user32(r);
	f = run32(r);
	assert_int_equal(f.vector, VEC_NP);
	assert_int_equal(f.error, SEL_GATE);
}

CODE(jump_conforming, 32, "ljmp $0x78, $0x20000\n");
CODE(conforming_code, 32, "mov %cs, %eax\n int $0x20\n");

static void test_conforming(void **state)
{
	struct rig *r = *state;
	struct frame32 f;

	protected_mode(r);
	put_desc(r, SEL_CONFORMING, 0, 0xfffff, 0x9f);
	rig_put(r, RIG_GDT + SEL_CONFORMING,
		rig_get(r, RIG_GDT + SEL_CONFORMING) | 0x00c0ull << 48);
	user32(r);
	RIG_CODE(r, RIG_CODE3, jump_conforming);
	RIG_CODE(r, RIG_CODE0, conforming_code);
	f = run32(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.cs, SEL_CONFORMING | 3);
	assert_int_equal(f.eip, RIG_CODE0 + 4);
	/* a non-conforming one of DPL 0 is out of reach */
	put_desc(r, SEL_CONFORMING, 0, 0xfffff, 0x9b);
	user32(r);
	f = run32(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, SEL_CONFORMING);
}

/* ---- Tasks ---- */

#define TSS2 0x4000

static void second_task(struct rig *r)
{
	rig_put(r, TSS2 + 0x00, 0);
	rig_put32(r, TSS2 + 4, RIG_STACK0);
	rig_put32(r, TSS2 + 8, RIG_DS0);
	rig_put32(r, TSS2 + 0x1c, 0);
	rig_put32(r, TSS2 + 0x20, 0x38000); /* EIP */
	rig_put32(r, TSS2 + 0x24, 0x2);
	rig_put32(r, TSS2 + 0x28, 0x12345); /* EAX */
	rig_put32(r, TSS2 + 0x38, 0x5a000); /* ESP */
	for (unsigned i = 0; i < 6; i++)
		rig_put32(r, TSS2 + 0x48 + 4 * i, RIG_DS0);
	rig_put32(r, TSS2 + 0x4c, RIG_CS0_32);
	rig_put(r, TSS2 + 0x60, 0);
	put_desc(r, SEL_TSS2, TSS2, 0x67, 0x89);
	rig_put(r, RIG_GDT + SEL_TASK_GATE,
		(u64)SEL_TSS2 << 16 | 0xe5ull << 40);
}

CODE(call_task, 32,
     "mov $0x1357, %ecx\n lcall $0x68, $0\n mov %eax, %ebx\n" STOP);
CODE(task_code, 32,
     "mov %eax, 0x70100\n mov %ecx, 0x70104\n str %eax\n mov %eax, 0x70108\n"
     "pushf\n pop 0x7010c\n iret\n");

static void test_task_call(void **state)
{
	struct rig *r = *state;

	protected_mode(r);
	second_task(r);
	r->s.gpr[REG_AX] = 0x2468;
	RIG_CODE(r, RIG_CODE0, call_task);
	RIG_CODE(r, 0x38000, task_code);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal((u32)rig_get(r, 0x70100), 0x12345);
	assert_int_equal((u32)rig_get(r, 0x70104), 0);
	assert_int_equal((u32)rig_get(r, 0x70108), SEL_TSS2);
	assert_int_equal((u32)rig_get(r, 0x7010c) & RFLAGS_NT, RFLAGS_NT);
	assert_int_equal(rig_get(r, TSS2) & 0xffff, SEL_TSS1);
	/* back again, with the first task's registers */
	assert_int_equal(r->s.tr.sel, SEL_TSS1);
	assert_int_equal(r->s.gpr[REG_BX], 0x2468);
	assert_int_equal(r->s.gpr[REG_CX], 0x1357);
	assert_true(r->s.cr0 & CR0_TS);
	assert_false(r->s.rflags & RFLAGS_NT);
	/* busy bits: the second is free, the first busy */
	assert_int_equal(rig_get(r, RIG_GDT + SEL_TSS2) >> 40 & 15, 9);
	assert_int_equal(rig_get(r, RIG_GDT + SEL_TSS1) >> 40 & 15, 11);
	assert_int_equal((u32)rig_get(r, TSS2 + 0x20),
			 0x38000 + (u32)((uintptr_t)task_code_end -
					 (uintptr_t)task_code));
}

CODE(df_task, 32, "pop %eax\n mov %eax, 0x70100\n str %ebx\n" STOP);

static void test_double_fault_task(void **state)
{
	struct rig *r = *state;

	protected_mode(r);
	second_task(r);
	rig_gate32(r, VEC_DF, 0, SEL_TASK_GATE, 0);
	rig_put(r, RIG_IDT + 8 * VEC_DF, (u64)SEL_TSS2 << 16 | 0x85ull << 40);
	rig_gate32(r, VEC_GP, 0, 0, 0);
	rig_put32(r, 0x70100, 0xffff);
	BYTES(r, RIG_CODE0, "\xcd\xff"); /* INT 0xff: no such gate */
	RIG_CODE(r, 0x38000, df_task);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal((u32)rig_get(r, 0x70100), 0); /* error code */
	assert_int_equal(r->s.gpr[REG_BX], SEL_TSS2);
	assert_int_equal((u32)rig_get(r, RIG_TSS + 0x20), RIG_CODE0);
}

/* ---- 64-bit mode ---- */

CODE(syscall_user, 64, "mov $7, %ebx\n syscall\n inc %ebx\n int $0x20\n");
CODE(syscall_kernel, 64,
     "mov %rcx, %r12\n mov %r11, %r13\n pushfq\n pop %r14\n mov %cs, %r15d\n"
     "sysretq\n");

static void test_syscall(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_gate64(r, 0x20, RIG_HANDLER + 16 * 0x20, RIG_CS0_64, 0xee00);
	rig_user(r);
	r->s.star = (u64)RIG_CS0_64 << 32 | (u64)(RIG_CS3_32 & ~3) << 48;
	r->s.lstar = RIG_CODE0;
	r->s.sfmask = RFLAGS_IF | RFLAGS_DF;
	r->s.rflags |= RFLAGS_IF | RFLAGS_DF | RFLAGS_CF;
	RIG_CODE(r, RIG_CODE3, syscall_user);
	RIG_CODE(r, RIG_CODE0, syscall_kernel);
	f = rig_frame(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.cs, RIG_CS3_64);
	assert_int_equal(f.ss, RIG_DS3);
	assert_int_equal(r->s.gpr[REG_BX], 8);
	assert_int_equal(r->s.gpr[12], RIG_CODE3 + 7);
	assert_int_equal(r->s.gpr[13], 0x603);
	assert_int_equal(r->s.gpr[14], 0x003);
	assert_int_equal(r->s.gpr[15], RIG_CS0_64);
	assert_int_equal(f.rflags & (RFLAGS_IF | RFLAGS_DF),
			 RFLAGS_IF | RFLAGS_DF);
	/* without EFER.SCE */
	rig_user(r);
	r->s.efer &= ~EFER_SCE;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_UD);
	/* SYSRET to a non-canonical address faults before it changes CPL */
	rig_long_mode(r);
	BYTES(r, RIG_CODE0, "\x48\x0f\x07");
	r->s.gpr[REG_CX] = 0x800000000000;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.cs, RIG_CS0_64);
	assert_int_equal(f.rsp, RIG_STACK0 - 0x1000);
}

CODE(sysenter_user, 64, "sysenter\n");
CODE(sysenter_kernel, 64,
     "mov %rsp, %rbx\n mov $0x30100, %edx\n mov $0x5f000, %ecx\n sysexit\n");
CODE(sysexit_user, 32, "mov %esp, %ebp\n int $0x20\n");

static void test_sysenter(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_gate64(r, 0x20, RIG_HANDLER + 16 * 0x20, RIG_CS0_64, 0xee00);
	rig_user(r);
	r->s.sysenter_cs = RIG_CS0_64;
	r->s.sysenter_esp = RIG_STACK0 - 0x100;
	r->s.sysenter_eip = RIG_CODE0;
	RIG_CODE(r, RIG_CODE3, sysenter_user);
	RIG_CODE(r, RIG_CODE0, sysenter_kernel);
	RIG_CODE(r, 0x30100, sysexit_user);
	f = rig_frame(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.cs, RIG_CS0_64 + 16 + 3);
	assert_int_equal(f.ss, RIG_CS0_64 + 24 + 3);
	assert_int_equal(f.rip, 0x30104);
	assert_int_equal(r->s.gpr[REG_BX], RIG_STACK0 - 0x100);
	assert_int_equal(r->s.gpr[REG_BP], 0x5f000);
	rig_user(r);
	r->s.sysenter_cs = 3;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
}

/* IRETQ to a null SS at CPL 0, allowed; to CPL 3 with null SS, not. */
CODE(iretq_null_ss, 64,
     "push $0\n push $0x58000\n push $2\n push $8\n push $0x20100\n iretq\n");
CODE(iretq_landed, 64, "mov %ss, %ebx\n mov %rsp, %rcx\n" STOP);
CODE(iretq_null_ss3, 64,
     "push $0\n push $0x58000\n push $2\n push $0x2b\n push $0x20100\n"
     "iretq\n");

static void test_iretq(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	RIG_CODE(r, RIG_CODE0, iretq_null_ss);
	RIG_CODE(r, RIG_CODE0 + 0x100, iretq_landed);
	r->s.gpr[REG_BX] = 99;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->s.gpr[REG_BX], 0);
	assert_int_equal(r->s.gpr[REG_CX], 0x58000);
	rig_long_mode(r);
	RIG_CODE(r, RIG_CODE0, iretq_null_ss3);
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.error, 0);
	/* NT in IA-32e mode */
	rig_long_mode(r);
	RIG_CODE(r, RIG_CODE0, iretq_null_ss);
	r->s.rflags |= RFLAGS_NT;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
}

/* To compatibility mode and back through a 64-bit call gate. */
CODE(to_compat, 64,
     "push $0x23\n push $0x5f000\n push $2\n push $0x1b\n push $0x30000\n"
     "iretq\n");
CODE(compat_code, 32,
     "push %ebx\n mov %esp, %ecx\n lcall $0x5b, $0\n int $0x20\n");
CODE(gate64_target, 64,
     "mov %rsp, %r12\n mov (%rsp), %r13\n mov 8(%rsp), %r14\n"
     "mov 24(%rsp), %r15\n rex.w lret\n");

static void test_call_gate64(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_gate64(r, 0x20, RIG_HANDLER + 16 * 0x20, RIG_CS0_64, 0xee00);
	put_call_gate(r, RIG_FREE, RIG_CS0_64, 0x28000, 0, 0xec);
	rig_put(r, RIG_GDT + RIG_FREE + 8, 0);
	RIG_CODE(r, RIG_CODE0, to_compat);
	RIG_CODE(r, RIG_CODE3, compat_code);
	RIG_CODE(r, 0x28000, gate64_target);
	f = rig_frame(r);
	assert_int_equal(f.vector, 0x20);
	assert_int_equal(f.cs, RIG_CS3_32);
	assert_int_equal(f.rsp, 0x5f000 - 4);
	assert_int_equal(r->s.gpr[REG_CX], 0x5f000 - 4);
	assert_int_equal(r->s.gpr[12], RIG_STACK0 - 32);
	assert_int_equal(r->s.gpr[13], RIG_CODE3 + 10);
	assert_int_equal(r->s.gpr[14], RIG_CS3_32);
	assert_int_equal(r->s.gpr[15], RIG_DS3);
}

/* ---- Real mode ---- */

CODE(real_int, 16, "sti\n mov $0x1234, %ax\n int $0x21\n mov %ax, %bx\n" STOP);
CODE(real_handler, 16,
     "pushf\n pop %cx\n mov %sp, %bp\n mov 4(%bp), %dx\n"
     "mov $0x5678, %ax\n iret\n");

static void test_real_int(void **state)
{
	struct rig *r = *state;

	rig_put32(r, 0x21 * 4, 0x00100800); /* 0010:0800 */
	RIG_CODE(r, 0x8000, real_int);
	RIG_CODE(r, 0x900, real_handler);
	r->s.seg[SEG_CS].base = 0x8000;
	r->s.seg[SEG_CS].sel = 0x800;
	r->s.rip = 0;
	r->s.gpr[REG_SP] = 0x7000;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->s.gpr[REG_BX] & 0xffff, 0x5678);
	assert_int_equal(r->s.gpr[REG_CX] & 0xffff & RFLAGS_IF, 0);
	assert_int_equal(r->s.gpr[REG_DX] & RFLAGS_IF, RFLAGS_IF);
	assert_int_equal(r->s.gpr[REG_SP], 0x7000);
	assert_int_equal(r->s.seg[SEG_CS].sel, 0x800);
	assert_int_equal(r->s.rflags & RFLAGS_IF, RFLAGS_IF);
}

/* Big real mode: limits of protected mode stay. */
CODE(unreal, 16,
     "lgdt %cs:gdtr_un - unreal\n"
     "mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n"
     "mov $0x10, %bx\n mov %bx, %ds\n"
     "and $0xfe, %al\n mov %eax, %cr0\n"
     "xor %bx, %bx\n mov %bx, %ds\n"
     "mov $0x300000, %ebx\n addr32 movl $0x600dda7a, (%ebx)\n" STOP
     "gdtr_un: .word 0xfff\n .long 0x1000\n");

static void test_unreal(void **state)
{
	struct rig *r = *state;

	rig_gdt(r);
	RIG_CODE(r, 0x8000, unreal);
	r->s.seg[SEG_CS].base = 0x8000;
	r->s.seg[SEG_CS].sel = 0x800;
	r->s.rip = 0;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal((u32)rig_get(r, 0x300000), 0x600dda7a);
	assert_int_equal(r->s.seg[SEG_DS].limit, 0xffffffff);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(test_int32),     T(test_iret_outer),
		T(test_iret_bad),  T(test_vm86),
		T(test_call_gate), T(test_conforming),
		T(test_task_call), T(test_double_fault_task),
		T(test_syscall),   T(test_sysenter),
		T(test_iretq),     T(test_call_gate64),
		T(test_real_int),  T(test_unreal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
