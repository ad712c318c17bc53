/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "base/text.h"

#include <link.h>
#include <sys/mman.h>

#include "base/types.h"

/* Only segments that cannot be written: they are as in their files. */
static int text_drop_object(struct dl_phdr_info *o, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	for (unsigned i = 0; i < o->dlpi_phnum; i++) {
		const ElfW(Phdr) *p = &o->dlpi_phdr[i];
		u64 start = ALIGN_DOWN(o->dlpi_addr + p->p_vaddr, PAGE_SIZE);
		u64 end = o->dlpi_addr + p->p_vaddr + p->p_memsz;

		if (p->p_type == PT_LOAD && p->p_flags == (PF_R | PF_X))
			madvise((void *)start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void text_drop(void)
{
	dl_iterate_phdr(text_drop_object, NULL);
}
