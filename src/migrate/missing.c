/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/missing.h"

#include <errno.h>
#include <stdlib.h>

#include "migrate/ram.h"

#define RUN      16u /* bytes */
#define RUNS_MAX 32768u

struct runs {
	struct mig_chan *c;
	u8 *buf;
	u32 n;          /* runs in buf */
	u64 gpa, pages; /* the one that grows */
};

static int runs_flush(struct runs *r, struct err *e)
{
	u32 len = r->n * RUN;

	r->n = 0;
	return mig_send(r->c, MIG_MISSING, r->buf, len, e);
}

static int runs_end(struct runs *r, struct err *e)
{
	u8 *at = r->buf + r->n * RUN;

	if (!r->pages)
		return 0;
	mig_put(mig_put(at, r->gpa, 8), r->pages, 8);
	r->pages = 0;
	return ++r->n == RUNS_MAX ? runs_flush(r, e) : 0;
}

static int runs_add(struct runs *r, gpa_t gpa, struct err *e)
{
	int rc = 0;

	if (r->pages && gpa == r->gpa + r->pages * PAGE_SIZE) {
		r->pages++;
		return 0;
	}
	rc = runs_end(r, e);
	r->gpa = gpa;
	r->pages = 1;
	return rc;
}

int mig_missing_send(struct mig_chan *c, const struct mem *m,
		     const unsigned long *bits, struct err *e)
{
	struct runs r = {.c = c, .buf = malloc(RUNS_MAX * RUN)};
	int rc = 0;

	if (!r.buf)
		return err_set(e, -ENOMEM, "no memory for a list of pages");
	for (u64 p = 0; !rc && p < m->size >> PAGE_SHIFT; p++) {
		gpa_t gpa;

		if (!(bits[p / 64] >> (p % 64) & 1))
			continue;
		gpa = mig_page_gpa(m, p);
		if (gpa != ~0ull)
			rc = runs_add(&r, gpa, e);
	}
	if (!rc)
		rc = runs_end(&r, e);
	if (!rc && r.n)
		rc = runs_flush(&r, e);
	if (!rc)
		rc = runs_flush(&r, e);
	free(r.buf);
	return rc;
}

static int missing_run(const struct mem *m, gpa_t gpa, u64 pages,
		       unsigned long *bits, struct err *e)
{
	const u8 *p = NULL;
	u64 first;

	if (!(gpa & PAGE_MASK) && pages && pages <= m->size >> PAGE_SHIFT)
		p = mem_ptr(m, gpa, pages << PAGE_SHIFT);
	if (!p)
		return err_set(e, -EPROTO,
			       "the migration stream speaks of %lu pages at "
			       "%#lx, where the machine has no memory",
			       pages, gpa);
	first = mem_page(m, p);
	for (u64 i = first; i < first + pages; i++)
		bits[i / 64] |= BIT64(i % 64);
	return 0;
}

int mig_missing_add(const struct mem *m, const struct mig_frame *f,
		    unsigned long *bits, struct err *e)
{
	int rc = 0;

	if (f->len % RUN)
		return err_set(e, -EPROTO,
			       "the migration stream has a list of pages of "
			       "%u bytes",
			       f->len);
	for (u32 at = 0; !rc && at < f->len; at += RUN)
		rc = missing_run(m, mig_get(f->data + at, 8),
				 mig_get(f->data + at + 8, 8), bits, e);
	return rc;
}
