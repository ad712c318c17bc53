/* SPDX-License-Identifier: BSD-2-Clause */
/* Signals of a process with a terminal, as a descriptor to wait on. */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include "base/err.h"

/*
 * A signalfd, close-on-exec and non-blocking, for those that end us and for
 * the terminal's new size; with machine also for those that only the process
 * of a machine heeds. They are blocked from now on, SIGPIPE is ignored. Before
 * there are threads. -errno and a sentence.
 */
int signals_open(bool machine, struct err *e);

#endif
