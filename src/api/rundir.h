/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Running VMs by name: each has a folder BASE/NAME with
 *   lock      flock()ed by the monitor as long as it lives; holds its pid
 *   api.sock  the control socket
 *   vsock.sock  virtio sockets, if the VM has them and no other path
 *   log       what a monitor in the background had to say
 * BASE is $SUBLET_RUNTIME_DIR, or /run/sublet for root, or
 * $XDG_RUNTIME_DIR/sublet, or /tmp/sublet-UID; it must belong to the user and
 * be writable by nobody else. A folder whose lock nobody holds is what a
 * killed monitor left; whoever meets it removes it.
 *
 * Functions may be called from any thread; a struct rundir has one owner.
 */
#ifndef API_RUNDIR_H
#define API_RUNDIR_H

#include <sys/types.h>

#include "base/err.h"
#include "base/types.h"

#define RUNDIR_NAME  61 /* with its NUL */
#define RUNDIR_API   "api.sock"
#define RUNDIR_VSOCK "vsock.sock"

struct rundir {
	char name[RUNDIR_NAME];
	int base, dir, lock; /* -1: not claimed */
};

/* Letters, digits, '.', '_' and '-', at most 60, the first a letter or
 * digit. */
int rundir_check_name(const char *name, struct err *e);

/*
 * Takes the name for this process, which keeps it until rundir_release() or
 * its end. -EEXIST if a VM of that name runs. With name NULL the first free
 * one of STEM, STEM-2, STEM-3 ...; a stem that is no name becomes "vm".
 */
int rundir_claim(struct rundir *r, const char *name, const char *stem,
		 struct err *e);
/* A new file in the folder for our own output, or -errno. */
int rundir_log(struct rundir *r, struct err *e);
/* Makes the control socket; its descriptor is the caller's. */
int rundir_listen(struct rundir *r, struct err *e);
/* Removes the folder; harmless if nothing was claimed. */
void rundir_release(struct rundir *r);

/*
 * A stream to the control socket of the VM, close-on-exec and blocking, or
 * -errno: -ESRCH if no such VM runs, -EAGAIN if it does not take connections.
 * pid: its monitor's (also with -EAGAIN), may be NULL.
 */
int rundir_connect(const char *name, pid_t *pid, struct err *e);
/* The same to its virtio sockets. */
int rundir_connect_vsock(const char *name, struct err *e);
/* Names of the running VMs in alphabetical order; one block, to be freed. */
int rundir_list(char (**names)[RUNDIR_NAME], size_t *n, struct err *e);

#endif
