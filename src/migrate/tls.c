/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/tls.h"

#include <dlfcn.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "migrate/chan.h"

#define TLS_LIBRARY  "libgnutls.so.30"
#define TLS_PRIORITY "NORMAL:-VERS-ALL:+VERS-TLS1.3"

/* clang-format off */
#define TLS_CALLS(X)                                                     \
	X(certificate_allocate_credentials) X(certificate_free_credentials) \
	X(certificate_set_x509_trust_file)                               \
	X(certificate_set_x509_key_file)                                 \
	X(certificate_server_set_request) X(certificate_verification_status_print) \
	X(session_get_verify_cert_status) X(session_set_verify_cert)     \
	X(init) X(deinit) X(priority_set_direct) X(credentials_set)      \
	X(transport_set_int2) X(handshake) X(strerror) X(record_send)    \
	X(record_recv) X(record_check_pending) X(record_get_direction)   \
	X(certificate_type_get) X(bye)
/* clang-format on */

/* What we use of the library, once it is loaded. */
static struct {
#define TLS_POINTER(name) __typeof__(&gnutls_##name) name;
	TLS_CALLS(TLS_POINTER)
#undef TLS_POINTER
} tls;

static const struct {
	const char *name;
	void *slot;
} tls_calls[] = {
#define TLS_ROW(name) {"gnutls_" #name, &tls.name},
	TLS_CALLS(TLS_ROW)
#undef TLS_ROW
};

struct mig_tls {
	gnutls_session_t session;
	gnutls_certificate_credentials_t creds;
};

static pthread_once_t tls_once = PTHREAD_ONCE_INIT;
static const char *tls_missing;

static void tls_load(void)
{
	void *lib = dlopen(TLS_LIBRARY, RTLD_NOW | RTLD_LOCAL);

	if (!lib) {
		tls_missing = TLS_LIBRARY;
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(tls_calls); i++) {
		void *p = dlsym(lib, tls_calls[i].name);

		if (!p)
			tls_missing = tls_calls[i].name;
		memcpy(tls_calls[i].slot, &p, sizeof(p));
	}
}

int mig_tls_check(const struct mig_tls_config *c, struct err *e)
{
	if (!c->cert == !c->key && !c->key == !c->ca)
		return 0;
	return err_set(e, -EINVAL,
		       "--tls-cert, --tls-key and --tls-ca go together");
}

static int tls_files(struct mig_tls *t, const struct mig_tls_config *c,
		     struct err *e)
{
	int rc = tls.certificate_allocate_credentials(&t->creds);

	if (rc < 0)
		return err_set(e, -ENOMEM, "TLS: %s", tls.strerror(rc));
	rc = tls.certificate_set_x509_trust_file(t->creds, c->ca,
						 GNUTLS_X509_FMT_PEM);
	if (rc <= 0)
		return err_set(e, -EINVAL, "TLS: no authority in %s: %s", c->ca,
			       rc ? tls.strerror(rc) : "it is empty");
	rc = tls.certificate_set_x509_key_file(t->creds, c->cert, c->key,
					       GNUTLS_X509_FMT_PEM);
	if (rc < 0)
		return err_set(e, -EINVAL, "TLS: certificate %s, key %s: %s",
			       c->cert, c->key, tls.strerror(rc));
	return 0;
}

static int tls_session(struct mig_tls *t, struct mig_chan *chan,
		       const struct mig_tls_config *c, bool server,
		       struct err *e)
{
	int rc = tls.init(&t->session,
			  (server ? GNUTLS_SERVER : GNUTLS_CLIENT) |
				  GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);

	if (!rc)
		rc = tls.priority_set_direct(t->session, TLS_PRIORITY, NULL);
	if (!rc)
		rc = tls.credentials_set(t->session, GNUTLS_CRD_CERTIFICATE,
					 t->creds);
	if (rc)
		return err_set(e, -EIO, "TLS: %s", tls.strerror(rc));
	if (server)
		tls.certificate_server_set_request(t->session,
						   GNUTLS_CERT_REQUIRE);
	tls.session_set_verify_cert(t->session, server ? NULL : c->peer, 0);
	tls.transport_set_int2(t->session, chan->in, chan->out);
	return 0;
}

/* Why the other side's certificate will not do, if that is it. */
static int tls_refused(struct mig_tls *t, int code, struct err *e)
{
	gnutls_datum_t text;
	int rc;

	if (code != GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR ||
	    tls.certificate_verification_status_print(
		    tls.session_get_verify_cert_status(t->session),
		    tls.certificate_type_get(t->session), &text, 0))
		return err_set(e, -EACCES, "TLS: %s", tls.strerror(code));
	rc = err_set(e, -EACCES, "TLS: the other side's certificate: %s",
		     (char *)text.data);
	free(text.data);
	return rc;
}

static int tls_handshake(struct mig_tls *t, struct mig_chan *c, struct err *e)
{
	for (;;) {
		int rc = tls.handshake(t->session);
		bool out = tls.record_get_direction(t->session);

		if (!rc)
			return 0;
		if (rc != GNUTLS_E_AGAIN && rc != GNUTLS_E_INTERRUPTED)
			return tls_refused(t, rc, e);
		rc = mig_poll(out ? c->out : c->in, out ? POLLOUT : POLLIN,
			      (int)c->timeout_ms, c->cancel, e);
		if (!rc)
			return err_set(e, -ETIMEDOUT,
				       "TLS: the other side does not answer");
		if (rc < 0)
			return rc;
	}
}

int mig_tls_start(struct mig_chan *c, const struct mig_tls_config *conf,
		  bool server, struct err *e)
{
	struct mig_tls *t;
	int rc;

	pthread_once(&tls_once, tls_load);
	if (tls_missing)
		return err_set(e, -ENOENT,
			       "TLS needs the library GnuTLS: %s "
			       "is not there",
			       tls_missing);
	t = calloc(1, sizeof(*t));
	if (!t)
		return err_set(e, -ENOMEM, "no memory for TLS");
	rc = tls_files(t, conf, e);
	if (!rc)
		rc = tls_session(t, c, conf, server, e);
	if (!rc)
		rc = tls_handshake(t, c, e);
	if (rc)
		mig_tls_free(t);
	else
		c->tls = t;
	return rc;
}

void mig_tls_free(struct mig_tls *t)
{
	if (!t)
		return;
	if (t->session) {
		tls.bye(t->session, GNUTLS_SHUT_WR);
		tls.deinit(t->session);
	}
	if (t->creds)
		tls.certificate_free_credentials(t->creds);
	free(t);
}

static ssize_t tls_result(ssize_t rc)
{
	if (rc >= 0)
		return rc;
	if (rc == GNUTLS_E_AGAIN || rc == GNUTLS_E_INTERRUPTED)
		return -EAGAIN;
	return -EPIPE;
}

ssize_t mig_tls_write(struct mig_tls *t, const void *p, size_t n)
{
	return tls_result(tls.record_send(t->session, p, n));
}

ssize_t mig_tls_read(struct mig_tls *t, void *p, size_t n)
{
	return tls_result(tls.record_recv(t->session, p, n));
}

bool mig_tls_pending(struct mig_tls *t)
{
	return t && tls.record_check_pending(t->session);
}
