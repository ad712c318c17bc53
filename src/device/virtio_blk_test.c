/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The block device through PCI, on a file of 4 MiB, with the rings a driver
 * keeps: every request type, many at once against a model, what must be
 * refused, and a driver that resets in the middle.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/vboard.h"
#include "device/virtio_blk.h"

#define SIZE (4 * MIB)

#define F_RO     BIT64(5)
#define F_FLUSH  BIT64(9)
#define F_WCE    BIT64(11)
#define F_MQ     BIT64(12)
#define F_TRIM   BIT64(13)
#define F_ZEROES BIT64(14)

enum { IN = 0, OUT = 1, FLUSH = 4, GET_ID = 8, DISCARD = 11, ZEROES = 13 };

struct rig {
	struct vboard *b;
	struct virtio *v;
	struct vfn f;
	struct vdrv_queue q[4];
	char path[64];
	u64 head, data, status; /* buffers of the single requests */
};

static struct rig *rig_new(bool readonly, unsigned queues)
{
	struct rig *r = calloc(1, sizeof(*r));
	u8 *fill = malloc(SIZE);
	struct err e;
	int fd;

	for (unsigned i = 0; i < SIZE; i++)
		fill[i] = (u8)(i / 512 + i);
	strcpy(r->path, "/tmp/blk_test.XXXXXX");
	fd = mkstemp(r->path);
	assert_int_equal(write(fd, fill, SIZE), SIZE);
	close(fd);
	free(fill);
	r->b = vboard_new(NULL);
	r->v = vblk_new(&r->b->mem, disk_raw_open(r->path, readonly, &e),
			queues, "serial-0123456789abcdef", &e);
	assert_non_null(r->v);
	r->f = vboard_add(r->b, r->v);
	r->head = vboard_buf(r->b, 512);
	r->data = vboard_buf(r->b, 64 * KIB);
	r->status = vboard_buf(r->b, 1);
	return r;
}

static void rig_free(struct rig *r)
{
	vboard_free(r->b);
	unlink(r->path);
	free(r);
}

static void rig_go(struct rig *r, u64 features, unsigned queues)
{
	vfn_msix(&r->f, queues + 1);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < queues; i++)
		vfn_queue(&r->f, i, 64, &r->q[i]);
	vfn_go(&r->f);
}

static void put_header(struct rig *r, u64 at, u32 type, u64 sector)
{
	u64 h[2] = {type, sector};

	memcpy(vboard_ptr(r->b, at), h, 16);
}

/* One request of up to 64 KiB; the status, or -1 if it never ends. */
static int request(struct rig *r, u32 type, u64 sector, u32 len)
{
	bool in = type == IN || type == GET_ID;
	struct vdrv_buf b[3] = {
		{r->head, 16, false}, {r->data, len, in}, {r->status, 1, true}};
	u8 *status = vboard_ptr(r->b, r->status);
	u32 got;

	put_header(r, r->head, type, sector);
	*status = 0xee;
	if (!len)
		b[1] = b[2];
	assert_int_equal(vdrv_add(&r->q[0], b, len ? 3 : 2) < 0, 0);
	vfn_kick(&r->f, 0);
	if (vdrv_wait(&r->q[0], &got, 3000) < 0)
		return -1;
	assert_int_equal(got, in ? len + 1 : 1);
	return *status;
}

static u8 *data(struct rig *r)
{
	return vboard_ptr(r->b, r->data);
}

static u64 allocated(struct rig *r)
{
	struct stat st;

	assert_int_equal(stat(r->path, &st), 0);
	return (u64)st.st_blocks * 512;
}

static void test_config(void **state)
{
	struct rig *r = rig_new(false, 9);
	u64 c = r->f.config;

	(void)state;
	assert_int_equal(vfn_cfg(&r->f, 0, 4), 0x10421af4);
	assert_int_equal(vfn_get(&r->f, c, 8), SIZE / 512);
	assert_int_equal(vfn_get(&r->f, c + 12, 4), 254);
	assert_int_equal(vfn_get(&r->f, c + 20, 4), 512);
	assert_int_equal(vfn_get(&r->f, c + 24, 1), 3);
	assert_int_equal(vfn_get(&r->f, c + 32, 1), 1);
	assert_int_equal(vfn_get(&r->f, c + 34, 2), 4);
	assert_int_not_equal(vfn_offered(&r->f) & F_MQ, 0);
	assert_int_equal(vfn_offered(&r->f) & F_RO, 0);
	rig_free(r);
}

static void test_requests(void **state)
{
	static const u64 modes[] = {
		0, VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX,
		VIRTIO_F_RING_PACKED | VIRTIO_F_INDIRECT_DESC,
		VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(false, 1);

		rig_go(r, modes[i] | F_FLUSH, 1);
		assert_int_equal(request(r, IN, 8, 4096), 0);
		assert_int_equal(data(r)[0], 8);
		assert_int_equal(data(r)[513], (u8)(8 + 1 + 513));
		memset(data(r), 0x77, 1024);
		assert_int_equal(request(r, OUT, 9, 1024), 0);
		assert_int_equal(request(r, FLUSH, 0, 0), 0);
		assert_int_equal(request(r, IN, 8, 4096), 0);
		assert_int_equal(data(r)[511], (u8)(8 + 511));
		assert_int_equal(data(r)[512], 0x77);
		assert_int_equal(data(r)[1535], 0x77);
		assert_int_equal(data(r)[1536], 11);
		assert_int_equal(request(r, GET_ID, 0, 20), 0);
		assert_memory_equal(data(r), "serial-0123456789abc", 20);
		assert_int_equal(request(r, IN, 0, 65024), 0);
		assert_int_equal(request(r, IN, SIZE / 512 - 1, 512), 0);
		rig_free(r);
	}
}

static void test_refused(void **state)
{
	struct rig *r = rig_new(false, 1);

	(void)state;
	rig_go(r, F_FLUSH, 1);
	assert_int_equal(request(r, IN, SIZE / 512, 512), 1);
	assert_int_equal(request(r, IN, SIZE / 512 - 1, 1024), 1);
	assert_int_equal(request(r, IN, ~0ull, 512), 1);
	assert_int_equal(request(r, IN, ~0ull >> 9, 1024), 1);
	assert_int_equal(request(r, IN, 0, 513), 1);
	assert_int_equal(request(r, OUT, 0, 100), 1);
	assert_int_equal(request(r, 2, 0, 512), 2);
	assert_int_equal(request(r, 0xffffffff, 0, 512), 2);
	assert_int_equal(request(r, IN, 0, 512), 0);
	rig_free(r);
}

static void put_range(struct rig *r, unsigned i, u64 sector, u32 n, u32 flags)
{
	u64 v[2] = {sector, n | (u64)flags << 32};

	memcpy(data(r) + 16 * i, v, 16);
}

static void test_ranges(void **state)
{
	struct rig *r = rig_new(false, 1);
	u64 before = allocated(r);

	(void)state;
	rig_go(r, F_FLUSH | F_TRIM | F_ZEROES, 1);
	put_range(r, 0, 10, 2, 0);
	put_range(r, 1, 20, 1, 1);
	assert_int_equal(request(r, ZEROES, 0, 32), 0);
	assert_int_equal(request(r, IN, 9, 512 * 13), 0);
	for (unsigned s = 0; s < 13; s++) {
		bool zero = s == 1 || s == 2 || s == 11;

		assert_int_equal(data(r)[512 * s + 1],
				 zero ? 0 : (u8)(9 + s + 1));
	}
	put_range(r, 0, 2048, 2048, 0);
	assert_int_equal(request(r, DISCARD, 0, 16), 0);
	assert_true(allocated(r) < before);

	put_range(r, 0, SIZE / 512, 1, 0);
	assert_int_equal(request(r, ZEROES, 0, 16), 1);
	put_range(r, 0, 8, 0xffffffff, 0);
	assert_int_equal(request(r, ZEROES, 0, 16), 1);
	put_range(r, 0, 8, 1, 2);
	assert_int_equal(request(r, ZEROES, 0, 16), 2);
	put_range(r, 0, 8, 1, 1);
	assert_int_equal(request(r, DISCARD, 0, 16), 2);
	/* a bad second range: the first is not done either */
	put_range(r, 0, 30, 1, 0);
	put_range(r, 1, ~0ull, 1, 0);
	assert_int_equal(request(r, ZEROES, 0, 32), 1);
	assert_int_equal(request(r, ZEROES, 0, 17), 1);
	assert_int_equal(request(r, ZEROES, 0, 16 * 17), 1);
	assert_int_equal(request(r, IN, 30, 512), 0);
	assert_int_equal(data(r)[1], 31);
	rig_free(r);
}

static void test_readonly(void **state)
{
	struct rig *r = rig_new(true, 1);

	(void)state;
	assert_int_equal(vfn_offered(&r->f) & (F_RO | F_TRIM | F_ZEROES), F_RO);
	rig_go(r, F_RO, 1);
	assert_int_equal(request(r, OUT, 0, 512), 1);
	put_range(r, 0, 0, 1, 0);
	assert_int_equal(request(r, ZEROES, 0, 16), 1);
	assert_int_equal(request(r, IN, 0, 512), 0);
	assert_int_equal(data(r)[1], 1);
	rig_free(r);
}

static void test_writeback(void **state)
{
	struct rig *r = rig_new(false, 1);

	(void)state;
	rig_go(r, F_FLUSH | F_WCE, 1);
	vfn_put(&r->f, r->f.config + 32, 0, 1);
	assert_int_equal(vfn_get(&r->f, r->f.config + 32, 1), 0);
	assert_int_equal(request(r, OUT, 0, 512), 0);
	vfn_put(&r->f, r->f.config, 0, 4); /* capacity is not writable */
	assert_int_equal(vfn_get(&r->f, r->f.config, 8), SIZE / 512);
	vfn_set_status(&r->f, 0);
	assert_int_equal(vfn_get(&r->f, r->f.config + 32, 1), 1);
	rig_go(r, F_FLUSH, 1); /* not agreed: not writable */
	vfn_put(&r->f, r->f.config + 32, 0, 1);
	assert_int_equal(vfn_get(&r->f, r->f.config + 32, 1), 1);
	rig_free(r);
}

static void test_disk_full(void **state)
{
	struct rig *r = rig_new(false, 1);
	struct rlimit lim, old;

	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	rig_go(r, F_FLUSH, 1);
	getrlimit(RLIMIT_FSIZE, &old);
	lim = (struct rlimit){SIZE / 2, old.rlim_max};
	setrlimit(RLIMIT_FSIZE, &lim);
	assert_int_equal(request(r, OUT, SIZE / 512 - 8, 4096), 1);
	setrlimit(RLIMIT_FSIZE, &old);
	assert_int_equal(request(r, OUT, SIZE / 512 - 8, 4096), 0);
	assert_int_equal(vfn_status(&r->f), 15);
	rig_free(r);
}

static void break_it(struct rig *r, struct vdrv_buf *b, unsigned n)
{
	u32 len;

	rig_go(r, F_FLUSH, 1);
	vdrv_add(&r->q[0], b, n);
	vfn_kick(&r->f, 0);
	assert_int_equal(vdrv_wait(&r->q[0], &len, 20), -1);
	assert_int_equal(vfn_status(&r->f), 15 | 64);
}

static void test_malformed(void **state)
{
	struct rig *r = rig_new(false, 1);
	struct vdrv_buf no_status = {r->head, 16, false};
	struct vdrv_buf no_header = {r->status, 1, true};
	struct vdrv_buf cut[2] = {{r->head, 15, false}, {r->status, 1, true}};

	(void)state;
	put_header(r, r->head, FLUSH, 0);
	break_it(r, &no_status, 1);
	break_it(r, &no_header, 1);
	break_it(r, cut, 2);
	rig_go(r, F_FLUSH, 1);
	assert_int_equal(request(r, IN, 0, 512), 0);
	rig_free(r);
}

/* The header in bytes, the data in odd pieces, the status with the data. */
static void test_odd_framing(void **state)
{
	struct rig *r = rig_new(false, 1);
	struct vdrv_buf b[20];
	u32 len;

	(void)state;
	rig_go(r, F_FLUSH, 1);
	put_header(r, r->head, IN, 8);
	for (unsigned i = 0; i < 16; i++)
		b[i] = (struct vdrv_buf){r->head + i, 1, false};
	b[16] = (struct vdrv_buf){r->data, 100, true};
	b[17] = (struct vdrv_buf){r->data + 100, 413, true};
	vdrv_add(&r->q[0], b, 18);
	vfn_kick(&r->f, 0);
	assert_int_not_equal(vdrv_wait(&r->q[0], &len, 3000), -1);
	assert_int_equal(len, 513);
	assert_int_equal(data(r)[511], (u8)(8 + 511));
	assert_int_equal(data(r)[512], 0);
	rig_free(r);
}

#define MANY 16

/* Many requests on four queues, each to its own sectors, read back. */
static void test_many(void **state)
{
	struct rig *r = rig_new(false, 4);
	u64 buf = vboard_buf(r->b, 4 * MANY * 1024);
	u64 head = vboard_buf(r->b, 4 * MANY * 32);

	(void)state;
	rig_go(r, F_FLUSH | F_MQ | VIRTIO_F_EVENT_IDX, 4);
	for (unsigned round = 0; round < 40; round++) {
		for (unsigned n = 0; n < 4 * MANY; n++) {
			u64 at = head + 32 * n, d = buf + 1024 * n;
			struct vdrv_buf b[3] = {{at, 16, false},
						{d, 1024, round & 1},
						{at + 16, 1, true}};

			put_header(r, at, round & 1 ? IN : OUT, 2 * n);
			memset(vboard_ptr(r->b, d),
			       round & 1 ? 0 : (int)(n + round), 1024);
			assert_int_not_equal(vdrv_add(&r->q[n % 4], b, 3), -1);
			vfn_kick(&r->f, n % 4);
		}
		for (unsigned n = 0; n < 4 * MANY; n++) {
			u32 len;

			assert_int_not_equal(
				vdrv_wait(&r->q[n % 4], &len, 3000), -1);
		}
		for (unsigned n = 0; n < 4 * MANY; n++) {
			u8 *d = vboard_ptr(r->b, buf + 1024 * n);

			assert_int_equal(
				*(u8 *)vboard_ptr(r->b, head + 32 * n + 16), 0);
			assert_int_equal(d[0], n + (round & ~1u));
			assert_int_equal(d[1023], n + (round & ~1u));
		}
	}
	rig_free(r);
}

/*
 * A ring full of requests, always, by a driver that kicks only when it is
 * asked to: if the device forgot to ask, the requests would wait for ever.
 */
static void test_full_ring(void **state)
{
	static const u64 modes[] = {0, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED,
				    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX};

	(void)state;
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		struct rig *r = rig_new(false, 1);
		struct vdrv_buf b[3] = {{r->head, 16, false},
					{r->data, 512, true},
					{r->status, 1, true}};
		unsigned done = 0;
		u32 len;

		assert_true(vfn_negotiate(
			&r->f, VIRTIO_F_VERSION_1 | VIRTIO_F_INDIRECT_DESC |
				       modes[m]));
		vfn_queue(&r->f, 0, 4, &r->q[0]);
		vfn_go(&r->f);
		put_header(r, r->head, IN, 0);
		while (done < 3000) {
			u16 old = r->q[0].avail;

			while (vdrv_add(&r->q[0], b, 3) >= 0)
				;
			if (vdrv_wants_kick(&r->q[0], old))
				vfn_kick(&r->f, 0);
			assert_int_not_equal(vdrv_wait(&r->q[0], &len, 5000),
					     -1);
			done++;
		}
		rig_free(r);
	}
}

/* Interrupted by resets while requests are under way. */
static void test_resets(void **state)
{
	struct rig *r = rig_new(false, 1);

	(void)state;
	for (unsigned round = 0; round < 100; round++) {
		rig_go(r, F_FLUSH | (round & 1 ? VIRTIO_F_RING_PACKED : 0), 1);
		for (unsigned n = 0; n < 20; n++) {
			struct vdrv_buf b[3] = {{r->head, 16, false},
						{r->data, 4096, true},
						{r->status, 1, true}};

			put_header(r, r->head, IN, n);
			vdrv_add(&r->q[0], b, 3);
			vfn_kick(&r->f, 0);
		}
		if (round % 3 == 0)
			usleep(200);
		vfn_set_status(&r->f, 0);
		assert_int_equal(vfn_status(&r->f), 0);
	}
	rig_go(r, F_FLUSH, 1);
	assert_int_equal(request(r, IN, 8, 512), 0);
	rig_free(r);
}

static void test_class(void **state)
{
	struct rig *r = rig_new(false, 1);

	(void)state;
	dev_test(&(struct dev_test){
		.dev = &r->v->dev,
		.range = {{0x5000, &vfn_bar_ops, &r->f}},
	});
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_ranges),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_writeback),
		cmocka_unit_test(test_disk_full),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_odd_framing),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_full_ring),
		cmocka_unit_test(test_resets),
		cmocka_unit_test(test_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
