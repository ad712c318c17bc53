/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decoding of straight-line code into a block: up to a branch, the end of the
 * page or BLOCK_MAX_INSNS instructions.
 *
 * An instruction of sys_*.c or simd*.c takes two entries: its own, whose fn is
 * a caller of int_end.c, and one whose aux is the handler to be called.
 */
#include "cpu/soft/block.h"

#include <string.h>

#include "cpu/soft/access.h"
#include "cpu/soft/int.h"

static enum decode_mode block_mode(u32 key)
{
	if (key & BLOCK_CS64)
		return DECODE_64;
	return key & BLOCK_CS32 ? DECODE_32 : DECODE_16;
}

static bool block_undefined(const struct soft_vcpu *v, const struct insn *i,
			    u32 key)
{
	const struct op_row *row = &op_rows[i->row];

	if (i->op == OP_INVALID || !v->code->feature[row->feature])
		return true;
	if ((i->prefix & PFX_LOCK) && !(row->attr & OPA_LOCK && i->mem))
		return true;
	return (i->prefix & PFX_VEX) && !(key & BLOCK_VEX);
}

static insn_fn *block_foreign(struct soft_vcpu *v, struct insn *i,
			      const u8 *bytes)
{
	if (op_rows[i->row].attr & (OPA_SIMD | OPA_X87))
		return simd_bind(v, i, bytes);
	return sys_bind(i);
}

insn_fn *soft_bind_insn(struct soft_vcpu *v, struct insn *i, const u8 *bytes,
			bool *threaded)
{
	insn_fn *fn;

	if (block_undefined(v, i, BLOCK_CS64 | BLOCK_VEX))
		return NULL;
	fn = int_bind(i);
	*threaded = fn != NULL;
	return fn ? fn : block_foreign(v, i, bytes);
}

/* Appends *in, which is at the end of b; true if b ends with it. */
static bool block_add(struct soft_vcpu *v, struct soft_block *b,
		      const struct insn *in, const u8 *bytes)
{
	struct insn *i = &b->insn[b->slots++];
	u32 attr = op_rows[in->row].attr;
	insn_fn *fn;

	*i = *in;
	i->off = b->len;
	b->len += i->len;
	b->n++;
	if (block_undefined(v, i, b->key)) {
		i->fn = int_undefined;
		return true;
	}
	i->fn = int_bind(i);
	if (i->fn)
		return attr & OPA_BRANCH;
	fn = block_foreign(v, i, bytes);
	b->insn[b->slots++] = (struct insn){.aux = fn, .off = i->off};
	i->fn = attr & (OPA_BRANCH | OPA_STRING) ? int_call_end : int_call;
	return i->fn == int_call_end;
}

/* The entry after the last instruction of a block that simply ends. */
static void block_end(struct soft_block *b)
{
	b->insn[b->slots++] = (struct insn){.fn = int_fall, .off = b->len};
}

static void block_begin(struct soft_block *b, u64 at, u32 key)
{
	memset(b, 0, sizeof(*b));
	b->at = at;
	b->key = key;
	b->heat = SOFT_HEAT_NEVER;
}

/* More than 15 bytes: #GP(0) when it is executed. */
static void block_too_long(struct soft_block *b)
{
	b->insn[b->slots++] =
		(struct insn){.fn = int_too_long, .off = b->len, .len = 15};
	b->len += 15;
	b->n++;
}

/* The block of one instruction that crosses into another page. */
static struct soft_block *block_cross(struct soft_vcpu *v, gva_t lin,
				      const u8 *host, u32 key)
{
	struct soft_code *c = v->code;
	const u8 *host2 = soft_fetch(v, (lin | PAGE_MASK) + 1);
	u64 at = (u64)(host - c->mem->base);
	unsigned head = (unsigned)(PAGE_SIZE - (lin & PAGE_MASK));
	struct soft_block *b;
	struct insn in;
	u8 buf[15];

	if (!host2)
		return block_volatile(v, lin, key);
	code_reserve(v, at >> PAGE_SHIFT, mem_page(c->mem, host2));
	b = (struct soft_block *)(c->arena + c->arena_used);
	block_begin(b, at, key | BLOCK_CROSS);
	b->page2 = (u32)mem_page(c->mem, host2);
	memcpy(buf, host, head);
	memcpy(buf + head, host2, 15 - head);
	if (insn_decode(&in, buf, 15, block_mode(key)) != DECODE_OK)
		block_too_long(b);
	else if (!block_add(v, b, &in, buf))
		block_end(b);
	/* Another writer of the first page may have shortened it meanwhile. */
	if ((b->at & PAGE_MASK) + b->len <= PAGE_SIZE)
		b->key &= ~BLOCK_CROSS;
	code_keep(v, b);
	return b;
}

/* Decodes into b from host on; false if not one whole instruction is there. */
static bool block_fill(struct soft_vcpu *v, struct soft_block *b,
		       const u8 *host)
{
	u64 room = PAGE_SIZE - (b->at & PAGE_MASK);
	unsigned max = b->key & BLOCK_SINGLE ? 1 : BLOCK_MAX_INSNS;
	enum decode_result r;
	struct insn in;
	u8 buf[16];

	while (b->n < max && b->len < room) {
		unsigned n = (unsigned)MIN(15, room - b->len);

		memcpy(buf, host + b->len, n);
		r = insn_decode(&in, buf, n, block_mode(b->key));
		if (r == DECODE_MORE)
			break;
		if (r == DECODE_TOO_LONG) {
			block_too_long(b);
			return true;
		}
		if (block_add(v, b, &in, buf))
			return true;
	}
	if (b->n)
		block_end(b);
	return b->n;
}

struct soft_block *block_decode(struct soft_vcpu *v, gva_t lin, const u8 *host,
				u32 key)
{
	struct soft_code *c = v->code;
	u64 at = (u64)(host - c->mem->base);
	struct soft_block *b;

	code_reserve(v, at >> PAGE_SHIFT, at >> PAGE_SHIFT);
	b = (struct soft_block *)(c->arena + c->arena_used);
	block_begin(b, at, key);
	if (!block_fill(v, b, host))
		return block_cross(v, lin, host, key);
	code_keep(v, b);
	return b;
}

struct soft_block *block_volatile(struct soft_vcpu *v, gva_t lin, u32 key)
{
	struct soft_block *b = v->code->scratch;
	enum decode_result r = DECODE_MORE;
	unsigned head = (unsigned)MIN(15, PAGE_SIZE - (lin & PAGE_MASK));
	struct insn in;
	u8 buf[16] = {0};

	block_begin(b, 0, key | BLOCK_SINGLE);
	soft_fetch_bytes(v, lin, buf, head);
	r = insn_decode(&in, buf, head, block_mode(key));
	if (r == DECODE_MORE && head < 15) {
		soft_fetch_bytes(v, lin + head, buf + head, 15 - head);
		r = insn_decode(&in, buf, 15, block_mode(key));
	}
	if (r != DECODE_OK)
		block_too_long(b);
	else if (!block_add(v, b, &in, buf))
		block_end(b);
	return b;
}
