/* SPDX-License-Identifier: BSD-2-Clause */
/* From a request to its endpoint, and from there to the answer. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/api_priv.h"

/* ---- answers ---- */

/* One send: a connection that is to end ends when all was sent. */
static void call_send(struct api_conn *conn, int status, const char *text)
{
	char *all;
	int n;

	if (status == 204)
		n = asprintf(&all, "HTTP/1.1 204 %s\r\nServer: Sublet\r\n\r\n",
			     http_reason(status));
	else
		n = asprintf(&all,
			     "HTTP/1.1 %d %s\r\nServer: Sublet\r\n"
			     "Content-Type: application/json\r\n"
			     "Content-Length: %zu\r\n\r\n%s",
			     status, http_reason(status), strlen(text), text);
	if (n < 0)
		return;
	conn_send(conn, all, (size_t)n);
	free(all);
}

static void call_send_fault(struct api_conn *conn, int status, const char *text)
{
	json_t *j = json_pack("{s:s}", "fault_message", text);
	char *s = j ? json_dumps(j, JSON_COMPACT) : NULL;

	call_send(conn, status, s ? s : "{}");
	free(s);
	json_decref(j);
}

void call_refuse(struct api_conn *conn, int status, const char *text)
{
	call_send_fault(conn, status, text);
}

/* It waits for nothing any more; before the answer, because a client that
 * has gone would else end the call under our hands. */
static void call_unlist(struct api_call *c)
{
	struct api_call **p = c->list;

	if (!p)
		return;
	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
	c->list = NULL;
}

/* The call is over. */
static void call_end(struct api_call *c)
{
	struct api_conn *conn = c->conn;

	json_decref(c->body);
	free(c);
	if (conn)
		conn_next(conn);
}

void api_done(struct api_call *c)
{
	call_unlist(c);
	if (c->streaming)
		call_stream_end(c);
	else if (c->conn)
		call_send(c->conn, 204, NULL);
	call_end(c);
}

void api_reply(struct api_call *c, json_t *j)
{
	char *s;

	call_unlist(c);
	if (c->streaming) {
		call_line(c, j);
		call_stream_end(c);
		call_end(c);
		return;
	}
	s = json_dumps(j, JSON_COMPACT);
	json_decref(j);
	if (c->conn && s)
		call_send(c->conn, 200, s);
	else if (c->conn)
		call_send_fault(c->conn, 400, "Out of memory.");
	free(s);
	call_end(c);
}

void api_fail(struct api_call *c, const char *fmt, ...)
{
	char text[600];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	call_unlist(c);
	if (c->streaming) {
		call_line(c, json_pack("{s:s}", "fault_message", text));
		call_stream_end(c);
	} else if (c->conn) {
		call_send_fault(c->conn, 400, text);
	}
	call_end(c);
}

/* ---- answers in lines, each a chunk ---- */

void call_stream(struct api_call *c)
{
	static const char head[] = "HTTP/1.1 200 OK\r\nServer: Sublet\r\n"
				   "Content-Type: application/x-ndjson\r\n"
				   "Transfer-Encoding: chunked\r\n\r\n";

	c->streaming = true;
	if (c->conn)
		conn_send(c->conn, head, sizeof(head) - 1);
}

/* One send: a client that has gone ends a call that waits in a list. */
void call_line(struct api_call *c, json_t *line)
{
	char *s = json_dumps(line, JSON_COMPACT), *chunk;
	int n;

	json_decref(line);
	if (s && c->conn) {
		n = asprintf(&chunk, "%zx\r\n%s\n\r\n", strlen(s) + 1, s);
		if (n >= 0) {
			conn_send(c->conn, chunk, (size_t)n);
			free(chunk);
		}
	}
	free(s);
}

void call_stream_end(struct api_call *c)
{
	if (c->conn)
		conn_send(c->conn, "0\r\n\r\n", 5);
}

/* ---- waiting ---- */

void call_wait_in(struct api_call *c, struct api_call **list)
{
	if (!c->conn) {
		call_end(c);
		return;
	}
	c->list = list;
	c->next = *list;
	*list = c;
}

void call_gone(struct api_call *c)
{
	c->conn = NULL;
	if (c->job)
		job_cancel(c->job);
	if (!c->list)
		return;
	call_unlist(c);
	call_end(c);
}

int call_take(struct api_call *c)
{
	int fd = c->conn ? conn_take(c->conn) : -1;

	c->conn = NULL;
	call_end(c);
	return fd;
}

/* ---- what endpoints use ---- */

struct vm *api_vm(struct api_call *c)
{
	return c->api->config.vm;
}

struct api *api_of(struct api_call *c)
{
	return c->api;
}

const char *api_word(struct api_call *c)
{
	return c->word;
}

json_t *api_body(struct api_call *c)
{
	return c->body;
}

int api_args(struct api_call *c, const char *fmt, ...)
{
	json_error_t je;
	va_list ap;
	int rc;

	if (!c->body) {
		api_fail(c, "The request needs a body.");
		return -EINVAL;
	}
	va_start(ap, fmt);
	rc = json_vunpack_ex(c->body, &je, JSON_STRICT, fmt, ap);
	va_end(ap);
	if (!rc)
		return 0;
	api_fail(c, "The request's body does not fit: %s.", je.text);
	return -EINVAL;
}

/* ---- dispatch ---- */

static bool call_path_fits(const char *pattern, const char *path, char *word)
{
	size_t n = strlen(pattern);

	word[0] = 0;
	if (!n || pattern[n - 1] != '*')
		return !strcmp(pattern, path);
	if (strncmp(pattern, path, n - 1) || !path[n - 1] ||
	    strchr(path + n - 1, '/'))
		return false;
	strcpy(word, path + n - 1);
	return true;
}

static bool call_find(struct api_call *c, const struct http_request *r)
{
	for (size_t i = 0; api_endpoints[i]; i++)
		for (const struct api_endpoint *p = api_endpoints[i]; p->method;
		     p++) {
			if (strcmp(p->method, r->method) ||
			    !call_path_fits(p->path, r->path, c->word))
				continue;
			c->endpoint = p;
			return true;
		}
	return false;
}

static int call_read_body(struct api_call *c, const struct http_request *r,
			  const char *body, char text[200])
{
	json_error_t je;

	if (!r->body)
		return 0;
	if (!strcmp(r->method, "GET")) {
		snprintf(text, 200, "GET request cannot have a body.");
		return -EINVAL;
	}
	c->body = json_loadb(body, r->body, JSON_REJECT_DUPLICATES, &je);
	if (c->body)
		return 0;
	snprintf(text, 200, "The request's body is not JSON: %.150s.", je.text);
	return -EINVAL;
}

void call_dispatch(struct api_conn *conn, struct api *a,
		   const struct http_request *r, const char *body)
{
	struct api_call *c = calloc(1, sizeof(*c));
	char text[200];

	if (!c) {
		call_refuse(conn, 400, "Out of memory.");
		return;
	}
	c->api = a;
	c->conn = conn;
	c->lines = r->lines;
	c->upgrade = r->upgrade;
	conn_begin(conn, c);
	if (!call_find(c, r))
		api_fail(c, "Invalid request method and/or path: %s %s.",
			 r->method, r->path);
	else if (call_read_body(c, r, body, text))
		api_fail(c, "%s", text);
	else
		c->endpoint->handle(c);
}
