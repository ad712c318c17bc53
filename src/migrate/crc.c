/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/crc.h"

#include <nmmintrin.h>
#include <string.h>

__attribute__((target("sse4.2"))) static u32 crc_sse42(u32 crc, const u8 *p,
						       size_t n)
{
	u64 c = crc;

	for (; n >= 8; n -= 8, p += 8) {
		u64 v;

		memcpy(&v, p, 8);
		c = _mm_crc32_u64(c, v);
	}
	for (; n; n--)
		c = _mm_crc32_u8((u32)c, *p++);
	return (u32)c;
}

static u32 crc_bits(u32 crc, const u8 *p, size_t n)
{
	while (n--) {
		crc ^= *p++;
		for (unsigned k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return crc;
}

u32 mig_crc(u32 crc, const void *p, size_t n)
{
	if (__builtin_cpu_supports("sse4.2"))
		return ~crc_sse42(~crc, p, n);
	return ~crc_bits(~crc, p, n);
}
