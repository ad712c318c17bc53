/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files that read a snapshot share. */
#ifndef VM_SNAP_PRIV_H
#define VM_SNAP_PRIV_H

#include "vm/snap.h"

/* Hands rc on; the sentence gets the folder's name before it. */
int snap_in(struct snap *s, int rc, struct err *e);

#endif
