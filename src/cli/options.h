/* SPDX-License-Identifier: BSD-2-Clause */
/* The command line of sublet run. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "vm/vm.h"

enum run_console { RUN_CONSOLE_TTY, RUN_CONSOLE_FILE, RUN_CONSOLE_NONE };

struct run_options {
	struct vm_config vm;
	const char *image;  /* NULL: --kernel is given */
	const char *append; /* added to the image's command line */
	bool memory_given;
	bool name_given;
	bool detach;
	bool agent; /* a port for it; images have one in any case */
	bool console_given;
	enum run_console console;
	const char *console_file;
	char *const *command; /* after --; NULL: none */
	bool verbose;
	struct trace trace;
};

/* Fills in o; strings point into argv. -EINVAL with a sentence. */
int run_options_parse(struct run_options *o, int argc, char **argv,
		      struct err *e);

/* "64M", "2G", "4096K", "1T" or bytes. */
int parse_size(const char *s, u64 *out, struct err *e);

/* "tty", "none" or "file=FILE". */
int parse_console(struct run_options *o, const char *v, struct err *e);

/* "on", "cid=N", "path=FILE" or both; a CID is drawn if there is none. */
int parse_vsock(struct vm_vsock *o, char *v, struct err *e);

#endif
