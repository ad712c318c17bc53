/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include <string.h>

#include "cli/cli.h"

PRINTF(1, 2)
static int ctl_usage(const char *fmt, ...)
{
	va_list ap;

	fputs("sublet: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	return CLI_EXIT_USAGE;
}

/* ---- command lines ---- */

/* The option at argv[*i]; moves *i past its value. */
static int ctl_option(int argc, char **argv, int *i,
		      const struct ctl_option *options)
{
	char *arg = argv[*i], *value = strchr(arg, '=');
	size_t n = value ? (size_t)(value - arg) : strlen(arg);
	const struct ctl_option *o = options;

	while (o && o->name &&
	       (strlen(o->name) != n || memcmp(o->name, arg, n)))
		o++;
	if (!o || !o->name)
		return ctl_usage("unknown option %.*s; see sublet %s --help",
				 (int)n, arg, argv[0]);
	if (o->flag) {
		*o->flag = true;
		return value ? ctl_usage("%s takes no value", o->name) : 0;
	}
	if (!value && *i + 1 == argc)
		return ctl_usage("%s needs a value", o->name);
	*o->value = value ? value + 1 : argv[++*i];
	return 0;
}

int ctl_parse(int argc, char **argv, const struct ctl_option *options,
	      const char **words, int *n, int min, int max, const char *what)
{
	*n = 0;
	for (int i = 1; i < argc; i++) {
		int rc = 0;

		if (argv[i][0] == '-' && argv[i][1])
			rc = ctl_option(argc, argv, &i, options);
		else if (*n == CTL_WORDS)
			rc = ctl_usage("%s: more than %d names", argv[0],
				       CTL_WORDS);
		else
			words[(*n)++] = argv[i];
		if (rc)
			return rc;
	}
	if (*n < min)
		return ctl_usage("%s needs %s; see sublet %s --help", argv[0],
				 what, argv[0]);
	if (*n > max)
		return ctl_usage("%s: what is %s? See sublet %s --help",
				 argv[0], words[max], argv[0]);
	return 0;
}

int ctl_seconds(const char *text, unsigned *out)
{
	unsigned long v;
	char *end;

	errno = 0;
	v = strtoul(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end || errno || v > 1000000)
		return ctl_usage("'%s' is not a number of seconds", text);
	*out = (unsigned)v;
	return 0;
}

int ctl_each(int argc, char **argv, int (*fn)(const char *vm))
{
	const char *words[CTL_WORDS];
	int n, rc;

	rc = ctl_parse(argc, argv, NULL, words, &n, 1, argc,
		       "a machine's name");
	for (int i = 0; rc != CLI_EXIT_USAGE && i < n; i++)
		if (fn(words[i]))
			rc = CLI_EXIT_FAILED;
	return rc;
}

/* ---- questions ---- */

int ctl_fail(const struct err *e)
{
	fprintf(stderr, "sublet: %s\n", e->text);
	return CLI_EXIT_FAILED;
}

int ctl_ask_on(struct client *c, const char *method, const char *path,
	       json_t *body, json_t **reply)
{
	struct err e = {{0}};

	if (client_request(c, method, path, body, reply, &e))
		return ctl_fail(&e);
	return 0;
}

int ctl_ask(const char *vm, const char *method, const char *path, json_t *body,
	    json_t **reply)
{
	struct err e = {{0}};
	struct client c;
	int rc;

	if (client_open(&c, vm, &e)) {
		json_decref(body);
		return ctl_fail(&e);
	}
	rc = ctl_ask_on(&c, method, path, body, reply);
	client_close(&c);
	return rc;
}

int ctl_action(const char *vm, const char *action)
{
	return ctl_ask(vm, "PUT", "/actions",
		       json_pack("{s:s}", "action_type", action), NULL);
}
