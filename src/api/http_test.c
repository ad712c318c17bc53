/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests as they should be and as they should not. */
#include "api/http.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HEAD "GET / HTTP/1.1\r\n"

static int read_text(struct http_request *r, const char *text)
{
	struct err e = {{0}};
	int rc = http_read(r, text, strlen(text), &e);

	if (rc < 0)
		assert_true(*e.text);
	return rc;
}

static void good(void **state)
{
	static const char text[] =
		"PUT /drives/disk_0 HTTP/1.1\r\nHost: x\r\n"
		"Content-Length: 12\r\nConnection: x, close\r\n"
		"accept: text/plain, application/x-ndjson;q=1\r\n"
		"Expect: 100-continue\r\nUpgrade: sublet-console\r\n\r\n";
	struct http_request r;

	(void)state;
	assert_int_equal(read_text(&r, text), 1);
	assert_string_equal(r.method, "PUT");
	assert_string_equal(r.path, "/drives/disk_0");
	assert_int_equal(r.head, sizeof(text) - 1);
	assert_int_equal(r.body, 12);
	assert_false(r.keep);
	assert_true(r.lines && r.expects && r.upgrade);
	assert_int_equal(read_text(&r, HEAD "\r\n"), 1);
	assert_true(r.keep && !r.lines && !r.expects && !r.upgrade);
	assert_int_equal(read_text(&r, "GET / HTTP/1.0\r\n\r\n"), 1);
	assert_false(r.keep);
}

/* Whatever of a good request is missing, more is asked for. */
static void parts(void **state)
{
	static const char text[] = "PATCH /vm HTTP/1.1\r\nA: b\r\n\r\n";
	struct http_request r;
	struct err e;

	(void)state;
	for (size_t n = 0; n < sizeof(text) - 1; n++)
		assert_int_equal(http_read(&r, text, n, &e), 0);
	assert_int_equal(http_read(&r, text, sizeof(text) - 1, &e), 1);
	assert_int_equal(http_read(&r, text, sizeof(text), &e), 1);
}

static void bad(void **state)
{
	static const char *const texts[] = {
		"\r\n\r\n",
		"GET\r\n\r\n",
		"GET /\r\n\r\n",
		"GET  HTTP/1.1\r\n\r\n",
		"get / HTTP/1.1\r\n\r\n",
		"GETGETGETGET / HTTP/1.1\r\n\r\n",
		" / HTTP/1.1\r\n\r\n",
		"GET / HTTP/2.0\r\n\r\n",
		"GET / HTTP/1.10\r\n\r\n",
		"GET / HTTP/1.1 \r\n\r\n",
		"GET x HTTP/1.1\r\n\r\n",
		"GET /%41 HTTP/1.1\r\n\r\n",
		"GET /a?b=c HTTP/1.1\r\n\r\n",
		"GET /a b HTTP/1.1\r\n\r\n",
		"GET http://x/ HTTP/1.1\r\n\r\n",
		HEAD ": x\r\n\r\n",
		HEAD "nothing\r\n\r\n",
		HEAD "A : b\r\n\r\n",
		HEAD " folded: b\r\n\r\n",
		HEAD "A: b\r\n folded\r\n\r\n",
		HEAD "A: \x01\r\n\r\n",
		HEAD "A: b\nB: c\r\n\r\n",
		HEAD "Content-Length: \r\n\r\n",
		HEAD "Content-Length: -1\r\n\r\n",
		HEAD "Content-Length: +1\r\n\r\n",
		HEAD "Content-Length: 1 2\r\n\r\n",
		HEAD "Content-Length: 0x10\r\n\r\n",
		HEAD "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
		HEAD "Transfer-Encoding: chunked\r\n\r\n",
	};
	struct http_request r;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (read_text(&r, texts[i]) != -EBADMSG)
			fail_msg("taken: %s", texts[i]);
}

static void limits(void **state)
{
	static const char long_path[] = "GET /%0*d HTTP/1.1\r\n\r\n";
	char text[HTTP_HEAD_MAX + 100];
	struct http_request r;
	struct err e;

	(void)state;
	snprintf(text, sizeof(text), long_path, HTTP_PATH_MAX - 2, 0);
	assert_int_equal(read_text(&r, text), 1);
	snprintf(text, sizeof(text), long_path, HTTP_PATH_MAX - 1, 0);
	assert_int_equal(read_text(&r, text), -EBADMSG);
	snprintf(text, sizeof(text), HEAD "Content-Length: %d\r\n\r\n",
		 HTTP_BODY_MAX);
	assert_int_equal(read_text(&r, text), 1);
	snprintf(text, sizeof(text), HEAD "Content-Length: %d\r\n\r\n",
		 HTTP_BODY_MAX + 1);
	assert_int_equal(read_text(&r, text), -EMSGSIZE);
	assert_int_equal(read_text(&r,
				   HEAD "Content-Length: 18446744073709551617"
					"\r\n\r\n"),
			 -EMSGSIZE);
	memset(text, 'a', sizeof(text));
	memcpy(text, HEAD "A: ", sizeof(HEAD) + 2);
	assert_int_equal(http_read(&r, text, HTTP_HEAD_MAX - 1, &e), 0);
	assert_int_equal(http_read(&r, text, HTTP_HEAD_MAX, &e), -EMSGSIZE);
	assert_int_equal(http_read(&r, text, sizeof(text), &e), -EMSGSIZE);
	memcpy(text + HTTP_HEAD_MAX - 4, "\r\n\r\n", 4);
	assert_int_equal(http_read(&r, text, sizeof(text), &e), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(parts),
		cmocka_unit_test(bad),
		cmocka_unit_test(limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
