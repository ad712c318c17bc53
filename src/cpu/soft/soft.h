/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The soft engine's vCPU, shared by its files and by nobody else.
 *
 * A vCPU runs on one thread and owns all of struct soft_vcpu but the words
 * marked otherwise. Guest faults leave a handler by longjmp (soft_fault()):
 * a handler makes all accesses that can fault before it changes a register,
 * so that a fault is precise without undoing anything.
 *
 * Arithmetic flags are kept as the host's LAHF and SETO leave them in AX:
 * AH = SF ZF 0 AF 0 PF 1 CF, AL = OF. Handlers compute on the host ALU and
 * store AX; soft_rflags() puts the architectural register together.
 */
#ifndef CPU_SOFT_SOFT_H
#define CPU_SOFT_SOFT_H

#include <pthread.h>
#include <setjmp.h>

#include "base/trace.h"
#include "cpu/direct/dspace.h"
#include "cpu/engine.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/insn.h"
#include "cpu/x86/x86.h"

/* TLB: direct-mapped; see mmu.h for which of them is in use when. */
#define TLB_BITS 12
#define TLB_SIZE BIT(TLB_BITS)

/*
 * A tag is the page's linear address, or TLB_NONE if the access needs the
 * slow path (absent, not permitted, MMIO, code page or dirty-tracked page).
 * host = guest linear + addend.
 */
#define TLB_NONE 1ull
struct tlb_entry {
	u64 tag_read, tag_write, tag_exec;
	u64 addend;
};

enum mmu_access { MMU_READ, MMU_WRITE, MMU_EXEC };

/*
 * A page that is known to be readable and writable, as one more TLB entry that
 * generated code reaches with few instructions: it keeps the stack here. A
 * range of at most window_span[k] bytes may be accessed if it begins less than
 * limit[k] after page; with limits of 0 there is no such page.
 */
#define WINDOW_SPANS 3
struct soft_window {
	u64 page, addend;
	u64 limit[WINDOW_SPANS];
};
#define WINDOW_SPAN(k) (64ull << (2 * (k))) /* 64, 256, 1024 */

/* v->mode: what decoding and address formation depend on. */
enum {
	MODE_CS64 = BIT(0), /* 64-bit code */
	MODE_CS32 = BIT(1), /* CS.D */
	MODE_SS32 = BIT(2), /* SS.B */
	MODE_PE = BIT(3),
	MODE_VM86 = BIT(4),
	MODE_LMA = BIT(5),
	MODE_PG = BIT(6),
	MODE_CPL3 = BIT(7),
	MODE_FLAT = BIT(8), /* DS, ES, SS base 0 and limit 4G: no checks */
	MODE_AC = BIT(9),   /* alignment checks are on (CR0.AM, AC, CPL 3) */
};

#define SOFT_CPUS 256

/* fetch_gen modulo this is in code_key; a multiple of it is never given. */
#define FETCH_GENS 8191

struct soft_engine {
	struct engine engine;
	struct cpuid_model cpuid; /* immutable */
	u64 tsc_hz;               /* immutable */
	u64 tsc_base;    /* host TSC when the engine was made; immutable */
	u64 tsc_offset;  /* of the boot processor; its thread */
	u64 tsc_moment;  /* of states to be loaded; 0: now; before vCPUs run */
	u64 clock_shift; /* of the paravirtual clock, ns; the same thread */
	unsigned phys_bits;                /* immutable */
	pthread_mutex_t lock;              /* cpus[]; lock order: alone */
	struct soft_vcpu *cpus[SOFT_CPUS]; /* by id; atomic pointers */
	u8 direct_cpu[SOFT_CPUS]; /* host CPUs in use (direct_place.c); atomic
				   */
	struct code_world *code;
	struct loop *loop; /* runs the APIC timers, on loop_thread */
	pthread_t loop_thread;
	u32 exclusive; /* atomic; a vCPU runs alone (exclusive.c) */
};

struct soft_block;

/* Of soft_vcpu.running: not 0, it answers what is asked of it or is about to.
 * HELD: another thread sees to its TLBs, it must not enter. */
enum { SOFT_OUT, SOFT_IN, SOFT_HELD };

struct soft_vcpu {
	struct vcpu vcpu;

	/* Hot: what every instruction touches. */
	u64 gpr[16];
	u64 ea_rip,
		ea_zero; /* gpr[INSN_REG_RIP], [INSN_REG_NONE]: scratch, 0 */
	u64 rip;         /* of the instruction under execution, or next */
	u16 fl;          /* LAHF:OF, see above */
	u8 cpl;
	u8 shadow;  /* interrupts held off for one instruction: STI 1, SS 2 */
	u32 mode;   /* MODE_* */
	u64 rflags; /* all but the arithmetic flags; bit 1 set */
	struct tlb_entry *tlb;     /* for explicit accesses at CPL (and AC) */
	struct tlb_entry *tlb_sys; /* for implicit supervisor accesses */
	struct soft_window window; /* for accesses by tlb */
	u32 attention;    /* atomic; non-zero: leave the fast loop (ATTN_*) */
	pid_t direct_pid; /* atomic; a child that runs for it, or 0 */
	u64 insns;     /* executed; vcpu.stat[VCPU_STAT_INSNS] when leaving */
	u64 block_rip; /* of the first instruction of block */
	u64 code_key;  /* what entry points are tagged with (code.c) */
	u64 fetch_key; /* the same in 64 bits, of which none comes twice */
	u64 fetch_gen[2]; /* of translations for fetching, [CPL == 3] (tlb.c) */
	struct soft_block *block; /* under execution, or NULL */
	u32 parked;               /* atomic; stands while another runs alone */
	u32 pauses;               /* PAUSE instructions so far */
	const struct insn *block_pc; /* next to run, where calls return */
	u64 rmw[2]; /* copy of an operand that is not directly accessible */

	/* Registers */
	struct seg_state seg[6], ldtr, tr;
	struct dtable_state gdt, idt;
	u64 cr0, cr2, cr3, cr4, efer, xcr0;
	u64 dr[4], dr6, dr7;
	struct cpu_state msr; /* only its MSR fields and pv_* are used here */
	u64 tsc_offset;       /* guest TSC = host TSC + this */
	/* Vector and x87 registers in the standard XSAVE layout; guest's. */
	u8 xsave[XSAVE_AREA_SIZE] __attribute__((aligned(64)));

	/* Event delivery */
	sigjmp_buf fault_env; /* soft_fault() comes back here */
	u8 fault_vector;
	bool fault_has_error;
	u32 fault_error;
	bool nmi_masked, nmi_pending;
	u8 mp_state;
	u8 stop; /* enum soft_stop: why running cannot go on */
	/* Event under delivery (exception.c): its class and vector; a fault
	 * that comes back to fault_env meanwhile is combined with it. */
	u8 delivering, delivering_vector;
	u32 db_pending; /* DR6 bits of a #DB trap due after this insn */
	u32 running;    /* atomic; SOFT_*: inside vcpu_run(), answers */
	u32 halted;     /* atomic; its thread sleeps on attention */
	u64 trim_from;  /* clock_ns(): not before is soft_code_trim() due */
	u64 timer_deadline, timer_armed; /* atomic; clock_ns(), 0: none */
	struct loop_timer *timer;
	u32 flush_req, flush_done; /* atomic; revocations asked, answered */

	/* The translator's (cpu/jit): its map of entry points, a place for a
	 * value, itself, and whether vector instructions may not run as they
	 * are (MXCSR unmasked, CR0.TS and the like). */
	void *jit_map;
	u64 code_page; /* linear address of the page that code runs in */
	u64 jit_tmp, jit_addend[16];
	void *jit_pending;
	u32 jit_no_simd, jit_host_mxcsr;
	bool jit_fault;  /* an access of generated code faults: fault_* */
	bool jit_inside; /* generated code runs, with the guest's MXCSR */
	u32 heat;        /* entries of a block until it is translated */
	u32 jit_budget;  /* lock step: polls until generated code is left */
	struct soft_undo *undo; /* NULL: stores are not noted */
	u64 *jit_left;   /* by op; where the next JIT_INTERP is counted */
	struct jit *jit; /* NULL: interpreter only */
	const struct soft_jit_ops *jit_ops;

	/* Direct execution (direct.h): whether user code of this address space
	 * is run so, and not until the kernel has been in; how often it was. */
	bool direct_want, direct_on;
	u32 user_exits;
	struct soft_direct *direct; /* NULL: none here */

	/* Each file's private parts, made by its own x_init(). */
	struct soft_mmu *mmu;   /* TLBs and walk caches */
	struct soft_code *code; /* decoded blocks */
	struct soft_simd *simd; /* thunks */
	struct soft_sys *sys;   /* system instructions, paravirtual */
};

enum soft_stop {
	STOP_NONE,
	STOP_SHUTDOWN, /* triple fault: VCPU_EXIT_SHUTDOWN, report filled */
	STOP_ERROR,    /* VCPU_EXIT_ERROR, report filled */
};

/* attention bits; set by any thread, cleared by the owner */
enum {
	ATTN_KICK = 1,  /* vcpu_kick(): return to the caller */
	ATTN_IRQ = 2,   /* look at the local APIC */
	ATTN_FLUSH = 4, /* drop TLB (and answer a revocation, mmu.c) */
	ATTN_CODE = 8,  /* drop decoded code of posted ranges (code.c) */
	ATTN_STEP = 16, /* TF or debug registers: slow loop */
	ATTN_SYNC = 32, /* stop at a safe point (exclusive.c) */
	ATTN_MODE =
		64, /* handler changed mode, RIP or mapping: end the block */
};

static inline struct soft_engine *soft_engine_of(const struct soft_vcpu *v)
{
	return (struct soft_engine *)v->vcpu.engine;
}

static inline struct mem *soft_mem(const struct soft_vcpu *v)
{
	return v->vcpu.engine->config.mem;
}

static inline const struct trace *soft_trace(const struct soft_vcpu *v)
{
	return v->vcpu.engine->config.trace;
}

static inline void soft_attention(struct soft_vcpu *v, u32 bits)
{
	pid_t child;

	__atomic_or_fetch(&v->attention, bits, __ATOMIC_SEQ_CST);
	child = __atomic_load_n(&v->direct_pid, __ATOMIC_SEQ_CST);
	if (unlikely(child))
		dspace_kick(child);
}

/* Delivers exception vector at the current instruction. Never returns. */
NORETURN void soft_fault(struct soft_vcpu *v, u8 vector);
NORETURN void soft_fault_err(struct soft_vcpu *v, u8 vector, u32 error);

/* The architectural RFLAGS, and the whole of it set (mode is recomputed). */
u64 soft_rflags(const struct soft_vcpu *v);
void soft_set_rflags(struct soft_vcpu *v, u64 rflags);

/* Recomputes mode, tlb and attention after CR0, EFER, CS, SS, CPL changed. */
void soft_update_mode(struct soft_vcpu *v);

/*
 * Guest linear memory is in access.h, events and stepping in event.h. What
 * vcpu_run() does once the vCPU is to run is interp.c's soft_run().
 */
enum vcpu_exit soft_run(struct soft_vcpu *v);

/*
 * Exactly one instruction at v->rip, by the interpreter; of a REP perhaps only
 * a part, v->rip is the same again then. No breakpoints, no stepping. Returns
 * its row of the opcode table. May leave by soft_fault().
 */
unsigned soft_step_plain(struct soft_vcpu *v);

/*
 * Decoded code (code.c). Owner's thread.
 *   written  [gpa, gpa + len) of a page with MEM_ATTR_CODE was written
 *   reused   fetch_gen begins anew: forget what is tagged with code_key
 *   rekey    v->mode, CS or fetch_gen changed
 *   answer   ATTN_CODE; the bit is already cleared
 *   forget   drops all: memory may have changed unseen (a new state was set)
 */
void soft_code_written(struct soft_vcpu *v, gpa_t gpa, u64 len);
void soft_code_reused(struct soft_vcpu *v);
void soft_code_rekey(struct soft_vcpu *v);
void soft_code_answer(struct soft_vcpu *v);
void soft_code_forget(struct soft_vcpu *v);
/* The same, and what it took of memory goes back to the host. */
void soft_code_trim(struct soft_vcpu *v);

/*
 * The translator is about to read the RAM page's bytes (granules 0), or keeps
 * code that depends on these 64-byte pieces of it.
 */
void soft_code_hold(struct soft_vcpu *v, u64 page, u64 granules);

/* How a vCPU gets its translator (engine_config.translator); init sets v->jit
 * or fails with a sentence: then it goes without. */
struct soft_translator {
	int (*init)(struct soft_vcpu *v, u64 cache, struct err *e);
	void (*fini)(struct soft_vcpu *v);
};

/*
 * The translator as the interpreter sees it; v->jit is NULL without one.
 * Owner's thread, outside of blocks.
 */
enum soft_jit_result {
	JIT_NONE,   /* there is none at v->rip */
	JIT_RAN,    /* go on at v->rip as you like */
	JIT_INTERP, /* the interpreter must run the instruction at v->rip */
};
struct soft_jit_ops {
	/* Runs translated code from v->rip on. */
	enum soft_jit_result (*run)(struct soft_vcpu *v);
	/* Makes some for v->rip, which has been executed often. */
	void (*heat)(struct soft_vcpu *v);
	/* Bytes [off, off + n) of the RAM page were written. */
	void (*written)(struct soft_vcpu *v, u64 page, u64 off, u64 n);
	/* 64-byte pieces of the page that translated code depends on. */
	u64 (*granules)(struct soft_vcpu *v, u64 page);
	void (*flush)(struct soft_vcpu *v); /* drop everything */
	void (*trim)(struct soft_vcpu *v);  /* after that: free its memory */
	/* fetch_gen[0] is new. */
	void (*remapped)(struct soft_vcpu *v);
	/* A fault came out of run() by longjmp. */
	void (*left_by_fault)(struct soft_vcpu *v);
	/* engine_class.vcpu_left */
	unsigned (*left)(const struct soft_vcpu *v, struct vcpu_left *out,
			 unsigned max);
};

/*
 * An engine's view of who has decoded what, shared by its vCPUs; made before
 * the first of them, hooks itself into mem->code_written. Then one cache for
 * each vCPU, v->code, after v->vcpu and v->mmu are set up; arena is the size
 * of the decoded code in bytes (0: the default).
 */
struct code_world;
struct code_world *code_world_new(struct mem *mem, unsigned cpus,
				  struct err *e);
void code_world_free(struct code_world *w);
int soft_code_init(struct soft_vcpu *v, struct code_world *w, size_t arena,
		   struct err *e);
void soft_code_fini(struct soft_vcpu *v);

/* The effective address of i's memory operand, address size applied. */
u64 soft_ea(const struct soft_vcpu *v, const struct insn *i);
/* The same through soft_lin(), for i->memsize bytes. */
gva_t soft_ea_lin(struct soft_vcpu *v, const struct insn *i,
		  enum mmu_access access);

/* Binders: the handler for a decoded instruction (never NULL). */
insn_fn *int_bind(const struct insn *i); /* int_*.c; NULL: not integer */
insn_fn *sys_bind(const struct insn *i); /* sys_*.c */
/*
 * The handler of an instruction of 64-bit code, for calling it outside of a
 * block; NULL: undefined. Sets i->aux. A threaded one (int.h) goes on at
 * i[1].fn, which is then int_stop; others return, those of rows with
 * OPA_BRANCH or OPA_STRING with v->rip stored.
 */
insn_fn *soft_bind_insn(struct soft_vcpu *v, struct insn *i, const u8 *bytes,
			bool *threaded);
void int_stop(struct soft_vcpu *v, const struct insn *i);
/* Makes the thunk for raw bytes of i; sets i->aux. */
insn_fn *simd_bind(struct soft_vcpu *v, struct insn *i, const u8 *bytes);

/*
 * By FEAT_*: what the guest is shown, if there is an engine to say so, else
 * what the host has. What the guest is shown is a part of that: anything else
 * must not be run on the host. (features.c)
 */
void soft_features(const struct soft_vcpu *v, bool out[FEATURES]);

/*
 * Vector and x87 state (simd.c). While a vCPU runs, v->xsave holds every
 * component in full and its header is not kept. simd_loaded() is called after
 * v->xsave was replaced as a whole (components whose XSTATE_BV bit is clear
 * get their initial values), simd_saved() before it is read from outside
 * (XSTATE_BV is set to what is in use).
 */
int simd_init(struct soft_vcpu *v, struct err *e);
void simd_fini(struct soft_vcpu *v);
void simd_loaded(struct soft_vcpu *v);
void simd_saved(struct soft_vcpu *v);
void simd_leave(struct soft_vcpu *v); /* its thread leaves vcpu_run() */
u64 simd_xinuse(struct soft_vcpu *v); /* XGETBV with ECX 1, before XCR0 */
void simd_reset(struct soft_vcpu *v, bool init); /* INIT keeps nearly all */

/* RIP of the instruction after i. Handlers that branch store v->rip. */
static inline u64 insn_next(const struct soft_vcpu *v, const struct insn *i)
{
	return v->rip + i->len;
}

#endif
