/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs of the command line; main.c has the table. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

struct cli_verb {
	const char *name;
	const char *summary; /* one line */
	const char *help;    /* all of it, shown by --help */
	/* argv[0] is the verb. Returns the exit code. */
	int (*run)(int argc, char **argv);
};

/* Of sublet itself, apart from the guest's own. */
enum {
	CLI_EXIT_USAGE = 2,
	CLI_EXIT_GUEST_DIED = 124, /* triple fault, or the engine gave up */
	CLI_EXIT_FAILED = 125,     /* sublet could not do it; a line says why */
};

/* One file a verb, the small ones in actions.c. */
extern const struct cli_verb cli_run, cli_image, cli_doctor, cli_ps, cli_info,
	cli_stats, cli_events, cli_console, cli_vsock, cli_wait, cli_pause,
	cli_resume, cli_stop, cli_kill, cli_reset, cli_power_button, cli_nmi;
/* Moving a VM. */
extern const struct cli_verb cli_migrate, cli_receive;
/* Saving it. */
extern const struct cli_verb cli_snapshot, cli_restore, cli_clone;

#endif
