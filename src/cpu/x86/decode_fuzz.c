/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Fuzzer of the decoder and the formatter: lengths, reads past the end (the
 * bytes are copied to a block of their exact size), buffer limits, and that a
 * longer buffer never changes what a shorter one has decoded.
 */
#include <stdlib.h>
#include <string.h>

#include "cpu/x86/insn.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static void fuzz_format(const struct insn *i, size_t room)
{
	char *buf = malloc(room ? room : 1);

	ASSERT(buf);
	insn_format(i, 0xfffffffffffffff0, buf, room);
	ASSERT(!room || memchr(buf, 0, room));
	free(buf);
}

static void fuzz_mode(const u8 *data, size_t size, enum decode_mode mode,
		      size_t room)
{
	struct insn i, j;
	u8 *copy = malloc(size ? size : 1);
	enum decode_result r;

	ASSERT(copy);
	memcpy(copy, data, size);
	r = insn_decode(&i, copy, size, mode);
	free(copy);
	if (r != DECODE_OK) {
		ASSERT(r == (size >= 15 ? DECODE_TOO_LONG : DECODE_MORE));
		return;
	}
	ASSERT(i.len >= 1 && i.len <= 15 && i.len <= size);
	ASSERT(i.op < X86_OPS && i.row < op_row_count);
	ASSERT((i.op == OP_INVALID) == (i.row == 0));
	if (i.op != OP_INVALID) {
		ASSERT(insn_decode(&j, data, i.len, mode) == DECODE_OK);
		ASSERT(!memcmp(&i, &j, sizeof(i)));
		ASSERT(insn_decode(&j, data, i.len - 1u, mode) == DECODE_MORE);
	}
	fuzz_format(&i, room);
	fuzz_format(&i, 128);
}

/* The first byte: mode and room for text; the rest: the instruction. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	if (!size)
		return 0;
	fuzz_mode(data + 1, size - 1, data[0] % 3, data[0] / 3);
	return 0;
}
