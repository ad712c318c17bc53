/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet run: one virtual machine, from the command line to its end. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/command.h"
#include "cli/image.h"
#include "cli/options.h"
#include "cli/term.h"

/* Seconds after a signal to end until we end without further ado. */
#define RUN_PATIENCE 10

struct run {
	struct run_options o;
	struct image image;
	char cmdline[4096];
	struct loop *loop;
	struct command *command; /* NULL: a console */
	struct vm *vm;
	int signals; /* signalfd */
	struct loop_fd *signals_watch;
	int killed_by; /* a signal, or 0 */
	bool raw;
};

/* ---- configuration ---- */

/* The image's files where the user named none of his own. */
static int run_use_image(struct run *r, struct err *e)
{
	struct vm_config *c = &r->o.vm;
	int rc = image_open(r->o.image, &r->image, e);

	if (rc)
		return rc;
	if (r->o.command && !r->image.takes_command)
		return err_set(e, -EINVAL,
			       "the image %s does not take commands; log in "
			       "at its console instead",
			       r->o.image);
	if (!c->boot.kernel)
		c->boot.kernel = r->image.kernel;
	if (!c->boot.initrd && r->image.initrd[0])
		c->boot.initrd = r->image.initrd;
	if (!r->o.memory_given && r->image.memory)
		c->memory = r->image.memory;
	if (!r->image.disk[0])
		return 0;
	if (c->ndisks == VM_DISKS)
		return err_set(e, -EINVAL, "more than %d disks", VM_DISKS - 1);
	/* The image's own disk comes first: it is the root. */
	memmove(&c->disks[1], &c->disks[0], c->ndisks * sizeof(c->disks[0]));
	c->disks[0] = (struct vm_disk){.path = r->image.disk, .overlay = true};
	c->ndisks++;
	return 0;
}

static int run_cmdline(struct run *r, struct err *e)
{
	const char *append = r->o.append ? r->o.append : "";
	int n = snprintf(r->cmdline, sizeof(r->cmdline), "%s%s%s%s",
			 r->image.cmdline,
			 r->image.cmdline[0] && *append ? " " : "", append,
			 r->o.command ? " sublet.command" : "");

	if (n >= (int)sizeof(r->cmdline))
		return err_set(e, -E2BIG,
			       "the kernel's command line is longer "
			       "than %zu characters",
			       sizeof(r->cmdline) - 1);
	r->o.vm.boot.cmdline = r->cmdline;
	return 0;
}

static int run_configure(struct run *r, struct err *e)
{
	int rc = 0;

	r->o.vm.trace = &r->o.trace;
	if (r->o.image)
		rc = run_use_image(r, e);
	if (!rc)
		rc = run_cmdline(r, e);
	return rc ? rc : vm_config_check(&r->o.vm, e);
}

/* ---- signals ---- */

static void run_stop(struct run *r)
{
	if (r->command)
		command_abandon(r->command);
	vm_stop(r->vm);
}

static void run_resize(struct run *r)
{
	u16 cols, rows;

	if (r->raw && term_size(&cols, &rows))
		vm_console_size(r->vm, cols, rows);
}

/* Stopped from outside: the terminal goes back for as long as we sleep. */
static void run_suspend(struct run *r)
{
	term_restore();
	kill(getpid(), SIGSTOP);
	if (r->raw)
		term_raw();
}

static void run_signal(void *arg, u32 events)
{
	struct run *r = arg;
	struct signalfd_siginfo si;

	(void)events;
	if (read(r->signals, &si, sizeof(si)) != sizeof(si))
		return;
	switch (si.ssi_signo) {
	case SIGWINCH: run_resize(r); return;
	case SIGTSTP: run_suspend(r); return;
	}
	r->killed_by = (int)si.ssi_signo;
	alarm(RUN_PATIENCE);
	run_stop(r);
}

/* Something did not let go in time. */
static void run_alarm(int sig)
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

static int run_watch_signals(struct run *r, struct err *e)
{
	static const int list[] = {SIGINT,  SIGTERM, SIGHUP,
				   SIGQUIT, SIGTSTP, SIGWINCH};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(list); i++)
		sigaddset(&set, list[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	/* Not in main(): what makes an image wants its SIGPIPE. */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGALRM, run_alarm);
	r->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signals < 0)
		return err_errno(e, -errno, "cannot wait for signals");
	r->signals_watch =
		loop_fd_add(r->loop, r->signals, EPOLLIN, run_signal, r, e);
	return r->signals_watch ? 0 : -ENOMEM;
}

/* ---- consoles ---- */

static void run_escape(void *arg)
{
	run_stop(arg);
}

static struct chr *run_console_tty(struct run *r, struct err *e)
{
	int in = r->o.command ? -1 : STDIN_FILENO;

	r->raw = !r->o.command && term_usable();
	return chr_fd_new(r->loop, in, STDOUT_FILENO,
			  r->raw ? run_escape : NULL, r, e);
}

/* With a command, our standard output is the command's. */
static int run_console(struct run *r, struct chr **chr, struct err *e)
{
	*chr = NULL;
	if (r->o.console == RUN_CONSOLE_NONE ||
	    (r->o.command && !r->o.console_given))
		return 0;
	if (r->o.console == RUN_CONSOLE_FILE)
		*chr = chr_file_new(r->o.console_file, e);
	else
		*chr = run_console_tty(r, e);
	return *chr ? 0 : -EIO;
}

static int run_debug_console(struct run *r, struct chr **chr, struct err *e)
{
	*chr = NULL;
	if (!r->o.vm.debug_console_port)
		return 0;
	*chr = chr_fd_new(r->loop, -1, STDOUT_FILENO, NULL, NULL, e);
	return *chr ? 0 : -ENOMEM;
}

static int run_backends(struct run *r, struct vm_backends *b, struct err *e)
{
	int rc;

	*b = (struct vm_backends){.loop = r->loop};
	if (r->o.command) {
		r->command = command_new(r->loop, r->o.command, e);
		if (!r->command)
			return -ENOMEM;
	}
	rc = run_console(r, &b->console, e);
	if (!rc)
		rc = run_debug_console(r, &b->debug, e);
	if (rc) {
		chr_free(b->console);
		return rc;
	}
	if (r->command)
		b->ports = command_ports(r->command, &b->nports);
	return 0;
}

/* ---- the run ---- */

static int run_build(struct run *r, struct err *e)
{
	struct vm_backends b;
	int rc;

	r->loop = loop_new(e);
	if (!r->loop)
		return -ENOMEM;
	rc = run_watch_signals(r, e);
	if (!rc)
		rc = run_backends(r, &b, e);
	if (rc)
		return rc;
	r->vm = vm_new(&r->o.vm, &b, e);
	return r->vm ? 0 : -EINVAL;
}

static void run_greet(struct run *r)
{
	const char *why = vm_engine_why(r->vm);

	/* A command's error output is not ours to write to. */
	if (*why && (r->raw || r->o.verbose))
		fprintf(stderr, "sublet: %s engine (%s)\n", vm_engine(r->vm),
			why);
	if (!r->raw)
		return;
	fprintf(stderr, "sublet: %s runs on the %s engine; Ctrl-] q leaves\n",
		r->o.vm.name, vm_engine(r->vm));
	run_resize(r);
	term_raw();
}

static int run_exit_code(struct run *r, enum vm_end end)
{
	int code;

	if (r->killed_by)
		return 128 + r->killed_by;
	if (end == VM_END_ERROR || end == VM_END_SHUTDOWN)
		return CLI_EXIT_GUEST_DIED;
	if (end == VM_END_DEBUG_EXIT)
		return vm_exit_code(r->vm);
	if (!r->command)
		return 0;
	code = command_exit_code(r->command);
	if (code >= 0)
		return code;
	fprintf(stderr, "sublet: %s ended before the command did\n",
		r->o.vm.name);
	return CLI_EXIT_FAILED;
}

static int run_machine(struct run *r)
{
	enum vm_end end;

	run_greet(r);
	end = vm_run(r->vm);
	term_restore();
	if (r->raw)
		fputc('\n', stderr);
	if (trace_on(&r->o.trace, TRACE_EXITS))
		vm_print_exits(r->vm, trace_file(&r->o.trace));
	if (end == VM_END_ERROR || end == VM_END_SHUTDOWN)
		fprintf(stderr, "sublet: %s stopped: %s\n", r->o.vm.name,
			vm_report(r->vm));
	return run_exit_code(r, end);
}

static void run_free(struct run *r)
{
	if (r->vm)
		vm_free(r->vm);
	command_free(r->command);
	trace_close(&r->o.trace);
	loop_fd_del(r->signals_watch);
	if (r->signals >= 0)
		close(r->signals);
	if (r->loop)
		loop_free(r->loop);
}

static int run_main(int argc, char **argv)
{
	struct run r = {.signals = -1};
	struct err e = {{0}};
	int rc;

	if (run_options_parse(&r.o, argc, argv, &e)) {
		fprintf(stderr, "sublet: %s\n", e.text);
		return CLI_EXIT_USAGE;
	}
	if (r.o.verbose)
		log_set_level(LOG_INFO);
	log_set_name(r.o.vm.name);
	rc = run_configure(&r, &e);
	if (!rc)
		rc = trace_open(&r.o.trace, &e);
	if (!rc)
		rc = run_build(&r, &e);
	if (rc)
		fprintf(stderr, "sublet: %s\n", e.text);
	rc = rc ? CLI_EXIT_FAILED : run_machine(&r);
	run_free(&r);
	return rc;
}

const struct cli_verb cli_run = {
	.name = "run",
	.summary = "run a virtual machine",
	.help = "usage: sublet run [IMAGE] [OPTIONS] [-- COMMAND...]\n"
		"\n"
		"Runs IMAGE (see sublet image), or the kernel given by "
		"--kernel, until it powers\noff. tiny is made on first use.\n"
		"\n"
		"  --kernel FILE         bzImage, vmlinux, PVH or multiboot "
		"kernel\n"
		"  --initrd FILE         its initial RAM disk\n"
		"  --module 'FILE ARGS'  a multiboot or PVH module; may be "
		"repeated\n"
		"  --append TEXT         more for the kernel's command line\n"
		"  --kernel-unpack HOW   who unpacks a bzImage: auto, host, "
		"guest\n"
		"  --cpus N              processors (1)\n"
		"  --memory SIZE         memory, as 512M or 4G (512M)\n"
		"  --disk FILE[,ro]      a raw disk; may be repeated\n"
		"  --net user|none       network by the host's sockets, or "
		"none (user)\n"
		"  --forward tcp:HOST:GUEST\n"
		"                        a port of this host leads to one of "
		"the guest\n"
		"  --console tty|file=FILE|none\n"
		"                        where the guest's console goes (tty)\n"
		"  --engine auto|kvm|soft\n"
		"                        what executes the guest (auto)\n"
		"  --name NAME           what messages call it\n"
		"  --no-reboot           a reset ends the machine\n"
		"  --nested              let the guest run its own virtual "
		"machines\n"
		"  --interpret           soft engine: do not translate\n"
		"  --debug-exit PORT     a write of v there ends with status "
		"(v<<1)|1\n"
		"  --debug-console PORT  bytes written there are printed\n"
		"  --trace WHAT[,WHAT]   exits, blocks, code[=ADDRESS|NAME], "
		"faults, irqs, perfmap:\n"
		"                        see docs/translator.md\n"
		"  --trace-file FILE     where traces go (standard error)\n"
		"  --trace-symbols FILE  the guest kernel's System.map, for "
		"names in traces\n"
		"  --verbose             say more\n"
		"\n"
		"At a terminal, Ctrl-] q leaves (Ctrl-] Ctrl-] sends one "
		"Ctrl-]).\n"
		"\n"
		"A COMMAND of one word is a line for the guest's shell, of "
		"several the words\nthemselves. Its output is our output, our "
		"input (if no terminal) its input.\n"
		"\n"
		"Exit status: of COMMAND; or 0 after power off, what the "
		"guest wrote to the\ndebug exit, 2 for a wrong command line, "
		"124 if the guest died (triple fault),\n125 if Sublet could "
		"not do it, 128+N after signal N.\n",
	.run = run_main,
};
