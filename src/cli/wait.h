/* SPDX-License-Identifier: BSD-2-Clause */
/* The answer of GET /wait, for a person and for a shell. */
#ifndef CLI_WAIT_H
#define CLI_WAIT_H

#include <jansson.h>

#include "base/types.h"

/* Prints how vm ended unless quiet; the exit code that it left. */
int wait_result(const char *vm, json_t *end, bool quiet);

#endif
