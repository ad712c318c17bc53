/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The console through PCI: with the driver of a plain one and with named
 * ports, slow backends, data of any amount in order, and resets.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/vboard.h"
#include "device/virtio_console.h"

#define F_SIZE      BIT64(0)
#define F_MULTIPORT BIT64(1)

enum {
	READY = 0,
	ADD = 1,
	PORT_READY = 3,
	CONSOLE = 4,
	RESIZE = 5,
	OPEN = 6,
	NAME = 7
};

/* A backend that keeps what is written and gives what it has. */
struct fake {
	struct chr chr;
	u8 out[1 << 18];
	u32 nout;  /* atomic */
	u32 block; /* atomic: write() waits while set */
	u32 rooms; /* atomic */
	bool *freed;
};

static size_t fake_write(struct chr *c, const void *buf, size_t n)
{
	struct fake *f = (struct fake *)c;

	while (__atomic_load_n(&f->block, __ATOMIC_SEQ_CST))
		usleep(100);
	assert_true(f->nout + n <= sizeof(f->out));
	memcpy(f->out + f->nout, buf, n);
	__atomic_add_fetch(&f->nout, (u32)n, __ATOMIC_SEQ_CST);
	return n;
}

static void fake_free(struct chr *c)
{
	free(c);
}

static void fake_room(struct chr *c)
{
	__atomic_add_fetch(&((struct fake *)c)->rooms, 1, __ATOMIC_SEQ_CST);
}

static const struct chr_ops fake_ops = {.write = fake_write, .free = fake_free};

static struct fake *fake_new(void)
{
	struct fake *f = calloc(1, sizeof(*f));

	f->chr.ops = &fake_ops;
	f->chr.room = fake_room;
	return f;
}

static size_t fake_input(struct fake *f, const void *buf, size_t n)
{
	return f->chr.input(f->chr.input_arg, buf, n);
}

struct rig {
	struct vboard *b;
	struct virtio *v;
	struct vfn f;
	struct vdrv_queue q[6];
	struct fake *chr[3];
	u64 buf[6]; /* of each queue, 16 buffers of 256 bytes */
};

static struct rig *rig_new(unsigned named)
{
	static const char *const names[] = {"org.sublet.a", "org.sublet.b"};
	struct rig *r = calloc(1, sizeof(*r));
	struct vcon_named ports[2];

	r->b = vboard_new(NULL);
	r->chr[0] = fake_new();
	for (unsigned i = 0; i < named; i++) {
		r->chr[i + 1] = fake_new();
		ports[i] = (struct vcon_named){names[i], &r->chr[i + 1]->chr};
	}
	r->v = vcon_new(&r->b->mem, &r->chr[0]->chr, ports, named, NULL);
	assert_non_null(r->v);
	r->f = vboard_add(r->b, r->v);
	for (unsigned i = 0; i < 6; i++)
		r->buf[i] = vboard_buf(r->b, 16 * 256);
	return r;
}

static void rig_free(struct rig *r)
{
	vboard_free(r->b);
	free(r);
}

static void give(struct rig *r, unsigned q, u32 len)
{
	for (unsigned i = 0; i < 16; i++) {
		struct vdrv_buf b = {r->buf[q] + 256 * i, len, true};

		vdrv_add(&r->q[q], &b, 1);
	}
	vfn_kick(&r->f, q);
}

static void rig_go(struct rig *r, u64 features)
{
	unsigned n = features & F_MULTIPORT ? 6 : 2;

	vfn_msix(&r->f, n + 1);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < n; i++)
		vfn_queue(&r->f, i, 16, &r->q[i]);
	vfn_go(&r->f);
	for (unsigned i = 0; i < n; i += 2)
		give(r, i, 64);
}

static void send(struct rig *r, unsigned q, const void *data, u32 len)
{
	struct vdrv_buf b = {r->buf[q], len, false};
	u32 got;

	memcpy(vboard_ptr(r->b, r->buf[q]), data, len);
	vdrv_add(&r->q[q], &b, 1);
	vfn_kick(&r->f, q);
	assert_int_not_equal(vdrv_wait(&r->q[q], &got, 3000), -1);
}

static void control(struct rig *r, u32 id, u16 event, u16 value)
{
	u16 m[4] = {(u16)id, (u16)(id >> 16), event, value};

	send(r, 3, m, 8);
}

/* The next message on queue q into out; its length. */
static u32 receive(struct rig *r, unsigned q, void *out, unsigned ms)
{
	u32 len;
	int id = vdrv_wait(&r->q[q], &len, ms);
	struct vdrv_buf b;

	if (id < 0)
		return 0;
	/* buffers were added in order of ids, one descriptor each */
	b = (struct vdrv_buf){r->buf[q] + 256 * (u64)id, 64, true};
	memcpy(out, vboard_ptr(r->b, b.gpa), len);
	vdrv_add(&r->q[q], &b, 1);
	vfn_kick(&r->f, q);
	return len;
}

static void expect(struct rig *r, u32 id, u16 event, u16 value,
		   const char *more, u32 n)
{
	u8 m[64];
	u16 want[4] = {(u16)id, 0, event, value};

	assert_int_equal(receive(r, 2, m, 3000), 8 + n);
	assert_memory_equal(m, want, 8);
	assert_memory_equal(m + 8, more, n);
}

static void test_plain(void **state)
{
	struct rig *r = rig_new(0);
	u8 in[64];

	(void)state;
	assert_int_equal(vfn_offered(&r->f) & 3, F_SIZE);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_NUM_QUEUES, 2), 2);
	rig_go(r, F_SIZE);
	send(r, 1, "hello\n", 6);
	assert_true(vboard_until(&r->chr[0]->nout, 6, 2000));
	assert_memory_equal(r->chr[0]->out, "hello\n", 6);
	assert_int_equal(fake_input(r->chr[0], (const u8 *)"abc", 3), 3);
	assert_int_equal(receive(r, 0, in, 3000), 3);
	assert_memory_equal(in, "abc", 3);
	vcon_resize(r->v, 100, 40);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 100 | 40 << 16);
	vfn_put(&r->f, r->f.config + 8, '!', 4);
	assert_int_equal(r->chr[0]->out[6], '!');
	/* the end of input is nothing a console can show */
	assert_int_equal(fake_input(r->chr[0], NULL, 0), 0);
	rig_free(r);
}

static void announce(struct rig *r)
{
	control(r, 0, READY, 1);
	for (unsigned i = 0; i < 3; i++)
		expect(r, i, ADD, 1, NULL, 0);
	control(r, 0, PORT_READY, 1);
	expect(r, 0, CONSOLE, 1, NULL, 0);
	expect(r, 0, OPEN, 1, NULL, 0);
}

static void test_ports(void **state)
{
	struct rig *r = rig_new(2);
	u8 in[64];

	(void)state;
	rig_go(r, F_MULTIPORT | VIRTIO_F_RING_PACKED);
	announce(r);
	control(r, 1, PORT_READY, 1);
	expect(r, 1, OPEN, 1, NULL, 0);
	expect(r, 1, NAME, 1, "org.sublet.a", 12);
	/* closed: input waits at its backend */
	assert_int_equal(fake_input(r->chr[1], "x", 1), 0);
	r->chr[1]->rooms = 0;
	control(r, 1, OPEN, 1);
	assert_true(vboard_until(&r->chr[1]->rooms, 1, 2000));
	assert_int_equal(fake_input(r->chr[1], "xyz", 3), 3);
	assert_int_equal(receive(r, 4, in, 3000), 3);
	assert_memory_equal(in, "xyz", 3);
	send(r, 5, "out", 3);
	assert_true(vboard_until(&r->chr[1]->nout, 3, 2000));
	/* the host hangs up */
	fake_input(r->chr[1], NULL, 0);
	expect(r, 1, OPEN, 0, NULL, 0);
	fake_input(r->chr[1], NULL, 0);
	assert_int_equal(receive(r, 2, in, 20), 0);
	control(r, 1, OPEN, 0);
	assert_int_equal(fake_input(r->chr[1], "x", 1), 0);
	rig_free(r);
}

static void test_hung_up_before(void **state)
{
	struct rig *r = rig_new(2);
	u8 in[64];

	(void)state;
	fake_input(r->chr[1], NULL, 0);
	rig_go(r, F_MULTIPORT);
	announce(r);
	control(r, 1, PORT_READY, 1);
	expect(r, 1, NAME, 1, "org.sublet.a", 12);
	assert_int_equal(receive(r, 2, in, 20), 0);
	rig_free(r);
}

static void test_resize_message(void **state)
{
	struct rig *r = rig_new(2);
	u16 size[2] = {25, 80};

	(void)state;
	rig_go(r, F_MULTIPORT | F_SIZE);
	announce(r);
	control(r, 0, OPEN, 1);
	vcon_resize(r->v, 80, 25);
	expect(r, 0, RESIZE, 1, (char *)size, 4);
	rig_free(r);
}

static void test_wrong_messages(void **state)
{
	struct rig *r = rig_new(2);
	u8 in[64];

	(void)state;
	rig_go(r, F_MULTIPORT);
	control(r, 7, PORT_READY, 1);
	control(r, ~0u, OPEN, 1);
	control(r, 1, 99, 1);
	control(r, 1, PORT_READY, 0);
	control(r, 0, READY, 0);
	send(r, 3, "short", 5);
	assert_int_equal(receive(r, 2, in, 20), 0);
	announce(r);
	rig_free(r);
}

/* More control messages than buffers: none is lost. */
static void test_few_control_buffers(void **state)
{
	struct rig *r = rig_new(2);
	struct vdrv_buf b = {r->buf[2], 64, true};
	u16 got[4];
	u32 len;

	(void)state;
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | F_MULTIPORT));
	for (unsigned i = 0; i < 6; i++)
		vfn_queue(&r->f, i, 16, &r->q[i]);
	vfn_go(&r->f);
	control(r, 0, READY, 1);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vdrv_wait(&r->q[2], &len, 10), -1);
		vdrv_add(&r->q[2], &b, 1);
		vfn_kick(&r->f, 2);
		assert_int_not_equal(vdrv_wait(&r->q[2], &len, 3000), -1);
		memcpy(got, vboard_ptr(r->b, r->buf[2]), 8);
		assert_int_equal(got[0], i);
		assert_int_equal(got[2], ADD);
	}
	rig_free(r);
}

/* 100 KiB to the guest, whose buffers are small and few, in order. */
static void test_input_flow(void **state)
{
	struct rig *r = rig_new(0);
	u32 sent = 0, seen = 0, total = 100 * 1024;
	u8 in[64], out[1000];

	(void)state;
	rig_go(r, VIRTIO_F_EVENT_IDX);
	while (seen < total) {
		u32 want = MIN(total - sent, 1000u), n;

		for (u32 i = 0; i < want; i++)
			out[i] = (u8)((sent + i) * 7 >> 3);
		r->chr[0]->rooms = 0;
		n = want ? (u32)fake_input(r->chr[0], out, want) : 0;
		sent += n;
		if (want && !n)
			assert_true(seen < sent);
		while ((n = receive(r, 0, in, sent == seen ? 0 : 3000))) {
			for (u32 i = 0; i < n; i++)
				assert_int_equal(in[i],
						 (u8)((seen + i) * 7 >> 3));
			seen += n;
			if (seen == sent)
				break;
		}
		/* new buffers were announced to a backend that had more */
		if (want == 1000 && sent % 1000)
			assert_true(vboard_until(&r->chr[0]->rooms, 1, 2000));
	}
	assert_int_equal(seen, total);
	rig_free(r);
}

/* A backend that blocks holds the guest up, and a reset waits for it. */
static void *unblock(void *arg)
{
	usleep(50000);
	__atomic_store_n(&((struct fake *)arg)->block, 0, __ATOMIC_SEQ_CST);
	return NULL;
}

static void test_slow_backend(void **state)
{
	struct rig *r = rig_new(0);
	struct vdrv_buf b = {r->buf[1], 5, false};
	pthread_t t;
	u32 len;

	(void)state;
	rig_go(r, 0);
	r->chr[0]->block = 1;
	memcpy(vboard_ptr(r->b, r->buf[1]), "block", 5);
	vdrv_add(&r->q[1], &b, 1);
	vdrv_add(&r->q[1], &b, 1);
	vfn_kick(&r->f, 1);
	assert_int_equal(vdrv_wait(&r->q[1], &len, 20), -1);
	/* the other direction goes on, and so do the registers */
	assert_int_equal(fake_input(r->chr[0], "abc", 3), 3);
	assert_int_equal(vfn_status(&r->f), 15);
	pthread_create(&t, NULL, unblock, r->chr[0]);
	assert_int_not_equal(vdrv_wait(&r->q[1], &len, 3000), -1);
	assert_int_not_equal(vdrv_wait(&r->q[1], &len, 3000), -1);
	pthread_join(t, NULL);
	assert_memory_equal(r->chr[0]->out, "blockblock", 10);

	r->chr[0]->block = 1;
	vdrv_add(&r->q[1], &b, 1);
	vfn_kick(&r->f, 1);
	usleep(5000);
	pthread_create(&t, NULL, unblock, r->chr[0]);
	vfn_set_status(&r->f, 0);
	assert_int_equal(r->chr[0]->nout, 15);
	pthread_join(t, NULL);
	rig_free(r);
}

static void test_reset_closes(void **state)
{
	struct rig *r = rig_new(2);

	(void)state;
	rig_go(r, F_MULTIPORT);
	announce(r);
	control(r, 1, OPEN, 1);
	assert_int_equal(fake_input(r->chr[1], "x", 1), 1);
	vfn_set_status(&r->f, 0);
	assert_int_equal(fake_input(r->chr[1], "x", 1), 0);
	rig_go(r, F_MULTIPORT);
	assert_int_equal(fake_input(r->chr[1], "x", 1), 0);
	announce(r);
	rig_free(r);
}

static void test_class(void **state)
{
	struct rig *r = rig_new(2);

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
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_ports),
		cmocka_unit_test(test_hung_up_before),
		cmocka_unit_test(test_resize_message),
		cmocka_unit_test(test_wrong_messages),
		cmocka_unit_test(test_few_control_buffers),
		cmocka_unit_test(test_input_flow),
		cmocka_unit_test(test_slow_backend),
		cmocka_unit_test(test_reset_closes),
		cmocka_unit_test(test_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
