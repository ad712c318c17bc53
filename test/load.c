/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The init of a guest under load, for tests that move or copy it: it writes
 * memory and checks it, writes its disk (if it has one) and checks it, and
 * watches that no clock goes backwards. It prints "LOAD n" about five times a
 * second, and "BAD what" once if anything is wrong. On the kernel's command
 * line: load.mb=N megabytes of memory in use (16), load.rate=N megabytes a
 * second written (0: as fast as it can).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define DISK  (4u << 20) /* bytes of it that are used */
#define BLOCK 4096u

static size_t pages = 16 * 256;
static unsigned rate;
static volatile uint64_t memory_rounds, disk_rounds, worst_gap_us;
static volatile int bad;

static uint64_t now_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, uint64_t a, uint64_t b)
{
	if (__atomic_exchange_n(&bad, 1, __ATOMIC_SEQ_CST))
		return;
	printf("BAD %s %#llx %#llx\n", what, (unsigned long long)a,
	       (unsigned long long)b);
}

static uint64_t mix(uint64_t v)
{
	v ^= v >> 33;
	v *= 0xff51afd7ed558ccdu;
	v ^= v >> 33;
	return v;
}

/* Every word of a page tells page and round; it must be that of before. */
static void page_check(uint64_t *p, size_t page, uint64_t round)
{
	for (size_t i = 0; i < PAGE / 8; i += 32)
		if (p[i] != mix(page << 32 | round) + i)
			fail("memory", p[i], mix(page << 32 | round) + i);
}

static void page_write(uint64_t *p, size_t page, uint64_t round)
{
	for (size_t i = 0; i < PAGE / 8; i += 32)
		p[i] = mix(page << 32 | round) + i;
}

static void *memory_main(void *arg)
{
	uint8_t *mem = aligned_alloc(PAGE, pages * PAGE);
	uint64_t start = now_ns(CLOCK_MONOTONIC), done = 0;

	(void)arg;
	for (size_t i = 0; i < pages; i++)
		page_write((uint64_t *)(mem + i * PAGE), i, 0);
	for (uint64_t round = 1;; round++) {
		for (size_t i = 0; i < pages; i++) {
			uint64_t *p = (uint64_t *)(mem + i * PAGE);

			page_check(p, i, round - 1);
			page_write(p, i, round);
			done += PAGE;
			while (rate && i % 64 == 0 &&
			       done / rate >
				       (now_ns(CLOCK_MONOTONIC) - start) / 1000)
				usleep(500);
		}
		memory_rounds = round;
	}
	return NULL;
}

static void *disk_main(void *arg)
{
	int fd = open("/dev/vda", O_RDWR | O_DIRECT);
	uint64_t *b = aligned_alloc(PAGE, BLOCK);

	(void)arg;
	if (fd < 0)
		return NULL;
	for (uint64_t round = 1;; round++) {
		for (uint64_t at = 0; at < DISK; at += BLOCK * 16) {
			for (unsigned i = 0; i < BLOCK / 8; i++)
				b[i] = mix(at << 20 | round) + i;
			if (pwrite(fd, b, BLOCK, (off_t)at) != BLOCK)
				fail("disk write", at, round);
			memset(b, 0, BLOCK);
			if (pread(fd, b, BLOCK, (off_t)at) != BLOCK)
				fail("disk read", at, round);
			for (unsigned i = 0; i < BLOCK / 8; i++)
				if (b[i] != mix(at << 20 | round) + i)
					fail("disk", b[i],
					     mix(at << 20 | round) + i);
			usleep(200);
		}
		for (uint64_t at = 0; at < DISK; at += BLOCK * 16) {
			if (pread(fd, b, BLOCK, (off_t)at) != BLOCK ||
			    b[3] != mix(at << 20 | round) + 3)
				fail("disk later", b[3], at);
		}
		disk_rounds = round;
	}
	return NULL;
}

/* No clock goes backwards; the longest standstill that it sees is told. */
static void *clock_main(void *arg)
{
	static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
					CLOCK_BOOTTIME, CLOCK_REALTIME};
	uint64_t last[4] = {0}, awake = now_ns(CLOCK_MONOTONIC);

	(void)arg;
	for (;;) {
		uint64_t t;

		for (int i = 0; i < 4; i++) {
			t = now_ns(ids[i]);
			if (t < last[i])
				fail("clock went backwards", (uint64_t)i,
				     last[i] - t);
			last[i] = t;
		}
		t = now_ns(CLOCK_MONOTONIC);
		if ((t - awake) / 1000 > worst_gap_us)
			worst_gap_us = (t - awake) / 1000;
		awake = t;
		usleep(500);
	}
	return NULL;
}

static void options(void)
{
	char line[4096] = {0}, *p;
	int fd = open("/proc/cmdline", O_RDONLY);

	if (fd < 0 || read(fd, line, sizeof(line) - 1) <= 0)
		return;
	p = strstr(line, "load.mb=");
	if (p)
		pages = (size_t)atoi(p + 8) * 256;
	p = strstr(line, "load.rate=");
	if (p)
		rate = (unsigned)atoi(p + 10);
}

int main(void)
{
	pthread_t t;

	mkdir("/dev", 0755);
	mkdir("/proc", 0755);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("proc", "/proc", "proc", 0, NULL);
	setvbuf(stdout, NULL, _IOLBF, 0);
	options();
	if (pages)
		pthread_create(&t, NULL, memory_main, NULL);
	pthread_create(&t, NULL, disk_main, NULL);
	pthread_create(&t, NULL, clock_main, NULL);
	for (unsigned n = 1;; n++) {
		usleep(200000);
		if (bad)
			printf("BAD something, see above\n");
		printf("LOAD %u memory %llu disk %llu gap_us %llu\n", n,
		       (unsigned long long)memory_rounds,
		       (unsigned long long)disk_rounds,
		       (unsigned long long)worst_gap_us);
		worst_gap_us = 0;
	}
}
