/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * CRC-32C (Castagnoli, RFC 3720 B.4), by the processor's instruction where it
 * has one. Start with 0; to go on, hand in what came out.
 */
#ifndef BASE_CRC32C_H
#define BASE_CRC32C_H

#include "base/types.h"

u32 crc32c(u32 crc, const void *data, u64 len);

#endif
