/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Guest memory that comes when it is first used (userfaultfd): from a source
 * that a thread of ours reads, or from another process, the handler.
 *
 * The handler is Firecracker's: it listens at a UNIX socket, where it gets one
 * message, a JSON array of [{base_host_virt_addr, size, offset, page_size,
 * page_size_kib}], all in bytes, and with it the userfaultfd. It puts pages in
 * until the machine ends. If it closes the connection while pages are missing,
 * the machine stops, with a report.
 *
 * Between vm_new() and the loading of the machine's state:
 *
 *   pager_new(), or pager_new_handler()
 *   pager_finish()   all pages shall be there (a snapshot is to be taken)
 *   pager_release()  who waits for a page shall wait no more: it ends
 *   pager_free()     vCPUs and devices are gone
 */
#ifndef VM_PAGER_H
#define VM_PAGER_H

#include "base/err.h"
#include "base/types.h"

#define PAGER_PIECE (64 * KIB) /* as much comes at once */

struct pager;
struct vm;

/* Reads len bytes at off of the memory; one thread at a time. 1: all zeros,
 * and buf was not touched. */
struct pager_source {
	int (*read)(void *arg, u64 off, u64 len, u8 *buf, struct err *e);
	void *arg;
};

/* The source outlives the pager. Where the host has no userfaultfd all of it
 * is read at once. NULL and a sentence on failure. */
struct pager *pager_new(struct vm *vm, const struct pager_source *source,
			struct err *e);
struct pager *pager_new_handler(struct vm *vm, const char *socket,
				struct err *e);
/* Any thread, while the guest runs. After a failure, then or before, some of
 * the memory is not what it should be. */
int pager_finish(struct pager *p, struct err *e); /* NULL: 0 */
/* What is missing reads as zeros from now on. Any thread. */
void pager_release(struct pager *p); /* NULL: nothing */
void pager_free(struct pager *p);    /* NULL: nothing */

#endif
