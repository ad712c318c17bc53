/* SPDX-License-Identifier: BSD-2-Clause */
/* A console with several at it: scrollback, input, slow and gone readers. */
#define _GNU_SOURCE
#include "backend/chr_hub.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define RING (64 * KIB)

struct fix {
	struct loop *loop;
	pthread_t thread;
	struct chr *hub;
	pthread_mutex_t lock; /* guards what follows */
	char input[1000];
	size_t len, take;
};

static size_t receive(void *arg, const u8 *buf, size_t n)
{
	struct fix *f = arg;

	pthread_mutex_lock(&f->lock);
	n = MIN(MIN(n, f->take), sizeof(f->input) - 1 - f->len);
	memcpy(f->input + f->len, buf, n);
	f->len += n;
	f->take -= n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void *run(void *arg)
{
	loop_run(((struct fix *)arg)->loop);
	return NULL;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct err e;

	pthread_mutex_init(&f->lock, NULL);
	f->take = ~0ull;
	f->loop = loop_new(&e);
	f->hub = chr_hub_new(f->loop, NULL, &e);
	assert_non_null(f->hub);
	chr_receive(f->hub, receive, f);
	assert_int_equal(pthread_create(&f->thread, NULL, run, f), 0);
	*state = f;
	return 0;
}

static void end(struct fix *f)
{
	loop_stop(f->loop);
	pthread_join(f->thread, NULL);
	chr_free(f->hub);
	f->hub = NULL;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	if (f->hub)
		end(f);
	loop_free(f->loop);
	free(f);
	return 0;
}

struct attach {
	struct fix *f;
	int fd, rc;
	pthread_mutex_t done;
};

static void attach_here(void *arg)
{
	struct attach *a = arg;

	a->rc = chr_hub_attach(a->f->hub, a->fd, NULL);
	pthread_mutex_unlock(&a->done);
}

/* Our end of an attached pair, or the error. */
static int attach(struct fix *f)
{
	struct attach a = {.f = f, .done = PTHREAD_MUTEX_INITIALIZER};
	struct timeval tv = {.tv_sec = 20};
	int p[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	setsockopt(p[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	a.fd = p[1];
	pthread_mutex_lock(&a.done);
	loop_call(f->loop, attach_here, &a);
	pthread_mutex_lock(&a.done);
	if (!a.rc)
		return p[0];
	close(p[0]);
	return a.rc;
}

static void hears(int fd, const char *text)
{
	char buf[1000];
	size_t n = strlen(text), len = 0;

	while (len < n) {
		ssize_t got = recv(fd, buf + len, n - len, 0);

		assert_true(got > 0);
		len += (size_t)got;
	}
	assert_memory_equal(buf, text, n);
}

static void says(struct fix *f, const char *text)
{
	chr_write(f->hub, text, strlen(text));
}

static void all_see_all(void **state)
{
	struct fix *f = *state;
	int a, b;

	says(f, "before ");
	a = attach(f);
	says(f, "both ");
	hears(a, "before both ");
	b = attach(f);
	hears(b, "before both ");
	says(f, "and ");
	for (const char *p = "on"; *p; p++)
		chr_write(f->hub, p, 1);
	hears(a, "and on");
	hears(b, "and on");
	close(a);
	says(f, "!");
	hears(b, "!");
	close(b);
	says(f, "?");
	a = attach(f);
	hears(a, "before both and on!?");
	close(a);
}

static void all_type(void **state)
{
	struct fix *f = *state;
	int a = attach(f), b = attach(f);

	f->take = 3;
	assert_int_equal(send(a, "abcdef", 6, 0), 6);
	usleep(50000);
	assert_int_equal(send(b, "x", 1, 0), 1);
	usleep(50000);
	pthread_mutex_lock(&f->lock);
	assert_string_equal(f->input, "abc"); /* there is room for no more */
	f->take = ~0ull;
	pthread_mutex_unlock(&f->lock);
	chr_input_ready(f->hub);
	for (unsigned i = 0; i < 10000; i++) {
		pthread_mutex_lock(&f->lock);
		i += f->len == 7 ? 10000 : 0;
		pthread_mutex_unlock(&f->lock);
		usleep(1000);
	}
	assert_int_equal(f->len, 7);
	assert_memory_equal(f->input, "abc", 3);
	assert_non_null(strstr(f->input, "def"));
	assert_non_null(strchr(f->input, 'x'));
	close(a);
	close(b);
}

/* The last 64 KiB are there, whatever was written before and how. */
static void scrollback(void **state)
{
	struct fix *f = *state;
	size_t n = 3 * RING + 12345;
	char *text = malloc(n), *got = malloc(n);
	size_t len = 0;
	int a;

	for (size_t i = 0; i < n; i++)
		text[i] = (char)(i * 7 + i / 251);
	for (size_t i = 0; i < n;) {
		size_t part = MIN((size_t)777, n - i);

		chr_write(f->hub, text + i, part);
		i += part;
	}
	a = attach(f);
	while (len < RING) {
		ssize_t r = recv(a, got + len, n - len, 0);

		assert_true(r > 0);
		len += (size_t)r;
	}
	assert_int_equal(len, RING);
	assert_memory_equal(got, text + n - RING, RING);
	chr_write(f->hub, text, n); /* at once, more than the ring holds */
	close(a);
	a = attach(f);
	for (len = 0; len < RING;) {
		ssize_t r = recv(a, got + len, n - len, 0);

		assert_true(r > 0);
		len += (size_t)r;
	}
	assert_memory_equal(got, text + n - RING, RING);
	close(a);
	free(text);
	free(got);
}

/* One that does not read holds nobody up, and is told what it lost. */
static void slow_reader(void **state)
{
	struct fix *f = *state;
	char block[4096], *all = malloc(4 * MIB), *note;
	int slow = attach(f), quick;
	size_t len = 0;
	ssize_t n;

	memset(block, 'x', sizeof(block));
	for (unsigned i = 0; i < 1000; i++)
		chr_write(f->hub, block, sizeof(block));
	quick = attach(f);
	says(f, "the end");
	end(f);
	while ((n = recv(slow, all + len, 4 * MIB - 1 - len, 0)) > 0)
		len += (size_t)n;
	all[len] = 0;
	assert_true(len < 2 * MIB);
	note = strstr(all, "bytes are lost]");
	assert_non_null(note);
	for (len = 0; (n = recv(quick, all + len, 4 * MIB - len, 0)) > 0;)
		len += (size_t)n;
	assert_true(len >= 7);
	assert_memory_equal(all + len - 7, "the end", 7);
	free(all);
	close(slow);
	close(quick);
}

static void too_many(void **state)
{
	struct fix *f = *state;
	int fd[20], n = 0, last = 0;

	while (n < 20 && (last = attach(f)) >= 0)
		fd[n++] = last;
	assert_in_range(n, 4, 16);
	assert_int_equal(last, -EBUSY);
	assert_true(chr_hub_full(f->hub));
	close(fd[0]);
	for (unsigned i = 0; i < 10000 && chr_hub_full(f->hub); i++)
		usleep(1000);
	fd[0] = attach(f);
	assert_true(fd[0] >= 0);
	while (n--)
		close(fd[n]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(all_see_all), T(all_type), T(scrollback),
		T(slow_reader), T(too_many),
	};

	alarm(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
