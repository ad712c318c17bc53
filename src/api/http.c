/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "api/http.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

/* A piece of the buffer. */
struct span {
	const char *p;
	size_t n;
};

static bool span_is(struct span s, const char *text)
{
	return s.n == strlen(text) && !strncasecmp(s.p, text, s.n);
}

/* One of the comma-separated words; parameters after ';' do not count. */
static bool span_lists(struct span s, const char *word)
{
	while (s.n) {
		const char *comma = memchr(s.p, ',', s.n);
		struct span w = {s.p, comma ? (size_t)(comma - s.p) : s.n};
		const char *semicolon = memchr(w.p, ';', w.n);

		s.p += w.n + (comma != NULL);
		s.n -= w.n + (comma != NULL);
		if (semicolon)
			w.n = (size_t)(semicolon - w.p);
		while (w.n && (*w.p == ' ' || *w.p == '\t'))
			w.p++, w.n--;
		while (w.n && (w.p[w.n - 1] == ' ' || w.p[w.n - 1] == '\t'))
			w.n--;
		if (span_is(w, word))
			return true;
	}
	return false;
}

/* ---- the request line ---- */

static bool http_path_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("/-_.", c));
}

static int http_target(struct http_request *r, struct span s, struct err *e)
{
	if (!s.n || *s.p != '/' || s.n >= sizeof(r->path))
		return err_set(e, -EBADMSG,
			       "The request's path is not usable.");
	for (size_t i = 0; i < s.n; i++)
		if (!http_path_char(s.p[i]))
			return err_set(e, -EBADMSG,
				       "The request's path has characters "
				       "that no path here has.");
	memcpy(r->path, s.p, s.n);
	r->path[s.n] = 0;
	return 0;
}

/* METHOD SP TARGET SP HTTP/1.x */
static int http_request_line(struct http_request *r, struct span line,
			     struct err *e)
{
	const char *sp1 = memchr(line.p, ' ', line.n);
	const char *sp2 = memrchr(line.p, ' ', line.n);
	size_t method = sp1 ? (size_t)(sp1 - line.p) : 0;
	struct span version;

	if (!sp1 || sp1 == sp2 || !method || method >= sizeof(r->method))
		return err_set(e, -EBADMSG, "This is not an HTTP request.");
	for (size_t i = 0; i < method; i++)
		if (line.p[i] < 'A' || line.p[i] > 'Z')
			return err_set(e, -EBADMSG,
				       "This is not an HTTP request.");
	memcpy(r->method, line.p, method);
	version = (struct span){sp2 + 1, line.n - (size_t)(sp2 + 1 - line.p)};
	if (version.n != 8 || memcmp(version.p, "HTTP/1.", 7) ||
	    (version.p[7] != '0' && version.p[7] != '1'))
		return err_set(e, -EBADMSG, "Only HTTP/1.1 is spoken here.");
	r->keep = version.p[7] == '1';
	return http_target(r, (struct span){sp1 + 1, (size_t)(sp2 - sp1 - 1)},
			   e);
}

/* ---- headers ---- */

/* What we look at while reading, beside the request itself. */
struct http_headers {
	bool length; /* Content-Length was there */
};

static int http_length(struct http_request *r, struct http_headers *h,
		       struct span v, struct err *e)
{
	if (h->length || !v.n)
		goto bad;
	h->length = true;
	for (size_t i = 0; i < v.n; i++) {
		if (!isdigit((unsigned char)v.p[i]))
			goto bad;
		r->body = r->body * 10 + (size_t)(v.p[i] - '0');
		if (r->body > HTTP_BODY_MAX)
			return err_set(e, -EMSGSIZE,
				       "A request's body has at most %d "
				       "bytes.",
				       HTTP_BODY_MAX);
	}
	return 0;
bad:
	return err_set(e, -EBADMSG, "The request's Content-Length is wrong.");
}

static int http_header(struct http_request *r, struct http_headers *h,
		       struct span name, struct span v, struct err *e)
{
	if (span_is(name, "Content-Length"))
		return http_length(r, h, v, e);
	if (span_is(name, "Transfer-Encoding"))
		return err_set(e, -EBADMSG,
			       "Requests in chunks are not understood here.");
	if (span_is(name, "Connection"))
		r->keep = r->keep && !span_lists(v, "close");
	else if (span_is(name, "Expect"))
		r->expects = span_is(v, "100-continue");
	else if (span_is(name, "Accept"))
		r->lines = span_lists(v, "application/x-ndjson");
	else if (span_is(name, "Upgrade"))
		r->upgrade = span_is(v, "sublet-console");
	return 0;
}

static bool http_token_char(char c)
{
	return isalnum((unsigned char)c) || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static int http_header_line(struct http_request *r, struct http_headers *h,
			    struct span line, struct err *e)
{
	const char *colon = memchr(line.p, ':', line.n);
	struct span name, v;

	if (!colon || colon == line.p)
		goto bad;
	name = (struct span){line.p, (size_t)(colon - line.p)};
	for (size_t i = 0; i < name.n; i++)
		if (!http_token_char(name.p[i]))
			goto bad;
	v = (struct span){colon + 1, line.n - name.n - 1};
	for (size_t i = 0; i < v.n; i++)
		if ((unsigned char)v.p[i] < ' ' && v.p[i] != '\t')
			goto bad;
	while (v.n && (*v.p == ' ' || *v.p == '\t'))
		v.p++, v.n--;
	while (v.n && (v.p[v.n - 1] == ' ' || v.p[v.n - 1] == '\t'))
		v.n--;
	return http_header(r, h, name, v, e);
bad:
	return err_set(e, -EBADMSG, "A header of the request is malformed.");
}

int http_read(struct http_request *r, const char *buf, size_t n, struct err *e)
{
	size_t look = MIN(n, (size_t)HTTP_HEAD_MAX);
	const char *end = memmem(buf, look, "\r\n\r\n", 4), *p = buf, *nl;
	struct http_headers h = {0};
	int rc;

	*r = (struct http_request){0};
	if (!end && look < HTTP_HEAD_MAX)
		return 0;
	if (!end)
		return err_set(e, -EMSGSIZE,
			       "A request's head has at most %d bytes.",
			       HTTP_HEAD_MAX);
	r->head = (size_t)(end - buf) + 4;
	nl = memmem(p, r->head, "\r\n", 2);
	rc = http_request_line(r, (struct span){p, (size_t)(nl - p)}, e);
	for (p = nl + 2; !rc && p < end; p = nl + 2) {
		nl = memmem(p, r->head - (size_t)(p - buf), "\r\n", 2);
		rc = http_header_line(r, &h, (struct span){p, (size_t)(nl - p)},
				      e);
	}
	return rc ? rc : 1;
}

const char *http_reason(int status)
{
	switch (status) {
	case 101: return "Switching Protocols";
	case 200: return "OK";
	case 204: return "No Content";
	case 400: return "Bad Request";
	case 413: return "Payload Too Large";
	}
	return "Error";
}
