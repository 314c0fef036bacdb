// SPDX-License-Identifier: MIT
/* The text of each thread's last failure. */
#include <stdarg.h>
#include <stdio.h>

#include "lib/internal.h"

static _Thread_local char last_error[512];

int flm_fail(int error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	return error;
}

PUBLIC const char *flm_error(void)
{
	return last_error;
}
