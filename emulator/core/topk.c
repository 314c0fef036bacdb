// SPDX-License-Identifier: MIT
/*
 * Candidates. A row's best are kept in a heap whose top is the least of them, so most columns cost
 * one comparison; ranks are numbers without ties (math_rank), so the order of columns is no matter.
 */
#include "emulator/core/topk.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/core/math.h"

#define PART_COLS	65536	/* between two looks whether the pass is to stop */

static int compare_ranks(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return x < y ? 1 : x > y ? -1 : 0;
}

/* heap[0] is the least of the best so far; it gives way to `rank`. */
static void replace_least(uint64_t *heap, uint32_t count, uint64_t rank)
{
	uint32_t at = 0, child;

	for (; (child = 2 * at + 1) < count; at = child) {
		if (child + 1 < count && heap[child + 1] < heap[child])
			child++;
		if (heap[child] >= rank)
			break;
		heap[at] = heap[child];
	}
	heap[at] = rank;
}

int topk_row(struct core *core, const float *logits, uint32_t cols, uint32_t first_id,
	     uint32_t count, struct flm_candidate *best)
{
	/* 0 is below every rank: that of -infinity has bits, too. */
	uint64_t heap[FLM_TOPK_MAX] = { 0 };
	uint32_t i, id;

	for (i = 0; i < cols; i++) {
		uint64_t rank = math_rank(logits[i], first_id + i);

		if (i % PART_COLS == PART_COLS - 1 && core_step(core, 0))
			return -1;
		if (rank > heap[0])
			replace_least(heap, count, rank);
	}
	qsort(heap, count, sizeof(heap[0]), compare_ranks);
	for (i = 0; i < count; i++) {
		float logit = math_float(0xff800000);

		id = FLM_CANDIDATE_NONE;
		if (heap[i]) {
			id = (uint32_t)~heap[i];
			logit = logits[id - first_id];
			if (logit != logit)
				logit = math_float(0xff800000);
		}
		best[i].logit = htole32(math_bits(logit));
		best[i].id = htole32(id);
	}
	return 0;
}

/* The first of a pass that ends with a token is remembered; the pass compares and chooses. */
int topk_sample(struct core *core, const struct insn *insn)
{
	struct choice *choice = &core->choice;
	uint64_t count = VALUE(insn, MISC, IMM);
	const uint8_t *at;

	if (core->pass->lengths[FLM_LENGTH_SAMPLE] != 1 || choice->is_made)
		return 0;
	if (count < 1 || count > FLM_TOPK_MAX || VALUE(insn, MISC, ROWS) != 1 ||
	    VALUE(insn, MISC, COLS) != 1)
		return core_fault(core, FLM_FAULT_FORMAT);
	at = core_in(core, PLACE(insn, MISC, A), 0, 1, 0, count * sizeof(struct flm_candidate), 4);
	if (!at)
		return -1;
	memcpy(choice->candidates, at, count * sizeof(struct flm_candidate));
	for (choice->count = 0; choice->count < count; choice->count++)
		if (le32toh(choice->candidates[choice->count].id) == FLM_CANDIDATE_NONE)
			break;
	choice->is_made = true;
	choice->word = core->units[FLM_UNIT_MISC].at;
	return 0;
}
