/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtual machine generation id (Microsoft, "Virtual Machine Generation ID",
 * 2012): 16 bytes in guest memory which are others whenever the machine may
 * live a second time: after going back to a snapshot, in a clone. An OS that
 * sees them change throws away what must not be used twice, as the state of
 * its random number generator. The DSDT says where they are and by which
 * event a change is told.
 */
#ifndef DEVICE_VMGENID_H
#define DEVICE_VMGENID_H

#include "bus/dev.h"
#include "mem/mem.h"

#define VMGENID_SIZE 16u

struct vmgenid;

struct vmgenid_config {
	struct mem *mem;
	gpa_t gpa; /* RAM that the OS is told to keep off */
	/* The id is a new one; no lock is held. Any thread. */
	void (*changed)(void *arg);
	void *arg;
};

/* With a new id, not yet in memory: reset puts it there. NULL: no memory. */
struct vmgenid *vmgenid_new(const struct vmgenid_config *c);
static inline struct dev *vmgenid_dev(struct vmgenid *v)
{
	return (struct dev *)v;
}

/* Another life begins: a new id, and the guest is told. Any thread; RAM and
 * this device's state have been loaded, vCPUs may run. */
void vmgenid_renew(struct vmgenid *v);
/* The id of now. Any thread. */
void vmgenid_get(struct vmgenid *v, u8 id[VMGENID_SIZE]);

#endif
