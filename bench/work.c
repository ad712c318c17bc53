/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small workloads, each run for about a third of a second; prints "NAME NS"
 * lines, the time of one operation in nanoseconds. Statically linked, it is
 * the only program of a benchmark's guest (and runs on the host as well).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RUN_NS   300000000ull
#define NOINLINE __attribute__((noinline))

static volatile uint64_t sink;
static char *self;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* ---- Computing ---- */

/* State machine, CRC, list: what integer benchmarks are made of. */
static void work_integer(uint64_t n)
{
	uint32_t crc = 1, state = 0;

	while (n--) {
		for (int i = 0; i < 16; i++) {
			uint32_t bit = (crc ^ (uint32_t)n >> i) & 1;

			crc = crc >> 1 ^ (bit ? 0xa001 : 0);
			state = state * 5 + (crc & 7);
			if (state & 8)
				crc += state >> 3;
		}
	}
	sink += crc + state;
}

#define TABLE 4096
static void work_hash(uint64_t n)
{
	static uint64_t key[TABLE], value[TABLE];
	uint64_t x = 88172645463325252ull;

	while (n--) {
		unsigned at;

		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		at = (unsigned)((x * 0x9e3779b97f4a7c15ull) >> 52);
		for (unsigned k = 0; k < 8 && key[at] && key[at] != (x & 8191);
		     k++)
			at = (at + 1) % TABLE;
		key[at] = x & 8191;
		sink += value[at]++;
	}
}

static void work_parse(uint64_t n)
{
	static const char text[] =
		"{\"name\": \"guest\", \"cpus\": 4, \"memory\": 536870912, "
		"\"disks\": [\"a.raw\", \"b.raw\"], \"net\": {\"mtu\": 1500}}";
	uint64_t sum = 0;

	while (n--) {
		int depth = 0, string = 0;

		for (const char *p = text; *p; p++) {
			if (*p == '"')
				string = !string;
			else if (string)
				sum = sum * 31 + (unsigned char)*p;
			else if (*p == '{' || *p == '[')
				depth++;
			else if (*p == '}' || *p == ']')
				depth--;
			else if (*p >= '0' && *p <= '9')
				sum += strtoul(p, (char **)&p, 10), p--;
		}
		sum += (uint64_t)depth;
	}
	sink += sum;
}

static void work_chase(uint64_t n)
{
	static uint32_t next[1 << 16];
	uint32_t at = 0;

	if (!next[0])
		for (uint32_t i = 0; i < 1 << 16; i++)
			next[i] = (i * 40503u + 12345) & 0xffff;
	while (n--)
		at = next[at];
	sink += at;
}

static void work_branches(uint64_t n)
{
	uint64_t x = 1, a = 0;

	while (n--) {
		x = x * 6364136223846793005ull + 1442695040888963407ull;
		switch (x >> 61) {
		case 0: a += 3; break;
		case 1: a ^= x; break;
		case 2: a -= 7; break;
		case 3: a = a << 1 | a >> 63; break;
		case 4: a *= 3; break;
		default:
			if (x & 1 << 20)
				a++;
		}
	}
	sink += a;
}

static NOINLINE uint64_t fib(unsigned n)
{
	return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static void work_calls(uint64_t n)
{
	while (n--)
		sink += fib(12);
}

#define DIM 48
static void work_matrix(uint64_t n)
{
	static double a[DIM][DIM], b[DIM][DIM], c[DIM][DIM];

	for (int i = 0; i < DIM; i++)
		for (int j = 0; j < DIM; j++)
			a[i][j] = i * 0.5, b[i][j] = j * 0.25;
	while (n--)
		for (int i = 0; i < DIM; i++)
			for (int j = 0; j < DIM; j++) {
				double s = 0;

				for (int k = 0; k < DIM; k++)
					s += a[i][k] * b[k][j];
				c[i][j] = s;
			}
	sink += (uint64_t)c[3][5];
}

static void work_memcpy(uint64_t n)
{
	static char from[65536], to[65536];

	while (n--) {
		memcpy(to, from, sizeof(to));
		asm volatile("" : : "r"(to) : "memory");
	}
}

static void work_strings(uint64_t n)
{
	char buf[256];

	while (n--) {
		snprintf(buf, sizeof(buf), "%s/%d/%lx %g", "path", (int)n & 7,
			 (unsigned long)n, 1.5);
		sink += strlen(buf) + (strchr(buf, 'x') != NULL);
	}
}

/* ---- The kernel ---- */

static void work_syscall(uint64_t n)
{
	while (n--)
		syscall(SYS_getppid);
}

static void work_fault(uint64_t n)
{
	while (n--) {
		char *p = mmap(NULL, 16 * 4096, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		for (int i = 0; i < 16; i++)
			p[i * 4096] = 1;
		munmap(p, 16 * 4096);
	}
}

static void work_fork(uint64_t n)
{
	while (n--) {
		pid_t p = fork();

		if (!p)
			_exit(0);
		waitpid(p, NULL, 0);
	}
}

static void work_exec(uint64_t n)
{
	while (n--) {
		pid_t p = vfork();

		if (!p) {
			execl(self, self, "exit", NULL);
			_exit(1);
		}
		waitpid(p, NULL, 0);
	}
}

static void work_pipe(uint64_t n)
{
	int p[2];
	char c = 0;

	if (pipe(p))
		return;
	while (n--)
		if (write(p[1], &c, 1) != 1 || read(p[0], &c, 1) != 1)
			break;
	close(p[0]);
	close(p[1]);
}

static void on_signal(int s)
{
	(void)s;
	sink++;
}

static void work_signal(uint64_t n)
{
	signal(SIGUSR1, on_signal);
	while (n--)
		raise(SIGUSR1);
}

static void work_switch(uint64_t n)
{
	int a[2], b[2];
	char c = 0;
	pid_t p;

	if (pipe(a) || pipe(b))
		return;
	p = fork();
	if (!p) {
		while (read(a[0], &c, 1) == 1 && c == 0)
			if (write(b[1], &c, 1) != 1)
				break;
		_exit(0);
	}
	while (n--)
		if (write(a[1], &c, 1) != 1 || read(b[0], &c, 1) != 1)
			break;
	c = 1;
	if (write(a[1], &c, 1) == 1)
		waitpid(p, NULL, 0);
	close(a[0]), close(a[1]), close(b[0]), close(b[1]);
}

static const struct {
	const char *name;
	void (*run)(uint64_t n);
} works[] = {
	{"integer", work_integer},   {"hash", work_hash},
	{"parse", work_parse},       {"chase", work_chase},
	{"branches", work_branches}, {"calls", work_calls},
	{"matrix", work_matrix},     {"memcpy", work_memcpy},
	{"strings", work_strings},   {"syscall", work_syscall},
	{"fault", work_fault},       {"fork", work_fork},
	{"exec", work_exec},         {"pipe", work_pipe},
	{"signal", work_signal},     {"switch", work_switch},
};

/* Doubles the count until it takes long enough. */
static double measure(void (*run)(uint64_t n))
{
	uint64_t n = 1, start, ns;

	run(1);
	for (;; n *= 2) {
		start = now();
		run(n);
		ns = now() - start;
		if (ns > RUN_NS / 2)
			return (double)ns / (double)n;
	}
}

int main(int argc, char **argv)
{
	self = argv[0];
	if (argc > 1 && !strcmp(argv[1], "exit"))
		return 0;
	for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++) {
		printf("%s %.1f\n", works[i].name, measure(works[i].run));
		fflush(stdout);
	}
	return 0;
}
