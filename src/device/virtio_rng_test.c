/* SPDX-License-Identifier: BSD-2-Clause */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <unistd.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/vboard.h"
#include "device/virtio_rng.h"

static unsigned different(const u8 *p, unsigned n)
{
	bool seen[256] = {false};
	unsigned count = 0;

	for (unsigned i = 0; i < n; i++)
		if (!seen[p[i]]) {
			seen[p[i]] = true;
			count++;
		}
	return count;
}

static void test_bytes(void **state)
{
	struct vboard *b = vboard_new(NULL);
	struct virtio *v = vrng_new(&b->mem, b->loop, NULL);
	struct vfn f = vboard_add(b, v);
	struct vdrv_buf bufs[2];
	struct vdrv_queue q;
	u32 len;

	(void)state;
	assert_int_equal(vfn_cfg(&f, 0, 4), 0x10441af4);
	assert_true(vfn_negotiate(&f, VIRTIO_F_VERSION_1));
	vfn_queue(&f, 0, 64, &q);
	vfn_go(&f);
	bufs[0] = (struct vdrv_buf){vboard_buf(b, 4096), 3, true};
	bufs[1] = (struct vdrv_buf){vboard_buf(b, 65536), 65536, true};
	for (unsigned i = 0; i < 25; i++)
		vdrv_add(&q, bufs, 2);
	vfn_kick(&f, 0);
	for (unsigned i = 0; i < 25; i++) {
		assert_int_not_equal(vdrv_wait(&q, &len, 3000), -1);
		assert_int_equal(len, 4096);
	}
	assert_true(different(vboard_ptr(b, bufs[1].gpa), 4093) > 200);
	assert_int_equal(different(vboard_ptr(b, bufs[1].gpa + 4093), 999), 1);
	/* nothing to write to: nothing is written */
	bufs[0].in = bufs[1].in = false;
	vdrv_add(&q, bufs, 2);
	vfn_kick(&f, 0);
	assert_int_not_equal(vdrv_wait(&q, &len, 3000), -1);
	assert_int_equal(len, 0);
	dev_test(&(struct dev_test){
		.dev = &v->dev,
		.range = {{0x5000, &vfn_bar_ops, &f}},
	});
	vboard_free(b);
}

static void begin(void *arg)
{
	mem_absent_begin(arg);
}

/* A loop that must not sleep leaves guest memory alone until all is there. */
static void test_memory_absent(void **state)
{
	struct vboard *b = vboard_new(NULL);
	struct virtio *v = vrng_new(&b->mem, b->loop, NULL);
	struct vfn f = vboard_add(b, v);
	struct vdrv_buf buf;
	struct vdrv_queue q;
	u32 len;

	(void)state;
	assert_true(vfn_negotiate(&f, VIRTIO_F_VERSION_1));
	vfn_queue(&f, 0, 64, &q);
	vfn_go(&f);
	loop_call(b->loop, begin, &b->mem);
	while (!mem_absent(&b->mem))
		usleep(1000);
	assert_false(mem_would_sleep(&b->mem)); /* we are another thread */
	buf = (struct vdrv_buf){vboard_buf(b, 4096), 4096, true};
	vdrv_add(&q, &buf, 1);
	vfn_kick(&f, 0);
	assert_int_equal(vdrv_wait(&q, &len, 50), -1);
	mem_absent_end(&b->mem);
	virtio_kick_all(v);
	assert_int_not_equal(vdrv_wait(&q, &len, 3000), -1);
	assert_int_equal(len, 4096);
	vboard_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_memory_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
