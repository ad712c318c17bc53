/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * One sentence for the operator, written where a call failed.
 *
 * A function that can fail for a reason of the host or the operator takes a
 * struct err as its last argument and returns a negative errno. The sentence
 * is set once, at the place that knows most, and handed up unchanged; main()
 * prints it. What a guest does wrong is never an err.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/types.h"

struct err {
	char text[512];
};

/*
 * Writes the sentence and returns rc, so that "return err_set(...)" is one
 * statement. rc < 0. With err_errno(), ": " and strerror(-rc) are appended.
 * e may be NULL: then only rc is handed on. Any thread; e is the caller's.
 */
int err_set(struct err *e, int rc, const char *fmt, ...) PRINTF(3, 4);
int err_errno(struct err *e, int rc, const char *fmt, ...) PRINTF(3, 4);

#endif
