/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/jit/book.h"

#include <string.h>

#include "cpu/jit/space.h"

static unsigned book_hash(u64 at)
{
	return (unsigned)((at ^ at >> 16) >> JIT_MAP_SHIFT) % JIT_HASH_SIZE;
}

static u32 book_number(const struct jit *j, const struct jit_unit *t)
{
	return (u32)(t - j->unit);
}

/* What crosses is right only if the page after is the one it ends in. */
static bool book_fits(struct soft_vcpu *v, const struct jit_unit *t,
		      const struct jit_place *p)
{
	return !t->twin ||
	       (p->next && mem_page(soft_mem(v), p->next) == t->twin->page);
}

struct jit_unit *book_find(struct soft_vcpu *v, const struct jit_place *p,
			   u8 level)
{
	struct jit_unit *t = v->jit->hash[book_hash(p->at)];

	while (t && (t->at != p->at || t->level != level || t->pin != p->pin ||
		     t->code32 != p->code32 || !book_fits(v, t, p)))
		t = t->hash_next;
	return t;
}

struct jit_unit *book_find_any(struct soft_vcpu *v, struct jit_place *p)
{
	struct jit_unit *t = book_find(v, p, UNIT_WINDOW);

	if (t || !p->pin)
		return t;
	p->pin = 0;
	return book_find(v, p, UNIT_WINDOW);
}

/* ---- The map ---- */

/* As branch_lookup() computes it. */
struct jit_entry *book_entry(struct soft_vcpu *v)
{
	u64 h = v->rip ^ v->rip >> JIT_MAP_BITS ^ v->fetch_key;

	return &v->jit->map[h >> JIT_MAP_SHIFT & (JIT_MAP_SIZE - 1)];
}

/* Of the entries that lead to t, it knows the latest. */
void book_map(struct soft_vcpu *v, struct jit_entry *e, struct jit_unit *t)
{
	struct jit *j = v->jit;
	u16 *known = &t->slot[t->nslots++ % JIT_SLOTS];

	if (t->nslots > JIT_SLOTS && j->map[*known].unit == t)
		memset(&j->map[*known], 0, sizeof(j->map[0]));
	if (t->nslots == 2 * JIT_SLOTS)
		t->nslots = JIT_SLOTS;
	*known = (u16)(e - j->map);
	*e = (struct jit_entry){.lin = v->rip,
				.key = v->fetch_key,
				.code = codebuf_exec(&j->buf, t->entry_fl),
				.unit = t};
}

static void book_unmap(struct jit *j, const struct jit_unit *t)
{
	for (u32 k = 0; k < MIN(t->nslots, JIT_SLOTS); k++)
		if (j->map[t->slot[k]].unit == t)
			memset(&j->map[t->slot[k]], 0, sizeof(j->map[0]));
}

/* ---- Links ---- */

static void link_patch(const struct jit *j, struct jit_link *l,
		       const u8 *target)
{
	emit_patch32(j->buf.write + l->site, target);
}

static void link_enter(struct jit *j, struct jit_link *l, struct jit_unit *to)
{
	l->to = book_number(j, to);
	l->prev = 0;
	l->next = to->incoming;
	to->incoming = (u32)(l - j->link);
	if (l->next)
		space_link(j, l->next)->prev = to->incoming;
}

/* Out of the list of its target; the jump goes to the monitor again. */
static void link_leave(struct jit *j, struct jit_link *l)
{
	if (l->next)
		space_link(j, l->next)->prev = l->prev;
	if (l->prev)
		space_link(j, l->prev)->next = l->next;
	else
		space_unit(j, l->to)->incoming = l->next;
	l->to = 0;
	l->key = 0;
	link_patch(j, l, j->buf.write + l->unlinked);
}

void book_link(struct soft_vcpu *v, struct jit_link *l, struct jit_unit *to,
	       u64 page)
{
	struct jit *j = v->jit;

	if (!l->cross && !l->level && (to->twin || (to->pin && !l->pinned)))
		return;
	if (!l->pinned)
		l->page = page;
	j->mapped |= l->pinned && l->cross;
	l->key = v->fetch_key;
	l->patience = JIT_PATIENCE;
	if (l->to == book_number(j, to))
		return;
	if (l->to)
		link_leave(j, l);
	l->key = v->fetch_key;
	link_enter(j, l, to);
	link_patch(j, l, l->in_fl ? to->entry_fl : to->entry_host);
	codebuf_serialize();
}

void book_remapped(struct soft_vcpu *v)
{
	struct jit *j = v->jit;

	if (!j->mapped)
		return;
	j->mapped = false;
	j->remaps++;
	for (unsigned k = 0; k < JIT_SEGMENTS; k++)
		for (u32 n = 0; n < j->seg[k].links; n++) {
			struct jit_link *l =
				space_link(j, k * j->room.links + n);

			if (l->pinned && l->cross && l->to)
				link_leave(j, l);
		}
	codebuf_serialize();
}

/* All links to t, and those that it has. */
static void book_unlink(struct jit *j, struct jit_unit *t)
{
	while (t->incoming)
		link_leave(j, space_link(j, t->incoming));
	for (u32 k = 0; k < t->nlinks; k++)
		if (space_link(j, t->links + k)->to)
			link_leave(j, space_link(j, t->links + k));
}

/* ---- Pages ---- */

static struct jit_unit **book_page(struct jit *j, u64 page)
{
	return &j->pages[page % JIT_PAGE_HASH];
}

void book_add_second(struct jit *j, struct jit_unit *t)
{
	t->page_next = *book_page(j, t->page);
	*book_page(j, t->page) = t;
}

void book_add(struct jit *j, struct jit_unit *t)
{
	unsigned h = book_hash(t->at);

	t->hash_next = j->hash[h];
	j->hash[h] = t;
	book_add_second(j, t);
}

static void book_leave_page(struct jit *j, struct jit_unit *t)
{
	struct jit_unit **at = book_page(j, t->page);

	while (*at != t)
		at = &(*at)->page_next;
	*at = t->page_next;
}

static void book_leave_hash(struct jit *j, struct jit_unit *t)
{
	struct jit_unit **at = &j->hash[book_hash(t->at)];

	while (*at != t)
		at = &(*at)->hash_next;
	*at = t->hash_next;
}

/* t is out of its page's list, and its twin out of its. */
static void book_drop(struct jit *j, struct jit_unit *t)
{
	j->changed = true;
	book_leave_hash(j, t);
	book_unlink(j, t);
	book_unmap(j, t);
	codebuf_serialize();
}

void book_written(struct soft_vcpu *v, u64 page, u64 off, u64 n)
{
	struct jit_unit **at = book_page(v->jit, page);
	u64 granules =
		(~0ull << off / 64) & (~0ull >> (63 - (off + n - 1) / 64));

	while (*at) {
		struct jit_unit *t = *at;

		if (t->page != page || !(t->granules & granules)) {
			at = &t->page_next;
			continue;
		}
		*at = t->page_next;
		if (t->twin) {
			book_leave_page(v->jit, t->twin);
			at = book_page(v->jit, page);
		}
		book_drop(v->jit, t->second ? t->twin : t);
	}
}

u64 book_granules(struct soft_vcpu *v, u64 page)
{
	struct jit_unit *t = *book_page(v->jit, page);
	u64 granules = 0;

	for (; t; t = t->page_next)
		if (t->page == page)
			granules |= t->granules;
	return granules;
}

/* ---- Many at once ---- */

/* Takes units [from, end) out of all lists: less than a search for each. */
static void book_leave_all(struct jit *j, const struct jit_unit *from,
			   const struct jit_unit *end)
{
	struct jit_unit **at;

	for (unsigned h = 0; h < JIT_HASH_SIZE; h++)
		for (at = &j->hash[h]; *at;)
			if (*at >= from && *at < end)
				*at = (*at)->hash_next;
			else
				at = &(*at)->hash_next;
	for (unsigned h = 0; h < JIT_PAGE_HASH; h++)
		for (at = &j->pages[h]; *at;)
			if (*at >= from && *at < end)
				*at = (*at)->page_next;
			else
				at = &(*at)->page_next;
}

void book_evict(struct soft_vcpu *v)
{
	struct jit *j = v->jit;
	u32 n;
	struct jit_unit *first = space_oldest(j, &n);

	if (n) {
		book_leave_all(j, first, first + n);
		for (u32 k = 0; k < n; k++) {
			book_unlink(j, &first[k]);
			book_unmap(j, &first[k]);
		}
		j->changed = true;
		v->vcpu.stat[VCPU_STAT_TR_EVICT]++;
	}
	space_next(j);
	codebuf_serialize();
}

void book_clear(struct soft_vcpu *v)
{
	struct jit *j = v->jit;

	if (space_used(j).units) { /* a new one's tables stay untouched */
		memset(j->map, 0, sizeof(j->map));
		memset(j->hash, 0, sizeof(j->hash));
		memset(j->pages, 0, sizeof(j->pages));
	}
	space_clear(j);
	j->changed = true;
	v->vcpu.stat[VCPU_STAT_TR_FLUSH]++;
	codebuf_serialize();
}
