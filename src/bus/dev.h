/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A device is class + instance + regs.
 *
 * struct dev stands first in each device's struct. Guest-visible, saved state
 * sits alone in one plain struct that regs points to, described by
 * class->state. The board (platform/) makes devices by their typed x_new()
 * functions, wires them, and registers them in a dev_list for reset, save and
 * dump. Accesses come by io_map() with dev_io_ops, which takes the lock.
 */
#ifndef BUS_DEV_H
#define BUS_DEV_H

#include <pthread.h>

#include "bus/io.h"
#include "state/state.h"

struct dev;

struct dev_class {
	const char *name;
	const struct state_desc *state; /* NULL: nothing to save */
	/* All NULL-able. Called with dev.lock held, except free. val has no
	 * bits beyond len; of the value read only len bytes count. */
	u64 (*read)(struct dev *d, u64 off, unsigned len);
	void (*write)(struct dev *d, u64 off, u64 val, unsigned len);
	void (*reset)(struct dev *d);  /* to power-on values */
	void (*saving)(struct dev *d); /* bring regs up to date */
	void (*loaded)(struct dev *d); /* regs are new: rebuild the rest */
	/* Saved regs that state->check likes: would they fit this device, as
	 * it was made here (its size, its features)? 0 or a sentence. */
	int (*fits)(struct dev *d, const void *regs, struct err *e);
	/* Lock not held. After pause nothing of the device reads or writes
	 * guest memory, until resume. NULL: only vCPUs make it do so. */
	void (*pause)(struct dev *d);
	void (*resume)(struct dev *d);
	/* The widest access the device takes, in bytes; wider ones come as
	 * several of this width. 0: any. */
	unsigned width;
	/* Releases what the device holds; dev_free() then frees d itself. */
	void (*free)(struct dev *d);
};

struct dev {
	const struct dev_class *class;
	unsigned instance; /* 0, 1, ... among its class; set by dev_add() */
	void *regs;        /* what class->state describes */
	pthread_mutex_t lock;
	struct dev *next;          /* in the dev_list; vm.lock */
	bool seen;                 /* by whoever walks the list; vm.lock */
	struct dev_alias *aliases; /* made by dev_map(); vm.lock */
};

struct dev_list {
	struct dev *first;
};

/* Fills in *d; regs may be NULL. */
void dev_init(struct dev *d, const struct dev_class *c, void *regs);
/* class->free, then d itself, which was allocated with malloc. d may be NULL.
 */
void dev_free(struct dev *d);
/* class->reset with the lock held. */
void dev_reset(struct dev *d);
/* Takes ownership of d; numbers it among its class. */
void dev_add(struct dev_list *l, struct dev *d);
void dev_list_reset(struct dev_list *l);
void dev_list_free(struct dev_list *l); /* in reverse order of adding */
void dev_list_pause(struct dev_list *l);
void dev_list_resume(struct dev_list *l);

/*
 * Where a device with registers at several places is reached: len bytes at
 * base show those from off on.
 */
struct dev_window {
	u64 base, len, off;
	const char *name;
};
/* Maps all windows, each at base + window.base. */
int dev_map(struct dev *d, struct io_space *s, u64 base,
	    const struct dev_window *windows, unsigned n, struct err *e);

/* Dispatch to class->read/write of a struct dev with the lock held. */
extern const struct io_ops dev_io_ops;

#endif
