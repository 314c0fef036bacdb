// SPDX-License-Identifier: MIT
/* The list of faults that a card is told to have, and when the turn of each comes; see fault.h. */
#include "emulator/device/fault.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int is_interrupt;
} kinds[INJECTIONS] = {
	[INJECT_HANG] = { "hang", 0 },
	[INJECT_DEAF] = { "deaf", 0 },
	[INJECT_LOST_INTERRUPT] = { "lost-interrupt", 1 },
	[INJECT_LATE_INTERRUPT] = { "late-interrupt", 1 },
	[INJECT_DMA_ERROR] = { "dma-error", 0 },
	[INJECT_BAD_COMPLETION] = { "bad-completion", 0 },
	[INJECT_DEAD_HEARTBEAT] = { "dead-heartbeat", 0 },
	[INJECT_REMOVAL] = { "removal", 0 },
};

/* Every kind's name, as ", hang, deaf, ...". */
static void put_names(char names[128])
{
	int at = 0;

	for (int i = 0; i < INJECTIONS; i++)
		at += snprintf(names + at, 128 - at, ", %s", kinds[i].name);
}

static int find(const char *name, size_t length)
{
	for (int i = 0; i < INJECTIONS; i++)
		if (strlen(kinds[i].name) == length && !strncmp(kinds[i].name, name, length))
			return i;
	return -1;
}

/* Digits alone, from 1 on; 0 for anything else. */
static uint64_t read_number(const char *text, size_t length)
{
	uint64_t value = 0;

	if (!length || length > 18)
		return 0;
	for (; length--; text++) {
		if (*text < '0' || *text > '9')
			return 0;
		value = value * 10 + (uint64_t)(*text - '0');
	}
	return value;
}

int injections_parse(struct injections *injections, const char *list, char *error,
		     unsigned int bytes)
{
	memset(injections, 0, sizeof(*injections));
	while (list && *list) {
		size_t length = strcspn(list, ","), name = strcspn(list, ",@");
		uint64_t number = name >= length ? 1 :
				  read_number(list + name + 1, length - name - 1);
		int kind = find(list, name);
		char names[128];

		if (kind < 0) {
			put_names(names);
			snprintf(error, bytes, "unknown fault '%.*s'; known: %s",
				 name < 64 ? (int)name : 64, list, names + 2);
			return -EINVAL;
		}
		if (!number) {
			snprintf(error, bytes,
				 "fault '%.*s': no such number; write %s@N, where N numbers the %ss from 1",
				 length < 64 ? (int)length : 64, list, kinds[kind].name,
				 kinds[kind].is_interrupt ? "interrupt" : "job");
			return -EINVAL;
		}
		injections->at[kind] = number;
		list += length;
		if (*list)
			list++;
	}
	return 0;
}

static unsigned int due(const struct injections *injections, int is_interrupt, uint64_t number)
{
	unsigned int bits = 0;

	for (int i = 0; i < INJECTIONS; i++)
		if (kinds[i].is_interrupt == is_interrupt && injections->at[i] == number)
			bits |= 1u << i;
	return bits;
}

unsigned int injections_job(struct injections *injections)
{
	return due(injections, 0, ++injections->jobs);
}

unsigned int injections_interrupt(struct injections *injections)
{
	return due(injections, 1, ++injections->interrupts);
}
