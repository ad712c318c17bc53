/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The PCI transport and the virtio core with a toy device of two queues, which
 * gives each chain back with its first readable byte plus one; queue 1 keeps
 * its chains until told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "bus/vboard.h"

struct toy_regs {
	struct virtio_regs v;
};

struct toy {
	struct virtio v;
	struct toy_regs r;
	struct virtq_chain c, *held;
	u8 config[12];
	unsigned resets, stops;
};

static void toy_kick(struct virtio *v, unsigned n)
{
	struct toy *t = (struct toy *)v;
	struct virtq *q = virtio_q(v, n);
	u8 byte;

	while (!t->held && virtq_pop(q, &t->c)) {
		virtq_gather(&t->c, 0, &byte, 1);
		byte++;
		virtq_scatter(&t->c, 0, &byte, 1);
		if (n == 1) {
			__atomic_store_n(&t->held, virtq_chain_dup(&t->c),
					 __ATOMIC_SEQ_CST);
			virtio_hold(v, 1);
			return;
		}
		virtq_push(q, &t->c, 1);
	}
	virtio_signal(v, n);
}

static void toy_finish(struct toy *t)
{
	pthread_mutex_lock(&t->v.dev.lock);
	virtq_push(virtio_q(&t->v, 1), t->held, 1);
	free(t->held);
	t->held = NULL;
	virtio_signal(&t->v, 1);
	virtio_release(&t->v, 1);
	pthread_mutex_unlock(&t->v.dev.lock);
}

static void toy_config_write(struct virtio *v, u32 off, u64 val, unsigned len)
{
	if (off >= 4)
		memcpy(((struct toy *)v)->config + off, &val, len);
}

static void toy_reset(struct virtio *v)
{
	((struct toy *)v)->resets++;
}

static void toy_stop(struct virtio *v, unsigned q)
{
	(void)q;
	((struct toy *)v)->stops++;
}

static const struct state_field toy_fields[] = {
	VIRTIO_FIELDS(struct toy_regs),
};

static const struct state_desc toy_state = {
	.name = "toy",
	.version = 1,
	.size = sizeof(struct toy_regs),
	.fields = toy_fields,
	.nfields = ARRAY_LEN(toy_fields),
	.check = virtio_check,
};

static const struct dev_class toy_class = VIRTIO_CLASS("toy", &toy_state);

static const struct virtio_ops toy_ops = {
	.kick = toy_kick,
	.config_write = toy_config_write,
	.reset = toy_reset,
	.queue_stop = toy_stop,
};

static const struct virtio_type toy_type = {
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00,
	.ops = &toy_ops,
};

struct rig {
	struct vboard *b;
	struct toy *t;
	struct vfn f;
	struct vdrv_queue q[2];
	/* the accelerator */
	u64 at[4];
	int fd[4];
	unsigned n, len;
};

static int rig_ioeventfd(void *arg, gpa_t gpa, unsigned len, int fd, bool add)
{
	struct rig *r = arg;

	if (!add) {
		r->n--;
		return 0;
	}
	r->len = len;
	r->fd[r->n] = fd;
	r->at[r->n++] = gpa;
	return 0;
}

static const struct accel_ops rig_accel = {.ioeventfd = rig_ioeventfd};

static int setup_with(void **state, bool accelerated)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct accel a = {&rig_accel, r};

	r->b = vboard_new(accelerated ? &a : NULL);
	r->t = calloc(1, sizeof(*r->t));
	assert_int_equal(virtio_init(&r->t->v, &toy_type, &toy_class, &r->t->r,
				     &r->b->mem, r->b->loop, 2, 16,
				     VIRTIO_F_TRANSPORT | 5, NULL),
			 0);
	r->t->v.config = r->t->config;
	r->t->v.config_len = sizeof(r->t->config);
	r->f = vboard_add(r->b, &r->t->v);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, false);
}

static int setup_accel(void **state)
{
	return setup_with(state, true);
}

static int teardown(void **state)
{
	struct rig *r = *state;

	vboard_free(r->b);
	free(r);
	return 0;
}

static void rig_go(struct rig *r, u64 features, bool msix)
{
	if (msix)
		vfn_msix(&r->f, 3);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | features));
	vfn_put(&r->f, r->f.common + VFN_CONFIG_VECTOR, 0, 2);
	vfn_queue(&r->f, 0, 16, &r->q[0]);
	vfn_queue(&r->f, 1, 16, &r->q[1]);
	vfn_go(&r->f);
	assert_int_equal(vfn_status(&r->f), 15);
}

static void rig_send(struct rig *r, unsigned q, u8 byte)
{
	struct vdrv_buf b[2] = {{VBOARD_BUFFERS, 1, false},
				{VBOARD_BUFFERS + 1, 1, true}};

	*(u8 *)vboard_ptr(r->b, VBOARD_BUFFERS) = byte;
	assert_int_not_equal(vdrv_add(&r->q[q], b, 2), -1);
}

static void rig_expect(struct rig *r, unsigned q, u8 byte)
{
	u32 len = 0;

	assert_int_not_equal(vdrv_wait(&r->q[q], &len, 2000), -1);
	assert_int_equal(len, 1);
	assert_int_equal(*(u8 *)vboard_ptr(r->b, VBOARD_BUFFERS + 1),
			 (u8)(byte + 1));
}

static void test_identity(void **state)
{
	struct rig *r = *state;

	assert_int_equal(vfn_cfg(&r->f, 0, 4), 0x10441af4);
	assert_int_equal(vfn_cfg(&r->f, 8, 4), 0x00ff0001);
	assert_int_equal(vfn_cfg(&r->f, 0x3d, 1), 1);
	assert_int_equal(vfn_offered(&r->f), VIRTIO_F_TRANSPORT | 5);
	vfn_put(&r->f, r->f.common + VFN_DFSELECT, 2, 4);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_DF, 4), 0);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_NUM_QUEUES, 2), 2);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_SIZE, 2), 16);
}

static void test_negotiation(void **state)
{
	struct rig *r = *state;

	assert_false(vfn_negotiate(&r->f, 0)); /* version 1 is a must */
	assert_false(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | 2));
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | 4));
	/* agreed is agreed */
	vfn_put(&r->f, r->f.common + VFN_GFSELECT, 0, 4);
	vfn_put(&r->f, r->f.common + VFN_GF, 0, 4);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_GF, 4), 4);
	/* without FEATURES_OK there is no DRIVER_OK */
	vfn_set_status(&r->f, 0);
	vfn_set_status(&r->f, 7);
	assert_int_equal(vfn_status(&r->f), 3);
}

static void test_traffic(void **state)
{
	static const u64 features[] = {
		0, VIRTIO_F_RING_PACKED,
		VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX,
		VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX |
			VIRTIO_F_RING_PACKED};
	struct rig *r = *state;
	u32 msis = 0;

	for (unsigned i = 0; i < ARRAY_LEN(features); i++) {
		rig_go(r, features[i], true);
		for (u8 n = 0; n < 100; n++) {
			vdrv_interrupts(&r->q[0], true);
			rig_send(r, 0, n);
			vfn_kick(&r->f, 0);
			rig_expect(r, 0, n);
			assert_true(vboard_until(&r->b->msis[1], ++msis, 2000));
		}
	}
	assert_int_equal(r->b->msis[2], 0);
	assert_int_equal(r->t->resets, ARRAY_LEN(features));
}

static void test_intx(void **state)
{
	struct rig *r = *state;
	u64 end = clock_ns() + 2000000000;

	rig_go(r, 0, false);
	rig_send(r, 0, 1);
	vfn_kick(&r->f, 0);
	rig_expect(r, 0, 1);
	while (!__atomic_load_n(&r->b->intx[1], __ATOMIC_SEQ_CST))
		assert_true(clock_ns() < end);
	assert_int_equal(vfn_get(&r->f, r->f.isr, 1), 1);
	assert_false(r->b->intx[1]);
	assert_int_equal(vfn_get(&r->f, r->f.isr, 1), 0);
}

/* Kicks before DRIVER_OK or without bus mastering are not lost. */
static void test_late_start(void **state)
{
	struct rig *r = *state;
	u32 len;

	vfn_cfg_put(&r->f, 4, 2, 2);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1));
	vfn_queue(&r->f, 0, 16, &r->q[0]);
	rig_send(r, 0, 7);
	vfn_kick(&r->f, 0);
	vfn_go(&r->f);
	vfn_kick(&r->f, 0);
	assert_int_equal(vdrv_wait(&r->q[0], &len, 30), -1);
	vfn_cfg_put(&r->f, 4, 6, 2);
	rig_expect(r, 0, 7);
}

static void test_queue_registers(void **state)
{
	struct rig *r = *state;
	u64 c = r->f.common;

	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1));
	vfn_put(&r->f, c + VFN_SIZE, 8, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_SIZE, 2), 8);
	vfn_put(&r->f, c + VFN_SIZE, 7, 2);
	vfn_put(&r->f, c + VFN_SIZE, 32, 2);
	vfn_put(&r->f, c + VFN_SIZE, 0, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_SIZE, 2), 8);
	vfn_put(&r->f, c + VFN_VECTOR, 3, 2); /* there are 0 to 2 */
	assert_int_equal(vfn_get(&r->f, c + VFN_VECTOR, 2), 0xffff);
	vfn_put(&r->f, c + VFN_VECTOR, 2, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_VECTOR, 2), 2);
	vfn_put(&r->f, c + VFN_DESC, 0x10000, 4);
	vfn_put(&r->f, c + VFN_DESC + 4, 0, 4);
	vfn_put(&r->f, c + VFN_DRIVER, 0x20000, 8);
	vfn_put(&r->f, c + VFN_DEVICE, 0x30000, 8);
	vfn_put(&r->f, c + VFN_ENABLE, 1, 2);
	vfn_put(&r->f, c + VFN_DESC, 0x50000, 8);
	vfn_put(&r->f, c + VFN_ENABLE, 0, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_DESC, 8), 0x10000);
	assert_int_equal(vfn_get(&r->f, c + VFN_ENABLE, 2), 1);
	/* a queue that is not there */
	vfn_put(&r->f, c + VFN_SELECT, 2, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_SIZE, 2), 0);
	vfn_put(&r->f, c + VFN_ENABLE, 1, 2);
	vfn_put(&r->f, c + VFN_DESC, ~0ull, 8);
	vfn_put(&r->f, c + VFN_RESET, 1, 2);
	assert_int_equal(vfn_get(&r->f, c + VFN_DESC, 8), 0);
}

/* Every width at every offset of the BAR: nothing but answers. */
static void test_odd_accesses(void **state)
{
	struct rig *r = *state;
	u64 bar = r->f.common & ~0x7fffull;

	for (u64 off = 0; off < 0x8000; off++)
		for (unsigned len = 1; len <= 8; len *= 2) {
			u64 v = vfn_get(&r->f, bar + off, len);

			if (off + len > 60 && off < 0x1000)
				assert_int_equal(
					v >> (off < 60 ? 8 * (60 - off) : 0),
					0);
			vfn_put(&r->f, bar + off, v ^ 0x5a, len);
		}
	vfn_set_status(&r->f, 0);
	rig_go(r, 0, false);
	rig_send(r, 0, 3);
	vfn_kick(&r->f, 0);
	rig_expect(r, 0, 3);
}

static void test_config(void **state)
{
	struct rig *r = *state;

	memcpy(r->t->config, "\1\2\3\4\5\6\7\10\11\12\13\14", 12);
	assert_int_equal(vfn_get(&r->f, r->f.config + 1, 1), 2);
	assert_int_equal(vfn_get(&r->f, r->f.config + 8, 8), 0x0c0b0a09);
	assert_int_equal(vfn_get(&r->f, r->f.config + 12, 4), 0);
	vfn_put(&r->f, r->f.config, 0xff, 1);
	vfn_put(&r->f, r->f.config + 8, 0x11223344, 4);
	vfn_put(&r->f, r->f.config + 8, ~0ull, 8); /* across the end */
	assert_int_equal(vfn_get(&r->f, r->f.config, 1), 1);
	assert_int_equal(vfn_get(&r->f, r->f.config + 8, 4), 0x11223344);
}

static void test_config_interrupt(void **state)
{
	struct rig *r = *state;
	u8 before = (u8)vfn_get(&r->f, r->f.common + VFN_GENERATION, 1);

	rig_go(r, 0, true);
	pthread_mutex_lock(&r->t->v.dev.lock);
	virtio_config_changed(&r->t->v);
	pthread_mutex_unlock(&r->t->v.dev.lock);
	assert_int_equal(r->b->msis[0], 1);
	assert_int_equal(vfn_get(&r->f, r->f.isr, 1), 2);
	assert_int_equal(vfn_get(&r->f, r->f.common + VFN_GENERATION, 1),
			 (u8)(before + 1));
}

/* The registers by way of configuration space only. */
static void test_window(void **state)
{
	struct rig *r = *state;
	unsigned w = r->f.window;

	vfn_cfg_put(&r->f, 4, 0, 2); /* not even the BAR is needed */
	vfn_cfg_put(&r->f, w + 4, 0, 1);
	vfn_cfg_put(&r->f, w + 8, VFN_STATUS, 4);
	vfn_cfg_put(&r->f, w + 12, 1, 4);
	vfn_cfg_put(&r->f, w + 16, 3, 1);
	assert_int_equal(vfn_cfg(&r->f, w + 16, 1), 3);
	vfn_cfg_put(&r->f, w + 8, VFN_NUM_QUEUES, 4);
	vfn_cfg_put(&r->f, w + 12, 2, 4);
	assert_int_equal(vfn_cfg(&r->f, w + 16, 2), 2);
	/* not an access: the data bytes are only bytes */
	vfn_cfg_put(&r->f, w + 12, 3, 4);
	vfn_cfg_put(&r->f, w + 16, 0xabcdef01, 4);
	assert_int_equal(vfn_cfg(&r->f, w + 16, 4), 0xabcdef01);
	vfn_cfg_put(&r->f, w + 12, 4, 4);
	vfn_cfg_put(&r->f, w + 8, ~3u, 4);
	assert_int_equal(vfn_cfg(&r->f, w + 16, 4), 0xabcdef01);
	vfn_cfg_put(&r->f, w + 4, 1, 1);
	vfn_cfg_put(&r->f, w + 8, VFN_STATUS, 4);
	assert_int_equal(vfn_cfg(&r->f, w + 16, 4), 0xabcdef01);
}

static void test_broken_queue(void **state)
{
	struct rig *r = *state;

	rig_go(r, 0, true);
	vdrv_put_desc(&r->q[0], r->q[0].desc, ~0ull, 16, 0, 0);
	vdrv_put16(&r->q[0], r->q[0].driver + 2, 1);
	vfn_kick(&r->f, 0);
	assert_true(vboard_until(&r->b->msis[0], 1, 2000));
	assert_int_equal(vfn_status(&r->f), 15 | 64);
	assert_int_equal(r->t->v.broken, 1);
	vfn_set_status(&r->f, 15); /* does not help */
	assert_int_equal(vfn_status(&r->f), 15 | 64);
	rig_go(r, 0, true);
	rig_send(r, 0, 9);
	vfn_kick(&r->f, 0);
	rig_expect(r, 0, 9);
}

static void test_ring_outside_memory(void **state)
{
	struct rig *r = *state;

	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1));
	vfn_put(&r->f, r->f.common + VFN_DESC, 0xffffffff0000ull, 8);
	vfn_put(&r->f, r->f.common + VFN_ENABLE, 1, 2);
	vfn_go(&r->f);
	assert_int_equal(vfn_status(&r->f), 15 | 64);
}

static void *finish_later(void *arg)
{
	usleep(50000);
	toy_finish(arg);
	return NULL;
}

/* A reset waits for the request under way; nothing is used afterwards. */
static void test_reset_waits(void **state)
{
	struct rig *r = *state;
	pthread_t t;
	u32 len;

	for (unsigned whole = 0; whole < 2; whole++) {
		rig_go(r, VIRTIO_F_RING_RESET, true);
		rig_send(r, 1, 1);
		vfn_kick(&r->f, 1);
		while (!__atomic_load_n(&r->t->held, __ATOMIC_SEQ_CST))
			usleep(100);
		pthread_create(&t, NULL, finish_later, r->t);
		r->t->stops = 0;
		if (whole) {
			vfn_set_status(&r->f, 0);
			assert_int_equal(vfn_status(&r->f), 0);
		} else {
			vfn_put(&r->f, r->f.common + VFN_SELECT, 1, 2);
			vfn_put(&r->f, r->f.common + VFN_RESET, 1, 2);
			assert_int_equal(
				vfn_get(&r->f, r->f.common + VFN_RESET, 2), 0);
			assert_int_equal(
				vfn_get(&r->f, r->f.common + VFN_ENABLE, 2), 0);
		}
		assert_null(r->t->held);
		assert_int_equal(r->t->stops, whole ? 2 : 1);
		assert_int_equal(vdrv_wait(&r->q[1], &len, 20), -1);
		pthread_join(t, NULL);
	}
	rig_go(r, 0, true);
	rig_send(r, 0, 5);
	vfn_kick(&r->f, 0);
	rig_expect(r, 0, 5);
}

static void test_queue_reset_and_again(void **state)
{
	struct rig *r = *state;

	rig_go(r, VIRTIO_F_RING_RESET | VIRTIO_F_RING_PACKED, true);
	for (u8 i = 0; i < 20; i++) {
		rig_send(r, 0, i);
		vfn_kick(&r->f, 0);
		rig_expect(r, 0, i);
		vfn_put(&r->f, r->f.common + VFN_SELECT, 0, 2);
		vfn_put(&r->f, r->f.common + VFN_RESET, 1, 2);
		vfn_queue(&r->f, 0, 11, &r->q[0]);
	}
}

static void test_pause(void **state)
{
	struct rig *r = *state;
	u32 len;

	rig_go(r, 0, true);
	virtio_pause(&r->t->v);
	rig_send(r, 0, 5);
	vfn_kick(&r->f, 0);
	assert_int_equal(vdrv_wait(&r->q[0], &len, 30), -1);
	virtio_resume(&r->t->v);
	rig_expect(r, 0, 5);
}

static void test_ioeventfd(void **state)
{
	struct rig *r = *state;
	u64 one = 1;

	assert_int_equal(r->n, 2);
	assert_int_equal(r->at[0], r->f.notify);
	assert_int_equal(r->at[1], r->f.notify + r->f.notify_step);
	assert_int_equal(r->len, 2);
	rig_go(r, 0, true);
	rig_send(r, 0, 5);
	assert_int_equal(write(r->fd[0], &one, 8), 8);
	rig_expect(r, 0, 5);
	vfn_cfg_put(&r->f, 4, 0, 2);
	assert_int_equal(r->n, 0);
}

/* Saved while the rings are in use, loaded into the same device. */
static void test_save_load(void **state)
{
	static const u64 features[] = {0, VIRTIO_F_RING_PACKED};
	struct rig *r = *state;

	for (unsigned f = 0; f < 2; f++) {
		struct dev *d = &r->t->v.dev;
		u8 *image = malloc(state_size(&toy_state));
		struct toy_regs poison;
		u64 len;

		rig_go(r, features[f], true);
		for (u8 i = 0; i < 21; i++) {
			rig_send(r, 0, i);
			vfn_kick(&r->f, 0);
			rig_expect(r, 0, i);
		}
		virtio_pause(&r->t->v);
		d->class->saving(d);
		len = state_save(&toy_state, &r->t->r, image);
		memset(&poison, 0xa5, sizeof(poison));
		r->t->r = poison;
		assert_int_equal(
			state_load(&toy_state, &r->t->r, image, len, 1, NULL),
			0);
		d->class->loaded(d);
		virtio_resume(&r->t->v);
		for (u8 i = 0; i < 21; i++) {
			rig_send(r, 0, i);
			vfn_kick(&r->f, 0);
			rig_expect(r, 0, i);
		}
		r->t->r.v.q_size[0] = 0;
		assert_int_not_equal(virtio_check(&r->t->r, NULL), 0);
		free(image);
	}
	assert_true(state_covers(&toy_state));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_identity),
		T(test_negotiation),
		T(test_traffic),
		T(test_intx),
		T(test_late_start),
		T(test_queue_registers),
		T(test_odd_accesses),
		T(test_config),
		T(test_config_interrupt),
		T(test_window),
		T(test_broken_queue),
		T(test_ring_outside_memory),
		T(test_reset_waits),
		T(test_queue_reset_and_again),
		T(test_pause),
		cmocka_unit_test_setup_teardown(test_ioeventfd, setup_accel,
						teardown),
		T(test_save_load),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
