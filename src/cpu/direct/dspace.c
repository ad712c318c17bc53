/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cpu/direct/dspace.h"

#include <asm/prctl.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/direct/dspace_priv.h"

#define KICK_SIGNAL SIGUSR2

/* More than the largest XSAVE area there is. */
#define XSTATE_MAX 16384

enum { XSTATE_LEGACY = 512, XSTATE_HEADER = 64, XSTATE_COMPONENTS = 7 };

struct dspace {
	pid_t pid;
	bool dead;
	struct dspace_command *command; /* [DSPACE_COMMANDS], the child's too */
	unsigned commands;              /* not yet carried out */
	struct dspace_regs regs;        /* of guest code */
	struct dspace_regs base;        /* selectors and flags of the stub */
	size_t xstate_size;
	u8 xstate[XSTATE_MAX];
};

static long dspace_ptrace(const struct dspace *s, int request, u64 data)
{
	return ptrace((enum __ptrace_request)request, s->pid, NULL,
		      (void *)data);
}

/* Waits for the next stop; false: it is gone. */
static bool dspace_wait(struct dspace *s, int *status)
{
	pid_t got;

	do
		got = (pid_t)syscall(SYS_wait4, s->pid, status,
				     __WALL | __WNOTHREAD, NULL);
	while (got < 0 && errno == EINTR);
	s->dead = got != s->pid || !WIFSTOPPED(*status);
	return !s->dead;
}

static bool dspace_exits(int status)
{
	return status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8);
}

/* ---- Commands ---- */

/* Until the stub's last instruction. Kicks that come meanwhile are lost: who
 * sent them has left word in what dspace_run() is told to look at. */
static int dspace_stub_run(struct dspace *s)
{
	int status;

	do {
		if (dspace_ptrace(s, PTRACE_CONT, 0) ||
		    !dspace_wait(s, &status) || dspace_exits(status))
			return -ESRCH;
		if (WSTOPSIG(status) == SIGSEGV || WSTOPSIG(status) == SIGSYS)
			return -EIO;
	} while (status >> 8 != SIGTRAP);
	return 0;
}

static int dspace_carry_out(struct dspace *s)
{
	struct dspace_regs r = s->base;
	u64 left;
	int rc;

	if (s->dead)
		return -ESRCH;
	r.rip = DSPACE_STUB;
	r.r14 = DSPACE_COMMANDS_AT;
	r.r15 = s->commands;
	r.orig_rax = ~0ull;
	s->commands = 0;
	if (dspace_ptrace(s, PTRACE_SETREGS, (u64)&r))
		return -errno;
	rc = dspace_stub_run(s);
	if (rc)
		return rc;
	errno = 0;
	left = (u64)ptrace(PTRACE_PEEKUSER, s->pid,
			   offsetof(struct dspace_regs, r15), NULL);
	if (!left && !errno)
		return 0;
	rc = (int)ptrace(PTRACE_PEEKUSER, s->pid,
			 offsetof(struct dspace_regs, rax), NULL);
	return rc < 0 ? rc : -EIO;
}

static struct dspace_command *dspace_next(struct dspace *s, int *rc)
{
	*rc = s->commands == DSPACE_COMMANDS ? dspace_sync(s) : 0;
	return *rc ? NULL : &s->command[s->commands++];
}

int dspace_map(struct dspace *s, u64 lin, u64 len, u64 off, int prot)
{
	int rc;
	struct dspace_command *c = dspace_next(s, &rc);

	if (c)
		*c = (struct dspace_command){
			SYS_mmap,
			{lin, len, (u64)prot,
			 MAP_SHARED | MAP_FIXED | MAP_POPULATE, DSPACE_FD, off},
			0};
	return rc;
}

int dspace_unmap(struct dspace *s, u64 lin, u64 len)
{
	int rc;
	struct dspace_command *c = dspace_next(s, &rc);

	if (c)
		*c = (struct dspace_command){SYS_munmap, {lin, len}, 0};
	return rc;
}

static int dspace_clear_now(struct dspace *s)
{
	u64 rest = DSPACE_STUB + DSPACE_STUB_SIZE;

	s->command[0] =
		(struct dspace_command){SYS_munmap, {0, DSPACE_STUB}, 0};
	s->command[1] = (struct dspace_command){
		SYS_munmap, {rest, DSPACE_END - rest}, 0};
	s->commands = 2;
	return dspace_carry_out(s);
}

int dspace_clear(struct dspace *s)
{
	return dspace_clear_now(s);
}

int dspace_sync(struct dspace *s)
{
	int rc = s->commands ? dspace_carry_out(s) : 0;

	if (rc)
		dspace_clear_now(s);
	return rc;
}

bool dspace_fault_cpuid(struct dspace *s, bool on)
{
	if (dspace_sync(s))
		return false;
	s->command[0] = (struct dspace_command){
		SYS_arch_prctl, {ARCH_SET_CPUID, !on}, 0};
	s->commands = 1;
	return !dspace_carry_out(s);
}

/* ---- Registers ---- */

struct dspace_regs *dspace_regs(struct dspace *s)
{
	return &s->regs;
}

pid_t dspace_pid(const struct dspace *s)
{
	return s->pid;
}

static bool dspace_xstate(struct dspace *s, int request, void *buf, size_t size)
{
	struct iovec io = {buf, size};

	return !s->dead &&
	       !ptrace((enum __ptrace_request)request, s->pid,
		       (void *)NT_X86_XSTATE, &io) &&
	       io.iov_len == size;
}

bool dspace_get_vectors(struct dspace *s, u8 *xsave)
{
	return dspace_xstate(s, PTRACE_GETREGSET, xsave, DSPACE_XSAVE_SIZE);
}

bool dspace_set_vectors(struct dspace *s, const u8 *xsave)
{
	u64 components = XSTATE_COMPONENTS;

	memcpy(s->xstate, xsave, DSPACE_XSAVE_SIZE);
	memset(s->xstate + XSTATE_LEGACY, 0, XSTATE_HEADER);
	memcpy(s->xstate + XSTATE_LEGACY, &components, 8);
	return dspace_xstate(s, PTRACE_SETREGSET, s->xstate, s->xstate_size);
}

/* ---- Running ---- */

/*
 * A call of the vsyscall page has been made to look as if it had returned: it
 * is taken back. (Of RAX only what selects the call is known, which is all
 * that a kernel looks at.)
 */
static void dspace_undo_vsyscall(struct dspace *s, const siginfo_t *info)
{
	s->regs.rip = (u64)info->si_call_addr;
	s->regs.rsp -= 8;
}

static void dspace_signal(struct dspace *s, struct dspace_stop *stop)
{
	siginfo_t info;

	if (dspace_ptrace(s, PTRACE_GETSIGINFO, (u64)&info) ||
	    info.si_code <= 0) {
		stop->why = DSPACE_KICKED;
		return;
	}
	stop->why = DSPACE_SIGNAL;
	stop->signo = info.si_signo;
	stop->code = info.si_code;
	stop->addr = (u64)info.si_addr;
	if (info.si_signo == SIGSYS)
		dspace_undo_vsyscall(s, &info);
}

static void dspace_stopped(struct dspace *s, int status,
			   struct dspace_stop *stop)
{
	*stop = (struct dspace_stop){.why = DSPACE_KICKED};
	if (s->dead || dspace_ptrace(s, PTRACE_GETREGS, (u64)&s->regs)) {
		stop->why = DSPACE_DIED;
		return;
	}
	if (dspace_exits(status)) {
		stop->why = DSPACE_DIED;
		return;
	}
	switch (WSTOPSIG(status)) {
	case SIGTRAP | 0x80: stop->why = DSPACE_SYSCALL; break;
	case SIGSEGV:
	case SIGBUS:
	case SIGILL:
	case SIGFPE:
	case SIGTRAP:
	case SIGSYS: dspace_signal(s, stop); break;
	default: break;
	}
}

int dspace_run(struct dspace *s, pid_t *wait, const u32 *hold,
	       struct dspace_stop *stop)
{
	int rc = dspace_sync(s), status = 0;

	if (rc)
		return rc;
	s->regs.orig_rax = ~0ull; /* no system call is to be restarted */
	if (dspace_ptrace(s, PTRACE_SETREGS, (u64)&s->regs))
		return -errno;
	__atomic_store_n(wait, s->pid, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(hold, __ATOMIC_SEQ_CST)) {
		__atomic_store_n(wait, 0, __ATOMIC_SEQ_CST);
		*stop = (struct dspace_stop){.why = DSPACE_KICKED};
		return 0;
	}
	if (dspace_ptrace(s, PTRACE_SYSEMU, 0))
		s->dead = true;
	else
		dspace_wait(s, &status);
	__atomic_store_n(wait, 0, __ATOMIC_SEQ_CST);
	dspace_stopped(s, status, stop);
	return 0;
}

void dspace_kick(pid_t pid)
{
	kill(pid, KICK_SIGNAL);
}

/* ---- Beginning and end ---- */

static void dspace_size_vectors(struct dspace *s)
{
	struct iovec io = {s->xstate, sizeof(s->xstate)};

	if (!ptrace(PTRACE_GETREGSET, s->pid, (void *)NT_X86_XSTATE, &io))
		s->xstate_size = io.iov_len;
}

/* From the child's first stop on it is ours. */
static int dspace_take(struct dspace *s, struct err *e)
{
	int status, rc;

	if (!dspace_wait(s, &status))
		return err_set(e, -EPERM,
			       "direct: a child process may not be traced or "
			       "filtered here");
	rc = (int)dspace_ptrace(s, PTRACE_SETOPTIONS,
				PTRACE_O_EXITKILL | PTRACE_O_TRACESYSGOOD |
					PTRACE_O_TRACEEXIT);
	if (!rc)
		rc = (int)dspace_ptrace(s, PTRACE_GETREGS, (u64)&s->base);
	dspace_size_vectors(s);
	if (rc || s->xstate_size < DSPACE_XSAVE_SIZE)
		return err_set(e, -ENOTSUP,
			       "direct: this kernel does not let a process be "
			       "traced as it must be");
	s->regs = s->base;
	rc = dspace_clear(s);
	return rc ? err_errno(e, rc, "direct: cannot empty a child process")
		  : 0;
}

static int dspace_start(struct dspace *s, int fd, struct err *e)
{
	u64 all = ~0ull, old;

	/* No handler of ours runs in the child before it has none. */
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &old, 8);
	s->pid = (pid_t)syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (!s->pid)
		dspace_child(fd, s->command);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &old, NULL, 8);
	if (s->pid < 0)
		return err_errno(e, -errno, "direct: cannot make a process");
	return dspace_take(s, e);
}

struct dspace *dspace_new(int fd, struct err *e)
{
	struct dspace *s = calloc(1, sizeof(*s));

	if (!s) {
		err_set(e, -ENOMEM, "direct: no memory");
		return NULL;
	}
	s->command =
		mmap(NULL, DSPACE_STUB_SIZE - 0x1000, PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s->command == MAP_FAILED) {
		err_errno(e, -errno, "direct: no memory");
		free(s);
		return NULL;
	}
	if (dspace_start(s, fd, e)) {
		dspace_free(s);
		return NULL;
	}
	return s;
}

/* A process that is gone has been waited for. */
void dspace_free(struct dspace *s)
{
	if (!s)
		return;
	if (s->pid > 0 && !s->dead) {
		kill(s->pid, SIGKILL);
		while (waitpid(s->pid, NULL, __WALL) < 0 && errno == EINTR)
			;
	}
	munmap(s->command, DSPACE_STUB_SIZE - 0x1000);
	free(s);
}
