/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the board has its RAM. */
#include <errno.h>

#include "platform/pc.h"

static int pc_memory_slots(struct mem *m, u64 size, struct err *e)
{
	u64 low = MIN(size, PC_HOLE_BASE);
	int rc;

	rc = mem_add_slot(m, 0, PC_VGA_HOLE, 0, false, e);
	if (!rc)
		rc = mem_add_slot(m, PC_BIOS_BASE, low - PC_BIOS_BASE,
				  PC_BIOS_BASE, false, e);
	if (!rc && size > low)
		rc = mem_add_slot(m, PC_HIGH_BASE, size - low, low, false, e);
	if (rc)
		mem_fini(m);
	return rc;
}

int pc_memory_file(struct mem *m, u64 size, int fd, struct err *e)
{
	int rc;

	if (size < PC_MEMORY_MIN || size > PC_MEMORY_MAX)
		return err_set(e, -EINVAL,
			       "a machine has %llu MiB to %llu GiB of memory",
			       PC_MEMORY_MIN / MIB, PC_MEMORY_MAX / GIB);
	size = ALIGN_DOWN(size, PAGE_SIZE);
	rc = fd < 0 ? mem_init(m, size, e) : mem_init_file(m, size, fd, e);
	return rc ? rc : pc_memory_slots(m, size, e);
}

int pc_memory(struct mem *m, u64 size, struct err *e)
{
	return pc_memory_file(m, size, -1, e);
}
