/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Where a machine goes to, or is waited for: tcp:HOST:PORT, unix:PATH,
 * exec:COMMAND (only to connect: our standard streams' place is taken by the
 * migration, as in exec:ssh host sublet receive stdio:), stdio: (only to
 * wait).
 */
#ifndef MIGRATE_ADDR_H
#define MIGRATE_ADDR_H

#include "migrate/chan.h"

enum mig_addr_kind { MIG_TCP, MIG_UNIX, MIG_EXEC, MIG_STDIO };

struct mig_addr {
	enum mig_addr_kind kind;
	char host[256]; /* of tcp */
	char port[16];
	const char *path; /* or command; the caller's text */
};

int mig_addr_parse(struct mig_addr *a, const char *text, struct err *e);
/* Nobody but this host's users can be at the other end. */
bool mig_addr_local(const struct mig_addr *a);

/* Fills in a new connection. */
int mig_addr_connect(const struct mig_addr *a, struct mig_chan *c,
		     const struct mig_cancel *cancel, unsigned timeout_ms,
		     struct err *e);
/* A listening socket, or -errno. A stale UNIX socket is replaced. */
int mig_addr_listen(const struct mig_addr *a, struct err *e);
/* The next connection; timeout_ms 0: waits for ever. */
int mig_addr_accept(int fd, struct mig_chan *c, const struct mig_cancel *cancel,
		    unsigned timeout_ms, struct err *e);

#endif
