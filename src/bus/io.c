/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A sorted table under a sequence count: look-ups take no lock, they copy the
 * range they found and look again if the table was changed meanwhile. A table
 * that was outgrown is kept until the space is freed (each is twice the size
 * of the one before), so a look-up never reads freed memory.
 */
#include "bus/io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct io_range {
	u64 base, len;
	const struct io_ops *ops;
	void *arg;
	const char *name;
};

struct io_table {
	struct io_table *older;
	size_t capacity;
	struct io_range range[];
};

struct io_space {
	const char *name;
	pthread_mutex_t lock;   /* taken by those who change the table */
	u32 seq;                /* atomic; odd while it changes */
	size_t n;               /* atomic */
	struct io_table *table; /* atomic */
	u64 unclaimed;          /* atomic */
};

static struct io_table *io_table_new(size_t capacity)
{
	struct io_table *t;

	t = calloc(1, sizeof(*t) + capacity * sizeof(t->range[0]));
	if (t)
		t->capacity = capacity;
	return t;
}

struct io_space *io_space_new(const char *name)
{
	struct io_space *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->name = name;
	s->table = io_table_new(32);
	if (!s->table) {
		free(s);
		return NULL;
	}
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void io_space_free(struct io_space *s)
{
	struct io_table *t;

	if (!s)
		return;
	while ((t = s->table)) {
		s->table = t->older;
		free(t);
	}
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* ---- look-up ---- */

/* Number of ranges whose base is <= addr. */
static size_t io_upper(const struct io_table *t, size_t n, u64 addr)
{
	size_t lo = 0, hi = n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (t->range[mid].base <= addr)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static bool io_find(struct io_space *s, u64 addr, struct io_range *out)
{
	const struct io_table *t;
	size_t at, n;
	u32 seq;

	do {
		seq = __atomic_load_n(&s->seq, __ATOMIC_ACQUIRE);
		t = __atomic_load_n(&s->table, __ATOMIC_ACQUIRE);
		n = __atomic_load_n(&s->n, __ATOMIC_RELAXED);
		at = io_upper(t, MIN(n, t->capacity), addr);
		if (at)
			*out = t->range[at - 1];
		__atomic_thread_fence(__ATOMIC_ACQUIRE);
	} while ((seq & 1) ||
		 seq != __atomic_load_n(&s->seq, __ATOMIC_RELAXED));
	return at && addr - out->base < out->len;
}

static u64 io_mask(unsigned len)
{
	return len < 8 ? BIT64(len * 8) - 1 : ~0ull;
}

static u64 io_range_read(const struct io_range *r, u64 addr, unsigned len)
{
	if (!r->ops->read)
		return io_mask(len);
	return r->ops->read(r->arg, addr - r->base, len) & io_mask(len);
}

static void io_count_unclaimed(struct io_space *s)
{
	__atomic_add_fetch(&s->unclaimed, 1, __ATOMIC_RELAXED);
}

/* Across the end of a range: as buses do it, each byte for itself. */
static u64 io_read_bytes(struct io_space *s, u64 addr, unsigned len)
{
	bool missed = false;
	struct io_range r;
	u64 val = 0;

	for (unsigned i = 0; i < len; i++) {
		u64 byte = 0xff;

		if (io_find(s, addr + i, &r))
			byte = io_range_read(&r, addr + i, 1);
		else
			missed = true;
		val |= byte << 8 * i;
	}
	if (missed)
		io_count_unclaimed(s);
	return val;
}

static void io_write_bytes(struct io_space *s, u64 addr, u64 val, unsigned len)
{
	bool missed = false;
	struct io_range r;

	for (unsigned i = 0; i < len; i++) {
		if (!io_find(s, addr + i, &r))
			missed = true;
		else if (r.ops->write)
			r.ops->write(r.arg, addr + i - r.base,
				     val >> 8 * i & 0xff, 1);
	}
	if (missed)
		io_count_unclaimed(s);
}

u64 io_read(struct io_space *s, u64 addr, unsigned len)
{
	struct io_range r;

	if (io_find(s, addr, &r) && len <= r.len - (addr - r.base))
		return io_range_read(&r, addr, len);
	return io_read_bytes(s, addr, len);
}

void io_write(struct io_space *s, u64 addr, u64 val, unsigned len)
{
	struct io_range r;

	if (!io_find(s, addr, &r) || len > r.len - (addr - r.base))
		io_write_bytes(s, addr, val, len);
	else if (r.ops->write)
		r.ops->write(r.arg, addr - r.base, val & io_mask(len), len);
}

u64 io_unclaimed(const struct io_space *s)
{
	return __atomic_load_n(&s->unclaimed, __ATOMIC_RELAXED);
}

/* ---- changes ---- */

static int io_grow_locked(struct io_space *s)
{
	struct io_table *t;

	if (s->n < s->table->capacity)
		return 0;
	t = io_table_new(2 * s->table->capacity);
	if (!t)
		return -ENOMEM;
	memcpy(t->range, s->table->range, s->n * sizeof(t->range[0]));
	t->older = s->table;
	__atomic_store_n(&s->table, t, __ATOMIC_RELEASE);
	return 0;
}

static void io_change_begin_locked(struct io_space *s)
{
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELAXED);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static void io_change_end_locked(struct io_space *s, size_t n)
{
	__atomic_store_n(&s->n, n, __ATOMIC_RELAXED);
	__atomic_store_n(&s->seq, s->seq + 1, __ATOMIC_RELEASE);
}

static int io_insert_locked(struct io_space *s, const struct io_range *r,
			    struct err *e)
{
	size_t at = io_upper(s->table, s->n, r->base);
	struct io_range *p = s->table->range + at, *clash = NULL;

	if (at < s->n && p->base - r->base < r->len)
		clash = p;
	if (at && r->base - p[-1].base < p[-1].len)
		clash = p - 1;
	if (clash)
		return err_set(e, -EEXIST, "%s: %s at %#lx+%#lx overlaps %s",
			       s->name, r->name, r->base, r->len, clash->name);
	if (io_grow_locked(s))
		return err_set(e, -ENOMEM, "%s: no memory for %s", s->name,
			       r->name);
	p = s->table->range + at;
	io_change_begin_locked(s);
	memmove(p + 1, p, (s->n - at) * sizeof(*p));
	*p = *r;
	io_change_end_locked(s, s->n + 1);
	return 0;
}

int io_map(struct io_space *s, u64 base, u64 len, const struct io_ops *ops,
	   void *arg, const char *name, struct err *e)
{
	struct io_range r = {base, len, ops, arg, name};
	int rc;

	if (!len || base + len - 1 < base)
		return err_set(e, -EINVAL, "%s: %s has no room at %#lx+%#lx",
			       s->name, name, base, len);
	pthread_mutex_lock(&s->lock);
	rc = io_insert_locked(s, &r, e);
	pthread_mutex_unlock(&s->lock);
	return rc;
}

void io_unmap(struct io_space *s, u64 base)
{
	struct io_range *p;
	size_t at;

	pthread_mutex_lock(&s->lock);
	at = io_upper(s->table, s->n, base);
	p = s->table->range + at;
	if (at && p[-1].base == base) {
		io_change_begin_locked(s);
		memmove(p - 1, p, (s->n - at) * sizeof(*p));
		io_change_end_locked(s, s->n - 1);
	}
	pthread_mutex_unlock(&s->lock);
}

void io_walk(struct io_space *s,
	     void (*fn)(void *arg, u64 base, u64 len, const char *name),
	     void *arg)
{
	struct io_range r;

	for (size_t i = 0;; i++) {
		pthread_mutex_lock(&s->lock);
		if (i >= s->n) {
			pthread_mutex_unlock(&s->lock);
			return;
		}
		r = s->table->range[i];
		pthread_mutex_unlock(&s->lock);
		fn(arg, r.base, r.len, r.name);
	}
}
