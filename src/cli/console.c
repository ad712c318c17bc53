/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet console: this terminal at a running VM's console. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/ctl.h"
#include "cli/signals.h"
#include "cli/term.h"

#define ESCAPE 0x1d /* Ctrl-] */

enum { IN, SOCKET, SIGNALS, FDS };

struct console {
	struct client c;
	const char *vm;
	bool raw, escaped;
	bool left; /* by the user */
	int killed_by;
};

static bool console_write(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

/* Takes the escape sequences out; how many bytes are left of n. */
static size_t console_unescape(struct console *k, const char *in, size_t n,
			       char *out)
{
	size_t len = 0;

	for (size_t i = 0; i < n && !k->left; i++) {
		if (!k->raw) {
			out[len++] = in[i];
		} else if (!k->escaped) {
			k->escaped = in[i] == ESCAPE;
			if (!k->escaped)
				out[len++] = in[i];
		} else {
			k->escaped = false;
			k->left = in[i] == 'q';
			if (k->left)
				break;
			out[len++] = ESCAPE;
			if (in[i] != ESCAPE)
				out[len++] = in[i];
		}
	}
	return len;
}

/* False at the end of input. */
static bool console_input(struct console *k)
{
	char in[512], out[2 * sizeof(in)];
	ssize_t n = read(STDIN_FILENO, in, sizeof(in));
	size_t len;

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	if (n <= 0) {
		k->left = k->raw; /* a terminal has no end: it is gone */
		return false;
	}
	len = console_unescape(k, in, (size_t)n, out);
	while (len) {
		ssize_t sent = send(k->c.fd, out, len, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			break; /* its end will be read */
		memmove(out, out + sent, len - (size_t)sent);
		len -= (size_t)sent;
	}
	return true;
}

/* False if the VM has ended or nobody reads us. */
static bool console_output(struct console *k)
{
	char buf[4096];
	ssize_t n = recv(k->c.fd, buf, sizeof(buf), MSG_DONTWAIT);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return true;
	return n > 0 && console_write(STDOUT_FILENO, buf, (size_t)n);
}

static void console_resize(struct console *k)
{
	struct client c;
	u16 cols, rows;

	if (!k->raw || !term_size(&cols, &rows) || client_open(&c, k->vm, NULL))
		return;
	client_patience(&c, 1000);
	client_request(&c, "PUT", "/console/size",
		       json_pack("{s:i, s:i}", "columns", cols, "rows", rows),
		       NULL, NULL);
	client_close(&c);
}

static void console_signal(struct console *k, int fd)
{
	struct signalfd_siginfo si;

	if (read(fd, &si, sizeof(si)) != sizeof(si))
		return;
	if (si.ssi_signo == SIGWINCH)
		console_resize(k);
	else
		k->killed_by = (int)si.ssi_signo;
}

static void console_carry(struct console *k)
{
	struct pollfd p[FDS] = {
		[IN] = {.fd = STDIN_FILENO, .events = POLLIN},
		[SOCKET] = {.fd = k->c.fd, .events = POLLIN},
		[SIGNALS] = {.fd = signals_open(false, NULL), .events = POLLIN},
	};
	bool on = console_write(STDOUT_FILENO, k->c.buf + k->c.at,
				k->c.len - k->c.at);

	while (on && !k->left && !k->killed_by) {
		if (poll(p, FDS, -1) < 0 && errno != EINTR)
			break;
		if (p[SIGNALS].revents)
			console_signal(k, p[SIGNALS].fd);
		if (p[IN].revents && !console_input(k))
			p[IN].fd = -1; /* watching goes on */
		if (p[SOCKET].revents)
			on = console_output(k);
	}
	close(p[SIGNALS].fd);
}

static int console_attach(struct console *k)
{
	struct err e = {{0}};
	int rc = client_open(&k->c, k->vm, &e);

	if (!rc)
		rc = client_console(&k->c, &e);
	if (rc)
		return ctl_fail(&e);
	k->raw = term_usable();
	if (k->raw)
		fprintf(stderr, "sublet: console of %s; Ctrl-] q leaves\n",
			k->vm);
	console_resize(k);
	if (k->raw)
		term_raw();
	console_carry(k);
	term_restore();
	if (k->raw)
		fprintf(stderr, "\nsublet: %s %s\n",
			k->left || k->killed_by ? "left" : "end of", k->vm);
	return k->killed_by ? 128 + k->killed_by : 0;
}

static int console_run(int argc, char **argv)
{
	struct console k = {.c.fd = -1};
	const char *words[CTL_WORDS];
	int n, rc;

	rc = ctl_parse(argc, argv, NULL, words, &n, 1, 1, "a machine's name");
	if (!rc) {
		k.vm = words[0];
		rc = console_attach(&k);
	}
	client_close(&k.c);
	return rc;
}

const struct cli_verb cli_console = {
	.name = "console",
	.summary = "attach this terminal to a machine's console",
	.help = "usage: sublet console NAME\n"
		"\n"
		"Shows the last 64 KiB the console said, then what it says; "
		"what is typed goes to\nthe machine. Several may be attached "
		"and share it. At a terminal, Ctrl-] q leaves\nand Ctrl-] "
		"Ctrl-] sends one Ctrl-]. Ends with the machine.\n",
	.run = console_run,
};
