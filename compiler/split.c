// SPDX-License-Identifier: MIT
/*
 * The rows of each core: whole KV heads with their query heads, everything else in multiples of
 * 64, as SPEC.md ("A layer, to the bit") splits a model over the cores. A K is never split.
 */
#include "compiler/cc.h"

/* Rows of whole units that core `core` of `cores` has: first and count, in units. */
static void share(uint32_t units, unsigned int cores, unsigned int core, uint32_t *first,
		  uint32_t *count)
{
	uint32_t each = units / cores, more = units % cores;

	*first = core * each + MIN(core, more);
	*count = each + (core < more);
}

uint32_t core_rows(const struct plan *p, enum split split, unsigned int core, uint32_t *first)
{
	const struct checkpoint_config *c = p->config;
	uint32_t unit = FLM_GROUP, rows, count;

	switch (split) {
	case SPLIT_Q:
	case SPLIT_KV:
		unit = split == SPLIT_Q ? p->heads_per_kv * c->head_dim : c->head_dim;
		rows = unit * c->kv_heads;
		break;
	case SPLIT_HIDDEN:
		rows = c->hidden;
		break;
	case SPLIT_FFN:
		rows = c->ffn;
		break;
	case SPLIT_VOCAB:
		rows = c->vocab;
		break;
	default:
		die("internal error: a whole vector has no rows of a core");
	}
	share(DIV_UP(rows, unit), p->card->cores, core, first, &count);
	*first = MIN(*first * unit, rows);
	return MIN(count * unit, rows - *first);	/* the last unit may be short */
}

uint32_t core_rows_max(const struct plan *p, enum split split)
{
	uint32_t most = 0, first;

	for (unsigned int core = 0; core < p->card->cores; core++)
		most = MAX(most, core_rows(p, split, core, &first));
	return most;
}
