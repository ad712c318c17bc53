/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Years are counted from March, so that the leap day is the last of a year;
 * 400 of them have 146097 days.
 */
#include "device/calendar.h"

#define ERA_DAYS   146097
#define EPOCH_DAYS 719468 /* from 0000-03-01 to 1970-01-01 */

s64 calendar_to_seconds(const struct calendar *c)
{
	s64 year = c->year - (c->month <= 2);
	s64 era = (year >= 0 ? year : year - 399) / 400;
	s64 of_era = year - era * 400;
	s64 month = (c->month + 9) % 12;
	s64 day = (153 * month + 2) / 5 + c->day - 1;

	day += of_era * 365 + of_era / 4 - of_era / 100;
	day += era * ERA_DAYS - EPOCH_DAYS;
	return day * 86400 + c->hour * 3600 + c->minute * 60 + c->second;
}

void calendar_from_seconds(struct calendar *c, s64 seconds)
{
	s64 days = (seconds >= 0 ? seconds : seconds - 86399) / 86400;
	s64 rest = seconds - days * 86400, era, year, month;

	c->second = (unsigned)(rest % 60);
	c->minute = (unsigned)(rest / 60 % 60);
	c->hour = (unsigned)(rest / 3600);
	c->weekday = (unsigned)(((days + 4) % 7 + 7) % 7);
	days += EPOCH_DAYS;
	era = (days >= 0 ? days : days - (ERA_DAYS - 1)) / ERA_DAYS;
	days -= era * ERA_DAYS;
	year = (days - days / 1460 + days / 36524 - days / (ERA_DAYS - 1)) /
	       365;
	days -= year * 365 + year / 4 - year / 100;
	month = (5 * days + 2) / 153;
	c->day = (unsigned)(days - (153 * month + 2) / 5 + 1);
	c->month = (unsigned)(month < 10 ? month + 3 : month - 9);
	c->year = (int)(year + era * 400 + (c->month <= 2));
}
