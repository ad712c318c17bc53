/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What verbs on running VMs share: their command lines, and one question to
 * the control socket. Errors are printed here; results are exit codes.
 */
#ifndef CLI_CTL_H
#define CLI_CTL_H

#include "api/client.h"
#include "base/err.h"

/* An option --NAME, or with value --NAME VALUE or --NAME=VALUE. One of flag
 * and value is not NULL. */
struct ctl_option {
	const char *name; /* with its dashes; NULL ends the table */
	bool *flag;
	const char **value;
};

#define CTL_WORDS 256

/*
 * Reads the command line; words (room for CTL_WORDS) gets what is no option,
 * *n how many, min to max of them. what: "a machine's name", told if they are
 * missing. 0 or CLI_EXIT_USAGE.
 */
int ctl_parse(int argc, char **argv, const struct ctl_option *options,
	      const char **words, int *n, int min, int max, const char *what);

/* Prints the sentence; CLI_EXIT_FAILED. */
int ctl_fail(const struct err *e);
/* Asks vm; body is taken over, reply (may be NULL) is to be freed. */
int ctl_ask(const char *vm, const char *method, const char *path, json_t *body,
	    json_t **reply);
/* The same on an open connection. */
int ctl_ask_on(struct client *c, const char *method, const char *path,
	       json_t *body, json_t **reply);
/* PUT /actions */
int ctl_action(const char *vm, const char *action);
/* A whole number of seconds; 0 or CLI_EXIT_USAGE. */
int ctl_seconds(const char *text, unsigned *out);
/* fn for each VM named in a command line without options; CLI_EXIT_FAILED if
 * any returned not 0. */
int ctl_each(int argc, char **argv, int (*fn)(const char *vm));

#endif
