/* SPDX-License-Identifier: BSD-2-Clause */
/* Where the board has its RAM. */
#include <errno.h>

#include "platform/pc.h"

int pc_memory(struct mem *m, u64 size, struct err *e)
{
	u64 low = MIN(size, PC_HOLE_BASE);
	int rc;

	if (size < PC_MEMORY_MIN || size > PC_MEMORY_MAX)
		return err_set(e, -EINVAL,
			       "a machine has %llu MiB to %llu GiB of memory",
			       PC_MEMORY_MIN / MIB, PC_MEMORY_MAX / GIB);
	size = ALIGN_DOWN(size, PAGE_SIZE);
	rc = mem_init(m, size, e);
	if (rc)
		return rc;
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
