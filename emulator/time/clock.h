/* SPDX-License-Identifier: MIT */
/*
 * The card's clock. The owner holds its own lock in every call.
 *
 *	clock_work_begins(&clock);
 *	clock_spend(&clock, us, cycles);		as often as something is known
 *	if (clock_work_ends(&clock))			nobody works any more
 */
#ifndef EMULATOR_CLOCK_H
#define EMULATOR_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

struct clock {
	uint32_t khz;
	unsigned int workers;		/* at work: time stands on what that costs */
	uint64_t us, ticks;		/* when it was last idle, or now while there is work */
	int64_t idle_since_ns;		/* wall clock then; only while idle */
};

/* CLOCK_MONOTONIC; no lock. */
int64_t wall_ns(void);

/* Time begins anew; workers and khz stay. */
void clock_begin(struct clock *clock);

uint64_t clock_us(const struct clock *clock);
uint64_t clock_cycles(const struct clock *clock);
/* Ticks in this many microseconds. */
uint64_t clock_cycles_in(const struct clock *clock, uint64_t us);

void clock_spend(struct clock *clock, uint64_t us, uint64_t cycles);
void clock_work_begins(struct clock *clock);
/* True: it was the last worker. */
bool clock_work_ends(struct clock *clock);

#endif
