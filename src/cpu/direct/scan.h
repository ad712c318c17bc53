/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Finds sensitive instructions in 64-bit user code: those that on the bare
 * host neither trap nor do what the guest's CPU would (Popek and Goldberg's
 * word), so that code with them must not run directly.
 *
 * What it promises holds for code that is run as it was written: from the
 * starts of its functions on. A program that jumps into the middle of its own
 * instructions can hide one, and learns something about the host by it, no
 * more; whoever runs code directly still may not trust what comes of it: CS
 * and other selectors may have changed at any stop.
 *
 * It takes for granted, and its caller checks, that the guest has at CPL 3:
 * the host's selectors, IOPL 0, IF set, CR4.FSGSBASE as the host, and all of
 * the host's features that the CPU model (cpuid.c) knows.
 */
#ifndef CPU_DIRECT_SCAN_H
#define CPU_DIRECT_SCAN_H

#include "base/types.h"

/* What was found, for reports and tests. */
struct direct_finding {
	unsigned at;     /* where in the page the opcode is */
	const char *why; /* a phrase; names of instructions that the
			    guest's CPU does not have */
};

/* Bytes of the pages before and after that are looked at, at most. */
#define DIRECT_SCAN_BEFORE 79
#define DIRECT_SCAN_AFTER  15

/*
 * True: the page's 4 KiB have no sensitive instruction. before and after: how
 * many bytes are readable (and are the code) on the pages around it, 0 if not
 * known; more than DIRECT_SCAN_* are not used. An instruction on a page border
 * counts for the page that its opcode (without prefixes) begins on; where the
 * rest of it is not known it counts if it could be one. Any thread;
 * some 20 us.
 */
bool direct_scan(const u8 *page, unsigned before, unsigned after);

/* The same where CPUID faults, and so is not sensitive. */
bool direct_scan_but_cpuid(const u8 *page, unsigned before, unsigned after);

/* As direct_scan(); false with *f filled in: the first one found. */
bool direct_scan_find(const u8 *page, unsigned before, unsigned after,
		      struct direct_finding *f);

#endif
