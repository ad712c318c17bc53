/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the source says first, as a JSON object: the machine's configuration,
 * what its guest sees of the CPUs, its disks, and how it wants to send; and
 * what the target answers.
 */
#ifndef MIGRATE_HELLO_H
#define MIGRATE_HELLO_H

#include "migrate/migrate.h"
#include "migrate/wire.h"

struct mig_hello {
	u32 session;
	unsigned streams;
	bool dry_run, postcopy, with_disks;
	char engine[16];
	struct vm_config config; /* its strings live in json */
	struct cpuid_model cpuid;
	u64 disk_size[VM_DISKS];
	void *json; /* owned; of the receiver */
};

/* What the target can do. */
struct mig_accept {
	char engine[16];
	bool postcopy;
	char no_postcopy[128]; /* why not */
};

int mig_hello_send(struct mig_chan *c, const struct mig_hello *h,
		   struct err *e);
/* Checks all but what depends on this host. Free with mig_hello_fini() in any
 * case. */
int mig_hello_parse(struct mig_hello *h, const struct mig_frame *f,
		    struct err *e);
void mig_hello_fini(struct mig_hello *h);

int mig_accept_send(struct mig_chan *c, const struct mig_accept *a,
		    struct err *e);
int mig_accept_parse(struct mig_accept *a, const struct mig_frame *f,
		     struct err *e);

#endif
