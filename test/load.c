/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The init of a guest under load, for tests that move or copy it: it writes
 * memory and checks it, writes its disk (if it has one) and checks it, sends
 * itself a TCP stream over the loopback and checks that, and watches that no
 * clock goes backwards. It prints "LOAD n" with what each has done (pages,
 * blocks, KiB) about five times a second, and "BAD what" once if anything is
 * wrong. On the kernel's command line: load.mb=N megabytes of memory in use
 * (16), load.rate=N megabytes a second written (0: as fast as it can),
 * load.tcp=0: no stream.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PAGE  4096u
#define DISK  (4u << 20) /* bytes of it that are used */
#define BLOCK 4096u

static size_t pages = 16 * 256;
static unsigned rate, tcp = 1;
static volatile uint64_t pages_done, blocks_done, tcp_done, worst_gap_us;
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
			pages_done++;
			done += PAGE;
			while (rate && i % 64 == 0 &&
			       done / rate >
				       (now_ns(CLOCK_MONOTONIC) - start) / 1000)
				usleep(500);
		}
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
			blocks_done++;
			usleep(200);
		}
		for (uint64_t at = 0; at < DISK; at += BLOCK * 16) {
			if (pread(fd, b, BLOCK, (off_t)at) != BLOCK ||
			    b[3] != mix(at << 20 | round) + 3)
				fail("disk later", b[3], at);
		}
	}
	return NULL;
}

static void loopback_up(void)
{
	struct ifreq r = {.ifr_name = "lo"};
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (ioctl(fd, SIOCGIFFLAGS, &r))
		fail("loopback", 0, 0);
	r.ifr_flags |= IFF_UP | IFF_RUNNING;
	if (ioctl(fd, SIOCSIFFLAGS, &r))
		fail("loopback", 1, 0);
	close(fd);
}

/* Word n of the stream is mix(n); pieces are of all sizes. */
static void *tcp_send_main(void *arg)
{
	static uint64_t b[4096];
	int fd = *(int *)arg;
	uint64_t n = 0;

	for (;;) {
		size_t words = mix(n) % 4096 + 1;

		for (size_t i = 0; i < words; i++)
			b[i] = mix(n + i);
		for (size_t at = 0; at < words * 8;) {
			ssize_t k = write(fd, (char *)b + at, words * 8 - at);

			if (k <= 0) {
				fail("tcp send", n, (uint64_t)at);
				return NULL;
			}
			at += (size_t)k;
		}
		n += words;
		usleep(2000);
	}
}

static void *tcp_receive_main(void *arg)
{
	static uint64_t b[1024];
	int fd = *(int *)arg;
	uint64_t n = 0;
	size_t have = 0;

	for (;;) {
		ssize_t k = read(fd, (char *)b + have, sizeof(b) - have);

		if (k <= 0) {
			fail("tcp end", n, 0);
			return NULL;
		}
		have += (size_t)k;
		for (size_t i = 0; i < have / 8; i++, n++)
			if (b[i] != mix(n))
				fail("tcp", b[i], n);
		memmove(b, b + have / 8, have % 8);
		have %= 8;
		tcp_done = n / 128;
	}
}

/* A connection to itself, a thread at each end. */
static void tcp_start(void)
{
	static int from, to;
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons(7),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	pthread_t t;

	loopback_up();
	from = socket(AF_INET, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) ||
	    listen(listener, 1) ||
	    connect(from, (struct sockaddr *)&a, sizeof(a)) ||
	    (to = accept(listener, NULL, NULL)) < 0)
		fail("tcp start", 0, 0);
	pthread_create(&t, NULL, tcp_send_main, &from);
	pthread_create(&t, NULL, tcp_receive_main, &to);
}

/* No clock goes backwards; the longest standstill that it sees is told. */
static void *clock_main(void *arg)
{
	static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_MONOTONIC_RAW,
					CLOCK_BOOTTIME, CLOCK_REALTIME};
	uint64_t last[4] = {0}, awake = now_ns(CLOCK_MONOTONIC);
	uint64_t was = 0, cpu; /* for the report: which processors */

	(void)arg;
	for (;;) {
		uint64_t t;

		cpu = (uint64_t)sched_getcpu();
		for (int i = 0; i < 4; i++) {
			t = now_ns(ids[i]);
			if (t < last[i])
				fail("clock (and processors) went backwards",
				     (uint64_t)i | cpu << 8 | was << 16,
				     last[i] - t);
			last[i] = t;
		}
		was = cpu;
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
	p = strstr(line, "load.tcp=");
	if (p)
		tcp = (unsigned)atoi(p + 9);
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
	if (tcp)
		tcp_start();
	for (unsigned n = 1;; n++) {
		usleep(200000);
		if (bad)
			printf("BAD something, see above\n");
		printf("LOAD %u memory %llu disk %llu tcp %llu gap_us %llu\n",
		       n, (unsigned long long)pages_done,
		       (unsigned long long)blocks_done,
		       (unsigned long long)tcp_done,
		       (unsigned long long)worst_gap_us);
		worst_gap_us = 0;
	}
}
