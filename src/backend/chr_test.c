/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "backend/chr.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"

struct fix {
	struct loop *l;
	pthread_t thread;
	pthread_mutex_t lock;
	u8 got[4096];
	size_t n, room;
	unsigned escapes;
};

static void *run(void *arg)
{
	loop_run(arg);
	return NULL;
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));

	f->l = loop_new(NULL);
	f->room = sizeof(f->got);
	pthread_mutex_init(&f->lock, NULL);
	pthread_create(&f->thread, NULL, run, f->l);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	loop_stop(f->l);
	pthread_join(f->thread, NULL);
	loop_free(f->l);
	free(f);
	return 0;
}

static size_t receive(void *arg, const u8 *buf, size_t n)
{
	struct fix *f = arg;

	pthread_mutex_lock(&f->lock);
	n = MIN(n, f->room);
	memcpy(f->got + f->n, buf, n);
	f->n += n;
	f->room -= n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void escape(void *arg)
{
	__atomic_add_fetch(&((struct fix *)arg)->escapes, 1, __ATOMIC_SEQ_CST);
}

static size_t received(struct fix *f)
{
	size_t n;

	pthread_mutex_lock(&f->lock);
	n = f->n;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void await(struct fix *f, size_t n)
{
	for (unsigned i = 0; i < 5000 && received(f) < n; i++)
		usleep(1000);
	assert_int_equal(received(f), n);
}

static size_t read_all(int fd, char *buf, size_t want)
{
	size_t n = 0;
	ssize_t r;

	while (n < want && (r = read(fd, buf + n, want - n)) > 0)
		n += (size_t)r;
	return n;
}

static void test_output(void **state)
{
	struct fix *f = *state;
	struct chr *c;
	char buf[16];
	int out[2];

	assert_int_equal(pipe(out), 0);
	c = chr_fd_new(f->l, -1, out[1], NULL, NULL, NULL);
	assert_non_null(c);
	assert_int_equal(fcntl(out[1], F_GETFL) & O_NONBLOCK, 0);
	chr_write(c, "he", 2);
	chr_write(c, "llo\n", 4);
	assert_int_equal(read_all(out[0], buf, 6), 6);
	assert_memory_equal(buf, "hello\n", 6);
	chr_write(c, "> ", 2); /* no end of line: comes soon anyway */
	assert_int_equal(read_all(out[0], buf, 2), 2);
	assert_memory_equal(buf, "> ", 2);
	chr_write(c, "x", 1); /* and at the end */
	chr_free(c);
	assert_int_equal(read_all(out[0], buf, 1), 1);
	chr_write(NULL, "x", 1);
	close(out[0]);
	close(out[1]);
}

/* Nobody reads: the writer never blocks, the excess is dropped, and what was
 * kept arrives in order when the reader comes. */
static void test_flood(void **state)
{
	struct fix *f = *state;
	u8 line[1000];
	struct chr *c;
	size_t n = 0;
	int out[2];
	u8 buf[4096];
	ssize_t r;

	assert_int_equal(pipe(out), 0);
	c = chr_fd_new(f->l, -1, out[1], NULL, NULL, NULL);
	for (unsigned i = 0; i < 3000; i++) {
		memset(line, (int)(i % 251), sizeof(line));
		chr_write(c, line, sizeof(line));
	}
	close(out[1]);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	for (unsigned idle = 0; idle < 100;) {
		r = read(out[0], buf, sizeof(buf));
		if (r <= 0) {
			idle++;
			usleep(1000);
			continue;
		}
		for (ssize_t i = 0; i < r; i++, n++)
			assert_int_equal(buf[i], n / 1000 % 251);
		idle = 0;
	}
	assert_in_range(n, 1000000, 2000000);
	chr_free(c);
	close(out[0]);
}

static void test_reader_gone(void **state)
{
	struct fix *f = *state;
	struct chr *c;
	int out[2];

	assert_int_equal(pipe(out), 0);
	c = chr_fd_new(f->l, -1, out[1], NULL, NULL, NULL);
	close(out[0]);
	for (unsigned i = 0; i < 100; i++)
		chr_write(c, "gone\n", 5);
	chr_free(c);
	close(out[1]);
}

static void test_input(void **state)
{
	struct fix *f = *state;
	struct chr *c;
	int in[2];

	assert_int_equal(pipe(in), 0);
	c = chr_fd_new(f->l, in[0], -1, escape, f, NULL);
	/* before there is a receiver: kept */
	assert_int_equal(write(in[1], "early", 5), 5);
	usleep(5000);
	f->room = 3;
	chr_receive(c, receive, f);
	await(f, 3);
	assert_int_equal(write(in[1], "+late", 5), 5);
	usleep(5000);
	assert_int_equal(received(f), 3);
	pthread_mutex_lock(&f->lock);
	f->room = 100;
	chr_input_ready(c); /* with the receiver's lock held */
	pthread_mutex_unlock(&f->lock);
	await(f, 10);
	assert_memory_equal(f->got, "early+late", 10);
	/* escapes: alone, doubled, before another key, over two reads */
	assert_int_equal(write(in[1],
			       "a\x1d\x1d"
			       "b\x1d"
			       "c\x1d",
			       7),
			 7);
	await(f, 15);
	assert_memory_equal(f->got + 10,
			    "a\x1d"
			    "b\x1d"
			    "c",
			    5);
	assert_int_equal(f->escapes, 0);
	assert_int_equal(write(in[1], "qd", 2), 2);
	await(f, 16);
	assert_int_equal(f->escapes, 1);
	assert_int_equal(f->got[15], 'd');
	close(in[1]); /* end of input: the loop must not spin */
	usleep(2000);
	chr_free(c);
	close(in[0]);
}

/* A socket cannot be reopened: its flags come back at the end. */
static void test_flags_restored(void **state)
{
	struct fix *f = *state;
	struct chr *c;
	char buf[8];
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	c = chr_fd_new(f->l, sv[0], sv[0], NULL, NULL, NULL);
	assert_non_null(c);
	chr_receive(c, receive, f);
	assert_int_equal(fcntl(sv[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	chr_write(c, "ping\n", 5);
	assert_int_equal(read_all(sv[1], buf, 5), 5);
	assert_int_equal(write(sv[1], "\x1dq", 2), 2); /* no escape here */
	await(f, 2);
	chr_free(c);
	assert_int_equal(fcntl(sv[0], F_GETFL) & O_NONBLOCK, 0);
	close(sv[0]);
	close(sv[1]);
}

static void test_null_and_file_input(void **state)
{
	struct fix *f = *state;
	int null = open("/dev/null", O_RDWR), fd;
	char path[] = "/tmp/chr_testXXXXXX";
	struct chr *c;

	c = chr_fd_new(f->l, null, null, NULL, NULL, NULL);
	assert_non_null(c);
	chr_receive(c, receive, f);
	chr_write(c, "x\n", 2);
	usleep(2000);
	assert_int_equal(received(f), 0);
	chr_free(c);
	fd = mkstemp(path);
	unlink(path);
	assert_int_equal(pwrite(fd, "typed", 5, 0), 5);
	c = chr_fd_new(f->l, fd, null, NULL, NULL, NULL);
	assert_non_null(c);
	chr_receive(c, receive, f);
	await(f, 5);
	chr_free(c);
	close(fd);
	close(null);
}

static void test_file(void **state)
{
	char path[] = "/tmp/chr_testXXXXXX", buf[8];
	struct stat st;
	struct chr *c;
	struct err e;
	int fd;

	(void)state;
	fd = mkstemp(path);
	assert_int_equal(write(fd, "previous", 8), 8);
	close(fd);
	c = chr_file_new(path, &e);
	assert_non_null(c);
	chr_write(c, "abc", 3);
	chr_input_ready(c);
	chr_receive(c, receive, NULL);
	chr_free(c);
	fd = open(path, O_RDONLY);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, 3);
	assert_int_equal(read(fd, buf, 3), 3);
	assert_memory_equal(buf, "abc", 3);
	close(fd);
	unlink(path);
	assert_null(chr_file_new("/nonexistent/x", &e));
	assert_string_equal(e.text, "cannot write console file /nonexistent/x:"
				    " No such file or directory");
	/* a full disk costs the output, nothing else */
	c = chr_file_new("/dev/full", &e);
	assert_non_null(c);
	chr_write(c, "abc", 3);
	chr_free(c);
}

static void test_bad_fd(void **state)
{
	struct fix *f = *state;
	struct err e;

	assert_null(chr_fd_new(f->l, 12345, -1, NULL, NULL, &e));
	assert_non_null(strstr(e.text, "Bad file descriptor"));
	assert_null(chr_fd_new(f->l, -1, 12345, NULL, NULL, &e));
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_output),         T(test_flood),
		T(test_reader_gone),    T(test_input),
		T(test_flags_restored), T(test_null_and_file_input),
		T(test_file),           T(test_bad_fd),
	};
	signal(SIGPIPE, SIG_IGN);
	alarm(60);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
