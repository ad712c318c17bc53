/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/vmgenid.h"

#include "bus/dev_testing.h"

#define GPA 0x3000u

struct fix {
	struct mem mem;
	struct vmgenid *v;
	unsigned changes;
};

/* The guest must find the new id when it is told. */
static void changed(void *arg)
{
	struct fix *f = arg;
	u8 id[VMGENID_SIZE], seen[VMGENID_SIZE];

	f->changes++;
	vmgenid_get(f->v, id); /* no lock is held */
	assert_true(mem_read(&f->mem, GPA, seen, sizeof(seen)));
	assert_memory_equal(id, seen, sizeof(id));
}

static int setup(void **state)
{
	struct fix *f = calloc(1, sizeof(*f));
	struct vmgenid_config c = {&f->mem, GPA, changed, f};

	assert_int_equal(mem_init(&f->mem, 4 * PAGE_SIZE, NULL), 0);
	assert_int_equal(
		mem_add_slot(&f->mem, 0, 4 * PAGE_SIZE, 0, false, NULL), 0);
	f->v = vmgenid_new(&c);
	assert_non_null(f->v);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fix *f = *state;

	dev_free(vmgenid_dev(f->v));
	mem_fini(&f->mem);
	free(f);
	return 0;
}

static void test_reset_keeps_the_id(void **state)
{
	struct fix *f = *state;
	u8 id[VMGENID_SIZE], seen[VMGENID_SIZE], zero[VMGENID_SIZE] = {0};

	vmgenid_get(f->v, id);
	assert_memory_not_equal(id, zero, sizeof(id));
	dev_reset(vmgenid_dev(f->v));
	assert_true(mem_read(&f->mem, GPA, seen, sizeof(seen)));
	assert_memory_equal(id, seen, sizeof(id));
	assert_true(mem_write(&f->mem, GPA, zero, sizeof(zero)));
	dev_reset(vmgenid_dev(f->v));
	assert_true(mem_read(&f->mem, GPA, seen, sizeof(seen)));
	assert_memory_equal(id, seen, sizeof(id));
	assert_int_equal(f->changes, 0);
}

static void test_renew(void **state)
{
	struct fix *f = *state;
	u8 old[VMGENID_SIZE], id[VMGENID_SIZE];

	vmgenid_get(f->v, old);
	vmgenid_renew(f->v);
	vmgenid_get(f->v, id);
	assert_memory_not_equal(old, id, sizeof(id));
	assert_int_equal(f->changes, 1);
}

static void test_state(void **state)
{
	struct fix *f = *state;
	struct dev *d = vmgenid_dev(f->v);
	u8 *record = dev_test_save(d), id[VMGENID_SIZE], now[VMGENID_SIZE];

	assert_true(state_covers(d->class->state));
	vmgenid_get(f->v, id);
	vmgenid_renew(f->v);
	dev_test_load(d, record);
	free(record);
	vmgenid_get(f->v, now);
	assert_memory_equal(id, now, sizeof(id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_reset_keeps_the_id, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_renew, setup, teardown),
		cmocka_unit_test_setup_teardown(test_state, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
