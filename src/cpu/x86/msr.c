/* SPDX-License-Identifier: BSD-2-Clause */
#include "cpu/x86/msr.h"

#include <stddef.h>

static const struct x86_msr {
	u32 first, last;
	u64 val;
	bool write_ok;
} x86_msrs[] = {
	/* P5 machine check */
	{0x0, 0x1, 0, true},
	/* platform ID, power-on configuration, SMI count */
	{0x17, 0x17, 0, false},
	{0x2a, 0x2a, 0, true},
	{0x34, 0x34, 0, false},
	/* feature control: locked */
	{0x3a, 0x3a, 1, false},
	/* bus clock, platform info */
	{0xcd, 0xce, 0, false},
	/* processor serial number control, L2 control */
	{0x119, 0x119, 0, true},
	{0x11e, 0x11e, 0xbe702111, true},
	/* performance status and control */
	{0x198, 0x198, 1ull << 32 | 0x2800, true},
	{0x199, 0x199, 0, true},
	/* last branches, PEBS */
	{0x1c9, 0x1c9, 0, false},
	{0x1db, 0x1de, 0, true},
	{0x3f1, 0x3f1, 0, true},
	/* energy */
	{0x606, 0x606, 0, false},
	{0x611, 0x611, 0, false},
	{0x619, 0x619, 0, false},
	{0x639, 0x639, 0, false},
	{0x641, 0x641, 0, false},
	/* AMD: hardware configuration, northbridge configuration */
	{0xc0010015, 0xc0010015, 0, true},
	{0xc001001f, 0xc001001f, 0, true},
};

static const struct x86_msr *x86_msr_find(u32 msr)
{
	for (size_t i = 0; i < ARRAY_LEN(x86_msrs); i++)
		if (msr - x86_msrs[i].first <=
		    x86_msrs[i].last - x86_msrs[i].first)
			return &x86_msrs[i];
	return NULL;
}

bool x86_msr_read(u32 msr, u64 *val)
{
	const struct x86_msr *m = x86_msr_find(msr);

	*val = m ? m->val : 0;
	return m;
}

bool x86_msr_write(u32 msr)
{
	const struct x86_msr *m = x86_msr_find(msr);

	return m && m->write_ok;
}
