/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/debug_port.h"

#include <fcntl.h>
#include <unistd.h>

#include "bus/dev_testing.h"

static void ended(void *arg, unsigned status)
{
	*(unsigned *)arg = status;
}

static void test_exit(void **state)
{
	unsigned status = 0;
	struct dev *d = debug_exit_new(ended, &status);

	(void)state;
	assert_int_equal(dev_io_ops.read(d, 0, 1), 0);
	dev_io_ops.write(d, 1, 3, 1);
	assert_int_equal(status, 0);
	dev_io_ops.write(d, 0, 0x10, 4);
	assert_int_equal(status, 0x21);
	dev_io_ops.write(d, 0, 0, 1);
	assert_int_equal(status, 1);
	dev_io_ops.write(d, 0, 0xffffffff, 4);
	assert_int_equal(status, 0xff);
	dev_free(d);
}

static void test_console(void **state)
{
	char path[] = "/tmp/debug_testXXXXXX", buf[8];
	int fd = mkstemp(path);
	struct dev *d = debug_console_new(chr_file_new(path, NULL));

	(void)state;
	assert_int_equal(dev_io_ops.read(d, 0, 1), 0xe9);
	dev_io_ops.write(d, 0, 'o', 1);
	dev_io_ops.write(d, 0, 'k', 1);
	dev_free(d);
	assert_int_equal(read(fd, buf, sizeof(buf)), 2);
	assert_memory_equal(buf, "ok", 2);
	close(fd);
	unlink(path);
	d = debug_console_new(NULL);
	dev_io_ops.write(d, 0, 'x', 1);
	dev_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_exit),
		cmocka_unit_test(test_console),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
