/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket's server with clients that behave and clients that do
 * not. The loop has a thread of its own; the endpoints are the test's, with
 * those of ep_wait.c.
 */
#define _GNU_SOURCE
#include "api/api.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/api_priv.h"
#include "api/client.h"
#include "api/endpoints.h"
#include "api/rundir.h"
#include "base/clock.h"

#define REQUEST(method, path, body) \
	method " " path " HTTP/1.1\r\nContent-Length: " body

struct fix {
	char base[40];
	struct loop *loop;
	struct rundir dir;
	struct api *api;
	pthread_t thread;
	bool ended;
};

/* ---- endpoints ---- */

static void t_echo(struct api_call *c)
{
	const char *text;

	if (api_args(c, "{s:s}", "text", &text))
		return;
	api_reply(c,
		  json_pack("{s:s, s:s}", "text", text, "word", api_word(c)));
}

static void t_done(struct api_call *c)
{
	api_done(c);
}

/* More than anybody may leave unread. */
static void t_flood(struct api_call *c)
{
	call_stream(c);
	for (unsigned i = 0; i < 100000; i++)
		call_line(c, json_pack("{s:i, s:s}", "n", (int)i, "x",
				       "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"));
	api_done(c);
}

/* A job that waits to be cancelled. */
static u32 job_state; /* atomic: 1 running, 2 cancelled, 3 freed */

static int job_wait(struct api_job *j, void *arg, struct err *e)
{
	(void)arg;
	__atomic_store_n(&job_state, 1, __ATOMIC_SEQ_CST);
	while (!api_job_cancelled(j))
		usleep(1000);
	__atomic_store_n(&job_state, 2, __ATOMIC_SEQ_CST);
	return err_set(e, -ECANCELED, "given up");
}

static void job_free(void *arg)
{
	free(arg);
	__atomic_store_n(&job_state, 3, __ATOMIC_SEQ_CST);
}

static void t_job_wait(struct api_call *c)
{
	api_job_start(c, "waiting", job_wait, malloc(1), job_free);
}

static int on_loop(void *arg, struct err *e)
{
	struct fix *f = arg;

	return loop_here(f->loop) ? 0 : err_set(e, -EIO, "wrong thread");
}

static struct fix *the_fix;

static int job_count(struct api_job *j, void *arg, struct err *e)
{
	int rc = 0;

	(void)arg;
	for (int i = 0; !rc && i < 3; i++) {
		api_job_progress(j, json_pack("{s:i}", "step", i));
		rc = api_job_on_loop(j, on_loop, the_fix, e);
	}
	api_job_result(j, json_pack("{s:i}", "steps", 3));
	return rc;
}

static void t_job_count(struct api_call *c)
{
	api_job_start(c, "counting", job_count, NULL, NULL);
}

static int job_fail(struct api_job *j, void *arg, struct err *e)
{
	(void)j;
	(void)arg;
	return err_set(e, -ENOSPC, "The disk is full.");
}

static void t_job_fail(struct api_call *c)
{
	api_job_start(c, "failing", job_fail, NULL, NULL);
}

static const struct api_endpoint test_endpoints[] = {
	{"PUT", "/echo/*", t_echo},
	{"GET", "/done", t_done},
	{"GET", "/flood", t_flood},
	{"PUT", "/job/wait", t_job_wait},
	{"PUT", "/job/count", t_job_count},
	{"PUT", "/job/fail", t_job_fail},
	{0},
};

/* In place of endpoints.c's. */
const struct api_endpoint *const api_endpoints[] = {
	test_endpoints,
	api_wait_endpoints,
	NULL,
};

/* ---- server ---- */

static void *serve(void *arg)
{
	loop_run(((struct fix *)arg)->loop);
	return NULL;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct api_config c = {.name = "test"};
	struct err e;

	strcpy(f->base, "/tmp/api_test.XXXXXX");
	assert_non_null(mkdtemp(f->base));
	setenv("SUBLET_RUNTIME_DIR", f->base, 1);
	assert_int_equal(rundir_claim(&f->dir, "test", "x", &e), 0);
	f->loop = c.loop = loop_new(&e);
	c.listen = rundir_listen(&f->dir, &e);
	f->api = api_new(&c, &e);
	assert_non_null(f->api);
	assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
	the_fix = f;
	job_state = 0;
	*state = f;
	return 0;
}

static void end(struct fix *f)
{
	static const struct api_end how = {"power-off", 7, "all well"};

	loop_stop(f->loop);
	pthread_join(f->thread, NULL);
	api_stop(f->api);
	api_ended(f->api, &how);
	api_free(f->api);
	f->ended = true;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	if (!f->ended)
		end(f);
	loop_free(f->loop);
	rundir_release(&f->dir);
	rmdir(f->base);
	free(f);
	return 0;
}

/* ---- raw clients ---- */

static int dial(void)
{
	struct timeval tv = {.tv_sec = 20};
	struct err e;
	int fd = rundir_connect("test", NULL, &e);

	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static void say(int fd, const char *text)
{
	size_t n = strlen(text);

	assert_int_equal(send(fd, text, n, MSG_NOSIGNAL), n);
}

/* Reads until what has come holds the text, or the connection ends. */
static bool hear(int fd, char *buf, size_t size, const char *text)
{
	size_t n = 0;

	buf[0] = 0;
	while (!text || !strstr(buf, text)) {
		ssize_t got = recv(fd, buf + n, size - 1 - n, 0);

		if (got <= 0)
			/* What we sent and nobody read makes it a reset. */
			return !text && (!got || errno == ECONNRESET);
		n += (size_t)got;
		buf[n] = 0;
		assert_true(n < size - 1);
	}
	return true;
}

/* The request gets this status and sentence, and the connection ends. */
static void refused(const char *request, const char *status, const char *text)
{
	char buf[2048];
	int fd = dial();

	say(fd, request);
	shutdown(fd, SHUT_WR);
	assert_true(hear(fd, buf, sizeof(buf), NULL));
	if (strncmp(buf, status, strlen(status)) || !strstr(buf, text) ||
	    !strstr(buf, "{\"fault_message\":\""))
		fail_msg("%s\n-> %s", request, buf);
	close(fd);
}

/* The server still does its work. */
static void serves(void)
{
	struct client c;
	struct err e;

	assert_int_equal(client_open(&c, "test", &e), 0);
	client_patience(&c, 20000);
	assert_int_equal(client_request(&c, "GET", "/done", NULL, NULL, &e), 0);
	client_close(&c);
}

/* ---- tests ---- */

static void answers(void **state)
{
	struct client c;
	struct err e;
	json_t *j;

	(void)state;
	assert_int_equal(client_open(&c, "test", &e), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(
			client_request(&c, "PUT", "/echo/word",
				       json_pack("{s:s}", "text", "\u00e9\n\""),
				       &j, &e),
			0);
		assert_string_equal(
			json_string_value(json_object_get(j, "text")),
			"\u00e9\n\"");
		assert_string_equal(
			json_string_value(json_object_get(j, "word")), "word");
		json_decref(j);
	}
	client_close(&c);
}

static void in_pieces(void **state)
{
	static const char text[] =
		"PUT /echo/x HTTP/1.1\r\nContent-Length: 13\r\n\r\n"
		"{\"text\":\"hi\"}";
	char buf[1000];
	int fd = dial();

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		assert_int_equal(send(fd, text + i, 1, 0), 1);
	assert_true(hear(fd, buf, sizeof(buf), "{\"text\":\"hi\""));
	/* Three at once, the last of which is the last. */
	say(fd, "GET /done HTTP/1.1\r\n\r\nGET /done HTTP/1.1\r\n\r\n"
		"GET /done HTTP/1.1\r\nConnection: close\r\n\r\n");
	assert_true(hear(fd, buf, sizeof(buf), NULL));
	assert_int_equal(strlen(buf), 3 * strlen("HTTP/1.1 204 No Content\r\n"
						 "Server: Sublet\r\n\r\n"));
	close(fd);
}

static void refusals(void **state)
{
	char *big;

	(void)state;
	refused("nonsense\r\n\r\n", "HTTP/1.1 400", "not an HTTP request");
	refused("GET /x HTTP/1.1\r\n\r\n", "HTTP/1.1 400",
		"Invalid request method and/or path: GET /x.");
	refused("PUT /done HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "PUT /done");
	refused("PUT /echo/ HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "/echo/");
	refused("PUT /echo/a/b HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "/echo/a/b");
	refused("PUT /echo/a HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "needs a body");
	refused(REQUEST("GET", "/done", "2\r\n\r\n{}"), "HTTP/1.1 400",
		"cannot have a body");
	refused(REQUEST("PUT", "/echo/a", "1\r\n\r\n{"), "HTTP/1.1 400",
		"not JSON");
	refused(REQUEST("PUT", "/echo/a", "2\r\n\r\n[]"), "HTTP/1.1 400",
		"does not fit");
	refused(REQUEST("PUT", "/echo/a", "2\r\n\r\n{}"), "HTTP/1.1 400",
		"text");
	refused(REQUEST("PUT", "/echo/a", "10\r\n\r\n{\"text\":1}"),
		"HTTP/1.1 400", "does not fit");
	refused(REQUEST("PUT", "/echo/a",
			"20\r\n\r\n{\"text\":\"\",\"more\":1}"),
		"HTTP/1.1 400", "more");
	refused(REQUEST("PUT", "/echo/a",
			"21\r\n\r\n{\"text\":\"\",\"text\":\"\"}"),
		"HTTP/1.1 400", "not JSON");
	refused(REQUEST("PUT", "/echo/a", "51201\r\n\r\n"), "HTTP/1.1 413",
		"51200");
	big = malloc(20000);
	memset(big, 'a', 20000);
	memcpy(big, "GET / HTTP/1.1\r\n", 16);
	big[19999] = 0;
	refused(big, "HTTP/1.1 413", "8192");
	free(big);
	serves();
}

/* Deep JSON costs no stack. */
static void deep(void **state)
{
	size_t n = 51200, head;
	char *text = malloc(n + 200), buf[1000];
	int fd = dial();

	(void)state;
	head = (size_t)sprintf(text,
			       "PUT /echo/a HTTP/1.1\r\n"
			       "Content-Length: %zu\r\n\r\n",
			       n);
	memset(text + head, '[', n);
	text[head + n] = 0;
	say(fd, text);
	assert_true(hear(fd, buf, sizeof(buf), "not JSON"));
	close(fd);
	free(text);
}

static void too_many(void **state)
{
	int fd[API_CONNECTIONS + 8], extra = 0;
	char buf[1000];

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = dial(); /* idle ones make room for new ones */
	serves();
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		close(fd[i]);
	for (unsigned i = 0; i < API_CONNECTIONS; i++) {
		fd[i] = dial();
		say(fd[i], "GET /wait HTTP/1.1\r\n\r\n");
		if (i + 1 < API_CONNECTIONS)
			serves(); /* so that it waits before the next comes */
	}
	usleep(100000);
	for (unsigned i = 0; i < 100 && !extra; i++) {
		int f = dial(); /* those that wait do not */

		if (send(f, "GET /job HTTP/1.1\r\n\r\n", 21, MSG_NOSIGNAL) < 0)
			extra = 1;
		else
			extra = !hear(f, buf, sizeof(buf), "{\"job\":null}");
		close(f);
	}
	assert_true(extra);
	close(fd[0]);
	usleep(100000);
	serves();
	for (unsigned i = 1; i < API_CONNECTIONS; i++)
		close(fd[i]);
}

/* Who asks for much and reads nothing is cut off; the others are served. */
static void slow_reader(void **state)
{
	char buf[65536];
	size_t all = 0;
	ssize_t n;
	int fd = dial();

	(void)state;
	say(fd, "GET /flood HTTP/1.1\r\n\r\n");
	serves();
	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		all += (size_t)n;
	assert_true(all > 0 && all < 2 * MIB);
	close(fd);
}

static void jobs(void **state)
{
	struct client c;
	struct err e = {{0}};
	json_t *j;

	(void)state;
	assert_int_equal(client_open(&c, "test", &e), 0);
	assert_int_equal(client_request(&c, "PUT", "/job/count", NULL, &j, &e),
			 0);
	assert_int_equal(json_integer_value(json_object_get(j, "steps")), 3);
	json_decref(j);
	assert_int_equal(client_request(&c, "PUT", "/job/fail", NULL, NULL, &e),
			 -EREMOTEIO);
	assert_string_equal(e.text, "test: The disk is full.");
	client_close(&c);
}

struct seen {
	int progress, steps;
};

static void see(void *arg, json_t *line)
{
	struct seen *s = arg;

	s->progress += json_object_get(line, "progress") != NULL;
	s->steps += json_object_get(line, "steps") != NULL;
}

static void jobs_in_lines(void **state)
{
	struct client c;
	struct err e = {{0}};
	struct seen s = {0};
	json_t *j;

	(void)state;
	assert_int_equal(client_open(&c, "test", &e), 0);
	c.line = see;
	c.arg = &s;
	assert_int_equal(client_request(&c, "PUT", "/job/count", NULL, &j, &e),
			 0);
	assert_int_equal(json_integer_value(json_object_get(j, "steps")), 3);
	json_decref(j);
	assert_in_range(s.progress, 1, 3);
	assert_int_equal(s.steps, 1);
	assert_int_equal(client_request(&c, "PUT", "/job/fail", NULL, NULL, &e),
			 -EREMOTEIO);
	assert_string_equal(e.text, "test: The disk is full.");
	client_close(&c);
}

static void await(u32 want)
{
	for (unsigned i = 0; i < 20000; i++) {
		if (__atomic_load_n(&job_state, __ATOMIC_SEQ_CST) == want)
			return;
		usleep(1000);
	}
	fail_msg("the job is in state %u", job_state);
}

static void one_job_at_a_time(void **state)
{
	char buf[1000];
	int fd = dial(), other = dial();

	(void)state;
	say(fd, "PUT /job/wait HTTP/1.1\r\n\r\n");
	await(1);
	say(other, "PUT /job/count HTTP/1.1\r\n\r\n");
	assert_true(hear(other, buf, sizeof(buf),
			 "busy with another job "
			 "(waiting)"));
	say(other, "GET /job HTTP/1.1\r\n\r\n");
	assert_true(hear(other, buf, sizeof(buf), "{\"job\":\"waiting\""));
	say(other, "DELETE /job HTTP/1.1\r\n\r\n");
	assert_true(hear(fd, buf, sizeof(buf), "given up"));
	await(3);
	close(fd);
	close(other);
}

static void hang_up_cancels(void **state)
{
	int fd = dial();

	(void)state;
	say(fd, "PUT /job/wait HTTP/1.1\r\n\r\n");
	await(1);
	close(fd);
	await(3);
	serves();
}

static void end_cancels(void **state)
{
	struct fix *f = *state;
	char buf[1000];
	int fd = dial();

	say(fd, "PUT /job/wait HTTP/1.1\r\n\r\n");
	await(1);
	end(f);
	await(3);
	assert_true(hear(fd, buf, sizeof(buf), "given up"));
	close(fd);
}

static int job_late(struct api_job *j, void *arg, struct err *e)
{
	__atomic_store_n(&job_state, 1, __ATOMIC_SEQ_CST);
	while (!api_job_cancelled(j))
		usleep(1000);
	return api_job_on_loop(j, on_loop, arg, e);
}

static void t_start_late(void *arg)
{
	struct fix *f = arg;
	struct api_call *c = calloc(1, sizeof(*c));

	c->api = f->api;
	api_job_start(c, "late", job_late, f, NULL);
}

/* What the loop's thread shall do is not waited for when there is no loop. */
static void end_with_errand(void **state)
{
	struct fix *f = *state;

	loop_call(f->loop, t_start_late, f);
	await(1);
	end(f);
}

static void waits(void **state)
{
	struct fix *f = *state;
	char buf[1000];
	int fd = dial(), gone = dial(), events = dial();

	say(fd, "GET /wait HTTP/1.1\r\n\r\n");
	say(gone, "GET /wait HTTP/1.1\r\n\r\n");
	say(events, "GET /events HTTP/1.1\r\n\r\n");
	assert_true(hear(events, buf, sizeof(buf), "\"event\":\"hello\""));
	close(gone);
	serves();
	end(f);
	assert_true(hear(fd, buf, sizeof(buf), "\"exit_code\":7"));
	assert_non_null(strstr(buf, "\"end\":\"power-off\""));
	assert_true(hear(events, buf, sizeof(buf), NULL));
	assert_non_null(strstr(buf, "\"event\":\"ended\""));
	assert_non_null(strstr(buf, "\r\n0\r\n\r\n"));
	close(fd);
	close(events);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(answers),
		T(in_pieces),
		T(refusals),
		T(deep),
		T(too_many),
		T(slow_reader),
		T(jobs),
		T(jobs_in_lines),
		T(one_job_at_a_time),
		T(hang_up_cancels),
		T(end_cancels),
		T(end_with_errand),
		T(waits),
	};

	alarm(200);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
