/* SPDX-License-Identifier: BSD-2-Clause */
/* The connection with a process that handles another's userfaultfd. */
#ifndef VM_PAGER_HANDLER_H
#define VM_PAGER_HANDLER_H

#include "mem/mem.h"

/* Connects to the UNIX socket and hands uffd over for all of m. The socket, or
 * -errno; it says nothing more, and ends when the handler does. */
int pager_handshake(const char *path, const struct mem *m, int uffd,
		    struct err *e);

#endif
