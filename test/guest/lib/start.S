/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Entry of a guest program: by PVH in 32-bit protected mode, on to long mode
 * with the first 4 GiB mapped one to one, and the same again for user mode at
 * USER_BASE (PML4 entry 1). Also the start of other processors, the stubs of
 * the 256 vectors, and the way to user mode and back.
 */
#define STACK 16384

	.section .note.Xen, "a", @note
	.long 4, 4, 18
	.asciz "Xen"
	.long start32

	.section .text.start, "ax"
	.code32
	.globl start32
start32:
	cld
	mov	%ebx, boot_info
	mov	$boot_stack + STACK, %esp
	/* PML4 -> two PDPTs -> four PDs each, 2 MiB pages */
	movl	$pdpt + 7, pml4
	movl	$pdpt_user + 7, pml4 + 8
	xor	%ecx, %ecx
1:	mov	%ecx, %eax
	shl	$12, %eax
	lea	pd + 7(%eax), %edx
	mov	%edx, pdpt(, %ecx, 8)
	lea	pd_user + 7(%eax), %edx
	mov	%edx, pdpt_user(, %ecx, 8)
	inc	%ecx
	cmp	$4, %ecx
	jb	1b
	xor	%ecx, %ecx
2:	mov	%ecx, %eax
	shl	$21, %eax
	lea	0x83(%eax), %edx		/* P W PS */
	mov	%edx, pd(, %ecx, 8)
	lea	0x87(%eax), %edx		/* and U */
	mov	%edx, pd_user(, %ecx, 8)
	inc	%ecx
	cmp	$2048, %ecx
	jb	2b
	call	long_mode
	ljmp	$8, $start64

/* Switches on PAE, NX, long mode, paging; SSE. */
	.globl	long_mode
long_mode:
	mov	$0x620, %eax			/* PAE OSFXSR OSXMMEXCPT */
	mov	%eax, %cr4
	mov	$pml4, %eax
	mov	%eax, %cr3
	mov	$0xc0000080, %ecx
	rdmsr
	or	$0x901, %eax			/* SCE LME NXE */
	wrmsr
	mov	$0x80010033, %eax		/* PG WP NE ET MP PE */
	mov	%eax, %cr0
	lgdt	gdt_ptr
	ret

	.code64
start64:
	call	load_segments
	mov	$boot_stack + STACK, %rsp
	call	guest_start
	ud2

load_segments:
	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	%eax, %fs
	mov	%eax, %gs
	ret

/* ---- other processors: copied to AP_START, entered by SIPI ---- */
	.globl	ap_code, ap_code_end
	.code16
ap_code:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	0x8000 + ap_gdt_ptr - ap_code
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$0x18, $ap32
ap_gdt_ptr:
	.word	gdt_end - gdt - 1
	.long	gdt
ap_code_end:

	.code32
ap32:	mov	$0x10, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%eax, %ss
	mov	$1, %ebx
	lock xadd %ebx, ap_count		/* its number from 1 */
	mov	%ebx, %eax
	inc	%eax
	imul	$STACK, %eax, %esp
	add	$ap_stacks - STACK, %esp
	call	long_mode
	ljmp	$8, $ap64
	.code64
ap64:	call	load_segments
	mov	%ebx, %edi
	call	guest_ap_start
1:	cli
	hlt
	jmp	1b

/* ---- exceptions and interrupts ---- */
	.altmacro
	.macro	STUB n
stub_\n:
	.if	\n <> 8 && (\n < 10 || \n > 14) && \n <> 17 && \n <> 21
	push	$0
	.endif
	push	$\n
	jmp	trap_common
	.section .rodata
	.quad	stub_\n
	.text
	.endm
	.section .rodata
	.globl	trap_stubs
	.balign	8
trap_stubs:
	.text
	.set	i, 0
	.rept	256
	STUB	%i
	.set	i, i + 1
	.endr

	.macro	REGS op, r:vararg
	.irp	reg, \r
	\op	%\reg
	.endr
	.endm
trap_common:
	REGS	push, rax, rcx, rdx, rbx, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15
	cld
	mov	%rsp, %rdi
	call	guest_trap
	REGS	pop, r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax
	add	$16, %rsp
	iretq

/*
 * void user_enter(u64 rip, u64 rsp, u64 cs, u64 ss, u64 rflags): goes to CPL 3.
 * Whatever brings it back (guest_trap, system call) jumps to user_leave.
 */
	.globl	user_enter, user_leave, user_syscall, user_syscall_return
user_enter:
	REGS	push, rbx, rbp, r12, r13, r14, r15
	mov	%rsp, user_kernel_rsp
	push	%rcx
	push	%rsi
	push	%r8
	push	%rdx
	push	%rdi
	mov	user_rax, %rax
	iretq
user_syscall:
	mov	%rsp, user_saved_rsp
	mov	%rax, user_saved_rax
	mov	%rcx, user_saved_rcx
	mov	%r11, user_saved_r11
	movq	$1, user_by_syscall
user_leave:
	mov	user_kernel_rsp, %rsp
	mov	$0x10, %eax
	mov	%eax, %ss
	REGS	pop, r15, r14, r13, r12, rbp, rbx
	cld
	ret

	.data
	.balign	16
	.globl	gdt, gdt_end, tss
gdt:	.quad	0
	.quad	0x00af9b000000ffff		/* 08 code, 64 bits */
	.quad	0x00cf93000000ffff		/* 10 data */
	.quad	0x00cf9b000000ffff		/* 18 code, 32 bits */
	.quad	0x00cffb000000ffff		/* 20 user code, 32 bits */
	.quad	0x00cff3000000ffff		/* 28 user data */
	.quad	0x00affb000000ffff		/* 30 user code, 64 bits */
	.quad	0x00009b000000ffff		/* 38 code, 16 bits */
	.quad	0x000093000000ffff		/* 40 data, 16 bits */
	.quad	0, 0				/* 48 TSS, by guest_start */
	.quad	0, 0				/* 58 free for programs */
	.quad	0, 0
	.quad	0, 0
gdt_end:
gdt_ptr: .word	gdt_end - gdt - 1
	.quad	gdt
	.globl	boot_info, ap_count
boot_info: .long 0
ap_count: .long 1

	.bss
	.balign	4096
	.globl	pml4, pdpt, pd, pdpt_user, pd_user, ap_stacks, user_rax
	.globl	user_kernel_rsp, user_saved_rsp, user_saved_rax
	.globl	user_saved_rcx, user_saved_r11, user_by_syscall
pml4:	.skip	4096
pdpt:	.skip	4096
pdpt_user: .skip 4096
pd:	.skip	4096 * 4
pd_user: .skip	4096 * 4
boot_stack: .skip STACK
ap_stacks: .skip STACK * 64
user_kernel_rsp: .quad 0
user_saved_rsp: .quad 0
user_saved_rax: .quad 0
user_saved_rcx: .quad 0
user_saved_r11: .quad 0
user_by_syscall: .quad 0
user_rax: .quad 0

	.section .note.GNU-stack, "", @progbits
