/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The client's side of a VM's control socket: connect by name, ask, read the
 * answer. Blocking; one thread.
 */
#ifndef API_CLIENT_H
#define API_CLIENT_H

#include <jansson.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/types.h"

struct client {
	int fd;
	pid_t pid; /* the monitor's */
	const char *vm;
	/* Lines of progress of an answer that comes in lines; NULL: one
	 * answer is asked for. The object is borrowed. */
	void (*line)(void *arg, json_t *line);
	void *arg;
	char *buf; /* read and not yet used: [at, len) */
	size_t at, len, size;
};

/* -ESRCH if no VM of that name runs. vm is kept. */
int client_open(struct client *c, const char *vm, struct err *e);
/* A VM that does not answer for so long is given up; 0: never. */
void client_patience(struct client *c, unsigned ms);
void client_close(struct client *c);

/*
 * method path with body (taken over; NULL: none). reply, if not NULL, gets
 * the answer's object, to be freed, or NULL if it has none. -EREMOTEIO and
 * its sentence if the VM refuses, -EPIPE if it ended before it answered,
 * -ETIMEDOUT.
 */
int client_request(struct client *c, const char *method, const char *path,
		   json_t *body, json_t **reply, struct err *e);

/* Asks for the console: c->fd then carries its bytes both ways; what has been
 * read already is [at, len) of buf. */
int client_console(struct client *c, struct err *e);

#endif
