/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The board: which device sits at which address and on which wire.
 *
 * Call order: pc_new(), pc_add_*(), pc_connect() once the engine is there,
 * pc_boot() before the first vCPU runs and after each pc_reset(), pc_free()
 * after the vCPUs are gone.
 */
#ifndef PLATFORM_PC_H
#define PLATFORM_PC_H

#include "backend/chr.h"
#include "base/loop.h"
#include "cpu/engine.h"
#include "device/vmgenid.h"
#include "platform/boot.h"
#include "platform/pc_map.h"

struct dev_list;
struct pc;
struct virtio;

/* What the guest does to the machine as a whole. */
enum pc_event {
	PC_EVENT_RESET,
	PC_EVENT_POWER_OFF,
	PC_EVENT_DEBUG_EXIT, /* val: what was written */
};

/* What the board needs of the VM. Called on vCPU threads or the loop's. */
struct pc_host {
	void (*event)(void *arg, enum pc_event ev, u32 val);
	void (*wake)(void *arg, unsigned id);                   /* cpu_ops */
	void (*timer)(void *arg, unsigned id, u64 deadline_ns); /* cpu_ops */
	void *arg;
};

struct pc_config {
	struct mem *mem; /* laid out by pc_memory() */
	struct loop *loop;
	unsigned cpus;
	struct chr *com1;      /* taken over; NULL: nothing behind it */
	u16 debug_exit_port;   /* 0: none */
	u16 debug_chr_port;    /* 0: none */
	struct chr *debug_chr; /* taken over */
	struct pc_host host;
};

/* Makes m with size bytes of RAM where this board has it. */
int pc_memory(struct mem *m, u64 size, struct err *e);
/* The same with the content of a file, as mem_init_file(). */
int pc_memory_file(struct mem *m, u64 size, int fd, struct err *e);

struct pc *pc_new(const struct pc_config *c, struct err *e);
void pc_free(struct pc *pc);

/* Puts a virtio device into the next PCI slot; takes v over in any case. */
int pc_add_virtio(struct pc *pc, struct virtio *v, struct err *e);

/* For struct engine_config; machine is the struct pc. */
extern const struct cpu_ops pc_cpu_ops;
struct apic_bus *pc_apics(struct pc *pc);
/* From here on interrupts go to g. */
void pc_connect(struct pc *pc, struct engine *g);

/* Writes the firmware tables, loads the images, fills in the boot vCPU. */
int pc_boot(struct pc *pc, const struct boot_config *b, struct cpu_state *cpu,
	    struct err *e);
void pc_reset(struct pc *pc); /* vCPUs paused */

/* All devices, for saving and loading; vCPUs paused. */
struct dev_list *pc_devices(struct pc *pc);

void pc_power_button(struct pc *pc); /* any thread */
/* The machine begins another life: as a clone, or from a snapshot. Its
 * generation id is a new one and the guest is told. Any thread. */
void pc_new_generation(struct pc *pc);
/* The id of now. Any thread. */
void pc_generation(struct pc *pc, u8 id[VMGENID_SIZE]);
void pc_nmi(struct pc *pc); /* any thread; soft engine */

#endif
