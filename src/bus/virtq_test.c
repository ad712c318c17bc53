/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Both ring formats against a driver in the same process: traffic over many
 * laps, event suppression, and drivers that break every rule.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bus/vdriver.h"
#include "bus/virtq_priv.h"

#define RING   0x10000ull
#define BUFFER 0x200000ull
#define HIGH   0x80000000ull /* a second slot */
#define SIZE   8

struct rig {
	struct mem mem;
	struct virtq q;
	struct vdrv_queue d;
	struct virtq_chain c;
	unsigned broken;
};

struct mode {
	bool packed, indirect, event_idx;
};

static void rig_broken(struct virtq *q)
{
	((struct rig *)q->arg)->broken++;
}

static struct rig *rig_new(const struct mode *m, u16 size)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_int_equal(mem_init(&r->mem, 8 * MIB, NULL), 0);
	assert_int_equal(mem_add_slot(&r->mem, 0, 4 * MIB, 0, false, NULL), 0);
	assert_int_equal(
		mem_add_slot(&r->mem, 4 * MIB, MIB, 6 * MIB, false, NULL), 0);
	assert_int_equal(mem_add_slot(&r->mem, HIGH, MIB, 4 * MIB, true, NULL),
			 0);
	vdrv_init(&r->d, &r->mem, RING, size, m->packed, m->indirect,
		  m->event_idx);
	r->q.mem = &r->mem;
	r->q.packed = m->packed;
	r->q.indirect = m->indirect;
	r->q.event_idx = m->event_idx;
	r->q.broken = rig_broken;
	r->q.arg = r;
	virtq_reset(&r->q, size);
	r->q.s.desc = r->d.desc;
	r->q.s.driver = r->d.driver;
	r->q.s.device = r->d.device;
	assert_true(virtq_start(&r->q));
	return r;
}

static void rig_free(struct rig *r)
{
	mem_fini(&r->mem);
	free(r);
}

static const struct mode modes[] = {
	{false, false, false}, {false, false, true}, {false, true, false},
	{false, true, true},   {true, false, false}, {true, false, true},
	{true, true, false},   {true, true, true},
};

/*
 * Random traffic: chains of 1 to 4 pieces, given back out of order. Each
 * carries a number to the device, which writes it back plus one.
 */
static void traffic(struct rig *r, unsigned rounds)
{
	struct virtq_chain *held[SIZE];
	u32 sent[SIZE] = {0}, n = 0, seed = 1;
	unsigned nheld = 0, done = 0;

	while (done < rounds) {
		u32 pick = seed = seed * 1103515245 + 12345;
		unsigned pieces = 2 + (pick >> 16 & 1), i;
		struct vdrv_buf b[3] = {
			{BUFFER, 4, false}, {0, 2, true}, {0, 2, true}};
		int id;
		u32 len;

		for (i = 0; i < r->d.size; i++)
			if (!r->d.busy[i])
				break;
		if (i < r->d.size && pick >> 20 & 1) {
			/* the buffers belong to the id it will get */
			u64 at = BUFFER + 64 * i;

			b[0].gpa = at;
			b[1].gpa = at + 16;
			b[2].gpa = at + 32;
			b[1].len = pieces == 2 ? 4 : 2;
			sent[i] = ++n;
			memcpy(mem_ptr(&r->mem, at, 4), &n, 4);
			vdrv_add(&r->d, b, pieces);
		}
		if (pick >> 21 & 1 && virtq_pop(&r->q, &r->c)) {
			u32 got = 0;

			assert_int_equal(virtq_gather(&r->c, 0, &got, 8), 4);
			got++;
			assert_int_equal(virtq_scatter(&r->c, 0, &got, 8), 4);
			held[nheld++] = virtq_chain_dup(&r->c);
		}
		if (nheld && pick >> 22 & 1) {
			unsigned h = (pick >> 24) % nheld;

			virtq_push(&r->q, held[h], 4);
			free(held[h]);
			held[h] = held[--nheld];
		}
		while ((id = vdrv_get(&r->d, &len)) >= 0) {
			u64 at = BUFFER + 64 * (u64)id;
			u8 *p = mem_ptr(&r->mem, at, 64);
			u32 got;

			assert_int_equal(len, 4);
			memcpy(&got, p + 16, 4);
			if (got != sent[id] + 1)
				memcpy((u8 *)&got + 2, p + 32, 2);
			assert_int_equal(got, sent[id] + 1);
			memset(p + 16, 0, 48);
			done++;
		}
	}
	while (nheld)
		free(held[--nheld]);
	assert_int_equal(r->broken, 0);
}

static void test_traffic(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);

		traffic(r, 70000); /* more laps than 16-bit indices count */
		rig_free(r);
	}
}

/* Packed rings may have any size. */
static void test_odd_size(void **state)
{
	static const struct mode m = {true, false, true};
	struct rig *r = rig_new(&m, 5);

	(void)state;
	assert_true(virtq_size_ok(&r->q, 5, 8));
	r->q.packed = false;
	assert_false(virtq_size_ok(&r->q, 5, 8));
	assert_false(virtq_size_ok(&r->q, 16, 8));
	assert_false(virtq_size_ok(&r->q, 0, 8));
	r->q.packed = true;
	traffic(r, 5000);
	rig_free(r);
}

/* A packed batch of three becomes visible as one. */
static void test_batch(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);
		struct vdrv_buf b[2] = {{BUFFER, 8, true},
					{BUFFER + 8, 8, true}};
		unsigned slots;
		u32 len;

		for (unsigned lap = 0; lap < 50; lap++) {
			slots = 0;
			for (unsigned n = 0; n < 3; n++)
				vdrv_add(&r->d, b, 2);
			for (unsigned n = 0; n < 3; n++) {
				assert_int_equal(virtq_pop(&r->q, &r->c), 1);
				virtq_fill(&r->q, &r->c, n + 1, n, slots);
				slots += r->c.slots;
				assert_int_equal(vdrv_get(&r->d, &len), -1);
			}
			virtq_publish(&r->q, 3, slots);
			for (unsigned n = 0; n < 3; n++) {
				assert_int_not_equal(vdrv_get(&r->d, &len), -1);
				assert_int_equal(len, n + 1);
			}
			assert_int_equal(vdrv_get(&r->d, &len), -1);
		}
		rig_free(r);
	}
}

static void test_unpop(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);
		struct vdrv_buf b[3] = {{BUFFER, 8, true},
					{BUFFER + 8, 8, true},
					{BUFFER + 16, 8, true}};
		u32 len;

		for (unsigned lap = 0; lap < 20; lap++) {
			vdrv_add(&r->d, b, 3);
			assert_int_equal(virtq_pop(&r->q, &r->c), 1);
			virtq_unpop(&r->q, 1, r->c.slots);
			assert_false(virtq_empty(&r->q));
			assert_int_equal(virtq_pop(&r->q, &r->c), 1);
			assert_true(virtq_empty(&r->q));
			virtq_push(&r->q, &r->c, 3);
			assert_int_not_equal(vdrv_get(&r->d, &len), -1);
			assert_int_equal(len, 3);
		}
		rig_free(r);
	}
}

static void one_round(struct rig *r, u64 gpa)
{
	struct vdrv_buf b = {gpa, 8, true};
	u32 len;

	vdrv_add(&r->d, &b, 1);
	assert_int_equal(virtq_pop(&r->q, &r->c), 1);
	virtq_push(&r->q, &r->c, 8);
	vdrv_get(&r->d, &len);
}

static void test_interrupts(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);

		for (unsigned lap = 0; lap < 3 * SIZE; lap++) {
			vdrv_interrupts(&r->d, true);
			one_round(r, BUFFER);
			assert_true(virtq_notify(&r->q));
			assert_false(virtq_notify(&r->q));
			vdrv_interrupts(&r->d, false);
			one_round(r, BUFFER);
			assert_false(virtq_notify(&r->q));
		}
		rig_free(r);
	}
}

/* "Interrupt me at the third": not at two, at three and more. */
static void test_event_ahead(void **state)
{
	static const struct mode ms[] = {{false, false, true},
					 {true, false, true}};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(ms); i++) {
		struct rig *r = rig_new(&ms[i], SIZE);

		for (unsigned lap = 0; lap < 3 * SIZE; lap++) {
			u16 used = r->d.used, wrap = r->d.used_wrap;

			if (ms[i].packed) {
				used += 2;
				if (used >= SIZE) {
					used -= SIZE;
					wrap ^= 1;
				}
				vdrv_put16(&r->d, r->d.driver,
					   (u16)(used | wrap << 15));
				vdrv_put16(&r->d, r->d.driver + 2, 2);
			} else {
				vdrv_put16(&r->d, r->d.driver + 4 + 2 * SIZE,
					   used + 2);
			}
			one_round(r, BUFFER);
			one_round(r, BUFFER);
			assert_false(virtq_notify(&r->q));
			one_round(r, BUFFER);
			assert_true(virtq_notify(&r->q));
		}
		rig_free(r);
	}
}

static void test_kicks(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);
		struct vdrv_buf b = {BUFFER, 8, true};

		one_round(r, BUFFER);
		assert_false(virtq_kicks(&r->q, true));
		if (!modes[i].packed && modes[i].event_idx)
			assert_int_equal(
				vdrv_get16(&r->d, r->d.device + 4 + 8 * SIZE),
				1);
		if (modes[i].packed)
			assert_int_equal(vdrv_get16(&r->d, r->d.device + 2),
					 modes[i].event_idx ? 2 : 0);
		assert_false(virtq_kicks(&r->q, false));
		if (modes[i].packed)
			assert_int_equal(vdrv_get16(&r->d, r->d.device + 2), 1);
		else if (!modes[i].event_idx)
			assert_int_equal(vdrv_get16(&r->d, r->d.device), 1);
		vdrv_add(&r->d, &b, 1);
		assert_true(virtq_kicks(&r->q, true));
		rig_free(r);
	}
}

/* A buffer over two adjacent slots that are apart in host memory. */
static void test_across_slots(void **state)
{
	struct rig *r = rig_new(&modes[0], SIZE);
	struct vdrv_buf b = {4 * MIB - 3, 8, true};

	(void)state;
	vdrv_add(&r->d, &b, 1);
	assert_int_equal(virtq_pop(&r->q, &r->c), 1);
	assert_int_equal(r->c.nin, 2);
	assert_int_equal(virtq_scatter(&r->c, 0, "abcdefgh", 8), 8);
	assert_memory_equal(mem_ptr(&r->mem, 4 * MIB - 3, 3), "abc", 3);
	assert_memory_equal(mem_ptr(&r->mem, 4 * MIB, 5), "defgh", 5);
	rig_free(r);
}

static unsigned code_writes;

static void code_written(void *arg, gpa_t gpa, u64 len)
{
	(void)arg;
	(void)gpa;
	(void)len;
	code_writes++;
}

/* DMA into a page with decoded code is told to the engine. */
static void test_written(void **state)
{
	struct rig *r = rig_new(&modes[0], SIZE);

	(void)state;
	r->mem.code_written = code_written;
	r->mem.attr[BUFFER >> PAGE_SHIFT] = MEM_ATTR_CODE;
	code_writes = 0;
	one_round(r, BUFFER + 0x1000);
	assert_int_equal(code_writes, 0);
	one_round(r, BUFFER + 0xffc);
	assert_int_equal(code_writes, 1);
	rig_free(r);
}

/* ---- drivers that break the rules ---- */

static void expect_broken(struct rig *r)
{
	assert_int_equal(virtq_pop(&r->q, &r->c), 0);
	assert_int_equal(r->broken, 1);
	assert_non_null(r->q.why);
	assert_int_equal(virtq_pop(&r->q, &r->c), 0);
	assert_true(virtq_empty(&r->q));
	assert_int_equal(r->broken, 1);
	rig_free(r);
}

/* A ring with one raw descriptor made available. */
static struct rig *raw(const struct mode *m, u64 addr, u32 len, u16 flags,
		       u16 next)
{
	struct rig *r = rig_new(m, SIZE);

	if (m->packed) {
		vdrv_put_desc(&r->d, RING, addr, len, 7,
			      flags | VIRTQ_DESC_AVAIL);
	} else {
		vdrv_put_desc(&r->d, RING, addr, len, flags, next);
		vdrv_put16(&r->d, r->d.driver + 2, 1);
	}
	return r;
}

static const struct mode *const formats[] = {&modes[3], &modes[7]};

static void test_bad_buffers(void **state)
{
	static const struct {
		u64 addr;
		u32 len;
		u16 flags;
	} bad[] = {
		{0x40000000, 16, 0},
		{0x40000000, 16, VIRTQ_DESC_WRITE},
		{5 * MIB - 8, 16, 0},
		{BUFFER, 0xffffffff, 0},
		{~0ull - 7, 16, VIRTQ_DESC_WRITE},
		{~0ull, 0xffffffff, 0},
		{HIGH, 16, VIRTQ_DESC_WRITE}, /* ROM */
	};

	(void)state;
	for (unsigned f = 0; f < 2; f++)
		for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
			expect_broken(raw(formats[f], bad[i].addr, bad[i].len,
					  bad[i].flags, 0));
}

static void test_bad_tables(void **state)
{
	static const struct {
		u64 addr;
		u32 len;
		u16 flags;
	} bad[] = {
		{BUFFER, 0, 0},          {BUFFER, 15, 0},
		{BUFFER, 0xfffffff0, 0}, {0x40000000, 16, 0},
		{~0ull - 3, 32, 0},      {BUFFER, 16, VIRTQ_DESC_NEXT},
		{5 * MIB - 16, 32, 0},
	};

	(void)state;
	for (unsigned f = 0; f < 2; f++)
		for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
			struct rig *r =
				raw(formats[f], bad[i].addr, bad[i].len,
				    bad[i].flags | VIRTQ_DESC_INDIRECT, 0);

			/* a good first entry at the end of memory */
			vdrv_put_desc(&r->d, 5 * MIB - 16, BUFFER, 8,
				      f ? 0 : VIRTQ_DESC_NEXT, f ? 0 : 1);
			expect_broken(r);
		}
}

static void test_table_not_agreed(void **state)
{
	static const struct mode ms[] = {{false, false, false},
					 {true, false, false}};

	(void)state;
	for (unsigned f = 0; f < 2; f++)
		expect_broken(raw(&ms[f], BUFFER, 16, VIRTQ_DESC_INDIRECT, 0));
}

static void test_table_in_table(void **state)
{
	(void)state;
	for (unsigned f = 0; f < 2; f++) {
		struct rig *r =
			raw(formats[f], BUFFER, 16, VIRTQ_DESC_INDIRECT, 0);

		vdrv_put_desc(&r->d, BUFFER, BUFFER, 16,
			      f ? 0 : VIRTQ_DESC_INDIRECT,
			      f ? VIRTQ_DESC_INDIRECT : 0);
		expect_broken(r);
	}
}

static void test_loops(void **state)
{
	struct rig *r = raw(&modes[0], BUFFER, 1, VIRTQ_DESC_NEXT, 0);

	(void)state;
	expect_broken(r);
	r = raw(&modes[3], BUFFER, 32, VIRTQ_DESC_INDIRECT, 0);
	vdrv_put_desc(&r->d, BUFFER, BUFFER, 1, VIRTQ_DESC_NEXT, 1);
	vdrv_put_desc(&r->d, BUFFER + 16, BUFFER, 1, VIRTQ_DESC_NEXT, 0);
	expect_broken(r);
	/* a packed chain that never ends */
	r = raw(&modes[4], BUFFER, 1, VIRTQ_DESC_NEXT, 0);
	for (unsigned i = 1; i < SIZE; i++)
		vdrv_put_desc(&r->d, RING + 16 * i, BUFFER, 1, 0,
			      VIRTQ_DESC_NEXT | VIRTQ_DESC_AVAIL);
	expect_broken(r);
	/* zero-length pieces do not count against VIRTQ_SEGS: still an end */
	r = raw(&modes[3], BUFFER, 32, VIRTQ_DESC_INDIRECT, 0);
	vdrv_put_desc(&r->d, BUFFER, BUFFER, 0, VIRTQ_DESC_NEXT, 0);
	expect_broken(r);
}

static void test_next_outside(void **state)
{
	struct rig *r = raw(&modes[0], BUFFER, 1, VIRTQ_DESC_NEXT, SIZE);

	(void)state;
	expect_broken(r);
	r = raw(&modes[3], BUFFER, 16, VIRTQ_DESC_INDIRECT, 0);
	vdrv_put_desc(&r->d, BUFFER, BUFFER, 1, VIRTQ_DESC_NEXT, 1);
	expect_broken(r);
	r = raw(&modes[0], BUFFER, 1, 0, 0);
	vdrv_put16(&r->d, r->d.driver + 4, SIZE); /* head */
	expect_broken(r);
}

static void test_index_jump(void **state)
{
	struct rig *r = raw(&modes[0], BUFFER, 1, 0, 0);

	(void)state;
	vdrv_put16(&r->d, r->d.driver + 2, SIZE + 1);
	expect_broken(r);
	r = raw(&modes[0], BUFFER, 1, 0, 0);
	vdrv_put16(&r->d, r->d.driver + 2, 0xffff); /* backwards */
	expect_broken(r);
}

static void test_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(modes); i++) {
		struct rig *r = rig_new(&modes[i], SIZE);
		struct vdrv_buf b[2] = {{BUFFER, 8, true}, {BUFFER, 8, false}};

		vdrv_add(&r->d, b, 2);
		expect_broken(r);
	}
}

/* More pieces than a chain may have; and lengths that add up past 4 GiB. */
static void test_long_tables(void **state)
{
	(void)state;
	for (unsigned f = 0; f < 2; f++) {
		struct rig *r = raw(formats[f], BUFFER, 16 * 1025,
				    VIRTQ_DESC_INDIRECT, 0);

		for (unsigned i = 0; i < 1025; i++)
			vdrv_put_desc(&r->d, BUFFER + 16 * i, BUFFER, 1,
				      f || i == 1024 ? 0 : VIRTQ_DESC_NEXT,
				      (u16)(f ? 0 : i + 1));
		expect_broken(r);
	}
}

/* No memory there, misaligned, over the seam of two slots, read-only. */
static void test_bad_areas(void **state)
{
	enum { DESC, DRIVER, DEVICE };
	static const struct {
		bool packed;
		unsigned area;
		u64 gpa;
	} bad[] = {
		{false, DESC, 0x40000000},    {false, DESC, ~0ull - 15},
		{false, DESC, RING + 8},      {false, DESC, 4 * MIB - 16},
		{false, DRIVER, 0x40000000},  {false, DRIVER, RING + 1},
		{false, DRIVER, 4 * MIB - 4}, {false, DEVICE, 0x40000000},
		{false, DEVICE, RING + 2},    {false, DEVICE, 4 * MIB - 8},
		{false, DEVICE, HIGH},        {true, DESC, HIGH},
		{true, DESC, 5 * MIB - 16},   {true, DRIVER, RING + 2},
		{true, DRIVER, 0x40000000},   {true, DEVICE, HIGH},
		{true, DEVICE, RING + 2},     {true, DEVICE, ~0ull - 3},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		struct rig *r = rig_new(formats[bad[i].packed], SIZE);
		u64 *area[] = {&r->q.s.desc, &r->q.s.driver, &r->q.s.device};

		virtq_stop(&r->q);
		*area[bad[i].area] = bad[i].gpa;
		assert_false(virtq_start(&r->q));
		assert_int_equal(r->broken, 1);
		assert_int_equal(virtq_pop(&r->q, &r->c), 0);
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_traffic),
		cmocka_unit_test(test_odd_size),
		cmocka_unit_test(test_batch),
		cmocka_unit_test(test_unpop),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_event_ahead),
		cmocka_unit_test(test_kicks),
		cmocka_unit_test(test_across_slots),
		cmocka_unit_test(test_written),
		cmocka_unit_test(test_bad_buffers),
		cmocka_unit_test(test_bad_tables),
		cmocka_unit_test(test_table_not_agreed),
		cmocka_unit_test(test_table_in_table),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_next_outside),
		cmocka_unit_test(test_index_jump),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_long_tables),
		cmocka_unit_test(test_bad_areas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
