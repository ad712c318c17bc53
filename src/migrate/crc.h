/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C (RFC 3720, B.4), by the processor's own instruction. */
#ifndef MIGRATE_CRC_H
#define MIGRATE_CRC_H

#include "base/types.h"

/* Start with crc = 0; feed the result back in to go on. Any thread. */
u32 mig_crc(u32 crc, const void *p, size_t n);

#endif
