/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The cache of decoded code: self-modifying code, chaining, instructions that
 * cross pages, remapping, other writers, and running out of room.
 */
#include "cpu/soft/rig.h"

#include <pthread.h>
#include <unistd.h>

static int setup(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 1, 0);
	*state = r;
	return 0;
}

static int setup_two(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 2, 0);
	*state = r;
	return 0;
}

static int setup_small(void **state)
{
	struct rig *r = malloc(sizeof(*r));

	rig_init(r, 1, 64 * KIB);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_fini(*state);
	free(*state);
	return 0;
}

RIG(count, "mov $1000, %ecx\n 1: dec %ecx\n nop\n jnz 1b\n hlt")
static void test_counts_instructions(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, count);
	assert_int_equal(r->v[0]->insns, 1 + 3 * 1000 + 1);
	assert_int_equal(r->v[0]->gpr[REG_CX], 0);
}

/* The instruction after the store is the new one, in the same block. */
RIG(smc_next, "movb $0x42, 1f+1(%rip)\n 1: mov $0x11, %al\n hlt")
static void test_smc_next_instruction(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, smc_next);
	assert_int_equal(r->v[0]->gpr[REG_AX] & 0xff, 0x42);
	assert_int_equal(r->v[0]->insns, 3);
	/* again, with the code decoded by now */
	r->v[0]->gpr[REG_AX] = 0;
	rig_load(r, RIG_CODE, rig_smc_next, rig_smc_next_end);
	assert_int_equal(rig_run(r, 0, RIG_CODE), VCPU_EXIT_HALTED);
	assert_int_equal(r->v[0]->gpr[REG_AX] & 0xff, 0x42);
}

/* By a string instruction and by a read-modify-write too. */
RIG(smc_string, "mov $0x33, %al\n lea 1f+1(%rip), %rdi\n mov $1, %ecx\n"
		"rep stosb\n 1: mov $0x11, %al\n"
		"xorb $0xff, 2f+1(%rip)\n 2: mov $0x11, %bl\n hlt")
static void test_smc_by_string_and_rmw(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, smc_string);
	assert_int_equal(r->v[0]->gpr[REG_AX] & 0xff, 0x33);
	assert_int_equal(r->v[0]->gpr[REG_BX] & 0xff, 0xee);
}

/* A chained loop changes the body of another block of its page. */
RIG(smc_loop, "xor %ebx, %ebx\n mov $100, %ecx\n"
	      "1: call 2f\n add %eax, %ebx\n incl 2f+1(%rip)\n"
	      "dec %ecx\n jnz 1b\n hlt\n 2: mov $0, %eax\n ret")
static void test_smc_in_chained_loop(void **state)
{
	struct rig *r = *state;

	RIG_RUN(r, smc_loop);
	assert_int_equal(r->v[0]->gpr[REG_BX], 99 * 100 / 2);
}

/* Data beside code: no block is dropped. */
RIG(data, "mov $1000, %ecx\n 1: incl 2f(%rip)\n dec %ecx\n jnz 1b\n"
	  "mov 2f(%rip), %eax\n hlt\n .balign 64\n 2: .long 5")
static void test_data_beside_code(void **state)
{
	struct rig *r = *state;
	u64 smc, decoded;

	RIG_RUN(r, data);
	smc = r->v[0]->vcpu.stat[VCPU_STAT_SMC];
	decoded = r->v[0]->vcpu.stat[VCPU_STAT_DECODE];
	assert_int_equal(r->v[0]->gpr[REG_AX], 1005);
	assert_int_equal(smc, 0);
	assert_true(decoded < 20);
}

/* mov $0x...44332211, %rax with its bytes around a page boundary */
static void cross_put(struct rig *r, unsigned before, u64 val)
{
	u8 code[11] = {0x48, 0xb8};

	memcpy(code + 2, &val, 8);
	code[10] = 0xf4;
	mem_write(&r->mem, RIG_CODE + PAGE_SIZE - before, code, sizeof(code));
}

static void test_cross_page(void **state)
{
	struct rig *r = *state;

	for (unsigned before = 1; before < 11; before++) {
		u64 rip = RIG_CODE + PAGE_SIZE - before;

		cross_put(r, before, 0x8877665544332211);
		assert_int_equal(rig_run(r, 0, rip), VCPU_EXIT_HALTED);
		assert_int_equal(r->v[0]->gpr[REG_AX], 0x8877665544332211);
		/* the second page's part alone changes */
		cross_put(r, before, 0x1077665544332211);
		assert_int_equal(rig_run(r, 0, rip), VCPU_EXIT_HALTED);
		assert_int_equal(r->v[0]->gpr[REG_AX], 0x1077665544332211);
	}
}

/* The second page is exchanged by its page table entry. */
static void test_cross_page_remapped(void **state)
{
	struct rig *r = *state;
	u64 rip = RIG_CODE + PAGE_SIZE - 5, second = RIG_CODE + PAGE_SIZE;

	cross_put(r, 5, 0x8877665544332211);
	assert_int_equal(rig_run(r, 0, rip), VCPU_EXIT_HALTED);
	memcpy(r->mem.base + 0x300000, r->mem.base + second, PAGE_SIZE);
	r->mem.base[0x300000] = 0xaa;
	*rig_pte(r, second) = 0x300000 | PTE_P | PTE_W;
	mmu_invlpg(r->v[0], second);
	assert_int_equal(rig_run(r, 0, rip), VCPU_EXIT_HALTED);
	assert_int_equal(r->v[0]->gpr[REG_AX], 0x88776655aa332211);
	*rig_pte(r, second) = 0;
	mmu_invlpg(r->v[0], second);
	assert_int_equal(rig_run(r, 0, rip), VCPU_EXIT_HALTED);
	assert_int_equal(rig_vector(r), VEC_PF);
	assert_int_equal(r->v[0]->cr2, second);
	assert_int_equal(*rig_q(r, r->v[0]->gpr[REG_SP] + 8), rip);
}

/* One linear address, two pages, switched by PTE: each has its own code. */
RIG(remap_a, "mov $0xa, %eax\n hlt")
RIG(remap_b, "mov $0xb, %eax\n hlt")
static void test_remap(void **state)
{
	struct rig *r = *state;

	rig_load(r, 0x300000, rig_remap_a, rig_remap_a_end);
	rig_load(r, 0x301000, rig_remap_b, rig_remap_b_end);
	for (unsigned n = 0; n < 10; n++) {
		*rig_pte(r, RIG_CODE) =
			(n & 1 ? 0x301000 : 0x300000) | PTE_P | PTE_W;
		mmu_invlpg(r->v[0], RIG_CODE);
		assert_int_equal(rig_run(r, 0, RIG_CODE), VCPU_EXIT_HALTED);
		assert_int_equal(r->v[0]->gpr[REG_AX], n & 1 ? 0xb : 0xa);
	}
	/* the switches did not cost the decoded code */
	assert_int_equal(r->v[0]->vcpu.stat[VCPU_STAT_DECODE], 4);
}

/* Many blocks in a small arena, twice. */
static void test_small_arena(void **state)
{
	struct rig *r = *state;
	u8 *p = r->mem.base + RIG_DATA;

	/* add $1, %eax; jmp .+0: 5 bytes a block, over many pages */
	for (unsigned n = 0; n < 20000; n++) {
		memcpy(p, "\x83\xc0\x01\xeb\x00", 5);
		p += 5;
	}
	*p = 0xf4;
	for (unsigned n = 1; n <= 2; n++) {
		assert_int_equal(rig_run(r, 0, RIG_DATA), VCPU_EXIT_HALTED);
		assert_int_equal(r->v[0]->gpr[REG_AX], n * 20000);
	}
	assert_true(r->v[0]->code->flushes > 10);
}

RIG(spin, "1: mov $0, %eax\n jmp 1b")

static void *spin_thread(void *arg)
{
	struct rig *r = arg;

	return (void *)(uintptr_t)rig_run(r, r->cpus - 1, RIG_CODE);
}

static void spin_join(struct rig *r, pthread_t t)
{
	void *x;

	soft_attention(r->v[r->cpus - 1], ATTN_KICK);
	pthread_join(t, &x);
	assert_int_equal((uintptr_t)x, VCPU_EXIT_KICKED);
}

static void spin_wait(struct rig *r, unsigned id, u64 want)
{
	for (unsigned n = 0; n < 2000; n++) {
		if (__atomic_load_n(&r->v[id]->gpr[REG_AX], __ATOMIC_RELAXED) ==
		    want)
			return;
		usleep(1000);
	}
	fail_msg("the new code was not seen");
}

/* A device writes code that runs in a chained loop. */
static void test_written_by_device(void **state)
{
	struct rig *r = *state;
	pthread_t t;

	rig_load(r, RIG_CODE, rig_spin, rig_spin_end);
	pthread_create(&t, NULL, spin_thread, r);
	for (u8 n = 1; n < 50; n++) {
		mem_write(&r->mem, RIG_CODE + 1, &n, 1);
		spin_wait(r, 0, n);
	}
	spin_join(r, t);
}

/* Another vCPU does. */
RIG(poke, "movb %bl, 0x100001\n mov 0x100000, %eax\n hlt")
static void test_written_by_other_vcpu(void **state)
{
	struct rig *r = *state;
	pthread_t t;

	rig_load(r, RIG_CODE, rig_spin, rig_spin_end);
	rig_load(r, RIG_DATA, rig_poke, rig_poke_end);
	pthread_create(&t, NULL, spin_thread, r);
	for (unsigned n = 1; n < 50; n++) {
		r->v[0]->gpr[REG_BX] = n;
		assert_int_equal(rig_run(r, 0, RIG_DATA), VCPU_EXIT_HALTED);
		assert_int_equal(r->v[0]->gpr[REG_AX], 0xb8 | n << 8);
		spin_wait(r, 1, n);
	}
	spin_join(r, t);
}

/* A kick that comes before the run ends it too. */
static void test_kick_is_not_lost(void **state)
{
	struct rig *r = *state;

	rig_load(r, RIG_CODE, rig_spin, rig_spin_end);
	soft_attention(r->v[0], ATTN_KICK);
	assert_int_equal(rig_run(r, 0, RIG_CODE), VCPU_EXIT_KICKED);
	assert_int_equal(r->v[0]->rip, RIG_CODE);
}

/* The mark goes when the last code of the page is overwritten. */
RIG(unmark, "mov $0x300000, %edi\n mov $512, %ecx\n xor %eax, %eax\n"
	    "rep stosq\n hlt")
static void test_mark_is_taken_off(void **state)
{
	struct rig *r = *state;
	u8 *attr = &r->mem.attr[0x300000 >> PAGE_SHIFT];

	rig_load(r, 0x300000, rig_remap_a, rig_remap_a_end);
	assert_int_equal(rig_run(r, 0, 0x300000), VCPU_EXIT_HALTED);
	assert_true(*attr & MEM_ATTR_CODE);
	RIG_RUN(r, unmark);
	assert_false(*attr & MEM_ATTR_CODE);
	rig_load(r, 0x300000, rig_remap_b, rig_remap_b_end);
	assert_int_equal(rig_run(r, 0, 0x300000), VCPU_EXIT_HALTED);
	assert_int_equal(r->v[0]->gpr[REG_AX], 0xb);
}

#define TEST(name, up) cmocka_unit_test_setup_teardown(name, up, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_counts_instructions, setup),
		TEST(test_smc_next_instruction, setup),
		TEST(test_smc_by_string_and_rmw, setup),
		TEST(test_smc_in_chained_loop, setup),
		TEST(test_data_beside_code, setup),
		TEST(test_cross_page, setup),
		TEST(test_cross_page_remapped, setup),
		TEST(test_remap, setup),
		TEST(test_small_arena, setup_small),
		TEST(test_written_by_device, setup),
		TEST(test_written_by_other_vcpu, setup_two),
		TEST(test_kick_is_not_lost, setup),
		TEST(test_mark_is_taken_off, setup),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
