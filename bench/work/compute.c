/* SPDX-License-Identifier: BSD-2-Clause */
/* Workloads without the kernel: integer code, memory, floating point. */
#include "work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

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
void work_hash(uint64_t n)
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

const struct work compute_works[] = {
	{"integer", "compute", work_integer, NULL, NULL},
	{"hash", "compute", work_hash, NULL, NULL},
	{"parse", "compute", work_parse, NULL, NULL},
	{"chase", "compute", work_chase, NULL, NULL},
	{"branches", "compute", work_branches, NULL, NULL},
	{"calls", "compute", work_calls, NULL, NULL},
	{"matrix", "compute", work_matrix, NULL, NULL},
	{"memcpy", "compute", work_memcpy, NULL, NULL},
	{"strings", "compute", work_strings, NULL, NULL},
	{NULL, NULL, NULL, NULL, NULL},
};
