/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory that comes, goes, moves and is shared. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"
#include "cpu/direct/dspace.h"

#define RW (PROT_READ | PROT_WRITE)
#define MB (1ul << 20)

static void fill(u64 *p, size_t bytes, u64 seed)
{
	for (size_t k = 0; k < bytes / 8; k += 8)
		p[k] = seed + k;
}

static bool is_filled(const u64 *p, size_t bytes, u64 seed)
{
	for (size_t k = 0; k < bytes / 8; k += 8)
		if (p[k] != seed + k)
			return false;
	return true;
}

static bool is_zero(const u64 *p, size_t bytes)
{
	for (size_t k = 0; k < bytes / 8; k += 8)
		if (p[k])
			return false;
	return true;
}

/* Children write what they share with their parent; nobody sees it. */
static void run_cow(void)
{
	u64 *p = pages(NULL, MB, RW);
	int status;

	fill(p, MB, 1);
	warm();
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned k = 0; k < 6; k++) {
			if (fork())
				continue;
			if (k < 2)
				warm();
			status = !is_filled(p, MB, 1 + round);
			fill(p, MB, k * 1000);
			_exit(status || !is_filled(p, MB, k * 1000));
		}
		fill(p, MB, 2 + round);
		while (wait(&status) > 0)
			check(!status, "a child's memory");
		check(is_filled(p, MB, 2 + round), "the parent's memory");
	}
}

/* Mapped, filled, moved, given back, over and over. */
static void run_move(void)
{
	u64 sum = 0;

	warm();
	for (unsigned k = 0; k < 60; k++) {
		size_t size = (k % 5 + 1) * 16 * PAGE;
		u64 *p = pages(NULL, size, RW), *q;

		check(is_zero(p, size), "new memory is zero");
		fill(p, size, k);
		q = mremap(p, size, size + 64 * PAGE, MREMAP_MAYMOVE);
		check(is_filled(q, size, k), "moved memory");
		check(is_zero(q + size / 8, 64 * PAGE), "its new end");
		madvise(q, size / 2, MADV_DONTNEED);
		check(is_zero(q, size / 2), "dropped memory is zero");
		sum = sum * 7 + q[size / 8 - 8];
		munmap(q, size + 64 * PAGE);
	}
	say("%#lx", sum);
}

/* A page that is given back is not there, a new one at its place is zero. */
static void run_remap(void)
{
	extern const u8 code_read[];
	u8 *p = pages(NULL, 8 * PAGE, RW);
	struct caught c;

	warm();
	for (unsigned k = 0; k < 200; k++) {
		u8 *at = p + k % 8 * PAGE;

		*at = 7;
		munmap(at, PAGE);
		catch (&c, code_read, (u64)at, 0);
		check(c.signo == SIGSEGV && c.error == 4, "it is gone");
		pages(at, PAGE, RW);
		check(*at == 0, "the new page is zero");
		*at = 9;
		mprotect(at, PAGE, PROT_READ);
		check(*at == 9, "reading goes on");
		mprotect(at, PAGE, RW);
	}
}

static void place_at(u64 at)
{
	void *p =
		mmap((void *)at, 2 * PAGE, RW | PROT_EXEC,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	static const u8 code[] = {0xb8, 1, 2, 3, 4, 0xc3};

	if (p == MAP_FAILED) {
		say("%#lx: not to be had", at);
		return;
	}
	fill(p, 2 * PAGE, at);
	check(is_filled(p, 2 * PAGE, at), "memory at the place");
	memcpy((u8 *)p + 16, code, sizeof(code));
	for (unsigned k = 0; k < 2; k++)
		warm();
	say("%#lx: %#x", at, ((u32(*)(void))(at + 16))());
}

static void run_places(void)
{
	warm();
	place_at(0x10000);
	place_at(0x20000000);
	place_at(0x7ffff0000000);
	place_at(0x7fffffffd000);
	for (u64 at = 0; at < DSPACE_STUB_SIZE; at += 2 * PAGE)
		place_at(DSPACE_STUB + at);
	place_at(DSPACE_STUB - 2 * PAGE);
}

static u64 recurse(unsigned n)
{
	volatile u64 room[64];

	room[n % 64] = n;
	return n ? recurse(n - 1) + room[n % 64] : 0;
}

static void run_stack(void)
{
	warm();
	say("%lu", recurse(8000));
	say("%lu", recurse(9000));
}

/* ---- sharing ---- */

static void run_shared(void)
{
	volatile u64 *p =
		mmap(NULL, 16 * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;

	if (!fork()) {
		warm();
		for (u64 k = 1; k < 20000; k++) {
			p[k % 16 * 512 + 1] = k;
			__atomic_fetch_add(&p[0], k, __ATOMIC_SEQ_CST);
		}
		_exit(0);
	}
	warm();
	for (u64 k = 1; k < 20000; k++)
		__atomic_fetch_add(&p[0], k, __ATOMIC_SEQ_CST);
	wait(&status);
	say("%lu %lu", p[0], p[1 + 512]);
}

/* A file by mapping and by calls. */
static void run_file(void)
{
	int fd = open("/tmp/direct.file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	u64 *p, v = 0;

	check(!ftruncate(fd, 64 * PAGE), "a file");
	p = mmap(NULL, 64 * PAGE, RW, MAP_SHARED, fd, 0);
	warm();
	for (unsigned k = 0; k < 200; k++) {
		u64 at = k % 64 * 512;

		p[at] = k;
		check(pread(fd, &v, 8, (off_t)at * 8) == 8 && v == k, "read");
		v = k * 5;
		check(pwrite(fd, &v, 8, (off_t)at * 8 + 8) == 8 &&
			      p[at + 1] == v,
		      "written");
	}
	check(!ftruncate(fd, PAGE), "truncation");
	close(fd);
	unlink("/tmp/direct.file");
}

/* A guest, where nobody minds. */
static bool small_machine(void)
{
	return sysconf(_SC_PHYS_PAGES) < 131072;
}

/* ---- huge pages ---- */

static void huge_enable(void)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_WRONLY);

	if (fd >= 0 && write(fd, "always", 6) == 6)
		close(fd);
}

static void run_huge(void)
{
	u8 *p, *a;

	if (small_machine())
		huge_enable();
	warm();
	for (unsigned k = 0; k < 4; k++) {
		p = pages(NULL, 8 * MB, RW);
		a = (u8 *)(((u64)p + 2 * MB - 1) & ~(2 * MB - 1));
		madvise(a, 4 * MB, MADV_HUGEPAGE);
		fill((u64 *)a, 4 * MB, k);
		check(is_filled((u64 *)a, 4 * MB, k), "huge pages");
		mprotect(a + MB, PAGE, PROT_READ); /* splits it */
		check(is_filled((u64 *)a, 4 * MB, k), "a split one");
		madvise(a + MB / 2, MB / 4, MADV_DONTNEED);
		check(is_zero((u64 *)(a + MB / 2), MB / 4), "a part of it");
		if (!fork()) {
			fill((u64 *)(a + 2 * MB), 2 * MB, 77);
			_exit(!is_filled((u64 *)(a + 2 * MB), 2 * MB, 77));
		}
		wait(NULL);
		a[3 * MB] = (u8)k;
		check(a[3 * MB] == k, "memory after a child's");
		munmap(p, 8 * MB);
	}
}

/* ---- userfaultfd ---- */

static long uffd_pages;

static void *uffd_serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static u8 page[PAGE] __attribute__((aligned(4096)));
	struct uffd_msg m;

	while (read(fd, &m, sizeof(m)) == sizeof(m)) {
		u64 at = m.arg.pagefault.address & ~(PAGE - 1);
		struct uffdio_copy c = {
			.dst = at, .src = (u64)page, .len = PAGE};

		memset(page, (int)(at >> 12 & 0x7f), PAGE);
		uffd_pages++; /* before it is seen */
		ioctl(fd, UFFDIO_COPY, &c);
	}
	return NULL;
}

static void run_userfault(void)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct uffdio_register r = {.mode = UFFDIO_REGISTER_MODE_MISSING};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	u8 *p = pages(NULL, 64 * PAGE, RW);
	pthread_t t;

	r.range.start = (u64)p;
	r.range.len = 64 * PAGE;
	check(fd >= 0 && !ioctl(fd, UFFDIO_API, &api) &&
		      !ioctl(fd, UFFDIO_REGISTER, &r),
	      "userfaultfd");
	pthread_create(&t, NULL, uffd_serve, (void *)(intptr_t)fd);
	warm();
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned k = 0; k < 64; k++)
			check(p[k * PAGE + k] ==
				      ((u64)(p + k * PAGE) >> 12 & 0x7f),
			      "a page from userfaultfd");
		madvise(p, 64 * PAGE, MADV_DONTNEED);
	}
	say("%ld pages", uffd_pages);
}

/* ---- too much ---- */

static void hog(void *unused)
{
	(void)unused;
	warm();
	for (;;) {
		u8 *p = malloc(MB);

		for (size_t k = 0; p && k < MB; k += PAGE)
			p[k] = 1;
	}
}

static void run_hog(void)
{
	u64 *p = pages(NULL, MB, RW);

	fill(p, MB, 5);
	if (!small_machine())
		return;
	say_status("a hog", status_of(hog, NULL));
	check(is_filled(p, MB, 5), "another's memory");
}

const struct test_case memory_cases[] = {
	{"cow", run_cow},
	{"move", run_move},
	{"remap", run_remap},
	{"places", run_places},
	{"stack", run_stack},
	{"shared", run_shared},
	{"file", run_file},
	{"huge", run_huge},
	{"userfault", run_userfault},
	{"hog", run_hog},
	{0},
};
