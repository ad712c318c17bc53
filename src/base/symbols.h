/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Names of addresses, for people: from a kernel's System.map, or what a guest
 * shows in /proc/kallsyms ("ADDRESS TYPE NAME" in each line).
 */
#ifndef BASE_SYMBOLS_H
#define BASE_SYMBOLS_H

#include "base/err.h"
#include "base/types.h"

struct symbols;

/* NULL with a sentence; lines that are none are left out. */
struct symbols *symbols_load(const char *path, struct err *e);
void symbols_free(struct symbols *s);

/* The symbol that addr belongs to (the last one not above it), and how far it
 * is from there; NULL if there is none. s may be NULL. Any thread. */
const char *symbols_find(const struct symbols *s, u64 addr, u64 *off);

/* Where the named one begins and ends; false: there is none. */
bool symbols_range(const struct symbols *s, const char *name, u64 *from,
		   u64 *to);

#endif
