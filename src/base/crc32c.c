/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/crc32c.h"

#include <nmmintrin.h>
#include <string.h>

#define POLY 0x82f63b78u /* reflected */

static u32 crc32c_bits(u32 crc, const u8 *p, u64 len)
{
	while (len--) {
		crc ^= *p++;
		for (unsigned i = 0; i < 8; i++)
			crc = crc >> 1 ^ (crc & 1 ? POLY : 0);
	}
	return crc;
}

__attribute__((target("sse4.2"))) static u32 crc32c_insn(u32 crc, const u8 *p,
							 u64 len)
{
	u64 c = crc, v;

	for (; len >= 8; len -= 8, p += 8) {
		memcpy(&v, p, 8);
		c = _mm_crc32_u64(c, v);
	}
	while (len--)
		c = _mm_crc32_u8((u32)c, *p++);
	return (u32)c;
}

u32 crc32c(u32 crc, const void *data, u64 len)
{
	return ~(__builtin_cpu_supports("sse4.2")
			 ? crc32c_insn(~crc, data, len)
			 : crc32c_bits(~crc, data, len));
}
