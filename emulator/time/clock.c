// SPDX-License-Identifier: MIT
/*
 * Card time, by the rule of SPEC.md ("Time"). While nothing runs it follows the wall clock; while
 * something does it is what work cost, told in parts by the heartbeats and the rest at each point.
 */
#include <string.h>
#include <time.h>

#include "emulator/device/device.h"

int64_t wall_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static uint64_t idle_us(const struct card *card)
{
	return card->workers_busy ? 0 : (uint64_t)(wall_ns() - card->idle_since_ns) / 1000;
}

uint64_t card_time_us(struct card *card)
{
	return card->base_us + idle_us(card);
}

uint64_t card_cycles_in(const struct card *card, uint64_t us)
{
	return us * card->profile.clock_khz / 1000;
}

uint64_t card_cycles(struct card *card)
{
	return card->cycles + card_cycles_in(card, idle_us(card));
}

void card_work_begins(struct card *card)
{
	uint64_t us = idle_us(card);

	card->base_us += us;
	card->cycles += card_cycles_in(card, us);
	card->workers_busy++;
	if (card->keeper_sleeps)
		pthread_cond_signal(&card->idle);
}

void card_work_ends(struct card *card)
{
	if (--card->workers_busy)
		return;
	card->idle_since_ns = wall_ns();
	if (card->is_resetting)
		pthread_cond_signal(&card->idle);
}

void card_time_spend(struct card *card, uint64_t us, uint64_t cycles)
{
	card->base_us += us;
	card->cycles += cycles;
}

void clock_tell(struct card *card, struct queue *q, uint64_t us, uint64_t cycles)
{
	struct work *work = &q->work;
	uint64_t new_us = us > work->told_us ? us - work->told_us : 0;
	uint64_t new_cycles = cycles > work->told_cycles ? cycles - work->told_cycles : 0;

	card_time_spend(card, new_us, new_cycles);
	q->busy_us += new_us;
	q->cycles += new_cycles;
	work->told_us += new_us;
	work->told_cycles += new_cycles;
}

void clock_account(struct card *card, struct queue *q)
{
	struct work *work = &q->work;

	clock_tell(card, q, work->step_us, work->step_cycles);
	q->slice_us += work->step_us;
	work->cycles += work->step_cycles;
	card->instructions += work->step_instructions;
	q->tokens += work->step_tokens;
	card->tokens += work->step_tokens;
	for (unsigned int c = 0; c < EXEC_CORES_MAX; c++)
		for (unsigned int u = 0; u < FLM_UNITS; u++)
			card->unit_instructions[c][u] += work->unit_instructions[c][u];
	work->told_us = work->told_cycles = work->step_us = work->step_cycles = 0;
	work->step_instructions = work->step_tokens = 0;
	memset(work->unit_instructions, 0, sizeof(work->unit_instructions));
}
