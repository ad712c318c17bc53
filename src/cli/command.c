/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/command.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define COMMAND_MAX (64 * KIB)

enum { PORT_CMD, PORT_STDIN, PORT_STDOUT, PORT_STDERR, PORT_EXIT };

/* To the guest: a text made beforehand. */
struct command_text {
	struct chr chr;
	struct loop *loop;
	char *text;
	size_t len, sent; /* loop thread */
};

/* From the guest: to one of our own descriptors, losing nothing. */
struct command_out {
	struct chr chr;
	struct command *command;
	int fd;
	int woken;  /* eventfd, the command's: what the writer waits for has
		       changed */
	bool haste; /* atomic */
	u8 *rest;   /* taken in haste, goes first; the writer's */
	size_t rest_len;
};

/* From the guest: the exit code. */
struct command_exit {
	struct chr chr;
	struct command *command;
	char line[16];
	size_t len;
};

struct command {
	struct vm_port ports[COMMAND_PORTS];
	unsigned nports;
	int woken[2];  /* for standard output and error */
	u32 abandoned; /* atomic */
	s32 code;      /* atomic; -1: not told */
	int null;      /* in place of a terminal; or -1 */
};

static void command_chr_free(struct chr *chr)
{
	free(chr);
}

/* ---- the command ---- */

static void command_text_push(void *arg)
{
	struct command_text *t = arg;
	size_t (*input)(void *, const u8 *, size_t);

	input = __atomic_load_n(&t->chr.input, __ATOMIC_ACQUIRE);
	while (input && t->sent < t->len) {
		size_t n = input(t->chr.input_arg, (u8 *)t->text + t->sent,
				 t->len - t->sent);

		if (!n)
			return;
		t->sent += n;
	}
}

static void command_text_room(struct chr *chr)
{
	struct command_text *t = (struct command_text *)chr;

	loop_call(t->loop, command_text_push, t);
}

static void command_text_free(struct chr *chr)
{
	free(((struct command_text *)chr)->text);
	free(chr);
}

static const struct chr_ops command_text_ops = {.free = command_text_free};

/* The words for a shell: each in single quotes, ' as '\''. */
static char *command_quote(char *const *argv)
{
	size_t size = 1;
	char *s, *p;

	if (!argv[1])
		return strdup(argv[0]);
	for (char *const *a = argv; *a; a++)
		size += strlen(*a) * 4 + 3;
	s = p = calloc(1, size);
	if (!s)
		return NULL;
	for (char *const *a = argv; *a; a++) {
		*p++ = '\'';
		for (const char *q = *a; *q; q++) {
			if (*q == '\'')
				p = stpcpy(p, "'\\'");
			*p++ = *q;
		}
		p = stpcpy(p, "' ");
	}
	return s;
}

static char *command_base64(const char *s)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklm"
				     "nopqrstuvwxyz0123456789+/";
	size_t n = strlen(s);
	char *out = malloc((n + 2) / 3 * 4 + 2), *p = out;

	for (size_t i = 0; out && i < n; i += 3) {
		u32 v = (u32)(u8)s[i] << 16;

		if (i + 1 < n)
			v |= (u32)(u8)s[i + 1] << 8;
		if (i + 2 < n)
			v |= (u8)s[i + 2];
		*p++ = digits[v >> 18];
		*p++ = digits[v >> 12 & 63];
		*p++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < n ? digits[v & 63] : '=';
	}
	if (out)
		strcpy(p, "\n");
	return out;
}

static struct chr *command_text_new(struct loop *l, char *const *argv,
				    struct err *e)
{
	struct command_text *t = calloc(1, sizeof(*t));
	char *line = command_quote(argv);

	if (t && line)
		t->text = command_base64(line);
	if (!t || !t->text || strlen(line) > COMMAND_MAX) {
		err_set(e, -E2BIG, "the command is too long");
		if (t)
			free(t->text);
		free(t);
		free(line);
		return NULL;
	}
	free(line);
	t->chr.ops = &command_text_ops;
	t->chr.room = command_text_room;
	t->loop = l;
	t->len = strlen(t->text);
	return &t->chr;
}

/* ---- output ---- */

static bool command_out_lost(const struct command_out *o)
{
	return __atomic_load_n(&o->command->abandoned, __ATOMIC_SEQ_CST);
}

/*
 * Writes as a full pipe lets: blocks the I/O thread that carries the data, so
 * that nothing is lost and nothing piles up. Fewer than n bytes only if it is
 * in haste; all are as good as written if nobody reads any more.
 */
static size_t command_out_push(struct command_out *o, const u8 *p, size_t n)
{
	size_t done = 0;

	while (done < n && !command_out_lost(o)) {
		struct pollfd pfd[] = {{.fd = o->fd, .events = POLLOUT},
				       {.fd = o->woken, .events = POLLIN}};
		bool haste = __atomic_load_n(&o->haste, __ATOMIC_SEQ_CST);
		ssize_t got;

		if (poll(pfd, 2, haste ? 0 : -1) < 0)
			continue;
		if (pfd[1].revents)
			eventfd_read(o->woken, &(eventfd_t){0});
		if (!pfd[0].revents && haste)
			return done;
		if (!pfd[0].revents)
			continue;
		got = write(o->fd, p + done, MIN(n - done, 4096u));
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got <= 0)
			break; /* nobody reads: as to a closed pipe */
		done += (size_t)got;
	}
	return n;
}

static void command_out_keep(struct command_out *o, const u8 *p, size_t n)
{
	u8 *rest = n ? realloc(o->rest, o->rest_len + n) : NULL;

	if (!rest)
		return; /* of a host without memory nothing better is known */
	memcpy(rest + o->rest_len, p, n);
	o->rest = rest;
	o->rest_len += n;
}

/* What an earlier haste has left; true if all of it is gone. */
static bool command_out_flush(struct command_out *o)
{
	size_t done;

	if (!o->rest_len)
		return true;
	done = command_out_push(o, o->rest, o->rest_len);
	o->rest_len -= done;
	memmove(o->rest, o->rest + done, o->rest_len);
	return !o->rest_len;
}

static size_t command_out_write(struct chr *chr, const void *buf, size_t n)
{
	struct command_out *o = (struct command_out *)chr;
	size_t done = 0;

	if (command_out_flush(o))
		done = command_out_push(o, buf, n);
	command_out_keep(o, (const u8 *)buf + done, n - done);
	return n;
}

static void command_out_haste(struct chr *chr, bool on)
{
	struct command_out *o = (struct command_out *)chr;

	__atomic_store_n(&o->haste, on, __ATOMIC_SEQ_CST);
	eventfd_write(o->woken, 1);
}

static void command_out_free(struct chr *chr)
{
	struct command_out *o = (struct command_out *)chr;

	command_out_flush(o);
	free(o->rest);
	free(o);
}

static const struct chr_ops command_out_ops = {
	.write = command_out_write,
	.haste = command_out_haste,
	.free = command_out_free,
};

static struct chr *command_out_new(struct command *c, unsigned n, int fd)
{
	struct command_out *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	*o = (struct command_out){
		.chr.ops = &command_out_ops,
		.command = c,
		.fd = fd,
		.woken = c->woken[n],
	};
	return &o->chr;
}

/* ---- exit code ---- */

static size_t command_exit_write(struct chr *chr, const void *buf, size_t n)
{
	struct command_exit *x = (struct command_exit *)chr;
	size_t room = sizeof(x->line) - 1 - x->len;

	memcpy(x->line + x->len, buf, MIN(n, room));
	x->len += MIN(n, room);
	x->line[x->len] = 0;
	if (strchr(x->line, '\n') && *x->line >= '0' && *x->line <= '9')
		__atomic_store_n(&x->command->code, atoi(x->line) & 0xff,
				 __ATOMIC_RELAXED);
	return n;
}

static const struct chr_ops command_exit_ops = {
	.write = command_exit_write,
	.free = command_chr_free,
};

static struct chr *command_exit_new(struct command *c)
{
	struct command_exit *x = calloc(1, sizeof(*x));

	if (!x)
		return NULL;
	x->chr.ops = &command_exit_ops;
	x->command = c;
	return &x->chr;
}

/* ---- all of them ---- */

/* A terminal is not passed on: it would be taken from the shell's user. */
static struct chr *command_stdin_new(struct command *c, struct loop *l,
				     struct err *e)
{
	if (!isatty(STDIN_FILENO))
		return chr_fd_new(l, STDIN_FILENO, -1, NULL, NULL, e);
	c->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (c->null < 0) {
		err_errno(e, -errno, "cannot open /dev/null");
		return NULL;
	}
	return chr_fd_new(l, c->null, -1, NULL, NULL, e);
}

static void command_free_ports(struct command *c)
{
	for (unsigned i = 0; i < COMMAND_PORTS; i++)
		chr_free(c->ports[i].chr);
	c->nports = 0;
}

struct command *command_new(struct loop *l, char *const *argv, struct err *e)
{
	static const char *const names[COMMAND_PORTS] = {
		"org.sublet.cmd", "org.sublet.stdin", "org.sublet.stdout",
		"org.sublet.stderr", "org.sublet.exit"};
	struct command *c = calloc(1, sizeof(*c));

	if (!c) {
		err_set(e, -ENOMEM, "no memory for the command");
		return NULL;
	}
	c->code = c->null = -1;
	for (unsigned i = 0; i < ARRAY_LEN(c->woken); i++)
		c->woken[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	c->ports[PORT_CMD].chr = command_text_new(l, argv, e);
	if (!c->ports[PORT_CMD].chr)
		goto fail;
	err_set(e, -ENOMEM, "no memory for the command");
	c->ports[PORT_STDIN].chr = command_stdin_new(c, l, e);
	c->ports[PORT_STDOUT].chr = command_out_new(c, 0, STDOUT_FILENO);
	c->ports[PORT_STDERR].chr = command_out_new(c, 1, STDERR_FILENO);
	c->ports[PORT_EXIT].chr = command_exit_new(c);
	for (unsigned i = 0; i < COMMAND_PORTS; i++) {
		c->ports[i].name = names[i];
		if (!c->ports[i].chr)
			goto fail;
	}
	c->nports = COMMAND_PORTS;
	return c;
fail:
	c->nports = COMMAND_PORTS;
	command_free(c);
	return NULL;
}

const struct vm_port *command_ports(struct command *c, unsigned *n)
{
	*n = c->nports;
	c->nports = 0;
	return c->ports;
}

void command_abandon(struct command *c)
{
	__atomic_store_n(&c->abandoned, 1, __ATOMIC_SEQ_CST);
	for (unsigned i = 0; i < ARRAY_LEN(c->woken); i++)
		eventfd_write(c->woken[i], 1);
}

int command_exit_code(const struct command *c)
{
	return __atomic_load_n(&c->code, __ATOMIC_RELAXED);
}

void command_free(struct command *c)
{
	if (!c)
		return;
	if (c->nports)
		command_free_ports(c);
	if (c->null >= 0)
		close(c->null);
	for (unsigned i = 0; i < ARRAY_LEN(c->woken); i++)
		if (c->woken[i] >= 0)
			close(c->woken[i]);
	free(c);
}
