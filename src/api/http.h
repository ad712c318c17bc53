/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The part of HTTP/1.1 (RFC 9112) that a control socket needs, read strictly:
 * one request at a time, bodies by Content-Length only, no folded headers,
 * nothing decoded. What is not understood is refused, not guessed at.
 *
 * Our own, because it is 200 lines that a fuzzer goes through, while
 * libmicrohttpd brings gnutls and a second event loop into every monitor.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include "base/err.h"
#include "base/types.h"

#define HTTP_HEAD_MAX 8192
#define HTTP_BODY_MAX 51200
#define HTTP_PATH_MAX 200

struct http_request {
	char method[8];
	char path[HTTP_PATH_MAX]; /* starts with '/', no query */
	size_t head;              /* bytes up to and with the empty line */
	size_t body;              /* Content-Length */
	bool keep;                /* the connection stays for another */
	bool expects;             /* "100 Continue" before it sends the body */
	bool lines;               /* accepts application/x-ndjson */
	bool upgrade;             /* to "sublet-console" */
};

/*
 * Reads the head of a request from n bytes at buf: 1 if it is complete, 0 if
 * more bytes are needed, or -EBADMSG, -EMSGSIZE (too long) with a sentence.
 */
int http_read(struct http_request *r, const char *buf, size_t n, struct err *e);

/* The reason phrase of the status codes that we use. */
const char *http_reason(int status);

#endif
