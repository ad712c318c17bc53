/* SPDX-License-Identifier: BSD-2-Clause */
/* The program's code in memory. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

/*
 * Unmaps the code of the program and its libraries, all of which comes back
 * from the page cache as it is run: what only starting and loading needed does
 * not. Any thread, while others run; costs some dozens of page faults.
 */
void text_drop(void);

#endif
