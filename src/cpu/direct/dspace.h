/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A user space: a child process in which guest user code runs as it is.
 *
 * The child has nothing but pages of guest memory, where its owner puts them,
 * and two pages of ours at DSPACE_STUB: code that makes system calls, and the
 * commands it reads. It is stopped by ptrace whenever it does not run guest
 * code, and what the guest does cannot leave it: guest code is resumed with
 * PTRACE_SYSEMU, under which a system call is a stop and nothing else; a
 * seccomp filter lets only the stub's own few through.
 *
 * A space belongs to the thread that made it, which makes all calls but
 * dspace_kick(); it dies with that thread, whatever ends it.
 */
#ifndef CPU_DIRECT_DSPACE_H
#define CPU_DIRECT_DSPACE_H

#include <sys/types.h>

#include "base/err.h"
#include "base/types.h"

/* Where ours lies in the child, and how long it is. Nothing can be mapped
 * there; to the guest it is memory that it has not. */
#define DSPACE_STUB      0x3a5d00000000ull
#define DSPACE_STUB_SIZE 0x5000ull

/* What can be mapped is below this. */
#define DSPACE_END 0x7ffffffff000ull

/* What the owner may ask of XSAVE components: FXSAVE64 image, header, YMM. */
#define DSPACE_XSAVE_SIZE 832

enum dspace_why {
	DSPACE_SYSCALL, /* a system call instruction: rip is behind it */
	DSPACE_SIGNAL,  /* the instruction at rip faults, or one trapped */
	DSPACE_KICKED,  /* dspace_kick(), between two instructions */
	DSPACE_DIED,    /* it is gone; registers are the last ones it had */
};

struct dspace_stop {
	enum dspace_why why;
	int signo, code; /* SIGNAL: as in siginfo_t */
	u64 addr;
};

/* As PTRACE_GETREGS gives them: struct user_regs_struct, whose header has
 * names of ours. */
struct dspace_regs {
	u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi,
		rdi, orig_rax, rip, cs, eflags, rsp, ss, fs_base, gs_base, ds,
		es, fs, gs;
};

struct dspace;

/*
 * Makes one of what fd holds (guest memory, a shared mapping of it is
 * allowed). NULL and the reason where the host does not permit it; then no
 * other attempt will do.
 */
struct dspace *dspace_new(int fd, struct err *e);
/* Any thread once the owner makes no calls any more. */
void dspace_free(struct dspace *s);

/*
 * Maps len bytes at lin to fd's at off, with PROT_*; replaces what is there.
 * Both are carried out before the next run, in order. [lin, lin + len) is
 * below DSPACE_END and not in the stub. 0, or -errno if the host refused one of
 * them: nothing is mapped then.
 */
int dspace_map(struct dspace *s, u64 lin, u64 len, u64 off, int prot);
int dspace_unmap(struct dspace *s, u64 lin, u64 len);
/* What was asked is done when it returns. */
int dspace_sync(struct dspace *s);
/* Nothing is mapped any more. */
int dspace_clear(struct dspace *s);

/*
 * Whether CPUID faults in the child, as RDTSC does anyway; a stop takes half
 * as long again then. False: the host's CPU cannot do that.
 */
bool dspace_fault_cpuid(struct dspace *s, bool on);

/*
 * Registers, of a space that is stopped. What is set stands at the next run;
 * false: the host does not take them (segment bases). Of eflags the host takes
 * what a user may change, ID excepted.
 */
struct dspace_regs *dspace_regs(struct dspace *s);
/* x87, SSE and AVX state, DSPACE_XSAVE_SIZE bytes in the standard layout. */
bool dspace_get_vectors(struct dspace *s, u8 *xsave);
bool dspace_set_vectors(struct dspace *s, const u8 *xsave);

/*
 * Runs with dspace_regs() until something stops it, which then has what the
 * registers are. *wait is set to what dspace_kick() needs while it may run;
 * if hold is not 0 then, it does not run: DSPACE_KICKED. -errno: these
 * registers are not accepted, or what was to be mapped was refused.
 */
int dspace_run(struct dspace *s, pid_t *wait, const u32 *hold,
	       struct dspace_stop *stop);

/* Stops what runs; no harm if it has stopped by itself. Any thread. */
void dspace_kick(pid_t pid);

/* The process, for its place among the host's CPUs. */
pid_t dspace_pid(const struct dspace *s);

#endif
