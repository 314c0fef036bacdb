/* SPDX-License-Identifier: MIT */
/*
 * Test lines in TAP, the format that prove and kselftest read: include, call ok() for each claim,
 * return done_testing() from main().
 */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static int tap_count, tap_failed;

/* One claim; `format` says what should hold, as a sentence. Returns it. */
__attribute__((format(printf, 2, 3), unused))
static bool ok(bool holds, const char *format, ...)
{
	va_list args;

	printf("%sok %d - ", holds ? "" : "not ", ++tap_count);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	tap_failed += !holds;
	return holds;
}

/* A claim that cannot be tried here, and why. */
__attribute__((unused))
static void skip(const char *what, const char *why)
{
	printf("ok %d - %s # SKIP %s\n", ++tap_count, what, why);
}

__attribute__((unused))
static int done_testing(void)
{
	printf("1..%d\n", tap_count);
	return tap_failed != 0;
}

#endif
