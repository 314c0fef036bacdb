// SPDX-License-Identifier: MIT
/* Names of what has a number, from the rows that also make the enums. */
#include <flightllm/queue.h>

#include "lib/internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define STATUS(name, number, meaning) [number] = #name,
static const char *const statuses[] = {
#include <flightllm/names.def>
};

#define FAULT(name, number, meaning) [number] = #name,
static const char *const faults[] = {
#include <flightllm/names.def>
};

#define END(name, text, meaning) text,
static const char *const ends[] = { FLM_END_ROWS(END) };

PUBLIC const char *flm_status_name(unsigned int status)
{
	return status < COUNT(statuses) ? statuses[status] : "?";
}

PUBLIC const char *flm_fault_name(unsigned int fault)
{
	return fault < COUNT(faults) ? faults[fault] : "?";
}

PUBLIC const char *flm_end_name(unsigned int end)
{
	return end < COUNT(ends) ? ends[end] : "?";
}
