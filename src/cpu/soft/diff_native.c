/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Runs one instruction on the real CPU in user mode.
 *
 * diff_enter() loads all registers and goes to the instruction by IRETQ. Where
 * the instruction just ends, a jump behind it leads through the trampoline
 * page (below 4 GiB, for 16- and 32-bit code) to diff_leave, which stores all
 * registers; every other way out is a signal. FS and GS bases are the
 * case's meanwhile, so nothing before native_fs_back() may use thread-local
 * storage, the stack protector included.
 */
#define _GNU_SOURCE
#include "cpu/soft/diff.h"

#include <asm/ldt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define NO_TLS                                                     \
	__attribute__((no_stack_protector, no_sanitize("address"), \
		       no_sanitize("undefined"), noinline))

/* What the assembly below uses; one case runs at a time. */
struct native_frame {
	u64 rip, cs, rflags, rsp, ss; /* for IRETQ */
	u64 host_rsp, host_fs, host_gs;
	u64 in_fs, in_gs;
	u64 in[16];
	u64 out[16];
	u64 out_rflags, out_fs, out_gs;
	u16 in_ds, in_es, in_fsel, in_gsel;
	u16 out_ds, out_es, out_fsel, out_gsel;
	u8 in_xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));
	u8 out_xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));
	u32 host_mxcsr;
};

extern struct native_frame diff_frame;
struct native_frame diff_frame;

#define OFF(f)   "diff_frame+%c[" #f "](%%rip)"
#define FIELD(f) [f] "i"(offsetof(struct native_frame, f))

/*
 * Returns 0 where the instruction has ended by itself, 1 if a signal handler
 * left by native_unwind().
 */
int diff_enter(void);
void diff_leave(void);

__attribute__((naked, used, noinline)) int diff_enter(void)
{
	__asm__("push %%rbx; push %%rbp; push %%r12; push %%r13\n\t"
		"push %%r14; push %%r15\n\t"
		"mov %%rsp, " OFF(host_rsp) "\n\t"
					    "stmxcsr " OFF(
						    host_mxcsr) "\n\t"
								"rdfsbase "
								"%%rax; mov "
								"%%rax, " OFF(
									host_fs) "\n\t"
										 "rdgsbase %%rax; mov %%rax, " OFF(
											 host_gs) "\n\t"
												  "mov $7, %%eax; xor %%edx, %%edx\n\t"
												  "xrstor64 " OFF(in_xsave) "\n\t"
															    "mov " OFF(in_ds) ", %%ds; mov " OFF(in_es) ", %%es\n\t"
																					"mov " OFF(in_fs) ", %%rax; wrfsbase %%rax\n\t"
																							  "mov " OFF(in_gs) ", %%rax; wrgsbase %%rax\n\t"
																									    "mov 0+" OFF(in) ", %%rax; mov 8+" OFF(in) ", %%rcx\n\t"
																														       "mov 16+" OFF(in) ", %%rdx; mov 24+" OFF(in) ", %%rbx\n\t"
																																				    "mov 40+" OFF(in) ", %%rbp; mov 48+" OFF(in) ", %%rsi\n\t"
																																										 "mov 56+" OFF(in) ", %%rdi; mov 64+" OFF(in) ", %%r8\n\t"
																																															      "mov 72+" OFF(
																																																      in) ", %%r9; mov 80+" OFF(in) ", %%r10\n\t"
																																																				    "mov 88+" OFF(in) ", %%r11; mov 96+" OFF(in) ", %%r12\n\t"
																																																										 "mov 104+" OFF(
																																																											 in) ", %%r13; mov 112+" OFF(in) ", %%r14\n\t"
																																																															 "mov 120+" OFF(
																																																																 in) ", %%r15\n\t"
																																																																     "lea " OFF(rip) ", %%rsp\n\t"
																																																																		     "iretq\n\t"
																																																																		     ".globl diff_leave\n"
																																																																		     "diff_leave:\n\t"
																																																																		     "mov %%rax, 0+" OFF(out) "; mov %%rcx, 8+" OFF(out) "\n\t"
																																																																									 "mov %%rdx, 16+" OFF(out) "; mov %%rbx, 24+" OFF(
																																																																										 out) "\n\t"
																																																																										      "mov %%rsp, 32+" OFF(out) "; mov %%rbp, 40+" OFF(
																																																																											      out) "\n\t"
																																																																												   "mov %%rsi, 48+" OFF(out) "; mov %%rdi, 56+" OFF(out) "\n\t"
																																																																																			 "mov %%r8, 64+" OFF(out) "; mov %%r9, 72+" OFF(
																																																																																				 out) "\n\t"
																																																																																				      "mov %%r10, 80+" OFF(out) "; mov %%r11, 88+" OFF(
																																																																																					      out) "\n\t"
																																																																																						   "mov %%r12, 96+" OFF(out) "; mov %%r13, 104+" OFF(out) "\n\t"
																																																																																													  "mov %%r14, 112+" OFF(out) "; mov %%r15, 120+" OFF(out) "\n\t"
																																																																																																				  "mov " OFF(host_rsp) ", %%rsp\n\t"
																																																																																																						       "pushfq; pop %%rax; mov %%rax, " OFF(
																																																																																																							       out_rflags) "\n\t"
																																																																																																									   "push $2; popfq\n\t"
																																																																																																									   "mov %%ds, " OFF(out_ds) "; mov %%es, " OFF(out_es) "\n\t"
																																																																																																															       "mov %%fs, " OFF(out_fsel) "; mov %%gs, " OFF(out_gsel) "\n\t"
																																																																																																																						       "rdfsbase %%rax; mov %%rax, " OFF(out_fs) "\n\t"
																																																																																																																												 "rdgsbase %%rax; mov %%rax, " OFF(out_gs) "\n\t"
																																																																																																																																	   "mov $7, %%eax; xor %%edx, %%edx\n\t"
																																																																																																																																	   "xsave64 " OFF(out_xsave) "\n\t"
																																																																																																																																				     "xor %%eax, %%eax\n"
																																																																																																																																				     "diff_back:\n\t"
																																																																																																																																				     "xor %%ecx, %%ecx\n\t"
																																																																																																																																				     "mov %%ecx, %%ds; mov %%ecx, %%es\n\t"
																																																																																																																																				     "mov %%ecx, %%fs; mov %%ecx, %%gs\n\t"
																																																																																																																																				     "mov " OFF(
																																																																																																																																					     host_fs) ", %%rcx; wrfsbase %%rcx\n\t"
																																																																																																																																						      "mov " OFF(
																																																																																																																																							      host_gs) ", %%rcx; wrgsbase %%rcx\n\t"
																																																																																																																																								       "fninit; ldmxcsr " OFF(host_mxcsr) "; vzeroupper\n\t"
																																																																																																																																													  "pop %%r15; pop %%r14; pop %%r13; pop %%r12\n\t"
																																																																																																																																													  "pop %%rbp; pop %%rbx; ret\n\t"
																																																																																																																																													  ".globl diff_unwind\n"
																																																																																																																																													  "diff_unwind:\n\t"
																																																																																																																																													  "mov " OFF(
																																																																																																																																														  host_rsp) ", %%rsp\n\t"
																																																																																																																																															    "push $2; popfq\n\t"
																																																																																																																																															    "mov $1, %%eax; jmp diff_back\n\t"
		:
		: FIELD(host_rsp), FIELD(host_mxcsr), FIELD(host_fs),
		  FIELD(host_gs), FIELD(in_xsave), FIELD(in_ds), FIELD(in_es),
		  FIELD(in_fs), FIELD(in_gs), FIELD(in), FIELD(rip), FIELD(out),
		  FIELD(out_rflags), FIELD(out_ds), FIELD(out_es),
		  FIELD(out_fsel), FIELD(out_gsel), FIELD(out_fs),
		  FIELD(out_gs), FIELD(out_xsave));
}

NORETURN void diff_unwind(void);

struct diff_native {
	u8 *altstack;
	u8 *code; /* where DIFF_CODE can be written */
	u64 runs;
	struct diff_result *out;
	bool ldt, recheck;
	struct sigaction engine_fpe; /* the engine's handler of its own #XM */
};

#define ALTSTACK_SIZE 65536

/* Where signals find the run they belong to. */
static struct diff_native *native_current, *native_shared;

static inline __attribute__((always_inline)) u64 native_base(bool gs)
{
	u64 x;

	if (gs)
		__asm__ volatile("rdgsbase %0" : "=r"(x));
	else
		__asm__ volatile("rdfsbase %0" : "=r"(x));
	return x;
}

NO_TLS static void native_copy(u8 *dst, const u8 *src, size_t n)
{
	for (size_t k = 0; k < n; k++)
		((volatile u8 *)dst)[k] = src[k];
}

/* The signal frame has the components that were in use. */
NO_TLS static void native_fpstate(struct diff_regs *r, const u8 *fp)
{
	u64 bv = *(const u64 *)(fp + 512);

	native_copy(r->xsave, fp, XSAVE_AREA_SIZE);
	for (unsigned k = 0; k < 16 && !(bv & 2); k++)
		for (unsigned b = 0; b < 16; b++)
			((volatile u8 *)r->xsave)[160 + 16 * k + b] = 0;
	for (unsigned k = 0; k < 256 && !(bv & 4); k++)
		((volatile u8 *)r->xsave)[576 + k] = 0;
}

NO_TLS static void native_signal(int sig, siginfo_t *si, void *ctx)
{
	static const u8 order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX,
				     REG_RSP, REG_RBP, REG_RSI, REG_RDI,
				     REG_R8,  REG_R9,  REG_R10, REG_R11,
				     REG_R12, REG_R13, REG_R14, REG_R15};
	const ucontext_t *uc = ctx;
	const greg_t *g = uc->uc_mcontext.gregs;
	struct diff_native *n = native_current;
	struct diff_result *o;
	struct diff_regs *r;
	u16 sel;

	__asm__ volatile("push $2; popfq" ::: "cc"); /* AC */
	if (sig == SIGALRM && !n) {
		alarm(2);
		return;
	}
	if (!n) {
		if (sig == SIGFPE && native_shared->engine_fpe.sa_sigaction)
			native_shared->engine_fpe.sa_sigaction(sig, si, ctx);
		else
			signal(sig, SIG_DFL); /* a bug of our own */
		return;
	}
	o = n->out;
	r = &o->r;
	r->fs_base = native_base(false);
	r->gs_base = native_base(true);
	for (unsigned k = 0; k < 16; k++)
		r->gpr[k] = (u64)g[order[k]];
	r->rip = (u64)g[REG_RIP];
	r->rflags = (u64)g[REG_EFL];
	r->cs = (u16)g[REG_CSGSFS];
	r->ss = (u16)((u64)g[REG_CSGSFS] >> 48);
	__asm__ volatile("mov %%ds, %0" : "=rm"(sel));
	r->ds = sel;
	__asm__ volatile("mov %%es, %0" : "=rm"(sel));
	r->es = sel;
	__asm__ volatile("mov %%fs, %0" : "=rm"(sel));
	r->fs = sel;
	__asm__ volatile("mov %%gs, %0" : "=rm"(sel));
	r->gs = sel;
	native_fpstate(r, (const u8 *)uc->uc_mcontext.fpregs);
	o->vector = sig == SIGALRM ? DIFF_HANG : (u32)g[REG_TRAPNO];
	o->error = (u32)g[REG_ERR];
	o->cr2 = (u64)g[REG_CR2];
	diff_unwind();
}

static void native_ldt(struct diff_native *n)
{
	struct user_desc code = {
		.entry_number = DIFF_CS16 >> 3,
		.base_addr = DIFF_CODE,
		.limit = 0xffff,
		.contents = 2,
		.useable = 1,
	};
	struct user_desc data = {
		.entry_number = DIFF_DS16 >> 3,
		.base_addr = DIFF_DATA,
		.limit = DIFF_DATA_SIZE - 1,
		.seg_32bit = 1,
		.useable = 1,
	};

	n->ldt = syscall(SYS_modify_ldt, 17, &code, sizeof(code)) == 0 &&
		 syscall(SYS_modify_ldt, 17, &data, sizeof(data)) == 0;
}

/* The engine may have put its handler of SIGFPE in place of ours. */
static void native_hook(struct diff_native *n)
{
	struct sigaction sa =
				 {
					 .sa_sigaction = native_signal,
					 .sa_flags = SA_SIGINFO | SA_ONSTACK |
						     SA_NODEFER,
				 },
			 old;

	sigaction(SIGFPE, &sa, &old);
	if (old.sa_sigaction != native_signal && old.sa_flags & SA_SIGINFO)
		n->engine_fpe = old;
}

static u8 *native_map_fd(u64 at, u64 size, int prot, int fd)
{
	void *p = mmap((void *)at, size, prot,
		       (fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED) |
			       (at ? MAP_FIXED_NOREPLACE : 0) | MAP_POPULATE,
		       fd, 0);

	if (p == MAP_FAILED || (at && p != (void *)at)) {
		perror("diff: cannot map the test's pages");
		exit(1);
	}
	return p;
}

static u8 *native_map(u64 at, u64 size, int prot)
{
	return native_map_fd(at, size, prot, -1);
}

/* Instructions under test may not write their own page. */
static void native_map_code(struct diff_native *n)
{
	int fd = memfd_create("diff", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, DIFF_CODE_SIZE)) {
		perror("diff: memfd");
		exit(1);
	}
	n->code = native_map_fd(0, DIFF_CODE_SIZE, PROT_READ | PROT_WRITE, fd);
	native_map_fd(DIFF_CODE, DIFF_CODE_SIZE, PROT_READ | PROT_EXEC, fd);
	close(fd);
}

/*
 * The way out: at 0 for 64-bit code, at 16 the pointer that it goes by.
 */
static void native_trampoline(void)
{
	u8 *t = native_map(DIFF_TRAMPOLINE, PAGE_SIZE, PROT_READ | PROT_WRITE);
	static const u8 jump[] = {0xff, 0x25, 10, 0, 0, 0}; /* jmp [rip+10] */
	void (*leave)(void) = diff_leave;

	memcpy(t, jump, sizeof(jump));
	memcpy(t + 16, &leave, 8);
	mprotect(t, PAGE_SIZE, PROT_READ | PROT_EXEC);
}

static const int native_signals[] = {SIGSEGV, SIGILL,  SIGFPE,
				     SIGBUS,  SIGTRAP, SIGALRM};

struct diff_native *diff_native_new(void)
{
	struct diff_native *n = calloc(1, sizeof(*n));
	struct sigaction sa = {
		.sa_sigaction = native_signal,
		.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER,
	};
	stack_t st = {.ss_size = ALTSTACK_SIZE};

	ASSERT(n);
	native_shared = n;
	n->altstack = st.ss_sp = malloc(ALTSTACK_SIZE);
	ASSERT(st.ss_sp);
	sigaltstack(&st, NULL);
	for (unsigned k = 0; k < ARRAY_LEN(native_signals); k++)
		sigaction(native_signals[k], &sa, NULL);
	native_map_code(n);
	native_map(DIFF_DATA, DIFF_DATA_SIZE, PROT_READ | PROT_WRITE);
	native_map(DIFF_RO, DIFF_RO_SIZE, PROT_READ | PROT_WRITE);
	memset(n->code, 0xcc, DIFF_CODE_SIZE);
	diff_fill_ro((u8 *)DIFF_RO);
	mprotect((void *)DIFF_RO, DIFF_RO_SIZE, PROT_READ);
	native_trampoline();
	native_ldt(n);
	return n;
}

void diff_native_free(struct diff_native *n)
{
	stack_t st = {.ss_flags = SS_DISABLE};

	for (unsigned k = 0; k < ARRAY_LEN(native_signals); k++)
		signal(native_signals[k], SIG_DFL);
	sigaltstack(&st, NULL);
	munmap(n->code, DIFF_CODE_SIZE);
	munmap((void *)DIFF_CODE, DIFF_CODE_SIZE);
	munmap((void *)DIFF_DATA, DIFF_DATA_SIZE);
	munmap((void *)DIFF_RO, DIFF_RO_SIZE);
	munmap((void *)DIFF_TRAMPOLINE, PAGE_SIZE);
	free(n->altstack);
	free(n);
}

const u8 *diff_native_data(void)
{
	return (const u8 *)DIFF_DATA;
}

/* Bytes behind the instruction that lead out; their number. */
static unsigned native_exit(u8 *p, u64 at, enum decode_mode mode)
{
	u32 rel = (u32)(DIFF_TRAMPOLINE - (at + 5));
	u32 off = DIFF_TRAMPOLINE;
	unsigned n = 0;

	if (mode == DECODE_64) {
		p[0] = 0xe9;
		memcpy(p + 1, &rel, 4);
		return 5;
	}
	if (mode == DECODE_16)
		p[n++] = 0x66;
	p[n] = 0xea; /* jmp far 0x33:trampoline */
	memcpy(p + n + 1, &off, 4);
	p[n + 5] = DIFF_CS64;
	p[n + 6] = 0;
	return n + 7;
}

static void native_load(const struct diff_case *c)
{
	struct native_frame *f = &diff_frame;

	f->rip = c->in.rip;
	f->cs = c->in.cs;
	f->rflags = c->in.rflags;
	f->rsp = c->in.gpr[REG_SP];
	f->ss = c->in.ss;
	f->in_fs = c->in.fs_base;
	f->in_gs = c->in.gs_base;
	f->in_ds = c->in.ds;
	f->in_es = c->in.es;
	memcpy(f->in, c->in.gpr, sizeof(f->in));
	memcpy(f->in_xsave, c->in.xsave, XSAVE_AREA_SIZE);
	memcpy((void *)DIFF_DATA, c->data, DIFF_DATA_SIZE);
}

static void native_store(const struct diff_case *c, struct diff_result *out)
{
	const struct native_frame *f = &diff_frame;
	struct diff_regs *r = &out->r;

	memcpy(r->gpr, f->out, sizeof(r->gpr));
	r->rip = c->in.rip + c->len;
	r->rflags = f->out_rflags;
	r->cs = c->in.cs;
	r->ss = c->in.ss;
	r->ds = f->out_ds;
	r->es = f->out_es;
	r->fs = f->out_fsel;
	r->gs = f->out_gsel;
	r->fs_base = f->out_fs;
	r->gs_base = f->out_gs;
	memcpy(r->xsave, f->out_xsave, XSAVE_AREA_SIZE);
	out->vector = DIFF_NO_FAULT;
	out->error = 0;
	out->cr2 = 0;
}

void diff_native_run(struct diff_native *n, const struct diff_case *c,
		     struct diff_result *out)
{
	u64 lin = diff_code_lin(&c->in);
	u8 leave[8], *code = n->code + (lin - DIFF_CODE);
	unsigned room = (unsigned)(DIFF_CODE + DIFF_CODE_SIZE - lin);
	unsigned len = MIN(c->len, room), more = 0;
	int left;
	u32 mxcsr;

	memcpy(code, c->bytes, len);
	if (c->lands && c->len + sizeof(leave) <= room) {
		more = native_exit(leave, lin + c->len, c->mode);
		memcpy(code + len, leave, more);
	}
	native_load(c);
	if (n->recheck)
		native_hook(n);
	memcpy(&mxcsr, c->in.xsave + 24, 4);
	n->recheck = (mxcsr & 0x1f80) != 0x1f80;
	n->out = out;
	if (!(n->runs++ & 0xfff))
		alarm(4);
	native_current = n;
	left = diff_enter();
	native_current = NULL;
	if (!left)
		native_store(c, out);
	memset(code, 0xcc, len + more);
}
