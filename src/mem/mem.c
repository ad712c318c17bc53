/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "mem/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_2M (2 * MIB)

/*
 * Maps size bytes of fd so that the address is 2 MiB aligned, as nested
 * paging and transparent huge pages want it. NULL and errno on failure.
 */
static void *mem_map_aligned(int fd, u64 size, int flags)
{
	u64 span = size + HUGE_2M;
	u8 *raw, *at, *p;

	raw = mmap(NULL, span, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (raw == MAP_FAILED)
		return NULL;
	at = (u8 *)ALIGN_UP((uintptr_t)raw, HUGE_2M);
	p = mmap(at, size, PROT_READ | PROT_WRITE,
		 flags | MAP_FIXED | MAP_NORESERVE, fd, 0);
	if (p == MAP_FAILED) {
		munmap(raw, span);
		return NULL;
	}
	if (at > raw)
		munmap(raw, at - raw);
	munmap(at + size, raw + span - (at + size));
	return at;
}

/* m->fd is there and closed on failure. */
static int mem_map(struct mem *m, u64 size, int flags, struct err *e)
{
	u64 pages = size >> PAGE_SHIFT;
	int rc;

	m->size = size;
	m->base = mem_map_aligned(m->fd, size, flags);
	if (!m->base) {
		rc = err_errno(e, -errno, "cannot map %llu MiB of memory",
			       size / MIB);
		goto close;
	}
	if (flags == MAP_SHARED)
		madvise(m->base, size, MADV_HUGEPAGE);
	madvise(m->base, size, MADV_DONTDUMP);
	m->attr = mmap(NULL, ALIGN_UP(pages, PAGE_SIZE), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m->attr != MAP_FAILED)
		return 0;
	rc = err_errno(e, -errno, "cannot map page attributes");
	munmap(m->base, size);
close:
	close(m->fd);
	m->fd = -1;
	return rc;
}

int mem_init(struct mem *m, u64 size, struct err *e)
{
	int rc;

	memset(m, 0, sizeof(*m));
	m->fd = memfd_create("sublet-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (m->fd < 0)
		return err_errno(e, -errno, "cannot make guest memory");
	if (!ftruncate(m->fd, (off_t)size))
		return mem_map(m, size, MAP_SHARED, e);
	rc = err_errno(e, -errno, "cannot reserve %llu MiB of memory",
		       size / MIB);
	close(m->fd);
	m->fd = -1;
	return rc;
}

int mem_init_file(struct mem *m, u64 size, int fd, struct err *e)
{
	memset(m, 0, sizeof(*m));
	m->private = true;
	m->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (m->fd < 0)
		return err_errno(e, -errno, "cannot use the memory file");
	return mem_map(m, size, MAP_PRIVATE, e);
}

/* Present or swapped out, and not the file's. */
static bool mem_written_entry(u64 entry)
{
	return entry >> 62 && !(entry >> 61 & 1);
}

static int mem_walk_read(struct mem_walk *w)
{
	u64 first = (u64)w->mem->base >> PAGE_SHIFT;
	u64 left = (w->mem->size >> PAGE_SHIFT) - w->page;
	ssize_t n;

	if (!w->fd)
		w->fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (w->fd < 0)
		return -errno;
	n = pread(w->fd, w->entry, MIN(left, ARRAY_LEN(w->entry)) * 8,
		  (off_t)((first + w->page) * 8));
	if (n < 8)
		return n < 0 ? -errno : -EIO;
	w->from = w->page;
	w->n = (unsigned)n / 8;
	return 0;
}

int mem_private_next(struct mem_walk *w, u64 *page)
{
	int rc = 0;

	while (!rc && w->page < w->mem->size >> PAGE_SHIFT) {
		if (w->page - w->from >= w->n) {
			rc = mem_walk_read(w);
			continue;
		}
		if (mem_written_entry(w->entry[w->page++ - w->from])) {
			*page = w->page - 1;
			return 1;
		}
	}
	if (w->fd > 0)
		close(w->fd);
	return rc;
}

void mem_fini(struct mem *m)
{
	if (m->fd < 0 || !m->base)
		return;
	mem_dirty_stop(m);
	free(m->dirty_bits);
	munmap(m->attr, ALIGN_UP(m->size >> PAGE_SHIFT, PAGE_SIZE));
	munmap(m->base, m->size);
	close(m->fd);
	m->fd = -1;
	m->base = NULL;
}

int mem_add_slot(struct mem *m, gpa_t gpa, u64 size, u64 offset, bool readonly,
		 struct err *e)
{
	unsigned at = 0;

	if (m->nslots == MEM_SLOTS)
		return err_set(e, -ENOSPC, "more than %d memory slots",
			       MEM_SLOTS);
	if ((gpa | size | offset) & PAGE_MASK || !size ||
	    offset + size > m->size)
		return err_set(e, -EINVAL,
			       "memory slot %#lx+%#lx is not in the memory",
			       gpa, size);
	while (at < m->nslots && m->slot[at].gpa < gpa)
		at++;
	if ((at < m->nslots && m->slot[at].gpa < gpa + size) ||
	    (at && m->slot[at - 1].gpa + m->slot[at - 1].size > gpa))
		return err_set(e, -EEXIST, "memory slot %#lx+%#lx overlaps",
			       gpa, size);
	memmove(&m->slot[at + 1], &m->slot[at],
		(m->nslots - at) * sizeof(m->slot[0]));
	m->slot[at] = (struct mem_slot){
		.gpa = gpa,
		.size = size,
		.host = m->base + offset,
		.offset = offset,
		.readonly = readonly,
	};
	m->nslots++;
	return 0;
}

const struct mem_slot *mem_find(const struct mem *m, gpa_t gpa)
{
	for (unsigned i = 0; i < m->nslots; i++)
		if (gpa - m->slot[i].gpa < m->slot[i].size)
			return &m->slot[i];
	return NULL;
}

void *mem_ptr(const struct mem *m, gpa_t gpa, u64 len)
{
	const struct mem_slot *s = mem_find(m, gpa);

	if (!s || len > s->size - (gpa - s->gpa))
		return NULL;
	return s->host + (gpa - s->gpa);
}

/* Copies slot by slot; memory that is not adjacent in the memfd is so too. */
static bool mem_copy(const struct mem *m, gpa_t gpa, u8 *buf, u64 len,
		     bool write)
{
	while (len) {
		const struct mem_slot *s = mem_find(m, gpa);
		u64 n;

		if (!s)
			return false;
		n = MIN(len, s->size - (gpa - s->gpa));
		if (write)
			memcpy(s->host + (gpa - s->gpa), buf, n);
		else
			memcpy(buf, s->host + (gpa - s->gpa), n);
		gpa += n;
		buf += n;
		len -= n;
	}
	return true;
}

bool mem_read(const struct mem *m, gpa_t gpa, void *buf, u64 len)
{
	return mem_copy(m, gpa, buf, len, false);
}

bool mem_write(struct mem *m, gpa_t gpa, const void *buf, u64 len)
{
	bool ok = mem_copy(m, gpa, (u8 *)buf, len, true);

	mem_written(m, gpa, len);
	return ok;
}

static void mem_page_written(struct mem *m, const u8 *p, gpa_t gpa, u64 len)
{
	u64 page = mem_page(m, p);
	unsigned long *dirty = __atomic_load_n(&m->dirty, __ATOMIC_ACQUIRE);

	if (dirty)
		__atomic_or_fetch(&dirty[page / 64], BIT64(page % 64),
				  __ATOMIC_RELAXED);
	/* Order: our bytes before the attribute; a decoder does it reversed. */
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&m->attr[page], __ATOMIC_SEQ_CST) & MEM_ATTR_CODE)
		m->code_written(m->code_written_arg, gpa, len);
}

void mem_written(struct mem *m, gpa_t gpa, u64 len)
{
	while (len) {
		u64 n = MIN(len, PAGE_SIZE - (gpa & PAGE_MASK));
		u8 *p = mem_ptr(m, gpa, n);

		if (p)
			mem_page_written(m, p, gpa, n);
		gpa += n;
		len -= n;
	}
}

static u64 mem_dirty_bytes(const struct mem *m)
{
	return ALIGN_UP(m->size >> PAGE_SHIFT, 64) / 8;
}

/* The bits stay until mem_fini(): a writer may have just loaded the pointer. */
int mem_dirty_start(struct mem *m, struct err *e)
{
	if (!m->dirty_bits)
		m->dirty_bits = calloc(1, mem_dirty_bytes(m));
	if (!m->dirty_bits)
		return err_set(e, -ENOMEM, "no memory for the dirty bitmap");
	memset(m->dirty_bits, 0, mem_dirty_bytes(m));
	__atomic_store_n(&m->dirty, m->dirty_bits, __ATOMIC_RELEASE);
	return 0;
}

void mem_dirty_collect(struct mem *m, unsigned long *out)
{
	for (u64 i = 0; i < mem_dirty_bytes(m) / 8; i++)
		out[i] = __atomic_exchange_n(&m->dirty_bits[i], 0,
					     __ATOMIC_ACQ_REL);
}

void mem_dirty_stop(struct mem *m)
{
	__atomic_store_n(&m->dirty, NULL, __ATOMIC_RELEASE);
}

void mem_absent_begin(struct mem *m)
{
	m->keeper = pthread_self();
	__atomic_store_n(&m->absent, true, __ATOMIC_SEQ_CST);
}

void mem_absent_end(struct mem *m)
{
	__atomic_store_n(&m->absent, false, __ATOMIC_SEQ_CST);
}

bool mem_absent(const struct mem *m)
{
	return __atomic_load_n(&m->absent, __ATOMIC_SEQ_CST);
}

bool mem_would_sleep(const struct mem *m)
{
	return mem_absent(m) && pthread_equal(m->keeper, pthread_self());
}

void mem_alone_begin(struct mem *m)
{
	__atomic_add_fetch(&m->alone, 1, __ATOMIC_SEQ_CST);
	if (m->alone_begun)
		m->alone_begun(m->alone_arg);
}

void mem_alone_end(struct mem *m)
{
	__atomic_sub_fetch(&m->alone, 1, __ATOMIC_SEQ_CST);
}
