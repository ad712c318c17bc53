/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The user's terminal in raw mode, given back as it was on every way out:
 * return, exit(), a signal, our own crash. One for each process.
 */
#ifndef CLI_TERM_H
#define CLI_TERM_H

#include "base/types.h"

/* Both standard input and output are a terminal. */
bool term_usable(void);
void term_raw(void);     /* remembers how it was, once */
void term_restore(void); /* async-signal-safe; harmless if not raw */
/* Columns and rows of standard output; false if it has none. */
bool term_size(u16 *cols, u16 *rows);

#endif
