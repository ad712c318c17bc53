/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The stream reader against nonsense whose checksums are right: the input is a
 * list of frames (type, length, payload), which a target's or a source's
 * parsers are given.
 */
#include <stdlib.h>
#include <string.h>

#include "migrate/hello.h"
#include "migrate/missing.h"
#include "migrate/pages.h"
#include "migrate/ram.h"
#include "vm/vm_state.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

static struct mem mem;
static struct mig_ram_in ram;
static struct mig_pages pages;
static struct mig_frame frame;

static void fuzz_init(void)
{
	struct err e;

	if (mem.base)
		return;
	if (mem_init(&mem, 4 * MIB, &e) ||
	    mem_add_slot(&mem, 0, 2 * MIB, 0, false, &e) ||
	    mem_add_slot(&mem, GIB, 2 * MIB, 2 * MIB, false, &e) ||
	    mig_ram_in_init(&ram, &mem, &e) || mig_frame_init(&frame, &e))
		abort();
}

static void fuzz_frame(void)
{
	static unsigned long bits[16];
	struct vm_state_info info;
	struct mig_accept accept;
	struct mig_hello hello;
	struct err e;
	u64 v;

	switch (frame.type) {
	case MIG_HELLO:
		mig_hello_parse(&hello, &frame, &e);
		mig_hello_fini(&hello);
		break;
	case MIG_ACCEPT: mig_accept_parse(&accept, &frame, &e); break;
	case MIG_PAGES:
		if (!mig_pages_decode(&pages, frame.data, frame.len, &e))
			mig_ram_apply(&ram, &pages, &e);
		break;
	case MIG_STATE: vm_state_check(frame.data, frame.len, &info, &e); break;
	case MIG_MISSING:
	case MIG_FETCH: mig_missing_add(&mem, &frame, bits, &e); break;
	default: mig_frame_u64(&frame, &v, &e);
	}
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	fuzz_init();
	while (size >= 3) {
		size_t n = MIN((size_t)(data[1] | data[2] << 8), size - 3);

		frame.type = data[0] % 16 + 1;
		frame.len = (u32)n;
		memcpy(frame.data, data + 3, n);
		frame.data[n] = 0;
		fuzz_frame();
		data += 3 + n;
		size -= 3 + n;
	}
	return 0;
}
