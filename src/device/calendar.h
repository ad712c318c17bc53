/* SPDX-License-Identifier: BSD-2-Clause */
/* Gregorian dates, UTC, without the C library's time zones and limits. */
#ifndef DEVICE_CALENDAR_H
#define DEVICE_CALENDAR_H

#include "base/types.h"

struct calendar {
	unsigned second, minute, hour;
	unsigned day, month; /* from 1 */
	unsigned weekday;    /* Sunday is 0 */
	int year;
};

/* Seconds since 1970-01-01; weekday is not looked at. */
s64 calendar_to_seconds(const struct calendar *c);
void calendar_from_seconds(struct calendar *c, s64 seconds);

#endif
