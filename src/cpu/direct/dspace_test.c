/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "cpu/direct/dspace_priv.h"

#define CODE_LIN 0x400000ull
#define DATA_LIN 0x7f0000000000ull
#define SIZE     (1024 * PAGE_SIZE)

struct bed {
	int fd;
	u8 *mem;
	struct dspace *s;
	pid_t wait;
	u32 hold;
	struct dspace_stop stop;
};

static int bed_setup(void **state)
{
	struct bed *b = calloc(1, sizeof(*b));
	struct err e = {""};

	b->fd = memfd_create("direct-test", 0);
	assert_int_equal(ftruncate(b->fd, SIZE), 0);
	b->mem = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, b->fd, 0);
	b->s = dspace_new(b->fd, &e);
	if (!b->s)
		fail_msg("%s", e.text);
	*state = b;
	return 0;
}

static int bed_teardown(void **state)
{
	struct bed *b = *state;

	dspace_free(b->s);
	munmap(b->mem, SIZE);
	close(b->fd);
	free(b);
	return 0;
}

/* Guest code in page 0, seen at CODE_LIN. */
static void bed_code(struct bed *b, const char *code, size_t n)
{
	memcpy(b->mem, code, n);
	assert_int_equal(
		dspace_map(b->s, CODE_LIN, PAGE_SIZE, 0, PROT_READ | PROT_EXEC),
		0);
	dspace_regs(b->s)->rip = CODE_LIN;
}

static void bed_run(struct bed *b, enum dspace_why why)
{
	assert_int_equal(dspace_run(b->s, &b->wait, &b->hold, &b->stop), 0);
	assert_int_equal(b->stop.why, why);
	assert_int_equal(b->wait, 0);
}

/* mov [rdi], rax; inc rax; syscall */
#define STORE "\x48\x89\x07\x48\xff\xc0\x0f\x05"

static void runs_and_stops_at_a_call(void **state)
{
	struct bed *b = *state;
	struct dspace_regs *r = dspace_regs(b->s);

	bed_code(b, STORE, sizeof(STORE) - 1);
	dspace_map(b->s, DATA_LIN, PAGE_SIZE, PAGE_SIZE,
		   PROT_READ | PROT_WRITE);
	r->rdi = DATA_LIN + 8;
	r->rax = 0x1122334455667788;
	r->r13 = 5;
	bed_run(b, DSPACE_SYSCALL);
	assert_int_equal(r->rip, CODE_LIN + 8);
	assert_int_equal(r->orig_rax, 0x1122334455667789);
	assert_int_equal(r->r13, 5);
	assert_int_equal(*(u64 *)(b->mem + PAGE_SIZE + 8), 0x1122334455667788);
}

static void faults_where_nothing_is_mapped(void **state)
{
	struct bed *b = *state;
	struct dspace_regs *r = dspace_regs(b->s);

	bed_code(b, STORE, sizeof(STORE) - 1);
	r->rdi = DATA_LIN;
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.signo, SIGSEGV);
	assert_int_equal(b->stop.addr, DATA_LIN);
	assert_int_equal(r->rip, CODE_LIN);
	dspace_map(b->s, DATA_LIN, PAGE_SIZE, PAGE_SIZE, PROT_READ);
	bed_run(b, DSPACE_SIGNAL);
	dspace_map(b->s, DATA_LIN, PAGE_SIZE, PAGE_SIZE,
		   PROT_READ | PROT_WRITE);
	bed_run(b, DSPACE_SYSCALL);
	r->rip = CODE_LIN;
	dspace_unmap(b->s, DATA_LIN, PAGE_SIZE);
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.addr, DATA_LIN);
}

/* More than one batch, and all of it gone again. */
static void many_pages(void **state)
{
	struct bed *b = *state;
	struct dspace_regs *r = dspace_regs(b->s);

	bed_code(b, STORE, sizeof(STORE) - 1);
	for (u64 k = 1; k < 1000; k++)
		assert_int_equal(dspace_map(b->s, DATA_LIN + 2 * k * PAGE_SIZE,
					    PAGE_SIZE, k * PAGE_SIZE,
					    PROT_READ | PROT_WRITE),
				 0);
	for (u64 k = 1; k < 1000; k += 100) {
		r->rip = CODE_LIN;
		r->rdi = DATA_LIN + 2 * k * PAGE_SIZE;
		r->rax = k;
		bed_run(b, DSPACE_SYSCALL);
		assert_int_equal(*(u64 *)(b->mem + k * PAGE_SIZE), k);
	}
	assert_int_equal(dspace_clear(b->s), 0);
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.addr, CODE_LIN + 8);
}

static void a_refused_map_leaves_nothing(void **state)
{
	struct bed *b = *state;

	bed_code(b, STORE, sizeof(STORE) - 1);
	dspace_map(b->s, DATA_LIN + 1, PAGE_SIZE, 0, PROT_READ);
	assert_true(dspace_run(b->s, &b->wait, &b->hold, &b->stop) < 0);
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.addr, CODE_LIN);
}

static void nothing_of_ours_is_left(void **state)
{
	static const char load[] = "\x48\x8b\x07\x0f\x05"; /* mov rax, [rdi] */
	struct bed *b = *state;
	u64 at[] = {(u64)b, (u64)&at, (u64)bed_setup, (u64)malloc, 0x10000};

	bed_code(b, load, sizeof(load) - 1);
	for (unsigned k = 0; k < ARRAY_LEN(at); k++) {
		dspace_regs(b->s)->rip = CODE_LIN;
		dspace_regs(b->s)->rdi = at[k];
		bed_run(b, DSPACE_SIGNAL);
		assert_int_equal(b->stop.signo, SIGSEGV);
	}
}

/* Guest code goes to the stub, with registers as it likes them. */
static void the_stub_calls_for_nobody_else(void **state)
{
	static const long nr[] = {SYS_mmap, SYS_exit_group, SYS_kill, SYS_read};
	struct bed *b = *state;
	struct dspace_regs *r = dspace_regs(b->s);

	for (unsigned k = 0; k < ARRAY_LEN(nr); k++) {
		*r = (struct dspace_regs){
			.rip = DSPACE_STUB + dspace_stub_call - 2,
			.rax = (u64)nr[k],
			.rdi = DATA_LIN,
			.rsi = PAGE_SIZE,
			.rdx = PROT_READ | PROT_WRITE,
			.r10 = MAP_SHARED | MAP_FIXED,
			.cs = r->cs,
			.ss = r->ss,
			.eflags = 0x202,
		};
		bed_run(b, DSPACE_SYSCALL);
		assert_int_equal(r->orig_rax, nr[k]);
	}
	bed_code(b, STORE, sizeof(STORE) - 1);
	r->rdi = DATA_LIN;
	bed_run(b, DSPACE_SIGNAL);
	r->rip = CODE_LIN;
	r->rdi = DSPACE_STUB;
	bed_run(b, DSPACE_SIGNAL);
	r->rip = CODE_LIN;
	r->rdi = DSPACE_COMMANDS_AT;
	bed_run(b, DSPACE_SIGNAL);
}

/* Where the CPU can do it. */
static void cpuid_faults_when_told(void **state)
{
	struct bed *b = *state;
	bool can = dspace_fault_cpuid(b->s, true);

	bed_code(b, "\x0f\xa2\x0f\x05", 4); /* cpuid; syscall */
	bed_run(b, can ? DSPACE_SIGNAL : DSPACE_SYSCALL);
	assert_int_equal(dspace_regs(b->s)->rip, CODE_LIN + (can ? 0 : 4));
	assert_true(!can || dspace_fault_cpuid(b->s, false));
	dspace_regs(b->s)->rip = CODE_LIN;
	bed_run(b, DSPACE_SYSCALL);
}

static void traps(void **state)
{
	struct bed *b = *state;

	bed_code(b, "\xcc\x0f\x0b\xf4\x0f\x31", 6); /* int3 ud2 hlt rdtsc */
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.signo, SIGTRAP);
	assert_int_equal(dspace_regs(b->s)->rip, CODE_LIN + 1);
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.signo, SIGILL);
	dspace_regs(b->s)->rip = CODE_LIN + 3;
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.signo, SIGSEGV);
	dspace_regs(b->s)->rip = CODE_LIN + 4;
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(b->stop.signo, SIGSEGV);
}

/* Whether or not the vsyscall page is there, it calls nothing. */
static void the_vsyscall_page(void **state)
{
	struct bed *b = *state;
	struct dspace_regs *r = dspace_regs(b->s);

	dspace_map(b->s, DATA_LIN, PAGE_SIZE, PAGE_SIZE,
		   PROT_READ | PROT_WRITE);
	r->rip = 0xffffffffff600000;
	r->rsp = DATA_LIN + 64;
	bed_run(b, DSPACE_SIGNAL);
	assert_int_equal(r->rip, 0xffffffffff600000);
	assert_int_equal(r->rsp, DATA_LIN + 64);
}

static void vectors_go_in_and_out(void **state)
{
	struct bed *b = *state;
	u8 in[DSPACE_XSAVE_SIZE] = {0x7f, 3}, out[DSPACE_XSAVE_SIZE];

	in[24] = 0x80, in[25] = 0x1f; /* MXCSR */
	memset(in + 160, 0x11, 16);
	memset(in + 576, 0x22, 16);
	/* vaddpd? no: vpaddb ymm1, ymm0, ymm0; syscall */
	bed_code(b, "\xc5\xfd\xfc\xc8\x0f\x05", 6);
	assert_true(dspace_set_vectors(b->s, in));
	bed_run(b, DSPACE_SYSCALL);
	assert_true(dspace_get_vectors(b->s, out));
	for (unsigned k = 0; k < 16; k++) {
		assert_int_equal(out[160 + k], 0x11);
		assert_int_equal(out[176 + k], 0x22);
		assert_int_equal(out[592 + k], 0x44);
	}
}

static void *kicker(void *arg)
{
	struct bed *b = arg;
	pid_t pid;

	do
		pid = __atomic_load_n(&b->wait, __ATOMIC_SEQ_CST);
	while (!pid);
	dspace_kick(pid);
	return NULL;
}

static void a_kick_stops_a_loop(void **state)
{
	struct bed *b = *state;
	pthread_t t;

	bed_code(b, "\xeb\xfe", 2);
	for (unsigned k = 0; k < 20; k++) {
		pthread_create(&t, NULL, kicker, b);
		bed_run(b, DSPACE_KICKED);
		pthread_join(t, NULL);
		assert_int_equal(dspace_regs(b->s)->rip, CODE_LIN);
	}
	b->hold = 1;
	bed_run(b, DSPACE_KICKED);
}

static void *killer(void *arg)
{
	struct bed *b = arg;

	while (!__atomic_load_n(&b->wait, __ATOMIC_SEQ_CST))
		;
	kill(dspace_pid(b->s), SIGKILL);
	return NULL;
}

/* What the guest's registers were is known all the same. */
static void somebody_kills_it(void **state)
{
	struct bed *b = *state;
	pthread_t t;

	bed_code(b, "\x48\xc7\xc3\x07\x00\x00\x00\xeb\xfe", 9); /* rbx = 7 */
	pthread_create(&t, NULL, kicker, b);
	bed_run(b, DSPACE_KICKED);
	pthread_join(t, NULL);
	pthread_create(&t, NULL, killer, b);
	bed_run(b, DSPACE_DIED);
	pthread_join(t, NULL);
	assert_true(dspace_run(b->s, &b->wait, &b->hold, &b->stop) < 0 ||
		    b->stop.why == DSPACE_DIED);
}

static void *owner(void *arg)
{
	struct bed *b = arg;
	struct err e;

	b->s = dspace_new(b->fd, &e);
	return NULL;
}

/* It does not outlive the thread that made it. */
static void dies_with_its_thread(void **state)
{
	struct bed *b = *state, other = {.fd = b->fd};
	pthread_t t;
	int status;

	pthread_create(&t, NULL, owner, &other);
	pthread_join(t, NULL);
	assert_non_null(other.s);
	assert_int_equal(waitpid(dspace_pid(other.s), &status, __WALL),
			 dspace_pid(other.s));
	assert_true(WIFSIGNALED(status));
	dspace_free(other.s);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, bed_setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(runs_and_stops_at_a_call),
		TEST(faults_where_nothing_is_mapped),
		TEST(many_pages),
		TEST(a_refused_map_leaves_nothing),
		TEST(nothing_of_ours_is_left),
		TEST(the_stub_calls_for_nobody_else),
		TEST(traps),
		TEST(cpuid_faults_when_told),
		TEST(the_vsyscall_page),
		TEST(vectors_go_in_and_out),
		TEST(a_kick_stops_a_loop),
		TEST(somebody_kills_it),
		TEST(dies_with_its_thread),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
