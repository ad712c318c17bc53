/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The self-test of the hardware behind /dev/kvm: a guest that executes at CPL
 * 0 what every kernel executes, and goes to CPL 3 and back.
 *
 * There are hosts whose /dev/kvm has no hardware behind it and runs ring 0 in
 * KVM's instruction emulator, which lacks many instructions; on some it fails
 * with an error, on some KVM_RUN does not come back and ignores signals.
 * So the guest is run by a child process, which is left behind if it hangs.
 * Guest memory is shared with the child: the guest notes there what it is at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/kvm/kvm_priv.h"
#include "cpu/x86/x86.h"

/* A child whose guest has used so much CPU time hangs; so does one that has
 * not finished by the later time, however busy the host is. */
#define SELF_CPU_NS  50000000ull
#define SELF_WALL_NS 1000000000ull

/* The guest's memory, identity-mapped; below 64 KiB */
enum {
	SELF_PML4 = 0x1000,
	SELF_PDPT = 0x2000,
	SELF_PD = 0x3000,
	SELF_GDT = 0x4000,
	SELF_TSS = 0x4800,
	SELF_IDT = 0x5000,
	SELF_CODE = 0x6000,
	SELF_STAGE = 0x8000, /* u32, written by the guest */
	SELF_CLOCK = 0x8100, /* u64, child's CPU time at KVM_RUN */
	SELF_XSAVE = 0x9000,
	SELF_STACK = 0xe000,
	SELF_USER_STACK = 0xf000,
	SELF_SIZE = 0x10000,
};

#define SELF_PORT_GOOD 0xf0
#define SELF_PORT_TRAP 0xf2 /* unexpected exception */

/* In the order of the guest's stages. */
static const char *const self_stages[] = {
	"the first instruction",
	"LOCK XADD",
	"LOCK CMPXCHG16B",
	"SSE",
	"XGETBV and XSETBV",
	"XSAVE",
	"XRSTOR",
	"INT3",
	"an exception and IRETQ",
	"WRMSR",
	"SWAPGS",
	"a far return",
	"IRETQ to user mode and SYSCALL",
	"SYSRETQ",
};

/*
 * Selectors: 8 code, 0x10 data, 0x20 user data, 0x28 user code, 0x30 TSS.
 * Gate 3 leads to self_bp, 6 to self_ud, all others to self_trap.
 */
__asm__(".pushsection .rodata\n"
	".macro STAGE n\n movl $\\n, 0x8000\n.endm\n"
	"self_code:\n"
	"STAGE 1\n mov $5, %eax\n movq $7, 0x8010\n"
	"lock xaddq %rax, 0x8010\n cmp $7, %rax\n jne self_wrong\n"
	"cmpq $12, 0x8010\n jne self_wrong\n"
	"STAGE 2\n xor %eax, %eax\n xor %edx, %edx\n movq %rax, 0x8020\n"
	"movq %rax, 0x8028\n mov $1, %ebx\n mov $2, %ecx\n"
	"lock cmpxchg16b 0x8020\n jne self_wrong\n"
	"cmpq $2, 0x8028\n jne self_wrong\n"
	"STAGE 3\n mov $3, %eax\n cvtsi2sd %rax, %xmm1\n"
	"addsd %xmm1, %xmm1\n pxor %xmm2, %xmm2\n cvttsd2si %xmm1, %eax\n"
	"cmp $6, %eax\n jne self_wrong\n"
	"STAGE 4\n mov %cr4, %rax\n bt $18, %eax\n jnc 1f\n"
	"xor %ecx, %ecx\n xgetbv\n test $1, %al\n jz self_wrong\n"
	"mov $3, %eax\n xor %edx, %edx\n xsetbv\n"
	"STAGE 5\n xsave 0x9000\n"
	"STAGE 6\n pxor %xmm1, %xmm1\n mov $3, %eax\n xor %edx, %edx\n"
	"xrstor 0x9000\n cvttsd2si %xmm1, %eax\n cmp $6, %eax\n"
	"jne self_wrong\n"
	"1: STAGE 7\n xor %esi, %esi\n int3\n cmp $3, %esi\n jne self_wrong\n"
	"STAGE 8\n ud2\n cmp $6, %esi\n jne self_wrong\n"
	"STAGE 9\n mov $0xc0000102, %ecx\n mov $0x8040, %eax\n"
	"xor %edx, %edx\n wrmsr\n xor %eax, %eax\n rdmsr\n"
	"cmp $0x8040, %eax\n jne self_wrong\n"
	"STAGE 10\n swapgs\n movl $77, %gs:0\n swapgs\n cmpl $77, 0x8040\n"
	"jne self_wrong\n"
	"STAGE 11\n pushq $8\n lea 1f(%rip), %rax\n push %rax\n lretq\n"
	"1: mov $0xc0000080, %ecx\n rdmsr\n or $1, %al\n wrmsr\n"
	"mov $0xc0000082, %ecx\n lea self_syscall(%rip), %rax\n"
	"xor %edx, %edx\n wrmsr\n mov $0xc0000081, %ecx\n xor %eax, %eax\n"
	"mov $0x00180008, %edx\n wrmsr\n xor %ebx, %ebx\n"
	"STAGE 12\n pushq $0x23\n pushq $0xf000\n pushq $2\n pushq $0x2b\n"
	"lea self_user(%rip), %rax\n push %rax\n iretq\n"
	"self_user: lock incl 0x8060\n syscall\n incl 0x8060\n syscall\n"
	"self_syscall: inc %ebx\n cmp $2, %ebx\n je self_good\n"
	"STAGE 13\n sysretq\n"
	"self_good: cmpl $2, 0x8060\n jne self_wrong\n"
	"mov $0xf0, %dx\n out %al, %dx\n hlt\n"
	"self_bp: mov $3, %esi\n iretq\n"
	"self_ud: mov $6, %esi\n addq $2, (%rsp)\n iretq\n"
	"self_wrong:\n self_trap: mov $0xf2, %dx\n out %al, %dx\n hlt\n"
	"self_end:\n.popsection\n");
extern const u8 self_code[], self_end[], self_bp[], self_ud[], self_trap[];

static void self_gate(u8 *mem, unsigned vector, const u8 *handler)
{
	u64 at = SELF_CODE + (u64)(handler - self_code);
	u64 *g = (u64 *)(mem + SELF_IDT) + 2 * vector;

	g[0] = (at & 0xffff) | 8u << 16 | 0x8eull << 40;
	g[1] = 0;
}

static void self_fill(u8 *mem)
{
	static const u64 gdt[] = {
		0,
		0x00af9b000000ffff,
		0x00cf93000000ffff,
		0,
		0x00cff3000000ffff,
		0x00affb000000ffff,
		0x00008b0000000067 | (u64)SELF_TSS << 16,
		0,
	};
	u64 stack = SELF_STACK;

	memcpy(mem + SELF_CODE, self_code,
	       (uintptr_t)self_end - (uintptr_t)self_code);
	memcpy(mem + SELF_GDT, gdt, sizeof(gdt));
	memcpy(mem + SELF_TSS + 4, &stack, sizeof(stack));
	*(u64 *)(mem + SELF_PML4) = SELF_PDPT | PTE_P | PTE_W | PTE_U;
	*(u64 *)(mem + SELF_PDPT) = SELF_PD | PTE_P | PTE_W | PTE_U;
	*(u64 *)(mem + SELF_PD) = PTE_PS | PTE_P | PTE_W | PTE_U;
	for (unsigned i = 0; i < 32; i++)
		self_gate(mem, i, self_trap);
	self_gate(mem, VEC_BP, self_bp);
	self_gate(mem, VEC_UD, self_ud);
}

static struct kvm_segment self_seg(u16 selector, u8 type, bool l)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = type,
		.present = 1,
		.db = !l,
		.s = 1,
		.l = l,
		.g = 1,
	};
}

static int self_registers(int vcpu)
{
	struct kvm_regs r = {
		.rip = SELF_CODE,
		.rsp = SELF_STACK,
		.rflags = RFLAGS_FIXED,
	};
	struct kvm_sregs s;
	int rc = kvm_ioctl(vcpu, KVM_GET_SREGS, &s);

	if (rc < 0)
		return rc;
	s.cs = self_seg(8, 11, true);
	s.ds = s.es = s.fs = s.gs = s.ss = self_seg(0x10, 3, false);
	s.tr = (struct kvm_segment){
		.base = SELF_TSS,
		.limit = 0x67,
		.selector = 0x30,
		.type = 11,
		.present = 1,
	};
	s.gdt = (struct kvm_dtable){.base = SELF_GDT, .limit = 63};
	s.idt = (struct kvm_dtable){.base = SELF_IDT, .limit = 511};
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr3 = SELF_PML4;
	s.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s.efer = EFER_LME | EFER_LMA | EFER_NXE;
	rc = kvm_ioctl(vcpu, KVM_SET_REGS, &r);
	if (rc < 0)
		return rc;
	s.cr4 |= CR4_OSXSAVE;
	rc = kvm_ioctl(vcpu, KVM_SET_SREGS, &s);
	if (rc != -EINVAL)
		return rc;
	s.cr4 &= ~CR4_OSXSAVE; /* an old CPU: the guest skips XSAVE */
	return kvm_ioctl(vcpu, KVM_SET_SREGS, &s);
}

static int self_cpuid(int sys, int vcpu)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entry[256];
	} c;
	int rc;

	memset(&c, 0, sizeof(c));
	c.head.nent = ARRAY_LEN(c.entry);
	rc = kvm_ioctl(sys, KVM_GET_SUPPORTED_CPUID, &c);
	return rc < 0 ? rc : kvm_ioctl(vcpu, KVM_SET_CPUID2, &c);
}

/* How the child ended, as it writes it into the pipe. */
struct self_result {
	int rc; /* of setting up, -errno */
	u32 exit, sub;
	u16 port;
};

static struct kvm_run *self_vcpu(int sys, u8 *mem, int *vcpu, int *rc)
{
	struct kvm_userspace_memory_region r = {
		.memory_size = SELF_SIZE,
		.userspace_addr = (u64)(uintptr_t)mem,
	};
	int size = kvm_ioctl(sys, KVM_GET_VCPU_MMAP_SIZE, NULL);
	int vm = kvm_ioctl(sys, KVM_CREATE_VM, NULL);
	void *run;

	*rc = vm;
	if (vm < 0)
		return NULL;
	*rc = kvm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
	if (*rc < 0)
		return NULL;
	*vcpu = *rc = kvm_ioctl(vm, KVM_CREATE_VCPU, NULL);
	if (*rc < 0)
		return NULL;
	run = mmap(NULL, (size_t)size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   *vcpu, 0);
	return run == MAP_FAILED ? NULL : run;
}

static void self_child(int sys, u8 *mem, int out)
{
	struct self_result res = {0};
	struct kvm_run *run;
	int vcpu;

	run = self_vcpu(sys, mem, &vcpu, &res.rc);
	if (run) {
		res.rc = self_cpuid(sys, vcpu);
		if (!res.rc)
			res.rc = self_registers(vcpu);
		*(volatile u64 *)(mem + SELF_CLOCK) =
			clock_read_ns(CLOCK_PROCESS_CPUTIME_ID);
		if (!res.rc)
			res.rc = kvm_ioctl(vcpu, KVM_RUN, NULL);
		res.exit = run->exit_reason;
		res.sub = run->internal.suberror;
		res.port = res.exit == KVM_EXIT_IO ? run->io.port : 0;
	}
	if (write(out, &res, sizeof(res)) != sizeof(res))
		_exit(1);
	_exit(0);
}

/* True as long as the child may still come to an end by itself. */
static bool self_patience(pid_t child, const u8 *mem, u64 start)
{
	u64 running = *(const volatile u64 *)(mem + SELF_CLOCK);
	clockid_t clock;

	if (clock_ns() - start > SELF_WALL_NS)
		return false;
	if (!running || clock_getcpuclockid(child, &clock))
		return true;
	return clock_read_ns(clock) < running + SELF_CPU_NS;
}

/* 0 and the result, or -ETIMEDOUT. */
static int self_wait(pid_t child, const u8 *mem, int in,
		     struct self_result *res)
{
	struct pollfd p = {.fd = in, .events = POLLIN};
	u64 start = clock_ns();

	while (self_patience(child, mem, start))
		if (poll(&p, 1, 10) > 0)
			return read(in, res, sizeof(*res)) == sizeof(*res)
				       ? 0
				       : -EIO;
	return -ETIMEDOUT;
}

static const char *self_stage(const u8 *mem)
{
	u32 at = *(const volatile u32 *)(mem + SELF_STAGE);

	return self_stages[at < ARRAY_LEN(self_stages) ? at : 0];
}

static int self_verdict(const struct self_result *r, const u8 *mem,
			struct err *e)
{
	const char *stage = self_stage(mem);

	if (r->rc < 0)
		return err_errno(e, r->rc, "KVM cannot run a test guest");
	if (r->exit == KVM_EXIT_IO && r->port == SELF_PORT_GOOD)
		return 0;
	if (r->exit == KVM_EXIT_IO)
		return err_set(e, -ENOTSUP,
			       "KVM fails its self-test: %s is wrong", stage);
	if (r->exit == KVM_EXIT_INTERNAL_ERROR)
		return err_set(e, -ENOTSUP,
			       "KVM fails its self-test: it cannot do %s",
			       stage);
	return err_set(e, -ENOTSUP, "KVM fails its self-test: exit %u at %s",
		       r->exit, stage);
}

static int self_run(int sys, u8 *mem, struct err *e)
{
	struct self_result res;
	int p[2], rc;
	pid_t child;

	if (pipe2(p, O_CLOEXEC))
		return err_errno(e, -errno, "cannot make a pipe");
	child = fork();
	if (!child)
		self_child(sys, mem, p[1]);
	close(p[1]);
	if (child < 0) {
		close(p[0]);
		return err_errno(e, -errno, "cannot make a process");
	}
	rc = self_wait(child, mem, p[0], &res);
	close(p[0]);
	kill(child, SIGKILL);
	/* One that hangs in KVM_RUN dies later, or never: nobody waits. */
	waitpid(child, NULL, rc == -ETIMEDOUT ? WNOHANG : 0);
	if (rc == -ETIMEDOUT)
		return err_set(e, rc, "KVM hangs in its self-test at %s",
			       self_stage(mem));
	if (rc < 0)
		return err_set(e, rc, "KVM's self-test ended early");
	return self_verdict(&res, mem, e);
}

int kself_test(int sys, struct err *e)
{
	u8 *mem = mmap(NULL, SELF_SIZE, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int rc;

	if (mem == MAP_FAILED)
		return err_errno(e, -errno, "cannot map memory");
	self_fill(mem);
	rc = self_run(sys, mem, e);
	munmap(mem, SELF_SIZE);
	return rc;
}
