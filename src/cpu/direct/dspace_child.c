/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The child's first steps, in a copy of a process that has other threads: only
 * system calls, nothing that takes a lock. After the last one, its owner takes
 * the rest of the copy away by commands.
 */
#define _GNU_SOURCE
#include "cpu/direct/dspace_priv.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <unistd.h>

/* clang-format off */
asm(".section .rodata\n"
    ".globl dspace_stub, dspace_stub_size, dspace_stub_call\n"
    "dspace_stub:\n"
    "	test	%r15, %r15\n"
    "	jz	1f\n"
    "	mov	(%r14), %rax\n"
    "	mov	8(%r14), %rdi\n"
    "	mov	16(%r14), %rsi\n"
    "	mov	24(%r14), %rdx\n"
    "	mov	32(%r14), %r10\n"
    "	mov	40(%r14), %r8\n"
    "	mov	48(%r14), %r9\n"
    "	syscall\n"
    "2:	"
    "	cmp	$-4095, %rax\n"
    "	jae	1f\n"
    "	add	$64, %r14\n"
    "	dec	%r15\n"
    "	jmp	dspace_stub\n"
    "1:	int3\n"
    "3:	.balign	4\n"
    "dspace_stub_size: .long 3b - dspace_stub\n"
    "dspace_stub_call: .long 2b - dspace_stub\n"
    ".previous\n");
/* clang-format on */

#define LOAD(field)                        \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
		 (u32)offsetof(struct seccomp_data, field))
#define LOAD_HIGH(field)                   \
	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, \
		 (u32)offsetof(struct seccomp_data, field) + 4)
#define IS_NOT(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define IS(value, skip)     BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, skip, 0)
#define GIVE(what)          BPF_STMT(BPF_RET | BPF_K, what)

/* Only the stub's system call, and of these only what it is for. */
static bool child_filter(void)
{
	u64 ip = DSPACE_STUB + dspace_stub_call;
	struct sock_filter code[] = {
		LOAD(arch),
		IS_NOT(AUDIT_ARCH_X86_64, 9),
		LOAD(instruction_pointer),
		IS_NOT((u32)ip, 7),
		LOAD_HIGH(instruction_pointer),
		IS_NOT((u32)(ip >> 32), 5),
		LOAD(nr),
		IS(SYS_mmap, 2),
		IS(SYS_arch_prctl, 1),
		IS_NOT(SYS_munmap, 1),
		GIVE(SECCOMP_RET_ALLOW),
		GIVE(SECCOMP_RET_TRAP),
	};
	struct sock_fprog prog = {ARRAY_LEN(code), code};

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* The stub and the commands at their place. */
static bool child_stub(void *commands)
{
	void *at =
		mmap((void *)DSPACE_STUB, 0x1000, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	if (at != (void *)DSPACE_STUB)
		return false;
	memcpy(at, dspace_stub, dspace_stub_size);
	if (mprotect(at, 0x1000, PROT_READ | PROT_EXEC))
		return false;
	at = mremap(commands, DSPACE_STUB_SIZE - 0x1000,
		    DSPACE_STUB_SIZE - 0x1000, MREMAP_MAYMOVE | MREMAP_FIXED,
		    (void *)DSPACE_COMMANDS_AT);
	return at == (void *)DSPACE_COMMANDS_AT &&
	       !mprotect(at, DSPACE_STUB_SIZE - 0x1000, PROT_READ);
}

/* Signals are for the owner, and none is blocked; nor does it get those of a
 * terminal. */
static void child_signals(void)
{
	u64 none = 0;

	setsid();
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8);
}

static bool child_files(int fd)
{
	return dup2(fd, DSPACE_FD) == DSPACE_FD &&
	       !fcntl(DSPACE_FD, F_SETFD, 0) &&
	       !syscall(SYS_close_range, DSPACE_FD + 1, ~0u, 0);
}

/* The C library has told the kernel of a place in memory that will be gone. */
static bool child_rseq(void)
{
	char *at = (char *)__builtin_thread_pointer() + __rseq_offset;

	return !__rseq_size ||
	       !syscall(SYS_rseq, at, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) ||
	       !syscall(SYS_rseq, at, __rseq_size, RSEQ_FLAG_UNREGISTER,
			RSEQ_SIG);
}

static bool child_limits(void)
{
	struct rlimit none = {0, 0};

	return !setrlimit(RLIMIT_CORE, &none) &&
	       !prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) &&
	       !prctl(PR_SET_TSC, PR_TSC_SIGSEGV, 0, 0, 0);
}

__attribute__((no_stack_protector)) NORETURN void dspace_child(int fd,
							       void *commands)
{
	child_signals();
	if (!prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) && child_files(fd) &&
	    child_limits() && child_rseq() && child_stub(commands) &&
	    !ptrace(PTRACE_TRACEME, 0, 0, 0) && child_filter())
		asm volatile("xor %%r15d, %%r15d\n\tjmp *%0"
			     :
			     : "r"(DSPACE_STUB)
			     : "r15", "memory");
	syscall(SYS_exit_group, 1);
	__builtin_unreachable();
}
