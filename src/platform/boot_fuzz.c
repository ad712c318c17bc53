/* SPDX-License-Identifier: BSD-2-Clause */
/* libFuzzer: the boot loaders on any file; not part of the ordinary build. */
#include <stdlib.h>

#include "platform/pc.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct mem mem;
	struct boot_config c = {.kernel = "fuzz", .cmdline = "a b"};
	struct boot_entry entry;
	struct cpu_state cpu = {0};
	struct err e;
	u8 *copy;

	if (!mem.base && pc_memory(&mem, 32 * MIB, &e))
		abort();
	if (!size)
		return 0;
	/* An exact copy, so that a read past the end is seen. */
	copy = malloc(size);
	if (!copy)
		abort();
	__builtin_memcpy(copy, data, size);
	if (!boot_load_image(&mem, &c, copy, size, 0xe0000, &entry, &e))
		boot_enter(&mem, &entry, &cpu);
	free(copy);
	return 0;
}
