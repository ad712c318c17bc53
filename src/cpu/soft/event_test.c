/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Single step and breakpoints; interrupts, NMI, priorities, shadows; halting,
 * the timer, INIT and SIPI; port permissions; the paravirtual interface.
 */
#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "cpu/soft/rig_test.h"

#define STOP "out %al, $0xf4\n 1: jmp 1b\n"

/* A handler at vector n that counts in 0x70100 and notes DR6 and RIP. */
CODE(db_handler, 64,
     "push %rax\n push %rbx\n mov 0x70100, %ebx\n"
     "mov 16(%rsp), %rax\n mov %rax, 0x70200(,%rbx,8)\n"
     "mov %dr6, %rax\n mov %rax, 0x70400(,%rbx,8)\n"
     "incl 0x70100\n mov $0xffff0ff0, %eax\n mov %rax, %dr6\n"
     "pop %rbx\n pop %rax\n iretq\n");

#define COUNT(r)       ((u32)rig_get(r, 0x70100))
#define TRAP_RIP(r, n) rig_get(r, 0x70200 + 8 * (n))
#define TRAP_DR6(r, n) (rig_get(r, 0x70400 + 8 * (n)) & 0xe00f)

static void step_mode(struct rig *r)
{
	rig_long_mode(r);
	RIG_CODE(r, 0x48000, db_handler);
	rig_gate64(r, VEC_DB, 0x48000, RIG_CS0_64, 0x8e00);
	rig_put32(r, 0x70100, 0);
}

/* ---- TF ---- */

CODE(step_code, 64,
     "pushfq\n orl $0x100, (%rsp)\n popfq\n" /* no trap after this POPF */
     "nop\n"                                 /* 9: trap at a */
     "mov %ss, %eax\n"                       /* trap at c */
     "mov %eax, %ss\n"                       /* held off */
     "nop\n"                                 /* trap at f, one for both */
     "pushfq\n"                              /* trap at 10 */
     "andl $~0x100, (%rsp)\n"                /* trap at 17 */
     "popfq\n"                               /* trap at 18: TF was set */
     "nop\n" STOP);

static void test_single_step(void **state)
{
	static const u8 at[] = {0xa, 0xc, 0xf, 0x10, 0x17, 0x18};
	struct rig *r = *state;

	step_mode(r);
	RIG_CODE(r, RIG_CODE0, step_code);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), ARRAY_LEN(at));
	for (unsigned i = 0; i < ARRAY_LEN(at); i++) {
		assert_int_equal(TRAP_RIP(r, i), RIG_CODE0 + at[i]);
		assert_int_equal(TRAP_DR6(r, i), BIT(14));
	}
}

/* ---- Debug registers ---- */

CODE(watch_code, 64,
     "movl $1, 0x100ffc\n"  /* beside */
     "movl $1, 0x101000\n"  /* hit: DR0, write, 4 bytes */
     "mov 0x101000, %eax\n" /* a read: not DR0 */
     "mov 0x101006, %ax\n"  /* DR1: read or write, 8 bytes at 101000 */
     "nop\n nop\n" STOP);

static void test_watchpoints(void **state)
{
	struct rig *r = *state;

	step_mode(r);
	RIG_CODE(r, RIG_CODE0, watch_code);
	r->s.dr[0] = 0x101000;
	r->s.dr7 = 0x400 | 1 << 0 | 1 << 16 | 3 << 18;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 1);
	assert_int_equal(TRAP_DR6(r, 0), 1);
	assert_int_equal(TRAP_RIP(r, 0), RIG_CODE0 + 22);
	step_mode(r);
	r->s.dr[1] = 0x101000;
	r->s.dr7 = 0x400 | 2 << 2 | 3 << 20 | 2 << 22;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 3);
	assert_int_equal(TRAP_DR6(r, 2), 2);
}

CODE(break_code, 64, "nop\n nop\n nop\n" STOP);

static void test_instruction_breakpoint(void **state)
{
	struct rig *r = *state;

	step_mode(r);
	RIG_CODE(r, RIG_CODE0, break_code);
	r->s.dr[2] = RIG_CODE0 + 1;
	r->s.dr7 = 0x400 | 1 << 4;
	/* a fault: the handler must set RF in the frame, else it loops */
	BYTES(r, 0x49000, "\x81\x4c\x24\x10\x00\x00\x01\x00"); /* orl RF */
	RIG_CODE(r, 0x49008, db_handler);
	rig_gate64(r, VEC_DB, 0x49000, RIG_CS0_64, 0x8e00);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 1);
	assert_int_equal(TRAP_RIP(r, 0), RIG_CODE0 + 1);
	assert_int_equal(TRAP_DR6(r, 0), 4);
}

CODE(gd_code, 64, "mov %dr0, %rax\n" STOP);

static void test_general_detect(void **state)
{
	struct rig *r = *state;

	step_mode(r);
	RIG_CODE(r, RIG_CODE0, gd_code);
	r->s.dr7 = 0x400 | BIT(13);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 1);
	assert_int_equal(TRAP_RIP(r, 0), RIG_CODE0);
	assert_int_equal(TRAP_DR6(r, 0), BIT(13));
	assert_false(r->s.dr7 & BIT(13));
}

/* ---- Interrupts ---- */

/* Appends its vector to a list at 0x70300; EOI; vector is pushed before. */
CODE(irq_handler, 64,
     "push %rax\n push %rcx\n push %rdx\n"
     "mov 0x70100, %ecx\n mov 24(%rsp), %rax\n mov %al, 0x70300(%rcx)\n"
     "incl 0x70100\n mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n"
     "wrmsr\n pop %rdx\n pop %rcx\n pop %rax\n add $8, %rsp\n iretq\n");

static void irq_mode(struct rig *r)
{
	step_mode(r);
	RIG_CODE(r, 0x4a000, irq_handler);
	for (unsigned n = 32; n < 64; n++) {
		gpa_t at = 0x4b000 + 16 * n;

		mem_write(&r->mem, at, "\x68", 1);
		rig_put32(r, at + 1, n);
		mem_write(&r->mem, at + 5, "\xe9", 1);
		rig_put32(r, at + 6, (u32)(0x4a000 - (at + 10)));
		rig_gate64(r, (u8)n, at, RIG_CS0_64, 0x8e00);
	}
	r->s.lapic.apic_base |= BIT(10); /* x2APIC */
	r->s.lapic.svr = 0x1ff;
}

static void self_irq(struct rig *r, u8 vector)
{
	r->s.lapic.irr[vector / 32] |= BIT(vector % 32);
}

CODE(irq_code, 64,
     "nop\n"
     "sti\n"
     "mov 0x70100, %ebx\n" /* the shadow: nothing yet */
     "nop\n"
     "mov 0x70100, %ecx\n"
     "cli\n"
     "mov $2, %eax\n mov %rax, %cr8\n" /* 0x2x is masked */
     "mov $0x83f, %ecx\n"              /* self IPI */
     "mov $0x25, %eax\n xor %edx, %edx\n wrmsr\n"
     "mov $0x31, %eax\n wrmsr\n"
     "sti\n nop\n nop\n"
     "mov 0x70100, %esi\n"
     "xor %eax, %eax\n mov %rax, %cr8\n nop\n"
     "mov 0x70100, %edi\n" STOP);

static void test_irq_order(void **state)
{
	struct rig *r = *state;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, irq_code);
	r->s.gpr[REG_BX] = 77;
	self_irq(r, 0x21);
	self_irq(r, 0x38);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->s.gpr[REG_BX], 0);
	assert_int_equal(COUNT(r), 4);
	assert_int_equal(r->s.gpr[REG_SI], 3);
	assert_int_equal(r->s.gpr[REG_DI], 4);
	/* highest first; 0x25 waited for CR8 */
	assert_int_equal((u32)rig_get(r, 0x70300), 0x25312138);
	assert_int_equal(r->s.cr8, 0);
}

CODE(hlt_code, 64, "sti\n hlt\n mov 0x70100, %ebx\n cli\n" STOP);

static void *late_msi(void *arg)
{
	struct rig *r = arg;
	struct timespec ts = {.tv_nsec = 20000000};

	nanosleep(&ts, NULL);
	apic_bus_msi(r->bus, 0xfee00000, 0x33);
	return NULL;
}

static void test_hlt_wakes(void **state)
{
	struct rig *r = *state;
	u64 start = clock_ns();
	pthread_t t;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, hlt_code);
	assert_int_equal(pthread_create(&t, NULL, late_msi, r), 0);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	pthread_join(t, NULL);
	assert_int_equal(r->s.gpr[REG_BX], 1);
	assert_true(clock_ns() - start >= 20000000);
	assert_int_equal(r->vc->stat[VCPU_STAT_HALT], 1);
}

/* TSC deadline 10 ms ahead, then halted until it comes. */
CODE(deadline_code, 64,
     "mov $0x832, %ecx\n mov $0x40034, %eax\n xor %edx, %edx\n wrmsr\n"
     "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n add %r8, %rax\n"
     "mov %rax, %r9\n mov %rax, %rdx\n shr $32, %rdx\n"
     "mov $0x6e0, %ecx\n wrmsr\n sti\n hlt\n cli\n"
     "rdtsc\n shl $32, %rdx\n or %rdx, %rax\n sub %r9, %rax\n"
     "mov %rax, %r10\n" STOP);

static void test_deadline(void **state)
{
	struct rig *r = *state;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, deadline_code);
	r->s.gpr[8] = clock_tsc_hz() / 100;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 1);
	assert_int_equal(rig_get(r, 0x70300) & 0xff, 0x34);
	assert_true((s64)r->s.gpr[10] >= 0); /* not early */
}

/* An NMI in an NMI handler waits for its IRET. */
CODE(nmi_code, 64, "nop\n nop\n nop\n" STOP);
CODE(nmi_handler, 64,
     "push %rax\n push %rcx\n push %rdx\n"
     "incl 0x70100\n cmpl $1, 0x70100\n jne 1f\n"
     "mov $0x830, %ecx\n mov $0x40400, %eax\n xor %edx, %edx\n wrmsr\n"
     "nop\n nop\n nop\n mov 0x70100, %ebx\n"
     "1: pop %rdx\n pop %rcx\n pop %rax\n iretq\n");

static void test_nmi(void **state)
{
	struct rig *r = *state;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, nmi_code);
	RIG_CODE(r, 0x4c000, nmi_handler);
	rig_gate64(r, VEC_NMI, 0x4c000, RIG_CS0_64, 0x8e00);
	r->s.nmi_pending = 1;
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 2);
	assert_int_equal(r->s.gpr[REG_BX], 1);
	assert_int_equal(r->s.nmi_masked, 0);
}

/* ---- A second processor ---- */

CODE(ap_code, 16,
     "mov %cs, %ax\n mov %ax, %ds\n movw $0x4150, 0x100\n"
     "1: hlt\n jmp 1b\n");
CODE(bsp_code, 64,
     "mov $0x830, %ecx\n mov $1, %edx\n mov $0x4500, %eax\n wrmsr\n"
     "mov $1, %edx\n mov $0x4609, %eax\n wrmsr\n"
     "1: cmpw $0x4150, 0x9100\n jne 1b\n" STOP);

static void *ap_thread(void *arg)
{
	struct vcpu *vc = arg;

	while (soft_engine.vcpu_run(vc) == VCPU_EXIT_HALTED)
		;
	return NULL;
}

static void test_sipi(void **state)
{
	struct rig *r = *state;
	struct cpu_state s;
	struct vcpu *ap;
	struct err e;
	pthread_t t;

	ap = soft_engine.vcpu_new(r->g, 1, &e);
	assert_non_null(ap);
	assert_int_equal(pthread_create(&t, NULL, ap_thread, ap), 0);
	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, bsp_code);
	RIG_CODE(r, 0x9000, ap_code);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	soft_engine.vcpu_kick(ap);
	pthread_join(t, NULL);
	soft_engine.vcpu_get(ap, &s, &e);
	assert_int_equal(s.seg[SEG_CS].sel, 0x900);
	soft_engine.vcpu_free(ap);
}

/* ---- Ports ---- */

CODE(port_code, 64,
     "mov $0x80, %edx\n out %al, %dx\n"   /* allowed by the bitmap */
     "mov $0x87, %edx\n out %ax, %dx\n"); /* 0x87 is, 0x88 is not */

static void test_io_bitmap(void **state)
{
	struct rig *r = *state;
	struct frame f;

	rig_long_mode(r);
	rig_user(r);
	RIG_CODE(r, RIG_CODE3, port_code);
	for (unsigned i = 0; i < 32; i++)
		rig_put(r, RIG_TSS + 0x68 + 8 * i, i == 2 ? ~0xffull : ~0ull);
	r->s.tr.limit = 0x168;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.rip, RIG_CODE3 + 11);
	/* with IOPL 3 nothing is looked up */
	rig_user(r);
	r->s.rflags |= RFLAGS_IOPL;
	r->s.tr.limit = 0x67;
	BYTES(r, RIG_CODE3 + 13, "\x0f\x0b");
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_UD);
	/* without, a TSS that ends before its bitmap forbids all */
	rig_user(r);
	r->s.rflags &= ~(u64)RFLAGS_IOPL;
	f = rig_frame(r);
	assert_int_equal(f.vector, VEC_GP);
	assert_int_equal(f.rip, RIG_CODE3 + 5);
}

CODE(outs_code, 64,
     "mov $0x100000, %esi\n mov $0xe9, %edx\n mov $5, %ecx\n rep outsb\n"
     "mov $0x101000, %edi\n mov $0x42, %edx\n mov $3, %ecx\n std\n"
     "rep insw\n" STOP);

static void test_string_io(void **state)
{
	struct rig *r = *state;

	rig_long_mode(r);
	RIG_CODE(r, RIG_CODE0, outs_code);
	BYTES(r, RIG_DATA, "hello");
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->nout, 5);
	assert_memory_equal(r->out, "hello", 5);
	assert_int_equal(rig_get(r, 0x100ffc), 0x004200420042);
	assert_int_equal(r->s.gpr[REG_DI], 0x101000 - 6);
	assert_int_equal(r->s.gpr[REG_CX], 0);
}

/* ---- MSRs, CPUID, the paravirtual interface ---- */

static void test_msrs(void **state)
{
	static const struct {
		u32 msr;
		u64 val;
		bool ok;
	} cases[] = {
		{MSR_LSTAR, 0xffff800000000000, true},
		{MSR_LSTAR, 0x0000800000000000, false},
		{MSR_SFMASK, 0x47700, true},
		{MSR_SFMASK, 0x100000000, false},
		{MSR_EFER, EFER_SCE | EFER_LME | EFER_NXE, true},
		{MSR_EFER, BIT64(12), false},
		{MSR_PAT, 0x0407050600070106, true},
		{MSR_PAT, 0x0407050600070102, false},
		{MSR_GS_BASE, 0x7fffffffffff, true},
		{MSR_GS_BASE, 0x8000000000000000, false},
		{MSR_SPEC_CTRL, 1, true},
		{MSR_SPEC_CTRL, 8, false},
		{MSR_MTRRCAP, 0, false},
		{MSR_MTRR_BASE0 + 16, 0, false},
		{MSR_MTRR_DEF_TYPE, 0xc06, true},
		{0x4b564d03, 0x100001, true},
		{0x4b564d03, 0x100003, false},
		{0x4b564d02, 1, false},
		{0x12345, 0, false},
	};
	struct rig *r = *state;
	u64 val;

	rig_long_mode(r);
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		if (cases[i].ok != msr_write(r->v, cases[i].msr, cases[i].val))
			fail_msg("MSR %#x = %#llx", cases[i].msr,
				 (unsigned long long)cases[i].val);
		if (!cases[i].ok)
			continue;
		assert_true(msr_read(r->v, cases[i].msr, &val));
		if (cases[i].msr == MSR_EFER) /* LMA is the processor's */
			val &= ~EFER_LMA;
		assert_int_equal(val, cases[i].val);
	}
	assert_true(msr_write(r->v, MSR_TSC_ADJUST, 1000));
	assert_true(msr_write(r->v, MSR_TSC, 0));
	assert_true(soft_tsc(r->v) < r->v->msr.tsc_adjust + BIT64(62));
	assert_in_range(soft_tsc(r->v), 0, clock_tsc_hz());
}

struct pvti {
	u32 version, pad0;
	u64 tsc, ns;
	u32 mul;
	s8 shift;
	u8 flags, pad[2];
};

static void test_kvmclock(void **state)
{
	struct rig *r = *state;
	struct pvti t;
	u64 tsc, ns, next;

	rig_long_mode(r);
	r->s.tsc = 123456789;
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	assert_true(msr_write(r->v, 0x4b564d01, 0x100000 | 1));
	assert_true(mem_read(&r->mem, 0x100000, &t, sizeof(t)));
	assert_int_equal(t.version & 1, 0);
	assert_int_not_equal(t.version, 0);
	assert_int_equal(t.flags, 1);
	for (unsigned i = 0; i < 2; i++) {
		tsc = soft_tsc(r->v) - t.tsc;
		tsc = t.shift < 0 ? tsc >> -t.shift : tsc << t.shift;
		ns = t.ns + (u64)((unsigned __int128)tsc * t.mul >> 32);
		next = mul_div(soft_tsc(r->v), 1000000000, clock_tsc_hz());
		assert_in_range(ns, next - 5000000, next);
	}
	/* another monitor counted from elsewhere: the clock goes on there */
	soft_engine.vcpu_get(r->vc, &r->s, NULL);
	t.ns += 5000000000;
	assert_true(mem_write(&r->mem, 0x100000, &t, sizeof(t)));
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	assert_true(mem_read(&r->mem, 0x100000, &t, sizeof(t)));
	tsc = soft_tsc(r->v) - t.tsc;
	tsc = t.shift < 0 ? tsc >> -t.shift : tsc << t.shift;
	ns = t.ns + (u64)((unsigned __int128)tsc * t.mul >> 32);
	next = mul_div(soft_tsc(r->v), 1000000000, clock_tsc_hz());
	assert_in_range(ns, next + 4995000000, next + 5000000000);
	/* the wall clock plus it is the time of day */
	assert_true(msr_write(r->v, 0x4b564d00, 0x100100));
	ns += (u64)(u32)rig_get(r, 0x100104) * 1000000000 +
	      (u32)rig_get(r, 0x100108);
	assert_in_range(ns, clock_real_ns() - 100000000, clock_real_ns());
}

/* The handler ends the interrupt by the flag, if it is set. */
CODE(pv_handler, 64,
     "incl 0x70100\n lock btrl $0, 0x100000\n jnc 1f\n"
     "incl 0x70104\n 1: add $8, %rsp\n iretq\n");
CODE(pv_code, 64,
     "sti\n nop\n nop\n"
     "mov $0x83f, %ecx\n mov $0x30, %eax\n xor %edx, %edx\n wrmsr\n"
     "nop\n nop\n"
     "mov $0x830, %ecx\n mov $0x4030, %eax\n mov $0, %edx\n wrmsr\n"
     "nop\n nop\n" STOP);

static void test_pv_eoi(void **state)
{
	struct rig *r = *state;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, pv_code);
	RIG_CODE(r, 0x4a000, pv_handler);
	rig_put32(r, 0x100000, 0);
	rig_put32(r, 0x70104, 0);
	r->s.pv_eoi = 0x100000 | 1;
	self_irq(r, 0x31);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(COUNT(r), 3);
	assert_int_equal((u32)rig_get(r, 0x70104), 3);
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(r->s.lapic.isr[i], 0);
}

CODE(hypercall_code, 64,
     "mov $10, %eax\n mov $1, %ebx\n xor %ecx, %ecx\n xor %edx, %edx\n"
     "mov $0x35, %esi\n vmcall\n mov %rax, %r8\n"
     "mov $99, %eax\n vmcall\n mov %rax, %r9\n"
     "sti\n nop\n nop\n cli\n" STOP);

static void test_hypercalls(void **state)
{
	struct rig *r = *state;

	irq_mode(r);
	RIG_CODE(r, RIG_CODE0, hypercall_code);
	assert_int_equal(rig_run(r), VCPU_EXIT_KICKED);
	assert_int_equal(r->s.gpr[8], 1); /* one processor reached */
	assert_int_equal((s64)r->s.gpr[9], -1000);
	assert_int_equal(COUNT(r), 1);
	assert_int_equal(rig_get(r, 0x70300) & 0xff, 0x35);
}

/* A flush that another vCPU asked for while this one did not run. */
static void test_pv_tlb_flush(void **state)
{
	struct rig *r = *state;

	rig_long_mode(r);
	rig_put(r, 0x100000, 0);
	rig_put(r, 0x100010, 0);
	r->s.pv_steal_time = 0x100000 | 1;
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	if (sigsetjmp(r->v->fault_env, 0))
		fail_msg("fault");
	pv_enter(r->v);
	rig_put(r, 0x110000, 1);
	rig_put(r, 0x120000, 2);
	assert_int_equal(soft_ld(r->v, 0x110000, 8), 1);
	pv_leave(r->v);
	assert_int_equal(rig_get(r, 0x100010) & 0xff, 1);
	rig_put(r, RIG_PT + 0x3000 + 8 * 0x110, 0x120000 | 7);
	rig_put(r, 0x100010, 3);
	pv_enter(r->v);
	assert_int_equal(rig_get(r, 0x100010) & 0xff, 0);
	assert_int_equal(soft_ld(r->v, 0x110000, 8), 2);
}

static void test_cpuid(void **state)
{
	struct rig *r = *state;

	rig_long_mode(r);
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	assert_false(sys_cpuid(r->v, 1, 0).ecx & BIT(27));
	r->s.cr4 |= CR4_OSXSAVE;
	r->s.xcr0 = 7;
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	assert_true(sys_cpuid(r->v, 1, 0).ecx & BIT(27));
	assert_int_equal(sys_cpuid(r->v, 0xd, 0).ebx, 832);
	r->s.xcr0 = 3;
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	assert_int_equal(sys_cpuid(r->v, 0xd, 0).ebx, 576);
}

/* State out and in again, at an instruction boundary: nothing changes. */
static void test_state_round_trip(void **state)
{
	struct rig *r = *state;
	struct cpu_state a, b;

	irq_mode(r);
	for (unsigned i = 0; i < 16; i++)
		r->s.gpr[i] = i * 0x0101010101010101;
	r->s.dr[1] = 0x1234;
	r->s.cr2 = 0xabcdef;
	r->s.kernel_gs_base = 0xffff880000000000;
	r->s.mtrr_fixed[3] = 0x0606060606060606;
	r->s.lapic.tpr = 0x20;
	r->s.shadow = 1;
	r->s.nmi_masked = 1;
	memset(r->s.xsave + 160, 0x5a, 256);
	memset(r->s.xsave + 576, 0xa5, 256);
	r->s.xsave[512] = 7;
	r->s.cr4 |= CR4_OSXSAVE;
	r->s.xcr0 = 7;
	r->s.rflags |= RFLAGS_CF | RFLAGS_OF | RFLAGS_IF;
	soft_engine.vcpu_set(r->vc, &r->s, NULL);
	soft_engine.vcpu_get(r->vc, &a, NULL);
	soft_engine.vcpu_set(r->vc, &a, NULL);
	soft_engine.vcpu_get(r->vc, &b, NULL);
	assert_in_range(b.tsc - a.tsc, 0, clock_tsc_hz());
	b.tsc = a.tsc;
	b.lapic.timer_ns = a.lapic.timer_ns;
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(a.rflags, r->s.rflags);
	assert_int_equal(a.shadow, 1);
	assert_int_equal(a.cr8, 2);
	assert_int_equal(a.nmi_masked, 1);
	assert_memory_equal(a.xsave + 160, r->s.xsave + 160, 256);
	assert_memory_equal(a.xsave + 576, r->s.xsave + 576, 256);
	assert_memory_equal(a.gpr, r->s.gpr, sizeof(a.gpr));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, rig_setup, rig_teardown)
	const struct CMUnitTest tests[] = {
		T(test_single_step),
		T(test_watchpoints),
		T(test_instruction_breakpoint),
		T(test_general_detect),
		T(test_irq_order),
		T(test_hlt_wakes),
		T(test_deadline),
		T(test_nmi),
		T(test_sipi),
		T(test_io_bitmap),
		T(test_string_io),
		T(test_msrs),
		T(test_kvmclock),
		T(test_pv_eoi),
		T(test_hypercalls),
		T(test_pv_tlb_flush),
		T(test_cpuid),
		T(test_state_round_trip),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
