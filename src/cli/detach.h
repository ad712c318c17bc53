/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Going into the background. The process that was called stays until the VM
 * starts, prints its name and exits with 0; or, if the VM does not start,
 * exits with the code of the one that tried, whose errors are on the same
 * standard error.
 */
#ifndef CLI_DETACH_H
#define CLI_DETACH_H

#include "api/rundir.h"
#include "base/err.h"

/* Returns in the background only; no thread may run. ready: for
 * detach_ready(). */
int detach(int *ready, struct err *e);
/* Standard output goes to the log from now on. */
int detach_output(struct rundir *dir, struct err *e);
/* The VM starts; standard error goes to the log too. */
void detach_ready(int *ready, const char *name);

#endif
