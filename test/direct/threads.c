/* SPDX-License-Identifier: BSD-2-Clause */
/* Threads on several CPUs that take memory from each other. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"

#define THREADS    4
#define SHOOT_NS   900000000u
#define SHOT_PAGES 16u

/* ---- counting ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static u64 locked, atomic;
static __thread u64 own;

static void *count(void *arg)
{
	u64 who = (u64)(uintptr_t)arg;

	warm();
	own = who;
	for (unsigned k = 0; k < 20000; k++) {
		__atomic_fetch_add(&atomic, 1, __ATOMIC_SEQ_CST);
		if (k % 16)
			continue;
		pthread_mutex_lock(&lock);
		locked += own;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void run_count(void)
{
	pthread_t t[THREADS];

	for (u64 k = 0; k < THREADS; k++)
		pthread_create(&t[k], NULL, count, (void *)(k + 1));
	for (unsigned k = 0; k < THREADS; k++)
		pthread_join(t[k], NULL);
	say("%lu %lu", locked, atomic);
}

/* ---- a page that is given back is never seen by who had it ---- */

static u8 *shot;
static volatile bool shooting = true;
static __thread sigjmp_buf missed;

static void on_miss(int signo)
{
	(void)signo;
	siglongjmp(missed, 1);
}

/* Writes to pages that come and go. */
static void *shooter(void *arg)
{
	volatile u8 *p = shot;

	(void)arg;
	while (shooting) {
		if (sigsetjmp(missed, 1))
			continue;
		for (unsigned k = 0; k < 200000 && shooting; k++)
			p[k % SHOT_PAGES * PAGE + 64] = 0xaa;
	}
	return NULL;
}

/* Takes memory, which must be new, marks it, sees that the marks stay. */
static int keeper(u64 end)
{
	int bad = 0;

	while (now_ns() < end) {
		u8 *p = mmap(NULL, SHOT_PAGES * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (unsigned k = 0; k < SHOT_PAGES; k++) {
			bad |= p[k * PAGE + 64] != 0;
			p[k * PAGE + 64] = 0x55;
		}
		for (unsigned n = 0; n < 20; n++)
			for (unsigned k = 0; k < SHOT_PAGES; k++)
				bad |= p[k * PAGE + 64] != 0x55;
		munmap(p, SHOT_PAGES * PAGE);
	}
	return bad;
}

static void run_shootdown(void)
{
	struct sigaction a = {.sa_handler = on_miss, .sa_flags = SA_NODEFER};
	u64 end = now_ns() + SHOOT_NS;
	pthread_t t[2];
	pid_t pid;
	int status;

	sigaction(SIGSEGV, &a, NULL);
	pid = fork();
	if (!pid)
		_exit(keeper(end));
	shot = pages(NULL, SHOT_PAGES * PAGE, PROT_READ | PROT_WRITE);
	for (unsigned k = 0; k < 2; k++)
		pthread_create(&t[k], NULL, shooter, NULL);
	for (unsigned k = 0; now_ns() < end; k++) {
		munmap(shot, SHOT_PAGES * PAGE);
		if (k % 2)
			sched_yield();
		mmap(shot, SHOT_PAGES * PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		mprotect(shot, PAGE, PROT_READ);
		mprotect(shot, PAGE, PROT_READ | PROT_WRITE);
		usleep(200);
	}
	shooting = false;
	for (unsigned k = 0; k < 2; k++)
		pthread_join(t[k], NULL);
	waitpid(pid, &status, 0);
	check(!status, "memory of another process");
}

/* A page is made read-only under a thread that writes it: from then on its
 * value stays. */
static volatile u64 *counter;

static void *incrementer(void *arg)
{
	(void)arg;
	while (shooting) {
		if (sigsetjmp(missed, 1))
			continue;
		for (unsigned k = 0; k < 100000 && shooting; k++)
			++*counter;
	}
	return NULL;
}

static void run_protect(void)
{
	struct sigaction a = {.sa_handler = on_miss, .sa_flags = SA_NODEFER};
	pthread_t t;

	sigaction(SIGSEGV, &a, NULL);
	counter = pages(NULL, PAGE, PROT_READ | PROT_WRITE);
	pthread_create(&t, NULL, incrementer, NULL);
	warm();
	for (unsigned k = 0; k < 200; k++) {
		u64 value;

		mprotect((void *)(u64)counter, PAGE, PROT_READ);
		value = *counter;
		for (unsigned n = 0; n < 3000; n++)
			if (*counter != value)
				check(false, "a protected page stays");
		mprotect((void *)(u64)counter, PAGE, PROT_READ | PROT_WRITE);
		usleep(300);
	}
	shooting = false;
	pthread_join(t, NULL);
	check(*counter > 1000, "it counted");
}

const struct test_case thread_cases[] = {
	{"count", run_count},
	{"shootdown", run_shootdown},
	{"protect", run_protect},
	{0},
};
