/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The translator against the interpreter: the same guest programs, hot enough
 * to be translated, end in the same state. The opcode table is covered row by
 * row elsewhere; here it is control flow, flags across blocks, memory, faults
 * and code that changes.
 */
#define _GNU_SOURCE
#include "cpu/soft/rig_test.h"

#include "cpu/jit/jit.h"
#include "cpu/jit/jit_priv.h"
#include "cpu/jit/lockstep.h"
#include "cpu/jit/space.h"

#define CODE_AT 0x20000

/* Small, so that tests can fill it. */
#define CODE_CACHE MIB

static struct rig *rig_make(bool jit, bool lockstep)
{
	struct engine_config c = {.ops = &rig_ops,
				  .cpus = 1,
				  .code_cache = CODE_CACHE,
				  .lockstep = lockstep ? ~0u : 0};
	struct rig *r = calloc(1, sizeof(*r));
	struct err e = {""};

	c.machine = r;
	c.mem = &r->mem;
	c.translator = jit ? &jit_translator : NULL;
	assert_int_equal(mem_init(&r->mem, RIG_MEM, &e), 0);
	assert_int_equal(mem_add_slot(&r->mem, 0, RIG_MEM, 0, false, &e), 0);
	c.apics = r->bus = apic_bus_new(NULL, NULL);
	r->g = soft_engine.new(&c, &e);
	r->vc = soft_engine.vcpu_new(r->g, 0, &e);
	assert_non_null(r->vc);
	r->v = container_of(r->vc, struct soft_vcpu, vcpu);
	if (jit)
		assert_non_null(r->v->jit);
	cpu_state_reset(&r->s, 0);
	return r;
}

static void rig_unmake(struct rig *r)
{
	void *p = r;

	rig_teardown(&p);
}

/* 64-bit mode at CPL 0, the first 8 MiB mapped as they are, and at 1 GiB. */
static void rig_long(struct rig *r)
{
	rig_gdt(r);
	rig_put(r, RIG_PT, (RIG_PT + 0x1000) | 7);
	rig_put(r, RIG_PT + 0x1000, (RIG_PT + 0x2000) | 7);
	for (unsigned i = 0; i < 4; i++)
		rig_put(r, RIG_PT + 0x2000 + 8 * i, i * 2 * MIB | 0xe7);
	rig_put(r, RIG_PT + 0x1008, (RIG_PT + 0x2000) | 7);
	r->s.cr3 = RIG_PT;
	r->s.cr4 = 0x620 | CR4_OSXSAVE;
	r->s.xcr0 = 7;
	r->s.cr0 = CR0_PE | CR0_PG | CR0_NE | CR0_ET | CR0_WP | CR0_MP;
	r->s.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
	rig_segments(r, rig_segment(RIG_CS0_64, 0xa09b, ~0u),
		     rig_segment(RIG_DS0, 0xc093, ~0u));
	r->s.rip = CODE_AT;
	r->s.gpr[REG_SP] = RIG_STACK0;
	r->s.rflags = 2;
	for (unsigned i = 0; i < 16; i++)
		if (i != REG_SP)
			r->s.gpr[i] = 0x0123456789abcdefull * (i + 3);
	for (unsigned i = 0; i < 0x1000; i += 8)
		rig_put(r, RIG_DATA + i, 0x9e3779b97f4a7c15ull * (i + 1));
}

/* The same as a kernel has it: in the topmost 2 GiB, twice. */
#define HIGH 0xffffffff80000000ull

static void rig_high(struct rig *r)
{
	rig_long(r);
	rig_put(r, RIG_PT + 8 * 511, (RIG_PT + 0x1000) | 7);
	rig_put(r, RIG_PT + 0x1000 + 8 * 510, (RIG_PT + 0x2000) | 7);
	rig_put(r, RIG_PT + 0x1000 + 8 * 511, (RIG_PT + 0x2000) | 7);
	r->s.cr4 |= CR4_PGE;
	r->s.rip = HIGH + CODE_AT;
}

/* Protected mode at CPL 0, flat segments, no paging. */
static void rig_protected(struct rig *r)
{
	rig_long(r);
	r->s.cr0 &= ~(u64)CR0_PG;
	r->s.cr4 &= ~(u64)0x20;
	r->s.efer = 0;
	rig_segments(r, rig_segment(RIG_CS0_32, 0xc09b, ~0u),
		     rig_segment(RIG_DS0, 0xc093, ~0u));
	r->s.seg[SEG_GS].base = RIG_DATA;
	for (unsigned i = 0; i < 16; i++)
		r->s.gpr[i] = i < 8 ? (u32)r->s.gpr[i] : 0;
}

/*
 * Runs the code on both, on the translator in lock step too, and compares all
 * registers and the data page.
 */
static void same(void (*mode)(struct rig *), const u8 *code, const u8 *end)
{
	struct rig *r[3];
	char line[512];
	u8 data[3][0x2000];

	for (unsigned k = 0; k < 3; k++) {
		r[k] = rig_make(k > 0, k > 1);
		mode(r[k]);
		rig_code(r[k], CODE_AT, code, end);
		assert_int_equal(rig_run(r[k]), VCPU_EXIT_KICKED);
		mem_read(&r[k]->mem, RIG_DATA, data[k], sizeof(data[k]));
		r[k]->s.tsc = 0;
	}
	jit_report(r[1]->v, line, sizeof(line));
	print_message("%s\n", line);
	if (space_used(r[1]->v->jit).units)
		assert_true(r[2]->v->jit->lock->checks > 0);
	for (unsigned k = 1; k < 3; k++) {
		for (unsigned i = 0; i < 16; i++)
			assert_int_equal(r[0]->s.gpr[i], r[k]->s.gpr[i]);
		assert_int_equal(r[0]->s.rip, r[k]->s.rip);
		assert_memory_equal(r[0]->s.xsave, r[k]->s.xsave,
				    XSAVE_AREA_SIZE);
		assert_memory_equal(data[0], data[k], sizeof(data[0]));
	}
	for (unsigned k = 0; k < 3; k++)
		rig_unmake(r[k]);
}
#define SAME(code)   same(rig_long, code, code##_end)
#define SAME32(code) same(rig_protected, code, code##_end)

CODE(sums, 64,
     "1: mov $1000, %ecx\n"
     "2: add %rcx, %rax\n lea (%rax,%rax,2), %rdx\n"
     "push %rdx\n pop %rsi\n dec %ecx\n jnz 2b\n out %al, $0xf4\n"
     "jmp 1b\n");

/* The generated code is damaged: add rax, rcx becomes sub. */
static void test_lockstep_finds(void **state)
{
	static const u8 add[] = {0x4c, 0x01, 0xf8}; /* rcx is in r15 */
	struct trace quiet = {.path = "/dev/null"};
	struct rig *r = rig_make(true, true);
	const struct codebuf *b;
	struct err e;
	u8 *at;

	(void)state;
	assert_int_equal(trace_open(&quiet, &e), 0);
	r->g->config.trace = &quiet;
	rig_long(r);
	rig_code(r, CODE_AT, sums, sums_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	b = &r->v->jit->buf;
	assert_non_null(memmem(b->write, b->size, add, sizeof(add)));
	while ((at = memmem(b->write, b->size, add, sizeof(add))))
		at[1] = 0x29;
	codebuf_serialize();
	assert_int_equal(soft_engine.vcpu_run(r->vc), VCPU_EXIT_ERROR);
	assert_non_null(strstr(r->vc->report, "lock step: translated code"));
	assert_non_null(strstr(r->vc->report, "registers differ"));
	rig_unmake(r);
	trace_close(&quiet);
}

CODE(loop_sum, 64,
     "mov $100000, %ecx\n xor %eax, %eax\n"
     "1: add %rcx, %rax\n lea 3(%rax,%rcx,4), %rdx\n xor %rdx, %r10\n"
     "adc $5, %r11\n mov %r10, %r15\n rol $7, %r15\n sub %r15, %r14\n"
     "dec %ecx\n jnz 1b\n"
     "pushfq\n pop %rbx\n and $0x8d5, %ebx\n out %al, $0xf4\n jmp .\n");

/* Turns of this loop differ in memory only. */
CODE(loop_memory, 64,
     "mov $0x100000, %ebx\n movl $50000, (%rbx)\n"
     "1: subl $1, (%rbx)\n nop\n jnz 1b\n"
     "out %al, $0xf4\n jmp .\n");

static void test_loop(void **state)
{
	(void)state;
	SAME(loop_sum);
	SAME(loop_memory);
}

CODE(memory, 64,
     "mov $5000, %ecx\n mov $0x100000, %ebx\n"
     "1: mov %ecx, %eax\n and $0xff8, %eax\n"
     "add (%rbx,%rax), %rdx\n mov %rdx, (%rbx,%rax)\n"
     "movzbl 3(%rbx,%rax), %esi\n add %dl, %ah\n mov %ah, 5(%rbx)\n"
     "cmp %rsi, %rdi\n mov 8(%rbx), %r11\n sbb %r9, %r9\n"
     "lock xadd %r11, 16(%rbx)\n btsl $7, 24(%rbx)\n setc %r15b\n"
     "incl 32(%rbx)\n shl %cl, %r8\n shrq %cl, 40(%rbx)\n"
     "push %r10\n pop %r12\n xchg %ch, %dl\n xchg %ch, %dl\n"
     "mov 48(%rbx), %bp\n cmovs %r12, %r13\n imul $77, 8(%rbx), %r14\n"
     "mul %r14\n bswap %r10\n movbe %r10, 56(%rbx)\n"
     "rorx $9, %r10, %r15\n andn %r15, %r14, %rdi\n"
     "dec %ecx\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_memory(void **state)
{
	(void)state;
	SAME(memory);
}

CODE(calls, 64,
     "mov $20000, %r12d\n"
     "1: mov %r12d, %edi\n and $15, %edi\n call 2f\n add %rax, %r13\n"
     "lea 4f(%rip), %rdx\n test $1, %r12b\n jz 5f\n lea 3f(%rip), %rdx\n"
     "5: call *%rdx\n xor %rax, %r13\n stc\n call 6f\n adc $0, %r13\n"
     "dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n"
     "2: cmp $2, %edi\n jae 7f\n mov %edi, %eax\n ret\n"
     "7: push %rdi\n dec %edi\n call 2b\n pop %rdi\n push %rax\n"
     "sub $2, %edi\n call 2b\n pop %rdx\n add %rdx, %rax\n ret\n"
     "3: mov $3, %eax\n ret $0\n"
     "4: mov $4, %eax\n jmp *8f(%rip)\n"
     "9: ret\n .balign 8\n 8: .quad 0x20000 + 9b - calls\n"
     "6: mov (%rsp), %rax\n cmc\n cmc\n ret\n");

static void test_calls(void **state)
{
	(void)state;
	SAME(calls);
}

CODE(vectors, 64,
     "mov $3000, %ecx\n mov $0x100000, %ebx\n"
     "movups (%rbx), %xmm1\n vmovups 32(%rbx), %ymm2\n"
     "1: movdqu 16(%rbx), %xmm3\n paddq %xmm1, %xmm3\n pxor %xmm3, %xmm1\n"
     "vpaddd %ymm2, %ymm2, %ymm4\n vpxor 64(%rbx), %ymm4, %ymm2\n"
     "vextracti128 $1, %ymm2, %xmm5\n movq %xmm5, %rax\n add %rax, %rdx\n"
     "cvtsi2sd %ecx, %xmm6\n addsd %xmm6, %xmm7\n mulsd %xmm6, %xmm8\n"
     "ucomisd %xmm7, %xmm8\n adc $0, %rdx\n movups %xmm3, 128(%rbx)\n"
     "vmovdqu %ymm2, 160(%rbx)\n pmovmskb %xmm3, %r10d\n add %r10, %rdx\n"
     "movaps %xmm1, %xmm9\n vmovd %edx, %xmm10\n vzeroupper\n"
     "test $7, %cl\n jz 2f\n paddb %xmm9, %xmm11\n"
     "2: dec %ecx\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_vectors(void **state)
{
	(void)state;
	SAME(vectors);
}

/* The stack walks down over a page's end, 8 bytes a turn. */
CODE(stack, 64,
     "mov $20, %r8d\n mov %rsp, %r13\n"
     "0: mov $0x101200, %r12d\n"
     "1: mov %r12, %rsp\n push %r12\n push $77\n pushq (%rsp)\n"
     "addq $5, 8(%rsp)\n push %rsp\n mov 4(%rsp), %rdx\n add %rdx, %r10\n"
     "call 2f\n mov 16(%rsp), %ah\n sub $0x48, %rsp\n mov %rax, 0x40(%rsp)\n"
     "movups %xmm1, 24(%rsp)\n stc\n mov 32(%rsp), %rdi\n adc %rdi, %r11\n"
     "test $8, %r12b\n jz 3f\n movaps 16(%rsp), %xmm1\n"
     "lock cmpxchg16b (%rsp)\n shlq %cl, 8(%rsp)\n jmp 4f\n"
     "3: push %rcx\n xchg %rdi, (%rsp)\n pop %rcx\n add %rdi, %rcx\n"
     "4: lea 0x48(%rsp), %rsp\n lea 5f(%rip), %rax\n push %rax\n"
     "call *(%rsp)\n pop %rax\n pop %rsp\n pop %r15\n pop %r9\n"
     "mov %rsp, %rbp\n push %rbp\n mov %rsp, %rbp\n sub $0x400, %rsp\n"
     "mov %r15, 0x3f0(%rsp)\n and $-16, %rsp\n mov %r9, 8(%rsp)\n leave\n"
     "sub $8, %r12\n cmp $0x100e00, %r12d\n ja 1b\n dec %r8d\n jnz 0b\n"
     "mov %r13, %rsp\n out %al, $0xf4\n jmp .\n"
     "2: sub $24, %rsp\n mov %r12, (%rsp)\n mov 24(%rsp), %rsi\n"
     "add %rsi, 8(%rsp)\n add $24, %rsp\n ret $0\n"
     "5: mov %r12, -0x20(%rsp)\n pop %rbx\n jmp *%rbx\n");

static void test_stack(void **state)
{
	(void)state;
	SAME(stack);
}

/* Several accesses by one register, over a page's end and on both sides. */
CODE(shared, 64,
     "mov $30, %r13d\n"
     "0: mov $0x100f80, %ebx\n"
     "1: mov (%rbx), %rax\n add 8(%rbx), %rax\n mov %rax, 16(%rbx)\n"
     "mov %rbx, %r14\n cmp %rax, 4(%r14)\n mov 24(%r14), %edx\n"
     "adc $3, %rdx\n movaps %xmm1, %xmm2\n mov %rdx, 40(%r14)\n"
     "add $8, %r14\n movups (%r14), %xmm3\n paddq %xmm3, %xmm2\n"
     "test $8, %bl\n jnz 2f\n movaps 32(%rbx), %xmm1\n"
     "2: stc\n mov 12(%rbx), %cl\n rclb %cl, 13(%rbx)\n"
     "lea 56(%rbx), %rsi\n mov (%rsi), %rdi\n inc %rsi\n setc 2(%rsi)\n"
     "sub $9, %rsi\n xchg %rdi, 1(%rsi)\n mov (%rsi), %rsi\n"
     "add %rsi, %r10\n pushq 24(%rbx)\n popq 20(%rbx)\n"
     "mov %rbx, %rdx\n mov 3(%rdx), %rdx\n xor %rdx, %r11\n"
     "jns 3f\n mov %r11, 48(%rbx)\n mov 50(%rbx), %r12w\n"
     "3: movq %xmm3, 8(%rbx)\n lock xadd %r12, 8(%rbx)\n"
     "mov 0x300(%rbx), %rax\n mov %eax, 0x500(%rbx)\n"
     "add $8, %rbx\n cmp $0x101040, %ebx\n jb 1b\n"
     "dec %r13d\n jnz 0b\n out %al, $0xf4\n jmp .\n");

static void test_shared(void **state)
{
	(void)state;
	SAME(shared);
}

/* Loops that keep vector registers, left in the middle and at the end. */
CODE(kept, 64,
     "mov $40, %r13d\n mov $0x100000, %ebx\n movups 0x40(%rbx), %xmm5\n"
     "0: mov $200, %ecx\n xorps %xmm1, %xmm1\n"
     "1: movsd (%rbx,%rcx,8), %xmm0\n mulsd 8(%rbx,%rcx,8), %xmm0\n"
     "paddq %xmm5, %xmm1\n pxor %xmm0, %xmm1\n movups %xmm1, 64(%rbx,%rcx)\n"
     "test $0x3f, %cl\n jz 3f\n"
     "2: dec %ecx\n jnz 1b\n vpaddd %ymm1, %ymm5, %ymm6\n"
     "vmovdqu %ymm6, 0x900(%rbx)\n jmp 4f\n"
     "3: movq %xmm1, %rax\n add %rax, %r10\n movaps %xmm0, %xmm7\n"
     "jmp 2b\n"
     "4: mov $300, %ecx\n jmp 6f\n"
     "5: paddb %xmm1, %xmm7\n movdqa %xmm7, %xmm8\n psrlq $3, %xmm8\n"
     "test $15, %cl\n jz 7f\n"
     "6: pxor %xmm8, %xmm1\n paddw %xmm7, %xmm5\n dec %ecx\n jnz 5b\n"
     "7: movups %xmm8, 0xa00(%rbx)\n vzeroupper\n dec %ecx\n jg 5b\n"
     "dec %r13d\n jnz 0b\n out %al, $0xf4\n jmp .\n");

static void test_kept(void **state)
{
	(void)state;
	SAME(kept);
}

/* Division by what makes it fault now and then is left out: only the ways
 * that the translator hands to the interpreter. */
CODE(divides, 64,
     "mov $3000, %ecx\n mov $0x100000, %ebx\n"
     "1: mov %ecx, %eax\n xor %edx, %edx\n mov $7, %esi\n div %esi\n"
     "add %rdx, %r8\n mov %rax, %r9\n neg %r9\n mov %r9, %rax\n cqo\n"
     "mov $-1, %rdi\n idiv %rdi\n add %rax, %r10\n mov %ecx, %eax\n"
     "cltd\n mov $13, %r11d\n idiv %r11d\n add %rax, %r12\n"
     "mov $1, %edx\n mov $5, %eax\n movl $9, (%rbx)\n divl (%rbx)\n"
     "add %rax, %r13\n dec %ecx\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_divides(void **state)
{
	(void)state;
	SAME(divides);
}

/* The loop's own immediate is changed by a store in the loop. */
CODE(changing, 64,
     "mov $2000, %ecx\n lea 2f+1(%rip), %rbx\n"
     "1: test $63, %cl\n jnz 2f\n mov %ecx, (%rbx)\n"
     "2: mov $1, %eax\n add %rax, %rdx\n dec %ecx\n jnz 1b\n"
     "out %al, $0xf4\n jmp .\n");

static void test_changing(void **state)
{
	(void)state;
	SAME(changing);
}

/* Instructions that handlers are called for, and their flags. */
CODE(called, 64,
     "mov $2000, %r12d\n mov $0x100000, %ebx\n fninit\n"
     "1: mov %rbx, %rdi\n mov $37, %ecx\n mov %r12, %rax\n cmp $7, %r12b\n"
     "rep stosb\n adc $0, %r13\n lea 64(%rbx), %rsi\n mov $9, %ecx\n"
     "rep movsq\n movsb\n std\n lodsl\n cld\n xor %eax, %r13d\n"
     "mov %rbx, %rsi\n lea 200(%rbx), %rdi\n mov $50, %ecx\n"
     "stc\n repe cmpsb\n sbb %rcx, %r13\n"
     "fildl 8(%rbx)\n fadds 4(%rbx)\n fstpl 400(%rbx)\n"
     "xor %eax, %eax\n cpuid\n xor %rdx, %r13\n mov $0x100000, %ebx\n"
     "mov %r12w, 500(%rbx)\n push 500(%rbx)\n pop 508(%rbx)\n"
     "pushw %r12w\n popw %ax\n add %rax, %r13\n stmxcsr 516(%rbx)\n"
     "movd %r12d, %xmm3\n vpaddd %ymm3, %ymm3, %ymm4\n ldmxcsr 516(%rbx)\n"
     "vpaddd %ymm4, %ymm5, %ymm5\n movq %r12, %mm1\n movq %mm1, 520(%rbx)\n"
     "emms\n dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_called(void **state)
{
	(void)state;
	SAME(called);
}

/* Bit strings: offsets of either sign, all sizes. */
CODE(bits, 64,
     "mov $4000, %r12d\n mov $0x100800, %ebx\n mov $0x5851f42d, %ecx\n"
     "1: imul $0x41c64e6d, %ecx, %ecx\n add $12345, %ecx\n"
     "mov %ecx, %eax\n sar $18, %eax\n movslq %eax, %r10\n"
     "cmp %r12d, %ecx\n bts %r10, (%rbx)\n adc $0, %r13\n"
     "lea 7(%r10), %edx\n lock btrl %edx, 8(%rbx)\n adc $1, %r13\n"
     "xor %edi, %edi\n btcw %ax, 5(%rbx,%rdi,8)\n adc $2, %r13\n"
     "bt %r10, 1(%rbx)\n sbb %r14, %r14\n xor %r14, %r13\n rol $3, %r13\n"
     "dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_bits(void **state)
{
	(void)state;
	SAME(bits);
}

/* What kernels do all the time; flags live across it. */
CODE(kernel, 64,
     "mov $3000, %r12d\n mov $0xc0000102, %ecx\n mov $0x77, %eax\n"
     "xor %edx, %edx\n wrmsr\n"
     "1: cmp $100, %r12d\n cli\n adc $0, %r13\n pushfq\n pop %rax\n"
     "xor %rax, %r13\n sti\n nop\n pushfq\n pop %rax\n add %rax, %r13\n"
     "push %rax\n popfq\n cli\n stc\n swapgs\n adc $0, %r13\n swapgs\n"
     "mov %cr0, %rax\n add %rax, %r13\n mov %cr3, %r10\n xor %r10, %r13\n"
     "mov %r12, %cr2\n mov %cr2, %rdx\n add %rdx, %r13\n"
     "mov %cr4, %r11\n add %r11, %r13\n rdtsc\n shr $16, %rax\n"
     "rdtscp\n mov %ecx, %r14d\n xor %eax, %eax\n xor %edx, %edx\n"
     "mov %cr3, %rax\n mov %rax, %cr3\n xor %eax, %eax\n"
     "rol $5, %r13\n dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_kernel(void **state)
{
	(void)state;
	SAME(kernel);
}

/* To user mode and back by SYSCALL, SYSRET and IRET, with calls there. */
CODE(crossing, 64,
     "mov $0xc0000081, %ecx\n xor %eax, %eax\n mov $0x00180008, %edx\n"
     "wrmsr\n inc %ecx\n lea 2f(%rip), %rax\n xor %edx, %edx\n wrmsr\n"
     "mov $0xc0000084, %ecx\n mov $0x200, %eax\n wrmsr\n"
     "mov $1500, %r12d\n mov %rsp, %rbp\n"
     "jmp 4f\n"
     "1: mov %r12, %rdi\n stc\n call 3f\n syscall\n"
     "adc $0, %r13\n mov %r11, %r14\n jmp 1b\n"
     "3: adc %rdi, %r13\n ret\n"
     "2: mov %rsp, %r15\n mov %rbp, %rsp\n pushfq\n pop %rax\n"
     "xor %rax, %r13\n test $1, %r12b\n mov %r15, %rsp\n"
     "jz 5f\n dec %r12d\n jz 6f\n sysretq\n"
     "5: dec %r12d\n push $0x23\n push %r15\n push %r11\n push $0x2b\n"
     "push %rcx\n add %rsp, %r13\n iretq\n"
     "4: lea 1b(%rip), %rcx\n mov $2, %r11d\n sysretq\n"
     "6: xor %eax, %eax\n out %al, $0xf4\n jmp .\n");

static void test_crossing(void **state)
{
	(void)state;
	SAME(crossing);
}

/* Instructions that cross a page, the second of which changes. */
CODE(crossing_pages, 64,
     "mov $3000, %r12d\n xor %r13d, %r13d\n"
     "1: mov %r12d, %eax\n stc\n call 3f\n adc %rax, %r13\n"
     "test $511, %r12w\n jnz 2f\n incb 4f(%rip)\n"
     "2: dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n"
     ".org 4096 - 16 - 3\n"
     "3: nop\n nop\n jmp 5f\n .org 4096 - 3\n"
     "5: .byte 0x48, 0x81, 0xc0\n 4: .long 0x1234567\n" /* add $, %rax */
     "jnz 6f\n nop\n 6: lea 7f(%rip), %rdx\n jmp *%rdx\n"
     ".org 8192 - 1\n 7: jc 8f\n mov $3, %ecx\n 8: ret\n");

static void test_crossing_pages(void **state)
{
	(void)state;
	SAME(crossing_pages);
}

/* Code that crosses pages becomes hot too: it is not left each turn. */
static void test_crossing_stays(void **state)
{
	struct rig *r = rig_make(true, false);
	const u64 *stat = r->v->vcpu.stat;

	(void)state;
	rig_long(r);
	rig_code(r, CODE_AT, crossing_pages, crossing_pages_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_in_range(stat[VCPU_STAT_OUT_LINK] + stat[VCPU_STAT_OUT_INDIRECT],
			1, 1000); /* of 3000 turns */
	rig_unmake(r);
}

/* The second page is mapped to another place now and then. */
CODE(remapped, 64,
     "mov $0x5ffffe, %ebx\n movw $0x11b8, (%rbx)\n" /* mov $..11, %eax */
     "movl $0xc3224433, 2(%rbx)\n"                  /* ... ret */
     "movl $0xc3887766, 0x200000\n"
     "mov $2000, %r12d\n mov $0x12018, %edi\n"
     "1: call *%rbx\n add %rax, %r13\n rol $1, %r13\n"
     "test $127, %r12b\n jnz 2f\n mov (%rdi), %rax\n"
     "xor $0x400000, %rax\n mov %rax, (%rdi)\n invlpg 2(%rbx)\n"
     "2: dec %r12d\n jnz 1b\n movq $0x6000e7, (%rdi)\n invlpg 2(%rbx)\n"
     "out %al, $0xf4\n jmp .\n");

static void test_remapped(void **state)
{
	(void)state;
	SAME(remapped);
}

/*
 * Exceptions out of hot code and back into it: #PF of loads and stores, INT3,
 * single steps, #GP of SYSRET and IRET; what is pushed but for flags.
 */
CODE(exceptions, 64,
     "mov $0x2000, %edi\n movw $0xfff, 0x100f00\n movq $0x2000, 0x100f02\n"
     "lidt 0x100f00\n mov $1500, %r12d\n mov $0x600000, %ebx\n"
     "lea 11f(%rip), %rax\n mov $1, %ecx\n call 10f\n"
     "lea 13f(%rip), %rax\n mov $3, %ecx\n call 10f\n"
     "lea 14f(%rip), %rax\n mov $13, %ecx\n call 10f\n"
     "lea 15f(%rip), %rax\n mov $14, %ecx\n call 10f\n"
     "mov $0x12018, %edi\n mov %rsp, %rbp\n xor %r15d, %r15d\n"
     "1: movq $0, (%rdi)\n invlpg (%rbx)\n test $1, %r12b\n jz 2f\n"
     "add %r12, 8(%rbx)\n jmp 3f\n"
     "2: test $2, %r12b\n jz 4f\n add 16(%rbx), %r13\n jmp 3f\n"
     "4: pushq 24(%rbx)\n pop %rax\n lock cmpxchg %r12, 32(%rbx)\n"
     "3: stc\n int3\n adc $0, %r13\n"
     "mov $0x1234567890abcdef, %rcx\n xor %r11d, %r11d\n sysretq\n"
     "pushfq\n orq $0x100, (%rsp)\n popfq\n nop\n add $1, %r13\n nop\n"
     "push $0x10\n push %rbp\n push $2\n push $0x7f\n push $0\n iretq\n"
     "mov %rbp, %rsp\n mov %rsp, %rax\n push $0x10\n push %rax\n push $2\n"
     "push $8\n lea 5f(%rip), %rax\n push %rax\n iretq\n"
     "5: dec %r12d\n jnz 1b\n movq $0x6000e7, (%rdi)\n invlpg (%rbx)\n"
     "out %al, $0xf4\n jmp .\n"
     "10: shl $4, %ecx\n lea (%rdi,%rcx), %rdx\n mov %ax, (%rdx)\n"
     "movw $8, 2(%rdx)\n movw $0x8e00, 4(%rdx)\n shr $16, %rax\n"
     "mov %ax, 6(%rdx)\n shr $16, %rax\n mov %rax, 8(%rdx)\n ret\n"
     "11: inc %r15\n add (%rsp), %r13\n test $3, %r15b\n jnz 12f\n"
     "andq $~0x100, 16(%rsp)\n 12: iretq\n"
     "13: add 24(%rsp), %r13\n rol $1, %r13\n iretq\n"
     "14: pop %rax\n xor %rax, %r13\n rol $7, %r13\n add (%rsp), %r13\n"
     "addq $2, (%rsp)\n test %eax, %eax\n jnz 16f\n incq (%rsp)\n"
     "16: iretq\n"
     "15: pop %rax\n add %rax, %r13\n rol $3, %r13\n mov %cr2, %rax\n"
     "xor %rax, %r13\n mov (%rsp), %rax\n add %rax, %r13\n"
     "mov 24(%rsp), %rax\n xor %rax, %r13\n mov 16(%rsp), %rax\n"
     "and $~0x8d5, %rax\n add %rax, %r13\n movq $0x6000e7, (%rdi)\n"
     "iretq\n");

static void test_exceptions(void **state)
{
	(void)state;
	SAME(exceptions);
}

/* Everything that holds code is given up between two runs. */
static void test_trim(void **state)
{
	struct rig *r = rig_make(true, false);
	u64 sum;

	(void)state;
	rig_long(r);
	rig_code(r, CODE_AT, calls, calls_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	sum = r->s.gpr[13];
	assert_true(space_used(r->v->jit).units > 4);
	soft_code_trim(r->v);
	assert_int_equal(space_used(r->v->jit).units, 0);
	rig_long(r);
	r->s.gpr[13] = 0x0123456789abcdefull * 16;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->s.gpr[13], sum);
	rig_unmake(r);
}

/*
 * Ever new code, more than the cache holds: copies of 10, each of which calls
 * 20 in another page; they are made again where others were.
 */
CODE(ever_new, 64,
     "mov $2, %r12d\n"
     "1: mov $0x100000, %ebx\n"
     "2: lea 10f(%rip), %rsi\n mov %rbx, %rdi\n mov $12f-10f, %ecx\n"
     "rep movsb\n lea 20f(%rip), %rax\n lea 11f-10f(%rbx), %rdx\n"
     "sub %rdx, %rax\n mov %eax, -4(%rdx)\n mov $20, %ebp\n"
     "3: call *%rbx\n dec %ebp\n jnz 3b\n"
     "add $0x1c80, %rbx\n cmp $0x500000, %rbx\n jb 2b\n"
     "dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n"
     "10: .rept 8\n push %rax\n add %r12, %rax\n rol $3, %rax\n"
     "xor %rax, (%rsp)\n pop %rdx\n add %rdx, %r13\n jns 4f\n"
     "add (%rsp), %r13\n 4:\n .endr\n .byte 0xe8; .long 0\n"
     "11: call 5f\n add %rax, %r13\n ret\n"
     "5: rol $5, %r13\n ret\n"
     "12:\n"
     "20: add %rbx, %r13\n ret\n");

static void test_ever_new(void **state)
{
	struct rig *r = rig_make(true, false);

	(void)state;
	rig_long(r);
	rig_code(r, CODE_AT, ever_new, ever_new_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_true(r->vc->stat[VCPU_STAT_TR_EVICT] > JIT_SEGMENTS);
	assert_true(space_used(r->v->jit).code <= CODE_CACHE);
	rig_unmake(r);
	SAME(ever_new);
}

/*
 * Units at each byte of a page's part: what is an ADD to AL at one is a store
 * of it at another. Then they are all written over.
 */
CODE(each_offset, 64,
     "mov $3, %r12d\n"
     "1: mov $0x100000, %edi\n mov $400, %ecx\n"
     "2: movl $0x40010440, (%rdi)\n add $3, %rdi\n dec %ecx\n jnz 2b\n"
     "movl $0xc39040, (%rdi)\n"
     "mov $0x100000, %ebx\n"
     "3: mov $20, %ebp\n mov $0x200000, %eax\n"
     "4: call *%rbx\n add %rax, %r13\n dec %ebp\n jnz 4b\n"
     "inc %rbx\n cmp %rdi, %rbx\n jb 3b\n"
     "dec %r12d\n jnz 1b\n out %al, $0xf4\n jmp .\n");

static void test_each_offset(void **state)
{
	(void)state;
	SAME(each_offset);
}

/* Within a unit and out of it, with flags that live on, 32 bits of RCX. */
#define LOOPS(cx)                                                        \
	"mov $100, %esi\n"                                               \
	"1: mov $30, %ecx\n 2: lea 3(%eax,%ecx), %eax\n loop 2b\n"       \
	"mov $40, %ecx\n 3: add %ecx, %eax\n test $7, %al\n loopne 3b\n" \
	"adc $0, %edx\n mov $5, %ecx\n"                                  \
	"4: cmp %edi, %edi\n loope 4b\n sete %al\n add %ecx, %edx\n"     \
	"mov %esi, %ecx\n and $1, %ecx\n cmp %edx, %eax\n" cx            \
	" 6f\n setb %dl\n 5: cmp $50, %esi\n jne 7f\n inc %eax\n"        \
	"7: dec %esi\n jnz 1b\n out %al, $0xf4\n jmp .\n"                \
	".skip 20, 0xcc\n 6: adc %edx, %eax\n mov $0, %ecx\n"            \
	"sub $1, %ecx\n mov $2, %ecx\n loop 5b\n hlt\n"

CODE(loops, 64,
     "mov $0x100000001, %rcx\n 1: inc %eax\n loopl 1b\n add %rcx, %rdx\n"
     "mov $1, %ecx\n shl $32, %rcx\n jecxz 2f\n inc %eax\n"
     "2: jrcxz 3f\n add $5, %edx\n 3:\n" LOOPS("jrcxz"));
CODE(loops32, 32, LOOPS("jecxz"));

static void test_loops(void **state)
{
	struct rig *r = rig_make(true, false);

	(void)state;
	rig_long(r);
	rig_code(r, CODE_AT, loops, loops_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->vc->stat[VCPU_STAT_OUT_OP], 0);
	rig_unmake(r);
	SAME(loops);
	SAME32(loops32);
}

/* A string instruction changes code behind it, in the same unit. */
CODE(changing_ahead, 64,
     "mov $500, %r12d\n"
     "1: lea 2f+1(%rip), %rdi\n mov %r12d, %eax\n stosl\n"
     "lea 3f(%rip), %rsi\n lea 4f(%rip), %rdi\n mov $5, %ecx\n"
     "test $1, %r12b\n jz 5f\n lea 6f(%rip), %rsi\n"
     "5: rep movsb\n"
     "2: mov $1, %edx\n add %rdx, %r13\n"
     "4: mov $5, %edx\n add %rdx, %r13\n dec %r12d\n jnz 1b\n"
     "out %al, $0xf4\n jmp .\n"
     "3: mov $77, %edx\n 6: mov $99, %edx\n");

static void test_changing_ahead(void **state)
{
	(void)state;
	SAME(changing_ahead);
}

/* The same code at two linear addresses in turn, and one page calls another. */
CODE(aliased, 64,
     "mov $20000, %ecx\n xor %r8d, %r8d\n"
     "1: lea 1b(%rip), %rax\n add %rax, %r8\n rol $5, %r8\n"
     "add 4f(%rip), %r8\n lea 4f(%eip), %edi\n add %rdi, %r9\n"
     "call 3f\n push %rax\n pop %r10\n add %r10, %r8\n"
     "lea 2f(%rip), %rdx\n test $3, %cl\n jz 2f\n"
     "btc $30, %rdx\n jmp *%rdx\n"
     "2: dec %ecx\n jnz 1b\n out %al, $0xf4\n jmp .\n"
     ".balign 8\n4: .quad 0x123456789\n"
     ".fill 4096, 1, 0x90\n"
     "3: mov (%rsp), %rax\n lea 5f(%rip), %rsi\n jmp 5f\n"
     ".fill 4096, 1, 0x90\n"
     "5: xor %rsi, %rax\n ret\n");

static void test_aliased(void **state)
{
	(void)state;
	SAME(aliased);
	same(rig_high, aliased, aliased_end);
}

/* A kernel calls a page that is mapped to another place now and then. */
CODE(remapped_high, 64,
     "0: movl $0xc3c0ff, 0x200000\n movl $0xc3c8ff, 0x400000\n" /* inc; dec */
     "mov $4000, %r12d\n xor %eax, %eax\n mov $0x12008, %edi\n"
     "mov $0xffffffff80200000, %rbx\n"
     "1: call 0b + 0x1e0000\n add %rax, %r13\n rol $1, %r13\n"
     "test $127, %r12b\n jnz 2f\n mov (%rdi), %rdx\n"
     "xor $0x600000, %rdx\n mov %rdx, (%rdi)\n invlpg (%rbx)\n"
     "2: dec %r12d\n jnz 1b\n movq $0x2000e7, (%rdi)\n invlpg (%rbx)\n"
     "out %al, $0xf4\n jmp .\n");

static void test_remapped_high(void **state)
{
	struct rig *r = rig_make(true, false);

	(void)state;
	same(rig_high, remapped_high, remapped_high_end);
	rig_high(r);
	rig_code(r, CODE_AT, remapped_high, remapped_high_end);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->v->jit->remaps, 4000 / 128 + 1);
	rig_unmake(r);
}

/* 32-bit code: the stack, one-byte INC and DEC, what is called. */
CODE(code32, 32,
     "mov $4000, %ecx\n mov $0x100000, %ebx\n xor %eax, %eax\n"
     "1: inc %eax\n stc\n inc %edx\n adc $3, %edx\n dec %dx\n"
     "push %eax\n push $-5\n pushl 4(%ebx)\n pop %esi\n pop %edi\n"
     "add %esi, %edx\n call 2f\n pop %ebp\n mov $0x20000 + 6f - code32, %esi\n "
     "call *%esi\n"
     "xor %ebp, %edx\n mov %dl, %ah\n mov %ah, 5(%ebx)\n pusha\n popa\n"
     "add %gs:8, %edx\n mov %edx, %gs:16\n bts %ecx, 32(%ebx)\n"
     "lea -8(%ebx,%ecx,2), %edi\n xor %edi, %edx\n"
     "imul $77, 8(%ebx), %edi\n rol %cl, %edi\n add %edi, %edx\n"
     "cmpxchg8b 64(%ebx)\n sbb %edi, %edi\n cld\n mov %ebx, %edi\n"
     "stosl\n filds 8(%ebx)\n fstpl 400(%ebx)\n pushf\n pop %edi\n"
     "and $0x8d5, %edi\n add %edi, %edx\n movd %edx, %xmm1\n"
     "paddd 128(%ebx), %xmm1\n movdqu %xmm1, 128(%ebx)\n"
     "push %cs\n pop %edi\n mov %ds, %edi\n mov %edi, %es\n"
     "dec %ecx\n jnz 1b\n out %al, $0xf4\n jmp .\n"
     "2: push %ebp\n mov %esp, %ebp\n sub $16, %esp\n mov %eax, -4(%ebp)\n"
     "test $1, %al\n jz 3f\n jmp *(0x20000 + 4f - code32)\n 3: leave\n ret\n"
     "5: mov -4(%ebp), %edi\n xor %edi, %edx\n jmp 3b\n"
     ".balign 4\n 4: .long 0x20000 + 5b - code32\n"
     "6: ret\n");

/* GS has a limit: its accesses are the interpreter's. */
static void rig_limited(struct rig *r)
{
	rig_protected(r);
	r->s.seg[SEG_GS].limit = 0xfff;
}

static void test_code32(void **state)
{
	(void)state;
	SAME32(code32);
	same(rig_limited, code32, code32_end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lockstep_finds),
		cmocka_unit_test(test_code32),
		cmocka_unit_test(test_loop),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_calls),
		cmocka_unit_test(test_stack),
		cmocka_unit_test(test_kept),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_vectors),
		cmocka_unit_test(test_divides),
		cmocka_unit_test(test_changing),
		cmocka_unit_test(test_called),
		cmocka_unit_test(test_bits),
		cmocka_unit_test(test_kernel),
		cmocka_unit_test(test_crossing),
		cmocka_unit_test(test_changing_ahead),
		cmocka_unit_test(test_crossing_pages),
		cmocka_unit_test(test_crossing_stays),
		cmocka_unit_test(test_remapped),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_ever_new),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_each_offset),
		cmocka_unit_test(test_exceptions),
		cmocka_unit_test(test_aliased),
		cmocka_unit_test(test_remapped_high),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
