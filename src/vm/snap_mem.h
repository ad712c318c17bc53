/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory of an open snapshot, whatever its form: a file or packed, whole or
 * a chain of differences. */
#ifndef VM_SNAP_MEM_H
#define VM_SNAP_MEM_H

#include "vm/snap.h"

/* s->memory or s->pack, of this one, not of those before it. */
int snap_mem_open(struct snap *s, struct err *e);
void snap_mem_close(struct snap *s);
/* Some of it is packed, here or before: it cannot be mapped. */
bool snap_mem_is_packed(const struct snap *s);
/* The file that has all pages, of the first of the chain. */
int snap_mem_file(const struct snap *s);
/* memory.map: a bit for each page; 64 of them. */
u64 snap_mem_bits(const struct snap *s, u64 n);

/*
 * A piece of at most SNAP_PACK bytes that begins at a multiple of that. own:
 * what this one's files have, zeros elsewhere. 1: all zeros, and buf was not
 * touched. One thread at a time.
 */
int snap_mem_own(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e);
int snap_mem_read(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e);

/* Gives the machine that was made with s->config its memory, or the means to
 * get it. */
int snap_mem_load(struct snap *s, struct vm *vm, struct err *e);

#endif
