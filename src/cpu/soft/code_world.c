/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the vCPUs of one engine know of each other's decoded code: how many
 * hold code of each page, and an inbox a vCPU for writes made by others.
 *
 * A vCPU first counts itself as a holder, then sets MEM_ATTR_CODE
 * (mmu_mark_code) and then reads the bytes; a writer stores first and then
 * looks at the attribute. So either the reader saw the new bytes or the
 * writer finds the holder.
 */
#include "cpu/soft/code.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct code_world {
	struct mem *mem;
	pthread_mutex_t lock;
	u16 *holders; /* lock; one a page of memory, touched where used */
	size_t holders_size;
	unsigned cpus;
	struct code_inbox inbox[]; /* lock; by vcpu.id */
};

/* mem->code_written: somebody who is no vCPU (device DMA) wrote. */
static void code_world_written(void *arg, gpa_t gpa, u64 len)
{
	struct code_world *w = arg;
	const u8 *p = mem_ptr(w->mem, gpa, len);
	unsigned first, last;

	if (!p || !len)
		return;
	first = (gpa & PAGE_MASK) / 64;
	last = MIN((gpa & PAGE_MASK) + len - 1, PAGE_MASK) / 64;
	code_world_post(w, NULL, mem_page(w->mem, p),
			(~0ull << first) & (~0ull >> (63 - last)));
}

struct code_world *code_world_new(struct mem *mem, unsigned cpus, struct err *e)
{
	struct code_world *w;

	w = calloc(1, sizeof(*w) + cpus * sizeof(w->inbox[0]));
	if (!w) {
		err_set(e, -ENOMEM, "no memory for the code of %u vCPUs", cpus);
		return NULL;
	}
	w->mem = mem;
	w->cpus = cpus;
	w->holders_size =
		ALIGN_UP((mem->size >> PAGE_SHIFT) * sizeof(u16), PAGE_SIZE);
	w->holders = mmap(NULL, w->holders_size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->holders == MAP_FAILED) {
		err_errno(e, -errno, "cannot map the table of code pages");
		free(w);
		return NULL;
	}
	pthread_mutex_init(&w->lock, NULL);
	mem->code_written_arg = w;
	mem->code_written = code_world_written;
	return w;
}

void code_world_free(struct code_world *w)
{
	if (!w)
		return;
	w->mem->code_written = NULL;
	munmap(w->holders, w->holders_size);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

void code_world_join(struct code_world *w, struct soft_vcpu *v)
{
	ASSERT(v->vcpu.id < w->cpus);
	pthread_mutex_lock(&w->lock);
	w->inbox[v->vcpu.id] = (struct code_inbox){.v = v};
	pthread_mutex_unlock(&w->lock);
}

void code_world_leave(struct code_world *w, struct soft_vcpu *v)
{
	pthread_mutex_lock(&w->lock);
	w->inbox[v->vcpu.id].v = NULL;
	pthread_mutex_unlock(&w->lock);
}

void code_world_hold(struct code_world *w, u64 page)
{
	pthread_mutex_lock(&w->lock);
	w->holders[page]++;
	pthread_mutex_unlock(&w->lock);
}

void code_world_release(struct code_world *w, u64 page)
{
	pthread_mutex_lock(&w->lock);
	ASSERT(w->holders[page]);
	if (!--w->holders[page])
		__atomic_and_fetch(&w->mem->attr[page], ~MEM_ATTR_CODE,
				   __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&w->lock);
}

/* Adds to a post of the same page if there is one. */
static void code_inbox_add(struct code_inbox *in, u32 page, u64 granules)
{
	for (unsigned i = 0; i < in->n; i++)
		if (in->post[i].page == page) {
			in->post[i].granules |= granules;
			return;
		}
	if (in->n == CODE_POSTS)
		in->all = true;
	else
		in->post[in->n++] = (struct code_post){page, granules};
}

void code_world_post(struct code_world *w, const struct soft_vcpu *but,
		     u64 page, u64 granules)
{
	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < w->cpus; i++) {
		struct code_inbox *in = &w->inbox[i];

		if (!in->v || in->v == but)
			continue;
		code_inbox_add(in, page, granules);
		soft_attention(in->v, ATTN_CODE);
	}
	pthread_mutex_unlock(&w->lock);
}

int code_world_take(struct code_world *w, struct soft_vcpu *v,
		    struct code_post *out)
{
	struct code_inbox *in = &w->inbox[v->vcpu.id];
	int n;

	pthread_mutex_lock(&w->lock);
	n = in->all ? -1 : (int)in->n;
	memcpy(out, in->post, in->n * sizeof(*out));
	in->n = 0;
	in->all = false;
	pthread_mutex_unlock(&w->lock);
	return n;
}

bool code_world_shared(struct code_world *w, u64 page, bool own)
{
	return __atomic_load_n(&w->holders[page], __ATOMIC_RELAXED) > own;
}
