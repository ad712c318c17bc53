/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/fw_cfg.h"

#include "bus/dev_testing.h"

struct fix {
	struct mem mem;
	struct fw_cfg *f;
	struct io_space *s;
	u8 writable[8];
	unsigned writes;
};

static void written(void *arg)
{
	((struct fix *)arg)->writes++;
}

static int setup(void **state)
{
	struct fix *x = calloc(1, sizeof(*x));

	assert_int_equal(mem_init(&x->mem, 4 * MIB, NULL), 0);
	assert_int_equal(mem_add_slot(&x->mem, 0, 4 * MIB, 0, false, NULL), 0);
	x->f = fw_cfg_new(&x->mem);
	x->s = io_space_new("ports");
	io_map(x->s, FW_CFG_PORT, FW_CFG_SIZE, &dev_io_ops, x->f, "fw_cfg",
	       NULL);
	fw_cfg_add_item(x->f, 0x05, "\x02\0", 2, NULL);
	fw_cfg_add_file(x->f, "etc/one", "first", 5, NULL);
	fw_cfg_add_writable(x->f, "etc/two", x->writable, 8, written, x, NULL);
	*state = x;
	return 0;
}

static int teardown(void **state)
{
	struct fix *x = *state;

	io_space_free(x->s);
	dev_free(fw_cfg_dev(x->f));
	mem_fini(&x->mem);
	free(x);
	return 0;
}

static void fetch(struct fix *x, u16 key, void *buf, unsigned n)
{
	io_write(x->s, 0x510, key, 2);
	for (unsigned i = 0; i < n; i++)
		((u8 *)buf)[i] = (u8)io_read(x->s, 0x511, 1);
}

static void test_ports(void **state)
{
	struct fix *x = *state;
	u8 b[140];

	fetch(x, 0, b, 6);
	assert_memory_equal(b, "QEMU\0\0", 6);
	fetch(x, 1, b, 4);
	assert_memory_equal(b, "\3\0\0\0", 4);
	fetch(x, 5, b, 2);
	assert_memory_equal(b, "\2\0", 2);
	fetch(x, 0x19, b, 132);
	assert_memory_equal(b, "\0\0\0\2\0\0\0\5\0\x20\0\0etc/one\0", 20);
	assert_memory_equal(b + 68, "\0\0\0\x8\0\x21\0\0etc/two\0", 16);
	fetch(x, 0x20, b, 8);
	assert_memory_equal(b, "first\0\0\0", 8);
	fetch(x, 0x7777, b, 2);
	assert_memory_equal(b, "\0\0", 2);
	fetch(x, 0x8000, b, 1);
	assert_int_equal(b[0], 0);
	io_write(x->s, 0x510, 0x20, 2);
	assert_int_equal(io_read(x->s, 0x511, 4), 0x73726966);
}

static u32 dma(struct fix *x, u32 control, u32 len, u64 address)
{
	u8 d[16];
	u32 r;

	for (unsigned i = 0; i < 4; i++) {
		d[i] = (u8)(control >> (24 - 8 * i));
		d[4 + i] = (u8)(len >> (24 - 8 * i));
	}
	for (unsigned i = 0; i < 8; i++)
		d[8 + i] = (u8)(address >> (56 - 8 * i));
	mem_write(&x->mem, 0x2000, d, 16);
	io_write(x->s, 0x514, 0, 4);
	io_write(x->s, 0x518, 0x00200000, 4); /* 0x2000, big-endian */
	mem_read(&x->mem, 0x2000, &r, 4);
	return __builtin_bswap32(r);
}

static void test_dma(void **state)
{
	struct fix *x = *state;
	u8 b[16];

	assert_int_equal(io_read(x->s, 0x514, 4), 0x554d4551);
	assert_int_equal(io_read(x->s, 0x518, 4), 0x47464320);
	memset(x->mem.base + 0x3000, 0xee, 16);
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 2, 7, 0x3000), 0);
	mem_read(&x->mem, 0x3000, b, 8);
	assert_memory_equal(b, "first\0\0\xee", 8);
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 4, 2, 0), 0);
	assert_int_equal(dma(x, 2, 3, 0x3000), 0);
	mem_read(&x->mem, 0x3000, b, 3);
	assert_memory_equal(b, "rst", 3);
	/* writing: what can be written, where it fits */
	mem_write(&x->mem, 0x3000, "ABCDEFGH", 8);
	assert_int_equal(dma(x, 0x21 << 16 | 8 | 16, 4, 0x3000), 0);
	assert_int_equal(x->writes, 1);
	assert_memory_equal(x->writable, "ABCD\0\0\0\0", 8);
	assert_int_equal(dma(x, 16, 5, 0x3000), 1);
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 16, 1, 0x3000), 1);
	assert_int_equal(x->writes, 1);
	/* no memory there; lengths beyond reason */
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 2, 5, 0x40000000), 1);
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 2, 0xffffffff, 0x3000), 1);
	assert_int_equal(dma(x, 0x20 << 16 | 8 | 4, 0xffffffff, 0), 0);
	assert_int_equal(dma(x, 4, 0xffffffff, 0), 0);
	assert_int_equal(dma(x, 2, 1, 0x3000), 0);
}

static void test_limits(void **state)
{
	struct fix *x = *state;
	char name[80];
	struct err e;
	int rc = 0;

	memset(name, 'x', sizeof(name));
	name[56] = 0;
	assert_int_equal(fw_cfg_add_file(x->f, name, "", 0, &e), -28);
	name[55] = 0;
	for (unsigned i = 0; i < 62; i++)
		rc |= fw_cfg_add_file(x->f, name, "y", 1, &e);
	assert_int_equal(rc, 0);
	assert_int_equal(fw_cfg_add_file(x->f, "more", "", 0, &e), -28);
	assert_string_equal(e.text, "no room for the fw_cfg file more");
}

static void test_generic(void **state)
{
	struct fix *x = *state;

	dev_test(&(struct dev_test){
		.dev = fw_cfg_dev(x->f),
		.range = {{.size = FW_CFG_SIZE}},
	});
}

#define T(n) cmocka_unit_test_setup_teardown(n, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_ports),
		T(test_dma),
		T(test_limits),
		T(test_generic),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
