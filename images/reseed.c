/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sublet-reseed HEX, in guests: new random numbers for a machine that was
 * cloned or restored, where the kernel has no driver for the generation id
 * (Debian's cloud kernel). Stirs in the id and what the entropy device gives,
 * and has the kernel draw its key anew. Without a C library: it is as small as
 * what it does. Exits with 0 if the kernel took it.
 */
#include <linux/fcntl.h>
#include <linux/random.h>
#include <sys/syscall.h>

/* More than a driver had fetched before: that is the same in all clones. */
#define FRESH 512

struct pool {
	struct rand_pool_info head;
	char bytes[FRESH + 64];
};

__asm__(".globl _start\n_start: mov %rsp, %rdi\nand $-16, %rsp\ncall start\n");
void start(long *stack);

static long call(long n, long a, long b, long c)
{
	long rc;

	__asm__ volatile("syscall"
			 : "=a"(rc)
			 : "a"(n), "D"(a), "S"(b), "d"(c)
			 : "rcx", "r11", "memory");
	return rc;
}

static long add(struct pool *p, const char *id)
{
	long rng = call(SYS_open, (long)"/dev/hwrng", O_RDONLY | O_NONBLOCK, 0);
	long out = call(SYS_open, (long)"/dev/urandom", O_WRONLY, 0);
	long n = 0, got = 1, len = 0;

	while (rng >= 0 && n < FRESH && got > 0) {
		got = call(SYS_read, rng, (long)p->bytes + n, FRESH - n);
		n += got > 0 ? got : 0;
	}
	while (id && id[len] && len < 64) {
		p->bytes[n + len] = id[len];
		len++;
	}
	p->head.buf_size = (int)(n + len);
	p->head.entropy_count = n == FRESH ? 256 : 0;
	if (out < 0 || call(SYS_ioctl, out, RNDADDENTROPY, (long)p) < 0)
		return 1;
	return call(SYS_ioctl, out, RNDRESEEDCRNG, 0) < 0;
}

void start(long *stack)
{
	static struct pool pool;
	char **argv = (char **)(stack + 1);

	call(SYS_exit, add(&pool, *stack > 1 ? argv[1] : 0), 0, 0);
	__builtin_unreachable();
}
