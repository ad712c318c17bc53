/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waits until the time jumps by more than a second, as it does when a snapshot
 * is restored that is older, and ends: so the life of the process that restores
 * it is the time to the guest's first instructions.
 */
#include "lib/guest.h"

#define JUMP 5000000000ull /* of the TSC */

int main(void)
{
	u64 last = rdtsc(), now = last;

	for (; now - last < JUMP; now = rdtsc())
		last = now;
	return 0;
}
