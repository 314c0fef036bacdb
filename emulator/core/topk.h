/* SPDX-License-Identifier: MIT */
/*
 * Candidates for the next token: the greatest logits of a row, and the ones a pass samples from.
 *
 *	topk_row(core, logits, cols, first_id, 40, best);
 */
#ifndef EMULATOR_TOPK_H
#define EMULATOR_TOPK_H

#include "emulator/core/core.h"

/*
 * best[count] of `cols` >= 1 logits with ids first_id, first_id + 1, ..; count is 1..1024. 0, or -1
 * when the pass is to stop.
 */
int topk_row(struct core *core, const float *logits, uint32_t cols, uint32_t first_id,
	     uint32_t count, struct flm_candidate *best);

/* MISC sample: 0, or -1 after a fault. */
int topk_sample(struct core *core, const struct insn *insn);

#endif
