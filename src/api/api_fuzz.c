/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: whatever a client sends to the control socket, in two pieces
 * over a real connection, to endpoints that take bodies apart. Not part of
 * the ordinary build.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "api/endpoints.h"
#include "api/rundir.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t n);

static void fuzz_args(struct api_call *c)
{
	int number = 0, flag = 0;
	const char *text;
	json_t *list;

	if (api_args(c, "{s:s, s?i, s?b, s?o}", "text", &text, "number",
		     &number, "flag", &flag, "list", &list))
		return;
	api_reply(c, json_pack("{s:s, s:i, s:s}", "text", text, "number",
			       number, "word", api_word(c)));
}

static void fuzz_done(struct api_call *c)
{
	api_done(c);
}

static const struct api_endpoint fuzz_endpoints[] = {
	{"GET", "/", fuzz_done},
	{"PUT", "/a", fuzz_args},
	{"PATCH", "/b/*", fuzz_args},
	{0},
};

/* In place of endpoints.c's. */
const struct api_endpoint *const api_endpoints[] = {
	fuzz_endpoints,
	api_wait_endpoints,
	NULL,
};

static struct rundir fuzz_dir;

static struct loop *fuzz_server(void)
{
	struct api_config c = {.name = "fuzz", .loop = loop_new(NULL)};

	setenv("SUBLET_RUNTIME_DIR", "rt", 1);
	if (!c.loop || rundir_claim(&fuzz_dir, NULL, "fuzz", NULL))
		abort();
	c.listen = rundir_listen(&fuzz_dir, NULL);
	if (c.listen < 0 || !api_new(&c, NULL))
		abort();
	return c.loop;
}

static void fuzz_stop(void *l)
{
	loop_stop(l);
}

/* Rounds enough for accept, read and answer. */
static void fuzz_turn(struct loop *l)
{
	for (unsigned i = 0; i < 3; i++) {
		loop_call(l, fuzz_stop, l);
		loop_run(l);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t n)
{
	static struct loop *l;
	size_t half = n ? data[0] * n / 256 : 0;
	int fd;

	if (!l)
		l = fuzz_server();
	fd = rundir_connect(fuzz_dir.name, NULL, NULL);
	if (fd < 0)
		abort();
	if (half)
		send(fd, data, half, MSG_NOSIGNAL | MSG_DONTWAIT);
	fuzz_turn(l);
	if (n > half)
		send(fd, data + half, n - half, MSG_NOSIGNAL | MSG_DONTWAIT);
	fuzz_turn(l);
	close(fd);
	fuzz_turn(l);
	return 0;
}
