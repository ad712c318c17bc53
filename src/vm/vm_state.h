/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state of a machine beside its RAM and the content of its disks, as one
 * string of bytes, the same for snapshots and migration and on every engine:
 * a header, then records (state/record.h):
 *
 *   vm      memory, CPUs, the paravirtual clock, wall clock
 *   cpuid   what the guest sees of its CPUs
 *   cpu     one for each vCPU
 *   ...     one for each device that has state, by its class and instance
 *
 * To save: vm_quiesce(), vm_state_save(), then copy RAM (saving a vCPU may
 * write to it), vm_unquiesce().
 *
 * To load: vm_state_check(), vm_new() with config.incoming, config.cpuid from
 * the info and the same devices; vm_quiesce(); RAM; vm_state_load() (which
 * reads and writes the guest's clock pages); vm_unquiesce(); vm_run(). A
 * vm_quiesce() before vm_run() holds the vCPUs back until it is undone.
 */
#ifndef VM_VM_STATE_H
#define VM_VM_STATE_H

#include "base/buf.h"
#include "vm/vm.h"

#define VM_STATE_FORMAT 1
#define VM_STATE_HEAD   48u /* bytes before the first record */

struct vm_state_info {
	u32 format;
	char engine[16]; /* that it was saved on */
	u64 memory;      /* bytes of RAM */
	u32 cpus;
	u64 real_ns; /* wall clock when saved */
	struct cpuid_model cpuid;
	unsigned records;
	unsigned devices; /* of these, other than vm, cpuid and cpu */
};

/*
 * Stops all vCPUs between two instructions and waits until no device has a
 * request under way; then nobody touches guest RAM. Nests; loop thread.
 */
void vm_quiesce(struct vm *vm);
void vm_unquiesce(struct vm *vm);

/* Appends the state of a quiesced VM to out. Loop thread. */
int vm_state_save(struct vm *vm, struct buf *out, struct err *e);

/*
 * Whether the bytes are a whole state that this version can read, as far as
 * that can be told without a machine. Bytes may come from an enemy.
 */
int vm_state_check(const void *bytes, u64 len, struct vm_state_info *info,
		   struct err *e);

/*
 * Whether engine c on this host can go on with a guest that has seen this CPU
 * model: 0, or -ENOTSUP and a sentence with the names of what it lacks.
 * vm_new() with config.incoming and config.cpuid asks this too.
 */
int vm_state_check_cpu(const struct cpuid_model *saved, unsigned cpus,
		       const struct engine_class *c, struct err *e);

/*
 * The guest that vm_state_load() is about to load shall find that so much
 * time has passed since it was saved, by the host's clock of today: its wall
 * clock is right, its timers are due. Without, its time goes on from where it
 * stood. The RTC shows today's time in any case. Loop thread.
 */
void vm_state_age(struct vm *vm, const struct vm_state_info *info);

/*
 * Loads into a quiesced VM, after its RAM is there. All of it is checked
 * against this machine before anything is changed. Loop thread.
 */
int vm_state_load(struct vm *vm, const void *bytes, u64 len, struct err *e);

#endif
