/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/session.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/detach.h"
#include "cli/signals.h"
#include "cli/term.h"

/* Seconds after a signal to end until we end without further ado. */
#define SESSION_PATIENCE 10

/* ---- signals ---- */

static void session_stop(struct session *s)
{
	if (s->command)
		command_abandon(s->command);
	vm_stop(s->vm);
}

static void session_resize(struct session *s)
{
	u16 cols, rows;

	if (s->raw && term_size(&cols, &rows))
		vm_console_size(s->vm, cols, rows);
}

/* Stopped from outside: the terminal goes back for as long as we sleep. */
static void session_suspend(struct session *s)
{
	term_restore();
	kill(getpid(), SIGSTOP);
	if (s->raw)
		term_raw();
}

static void session_counters(struct session *s)
{
	term_restore();
	vm_print_exits(s->vm, stderr);
	if (s->raw)
		term_raw();
}

static void session_signal(void *arg, u32 events)
{
	struct session *s = arg;
	struct signalfd_siginfo si;

	(void)events;
	if (read(s->signals, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGWINCH: session_resize(s); return;
	case SIGTSTP: session_suspend(s); return;
	case SIGUSR1: session_counters(s); return;
	}
	s->killed_by = (int)si.ssi_signo;
	alarm(SESSION_PATIENCE);
	session_stop(s);
}

/* Something did not let go in time. */
static void session_alarm(int sig)
{
	static const char text[] = "sublet: the machine does not stop; "
				   "leaving it\n";
	ssize_t n;

	(void)sig;
	term_restore();
	n = write(STDERR_FILENO, text, sizeof(text) - 1);
	(void)n;
	_exit(CLI_EXIT_FAILED);
}

static int session_watch_signals(struct session *s, struct err *e)
{
	signal(SIGALRM, session_alarm);
	s->signals = signals_open(true, e);
	if (s->signals < 0)
		return s->signals;
	s->signals_watch =
		loop_fd_add(s->loop, s->signals, EPOLLIN, session_signal, s, e);
	return s->signals_watch ? 0 : -ENOMEM;
}

/* ---- consoles ---- */

static void session_escape(void *arg)
{
	session_stop(arg);
}

static struct chr *session_tty(struct session *s, struct err *e)
{
	int in = s->command ? -1 : STDIN_FILENO;

	s->raw = !s->command && term_usable();
	return chr_fd_new(s->loop, in, STDOUT_FILENO,
			  s->raw ? session_escape : NULL, s, e);
}

/* What stands behind the hub; NULL: nothing, as in the background. */
static int session_front(struct session *s, struct chr **front, struct err *e)
{
	*front = NULL;
	if (s->o->console == RUN_CONSOLE_FILE)
		*front = chr_file_new(s->o->console_file, e);
	else if (!s->o->detach)
		*front = session_tty(s, e);
	else
		return 0;
	return *front ? 0 : -EIO;
}

/* With a command, our standard output is the command's. */
static int session_console(struct session *s, struct err *e)
{
	struct chr *front;
	int rc;

	if (s->o->console == RUN_CONSOLE_NONE ||
	    (s->command && !s->o->console_given))
		return 0;
	rc = session_front(s, &front, e);
	if (rc)
		return rc;
	s->console = chr_hub_new(s->loop, front, e);
	s->backends.console = s->console;
	return s->console ? 0 : -ENOMEM;
}

static int session_debug_console(struct session *s, struct err *e)
{
	if (!s->o->vm.debug_console_port)
		return 0;
	s->backends.debug =
		chr_fd_new(s->loop, -1, STDOUT_FILENO, NULL, NULL, e);
	return s->backends.debug ? 0 : -ENOMEM;
}

/* In the folder of our name it is gone with us. */
static int session_vsock(struct session *s, struct err *e)
{
	const struct vm_vsock *v = &s->o->vm.vsock;
	char own[64];

	if (!v->cid)
		return 0;
	if (!v->path && s->dir.lock < 0)
		return err_set(e, -EINVAL,
			       "--vsock needs path=FILE where the machine has "
			       "no folder of its own");
	snprintf(own, sizeof(own), "/proc/self/fd/%d/" RUNDIR_VSOCK,
		 s->dir.dir);
	s->backends.vsock = vsock_new(v->path ? v->path : own, e);
	return s->backends.vsock ? 0 : -EIO;
}

static int session_backends(struct session *s, struct err *e)
{
	int rc;

	s->backends.loop = s->loop;
	if (s->o->command) {
		s->command = command_new(s->loop, s->o->command, e);
		if (!s->command)
			return -ENOMEM;
	}
	rc = session_console(s, e);
	if (!rc)
		rc = session_debug_console(s, e);
	if (!rc)
		rc = session_vsock(s, e);
	if (rc) {
		chr_free(s->backends.console);
		s->backends.console = s->console = NULL;
		return rc;
	}
	if (s->command)
		s->backends.ports =
			command_ports(s->command, &s->backends.nports);
	return 0;
}

/* ---- name and control socket ---- */

/*
 * A VM that nobody gave a name runs also where no folder can be made for it,
 * as in a container without /run; it cannot be controlled then.
 */
static int session_name(struct session *s, struct err *e)
{
	struct run_options *o = s->o;
	const char *stem = o->image ? o->image : "vm";
	int rc = rundir_claim(&s->dir, o->name_given ? o->vm.name : NULL, stem,
			      e);

	if (rc && (o->name_given || o->detach))
		return rc;
	if (rc)
		log_warnx("no control socket: %s", e->text);
	else
		o->vm.name = s->dir.name;
	log_set_name(o->vm.name);
	return 0;
}

static int session_listen(struct session *s, struct err *e)
{
	struct api_config c = {
		.loop = s->loop,
		.vm = s->vm,
		.name = s->o->vm.name,
		.image = s->o->image,
		.console = s->console,
	};

	if (s->dir.lock < 0 || s->api)
		return 0;
	c.listen = rundir_listen(&s->dir, e);
	if (c.listen < 0)
		return c.listen;
	s->api = api_new(&c, e);
	return s->api ? 0 : -ENOMEM;
}

/* ---- from start to end ---- */

int session_open(struct session *s, struct run_options *o, struct err *e)
{
	int rc = 0;

	*s = (struct session){.o = o, .signals = -1, .ready = -1};
	s->dir.base = s->dir.dir = s->dir.lock = -1;
	if (o->detach)
		rc = detach(&s->ready, e);
	if (!rc)
		rc = session_name(s, e);
	if (!rc && o->detach)
		rc = detach_output(&s->dir, e);
	if (rc)
		return rc;
	s->loop = loop_new(e);
	if (!s->loop)
		return -ENOMEM;
	rc = session_watch_signals(s, e);
	return rc ? rc : session_backends(s, e);
}

void session_start_paused(struct session *s)
{
	struct err e;

	if (!session_listen(s, &e) && s->api)
		api_set_paused(s->api, true);
}

static void session_greet(struct session *s)
{
	const char *why = vm_engine_why(s->vm);

	/* A command's error output is not ours to write to. */
	if (*why && (s->raw || s->o->verbose))
		fprintf(stderr, "sublet: %s engine (%s)\n", vm_engine(s->vm),
			why);
	if (!s->raw)
		return;
	fprintf(stderr, "sublet: %s runs on the %s engine; Ctrl-] q leaves\n",
		s->o->vm.name, vm_engine(s->vm));
	session_resize(s);
	term_raw();
}

static int session_exit_code(struct session *s, enum vm_end end)
{
	int code;

	if (s->killed_by)
		return 128 + s->killed_by;
	if (end == VM_END_ERROR || end == VM_END_SHUTDOWN)
		return CLI_EXIT_GUEST_DIED;
	if (end == VM_END_DEBUG_EXIT)
		return vm_exit_code(s->vm);
	if (!s->command || end == VM_END_MOVED)
		return 0;
	code = command_exit_code(s->command);
	if (code >= 0)
		return code;
	fprintf(stderr, "sublet: %s ended before the command did\n",
		s->o->vm.name);
	return CLI_EXIT_FAILED;
}

/* The VM has ended, but a reader may be slow in taking what it said. */
static void session_signals_end_us(struct session *s)
{
	sigset_t set;

	if (!s->command)
		return;
	sigfillset(&set);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
}

int session_run(struct session *s)
{
	struct err e = {{0}};
	enum vm_end end;
	int code;

	if (session_listen(s, &e)) {
		fprintf(stderr, "sublet: %s\n", e.text);
		return CLI_EXIT_FAILED;
	}
	session_greet(s);
	if (s->ready >= 0)
		detach_ready(&s->ready, s->o->vm.name);
	end = vm_run(s->vm);
	session_signals_end_us(s);
	term_restore();
	if (s->raw)
		fputc('\n', stderr);
	if (trace_on(&s->o->trace, TRACE_EXITS))
		vm_print_exits(s->vm, trace_file(&s->o->trace));
	if (end == VM_END_ERROR || end == VM_END_SHUTDOWN)
		fprintf(stderr, "sublet: %s stopped: %s\n", s->o->vm.name,
			vm_report(s->vm));
	if (end == VM_END_MOVED)
		fprintf(stderr, "sublet: %s moved to %s\n", s->o->vm.name,
			vm_report(s->vm));
	code = session_exit_code(s, end);
	snprintf(s->report, sizeof(s->report), "%s", vm_report(s->vm));
	s->end = (struct api_end){
		.end = s->killed_by ? "signal" : vm_end_name(end),
		.exit_code = code,
		.report = s->report,
	};
	return code;
}

void session_close(struct session *s)
{
	api_stop(s->api);
	if (s->vm)
		vm_free(s->vm);
	command_free(s->command);
	rundir_release(&s->dir);
	if (s->api && s->end.end)
		api_ended(s->api, &s->end);
	api_free(s->api);
	loop_fd_del(s->signals_watch);
	if (s->signals >= 0)
		close(s->signals);
	if (s->loop)
		loop_free(s->loop);
	if (s->ready >= 0)
		close(s->ready);
}

void session_leave(struct session *s, int code)
{
	api_stop(s->api);
	rundir_release(&s->dir);
	api_ended(s->api, &s->end);
	fflush(NULL);
	_exit(code);
}
