/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The run loop: KVM_RUN, one small function for each reason to come back, and
 * kicks.
 *
 * A kick stores its request, then immediate_exit, then signals the thread. The
 * loop clears immediate_exit before it takes the requests. Whichever comes
 * first, either the loop sees the request or KVM_RUN returns at once.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "cpu/kvm/kvm_priv.h"

/* A handler's answer: run on, or give back this to vcpu_run()'s caller. */
#define KRUN_ON (-1)

#define KVM_EXIT_MEMORY_FAULT_NR 39

void krun_wake(struct kvm_vcpu *v, u32 request)
{
	int tid;

	atomic_fetch_or(&v->request, request);
	__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
	tid = atomic_load(&v->tid);
	if (tid)
		syscall(SYS_tgkill, getpid(), tid, KVM_KICK_SIGNAL);
}

void krun_kick(struct vcpu *v)
{
	krun_wake((struct kvm_vcpu *)v, KREQ_KICK);
}

static u64 krun_load(const u8 *p, unsigned len)
{
	u64 v = 0;

	memcpy(&v, p, len);
	return v;
}

static int krun_io(struct kvm_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	struct kvm_run *r = v->run;
	u8 *data = (u8 *)r + r->io.data_offset;
	unsigned len = r->io.size;

	v->unfinished = true;
	v->vcpu.stat[VCPU_STAT_PIO]++;
	for (u32 i = 0; i < r->io.count; i++, data += len) {
		u64 val;

		if (r->io.direction == KVM_EXIT_IO_OUT) {
			c->ops->pio_write(c->machine, r->io.port,
					  krun_load(data, len), len);
			continue;
		}
		val = c->ops->pio_read(c->machine, r->io.port, len);
		memcpy(data, &val, len);
	}
	return KRUN_ON;
}

/* KVM splits accesses at pages, so odd lengths occur: in powers of two. */
static int krun_mmio(struct kvm_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	struct kvm_run *r = v->run;
	unsigned len = MIN(r->mmio.len, 8u), at, n;

	v->unfinished = true;
	v->vcpu.stat[VCPU_STAT_MMIO]++;
	for (at = 0; at < len; at += n) {
		u64 val;

		for (n = 8; n > len - at; n /= 2)
			;
		if (r->mmio.is_write) {
			c->ops->mmio_write(c->machine, r->mmio.phys_addr + at,
					   krun_load(r->mmio.data + at, n), n);
			continue;
		}
		val = c->ops->mmio_read(c->machine, r->mmio.phys_addr + at, n);
		memcpy(r->mmio.data + at, &val, n);
	}
	return KRUN_ON;
}

static int krun_eoi(struct kvm_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;

	v->vcpu.stat[VCPU_STAT_EXIT_EOI]++;
	c->ops->eoi(c->machine, v->run->eoi.vector);
	return KRUN_ON;
}

static int krun_window(struct kvm_vcpu *v)
{
	v->vcpu.stat[VCPU_STAT_EXIT_WINDOW]++;
	return KRUN_ON;
}

static int krun_msr(struct kvm_vcpu *v)
{
	v->unfinished = true;
	kmsr_exit(v);
	v->vcpu.stat[VCPU_STAT_EXIT_MSR]++;
	return KRUN_ON;
}

static int krun_hypercall(struct kvm_vcpu *v)
{
	v->unfinished = true;
	v->run->hypercall.ret = (u64)-1000; /* KVM_ENOSYS */
	v->vcpu.stat[VCPU_STAT_HYPERCALL]++;
	return KRUN_ON;
}

static int krun_ring(struct kvm_vcpu *v)
{
	v->vcpu.stat[VCPU_STAT_EXIT_RING]++;
	kmem_ring_full(v);
	return KRUN_ON;
}

static int krun_halt(struct kvm_vcpu *v)
{
	v->vcpu.stat[VCPU_STAT_HALT]++;
	return VCPU_EXIT_HALTED;
}

static int krun_shutdown(struct kvm_vcpu *v)
{
	struct kvm_regs r = {0};

	/* KVM on AMD resets the vCPU: nothing tells where it was. */
	kvm_ioctl(v->fd, KVM_GET_REGS, &r);
	krun_report(v, r.rip == 0xfff0 ? "triple fault (registers lost)"
				       : "triple fault");
	return VCPU_EXIT_SHUTDOWN;
}

static int krun_system_event(struct kvm_vcpu *v)
{
	krun_report(v, "system event %u", v->run->system_event.type);
	return VCPU_EXIT_SHUTDOWN;
}

static int krun_entry_failure(struct kvm_vcpu *v)
{
	krun_report(v, "KVM cannot enter the guest: hardware reason %#llx",
		    v->run->fail_entry.hardware_entry_failure_reason);
	return VCPU_EXIT_ERROR;
}

static int krun_internal_error(struct kvm_vcpu *v)
{
	static const char *const what[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "exceptions at once",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "exit in event delivery",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "unknown exit",
	};
	u32 sub = v->run->internal.suberror;
	u64 data = v->run->internal.ndata ? v->run->internal.data[0] : 0;

	krun_report(v, "KVM internal error %u (%s, data %#lx)", sub,
		    sub < ARRAY_LEN(what) && what[sub] ? what[sub] : "unknown",
		    data);
	return VCPU_EXIT_ERROR;
}

typedef int krun_fn(struct kvm_vcpu *v);

static krun_fn *const krun_exits[] = {
	[KVM_EXIT_IO] = krun_io,
	[KVM_EXIT_HYPERCALL] = krun_hypercall,
	[KVM_EXIT_HLT] = krun_halt,
	[KVM_EXIT_MMIO] = krun_mmio,
	[KVM_EXIT_IRQ_WINDOW_OPEN] = krun_window,
	[KVM_EXIT_SHUTDOWN] = krun_shutdown,
	[KVM_EXIT_FAIL_ENTRY] = krun_entry_failure,
	[KVM_EXIT_INTERNAL_ERROR] = krun_internal_error,
	[KVM_EXIT_SYSTEM_EVENT] = krun_system_event,
	[KVM_EXIT_IOAPIC_EOI] = krun_eoi,
	[KVM_EXIT_X86_RDMSR] = krun_msr,
	[KVM_EXIT_X86_WRMSR] = krun_msr,
	[KVM_EXIT_DIRTY_RING_FULL] = krun_ring,
};

int krun_handle(struct kvm_vcpu *v)
{
	u32 why = v->run->exit_reason;

	if (why < ARRAY_LEN(krun_exits) && krun_exits[why])
		return krun_exits[why](v);
	krun_report(v, "KVM gave back the vCPU for reason %u", why);
	return VCPU_EXIT_ERROR;
}

static int krun_failed(struct kvm_vcpu *v, int error)
{
	if (v->run->exit_reason == KVM_EXIT_MEMORY_FAULT_NR)
		krun_report(v, "KVM cannot reach guest memory: %s",
			    strerror(error));
	else
		krun_report(v, "KVM cannot run the vCPU: %s", strerror(error));
	return VCPU_EXIT_ERROR;
}

/* Enters the guest once and handles what comes out. */
static int krun_once(struct kvm_vcpu *v)
{
	int rc = ioctl(v->fd, KVM_RUN, NULL);
	int error = errno;

	v->vcpu.stat[VCPU_STAT_EXIT]++;
	v->unfinished = false;
	if (!rc)
		return krun_handle(v);
	if (error == EINTR || error == EAGAIN) {
		v->vcpu.stat[VCPU_STAT_EXIT_SIGNAL]++;
		return KRUN_ON;
	}
	return krun_failed(v, error);
}

/* Lets KVM complete the access of the last exit, so that the registers are
 * those between two instructions. */
static int krun_finish(struct kvm_vcpu *v)
{
	while (v->unfinished) {
		int rc;

		__atomic_store_n(&v->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		rc = krun_once(v);
		if (rc != KRUN_ON)
			return rc;
	}
	return KRUN_ON;
}

static int krun_loop(struct kvm_vcpu *v)
{
	for (;;) {
		int rc;

		__atomic_store_n(&v->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (atomic_exchange(&v->request, 0) & KREQ_KICK) {
			v->vcpu.stat[VCPU_STAT_KICK]++;
			rc = krun_finish(v);
			return rc == KRUN_ON ? VCPU_EXIT_KICKED : rc;
		}
		kirq_inject(v);
		rc = krun_once(v);
		if (rc != KRUN_ON)
			return rc;
	}
}

/* Tells the guest's watchdogs that a jump of its clock is no lock-up. Fails
 * where the guest does not use kvmclock. */
static void krun_paused(struct kvm_vcpu *v)
{
	if (v->left && clock_ns() - v->left > KVM_PAUSE_NS)
		kvm_ioctl(v->fd, KVM_KVMCLOCK_CTRL, NULL);
}

enum vcpu_exit krun(struct vcpu *vcpu)
{
	struct kvm_vcpu *v = (struct kvm_vcpu *)vcpu;
	sigset_t kick;
	int rc;

	sigemptyset(&kick);
	sigaddset(&kick, KVM_KICK_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	krun_paused(v);
	atomic_store(&v->tid, (int)syscall(SYS_gettid));
	rc = krun_loop(v);
	atomic_store(&v->tid, 0);
	v->left = clock_ns();
	return (enum vcpu_exit)rc;
}

/* Bytes at CS:RIP, as far as the guest's page tables lead to memory. */
static void krun_code(struct kvm_vcpu *v, u64 at, char *out, size_t size)
{
	const struct mem *m = v->vcpu.engine->config.mem;
	size_t n = 0;

	out[0] = 0;
	for (unsigned i = 0; i < 15 && n + 4 < size; i++) {
		struct kvm_translation t = {.linear_address = at + i};
		u8 byte;

		if (kvm_ioctl(v->fd, KVM_TRANSLATE, &t) < 0 || !t.valid ||
		    !mem_read(m, t.physical_address, &byte, 1))
			break;
		n += (size_t)snprintf(out + n, size - n, " %02x", byte);
	}
}

void krun_report(struct kvm_vcpu *v, const char *fmt, ...)
{
	char why[128], code[64];
	struct kvm_regs r = {0};
	struct kvm_sregs s = {0};
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	kvm_ioctl(v->fd, KVM_GET_REGS, &r);
	kvm_ioctl(v->fd, KVM_GET_SREGS, &s);
	krun_code(v, s.cs.base + r.rip, code, sizeof(code));
	snprintf(
		v->vcpu.report, sizeof(v->vcpu.report),
		"vCPU %u: %s at %04x:%llx, code%s; rflags %llx cr0 %llx "
		"cr2 %llx cr3 %llx cr4 %llx efer %llx rax %llx rbx %llx "
		"rcx %llx rdx %llx rsi %llx rdi %llx rsp %llx rbp %llx r8 %llx "
		"r9 %llx r10 %llx r11 %llx r12 %llx r13 %llx r14 %llx "
		"r15 %llx",
		v->vcpu.id, why, s.cs.selector, r.rip,
		code[0] ? code : " unreadable", r.rflags, s.cr0, s.cr2, s.cr3,
		s.cr4, s.efer, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rsp,
		r.rbp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15);
}
