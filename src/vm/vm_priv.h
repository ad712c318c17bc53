/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of vm/ share. */
#ifndef VM_VM_PRIV_H
#define VM_VM_PRIV_H

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include "platform/pc.h"
#include "vm/agent.h"
#include "vm/vm.h"

/* Makes a vCPU thread look at its local APIC timer (timer_create). */
#define VM_TIMER_SIGNAL (SIGRTMIN + 2)

/* Disks, console, entropy, network, sockets. */
#define VM_VIRTIO (VM_DISKS + 4)

/* A halted vCPU's wait. */
enum { WAKE_NONE, WAKE_PENDING, WAKE_SLEEPING };

struct vm_cpu {
	struct vm *vm;
	unsigned id;
	struct vcpu *vcpu;
	pthread_t thread;
	bool started;   /* loop thread */
	bool has_timer; /* its own thread, before it runs */
	timer_t timer;
	u32 wake;     /* atomic; WAKE_*, futex */
	u64 deadline; /* atomic; clock_ns() or 0 */
};

/* What a guest or operator asked for; done by the loop's thread. */
enum {
	VM_WANT_RESET = BIT(0),
	VM_WANT_END = BIT(1), /* end and code are set */
};

struct pager;
struct vm_track;

struct vm {
	struct vm_config config;
	struct loop *loop; /* not owned */
	struct mem mem;
	struct pc *pc;
	struct engine *engine;
	struct err why; /* other engines were passed over */
	struct vm_cpu *cpus;
	struct virtio *console;           /* of the board; or NULL */
	struct virtio *virtio[VM_VIRTIO]; /* the board's */
	unsigned nvirtio;
	struct chr *front; /* of its console; or NULL */
	struct sched sched;
	struct pager *pager;    /* its memory comes by and by; or NULL */
	struct snap_last *last; /* snapshot, or NULL; the job's thread */
	unsigned quiet;         /* vm_quiesce() not undone; loop thread */
	u16 cols, rows;         /* of the user's terminal; loop thread */
	u64 load_tsc;           /* host's, when loading of vCPUs began */
	u64 load_age; /* ns that the guest shall find passed since saving */
	/* The gate is closed if paused, if something is wanted, or at the
	 * end; hold says so in one word that vCPUs look at often. */
	u32 hold; /* atomic; set by any thread, cleared under lock */
	u32 want; /* atomic; VM_WANT_* */

	pthread_mutex_t lock; /* down to quit */
	pthread_cond_t changed;
	unsigned pauses;
	unsigned started; /* vCPU threads there are */
	unsigned parked;  /* of these, waiting at the gate */
	bool quit;

	struct disk *disk[VM_DISKS];    /* the devices' */
	struct virtio *net;             /* of the board; or NULL */
	struct agent *agent;            /* NULL: no port for one */
	char hostname[AGENT_HOST_NAME]; /* that it was told; or "" */
	bool away; /* handed over: quiesced, never to run here by itself */
	u32 away_session; /* of the migration; loop thread and the job's */

	pthread_mutex_t track_lock; /* outermost; the next two (vm_track.c) */
	struct vm_track *tracks;
	unsigned long *track_bits;

	pthread_mutex_t end_lock; /* innermost; the rest */
	enum vm_end end;
	int code;
	char report[1024];
};

/* What is known of one queue of a virtio device (vm_stat.c). Any thread. */
struct vm_queue_stat {
	const char *device;
	unsigned instance, queue;
	u64 kicks; /* times its notifications woke the device */
	u64 exits; /* notifications that made an exit from the guest */
};
/* Those that were ever notified; at most max. */
unsigned vm_queue_stats(const struct vm *vm, struct vm_queue_stat *q,
			unsigned max);

/* Threads (vm_cpu.c). */
int vm_cpus_start(struct vm *vm, struct err *e);
/* They end as soon as they can, but one may sleep for a page that never comes:
 * the process is to end without freeing the machine. */
void vm_cpus_abandon(struct vm *vm);
void vm_cpus_quit(struct vm *vm); /* joins them */
void vm_cpu_wake(struct vm_cpu *c);
void vm_cpu_set_timer(struct vm_cpu *c, u64 deadline_ns);
void vm_kick_all(struct vm *vm);

/* Closes the gate and has the loop's thread do what is wanted. Any thread,
 * any lock but end_lock held. */
void vm_request(struct vm *vm, u32 want);
/* Loop thread. */
void vm_do_wanted(struct vm *vm); /* between instructions, if it can be now */
void vm_do_reset(struct vm *vm);

/* The engine's tsc_moment(), if it has one. vCPUs do not run. */
void vm_tsc_moment(struct vm *vm, u64 host_tsc);

/* Backends on their way to the devices that take them over (vm_devices.c);
 * whoever takes one leaves NULL. */
struct vm_parts {
	struct chr *serial, *virtio, *debug;
	struct vm_port ports[VM_PORTS];
	unsigned nports;
	struct vsock *vsock;
};
int vm_parts_init(struct vm_parts *p, const struct vm_backends *b,
		  struct err *e);
void vm_parts_fini(struct vm_parts *p);
/* Consoles and ports that have a backend belong to the configuration. */
void vm_parts_config(const struct vm_parts *p, struct vm_config *c);
/* Disks, networks, consoles. */
int vm_make_devices(struct vm *vm, struct vm_parts *p, struct err *e);

/* The first end counts. Any thread. */
void vm_ended(struct vm *vm, enum vm_end end, int code, const char *report);

#endif
