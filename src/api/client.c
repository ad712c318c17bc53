/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "api/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "api/rundir.h"

#define ANSWER_MAX (16 * MIB)
#define LINE_MAX_  8192u

/* The head of an answer. */
struct answer {
	int status;
	bool chunked;
	size_t length;
};

int client_open(struct client *c, const char *vm, struct err *e)
{
	*c = (struct client){.fd = -1, .vm = vm};
	c->fd = rundir_connect(vm, &c->pid, e);
	return c->fd < 0 ? c->fd : 0;
}

void client_patience(struct client *c, unsigned ms)
{
	struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};

	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
}

void client_close(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	free(c->buf);
	c->fd = -1;
	c->buf = NULL;
}

/* ---- bytes ---- */

static int client_lost(struct client *c, int rc, struct err *e)
{
	if (rc == -EAGAIN)
		return err_set(e, -ETIMEDOUT, "%s does not answer", c->vm);
	if (rc == 0 || rc == -ECONNRESET || rc == -EPIPE)
		return err_set(e, -EPIPE, "%s ended before it answered", c->vm);
	return err_errno(e, rc, "cannot talk to %s", c->vm);
}

static int client_send(struct client *c, const char *p, size_t n, struct err *e)
{
	while (n) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return client_lost(c, -errno, e);
		p += sent;
		n -= (size_t)sent;
	}
	return 0;
}

/* Reads more into buf. */
static int client_fill(struct client *c, struct err *e)
{
	ssize_t n;

	if (c->at == c->len)
		c->at = c->len = 0;
	if (c->len == c->size) {
		size_t size = c->size ? 2 * c->size : 4096;
		char *buf = size <= ANSWER_MAX ? realloc(c->buf, size) : NULL;

		if (!buf)
			return err_set(e, -ENOMEM, "%s says too much", c->vm);
		c->buf = buf;
		c->size = size;
	}
	do
		n = recv(c->fd, c->buf + c->len, c->size - c->len, 0);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return client_lost(c, n ? -errno : 0, e);
	c->len += (size_t)n;
	return 0;
}

/* The next line, without its end, NUL-terminated; valid until the next read. */
static int client_line(struct client *c, char **line, struct err *e)
{
	for (;;) {
		char *p = c->buf + c->at, *nl = NULL;

		if (c->len > c->at)
			nl = memchr(p, '\n', c->len - c->at);
		if (nl) {
			c->at += (size_t)(nl + 1 - p);
			*nl = 0;
			if (nl > p && nl[-1] == '\r')
				nl[-1] = 0;
			*line = p;
			return 0;
		}
		if (c->len - c->at > LINE_MAX_)
			return err_set(e, -EPROTO, "%s talks nonsense", c->vm);
		if (client_fill(c, e))
			return -EPIPE;
	}
}

static int client_bytes(struct client *c, size_t n, char **p, struct err *e)
{
	while (c->len - c->at < n) {
		int rc = client_fill(c, e);

		if (rc)
			return rc;
	}
	*p = c->buf + c->at;
	c->at += n;
	return 0;
}

/* ---- answers ---- */

static int client_head(struct client *c, struct answer *a, struct err *e)
{
	char *line;
	int rc = client_fill(c, e);

	*a = (struct answer){0};
	if (!rc)
		rc = client_line(c, &line, e);
	if (rc)
		return rc;
	if (sscanf(line, "HTTP/1.%*1[01] %3d", &a->status) != 1)
		return err_set(e, -EPROTO, "%s talks nonsense", c->vm);
	while (!(rc = client_line(c, &line, e)) && *line) {
		if (!strncasecmp(line, "Content-Length:", 15))
			a->length = strtoul(line + 15, NULL, 10);
		else if (!strcasecmp(line, "Transfer-Encoding: chunked"))
			a->chunked = true;
	}
	if (!rc && a->length > ANSWER_MAX)
		return err_set(e, -EPROTO, "%s says too much", c->vm);
	return rc;
}

static json_t *client_parse(const char *p, size_t n)
{
	json_t *j = json_loadb(p, n, 0, NULL);

	if (j && !json_is_object(j)) {
		json_decref(j);
		j = NULL;
	}
	return j;
}

/* Each chunk is a line; the last one that is no progress is the answer. */
static int client_chunks(struct client *c, json_t **last, struct err *e)
{
	char *line, *p;
	size_t n;
	int rc;

	for (;;) {
		json_t *j;

		rc = client_line(c, &line, e);
		if (rc)
			return rc;
		n = strtoul(line, NULL, 16);
		if (n > ANSWER_MAX)
			return err_set(e, -EPROTO, "%s says too much", c->vm);
		rc = client_bytes(c, n + 2, &p, e);
		if (rc || !n)
			return rc;
		j = client_parse(p, n);
		if (j && c->line)
			c->line(c->arg, j);
		json_decref(*last);
		*last = j;
	}
}

static int client_body(struct client *c, const struct answer *a, json_t **reply,
		       struct err *e)
{
	char *p;
	int rc;

	*reply = NULL;
	if (a->chunked)
		return client_chunks(c, reply, e);
	if (!a->length)
		return 0;
	rc = client_bytes(c, a->length, &p, e);
	if (rc)
		return rc;
	*reply = client_parse(p, a->length);
	if (!*reply)
		return err_set(e, -EPROTO, "%s talks nonsense", c->vm);
	return 0;
}

static int client_ask(struct client *c, const char *method, const char *path,
		      const char *headers, json_t *body, struct err *e)
{
	char *text = body ? json_dumps(body, JSON_COMPACT) : NULL, *all;
	int n, rc;

	if (body && !text)
		return err_set(e, -ENOMEM, "out of memory");
	n = asprintf(&all,
		     "%s %s HTTP/1.1\r\nHost: sublet\r\n%s"
		     "Content-Length: %zu\r\n\r\n%s",
		     method, path, headers, text ? strlen(text) : 0,
		     text ? text : "");
	free(text);
	if (n < 0)
		return err_set(e, -ENOMEM, "out of memory");
	rc = client_send(c, all, (size_t)n, e);
	free(all);
	return rc;
}

int client_request(struct client *c, const char *method, const char *path,
		   json_t *body, json_t **reply, struct err *e)
{
	struct answer a = {0};
	json_t *j = NULL;
	const char *fault;
	int rc;

	rc = client_ask(c, method, path,
			c->line ? "Accept: application/x-ndjson\r\n" : "", body,
			e);
	json_decref(body);
	if (!rc)
		rc = client_head(c, &a, e);
	if (!rc)
		rc = client_body(c, &a, &j, e);
	fault = json_string_value(json_object_get(j, "fault_message"));
	if (!rc && (fault || a.status >= 300))
		rc = err_set(e, -EREMOTEIO, "%s: %s", c->vm,
			     fault ? fault : "it refuses");
	if (reply && !rc)
		*reply = j;
	else
		json_decref(j);
	return rc;
}

int client_console(struct client *c, struct err *e)
{
	struct answer a = {0};
	json_t *j = NULL;
	const char *fault;
	int rc = client_ask(c, "GET", "/console",
			    "Connection: Upgrade\r\n"
			    "Upgrade: sublet-console\r\n",
			    NULL, e);

	if (!rc)
		rc = client_head(c, &a, e);
	if (rc || a.status == 101)
		return rc;
	rc = client_body(c, &a, &j, e);
	fault = json_string_value(json_object_get(j, "fault_message"));
	if (!rc)
		rc = err_set(e, -EREMOTEIO, "%s: %s", c->vm,
			     fault ? fault : "it refuses");
	json_decref(j);
	return rc;
}
