/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What a CPU engine is: about ten operations on VMs and vCPUs, the same for
 * KVM and for the soft engine.
 *
 * Port and MMIO accesses do not end vcpu_run(): the engine calls struct
 * cpu_ops for them on the vCPU's thread. vcpu_run() returns when the vCPU
 * halts (soft engine), is kicked, shuts down or cannot go on.
 */
#ifndef CPU_ENGINE_H
#define CPU_ENGINE_H

#include "base/err.h"
#include "base/types.h"
#include "cpu/x86/cpuid.h"
#include "cpu/x86/state.h"
#include "irq/lapic.h"
#include "mem/mem.h"

struct engine;
struct vcpu;

/* The rest of the machine as an engine sees it. Called on vCPU threads. */
struct cpu_ops {
	u64 (*pio_read)(void *m, u16 port, unsigned len);
	void (*pio_write)(void *m, u16 port, u64 val, unsigned len);
	u64 (*mmio_read)(void *m, gpa_t gpa, unsigned len);
	void (*mmio_write)(void *m, gpa_t gpa, u64 val, unsigned len);
	/* INTA cycle of the 8259: the vector, or -1 if nothing is pending. */
	int (*extint_ack)(void *m);
	/* A level-triggered vector was ended (KVM's split irqchip only; the
	 * soft engine's local APICs tell the bus themselves). */
	void (*eoi)(void *m, u8 vector);
	/* Soft engine: vCPU id got something to do; ends its wait after
	 * VCPU_EXIT_HALTED. To be called after what it shall see has been
	 * stored (attention, IRR), by lapic_host.kick. Any thread. */
	void (*wake)(void *m, unsigned id);
	/* Soft engine: lapic_host.timer of vCPU id. At deadline the vCPU's own
	 * thread calls lapic_timer_fired() between two vcpu_run(). */
	void (*timer)(void *m, unsigned id, u64 deadline_ns);
};

struct soft_translator;
struct trace;

/* ALWAYS, as far as it can be, is for tests; ON: where that is faster. */
enum engine_direct { DIRECT_OFF, DIRECT_ON, DIRECT_ALWAYS };

struct engine_config {
	struct mem *mem;
	const struct cpu_ops *ops;
	void *machine;          /* first argument of ops */
	struct apic_bus *apics; /* soft engine: bus its lapics sit on */
	unsigned cpus;
	/* What the guest is to see, where it has seen it before or will move;
	 * NULL: all that this engine has here. Copied. */
	const struct cpuid_model *cpuid;
	bool nested; /* show SVM/VMX to the guest */
	/* Soft engine: what translates hot code (cpu/jit), NULL: nothing; and
	 * the size of its code cache for each vCPU, 0: the default. */
	const struct soft_translator *translator;
	u64 code_cache;
	/* Soft engine: check translated code against the interpreter for so
	 * many instructions; one vCPU. 0: do not. */
	u64 lockstep;
	/* Soft engine with a translator: when user code is run directly. */
	enum engine_direct direct;
	/* Soft engine: what is traced; NULL: nothing. The caller's. */
	const struct trace *trace;
	/* KVM: a ring of dirty pages for each vCPU, where there is one; costs
	 * less than the bitmap if few pages of many are written. */
	bool dirty_ring;
	/* KVM: longest poll before a halted vCPU sleeps; 0: the host's. */
	u32 halt_poll_ns;
};

/* Why vcpu_run() came back. */
enum vcpu_exit {
	VCPU_EXIT_KICKED,   /* vcpu_kick() was called; state is consistent */
	VCPU_EXIT_HALTED,   /* HLT or wait-for-SIPI: wait for a kick */
	VCPU_EXIT_SHUTDOWN, /* triple fault */
	VCPU_EXIT_ERROR,    /* the engine cannot go on; see vcpu_report() */
};

/* Counts since the vCPU was made; written by its thread, read by any. */
enum vcpu_stat {
	VCPU_STAT_INSNS, /* guest instructions (soft engine) */
	VCPU_STAT_PIO,
	VCPU_STAT_MMIO,
	VCPU_STAT_HALT,
	VCPU_STAT_IRQ,       /* interrupts delivered */
	VCPU_STAT_EXCEPTION, /* exceptions delivered */
	VCPU_STAT_KICK,
	VCPU_STAT_HYPERCALL,
	VCPU_STAT_TLB_MISS,
	VCPU_STAT_DECODE,      /* instructions decoded (soft engine) */
	VCPU_STAT_SMC,         /* decoded code dropped because it was written */
	VCPU_STAT_EXIT,        /* exits from KVM_RUN */
	VCPU_STAT_EXIT_SIGNAL, /* of these: kicks and other signals, */
	VCPU_STAT_EXIT_WINDOW, /* the guest can take an 8259 interrupt, */
	VCPU_STAT_EXIT_EOI,    /* end of a level-triggered interrupt, */
	VCPU_STAT_EXIT_MSR,    /* an MSR that is ours or nobody's, */
	VCPU_STAT_EXIT_RING,   /* dirty ring full; or PIO, MMIO ... */
	/* Soft engine's translator: what it made, */
	VCPU_STAT_UNITS,      /* units */
	VCPU_STAT_TRANSLATED, /* guest instructions in them */
	VCPU_STAT_TR_FLUSH,   /* times all of it was dropped */
	VCPU_STAT_TR_EVICT,   /* times its oldest part was */
	VCPU_STAT_TR_FILL,    /* TLB misses seen to inside generated code */
	/* and why generated code was left: to go on in other such code, */
	VCPU_STAT_OUT_LINK,     /* a direct branch not linked yet */
	VCPU_STAT_OUT_KEY,      /* one to another page, after a TLB flush */
	VCPU_STAT_OUT_INDIRECT, /* indirect branch, target not in the map */
	VCPU_STAT_OUT_POLL,     /* attention: an interrupt, a kick */
	VCPU_STAT_OUT_FAULT,    /* a page fault: to its handler */
	/* or in the interpreter, by instruction in vcpu_left(): */
	VCPU_STAT_OUT_OP,      /* instruction that is not translated */
	VCPU_STAT_OUT_ACCESS,  /* MMIO, code page, page crossing, fault */
	VCPU_STAT_OUT_VALUE,   /* operands that may fault (DIV, alignment) */
	VCPU_STAT_OUT_SIMD,    /* vector state does not allow it */
	VCPU_STAT_OUT_ADDRESS, /* branch to a non-canonical address */
	VCPU_STAT_OUT_NONE,    /* hot code of which no unit can be made */
	/* Direct execution: stops of child processes, of these for */
	VCPU_STAT_DIRECT,
	VCPU_STAT_DIRECT_CALL,  /* system calls, */
	VCPU_STAT_DIRECT_FAULT, /* pages not mapped there, */
	VCPU_STAT_DIRECT_TRAP,  /* other exceptions, */
	VCPU_STAT_DIRECT_KICK,  /* interrupts and kicks; */
	VCPU_STAT_DIRECT_CODE,  /* times code was not for there */
	VCPU_STATS,
};
extern const char *const vcpu_stat_names[VCPU_STATS];

/* How often the translator left an instruction to the interpreter, and why. */
struct vcpu_left {
	const char *op; /* mnemonic */
	enum vcpu_stat why;
	u64 n;
};

struct engine_class {
	const char *name;
	/* 0, or -errno and the reason why it cannot be used here. Takes
	 * 100 ms at most; includes a self-test of the hardware. */
	int (*probe)(struct err *e);
	/* The CPU model that a guest of so many vCPUs sees by default. */
	int (*model)(struct cpuid_model *m, unsigned cpus, struct err *e);
	struct engine *(*new)(const struct engine_config *c, struct err *e);
	void (*free)(struct engine *g); /* vCPUs are gone */

	/* Memory slots of config.mem were added or changed. vCPUs paused. */
	int (*mem_changed)(struct engine *g, struct err *e);
	/* Folds the engine's own dirty pages into mem->dirty (KVM's log). */
	int (*dirty_start)(struct engine *g, struct err *e);
	int (*dirty_sync)(struct engine *g, struct err *e);
	void (*dirty_stop)(struct engine *g);

	/* Made in the reset state: id 0 runs at the reset vector, others wait
	 * for SIPI. Local APIC id = id. Any thread; run by one thread. */
	struct vcpu *(*vcpu_new)(struct engine *g, unsigned id, struct err *e);
	void (*vcpu_free)(struct vcpu *v);
	enum vcpu_exit (*vcpu_run)(struct vcpu *v);
	/* Whole architectural state; vCPU not in vcpu_run(). */
	int (*vcpu_get)(struct vcpu *v, struct cpu_state *s, struct err *e);
	int (*vcpu_set)(struct vcpu *v, const struct cpu_state *s,
			struct err *e);
	/* Makes vcpu_run() return (KICKED) soon, or at once when next called:
	 * no kick is lost. Any thread, also a signal handler. */
	void (*vcpu_kick)(struct vcpu *v);
	/* The max most frequent of them, that first; returns how many. Any
	 * thread, also while the vCPU runs. NULL: no translator. */
	unsigned (*vcpu_left)(const struct vcpu *v, struct vcpu_left *out,
			      unsigned max);

	/* NULL where the local APICs are the soft engine's (apic_bus). */
	void (*msi)(struct engine *g, u64 address, u32 data);
	void (*extint)(struct engine *g, bool level); /* 8259's INTR */
	void (*nmi)(struct vcpu *v);
	/* NULL-able short cuts, see bus/accel.h. */
	int (*ioeventfd)(struct engine *g, gpa_t gpa, unsigned len, int fd,
			 bool add);
	int (*irqfd)(struct engine *g, int fd, u64 address, u32 data);
	/* The paravirtual clock (kvmclock's system time) in ns, for snapshots:
	 * set before the vCPUs' state is. NULL: it follows clock_ns(). */
	int (*clock_get)(struct engine *g, u64 *ns);
	int (*clock_set)(struct engine *g, u64 ns);
	/*
	 * The time stamp counters of states that are given to vcpu_set() from
	 * now on are those of this moment of the host's counter, so that
	 * several vCPUs agree however long it takes to set them; 0: of each
	 * call. NULL: always of the call.
	 */
	void (*tsc_moment)(struct engine *g, u64 host_tsc);
};

/* First member of each engine's own struct. */
struct engine {
	const struct engine_class *class;
	struct engine_config config;
};

struct vcpu {
	const struct engine_class *class;
	struct engine *engine;
	unsigned id;
	struct lapic *lapic;  /* soft engine's; else NULL */
	u64 stat[VCPU_STATS]; /* vCPU thread writes, any reads */
	char report[768];     /* sentence for VCPU_EXIT_ERROR/SHUTDOWN */
};

/* Engines in order of preference; NULL at the end. */
extern const struct engine_class *const engine_classes[];

/*
 * "auto" or a name. For auto the first whose probe() succeeds; why tells in
 * one line what was passed over and why (empty if nothing). An engine asked
 * for by name is not probed: who asks for it gets it, or new()'s reason.
 */
const struct engine_class *engine_find(const char *name, struct err *why,
				       struct err *e);

#endif
