/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The state of a machine as an enemy writes it. Its checksums are made good
 * first, or no input would come further than to them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/crc32c.h"
#include "state/record.h"
#include "vm/vm_state.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

/* Offsets of the format, vm_state.c and record.c. */
enum { HEAD_LENGTH = 16, HEAD_CRC = 44, RECORD_CRC = 4, RECORD_LENGTH = 8 };

static void mend(u8 *p, u64 len)
{
	static const char magic[] = "SubletVM", record[] = "RECD";
	u64 at = VM_STATE_HEAD;
	u32 crc, n;

	if (len < VM_STATE_HEAD)
		return;
	memcpy(p, magic, 8);
	memcpy(p + HEAD_LENGTH, &len, 8);
	crc = crc32c(0, p, HEAD_CRC);
	memcpy(p + HEAD_CRC, &crc, 4);
	while (len - at >= 32) {
		memcpy(p + at, record, 4);
		memcpy(&n, p + at + RECORD_LENGTH, 4);
		if (n < 32 || n > len - at)
			n = (u32)(len - at);
		memcpy(p + at + RECORD_LENGTH, &n, 4);
		crc = crc32c(0, p + at + 8, n - 8);
		memcpy(p + at + RECORD_CRC, &crc, 4);
		at += n;
	}
}

static volatile u8 sink;

/* Every byte that a printer would print. */
static void look(const u8 *p, u64 len)
{
	u64 at = VM_STATE_HEAD;
	struct record r;

	while (at < len && !record_parse(p, len, &at, &r, NULL)) {
		struct record_field f;
		u64 pos = 0, off = 0;

		while (record_field(&r, &pos, &off, &f))
			for (u64 i = 0; i < (u64)f.esize * f.count; i++)
				sink = f.data[i];
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	struct vm_state_info info;
	struct err e;
	u8 *copy;

	/* An exact copy, so that a read past the end is seen. */
	copy = calloc(1, size + !size);
	if (!copy)
		abort();
	if (size)
		memcpy(copy, data, size);
	mend(copy, size);
	vm_state_check(copy, size, &info, &e);
	look(copy, size);
	free(copy);
	return 0;
}
