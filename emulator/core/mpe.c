// SPDX-License-Identifier: MIT
/*
 * MM and MV: one implementation of linear, qk and pv, because an MV is an MM of one token. A tile
 * is expanded once and then meets all tokens; a dense 8-bit tile is used where it lies on chip.
 */
#include <string.h>

#include "emulator/core/core.h"
#include "emulator/core/dot.h"
#include "emulator/core/expand.h"
#include "emulator/core/math.h"

#define PART_POSITIONS	16384	/* of qk, between two looks whether the pass is to stop */

struct linear {
	uint64_t segment, table, row, step, strips;
	const struct place *w, *idx, *a, *a_scales, *out, *factor, *bias;
	uint64_t w_pitch, idx_pitch, a_pitch, a_scale_pitch, out_pitch, tokens;
	unsigned int flags;
	uint64_t *macs;		/* counter */
};

#define LINEAR(insn, name) \
	.segment = VALUE(insn, name, SEG), .table = VALUE(insn, name, TABLE), \
	.row = VALUE(insn, name, ROW), .step = VALUE(insn, name, STEP), \
	.strips = VALUE(insn, name, STRIPS), .w = PLACE(insn, name, W), \
	.idx = PLACE(insn, name, IDX), .a = PLACE(insn, name, A), \
	.a_scales = PLACE(insn, name, A_SCALES), .out = PLACE(insn, name, OUT), \
	.factor = PLACE(insn, name, FACTOR_AT), .bias = PLACE(insn, name, BIAS_AT), \
	.w_pitch = VALUE(insn, name, W_PITCH), .idx_pitch = VALUE(insn, name, IDX_PITCH), \
	.flags = (insn)->flags

_Static_assert((int)FLM_MM_LINEAR_FIRST == (int)FLM_MV_LINEAR_FIRST &&
	       (int)FLM_MM_LINEAR_FACTOR == (int)FLM_MV_LINEAR_FACTOR &&
	       (int)FLM_MM_LINEAR_BIAS == (int)FLM_MV_LINEAR_BIAS &&
	       (int)FLM_MM_QK_MASK == (int)FLM_MV_QK_MASK &&
	       (int)FLM_MM_PV_MASK == (int)FLM_MV_PV_MASK &&
	       (int)FLM_MM_PV_MASK == (int)FLM_MM_QK_MASK &&
	       (int)FLM_MM_PV_FIRST == (int)FLM_MV_PV_FIRST, "MM and MV share their flags");

static void store_written(uint8_t *to, const float *from, uint64_t count)
{
	uint64_t i;

	for (i = 0; i < count; i++) {
		float x = math_written(from[i]);

		memcpy(to + i * sizeof(x), &x, sizeof(x));
	}
}

/* The codes of strip s, one byte each, and its scales as floats in scratch. NULL after a fault. */
static const uint8_t *take_tile(struct core *core, const struct linear *op, uint64_t s,
				struct tile *tile)
{
	const uint8_t *n = NULL, *masks = NULL, *codes, *scales;
	uint64_t n_bytes = 0, code_bytes;
	uint32_t i;

	if (expand_fetch(core, op->segment, op->table, op->row + s * op->step, tile))
		return NULL;
	if (tile->is_sparse) {
		if (op->idx->buffer != FLM_BUFFER_IDX) {
			core_fault(core, FLM_FAULT_BUFFER);
			return NULL;
		}
		n_bytes = expand_pad(tile->blocks);
		n = core_in(core, op->idx, s * op->idx_pitch, 1, 0, tile->blocks, EXPAND_ALIGN);
		if (!n)
			return NULL;
	}
	if ((n && expand_measure(tile, n)) ||
	    expand_pad(tile->code_bytes) + expand_pad(tile->scale_bytes) > op->w_pitch ||
	    (n && n_bytes + expand_pad(tile->mask_bytes) > op->idx_pitch)) {
		core_fault(core, FLM_FAULT_FORMAT);
		return NULL;
	}
	code_bytes = expand_pad(tile->code_bytes);
	codes = core_in(core, op->w, s * op->w_pitch, 1, 0, code_bytes + tile->scale_bytes,
			EXPAND_ALIGN);
	if (!codes)
		return NULL;
	if (tile->mask_bytes) {
		masks = core_in(core, op->idx, s * op->idx_pitch + n_bytes, 1, 0, tile->mask_bytes,
				1);
		if (!masks)
			return NULL;
	}
	scales = codes + code_bytes;
	for (i = 0; i < tile->groups * FLM_STRIP; i++)
		core->scratch->scales[i / FLM_STRIP][i % FLM_STRIP] =
			math_half((uint16_t)(scales[2 * i] | scales[2 * i + 1] << 8));
	if (!tile->is_sparse && tile->width == 8)
		return codes;
	if (expand_codes(tile, codes, masks, core->scratch->codes)) {
		core_fault(core, FLM_FAULT_FORMAT);
		return NULL;
	}
	return core->scratch->codes;
}

/* The zero point's part of each group's sum. */
static void sum_activations(struct core *core, const struct linear *op, const int8_t *a,
			    uint32_t cols)
{
	uint64_t t;
	uint32_t c;

	for (t = 0; t < op->tokens; t++, a += op->a_pitch) {
		int32_t *sums = core->scratch->sums[t];

		for (c = 0; c < cols; c += FLM_STRIP) {
			int32_t sum = 0, i;

			for (i = 0; i < FLM_STRIP; i++)
				sum += a[c + i];
			if (c % FLM_GROUP == 0)
				sums[c / FLM_GROUP] = 0;
			sums[c / FLM_GROUP] += sum;
		}
	}
}

/* Everything after a strip's tile: its tokens against it. `cols` is what a_sums were made for. */
static int run_strip(struct core *core, const struct linear *op, uint64_t s, uint32_t *cols)
{
	const uint8_t *codes, *a_scales, *at;
	float acc[FLM_STRIP], bias[FLM_STRIP], factor = 1.0f;
	struct tile tile;
	const int8_t *a;
	uint8_t *out;
	uint32_t r;
	uint64_t t;

	codes = take_tile(core, op, s, &tile);
	if (!codes)
		return -1;
	a = (const int8_t *)core_in(core, op->a, 0, op->tokens, op->a_pitch, tile.cols, 1);
	if (!a)
		return -1;
	a_scales = core_in(core, op->a_scales, 0, op->tokens, op->a_scale_pitch,
			   tile.groups * sizeof(float), 4);
	if (!a_scales)
		return -1;
	out = core_out(core, op->out, s * sizeof(acc), op->tokens, op->out_pitch, sizeof(acc), 4);
	if (!out)
		return -1;
	if (op->flags & FLM_MM_LINEAR_FACTOR) {
		at = core_in(core, op->factor, 0, 1, 0, sizeof(factor), 4);
		if (!at)
			return -1;
		memcpy(&factor, at, sizeof(factor));
	}
	if (op->flags & FLM_MM_LINEAR_BIAS) {
		at = core_in(core, op->bias, s * sizeof(bias), 1, 0, sizeof(bias), 4);
		if (!at)
			return -1;
		memcpy(bias, at, sizeof(bias));
	}
	if (tile.cols != *cols)
		sum_activations(core, op, a, tile.cols);
	*cols = tile.cols;
	for (t = 0; t < op->tokens; t++) {
		uint8_t *to = out + t * op->out_pitch;

		memset(acc, 0, sizeof(acc));
		if (!(op->flags & FLM_MM_LINEAR_FIRST))
			memcpy(acc, to, sizeof(acc));
		core->dot->strip(codes, tile.cols, expand_zero(&tile), a + t * op->a_pitch,
				 core->scratch->sums[t], a_scales + t * op->a_scale_pitch,
				 core->scratch->scales, acc);
		if (op->flags & FLM_MM_LINEAR_FACTOR)
			for (r = 0; r < FLM_STRIP; r++)
				acc[r] = acc[r] * factor;
		if (op->flags & FLM_MM_LINEAR_BIAS)
			for (r = 0; r < FLM_STRIP; r++)
				acc[r] = acc[r] + bias[r];
		store_written(to, acc, FLM_STRIP);
	}
	core_count(op->macs, tile.kept * op->tokens);
	return 0;
}

static int run_linear(struct core *core, const struct linear *op)
{
	uint32_t cols = 0;
	uint64_t s;

	if (op->w->buffer != FLM_BUFFER_WGT)
		return core_fault(core, FLM_FAULT_BUFFER);
	for (s = 0; s < op->strips; s++)
		if (core_step(core, 1) || run_strip(core, op, s, &cols))
			return -1;
	return 0;
}

struct attention {
	const struct place *a, *a_scales, *b, *b_scales, *out, *masks;
	uint64_t a_pitch, a_scale_pitch, b_pitch, b_scale_pitch, out_pitch, mask_pitch;
	uint64_t dim, positions, tokens, query, key;
	unsigned int flags;
	uint64_t *macs;		/* counter */
};

#define ATTENTION(insn, name) \
	.a = PLACE(insn, name, A), .a_scales = PLACE(insn, name, A_SCALES), \
	.b = PLACE(insn, name, B), .b_pitch = VALUE(insn, name, B_PITCH), \
	.dim = VALUE(insn, name, DIM), .positions = VALUE(insn, name, POSITIONS), \
	.out = PLACE(insn, name, OUT), .masks = PLACE(insn, name, MASKS), \
	.mask_pitch = VALUE(insn, name, MASK_PITCH), .query = VALUE(insn, name, QUERY), \
	.key = VALUE(insn, name, KEY), .flags = (insn)->flags

/* Operands as bytes, all checked. */
struct checked {
	const uint8_t *a, *a_scales, *b, *b_scales;
	uint8_t *out;
	struct mask space;
	const struct mask *mask;	/* NULL: none */
};

/*
 * A run: positions of one token whose key blocks the mask keeps, all of them where there is no
 * mask. Tokens are rows: one is finished before the next is read.
 */
struct run {
	uint64_t token;
	uint64_t first, end;	/* positions, from the first of the instruction */
};

/* The next run at or after run->end; false: the token has no more. mask NULL: none. */
static bool next_run(const struct attention *op, const struct mask *mask, struct run *run)
{
	uint64_t block = (op->query + run->token) / FLM_PAGE, p = run->end, end;
	bool is_open = false;

	if (!mask) {
		run->first = p;
		run->end = op->positions;
		return p < op->positions;
	}
	for (; p < op->positions; p = end) {
		bool is_kept = mask_keeps(mask, block, (op->key + p) / FLM_PAGE);

		end = p + FLM_PAGE - (op->key + p) % FLM_PAGE;
		if (end > op->positions)
			end = op->positions;
		if (is_open && !is_kept)
			break;
		if (is_kept && !is_open)
			run->first = p;
		is_open = is_kept;
	}
	run->end = p;
	return is_open;
}

/* Checks all operands in their order; b_scales only where there are any. */
static int check(struct core *core, const struct attention *op, uint64_t a_bytes,
		 uint64_t a_scale_bytes, uint64_t b_scale_bytes, uint64_t out_bytes,
		 struct checked *ok)
{
	ok->a = core_in(core, op->a, 0, op->tokens, op->a_pitch, a_bytes, 1);
	if (!ok->a)
		return -1;
	ok->a_scales =
		core_in(core, op->a_scales, 0, op->tokens, op->a_scale_pitch, a_scale_bytes, 4);
	if (!ok->a_scales)
		return -1;
	ok->b = core_in(core, op->b, 0, op->positions, op->b_pitch, op->dim, 1);
	if (!ok->b)
		return -1;
	if (b_scale_bytes) {
		ok->b_scales = core_in(core, op->b_scales, 0, op->positions, op->b_scale_pitch,
				       b_scale_bytes, 4);
		if (!ok->b_scales)
			return -1;
	}
	ok->out = core_out(core, op->out, 0, op->tokens, op->out_pitch, out_bytes, 4);
	if (!ok->out)
		return -1;
	ok->mask = NULL;
	if (!(op->flags & FLM_MM_QK_MASK))
		return 0;
	ok->mask = &ok->space;
	return core_mask(core, op->masks, op->mask_pitch, op->query, op->tokens, op->key,
			 op->positions, &ok->space);
}

static uint64_t scale_bytes(uint64_t columns)
{
	return (columns + FLM_GROUP - 1) / FLM_GROUP * sizeof(float);
}

/* In parts: a run may have millions of positions, and nobody waits so long for the pass to stop. */
static int score_keys(struct core *core, const struct attention *op, const struct checked *ok,
		      const struct run *run, float *scores)
{
	uint64_t p, n;

	for (p = run->first; p < run->end; p += n) {
		if (core_step(core, 0))
			return -1;
		n = run->end - p < PART_POSITIONS ? run->end - p : PART_POSITIONS;
		core->dot->keys((const int8_t *)ok->a + run->token * op->a_pitch,
				ok->a_scales + run->token * op->a_scale_pitch,
				(const int8_t *)ok->b + p * op->b_pitch, op->b_pitch,
				ok->b_scales + p * op->b_scale_pitch, op->b_scale_pitch,
				(uint32_t)op->dim, (uint32_t)n, scores + p);
		core_count(op->macs, n * op->dim);
	}
	return 0;
}

static int run_qk(struct core *core, const struct attention *op)
{
	uint64_t bytes = op->positions * sizeof(float), t;
	float *scores = core->scratch->rows[0];
	struct checked ok;

	if (check(core, op, op->dim, scale_bytes(op->dim), scale_bytes(op->dim), bytes, &ok))
		return -1;
	for (t = 0; t < op->tokens; t++) {
		struct run run = { .token = t };

		if (core_step(core, 1))
			return -1;
		if (ok.mask)
			memset(scores, 0, bytes);
		while (next_run(op, ok.mask, &run))
			if (score_keys(core, op, &ok, &run, scores))
				return -1;
		store_written(ok.out + t * op->out_pitch, scores, op->positions);
	}
	return 0;
}

/* A run starts at a group's first position, because KEY and blocks are multiples of groups. */
static int add_values(struct core *core, const struct attention *op, const struct checked *ok,
		      const struct run *run, float *acc)
{
	const int8_t *a = (const int8_t *)ok->a + run->token * op->a_pitch;
	const uint8_t *a_scales = ok->a_scales + run->token * op->a_scale_pitch;
	int32_t sums[FLM_DIM_MAX];
	uint64_t p, n, d;

	for (p = run->first; p < run->end; p += FLM_GROUP) {
		float scale;

		if (core_step(core, 0))
			return -1;
		n = run->end - p < FLM_GROUP ? run->end - p : FLM_GROUP;
		memcpy(&scale, a_scales + p / FLM_GROUP * sizeof(scale), sizeof(scale));
		core->dot->values(a + p, (const int8_t *)ok->b + p * op->b_pitch, op->b_pitch,
				  (uint32_t)n, (uint32_t)op->dim, sums);
		for (d = 0; d < op->dim; d++)
			acc[d] = acc[d] + (float)sums[d] * scale;
		core_count(op->macs, n * op->dim);
	}
	return 0;
}

static int run_pv(struct core *core, const struct attention *op)
{
	uint64_t bytes = op->dim * sizeof(float), t;
	float acc[FLM_DIM_MAX];
	struct checked ok;

	if (op->flags & FLM_MM_PV_MASK && op->key % FLM_PAGE)
		return core_fault(core, FLM_FAULT_BOUND);
	if (check(core, op, op->positions, scale_bytes(op->positions), 0, bytes, &ok))
		return -1;
	for (t = 0; t < op->tokens; t++) {
		struct run run = { .token = t };

		if (core_step(core, 1))
			return -1;
		memset(acc, 0, bytes);
		if (!(op->flags & FLM_MM_PV_FIRST))
			memcpy(acc, ok.out + t * op->out_pitch, bytes);
		while (next_run(op, ok.mask, &run))
			if (add_values(core, op, &ok, &run, acc))
				return -1;
		store_written(ok.out + t * op->out_pitch, acc, op->dim);
	}
	return 0;
}

int mpe_run(struct core *core, const struct insn *insn)
{
	switch (insn->kind) {
	case FLM_INSN_MM_LINEAR:
		return run_linear(core, &(struct linear) {
			LINEAR(insn, MM_LINEAR), .a_pitch = VALUE(insn, MM_LINEAR, A_PITCH),
			.a_scale_pitch = VALUE(insn, MM_LINEAR, A_SCALE_PITCH),
			.out_pitch = VALUE(insn, MM_LINEAR, OUT_PITCH),
			.tokens = VALUE(insn, MM_LINEAR, TOKENS), .macs = &core->mm_macs,
		});
	case FLM_INSN_MV_LINEAR:
		return run_linear(core, &(struct linear) {
			LINEAR(insn, MV_LINEAR), .tokens = 1, .macs = &core->mv_macs,
		});
	case FLM_INSN_MM_QK:
		return run_qk(core, &(struct attention) {
			ATTENTION(insn, MM_QK), .a_pitch = VALUE(insn, MM_QK, A_PITCH),
			.a_scale_pitch = VALUE(insn, MM_QK, A_SCALE_PITCH),
			.b_scales = PLACE(insn, MM_QK, B_SCALES),
			.b_scale_pitch = VALUE(insn, MM_QK, B_SCALE_PITCH),
			.out_pitch = VALUE(insn, MM_QK, OUT_PITCH),
			.tokens = VALUE(insn, MM_QK, TOKENS), .macs = &core->mm_macs,
		});
	case FLM_INSN_MV_QK:
		return run_qk(core, &(struct attention) {
			ATTENTION(insn, MV_QK), .b_scales = PLACE(insn, MV_QK, B_SCALES),
			.b_scale_pitch = VALUE(insn, MV_QK, B_SCALE_PITCH), .tokens = 1,
			.macs = &core->mv_macs,
		});
	case FLM_INSN_MM_PV:
		return run_pv(core, &(struct attention) {
			ATTENTION(insn, MM_PV), .a_pitch = VALUE(insn, MM_PV, A_PITCH),
			.a_scale_pitch = VALUE(insn, MM_PV, A_SCALE_PITCH),
			.out_pitch = VALUE(insn, MM_PV, OUT_PITCH),
			.tokens = VALUE(insn, MM_PV, TOKENS), .macs = &core->mm_macs,
		});
	default:
		return run_pv(core, &(struct attention) {
			ATTENTION(insn, MV_PV), .tokens = 1, .macs = &core->mv_macs,
		});
	}
}
