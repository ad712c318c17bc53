/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Atomic accesses that no host instruction makes: two vCPUs at once, on
 * operands that lie across cache lines and pages and overlap.
 */
#include "cpu/soft/rig.h"

#include <pthread.h>

#define ROUNDS 20000
#define FAST   (100 * ROUNDS) /* of accesses that are no trouble */

static int setup(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 2, 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_fini(*state);
	free(*state);
	return 0;
}

/* RBX: the operand; the second one counts its upper half only */
RIG(both, "1: lock incq (%rbx)\n dec %ecx\n jnz 1b\n hlt")
RIG(upper, "1: lock incl 4(%rbx)\n dec %ecx\n jnz 1b\n hlt")
RIG(plain, "1: incl 4(%rbx)\n dec %ecx\n jnz 1b\n hlt")

struct side {
	struct rig *r;
	unsigned id;
};

static void *side_run(void *arg)
{
	struct side *s = arg;

	return (void *)(uintptr_t)rig_run(s->r, s->id,
					  RIG_CODE + s->id * 0x1000);
}

/* Both vCPUs count at once at lin; returns what is there. */
static u64 count(struct rig *r, gva_t lin, u64 rounds, const u8 *code,
		 const u8 *end)
{
	struct side s[2] = {{r, 0}, {r, 1}};
	pthread_t t[2];
	u64 val = 0;
	void *x;

	mem_write(&r->mem, lin, &val, 8);
	rig_load(r, RIG_CODE, rig_both, rig_both_end);
	rig_load(r, RIG_CODE + 0x1000, code, end);
	for (unsigned id = 0; id < 2; id++) {
		r->v[id]->gpr[REG_BX] = lin;
		r->v[id]->gpr[REG_CX] = id ? rounds : ROUNDS;
		pthread_create(&t[id], NULL, side_run, &s[id]);
	}
	for (unsigned id = 0; id < 2; id++) {
		pthread_join(t[id], &x);
		assert_int_equal((uintptr_t)x, VCPU_EXIT_HALTED);
	}
	mem_read(&r->mem, lin, &val, 8);
	return val;
}
#define COUNT(r, lin, rounds, name) \
	count(r, lin, rounds, rig_##name, rig_##name##_end)

static void test_same_operand(void **state)
{
	struct rig *r = *state;

	assert_int_equal(COUNT(r, RIG_DATA, ROUNDS, both), 2 * ROUNDS);
	assert_int_equal(COUNT(r, RIG_DATA + 0x3d, ROUNDS, both), 2 * ROUNDS);
	assert_int_equal(COUNT(r, RIG_DATA + 0xffb, ROUNDS, both), 2 * ROUNDS);
}

/* Nothing of the upper half is lost when the whole is written back. */
static void test_overlapping_operands(void **state)
{
	struct rig *r = *state;
	u64 want = (u64)FAST << 32 | ROUNDS;

	assert_int_equal(COUNT(r, RIG_DATA + 0x3c, FAST, upper), want);
	assert_int_equal(COUNT(r, RIG_DATA + 0xffc, FAST, upper), want);
	assert_int_equal(COUNT(r, RIG_DATA + 0xffc, FAST, plain), want);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same_operand, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_overlapping_operands,
						setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
