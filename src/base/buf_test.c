/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/crc32c.h"

static void grows(void **state)
{
	struct buf b = {0};
	u8 *p;

	(void)state;
	for (unsigned i = 0; i < 3000; i++)
		buf_add(&b, "abc", 3);
	p = buf_grow(&b, 5);
	assert_non_null(p);
	assert_memory_equal(p, "\0\0\0\0\0", 5);
	assert_int_equal(b.len, 9005);
	for (unsigned i = 0; i < 3000; i++)
		assert_memory_equal(b.data + 3 * i, "abc", 3);
	assert_null(buf_grow(&b, BIT64(63)));
	assert_true(b.failed);
	buf_add(&b, "x", 1); /* nothing more after a failure */
	assert_int_equal(b.len, 9005);
	buf_free(&b);
	assert_null(b.data);
}

/* RFC 3720, B.4 */
static void crc_of_the_rfc(void **state)
{
	u8 data[32] = {0};

	(void)state;
	assert_int_equal(crc32c(0, data, 32), 0x8a9136aa);
	memset(data, 0xff, 32);
	assert_int_equal(crc32c(0, data, 32), 0x62a8ab43);
	for (u8 i = 0; i < 32; i++)
		data[i] = i;
	assert_int_equal(crc32c(0, data, 32), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, data, 13), data + 13, 19),
			 0x46dd794e);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(grows),
		cmocka_unit_test(crc_of_the_rfc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
