/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the files of the KVM engine share, and nobody else sees.
 *
 * Fields of struct kvm_vcpu belong to the vCPU's thread, or to whoever holds
 * the vCPU while it is not in vcpu_run(), unless marked atomic.
 */
#ifndef CPU_KVM_KVM_PRIV_H
#define CPU_KVM_KVM_PRIV_H

#include <linux/kvm.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "cpu/kvm/kvm.h"

/* Gets a vCPU's thread out of KVM_RUN; its handler does nothing. */
#define KVM_KICK_SIGNAL (SIGRTMIN + 1)

#define KVM_IOAPIC_PINS 24
#define KVM_ROUTES      512 /* MSI routes, those of the pins included */

#define KVM_RING_ENTRIES 4096 /* a power of two */

/* A vCPU that was out of vcpu_run() for longer was paused. */
#define KVM_PAUSE_NS 1000000000ull

/* One row of the GSI routing table. GSIs below KVM_IOAPIC_PINS hold the
 * level-triggered messages of the I/O APIC, so that KVM reports their EOI;
 * the others belong to irqfds. */
struct kvm_route {
	u64 address; /* 0: free */
	u32 data;
	int fd;   /* irqfd, or -1 */
	u64 used; /* when last sent, in order, for level messages */
};

/* struct kvm_vcpu.request: what the thread has to look at before KVM_RUN */
enum {
	KREQ_KICK = 1,
	KREQ_EXTINT = 2,
};

struct kvm_vcpu {
	struct vcpu vcpu;
	int fd;
	struct kvm_run *run;
	_Atomic u32 request; /* KREQ_*; any thread sets, then kicks */
	_Atomic int tid;     /* the thread in vcpu_run(), else 0 */
	bool unfinished;     /* KVM has to complete the last exit's access */
	u64 left;            /* clock_ns() at the end of vcpu_run() */
	struct kvm_dirty_gfn *ring; /* NULL: no dirty ring */
	u32 ring_next;
};

struct kvm_engine {
	struct engine engine;
	int sys, fd; /* /dev/kvm, the VM */
	int run_size;
	struct mem_slot slot[MEM_SLOTS]; /* as KVM knows them; size 0: none */
	bool log_dirty;
	u32 ring_size; /* entries of each vCPU's dirty ring; 0: bitmap */
	struct kvm_vcpu **vcpus;
	struct cpuid_model cpuid; /* what guests see, unless nested */
	_Atomic bool extint;      /* the 8259's INTR */

	pthread_mutex_t lock;               /* irq lock */
	struct kvm_route route[KVM_ROUTES]; /* lock */
	unsigned nroutes;                   /* lock; highest in use + 1 */
	u64 clock;                          /* lock; for kvm_route.used */
};

static inline struct kvm_engine *kvm_of(struct engine *g)
{
	return (struct kvm_engine *)g;
}

static inline struct kvm_engine *kvm_of_vcpu(struct kvm_vcpu *v)
{
	return (struct kvm_engine *)v->vcpu.engine;
}

/* ioctl() that is repeated when interrupted; -errno on failure. */
int kvm_ioctl(int fd, unsigned long nr, void *arg);
int kvm_cap(int fd, unsigned long cap); /* 0: none */
int kvm_enable_cap(int fd, u32 cap, u64 arg0, u64 arg1);

/* kvm_mem.c */
int kmem_changed(struct engine *g, struct err *e);
int kmem_dirty_start(struct engine *g, struct err *e);
int kmem_dirty_sync(struct engine *g, struct err *e);
void kmem_dirty_stop(struct engine *g);
int kmem_ring_map(struct kvm_vcpu *v, struct err *e);
void kmem_ring_unmap(struct kvm_vcpu *v);
void kmem_ring_full(struct kvm_vcpu *v);

/* kvm_irq.c */
void kirq_init(struct kvm_engine *k);
void kirq_msi(struct engine *g, u64 address, u32 data);
void kirq_extint(struct engine *g, bool level);
void kirq_nmi(struct vcpu *v);
int kirq_ioeventfd(struct engine *g, gpa_t gpa, unsigned len, int fd, bool add);
int kirq_irqfd(struct engine *g, int fd, u64 address, u32 data);
/* Before KVM_RUN: hands over the 8259's vector if the guest can take it. */
void kirq_inject(struct kvm_vcpu *v);

/* kvm_cpuid.c */
int kcpuid_model(struct cpuid_model *m, unsigned cpus, struct err *e);
int kcpuid_init(struct kvm_engine *k, struct err *e);
int kcpuid_set(struct kvm_vcpu *v, struct err *e);

/* kvm_msr.c; filter before the first vCPU */
int kmsr_init(struct kvm_engine *k, struct err *e);
/* Serves the exit by an MSR: its value, or #GP. */
void kmsr_exit(struct kvm_vcpu *v);

/* kvm_run.c */
enum vcpu_exit krun(struct vcpu *v);
/* The exit that v->run tells of: enum vcpu_exit, or -1 to run on. */
int krun_handle(struct kvm_vcpu *v);
void krun_kick(struct vcpu *v);
void krun_wake(struct kvm_vcpu *v, u32 request);
/* The sentence, registers and instruction bytes, into vcpu.report. */
void krun_report(struct kvm_vcpu *v, const char *fmt, ...) PRINTF(2, 3);

/* kvm_state.c */
int kstate_get(struct vcpu *v, struct cpu_state *s, struct err *e);
int kstate_set(struct vcpu *v, const struct cpu_state *s, struct err *e);

/* kvm_nested.c; -errno */
int kstate_nested_get(int fd, struct cpu_state *s);
int kstate_nested_set(int fd, const struct cpu_state *s);

#define KVM_PATH "/dev/kvm"

/* kvm_probe.c; the first opens KVM_PATH, or says what stands in the way */
int kprobe_open(const char *path, struct err *e);
int kprobe_check(int sys, struct err *e);
/* Whether a KVM of this version with these capabilities is enough; cap: as
 * kvm_cap(). */
int kprobe_enough(int version, int (*cap)(int fd, unsigned long cap), int fd,
		  struct err *e);
int kprobe(struct err *e);

/* kvm_selftest.c */
int kself_test(int sys, struct err *e);

#endif
