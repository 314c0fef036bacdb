/* SPDX-License-Identifier: MIT */
/* Numbers by a seed: the same ones each time, on every machine. */
#ifndef TESTS_DICE_H
#define TESTS_DICE_H

#include <stdint.h>
#include <stdlib.h>

struct dice {
	uint64_t state;		/* never 0 */
};

static inline struct dice dice_new(uint64_t seed)
{
	return (struct dice) { seed * 0x9e3779b97f4a7c15ull + 1 };
}

static inline uint64_t dice_any(struct dice *dice)
{
	dice->state ^= dice->state << 13;
	dice->state ^= dice->state >> 7;
	dice->state ^= dice->state << 17;
	return dice->state;
}

/* From 0 to n - 1. */
static inline uint32_t dice_below(struct dice *dice, uint32_t n)
{
	return (dice_any(dice) >> 20) % n;
}

/* A number from the environment, such as the seed. */
static inline uint64_t dice_setting(const char *name, uint64_t without)
{
	const char *text = getenv(name);

	return text ? strtoull(text, NULL, 0) : without;
}

#endif
