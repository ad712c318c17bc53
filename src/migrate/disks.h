/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks that go along (--with-disks): at the source their contents as the
 * guest sees them, then again and again what it writes; at the target new
 * files. In blocks of 64 KiB; what was never written is not sent.
 *
 * A DISK frame: number of the disk 4, length 4, offset 8, then the bytes, or
 * none where all of them are zero.
 */
#ifndef MIGRATE_DISKS_H
#define MIGRATE_DISKS_H

#include "migrate/wire.h"
#include "vm/vm.h"

/* ---- source ---- */

struct mig_disk {
	struct disk *d;      /* not owned */
	unsigned long *todo; /* a bit a block */
	bool fresh;          /* nothing was sent yet: zeros need not be */
};

struct mig_disks {
	struct mig_disk disk[VM_DISKS];
	unsigned n;
	u8 *frame;
};

/* From now on what the guest writes is tracked; everything is to be sent.
 * Quiesced; loop thread. */
int mig_disks_start(struct mig_disks *m, struct vm *vm, struct err *e);
void mig_disks_stop(struct mig_disks *m); /* any thread; also if not started */
/* Bytes to be sent. */
u64 mig_disks_left(struct mig_disks *m);
/* Sends them; the guest may run. */
int mig_disks_send(struct mig_disks *m, struct mig_chan *c, struct err *e);

/* ---- target ---- */

struct mig_disk_in {
	int fd;       /* -1: none */
	char *path;   /* as a VM's configuration may have it */
	size_t final; /* so much of it is the name of the whole disk */
	u64 size;
};

/* Makes DIR/NAME-diskN.raw.partial; without .partial it must not exist. */
int mig_disk_in_new(struct mig_disk_in *d, const char *dir, const char *name,
		    unsigned n, u64 size, struct err *e);
/* A DISK frame for one of n disks; anything may be in it. */
int mig_disk_in_frame(struct mig_disk_in *d, unsigned n,
		      const struct mig_frame *f, struct err *e);
/* What was written is on stable storage, as the guest believes. */
int mig_disk_in_sync(struct mig_disk_in *d, unsigned n, struct err *e);
/* They are whole: takes .partial off their names, also in path. */
int mig_disk_in_keep(struct mig_disk_in *d, unsigned n, struct err *e);
/* keep: the machine is ours now, and they with it. */
void mig_disk_in_free(struct mig_disk_in *d, bool keep);

#endif
