/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Memory for generated code, mapped twice. See codebuf.h.
 */
#define _GNU_SOURCE
#include "cpu/soft/codebuf.h"

#include <errno.h>
#include <sys/mman.h>

/*
 * mremap() with an old size of 0 maps the same pages once more. It is shared
 * anonymous memory because perf looks into /tmp/perf-PID.map for such, and not
 * for a memfd.
 */
int codebuf_init(struct codebuf *b, size_t size, struct err *e)
{
	void *w, *x;

	ASSERT(size && !(size & PAGE_MASK));
	*b = (struct codebuf){.size = size};
	w = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		 -1, 0);
	if (w == MAP_FAILED)
		return err_errno(e, -errno, "cannot map memory for code");
	b->write = w;
	x = mremap(w, 0, size, MREMAP_MAYMOVE);
	if (x == MAP_FAILED) {
		codebuf_fini(b);
		return err_errno(e, -errno, "cannot map memory for code twice");
	}
	b->exec = x;
	if (mprotect(x, size, PROT_READ | PROT_EXEC)) {
		int rc = err_errno(e, -errno,
				   "this host does not allow generated code "
				   "to be executed");

		codebuf_fini(b);
		return rc;
	}
	return 0;
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

void codebuf_trim(struct codebuf *b)
{
	size_t from = ALIGN_UP(b->used, PAGE_SIZE);

	if (from < b->size)
		madvise(b->write + from, b->size - from, MADV_REMOVE);
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
