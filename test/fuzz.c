/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Drives a fuzzer's target without a fuzzing engine: the files given as they
 * are, then as many damaged ones as asked for, always the same.
 *
 * usage: NAME_fuzz COUNT [FILE...]
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX 65536u
#define FILES_MAX 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
	uint8_t data[INPUT_MAX];
	size_t size;
};

static struct input files[FILES_MAX], now;

static uint64_t next(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x >> 11;
}

static void damage_one(void)
{
	size_t at = now.size ? next() % now.size : 0;
	size_t n = now.size ? next() % (now.size - at) + 1 : 0;

	if (!now.size || next() % 8 == 0) { /* longer */
		size_t more = next() % 64 + 1;

		for (; more && now.size < INPUT_MAX; more--)
			now.data[now.size++] = (uint8_t)next();
	} else if (next() % 8 == 0) { /* cut off */
		now.size = at;
	} else if (next() % 8 == 0) { /* a piece is there twice */
		n = n < INPUT_MAX - now.size ? n : INPUT_MAX - now.size;
		memmove(now.data + at + n, now.data + at, now.size - at);
		now.size += n;
	} else if (next() % 8 == 0) { /* or not at all */
		memmove(now.data + at, now.data + at + n, now.size - at - n);
		now.size -= n;
	} else if (next() % 4 == 0) { /* an extreme number */
		for (n = n < 8 ? n : 8; n; n--)
			now.data[at + n - 1] = (uint8_t) - (next() % 2);
	} else {
		now.data[at] ^= (uint8_t)(1u << next() % 8);
	}
}

static int load(struct input *in, const char *path)
{
	FILE *f = fopen(path, "rb");

	if (!f) {
		perror(path);
		return -1;
	}
	in->size = fread(in->data, 1, sizeof(in->data), f);
	fclose(f);
	return 0;
}

int main(int argc, char **argv)
{
	unsigned n = argc > 2 ? (unsigned)argc - 2 : 0;
	long count = argc > 1 ? atol(argv[1]) : 0;

	if (argc < 2 || n > FILES_MAX) {
		fprintf(stderr, "usage: %s COUNT [FILE...]\n", argv[0]);
		return 2;
	}
	for (unsigned i = 0; i < n; i++) {
		if (load(&files[i], argv[i + 2]))
			return 2;
		LLVMFuzzerTestOneInput(files[i].data, files[i].size);
	}
	for (long i = 0; i < count; i++) {
		now.size = 0;
		if (n)
			now = files[(size_t)i % n];
		for (unsigned k = 0; k <= next() % 8; k++)
			damage_one();
		LLVMFuzzerTestOneInput(now.data, now.size);
	}
	printf("%ld inputs\n", count + (long)n);
	return 0;
}
