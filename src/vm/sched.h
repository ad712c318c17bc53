/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How a VM shares the host's CPUs: affinity of its vCPUs, shares and quota by
 * cgroup v2, and core scheduling, which keeps other VMs off the sibling
 * threads of a core while this one runs on it.
 *
 * Call order: sched_check() with the configuration; sched_join() in the main
 * thread before any other is made (threads inherit cgroup and cookie);
 * sched_pin() on each vCPU thread; sched_leave() when all threads are gone.
 */
#ifndef VM_SCHED_H
#define VM_SCHED_H

#include "base/err.h"
#include "base/types.h"

#define SCHED_CPUS       1024
#define SCHED_WEIGHT_MAX 10000

struct sched_config {
	/* --cpu-affinity: "0-3,8" all vCPUs on these, or "0:2,1:3,2-3:8-9"
	 * vCPUs on theirs. NULL: anywhere. */
	const char *affinity;
	unsigned weight;  /* --cpu-shares: cpu.weight; 0: not set */
	unsigned quota;   /* --cpu-quota: percent of one CPU; 0: none */
	bool core;        /* --core-scheduling */
	const char *name; /* of the VM, for its cgroup */
};

struct sched {
	char *cgroup; /* path, or NULL */
	char *parent;
};

/* One sentence for what cannot be; changes nothing. */
int sched_check(const struct sched_config *c, unsigned cpus, struct err *e);
int sched_join(struct sched *s, const struct sched_config *c, struct err *e);
/* The calling thread is that of vCPU id. */
int sched_pin(const struct sched_config *c, unsigned id, struct err *e);
void sched_leave(struct sched *s);

#endif
