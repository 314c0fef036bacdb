// SPDX-License-Identifier: MIT
/*
 * Card time, by the rule of SPEC.md ("Time"). While nothing runs it follows the wall clock; while
 * something does it is what work cost, as whoever works tells it.
 */
#include <time.h>

#include "emulator/time/clock.h"

int64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void clock_begin(struct clock *clock)
{
	clock->us = clock->ticks = 0;
	clock->idle_since_ns = wall_ns();
}

static uint64_t idle_us(const struct clock *clock)
{
	return clock->workers ? 0 : (uint64_t)(wall_ns() - clock->idle_since_ns) / 1000;
}

uint64_t clock_us(const struct clock *clock)
{
	return clock->us + idle_us(clock);
}

uint64_t clock_cycles_in(const struct clock *clock, uint64_t us)
{
	return us * clock->khz / 1000;
}

uint64_t clock_cycles(const struct clock *clock)
{
	return clock->ticks + clock_cycles_in(clock, idle_us(clock));
}

void clock_spend(struct clock *clock, uint64_t us, uint64_t cycles)
{
	clock->us += us;
	clock->ticks += cycles;
}

void clock_work_begins(struct clock *clock)
{
	uint64_t us = idle_us(clock);

	clock_spend(clock, us, clock_cycles_in(clock, us));
	clock->workers++;
}

bool clock_work_ends(struct clock *clock)
{
	if (--clock->workers)
		return false;
	clock->idle_since_ns = wall_ns();
	return true;
}
