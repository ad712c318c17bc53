/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for generated code, mapped twice. See codebuf.h.
 */
#define _GNU_SOURCE
#include "cpu/soft/codebuf.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u /* Linux 6.3 */
#endif

static int codebuf_memfd(size_t size, struct err *e)
{
	int fd = memfd_create("sublet-code", MFD_CLOEXEC | MFD_EXEC);

	/* Older kernels know no MFD_EXEC, and need none. */
	if (fd < 0 && errno == EINVAL)
		fd = memfd_create("sublet-code", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "no memory file for code");
	if (ftruncate(fd, (off_t)size)) {
		int rc = err_errno(e, -errno, "no memory for code");

		close(fd);
		return rc;
	}
	return fd;
}

static int codebuf_map(struct codebuf *b, int fd, struct err *e)
{
	void *w =
		mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	void *x;

	if (w == MAP_FAILED)
		return err_errno(e, -errno, "cannot map memory for code");
	b->write = w;
	x = mmap(NULL, b->size, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	if (x == MAP_FAILED)
		return err_errno(e, -errno,
				 "this host does not allow generated code "
				 "to be executed");
	b->exec = x;
	return 0;
}

int codebuf_init(struct codebuf *b, size_t size, struct err *e)
{
	int rc;
	int fd;

	ASSERT(size && !(size & PAGE_MASK));
	*b = (struct codebuf){.size = size};
	fd = codebuf_memfd(size, e);
	if (fd < 0)
		return fd;
	rc = codebuf_map(b, fd, e);
	close(fd);
	if (rc)
		codebuf_fini(b);
	return rc;
}

void codebuf_fini(struct codebuf *b)
{
	if (b->write)
		munmap(b->write, b->size);
	if (b->exec)
		munmap((void *)b->exec, b->size);
	*b = (struct codebuf){0};
}

u8 *codebuf_alloc(struct codebuf *b, size_t n, size_t align)
{
	size_t at = ALIGN_UP(b->used, align);

	if (at > b->size || n > b->size - at)
		return NULL;
	b->used = at + n;
	return b->write + at;
}

void codebuf_reset(struct codebuf *b)
{
	b->used = 0;
	codebuf_serialize();
}

/*
 * Through two addresses the CPU need not see its own writes to code (SDM 3A
 * 11.6) before a serializing instruction. IRET is one that costs little;
 * CPUID leaves a virtual machine, should this be one.
 */
void codebuf_serialize(void)
{
	u64 scratch;

	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"
			 "mov %%ss, %k0\n\t"
			 "push %0\n\t"
			 "lea 136(%%rsp), %0\n\t"
			 "push %0\n\t"
			 "pushfq\n\t"
			 "mov %%cs, %k0\n\t"
			 "push %0\n\t"
			 "lea 1f(%%rip), %0\n\t"
			 "push %0\n\t"
			 "iretq\n"
			 "1:"
			 : "=&r"(scratch)
			 :
			 : "cc", "memory");
}
