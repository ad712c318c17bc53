/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Snapshots: a machine as a folder of files, docs/snapshots.md.
 *
 *   manifest.json   configuration, sizes, checksums, disks; written last
 *   state           vm_state.h
 *   memory          RAM, with holes for pages of zeros
 *   memory.zst, memory.index  instead, if it is packed (snap_pack.h)
 *   memory.sums     CRC-32C of each 2 MiB of it
 *   diskN, diskN.map  what the guest wrote to a disk with an overlay, and a
 *                     bit for each sector of that
 *
 * A differential snapshot has memory.map, a bit for each page that its memory
 * file has; the others are its parent's.
 */
#ifndef VM_SNAP_H
#define VM_SNAP_H

#include <jansson.h>

#include "vm/vm_state.h"

/* Of the manifest; the second for packed memory. */
#define SNAP_FORMAT        1
#define SNAP_FORMAT_PACKED 2

/* How the snapshot's thread gets at the VM. */
struct snap_run {
	/* Calls fn(arg, e) on the loop's thread and returns what it did. */
	int (*on_loop)(void *ctx, int (*fn)(void *arg, struct err *e),
		       void *arg, struct err *e);
	bool (*cancelled)(void *ctx); /* NULL-able */
	void *ctx;
};

struct snap_options {
	bool track; /* from here on, so that the next can be differential */
	bool diff;  /* only pages written since the last; goes on tracking */
	bool pack;  /* memory compressed */
};

struct snap_result {
	u64 pause_ns;  /* vCPUs stood still */
	u64 bytes;     /* of memory in the snapshot */
	bool protects; /* by write protection, not by copying ahead */
};

/*
 * Makes the folder, which must not exist; it appears when all is on disk. Any
 * thread but the loop's, or the loop's own with a direct on_loop.
 */
int snap_take(struct vm *vm, const char *dir, const struct snap_options *o,
	      const struct snap_run *run, struct snap_result *out,
	      struct err *e);
/* Of a machine that ends. */
struct snap_last;
void snap_last_free(struct snap_last *l);

/* How a restored machine gets its memory. */
enum snap_memory {
	SNAP_MEMORY_FILE, /* the files, mapped privately, if they can be */
	SNAP_MEMORY_COPY, /* its own, filled from the files when used */
	SNAP_MEMORY_UFFD, /* its own, filled by the process at a socket */
};
struct snap_backend {
	enum snap_memory kind;
	const char *socket;
};

/* An open snapshot. Its strings and descriptors serve the VM made of it. */
struct snap {
	char *dir;
	struct snap_backend backend;
	int dirfd, memory; /* memory -1: not needed, or packed */
	json_t *manifest;
	struct vm_config config; /* for vm_new(), incoming */
	struct vm_state_info info;
	u8 *state;
	u64 state_len;
	struct snap *parent;    /* NULL: memory has everything */
	u8 *map;                /* else: a bit for each page it has */
	unsigned depth;         /* 0: the newest of its chain */
	struct snap_pack *pack; /* NULL: memory is a file */
	u8 *piece;              /* of its own memory, or NULL */
};

/* All but the contents of memory and disks is checked. */
int snap_open(struct snap *s, const char *dir, struct err *e);
/* For a machine whose memory comes so; its socket is the caller's. */
int snap_open_for(struct snap *s, const char *dir, const struct snap_backend *b,
		  struct err *e);
void snap_close(struct snap *s);
/* Into a VM made with s->config, before vm_run(). */
int snap_load(struct snap *s, struct vm *vm, struct err *e);
/* The contents of memory and disks against their checksums. */
int snap_verify(struct snap *s, struct err *e);

#endif
