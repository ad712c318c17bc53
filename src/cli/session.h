/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A process around one VM: the event loop, signals, the terminal, the VM's
 * name and control socket, perhaps in the background. Used by every verb that
 * runs a VM:
 *
 *   session_open(), s.vm = a VM made with s.backends, session_run(),
 *   session_close() in any case.
 */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include "api/api.h"
#include "api/rundir.h"
#include "cli/command.h"
#include "cli/options.h"

struct session {
	struct run_options *o;
	struct loop *loop;
	struct command *command; /* NULL: a console */
	struct vm_backends backends;
	struct vm *vm; /* set by the caller; freed by session_close() */
	struct api *api;
	struct chr *console; /* a hub; the VM's; NULL: none */
	struct rundir dir;
	int signals; /* signalfd */
	struct loop_fd *signals_watch;
	int ready;     /* pipe to the parent if in the background, or -1 */
	int killed_by; /* a signal, or 0 */
	bool raw;
	struct api_end end; /* for those who wait; end NULL: did not run */
	char report[1024];
};

/*
 * Goes into the background if o->detach (the process that was called waits
 * for the VM's start and exits from within), takes the VM's name (which is
 * then in o->vm.name) and makes everything the VM needs of its process. No
 * other thread may run yet. o outlives the session.
 */
int session_open(struct session *s, struct run_options *o, struct err *e);
/* To be called when the VM shall start paused; before session_run(). */
void session_start_paused(struct session *s);
/* From the VM's start to its end; the exit code. */
int session_run(struct session *s);
void session_close(struct session *s);
/* Instead of close, for a VM that cannot be freed (vm_is_whole()): ends the
 * process. */
NORETURN void session_leave(struct session *s, int code);

#endif
