/* SPDX-License-Identifier: BSD-2-Clause */
/* What dspace.c and the child's side, dspace_child.c, agree on. */
#ifndef CPU_DIRECT_DSPACE_PRIV_H
#define CPU_DIRECT_DSPACE_PRIV_H

#include "cpu/direct/dspace.h"

/* A system call of the stub: number and arguments, as the kernel takes them. */
struct dspace_command {
	u64 nr, arg[6], pad;
};

#define DSPACE_COMMANDS_AT (DSPACE_STUB + 0x1000)
#define DSPACE_COMMANDS \
	((DSPACE_STUB_SIZE - 0x1000) / sizeof(struct dspace_command))

/* Guest memory is this file there. */
#define DSPACE_FD 0

/*
 * The stub: r15 commands beginning at r14 are carried out until one fails; then
 * int3, with the result of the last one in rax and r15 left.
 */
extern const u8 dspace_stub[];
/* Its length, and where its system call returns to, in bytes. */
extern const u32 dspace_stub_size, dspace_stub_call;

/* Becomes the child, in a copy of the caller's process: commands is the memory
 * shared with the owner. Stops in the stub; ends the process if it cannot. */
NORETURN void dspace_child(int fd, void *commands);

#endif
