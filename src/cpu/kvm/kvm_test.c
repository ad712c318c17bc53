/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The KVM engine with guests of a few bytes of real-mode code, on this
 * machine's own /dev/kvm (also one without hardware behind it: nothing here
 * needs more than an emulator). Skipped where there is none.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/kvm/kvm_testing.h"

RM(ports, "mov $0x10, %dx\n mov $0x11, %al\n out %al, %dx\n"
	  "mov $0x2222, %ax\n out %ax, %dx\n"
	  "mov $0x33333333, %eax\n out %eax, %dx\n"
	  "in %dx, %al\n mov %al, 0x2000\n in %dx, %ax\n mov %ax, 0x2002\n"
	  "in %dx, %eax\n mov %eax, 0x2004\n"
	  "cld\n mov $0x2010, %di\n mov $3, %cx\n rep insb\n"
	  "mov $0x2010, %si\n mov $3, %cx\n rep outsb\n 1: hlt\n jmp 1b")
RM(mmio, "mov $0xb000, %ax\n mov %ax, %ds\n mov $0x12345678, %eax\n"
	 "mov %al, 0\n mov %ax, 2\n mov %eax, 4\n"
	 "mov 8, %bl\n mov 10, %cx\n mov 12, %edx\n 1: hlt\n jmp 1b")
/* Writes 0x55 to f000:0, then tells port 0x10 what is there. */
RM(rom, "mov $0xf000, %ax\n mov %ax, %ds\n movb $0x55, 0\n mov 0, %al\n"
	"out %al, $0x10\n 1: hlt\n jmp 1b")
RM(halt, "sti\n 1: hlt\n jmp 1b")
RM(spin, "1: inc %eax\n jmp 1b")
/* RDMSR or WRMSR of each; #GP adds 1 to BL. EAX of reads to port 0x10. */
RM(msrs, "movw $0x1000+9f-rm_msrs, 13*4\n movw $0, 13*4+2\n xor %bx, %bx\n"
	 "mov $0x40000000, %ecx\n rdmsr\n wrmsr\n" /* Hyper-V: #GP twice */
	 "mov $0xc1, %ecx\n rdmsr\n"               /* counter: #GP */
	 "mov $0x12345, %ecx\n rdmsr\n"            /* nobody's: #GP */
	 "mov $0x17, %ecx\n wrmsr\n"               /* constant: #GP */
	 "mov $0x3a, %ecx\n rdmsr\n mov $0x10, %dx\n out %eax, %dx\n"
	 "mov $0x11e, %ecx\n rdmsr\n mov $0x10, %dx\n out %eax, %dx\n"
	 "wrmsr\n mov $0xc0010015, %ecx\n wrmsr\n" /* swallowed */
	 "mov %bl, %al\n mov $0x11, %dx\n out %al, %dx\n 1: hlt\n jmp 1b\n"
	 "9: inc %bx\n mov %sp, %bp\n addw $2, (%bp)\n iret")
RM(irq, "movw $0x1000+1f-rm_irq, 0x20*4\n movw $0, 0x20*4+2\n sti\n 0: hlt\n "
	"jmp 0b\n"
	"1: mov $0x77, %al\n out %al, $0x20\n iret")

/* x2APIC on; each interrupt 0x20, 0x21 writes its vector to port 0x20 */
RM(lapic, "movw $0x1000+2f-rm_lapic, 0x20*4\n movw $0, 0x20*4+2\n"
	  "movw $0x1000+3f-rm_lapic, 0x21*4\n movw $0, 0x21*4+2\n"
	  "mov $0x1b, %ecx\n rdmsr\n or $0xc00, %ax\n wrmsr\n"
	  "mov $0x80f, %ecx\n xor %edx, %edx\n mov $0x1ff, %eax\n wrmsr\n"
	  "out %al, $0x21\n sti\n 0: hlt\n jmp 0b\n"
	  "2: mov $0x20, %bl\n jmp 4f\n 3: mov $0x21, %bl\n"
	  "4: mov $0x80b, %ecx\n xor %eax, %eax\n xor %edx, %edx\n wrmsr\n"
	  "mov %bl, %al\n out %al, $0x20\n iret")
RM(scribble, "xor %eax, %eax\n mov $0x2000, %di\n"
	     "1: mov %di, %ds\n mov %al, 0\n add $0x100, %di\n"
	     "cmp $0x9000, %di\n jne 1b\n out %al, $0x10\n 2: hlt\n jmp 2b")

/* In flat 32-bit mode: more pages than a dirty ring holds */
RM(pages, ".code32\n mov $0x200000, %edi\n 1: mov %eax, (%edi)\n"
	  "add $0x1000, %edi\n cmp $0x1e00000, %edi\n jne 1b\n"
	  "out %al, $0x10\n 2: hlt\n jmp 2b")

/* In flat 32-bit mode: runs a guest of its own, whose ports are ours */
RM(svm, ".code32\n mov $0xc0000080, %ecx\n rdmsr\n or $0x1000, %eax\n wrmsr\n"
	"mov $0xc0010117, %ecx\n xor %edx, %edx\n mov $0x5000, %eax\n wrmsr\n"
	"mov $0x4000, %eax\n vmrun %eax\n"
	"mov $0x99, %al\n out %al, $0x20\n 1: hlt\n jmp 1b\n"
	"rm_svm_inner: xor %eax, %eax\n 2: out %al, $0x21\n inc %al\n"
	"cmp $5, %al\n jne 2b\n vmmcall")
extern const u8 rm_svm_inner[];
#define VMCB 0x4000u

static void ports(void **state)
{
	u8 got[8];
	RIG(r, ports);

	(void)state;
	r.stop_after = 12;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	rig_check(&r, 0, 0x10, 0x11, 1, true);
	rig_check(&r, 1, 0x10, 0x2222, 2, true);
	rig_check(&r, 2, 0x10, 0x33333333, 4, true);
	for (unsigned i = 3; i < 6; i++)
		rig_check(&r, i, 0x10, 0, 1u << (i - 3), false);
	mem_read(&r.mem, 0x2000, got, 8);
	assert_int_equal(got[0], 0xd8);
	assert_int_equal(got[2] | got[3] << 8, 0xc3d9);
	assert_int_equal(got[4], 0xda);
	rig_check(&r, 9, 0x10, 0xdb, 1, true);
	rig_check(&r, 11, 0x10, 0xdd, 1, true);
	assert_int_equal(r.n, 12);
	assert_int_equal(rig_state(&r).gpr[REG_CX], 0);
	rig_fini(&r);
}

static void msrs_are_filtered(void **state)
{
	RIG(r, msrs);

	(void)state;
	if (!kvm_cap(kvm_of(r.g)->fd, KVM_CAP_X86_MSR_FILTER)) {
		rig_fini(&r);
		skip();
	}
	r.stop_after = 3;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	rig_check(&r, 0, 0x10, 1, 4, true);
	rig_check(&r, 1, 0x10, 0xbe702111, 4, true);
	rig_check(&r, 2, 0x11, 5, 1, true);
	assert_true(r.v->stat[VCPU_STAT_EXIT_MSR] >= 4);
	rig_fini(&r);
}

static void mmio(void **state)
{
	struct cpu_state s;
	RIG(r, mmio);

	(void)state;
	r.stop_after = 6;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	rig_check(&r, 0, 0xb0000, 0x78, 1, true);
	rig_check(&r, 1, 0xb0002, 0x5678, 2, true);
	rig_check(&r, 2, 0xb0004, 0x12345678, 4, true);
	rig_check(&r, 3, 0xb0008, 0, 1, false);
	rig_check(&r, 5, 0xb000c, 0, 4, false);
	/* The kick came during the last read: its result must have arrived. */
	s = rig_state(&r);
	assert_int_equal(s.gpr[REG_BX] & 0xff, 0x8c);
	assert_int_equal(s.gpr[REG_CX] & 0xffff, 0x778d);
	assert_int_equal(s.gpr[REG_DX] & 0xffffffff, 0x5566778e);
	assert_int_equal(r.v->stat[VCPU_STAT_MMIO], 6);
	rig_fini(&r);
}

static void rig_again(struct rig *r, unsigned accesses)
{
	struct cpu_state s = rig_state(r);
	struct err e;

	s.rip = CODE;
	assert_int_equal(kvm_engine.vcpu_set(r->v, &s, &e), 0);
	r->n = 0;
	r->stop_after = accesses;
	assert_int_equal(kvm_engine.mem_changed(r->g, &e), 0);
	assert_int_equal(kvm_engine.vcpu_run(r->v), VCPU_EXIT_KICKED);
}

/* The same program without memory at f000:0, with ROM, with RAM, without. */
static void slots_come_and_go(void **state)
{
	struct err e;
	RIG(r, rom);

	(void)state;
	r.mem.base[0xf0000] = 0x99;
	for (int round = 0; round < 2; round++) {
		unsigned n = r.mem.nslots;
		struct mem_slot *slot;

		rig_again(&r, 3);
		rig_check(&r, 0, 0xf0000, 0x55, 1, true);
		rig_check(&r, 1, 0xf0000, 0, 1, false);
		mem_add_slot(&r.mem, 0xf0000, 64 * KIB, 0xf0000, true, &e);
		rig_again(&r, 2);
		rig_check(&r, 0, 0xf0000, 0x55, 1, true);
		rig_check(&r, 1, 0x10, 0x99, 1, true);
		slot = (struct mem_slot *)mem_find(&r.mem, 0xf0000);
		slot->readonly = false;
		rig_again(&r, 1);
		rig_check(&r, 0, 0x10, 0x55, 1, true);
		r.mem.base[0xf0000] = 0x99;
		memmove(slot, slot + 1,
			(size_t)(r.mem.slot + n - slot) * sizeof(*slot));
		r.mem.nslots = n;
	}
	rig_fini(&r);
}

/* At every access of the program state is taken out and put back. */
static void state_at_every_exit(void **state)
{
	RIG(r, ports);

	(void)state;
	while (r.n < 12) {
		struct cpu_state s;
		struct err e;

		r.stop_after = r.n + 1;
		assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
		s = rig_state(&r);
		kvm_engine.vcpu_free(r.v);
		kvm_engine.free(r.g);
		r.g = kvm_engine.new(&(struct engine_config){.mem = &r.mem,
							     .ops = &rig_ops,
							     .machine = &r,
							     .cpus = 1},
				     &e);
		r.v = kvm_engine.vcpu_new(r.g, 0, &e);
		if (kvm_engine.vcpu_set(r.v, &s, &e) < 0)
			fail_msg("%s", e.text);
	}
	rig_check(&r, 11, 0x10, 0xdd, 1, true);
	rig_fini(&r);
}

struct kicker {
	struct vcpu *v;
	_Atomic unsigned runs;
	unsigned kicks;
	bool lost;
};

static void *kicker(void *arg)
{
	struct kicker *k = arg;

	for (unsigned i = 0; i < k->kicks; i++) {
		u64 end = clock_ns() + 5000000000;

		kvm_engine.vcpu_kick(k->v);
		while (atomic_load(&k->runs) <= i && clock_ns() < end)
			sched_yield();
		k->lost |= clock_ns() >= end;
	}
	return NULL;
}

/* Each kick ends one vcpu_run(), whenever it comes. */
static void kicks_are_not_lost(struct rig *r)
{
	struct kicker k = {.v = r->v, .kicks = 500};
	pthread_t t;

	pthread_create(&t, NULL, kicker, &k);
	for (unsigned i = 0; i < k.kicks; i++) {
		assert_int_equal(kvm_engine.vcpu_run(r->v), VCPU_EXIT_KICKED);
		atomic_fetch_add(&k.runs, 1);
	}
	pthread_join(t, NULL);
	assert_false(k.lost);
	rig_fini(r);
}

static void kicks_while_halted(void **state)
{
	RIG(r, halt);

	(void)state;
	kicks_are_not_lost(&r);
}

static void kicks_while_running(void **state)
{
	RIG(r, spin);

	(void)state;
	kicks_are_not_lost(&r);
}

static void extint(void **state)
{
	RIG(r, irq);

	(void)state;
	for (int i = 0; i < 3; i++) {
		r.n = 0;
		r.stop_after = 1;
		r.vector = 0x20;
		kvm_engine.extint(r.g, true);
		assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
		rig_check(&r, 0, 0x20, 0x77, 1, true);
		assert_int_equal(r.vector, -1);
	}
	assert_int_equal(r.v->stat[VCPU_STAT_IRQ], 3);
	rig_fini(&r);
}

static void dirty_collect(struct rig *r, unsigned long *seen)
{
	struct err e;

	assert_int_equal(kvm_engine.dirty_sync(r->g, &e), 0);
	mem_dirty_collect(&r->mem, seen);
}

/* The program writes pages 0x20 to 0x8f. */
static void dirty_pages(bool ring)
{
	unsigned long seen[RAM / PAGE_SIZE / 64];
	struct err e;
	struct rig r;

	rig_init(&r, rm_scribble, rm_scribble_end, ring);
	if (ring && !kvm_of(r.g)->ring_size)
		skip();
	assert_int_equal(mem_dirty_start(&r.mem, &e), 0);
	assert_int_equal(kvm_engine.dirty_start(r.g, &e), 0);
	r.stop_after = 1;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	dirty_collect(&r, seen);
	/* KVM also calls a page dirty that it maps writable: the code. */
	assert_int_equal(seen[0] & ~2ul, ~0ul << 32);
	assert_int_equal(seen[1], ~0ul);
	assert_int_equal(seen[2], 0xffff);
	dirty_collect(&r, seen);
	assert_int_equal(seen[0], 0);
	kvm_engine.dirty_stop(r.g);
	mem_dirty_stop(&r.mem);
	rig_fini(&r);
}

static void dirty_bitmap(void **state)
{
	(void)state;
	dirty_pages(false);
}

static void dirty_ring(void **state)
{
	(void)state;
	dirty_pages(true);
}

static void rig_flat(struct rig *r)
{
	struct cpu_state s = rig_state(r);
	struct err e;

	s.cr0 |= CR0_PE;
	for (unsigned i = SEG_ES; i <= SEG_GS; i++)
		s.seg[i] = (struct seg_state){
			.limit = ~0u,
			.sel = i == SEG_CS ? 8 : 16,
			.attr = i == SEG_CS ? 0xc09b : 0xc093,
		};
	assert_int_equal(kvm_engine.vcpu_set(r->v, &s, &e), 0);
}

static void poke(struct rig *r, u64 at, u64 val, size_t len)
{
	memcpy(r->mem.base + at, &val, len);
}

/* A VMCB in which rm_svm's own guest starts in flat 32-bit mode (APM volume
 * 2, appendix B). */
static void make_vmcb(struct rig *r, u64 rip)
{
	const u64 segs = VMCB + 0x400;

	poke(r, VMCB + 0x10, 3, 4); /* intercepts VMRUN, VMMCALL */
	poke(r, VMCB + 0x58, 1, 4); /* ASID */
	for (unsigned i = 0; i < 6; i++) {
		poke(r, segs + 16 * i, i == 1 ? 8 : 16, 2);
		poke(r, segs + 16 * i + 2, i == 1 ? 0xc9b : 0xc93, 2);
		poke(r, segs + 16 * i + 4, 0xffffffff, 4);
	}
	poke(r, VMCB + 0x4d0, 0x1000, 8); /* EFER.SVME */
	poke(r, VMCB + 0x558, 0x11, 8);   /* CR0 */
	poke(r, VMCB + 0x560, 0x400, 8);  /* DR7 */
	poke(r, VMCB + 0x568, 0xffff0ff0, 8);
	poke(r, VMCB + 0x570, 2, 8); /* RFLAGS */
	poke(r, VMCB + 0x578, rip, 8);
	poke(r, VMCB + 0x668, 0x0007040600070406, 8); /* PAT */
}

/* Pages of 4 MiB, as they are: KVM has VMRUN only with paging. */
static void rig_paging(struct rig *r)
{
	struct cpu_state s = rig_state(r);
	struct err e;

	for (u64 i = 0; i < RAM / (4 * MIB); i++)
		poke(r, 0x6000 + 4 * i, i << 22 | 0x83, 4);
	s.cr3 = 0x6000;
	s.cr4 |= CR4_PSE;
	s.cr0 |= CR0_PG;
	assert_int_equal(kvm_engine.vcpu_set(r->v, &s, &e), 0);
}

/* A guest that runs a guest moves to another VM while the inner one runs. */
static void nested_moves(void **state)
{
	struct cpu_state s;
	struct rig a, b;
	struct err e;
	u16 format;

	(void)state;
	rig_make(&a, rm_svm, rm_svm_end, false, true);
	s = rig_state(&a);
	memcpy(&format, s.nested + 2, sizeof(format));
	if (!s.nested_size || format != KVM_STATE_NESTED_FORMAT_SVM ||
	    kself_test(kvm_of(a.g)->sys, NULL)) {
		rig_fini(&a);
		skip();
	}
	rig_flat(&a);
	rig_paging(&a);
	make_vmcb(&a, CODE + ((u64)rm_svm_inner - (u64)rm_svm));
	a.stop_after = 2;
	assert_int_equal(kvm_engine.vcpu_run(a.v), VCPU_EXIT_KICKED);
	rig_check(&a, 0, 0x21, 0, 1, true);
	rig_check(&a, 1, 0x21, 1, 1, true);
	s = rig_state(&a);
	rig_make(&b, rm_svm, rm_svm_end, false, true);
	memcpy(b.mem.base, a.mem.base, 640 * KIB);
	rig_fini(&a);
	if (kvm_engine.vcpu_set(b.v, &s, &e) < 0)
		fail_msg("%s", e.text);
	b.stop_after = 4;
	assert_int_equal(kvm_engine.vcpu_run(b.v), VCPU_EXIT_KICKED);
	for (unsigned i = 0; i < 3; i++)
		rig_check(&b, i, 0x21, i + 2, 1, true);
	rig_check(&b, 3, 0x20, 0x99, 1, true);
	rig_fini(&b);
}

static void dirty_ring_fills_up(void **state)
{
	static unsigned long seen[RAM / PAGE_SIZE / 64];
	struct err e;
	struct rig r;

	(void)state;
	rig_init(&r, rm_pages, rm_pages_end, true);
	/* A KVM without hardware also forgets pages. */
	if (!kvm_of(r.g)->ring_size || kself_test(kvm_of(r.g)->sys, NULL)) {
		rig_fini(&r);
		skip();
	}
	rig_flat(&r);
	assert_int_equal(mem_dirty_start(&r.mem, &e), 0);
	assert_int_equal(kvm_engine.dirty_start(r.g, &e), 0);
	r.stop_after = 1;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	assert_true(r.v->stat[VCPU_STAT_EXIT_RING] > 0);
	dirty_collect(&r, seen);
	for (unsigned page = 0x200; page < 0x1e00; page++)
		assert_true(seen[page / 64] >> page % 64 & 1);
	rig_fini(&r);
}

static void expect_vector(struct rig *r, u8 vector)
{
	r->n = 0;
	r->stop_after = 1;
	assert_int_equal(kvm_engine.vcpu_run(r->v), VCPU_EXIT_KICKED);
	rig_check(r, 0, 0x20, vector, 1, true);
}

/* The KVM of a host without hardware for it loses ends of interrupts. */
static void expect_ended(struct rig *r, int vector)
{
	if (!kself_test(kvm_of(r->g)->sys, NULL))
		assert_int_equal(r->ended, vector);
}

static void messages(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	RIG(r, lapic);

	(void)state;
	r.stop_after = 1;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	kvm_engine.msi(r.g, LAPIC_BASE, 0x20);
	expect_vector(&r, 0x20);
	assert_int_equal(r.ended, -1);
	/* level-triggered: the I/O APIC is told of the EOI */
	for (int i = 0; i < 3; i++) {
		r.ended = -1;
		kvm_engine.msi(r.g, LAPIC_BASE, 0xc021);
		expect_vector(&r, 0x21);
		expect_ended(&r, 0x21);
	}
	assert_int_equal(kvm_engine.irqfd(r.g, fd, LAPIC_BASE, 0x20), 0);
	eventfd_write(fd, 1);
	expect_vector(&r, 0x20);
	assert_int_equal(kvm_engine.irqfd(r.g, fd, LAPIC_BASE, 0x21), 0);
	eventfd_write(fd, 1);
	expect_vector(&r, 0x21);
	assert_int_equal(kvm_engine.irqfd(r.g, fd, 0, 0), 0);
	close(fd);
	rig_fini(&r);
}

/* More messages than pins: the oldest make room, none is lost. */
static void many_levels(void **state)
{
	RIG(r, lapic);

	(void)state;
	for (unsigned i = 0; i < 3 * KVM_IOAPIC_PINS; i++)
		kvm_engine.msi(r.g, LAPIC_BASE, 0xc030 + i);
	assert_int_equal(kvm_of(r.g)->nroutes, KVM_IOAPIC_PINS);
	r.stop_after = 1;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	kvm_engine.msi(r.g, LAPIC_BASE, 0xc021);
	expect_vector(&r, 0x21);
	expect_ended(&r, 0x21);
	rig_fini(&r);
}

static void clock_moves(void **state)
{
	u64 ns;
	RIG(r, halt);

	(void)state;
	assert_int_equal(kvm_engine.clock_set(r.g, 5000000000000), 0);
	assert_int_equal(kvm_engine.clock_get(r.g, &ns), 0);
	assert_in_range(ns, 5000000000000, 5010000000000);
	rig_fini(&r);
}

static void ioeventfd_takes_the_write(void **state)
{
	int fd = eventfd(0, EFD_NONBLOCK);
	u64 n = 0;
	RIG(r, mmio);

	(void)state;
	assert_int_equal(kvm_engine.ioeventfd(r.g, 0xb0002, 2, fd, true), 0);
	r.stop_after = 5;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_KICKED);
	assert_int_equal(read(fd, &n, sizeof(n)), sizeof(n));
	assert_int_equal(n, 1);
	assert_int_equal(r.log[1].at, 0xb0004);
	assert_int_equal(kvm_engine.ioeventfd(r.g, 0xb0002, 2, fd, false), 0);
	close(fd);
	rig_fini(&r);
}

static int need_kvm(void **state)
{
	int fd = open("/dev/kvm", O_RDWR);
	struct err e = {.text = "cannot open /dev/kvm"};

	(void)state;
	if (fd >= 0 && !kprobe_check(fd, &e)) {
		close(fd);
		return 0;
	}
	print_message("no KVM here: %s\n", e.text);
	return 1;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ports),
		cmocka_unit_test(msrs_are_filtered),
		cmocka_unit_test(mmio),
		cmocka_unit_test(slots_come_and_go),
		cmocka_unit_test(state_at_every_exit),
		cmocka_unit_test(kicks_while_halted),
		cmocka_unit_test(kicks_while_running),
		cmocka_unit_test(extint),
		cmocka_unit_test(dirty_bitmap),
		cmocka_unit_test(dirty_ring),
		cmocka_unit_test(dirty_ring_fills_up),
		cmocka_unit_test(nested_moves),
		cmocka_unit_test(messages),
		cmocka_unit_test(many_levels),
		cmocka_unit_test(clock_moves),
		cmocka_unit_test(ioeventfd_takes_the_write),
	};
	void *none = NULL;

	if (need_kvm(&none)) {
		print_message("skip kvm: no usable /dev/kvm\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
