/* SPDX-License-Identifier: MIT */
/* Random MM, MV and MISC, see generate.h. */
#ifndef TESTS_EMULATOR_GENERATE_MATH_H
#define TESTS_EMULATOR_GENERATE_MATH_H

#include "tests/emulator/generate_move.h"

static const uint32_t gen_widths[] = { 2, 3, 4, 5, 8 };

/* A tile with random codes; sparsity 0 dense, 1..5 N = 0, 2, 4, 8, 16, 6 each block its own. */
static void gen_tile(struct gen *g, struct flm_strip *strip, uint32_t width, uint32_t sparsity,
		     uint32_t blocks, uint32_t *w_bytes, uint32_t *idx_bytes)
{
	static const uint8_t ns[] = { 0, 2, 4, 8, 16 };
	uint32_t groups = (blocks + 3) / 4, code_bytes = 32 * width * blocks, masks = 0, i, b, row;
	uint32_t at;

	memset(strip, 0, sizeof(*strip));
	strip->width = (uint8_t)width;
	strip->blocks = htole16((uint16_t)blocks);
	*idx_bytes = 0;
	if (sparsity) {
		uint32_t n_at = gen_constants(g, blocks), masks_at = gen_constants(g, 32 * blocks);
		uint8_t *mask = g->constants + masks_at;

		strip->flags = FLM_STRIP_SPARSE;
		strip->n = htole32(n_at / 64);
		strip->masks = htole32(masks_at / 64);
		code_bytes = 0;
		for (b = 0; b < blocks; b++) {
			uint32_t n = ns[sparsity == 6 ? gen_below(g, 5) : sparsity - 1];

			g->constants[n_at + b] = (uint8_t)n;
			code_bytes += 2 * n * width;
			if (!n || n == 16)
				continue;
			masks++;
			for (row = 0; row < 16; row++, mask += 2) {
				uint32_t bits = 0;

				while ((uint32_t)__builtin_popcount(bits) < n)
					bits |= 1u << gen_below(g, 16);
				mask[0] = (uint8_t)bits;
				mask[1] = (uint8_t)(bits >> 8);
			}
		}
		*idx_bytes = (blocks + 63) / 64 * 64 + (32 * masks + 63) / 64 * 64;
	}
	/* Codes are any bytes, and lie in the constants as they are. */
	at = gen_constants(g, code_bytes);
	strip->codes = htole32(at / 64);
	at = gen_constants(g, 32 * groups);
	strip->scales = htole32(at / 64);
	for (i = 0; i < 16 * groups; i++) {
		uint32_t half =
			gen_below(g, 2) << 15 | gen_between(g, 1, 16) << 10 | gen_below(g, 1024);

		if (gen_chance(g, 200))
			half = GEN_ANY(g, 0, 0x8000, 1, 0x83ff, 0x7c00, 0xfe00, 0x7bff);
		g->constants[at + 2 * i] = (uint8_t)half;
		g->constants[at + 2 * i + 1] = (uint8_t)(half >> 8);
	}
	*w_bytes = (code_bytes + 63) / 64 * 64 + (32 * groups + 63) / 64 * 64;
}

static void gen_linear(struct gen *g)
{
	/* Every program takes the next combinations, so that none is missed. */
	uint32_t combination = (uint32_t)((g->seed * 3 + g->linears++) % GEN_COMBINATIONS);
	uint32_t width = gen_widths[combination % 5], sparsity = combination / 5 % 7;
	uint32_t last = combination / 35 % 4 + 1;
	bool is_mv = combination / 140, is_wide = gen_chance(g, 40);
	uint32_t blocks = 4 * (is_wide ? 252 / 4 : GEN_ANY(g, 0, 1, 2, 2, 4, 5)) + last;
	uint32_t strips = is_wide ? 1 : gen_between(g, 1, 3), step = gen_between(g, 1, 2);
	uint32_t tokens = is_mv ? 1 : blocks > 24 ? 2 : gen_between(g, 1, 6), first_row, table, i;
	uint32_t pitch = 0, idx_pitch = 0, a_pitch, a_scale_pitch, out_pitch, w_at, idx_at, flags;
	uint32_t cols = 16 * blocks, groups = (blocks + 3) / 4, *w, row_slack;
	struct stream *s = &g->streams[FLM_UNIT_LD];

	if (!is_mv && blocks <= 4 && gen_chance(g, 8)) {
		tokens = 128;
		gen_cover(g, GEN_TOKENS);
	}
	first_row = gen_below(g, 3);
	table = gen_constants(g, 32 * (first_row + step * strips)) + 0;
	for (i = 0; i < strips; i++) {
		uint32_t w_bytes, idx_bytes, own = i && gen_chance(g, 2) ? gen_below(g, 5) : 9;
		struct flm_strip strip;

		if (own < 5)
			gen_cover(g, GEN_MIXED);
		gen_tile(g, &strip, own < 5 ? gen_widths[own] : width,
			 own < 5 ? gen_below(g, 7) : sparsity, blocks, &w_bytes, &idx_bytes);
		memcpy(g->constants + table + 32 * (first_row + i * step), &strip, sizeof(strip));
		pitch = w_bytes > pitch ? w_bytes : pitch;
		idx_pitch = idx_bytes > idx_pitch ? idx_bytes : idx_pitch;
	}
	pitch += gen_below(g, 3) * 64;
	idx_pitch += gen_below(g, 3) * 64;
	w_at = gen_below(g, (gen_buffers[FLM_BUFFER_WGT] - strips * pitch) / 64 + 1) * 64;
	idx_at = gen_below(g, (gen_buffers[FLM_BUFFER_IDX] - strips * idx_pitch) / 64 + 1) * 64;
	w = GEN_INSN(g, LD, LD_TILE);
	SET(w, LD_TILE, SEG, GEN_SEG_CONSTANTS);
	SET(w, LD_TILE, STEP, step);
	SET(w, LD_TILE, DST, FLM_CHIP(FLM_BUFFER_WGT, w_at));
	SET(w, LD_TILE, PITCH, pitch);
	SET(w, LD_TILE, IDX, FLM_CHIP(FLM_BUFFER_IDX, idx_at));
	SET(w, LD_TILE, IDX_PITCH, idx_pitch);
	GEN_EXPR(g, s, LD_TILE, TABLE, table, 0, 32);
	GEN_EXPR(g, s, LD_TILE, ROW, first_row, 0, 1);
	GEN_SIZE(g, s, LD_TILE, STRIPS, strips, false);
	gen_count(g, FLM_INSN_LD_TILE);

	a_pitch = gen_in_pitch(g, cols, 1);
	a_scale_pitch = gen_in_pitch(g, 4 * groups, 4);
	out_pitch = gen_out_pitch(g, 64 * strips, 4);
	flags = gen_below(g, 8);
	row_slack = 0;
	if (is_mv) {
		w = GEN_INSN(g, MV, MV_LINEAR);
		s = &g->streams[FLM_UNIT_MV];
		SET(w, MV_LINEAR, SEG, GEN_SEG_CONSTANTS);
		SET(w, MV_LINEAR, STEP, step);
		SET(w, MV_LINEAR, W, FLM_CHIP(FLM_BUFFER_WGT, w_at));
		SET(w, MV_LINEAR, W_PITCH, pitch);
		SET(w, MV_LINEAR, IDX, FLM_CHIP(FLM_BUFFER_IDX, idx_at));
		SET(w, MV_LINEAR, IDX_PITCH, idx_pitch);
	} else {
		w = GEN_INSN(g, MM, MM_LINEAR);
		s = &g->streams[FLM_UNIT_MM];
		SET(w, MM_LINEAR, SEG, GEN_SEG_CONSTANTS);
		SET(w, MM_LINEAR, STEP, step);
		SET(w, MM_LINEAR, W, FLM_CHIP(FLM_BUFFER_WGT, w_at));
		SET(w, MM_LINEAR, W_PITCH, pitch);
		SET(w, MM_LINEAR, IDX, FLM_CHIP(FLM_BUFFER_IDX, idx_at));
		SET(w, MM_LINEAR, IDX_PITCH, idx_pitch);
	}
	SET_HEAD(w, FLAGS, flags);
	g->regions[g->region_count++] = (struct gen_region) {
		FLM_BUFFER_WGT, w_at, w_at + strips * pitch, false };
	g->regions[g->region_count++] = (struct gen_region) {
		FLM_BUFFER_IDX, idx_at, idx_at + strips * idx_pitch, false };
	if (is_mv) {
		GEN_EXPR(g, s, MV_LINEAR, TABLE, table, row_slack, 32);
		GEN_EXPR(g, s, MV_LINEAR, ROW, first_row, 0, 1);
		GEN_SIZE(g, s, MV_LINEAR, STRIPS, strips, true);
		GEN_IN(g, s, MV_LINEAR, A, cols, 1);
		GEN_IN(g, s, MV_LINEAR, A_SCALES, 4 * groups, 4);
		GEN_OUT(g, s, MV_LINEAR, OUT, 64 * strips, 4);
		if (flags & FLM_MV_LINEAR_FACTOR)
			GEN_IN(g, s, MV_LINEAR, FACTOR_AT, 4, 4);
		if (flags & FLM_MV_LINEAR_BIAS)
			GEN_IN(g, s, MV_LINEAR, BIAS_AT, 64 * strips, 4);
		gen_count(g, FLM_INSN_MV_LINEAR);
	} else {
		GEN_EXPR(g, s, MM_LINEAR, TABLE, table, row_slack, 32);
		GEN_EXPR(g, s, MM_LINEAR, ROW, first_row, 0, 1);
		GEN_SIZE(g, s, MM_LINEAR, STRIPS, strips, true);
		GEN_IN(g, s, MM_LINEAR, A, gen_span(tokens, a_pitch, cols), 1);
		SET(w, MM_LINEAR, A_PITCH, a_pitch);
		GEN_IN(g, s, MM_LINEAR, A_SCALES, gen_span(tokens, a_scale_pitch, 4 * groups), 4);
		SET(w, MM_LINEAR, A_SCALE_PITCH, a_scale_pitch);
		GEN_SIZE(g, s, MM_LINEAR, TOKENS, tokens, true);
		GEN_OUT(g, s, MM_LINEAR, OUT, gen_span(tokens, out_pitch, 64 * strips), 4);
		SET(w, MM_LINEAR, OUT_PITCH, out_pitch);
		if (flags & FLM_MM_LINEAR_FACTOR)
			GEN_IN(g, s, MM_LINEAR, FACTOR_AT, 4, 4);
		if (flags & FLM_MM_LINEAR_BIAS)
			GEN_IN(g, s, MM_LINEAR, BIAS_AT, 64 * strips, 4);
		gen_count(g, FLM_INSN_MM_LINEAR);
	}
	if (flags & FLM_MM_LINEAR_FIRST)
		gen_cover(g, GEN_FIRST);
	if (flags & FLM_MM_LINEAR_FACTOR)
		gen_cover(g, GEN_FACTOR);
	if (flags & FLM_MM_LINEAR_BIAS)
		gen_cover(g, GEN_BIAS);
	if (cols == FLM_TILE_COLS)
		gen_cover(g, GEN_WIDE);
	if (cols == 176)
		gen_cover(g, GEN_K172);
	if (cols == 288)
		gen_cover(g, GEN_K288);
	if (!g->skipped)
		g->coverage.combination[combination]++;
}

/* qk and pv of both units have the same operands at different words. */
#define GEN_ATTENTION(g, s, w, unit, name, rows) do { \
	GEN_IN(g, s, unit##_##name, A, gen_span(rows, a_pitch, a_bytes), 1); \
	GEN_IN(g, s, unit##_##name, A_SCALES, gen_span(rows, a_scale_pitch, a_scale_bytes), 4); \
	GEN_IN(g, s, unit##_##name, B, gen_span(positions, b_pitch, dim), 1); \
	SET(w, unit##_##name, B_PITCH, b_pitch); \
	SET(w, unit##_##name, DIM, dim); \
	GEN_SIZE(g, s, unit##_##name, POSITIONS, positions, true); \
	GEN_OUT(g, s, unit##_##name, OUT, gen_span(rows, out_pitch, out_bytes), 4); \
	if (is_masked) { \
		GEN_IN(g, s, unit##_##name, MASKS, mask_bytes, 1); \
		SET(w, unit##_##name, MASK_PITCH, mask_pitch); \
		GEN_EXPR(g, s, unit##_##name, QUERY, query, 0, 1); \
		GEN_EXPR(g, s, unit##_##name, KEY, key, 0, 1); \
	} \
	if (is_masked) \
		SET_HEAD(w, FLAGS, flags | FLM_##unit##_##name##_MASK); \
	else \
		SET_HEAD(w, FLAGS, flags); \
	gen_count(g, FLM_INSN_##unit##_##name); \
} while (0)

static void gen_attention(struct gen *g, bool is_pv, bool is_mv)
{
	uint32_t dim =
		gen_chance(g, 6) ? gen_between(g, 1, 300) : GEN_ANY(g, 8, 32, 48, 64, 80, 128);
	uint32_t positions = gen_between(g, 1, 150), tokens = is_mv ? 1 : gen_between(g, 1, 5);
	bool is_masked = gen_chance(g, 2);
	uint32_t query = gen_below(g, 200), key = gen_below(g, 10) * (is_pv ? 64 : 37), flags = 0;
	uint32_t a_bytes, a_scale_bytes, a_pitch, a_scale_pitch, b_pitch, b_scale_pitch, out_bytes;
	uint32_t out_pitch, mask_pitch, mask_bytes, *w;
	struct stream *s = &g->streams[is_mv ? FLM_UNIT_MV : FLM_UNIT_MM];

	if (!is_mv && gen_chance(g, 12)) {
		tokens = 128;
		positions = gen_between(g, 1, 40);
		gen_cover(g, GEN_TOKENS);
	}
	dim = tokens == 128 && dim > 64 ? 64 : dim;
	a_bytes = is_pv ? positions : dim;
	a_scale_bytes = 4 * ((a_bytes + 63) / 64);
	out_bytes = 4 * (is_pv ? dim : positions);
	a_pitch = gen_in_pitch(g, a_bytes, 1);
	a_scale_pitch = gen_in_pitch(g, a_scale_bytes, 4);
	b_pitch = gen_in_pitch(g, dim, 1);
	b_scale_pitch = gen_in_pitch(g, a_scale_bytes, 4);
	out_pitch = gen_out_pitch(g, out_bytes, 4);
	mask_pitch = gen_between(g, 0, 4);
	mask_bytes = gen_span((query + tokens - 1) / 64 + 1, mask_pitch,
			      (key + positions - 1) / 512 + 1);
	g->coverage.dims[dim] += !g->skipped;
	if (is_pv && gen_chance(g, 2))
		flags = FLM_MM_PV_FIRST;
	if (is_masked)
		gen_cover(g, is_pv ? GEN_MASKED_PV : GEN_MASKED_QK);
	if (is_pv && is_mv) {
		w = GEN_INSN(g, MV, MV_PV);
		GEN_ATTENTION(g, s, w, MV, PV, 1);
	} else if (is_pv) {
		w = GEN_INSN(g, MM, MM_PV);
		GEN_ATTENTION(g, s, w, MM, PV, tokens);
		SET(w, MM_PV, A_PITCH, a_pitch);
		SET(w, MM_PV, A_SCALE_PITCH, a_scale_pitch);
		SET(w, MM_PV, OUT_PITCH, out_pitch);
		GEN_SIZE(g, s, MM_PV, TOKENS, tokens, true);
	} else if (is_mv) {
		w = GEN_INSN(g, MV, MV_QK);
		GEN_ATTENTION(g, s, w, MV, QK, 1);
		GEN_IN(g, s, MV_QK, B_SCALES, gen_span(positions, b_scale_pitch, a_scale_bytes), 4);
		SET(w, MV_QK, B_SCALE_PITCH, b_scale_pitch);
	} else {
		w = GEN_INSN(g, MM, MM_QK);
		GEN_ATTENTION(g, s, w, MM, QK, tokens);
		GEN_IN(g, s, MM_QK, B_SCALES, gen_span(positions, b_scale_pitch, a_scale_bytes), 4);
		SET(w, MM_QK, B_SCALE_PITCH, b_scale_pitch);
		SET(w, MM_QK, A_PITCH, a_pitch);
		SET(w, MM_QK, A_SCALE_PITCH, a_scale_pitch);
		SET(w, MM_QK, OUT_PITCH, out_pitch);
		GEN_SIZE(g, s, MM_QK, TOKENS, tokens, true);
	}
}

static void gen_misc(struct gen *g, unsigned int mode)
{
	uint32_t rows = gen_between(g, 1, 5), cols = gen_between(g, 1, 200), imm = 0, pos = 0,
		 flags = 0;
	uint32_t a_bytes, b_bytes = 0, c_bytes = 0, out_bytes, a_align = 4, c_align = 4,
			  out_align = 4;
	bool may_vary = true, has_a = mode != FLM_MISC_FILL, is_same = false, has_c_rows = true;
	uint32_t *w = GEN_INSN(g, MISC, MISC), pitch, groups;
	struct stream *s = &g->streams[FLM_UNIT_MISC];

	SET_HEAD(w, MODE, mode);
	if (gen_chance(g, 10))
		cols = gen_between(g, 500, 2000);
	switch (mode) {
	case FLM_MISC_SCALE:
	case FLM_MISC_FILL:
	case FLM_MISC_SOFTMAX:
		imm = gen_float_bits(g);
		break;
	case FLM_MISC_RMSNORM:
	case FLM_MISC_LAYERNORM:
		imm = GEN_ANY(g, 0x3727c5ac, 0x358637bd, 0);
		break;
	case FLM_MISC_ROPE:
		imm = 2 * gen_between(g, 1, 64);
		cols = imm * gen_between(g, 1, 4);
		may_vary = false;
		break;
	case FLM_MISC_QUANT:
	case FLM_MISC_DEQUANT:
		imm = GEN_ANY(g, 64, 64, 32, 80, 1, 7, 1024);
		break;
	case FLM_MISC_HADAMARD:
		imm = GEN_ANY(g, 16, 32, 64, 128);
		cols = imm * gen_between(g, 1, 4);
		may_vary = false;
		break;
	case FLM_MISC_TOPK:
		imm = gen_chance(g, 8) ? 1024 : gen_between(g, 1, 80);
		rows = imm == 1024 ? 1 : rows;
		pos = gen_chance(g, 4) ? 0xfffffffe - 3000 : gen_below(g, 100000);
		break;
	}
	a_bytes = out_bytes = 4 * cols;
	if (mode == FLM_MISC_ADD || mode == FLM_MISC_MUL || mode == FLM_MISC_RMSNORM ||
	    mode == FLM_MISC_LAYERNORM)
		b_bytes = 4 * cols;
	if (mode == FLM_MISC_LAYERNORM) {
		c_bytes = 4 * cols;
		has_c_rows = false;
	}
	if (mode == FLM_MISC_ROPE)
		b_bytes = 4 * imm;
	groups = imm ? (cols + imm - 1) / imm : 0;
	if (mode == FLM_MISC_QUANT) {
		out_bytes = (cols + 15) / 16 * 16;
		out_align = 1;
		c_bytes = 4 * groups;
	} else if (mode == FLM_MISC_DEQUANT) {
		a_bytes = cols;
		a_align = 1;
		flags = gen_chance(g, 2) ? FLM_MISC_HALF : 0;
		c_align = flags ? 2 : 4;
		c_bytes = groups * c_align;
		if (flags)
			gen_cover(g, GEN_HALF);
	} else if (mode == FLM_MISC_TOPK) {
		out_bytes = 8 * imm;
	} else if (mode == FLM_MISC_SOFTMAX) {
		pos = gen_below(g, cols + 40);
		if (gen_chance(g, 2)) {
			flags |= FLM_MISC_SAME;
			gen_cover(g, GEN_SAME);
		}
		if (gen_chance(g, 2)) {
			uint32_t blocks = (pos + rows - 1) / 64 + 1;

			flags |= FLM_MISC_MASK;
			pitch = gen_between(g, 0, 3);
			SET(w, MISC, B_PITCH, pitch);
			GEN_IN(g, s, MISC, B, gen_span(blocks, pitch, (cols + 511) / 512), 1);
			gen_cover(g, GEN_MASKED_SOFTMAX);
		}
	}
	SET_HEAD(w, FLAGS, flags);
	SET(w, MISC, IMM, imm);
	GEN_SIZE(g, s, MISC, ROWS, rows, true);
	GEN_SIZE(g, s, MISC, COLS, cols, may_vary);
	if (mode == FLM_MISC_TOPK || mode == FLM_MISC_SOFTMAX) {
		/* An id that needs the sign bit cannot be a constant. */
		if (pos > INT32_MAX) {
			SET(w, MISC, POS, 0x7fffffff);
			while (pos > INT32_MAX) {
				uint32_t part =
					pos - INT32_MAX < INT32_MAX ? pos - INT32_MAX : INT32_MAX;

				/* core register 1 is one in all cores */
				term(s, FLM_MISC_POS_NUMBER, FLM_CLASS_CORE, 1, (int32_t)part);
				pos -= part;
			}
		} else {
			GEN_EXPR(g, s, MISC, POS, pos, 0, 1);
		}
	}
	if (b_bytes) {
		pitch = gen_in_pitch(g, b_bytes, 4);
		SET(w, MISC, B_PITCH, pitch);
		GEN_IN(g, s, MISC, B, gen_span(rows, pitch, b_bytes), 4);
	}
	if (c_bytes) {
		bool is_output = mode == FLM_MISC_QUANT;

		pitch = !has_c_rows ? 0 : is_output ? gen_out_pitch(g, c_bytes, 4) :
			gen_in_pitch(g, c_bytes, c_align);
		SET(w, MISC, C_PITCH, pitch);
		gen_place(g, s, FLM_MISC_C_W, FLM_MISC_C_NUMBER, -1, gen_span(rows, pitch, c_bytes),
			  c_align, is_output);
	}
	is_same = has_a && out_align == 4 && a_bytes == out_bytes && gen_chance(g, 3);
	pitch = gen_out_pitch(g, out_bytes, out_align);
	SET(w, MISC, OUT_PITCH, pitch);
	if (is_same) {
		/* In place: the same words and terms name both. */
		uint32_t before = s->count, i;

		GEN_OUT(g, s, MISC, OUT, gen_span(rows, pitch, out_bytes), 4);
		SET(w, MISC, A, w[FLM_MISC_OUT_W]);
		SET(w, MISC, A_PITCH, pitch);
		for (i = s->count; before < i; before += 2)
			term(s, FLM_MISC_A_NUMBER, FLM_GET_TERM(s->words + before, CLASS),
			     FLM_GET_TERM(s->words + before, INDEX), (int32_t)s->words[before + 1]);
		gen_cover(g, GEN_IN_PLACE);
	} else {
		GEN_OUT(g, s, MISC, OUT, gen_span(rows, pitch, out_bytes), out_align);
		if (has_a) {
			pitch = gen_in_pitch(g, a_bytes, a_align);
			SET(w, MISC, A_PITCH, pitch);
			GEN_IN(g, s, MISC, A, gen_span(rows, pitch, a_bytes), a_align);
		}
	}
	gen_count(g, FLM_INSN_MISC);
	if (!g->skipped)
		g->coverage.misc[mode]++;
}

/* The same candidates come to every core, and are sampled there. */
static void gen_sample(struct gen *g)
{
	uint32_t count = gen_chance(g, 6) ? 1024 : gen_between(g, 1, 70), at, i, *w;
	uint32_t present = gen_chance(g, 3) ? gen_below(g, count + 1) : count, logit = 0x41200000;
	struct gen_region region;

	at = gen_constants(g, 8 * count);
	for (i = 0; i < count; i++) {
		uint32_t id = i < present ? gen_below(g, 100000) : FLM_CANDIDATE_NONE;

		logit -= logit > 0x100000 ? gen_below(g, 0x40000) : 0;
		memcpy(g->constants + at + 8 * i, &(uint32_t) { htole32(logit) }, 4);
		memcpy(g->constants + at + 8 * i + 4, &(uint32_t) { htole32(id) }, 4);
	}
	region = gen_bring(g, at, 8 * count);
	w = GEN_INSN(g, MISC, MISC);
	SET_HEAD(w, MODE, FLM_MISC_SAMPLE);
	SET(w, MISC, A, FLM_CHIP(region.buffer, region.from));
	SET(w, MISC, IMM, count);
	SET_SIZE(w, MISC, ROWS, 1);
	SET_SIZE(w, MISC, COLS, 1);
	gen_count(g, FLM_INSN_MISC);
	if (g->must_sample)
		gen_cover(g, GEN_SAMPLED);
	if (!g->skipped)
		g->coverage.misc[FLM_MISC_SAMPLE]++;
}

#endif
