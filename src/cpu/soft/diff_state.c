/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Register contents for the differential test: values at the edges more often
 * than by chance, for integers, vectors and the x87.
 */
#include "cpu/soft/diff_gen.h"

#include <string.h>

u64 diff_value(struct diff_rng *r)
{
	u64 x = diff_rnd(r);

	switch (diff_pick(r, 8)) {
	case 0: return x & 15;
	case 1: return ~(x & 15);
	case 2: return (1ull << (x & 63)) - (x >> 60 & 1);
	case 3: return (1ull << (x & 63)) + (x >> 60 & 1);
	case 4: return (x & 0xff) * 0x0101010101010101;
	default: return x;
	}
}

static u32 state_float(struct diff_rng *r)
{
	static const u32 special[] = {0,          0x3f800000, 0x7f800000,
				      0x7fc00000, 0x7fa00000, 0x00000001,
				      0x007fffff, 0x00800000, 0x7f7fffff,
				      0x4f000000, 0x5f000000, 0x33800000};
	u32 x = (u32)(diff_rnd(r) >> 8);

	switch (diff_pick(r, 4)) {
	case 0: return special[diff_pick(r, 12)] | (x & 0x80000000);
	case 1: return x;
	default: return (x & 0x87ffffff) | 0x3c000000;
	}
}

static u64 state_double(struct diff_rng *r)
{
	static const u64 special[] = {0,
				      0x3ff0000000000000,
				      0x7ff0000000000000,
				      0x7ff8000000000000,
				      0x7ff4000000000000,
				      0x0000000000000001,
				      0x000fffffffffffff,
				      0x0010000000000000,
				      0x7fefffffffffffff,
				      0x41e0000000000000,
				      0x43e0000000000000,
				      0x3ca0000000000000};
	u64 x = diff_rnd(r);

	switch (diff_pick(r, 4)) {
	case 0: return special[diff_pick(r, 12)] | (x & BIT64(63));
	case 1: return x;
	default: return (x & 0x80ffffffffffffff) | 0x3f00000000000000;
	}
}

void diff_fill_vector(struct diff_rng *r, u8 *p, unsigned n)
{
	unsigned kind = diff_pick(r, 6);
	u64 x;

	for (unsigned k = 0; k < n; k += 8) {
		switch (kind) {
		case 0: x = diff_rnd(r); break;
		case 1:
		case 2: x = state_float(r) | (u64)state_float(r) << 32; break;
		case 3:
		case 4: x = state_double(r); break;
		default: x = diff_value(r); break;
		}
		memcpy(p + k, &x, 8);
	}
}

/* An 80-bit number; encodings that no operation makes are rare. */
static void state_extended(struct diff_rng *r, u8 *p)
{
	u64 m = diff_rnd(r) | BIT64(63);
	u16 e = 0x3fff + (u16)diff_pick(r, 128) - 64;

	switch (diff_pick(r, 12)) {
	case 0: m = e = 0; break;
	case 1: e = 0x7fff, m = BIT64(63); break;
	case 2: e = 0x7fff; break;
	case 3: e = 0, m &= ~BIT64(63); break;
	case 4: e = (u16)(diff_rnd(r) & 0x7fff); break;
	case 5: m = BIT64(63); break;
	case 6: e = 0x3fff + (u16)diff_pick(r, 64), m &= ~0ull << 40; break;
	case 7:
		if (diff_chance(r, 4))
			m &= ~BIT64(63);
		break;
	}
	e |= diff_chance(r, 2) ? 0x8000 : 0;
	memcpy(p, &m, 8);
	memcpy(p + 8, &e, 2);
}

static void state_x87(struct diff_rng *r, u8 *x)
{
	u16 fcw = 0x37f, fsw = (u16)(diff_rnd(r) & 0x7f00);

	memset(x, 0, 24);
	if (diff_chance(r, 3))
		fcw = 0x40 | (u16)(diff_rnd(r) & 0xf3f);
	if (diff_chance(r, 4))
		fcw |= 0x3f;
	if (diff_chance(r, 8))
		fsw |= diff_rnd(r) & 0x7f;
	if (fsw & ~fcw & 0x3f)
		fsw |= 0x8080;
	x[4] = diff_chance(r, 2) ? 0xff : (u8)diff_rnd(r);
	memcpy(x, &fcw, 2);
	memcpy(x + 2, &fsw, 2);
	memset(x + 32, 0, 128);
	for (unsigned k = 0; k < 8; k++)
		state_extended(r, x + 32 + 16 * k);
}

static u32 state_mxcsr(struct diff_rng *r)
{
	u32 x = 0x1f80;

	if (diff_chance(r, 2))
		x |= diff_rnd(r) & 0xe07f;
	if (diff_chance(r, 6))
		x &= ~(u32)(diff_rnd(r) & 0x1f80);
	return x;
}

void diff_fill_xsave(struct diff_rng *r, u8 *x)
{
	u32 mxcsr = state_mxcsr(r), mask = 0xffff;
	u64 bv = 7;

	memset(x + 416, 0, 160);
	state_x87(r, x);
	memcpy(x + 24, &mxcsr, 4);
	memcpy(x + 28, &mask, 4);
	memcpy(x + 512, &bv, 8);
	for (unsigned k = 0; k < 16; k++) {
		diff_fill_vector(r, x + 160 + 16 * k, 16);
		diff_fill_vector(r, x + 576 + 16 * k, 16);
	}
}

u64 diff_flags(struct diff_rng *r)
{
	u64 f = RFLAGS_FIXED | RFLAGS_IF | (diff_rnd(r) & RFLAGS_ARITH);

	if (diff_chance(r, 6))
		f |= RFLAGS_DF;
	if (diff_chance(r, 16))
		f |= RFLAGS_TF;
	if (diff_chance(r, 32))
		f |= RFLAGS_AC;
	if (diff_chance(r, 64))
		f |= RFLAGS_NT;
	if (diff_chance(r, 8))
		f |= RFLAGS_ID;
	if (diff_chance(r, 32))
		f |= RFLAGS_RF;
	return f;
}
