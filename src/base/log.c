/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define GUEST_LINES_PER_SECOND 10

static struct {
	enum log_level level;
	char name[64];
	pthread_mutex_t lock; /* guards what follows */
	u64 second;
	unsigned lines, dropped;
} log_state = {.level = LOG_WARN, .lock = PTHREAD_MUTEX_INITIALIZER};

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

void log_set_name(const char *vm_name)
{
	snprintf(log_state.name, sizeof(log_state.name), "%s: ", vm_name);
}

/* One write(2) a line, so that lines of several threads do not mix. */
PRINTF(3, 0)
static void log_line(enum log_level level, int errnum, const char *fmt,
		     va_list ap)
{
	char line[1024];
	int n;

	if (level > log_state.level)
		return;
	n = snprintf(line, sizeof(line), "sublet: %s", log_state.name);
	n += vsnprintf(line + n, sizeof(line) - n, fmt, ap);
	if (n < (int)sizeof(line) && errnum)
		n += snprintf(line + n, sizeof(line) - n, ": %s",
			      strerror(errnum));
	if (n > (int)sizeof(line) - 2)
		n = sizeof(line) - 2;
	line[n++] = '\n';
	fwrite(line, 1, n, stderr);
}

#define LOG_FUNCTION(name, level, errnum)         \
	void name(const char *fmt, ...)           \
	{                                         \
		va_list ap;                       \
                                                  \
		va_start(ap, fmt);                \
		log_line(level, errnum, fmt, ap); \
		va_end(ap);                       \
	}

LOG_FUNCTION(log_errx, LOG_ERR, 0)
LOG_FUNCTION(log_warn, LOG_WARN, errno)
LOG_FUNCTION(log_warnx, LOG_WARN, 0)
LOG_FUNCTION(log_info, LOG_INFO, 0)
LOG_FUNCTION(log_debug, LOG_DEBUG, 0)

/* True if this second's budget for guest-caused lines is not yet spent. */
static bool log_guest_budget(unsigned *dropped)
{
	u64 second = clock_ns() / 1000000000;
	bool ok;

	pthread_mutex_lock(&log_state.lock);
	*dropped = 0;
	if (second != log_state.second) {
		*dropped = log_state.dropped;
		log_state.second = second;
		log_state.lines = log_state.dropped = 0;
	}
	ok = log_state.lines < GUEST_LINES_PER_SECOND;
	if (ok)
		log_state.lines++;
	else
		log_state.dropped++;
	pthread_mutex_unlock(&log_state.lock);
	return ok;
}

void log_guest(const char *fmt, ...)
{
	unsigned dropped;
	va_list ap;

	if (log_state.level < LOG_INFO || !log_guest_budget(&dropped))
		return;
	if (dropped)
		log_info("%u more lines like these left out", dropped);
	va_start(ap, fmt);
	log_line(LOG_INFO, 0, fmt, ap);
	va_end(ap);
}
