/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest physical memory: one memfd for each VM, mapped MAP_SHARED in one
 * piece, of which slots appear at guest physical addresses.
 *
 * The slot table is immutable while vCPUs run. Guest memory is hostile: load
 * a value once into a local (mem_read), check and use only the copy.
 *
 * Whoever writes guest memory other than through a vCPU's own stores (device
 * DMA, loaders, paravirtual clocks) calls mem_written() afterwards, so that
 * stale decoded code is dropped and dirty pages are seen. mem_write() does so
 * itself.
 */
#ifndef MEM_MEM_H
#define MEM_MEM_H

#include <pthread.h>

#include "base/err.h"
#include "base/types.h"

#define MEM_SLOTS 16

/* Page attributes, one byte a page, indexed by mem_page(); atomic access. */
enum {
	MEM_ATTR_CODE = 1,  /* an engine holds decoded code of this page */
	MEM_ATTR_TRACK = 2, /* first store is to be noticed (dirty log) */
	MEM_ATTR_WTAG = 4,  /* a software TLB may let stores through */
};

struct mem_slot {
	gpa_t gpa;
	u64 size;
	u8 *host;   /* within mem.base */
	u64 offset; /* in the memfd */
	bool readonly;
};

struct mem {
	int fd;
	bool private; /* fd is somebody's file; what is written is not in it */
	u8 *base;     /* the whole memfd, mapped once */
	u64 size;
	u8 *attr; /* size / PAGE_SIZE bytes of MEM_ATTR_* */
	/* NULL, or a bit a page; atomic access. May become NULL at any time:
	 * load the pointer once. */
	unsigned long *dirty;
	unsigned long *dirty_bits;       /* what dirty points to; or NULL */
	struct mem_slot slot[MEM_SLOTS]; /* sorted by gpa */
	unsigned nslots;
	bool absent;      /* atomic; see mem_absent_begin() */
	pthread_t keeper; /* set before absent */
	u32 alone;        /* atomic; see mem_alone_begin() */
	/* Set once by the engine: what it means to mem_alone_begin(). */
	void (*alone_begun)(void *arg);
	void *alone_arg;
	/* Set once by the engine: [gpa, gpa + len) with code was written. */
	void (*code_written)(void *arg, gpa_t gpa, u64 len);
	void *code_written_arg;
};

/* Reserves size bytes (a multiple of 4 KiB) of memory; no page is touched. */
int mem_init(struct mem *m, u64 size, struct err *e);
/* The same with what fd holds, of that size, as its content: it is read when
 * it is used and never written. fd stays the caller's. */
int mem_init_file(struct mem *m, u64 size, int fd, struct err *e);
void mem_fini(struct mem *m);

/*
 * Of private memory: the pages that were written, in order. Starts from zero
 * but mem; 1: *page is the next, 0: no more, or -errno.
 */
struct mem_walk {
	const struct mem *mem;
	u64 page, from;
	unsigned n;
	int fd; /* 0: not yet open */
	u64 entry[512];
};
int mem_private_next(struct mem_walk *w, u64 *page);

/* Shows [offset, offset + size) of the memfd at gpa. Before vCPUs run. */
int mem_add_slot(struct mem *m, gpa_t gpa, u64 size, u64 offset, bool readonly,
		 struct err *e);

/* The slot that holds gpa, or NULL. Any thread. */
const struct mem_slot *mem_find(const struct mem *m, gpa_t gpa);

/*
 * Host address of [gpa, gpa + len), or NULL if any of it is not RAM (or ROM).
 * The pointer is valid as long as the VM. Any thread.
 */
void *mem_ptr(const struct mem *m, gpa_t gpa, u64 len);

/* Copies; false (nothing or a part copied) where there is no memory. */
bool mem_read(const struct mem *m, gpa_t gpa, void *buf, u64 len);
bool mem_write(struct mem *m, gpa_t gpa, const void *buf, u64 len);

/* To be told after writing through mem_ptr(). Any thread. */
void mem_written(struct mem *m, gpa_t gpa, u64 len);

/*
 * Between these two, pages may be absent: whoever touches one sleeps until it
 * has come, perhaps for ever. The thread that calls begin must not sleep:
 * mem_would_sleep() tells it to leave guest memory alone, and no other. Any
 * thread may call the rest.
 */
void mem_absent_begin(struct mem *m);
void mem_absent_end(struct mem *m);
bool mem_absent(const struct mem *m);
bool mem_would_sleep(const struct mem *m);

/*
 * From begin to end this mapping of the memory, base, is the only one that is
 * used: somebody watches what is read or written by it (userfaultfd). Engines
 * have other ones. They nest; not for vCPU threads.
 */
void mem_alone_begin(struct mem *m);
void mem_alone_end(struct mem *m);

/* Index of the page in attr and dirty; p points into base. */
static inline u64 mem_page(const struct mem *m, const void *p)
{
	return (u64)((const u8 *)p - m->base) >> PAGE_SHIFT;
}

/*
 * Dirty tracking: start makes every page clean (pages become dirty by
 * mem_written() and by the engines), collect moves the bitmap into out
 * (mem.size / PAGE_SIZE bits) and clears it. Start, collect and stop are not
 * called at the same time; vCPUs and devices may run. The engine is to be told
 * after start and before each collect (engine_class.dirty_start, dirty_sync).
 */
int mem_dirty_start(struct mem *m, struct err *e);
void mem_dirty_collect(struct mem *m, unsigned long *out);
void mem_dirty_stop(struct mem *m);

#endif
