/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Log lines on stderr: "sublet: NAME: text". log_warn() appends errno,
 * log_warnx() does not. Lines a guest can cause must go through
 * log_guest(), which is rate-limited (10 lines a second over all callers,
 * the rest counted and told in one line) so that a guest cannot flood a disk.
 * All are safe from any thread.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/types.h"

enum log_level { LOG_ERR, LOG_WARN, LOG_INFO, LOG_DEBUG };

void log_set_level(enum log_level level);
void log_set_name(const char *vm_name); /* copied; shown in each line */
void log_errx(const char *fmt, ...) PRINTF(1, 2);
void log_warn(const char *fmt, ...) PRINTF(1, 2);
void log_warnx(const char *fmt, ...) PRINTF(1, 2);
void log_info(const char *fmt, ...) PRINTF(1, 2);
void log_debug(const char *fmt, ...) PRINTF(1, 2);
void log_guest(const char *fmt, ...) PRINTF(1, 2);

#endif
