/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "cli/cli.h"

static int main_version(int argc, char **argv);
static int main_help(int argc, char **argv);

static const struct cli_verb cli_version = {
	.name = "version",
	.summary = "say which Sublet this is",
	.help = "usage: sublet version\n",
	.run = main_version,
};

static const struct cli_verb cli_help = {
	.name = "help",
	.summary = "explain a verb",
	.help = "usage: sublet help [VERB]\n",
	.run = main_help,
};

static const struct cli_verb *const verbs[] = {
	&cli_run,          &cli_ps,       &cli_info,    &cli_stats,
	&cli_console,      &cli_vsock,    &cli_wait,    &cli_events,
	&cli_pause,        &cli_resume,   &cli_stop,    &cli_kill,
	&cli_power_button, &cli_reset,    &cli_nmi,     &cli_migrate,
	&cli_receive,      &cli_snapshot, &cli_restore, &cli_clone,
	&cli_image,        &cli_doctor,   &cli_version, &cli_help,
};

static const struct cli_verb *main_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (!strcmp(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

static void main_usage(FILE *to)
{
	fputs("Sublet runs operating systems in virtual machines, on the "
	      "processor's own\nvirtualization where there is any and on an "
	      "engine in software where there is none.\n\n"
	      "usage: sublet VERB [ARGUMENTS]\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		fprintf(to, "  %-12s  %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("\nsublet VERB --help explains a verb. First steps:\n\n"
	      "  sublet run tiny                   a small Linux, at this "
	      "terminal\n"
	      "  sublet run tiny -- uname -a       one command in it\n",
	      to);
}

static int main_version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("sublet " SUBLET_VERSION);
	return 0;
}

static int main_unknown(const char *name)
{
	fprintf(stderr,
		"sublet: there is no verb '%s'; sublet help lists them\n",
		name);
	return CLI_EXIT_USAGE;
}

static int main_help(int argc, char **argv)
{
	const struct cli_verb *v;

	if (argc < 2) {
		main_usage(stdout);
		return 0;
	}
	v = main_find(argv[1]);
	if (!v)
		return main_unknown(argv[1]);
	fputs(v->help, stdout);
	return 0;
}

static int main_option(const char *arg)
{
	if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
		main_usage(stdout);
		return 0;
	}
	if (!strcmp(arg, "--version") || !strcmp(arg, "-V"))
		return main_version(0, NULL);
	fprintf(stderr, "sublet: unknown option %s; see sublet help\n", arg);
	return CLI_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const struct cli_verb *v;

	if (argc < 2) {
		main_usage(stderr);
		return CLI_EXIT_USAGE;
	}
	if (argv[1][0] == '-')
		return main_option(argv[1]);
	v = main_find(argv[1]);
	if (!v)
		return main_unknown(argv[1]);
	if (argc > 2 &&
	    (!strcmp(argv[2], "--help") || !strcmp(argv[2], "-h"))) {
		fputs(v->help, stdout);
		return 0;
	}
	return v->run(argc - 1, argv + 1);
}
