/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * TLS 1.3 with certificates on both sides, by GnuTLS, which is loaded when it
 * is first used: a monitor that does not migrate over TLS does not pay for it.
 * Each side proves that it holds a certificate of the same authority.
 */
#ifndef MIGRATE_TLS_H
#define MIGRATE_TLS_H

#include <sys/types.h>

#include "base/err.h"
#include "base/types.h"

struct mig_chan;
struct mig_tls;

/* Files in PEM; strings are the caller's. */
struct mig_tls_config {
	const char *cert, *key, *ca;
	const char *peer; /* client: name in the server's certificate; NULL:
			     any that ca signed */
};

/* All three or none. */
int mig_tls_check(const struct mig_tls_config *c, struct err *e);

/* The handshake on a connection; afterwards all of c goes through it. */
int mig_tls_start(struct mig_chan *c, const struct mig_tls_config *conf,
		  bool server, struct err *e);
void mig_tls_free(struct mig_tls *t); /* NULL: nothing */

/* As write(2) and read(2), but -errno; -EAGAIN: wait for the descriptor. */
ssize_t mig_tls_write(struct mig_tls *t, const void *p, size_t n);
ssize_t mig_tls_read(struct mig_tls *t, void *p, size_t n);
bool mig_tls_pending(struct mig_tls *t); /* NULL: false */

#endif
