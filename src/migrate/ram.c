/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "migrate/ram.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Fewer pages than this are not worth starting threads. */
#define RAM_THREADS_FROM 2048u

/* What one stream's sender works with. */
struct sender {
	struct mig_ram *r;
	unsigned stream;
	struct mig_pages pages;
	u8 out[MIG_PAGES_MAX];
	pthread_t thread;
	bool started;
	int rc;
	struct err err;
};

static u64 ram_words(const struct mem *m)
{
	return ALIGN_UP(m->size >> PAGE_SHIFT, 64) / 64;
}

int mig_ram_init(struct mig_ram *r, const struct mem *m, struct err *e)
{
	*r = (struct mig_ram){.mem = m, .words = ram_words(m)};
	r->todo = calloc(r->words, 8);
	return r->todo ? 0 : err_set(e, -ENOMEM, "no memory for a bitmap");
}

void mig_ram_fini(struct mig_ram *r)
{
	free(r->todo);
	r->todo = NULL;
}

static void ram_todo(struct mig_ram *r, u64 page)
{
	r->todo[page / 64] |= BIT64(page % 64);
}

/* Looking at untouched memory would fill it; the file knows its holes. */
static void ram_file(struct mig_ram *r)
{
	off_t end = (off_t)r->mem->size, at = 0;

	while (at < end) {
		off_t from = lseek(r->mem->fd, at, SEEK_DATA), to;

		if (from < 0 && errno == ENXIO)
			return;
		to = from < 0 ? end : lseek(r->mem->fd, from, SEEK_HOLE);
		from = MAX(from, at);
		to = to < 0 ? end : to;
		for (u64 p = (u64)from >> PAGE_SHIFT; p < (u64)to >> PAGE_SHIFT;
		     p++)
			ram_todo(r, p);
		at = to;
	}
}

int mig_ram_all(struct mig_ram *r, struct err *e)
{
	struct mem_walk w = {.mem = r->mem};
	u64 page;
	int rc = 0;

	ram_file(r);
	if (!r->mem->private)
		return 0;
	while ((rc = mem_private_next(&w, &page)) > 0)
		ram_todo(r, page);
	return rc ? err_errno(e, rc, "cannot tell which memory was written")
		  : 0;
}

u64 mig_ram_left(const struct mig_ram *r)
{
	u64 n = 0;

	for (u64 i = 0; i < r->words; i++)
		n += (u64)__builtin_popcountl(r->todo[i]);
	return n;
}

gpa_t mig_page_gpa(const struct mem *m, u64 page)
{
	u64 at = page << PAGE_SHIFT;

	for (unsigned i = 0; i < m->nslots; i++)
		if (at - m->slot[i].offset < m->slot[i].size)
			return m->slot[i].gpa + (at - m->slot[i].offset);
	return ~0ull;
}

static int sender_flush(struct sender *s, struct err *e)
{
	struct mig_ram *r = s->r;
	u32 len, n = s->pages.n;

	if (!n)
		return 0;
	s->pages.round = r->round;
	len = mig_pages_encode(&s->pages, r->codec, s->out);
	s->pages.n = s->pages.ndata = 0;
	__atomic_add_fetch(&r->sent, n, __ATOMIC_RELAXED);
	return mig_send(&r->chan[s->stream], MIG_PAGES, s->out, len, e);
}

static int sender_word(struct sender *s, u64 word, struct err *e)
{
	struct mig_ram *r = s->r;
	unsigned long bits = r->todo[word];
	int rc = 0;

	r->todo[word] = 0;
	for (; bits && !rc; bits &= bits - 1) {
		u64 page = word * 64 + (u64)__builtin_ctzl(bits);
		gpa_t gpa = mig_page_gpa(r->mem, page);

		if (gpa == ~0ull)
			continue;
		mig_pages_add(&s->pages, gpa,
			      r->mem->base + (page << PAGE_SHIFT));
		if (s->pages.n == MIG_BATCH)
			rc = sender_flush(s, e);
	}
	return rc;
}

static void *sender_main(void *arg)
{
	struct sender *s = arg;
	struct mig_ram *r = s->r;

	for (u64 w = s->stream; w < r->words && !s->rc; w += r->n)
		if (r->todo[w])
			s->rc = sender_word(s, w, &s->err);
	if (!s->rc)
		s->rc = sender_flush(s, &s->err);
	if (!s->rc)
		s->rc = mig_send_u64(&r->chan[s->stream], MIG_BARRIER, r->round,
				     &s->err);
	return NULL;
}

int mig_ram_send(struct mig_ram *r, struct err *e)
{
	bool threads = r->n > 1 && mig_ram_left(r) >= RAM_THREADS_FROM;
	struct sender *s = calloc(r->n, sizeof(*s));
	int rc = 0;

	if (!s)
		return err_set(e, -ENOMEM, "no memory to send pages");
	for (unsigned i = 0; i < r->n; i++) {
		s[i].r = r;
		s[i].stream = i;
		s[i].started =
			threads && i &&
			!pthread_create(&s[i].thread, NULL, sender_main, &s[i]);
	}
	for (unsigned i = 0; i < r->n; i++)
		if (!s[i].started)
			sender_main(&s[i]);
	for (unsigned i = 0; i < r->n; i++) {
		if (s[i].started)
			pthread_join(s[i].thread, NULL);
		if (s[i].rc && !rc)
			rc = err_set(e, s[i].rc, "%s", s[i].err.text);
	}
	free(s);
	r->round++;
	return rc;
}

/* ---- target ---- */

int mig_ram_in_init(struct mig_ram_in *r, struct mem *m, struct err *e)
{
	*r = (struct mig_ram_in){.mem = m};
	r->known = calloc(ram_words(m), 8);
	return r->known ? 0 : err_set(e, -ENOMEM, "no memory for a bitmap");
}

void mig_ram_in_fini(struct mig_ram_in *r)
{
	free(r->known);
	r->known = NULL;
}

/* A page that nobody wrote is zero already, and shall take no memory. */
static void ram_put(struct mig_ram_in *r, u8 *to, const u8 *data)
{
	u64 page = mem_page(r->mem, to);
	unsigned long bit = BIT64(page % 64), was;

	was = __atomic_fetch_or(&r->known[page / 64], bit, __ATOMIC_RELAXED);
	if (data)
		memcpy(to, data, PAGE_SIZE);
	else if (was & bit)
		memset(to, 0, PAGE_SIZE);
	else
		__atomic_and_fetch(&r->known[page / 64], ~bit,
				   __ATOMIC_RELAXED);
}

int mig_ram_apply(struct mig_ram_in *r, const struct mig_pages *p,
		  struct err *e)
{
	const u8 *data = p->data;

	for (u32 i = 0; i < p->n; i++)
		if (!mem_ptr(r->mem, p->gpa[i], PAGE_SIZE))
			return err_set(e, -EPROTO,
				       "the migration stream has a page at "
				       "%#lx, where the machine has no memory",
				       p->gpa[i]);
	for (u32 i = 0; i < p->n; i++) {
		ram_put(r, mem_ptr(r->mem, p->gpa[i], PAGE_SIZE),
			p->zero[i] ? NULL : data);
		data += p->zero[i] ? 0 : PAGE_SIZE;
	}
	return 0;
}
