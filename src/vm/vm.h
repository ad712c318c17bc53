/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The life of one virtual machine: configure, build, run, pause, reset, stop.
 *
 * Threads: one for each vCPU, and the loop's, which is the caller of
 * vm_run(): control, terminal and slow devices. Pausing brings every vCPU to
 * a point between two instructions; nothing touches guest RAM then.
 *
 * Lock order: vm > dev > irq. A holder of a later one never takes an earlier
 * one, and no device calls another device with its own lock held, interrupt
 * lines excepted.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include "backend/chr.h"
#include "backend/vsock.h"
#include "base/err.h"
#include "base/trace.h"
#include "cpu/engine.h"
#include "platform/boot.h"
#include "vm/sched.h"

#define VM_DISKS    16
#define VM_FORWARDS 32
#define VM_PORTS    8
/* Bytes of translated code for each vCPU. */
#define VM_CODE_CACHE_MIN MIB
#define VM_CODE_CACHE_MAX GIB

enum vm_net { VM_NET_NONE, VM_NET_USER };

struct vm_disk {
	const char *path;
	bool readonly;
	bool overlay; /* what the guest writes is gone with the VM */
	/* What it wrote in an earlier life: disk_layer_open(). */
	bool layered;
	int layer_data, layer_map; /* descriptors, the caller's */
};

/* Virtio sockets, backend/vsock.h. */
struct vm_vsock {
	u32 cid;          /* 0: none */
	const char *path; /* absolute; NULL: in the folder of the VM's name */
};

/* Strings are the caller's and outlive the VM. */
struct vm_config {
	const char *name;
	const char *engine; /* "auto", "soft", "kvm" */
	unsigned cpus;
	u64 memory; /* bytes */
	bool nested;
	bool no_reboot; /* a reset ends the VM */
	bool interp_only;
	enum engine_direct direct; /* soft engine: run user code directly */
	struct sched_config sched; /* its name: vm_new() sets it */
	const struct trace *trace; /* NULL: none */
	u64 code_cache; /* bytes for each vCPU; 0: the engine's default */
	u64 lockstep;   /* instructions of which translated code is checked */
	struct boot_config boot;
	struct vm_disk disks[VM_DISKS];
	unsigned ndisks;
	enum vm_net net;
	const char *forwards[VM_FORWARDS]; /* "tcp:HOST:GUEST" */
	unsigned nforwards;
	u8 mac[6]; /* of the network device */
	struct vm_vsock vsock;
	u16 debug_exit_port;    /* 0: none */
	u16 debug_console_port; /* 0: none */
	/* There is a console, and ports of these names; vm_new() adds those
	 * that struct vm_backends has. Without a backend nothing is behind. */
	bool console;
	const char *ports[VM_PORTS];
	unsigned nports;
	/* No boot: memory and state come from elsewhere (vm_state_load). */
	bool incoming;
	/* A file with the memory's content (mem_init_file), if ram_file; it
	 * stays the caller's. */
	bool ram_file;
	int ram_fd;
	/* What the guest sees of its CPUs; NULL: all that the engine has. */
	const struct cpuid_model *cpuid;
};

/* Fills in what a VM has if nobody says otherwise. */
void vm_config_init(struct vm_config *c);
/* "02:00:0a:00:02:0f"; parse: false if it is none, or that of a group. */
#define VM_MAC_TEXT 18
void vm_mac_text(const u8 mac[6], char text[VM_MAC_TEXT]);
bool vm_mac_parse(const char *text, u8 mac[6]);
/* A random one, locally administered. */
void vm_mac_draw(u8 mac[6]);
/* One clear sentence for what cannot be. Changes nothing. */
int vm_config_check(const struct vm_config *c, struct err *e);

/* How a VM ended. */
enum vm_end {
	VM_END_NONE,
	VM_END_POWER_OFF,
	VM_END_RESET,      /* with no_reboot */
	VM_END_DEBUG_EXIT, /* code: (v << 1) | 1 */
	VM_END_SHUTDOWN,   /* triple fault; see vm_report() */
	VM_END_ERROR,      /* the engine gave up; see vm_report() */
	VM_END_STOPPED,    /* by vm_stop() */
	VM_END_MOVED,      /* it runs elsewhere; vm_report() says where */
};
const char *vm_end_name(enum vm_end end); /* "power-off" ... */

struct vm;

/* A named port of the guest's virtio console. */
struct vm_port {
	const char *name;
	struct chr *chr; /* taken over */
};

struct vm_backends {
	struct loop *loop;
	struct chr *console; /* taken over; NULL: none */
	struct chr *debug;   /* debug console; taken over */
	const struct vm_port *ports;
	unsigned nports;
	struct vsock *vsock; /* taken over; there if config.vsock.cid is */
};

/* Checks the configuration, opens files, builds the machine. Nothing runs.
 * Takes over the backends also if it fails. */
struct vm *vm_new(const struct vm_config *c, const struct vm_backends *b,
		  struct err *e);
void vm_free(struct vm *vm);

/* Runs until the machine's end; returns how it ended. Loop thread. */
enum vm_end vm_run(struct vm *vm);
int vm_exit_code(const struct vm *vm);      /* of VM_END_DEBUG_EXIT */
const char *vm_report(const struct vm *vm); /* what happened; may be "" */
const char *vm_engine(const struct vm *vm); /* name of the engine */
/* As it is, defaults filled in; lives as long as the VM. */
const struct vm_config *vm_config(const struct vm *vm);
/* Which engines were passed over and why; "" if none. */
const char *vm_engine_why(const struct vm *vm);

/*
 * A table of what each vCPU counted (vcpu_stat), of the instructions that the
 * translator left to the interpreter most often, the totals, and the
 * notifications of virtio queues. Any thread.
 */
void vm_print_exits(const struct vm *vm, FILE *f);

/* Any thread. */
void vm_stop(struct vm *vm);
void vm_power_button(struct vm *vm);
void vm_nmi(struct vm *vm);
/* The machine begins another life, as a clone or from a snapshot: a new
 * generation id, and the guest and its agent are told. Any thread. */
void vm_new_generation(struct vm *vm);
/*
 * After that: it is another machine than before, with the address that the
 * configuration has; the guest is asked to take it, and this host name (NULL:
 * keep it). Any thread.
 */
void vm_renew(struct vm *vm, const char *hostname);
void vm_reset(struct vm *vm);
/* The user's terminal has another size. Loop thread. */
void vm_console_size(struct vm *vm, u16 cols, u16 rows);

/*
 * Gives up, or takes, the locks of its disks (a machine with config.incoming
 * has none at first). Quiesced, or before vm_run(); any thread. Giving up
 * brings what was written to stable storage.
 */
int vm_disks_lock(struct vm *vm, bool on, struct err *e);
/* The same while it runs, so that there is less to do later. Blocks. */
int vm_disks_sync(struct vm *vm, struct err *e);

/* It came from elsewhere: its guest tells the network where it is. After the
 * state is loaded; any thread. */
void vm_announce(struct vm *vm);

/*
 * After mem_absent_begin() the machine runs without a part of its memory:
 * check gives a sentence (-EBUSY) to whoever wants it to stand still, which it
 * could not do in time. vm_whole() tells that all is there. If vm_run() returns
 * before that, a thread may sleep for ever: the VM cannot be freed. Any thread.
 */
int vm_check_whole(const struct vm *vm, struct err *e);
bool vm_is_whole(const struct vm *vm);
void vm_whole(struct vm *vm);

/* As vm_pause(), but does not wait until they stand: a vCPU may be stuck in
 * memory that has not come yet. Undone by vm_resume(). Any thread. */
void vm_hold(struct vm *vm);
/* The machine ended by moving to dest. Any thread. */
void vm_moved(struct vm *vm, const char *dest);

/* Loop thread. Nest; after vm_pause() no vCPU runs. */
void vm_pause(struct vm *vm);
void vm_resume(struct vm *vm);

#endif
