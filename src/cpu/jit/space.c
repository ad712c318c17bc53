/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cpu/jit/space.h"

#include <string.h>
#include <sys/mman.h>

/* Bytes of code for which there is one record; units have more. */
#define SPACE_UNIT_CODE 256
#define SPACE_LINK_CODE 128

#define SPACE_CODE_ALIGN 16

/* Tables are mapped, not allocated: pages of them can be given back. */
static void *space_table(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

static size_t space_unit_bytes(const struct jit *j)
{
	return (size_t)JIT_SEGMENTS * j->room.units * sizeof(struct jit_unit);
}

static size_t space_link_bytes(const struct jit *j)
{
	return (size_t)JIT_SEGMENTS * j->room.links * sizeof(struct jit_link);
}

bool space_init(struct jit *j)
{
	size_t part = j->buf.size / JIT_SEGMENTS & ~(size_t)PAGE_MASK;

	j->room = (struct jit_segment){
		.units = (u32)(part / SPACE_UNIT_CODE),
		.links = (u32)(part / SPACE_LINK_CODE),
		.code = part,
	};
	j->unit = space_table(space_unit_bytes(j));
	j->link = space_table(space_link_bytes(j));
	return j->unit && j->link;
}

void space_fini(struct jit *j)
{
	if (j->unit)
		munmap(j->unit, space_unit_bytes(j));
	if (j->link)
		munmap(j->link, space_link_bytes(j));
}

/* The first has the number 0, and the code that all units share. */
static void space_begin(struct jit *j)
{
	bool first = j->now == 0;

	j->seg[j->now] = (struct jit_segment){
		.units = first,
		.links = first,
		.code = first ? ALIGN_UP(j->buf.used, SPACE_CODE_ALIGN) : 0,
	};
}

void space_clear(struct jit *j)
{
	memset(j->seg, 0, sizeof(j->seg));
	j->now = 0;
	space_begin(j);
}

void space_trim(struct jit *j)
{
	madvise(j->unit, space_unit_bytes(j), MADV_DONTNEED);
	madvise(j->link, space_link_bytes(j), MADV_DONTNEED);
	codebuf_trim(&j->buf);
}

struct jit_segment space_used(const struct jit *j)
{
	struct jit_segment sum = {.units = ~0u, .links = ~0u};

	for (unsigned k = 0; k < JIT_SEGMENTS; k++) {
		sum.units += j->seg[k].units;
		sum.links += j->seg[k].links;
		sum.code += j->seg[k].code;
	}
	return sum;
}

size_t space_code_max(unsigned n)
{
	return (n + 2) * KIB;
}

/* Of a unit, with that of the second page; of an instruction, and two more. */
#define SPACE_UNIT_RECORDS 2
#define SPACE_INSN_LINKS   2

bool space_fits(const struct jit *j, unsigned n)
{
	const struct jit_segment *s = &j->seg[j->now], *room = &j->room;

	return s->units + SPACE_UNIT_RECORDS <= room->units &&
	       s->links + SPACE_INSN_LINKS * (n + 1) <= room->links &&
	       s->code + space_code_max(n) <= room->code;
}

static unsigned space_after(const struct jit *j)
{
	return (j->now + 1) % JIT_SEGMENTS;
}

struct jit_unit *space_oldest(const struct jit *j, u32 *n)
{
	unsigned k = space_after(j);

	*n = j->seg[k].units;
	return &j->unit[k * j->room.units];
}

void space_next(struct jit *j)
{
	j->now = space_after(j);
	space_begin(j);
}

struct jit_unit *space_new_unit(struct jit *j)
{
	return &j->unit[j->now * j->room.units + j->seg[j->now].units++];
}

u32 space_links(const struct jit *j)
{
	return j->now * j->room.links + j->seg[j->now].links;
}

struct jit_link *space_new_link(struct jit *j)
{
	if (j->seg[j->now].links == j->room.links)
		return NULL;
	j->seg[j->now].links++;
	return &j->link[space_links(j) - 1];
}

u8 *space_code(const struct jit *j)
{
	return j->buf.write + j->now * j->room.code + j->seg[j->now].code;
}

void space_keep_code(struct jit *j, const u8 *end)
{
	struct jit_segment *s = &j->seg[j->now];

	s->code += ALIGN_UP((size_t)(end - space_code(j)), SPACE_CODE_ALIGN);
}
