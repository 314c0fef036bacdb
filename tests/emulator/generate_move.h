/* SPDX-License-Identifier: MIT */
/* Random LD and ST, see generate.h. */
#ifndef TESTS_EMULATOR_GENERATE_MOVE_H
#define TESTS_EMULATOR_GENERATE_MOVE_H

#include "tests/emulator/generate_base.h"

static void gen_rows(struct gen *g, bool is_store)
{
	uint32_t rows = gen_between(g, 1, 9), bytes = gen_between(g, 1, 300), memory_pitch, pitch;
	uint32_t segment = is_store || gen_chance(g, 2) ? GEN_SEG_MEMORY : GEN_SEG_CONSTANTS, span;
	uint32_t length = segment == GEN_SEG_MEMORY ? GEN_MEMORY : GEN_CONSTANTS, slack;
	struct stream *s;
	uint32_t *w;

	if (gen_chance(g, 8)) {
		bytes = gen_between(g, 1000, 8000);
		rows = 1 + gen_below(g, 2);
	}
	memory_pitch = is_store ? gen_out_pitch(g, bytes, 1) : gen_in_pitch(g, bytes, 1);
	pitch = is_store ? gen_in_pitch(g, bytes, 1) : gen_out_pitch(g, bytes, 1);
	span = gen_span(rows, memory_pitch, bytes);
	slack = gen_below(g, 4) * 100;
	if (is_store) {
		w = GEN_INSN(g, ST, ST_LINEAR);
		s = &g->streams[FLM_UNIT_ST];
		SET(w, ST_LINEAR, SEG, segment);
		SET(w, ST_LINEAR, DST_PITCH, memory_pitch);
		SET(w, ST_LINEAR, SRC_PITCH, pitch);
		GEN_EXPR(g, s, ST_LINEAR, OFF, gen_below(g, length - span - slack + 1), slack, 1);
		GEN_IN(g, s, ST_LINEAR, SRC, gen_span(rows, pitch, bytes), 1);
		GEN_SIZE(g, s, ST_LINEAR, ROWS, rows, true);
		GEN_SIZE(g, s, ST_LINEAR, BYTES, bytes, true);
		gen_count(g, FLM_INSN_ST_LINEAR);
	} else {
		w = GEN_INSN(g, LD, LD_LINEAR);
		s = &g->streams[FLM_UNIT_LD];
		SET(w, LD_LINEAR, SEG, segment);
		SET(w, LD_LINEAR, SRC_PITCH, memory_pitch);
		SET(w, LD_LINEAR, DST_PITCH, pitch);
		GEN_EXPR(g, s, LD_LINEAR, OFF, gen_below(g, length - span - slack + 1), slack, 1);
		GEN_OUT(g, s, LD_LINEAR, DST, gen_span(rows, pitch, bytes), 1);
		GEN_SIZE(g, s, LD_LINEAR, ROWS, rows, true);
		GEN_SIZE(g, s, LD_LINEAR, BYTES, bytes, true);
		gen_count(g, FLM_INSN_LD_LINEAR);
	}
}

/* Brings constants to a place on chip and returns it. */
static struct gen_region gen_bring(struct gen *g, uint32_t offset, uint32_t bytes)
{
	uint32_t *w = GEN_INSN(g, LD, LD_LINEAR);
	struct stream *s = &g->streams[FLM_UNIT_LD];
	struct gen_region region;

	SET(w, LD_LINEAR, SEG, GEN_SEG_CONSTANTS);
	SET(w, LD_LINEAR, OFF, offset);
	SET_SIZE(w, LD_LINEAR, ROWS, 1);
	SET_SIZE(w, LD_LINEAR, BYTES, bytes);
	region.buffer = GEN_ANY(g, FLM_BUFFER_ACT, FLM_BUFFER_GLB);
	region.from = gen_below(g, 4096) * 4;
	region.to = region.from + bytes;
	region.is_output = false;
	w[FLM_LD_LINEAR_DST_W] = FLM_CHIP(region.buffer, region.from);
	(void)s;
	gen_count(g, FLM_INSN_LD_LINEAR);
	return region;
}

static void gen_gather(struct gen *g, bool from_tokens)
{
	uint32_t rows = gen_between(g, 1, 12), bytes = gen_between(g, 1, 200), i, at, limit;
	uint32_t src_pitch = gen_chance(g, 3) ? gen_between(g, 0, bytes) : bytes;
	uint32_t pitch = gen_out_pitch(g, bytes, 1);
	struct gen_region region = { .buffer = FLM_BUFFER_IDX };
	struct stream *s = &g->streams[FLM_UNIT_LD];
	uint32_t *w;

	limit = from_tokens ? 1000 : gen_between(g, 1, 300);
	if (from_tokens) {
		rows = g->lengths[FLM_LENGTH_TOKENS] < rows ? g->lengths[FLM_LENGTH_TOKENS] : rows;
		region.to = 4 * rows;
		gen_cover(g, GEN_TOKEN_IDS);
	} else {
		at = gen_constants(g, 4 * rows);
		for (i = 0; i < rows; i++) {
			uint32_t index =
				htole32(gen_chance(g, 4) ? limit - 1 : gen_below(g, limit));

			memcpy(g->constants + at + 4 * i, &index, 4);
		}
		region = gen_bring(g, at, 4 * rows);
	}
	w = GEN_INSN(g, LD, LD_GATHER);
	g->regions[g->region_count++] = region;
	SET(w, LD_GATHER, SEG, GEN_SEG_CONSTANTS);
	SET(w, LD_GATHER, SRC_PITCH, src_pitch);
	SET(w, LD_GATHER, LIMIT, limit);
	w[FLM_LD_GATHER_INDEX_W] = FLM_CHIP(region.buffer, region.from);
	SET(w, LD_GATHER, DST_PITCH, pitch);
	GEN_EXPR(g, s, LD_GATHER, OFF, gen_below(g, GEN_CONSTANTS - limit * 200 - 200), 200, 1);
	GEN_OUT(g, s, LD_GATHER, DST, gen_span(rows, pitch, bytes), 1);
	GEN_SIZE(g, s, LD_GATHER, ROWS, rows, true);
	GEN_SIZE(g, s, LD_GATHER, BYTES, bytes, true);
	gen_count(g, FLM_INSN_LD_GATHER);
}

static void gen_kv(struct gen *g, bool is_store)
{
	uint32_t value_bytes = GEN_ANY(g, 8, 32, 48, 64, 80, 128, 7),
		 scale_bytes = GEN_ANY(g, 4, 8, 0);
	uint32_t values = gen_below(g, 20) * 64,
		 scales = values + 64 * value_bytes + gen_below(g, 9);
	uint32_t end = g->page_count * FLM_PAGE, first, count, pitch, scale_pitch, queries, query;
	struct stream *s;
	uint32_t *w;

	first = is_store ? gen_between(g, g->kv_start, end - 1) : gen_below(g, end);
	count = gen_between(g, 1, end - first < 140 ? end - first : 140);
	if (is_store) {
		pitch = gen_in_pitch(g, value_bytes, 1);
		scale_pitch = gen_in_pitch(g, scale_bytes, 1);
		w = GEN_INSN(g, ST, ST_KV);
		s = &g->streams[FLM_UNIT_ST];
		SET(w, ST_KV, SEG, GEN_SEG_KV);
		SET(w, ST_KV, PAGE, GEN_PAGE_BYTES);
		GEN_EXPR(g, s, ST_KV, VALUES, values, 0, 1);
		SET(w, ST_KV, VALUE_BYTES, value_bytes);
		GEN_EXPR(g, s, ST_KV, SCALES, scales, 0, 1);
		SET(w, ST_KV, SCALE_BYTES, scale_bytes);
		GEN_EXPR(g, s, ST_KV, FIRST, first, 0, 1);
		GEN_SIZE(g, s, ST_KV, COUNT, count, true);
		GEN_IN(g, s, ST_KV, SRC, gen_span(count, pitch, value_bytes), 1);
		SET(w, ST_KV, SRC_PITCH, pitch);
		GEN_IN(g, s, ST_KV, SRC_SCALES, gen_span(count, scale_pitch, scale_bytes), 1);
		SET(w, ST_KV, SCALE_PITCH, scale_pitch);
		gen_count(g, FLM_INSN_ST_KV);
		return;
	}
	w = GEN_INSN(g, LD, LD_KV);
	s = &g->streams[FLM_UNIT_LD];
	SET(w, LD_KV, SEG, GEN_SEG_KV);
	SET(w, LD_KV, PAGE, GEN_PAGE_BYTES);
	GEN_EXPR(g, s, LD_KV, VALUES, values, 0, 1);
	SET(w, LD_KV, VALUE_BYTES, value_bytes);
	GEN_EXPR(g, s, LD_KV, SCALES, scales, 0, 1);
	SET(w, LD_KV, SCALE_BYTES, scale_bytes);
	GEN_EXPR(g, s, LD_KV, FIRST, first, 0, 1);
	GEN_SIZE(g, s, LD_KV, COUNT, count, true);
	GEN_OUT(g, s, LD_KV, DST, count * value_bytes, 1);
	GEN_OUT(g, s, LD_KV, DST_SCALES, count * scale_bytes + 1, 1);
	if (gen_chance(g, 2)) {
		SET_HEAD(w, FLAGS, FLM_LD_KV_MASK);
		query = gen_below(g, 300);
		queries = gen_between(g, 1, 200);
		pitch = gen_between(g, 0, 3);
		GEN_IN(g, s, LD_KV, MASKS, gen_span((query + queries) / 64 + 1, pitch, 1), 1);
		SET(w, LD_KV, MASK_PITCH, pitch);
		GEN_EXPR(g, s, LD_KV, QUERY, query, 0, 1);
		GEN_SIZE(g, s, LD_KV, QUERIES, queries, false);
		gen_cover(g, GEN_MASKED_KV);
	}
	gen_count(g, FLM_INSN_LD_KV);
}

static void gen_logits(struct gen *g)
{
	/* All cores write into one segment: each has columns of its own. */
	uint32_t rows = gen_between(g, 1, 6), most = g->logits_stride / 4 / GEN_CORES, cols, col;
	uint32_t *w = GEN_INSN(g, ST, ST_LOGITS), pitch;
	struct stream *s = &g->streams[FLM_UNIT_ST];

	cols = gen_between(g, 1, most);
	col = gen_below(g, most - cols + 1);
	term(s, FLM_ST_LOGITS_COL_NUMBER, FLM_CLASS_CORE, 0, (int32_t)most);
	pitch = gen_in_pitch(g, 4 * cols, 4);
	GEN_EXPR(g, s, ST_LOGITS, ROW, gen_below(g, g->lengths[FLM_LENGTH_TOKENS] + 2), 0, 1);
	GEN_SIZE(g, s, ST_LOGITS, ROWS, rows, true);
	GEN_EXPR(g, s, ST_LOGITS, COL, col, 0, 1);
	GEN_SIZE(g, s, ST_LOGITS, COLS, cols, true);
	GEN_IN(g, s, ST_LOGITS, SRC, gen_span(rows, pitch, 4 * cols), 4);
	SET(w, ST_LOGITS, SRC_PITCH, pitch);
	gen_count(g, FLM_INSN_ST_LOGITS);
}

/* A core writes its part of a segment that all share, and after a barrier each reads all of it. */
static void gen_share(struct gen *g)
{
	uint32_t slice = GEN_SHARED / GEN_CORES, *w;
	struct stream *s;

	GEN_INSN(g, SYS, SYS_BARRIER);
	w = GEN_INSN(g, ST, ST_LINEAR);
	s = &g->streams[FLM_UNIT_ST];
	SET(w, ST_LINEAR, SEG, GEN_SEG_SHARED);
	SET(w, ST_LINEAR, SRC, FLM_CHIP(FLM_BUFFER_GLB, gen_below(g, 1000)));
	SET_SIZE(w, ST_LINEAR, ROWS, 1);
	SET_SIZE(w, ST_LINEAR, BYTES, gen_between(g, 1, slice));
	term(s, FLM_ST_LINEAR_OFF_NUMBER, FLM_CLASS_CORE, 0, (int32_t)slice);
	gen_count(g, FLM_INSN_ST_LINEAR);
	GEN_INSN(g, SYS, SYS_BARRIER);
	w = GEN_INSN(g, LD, LD_LINEAR);
	SET(w, LD_LINEAR, SEG, GEN_SEG_SHARED);
	SET(w, LD_LINEAR, DST, FLM_CHIP(FLM_BUFFER_WGT, gen_below(g, 1000)));
	SET_SIZE(w, LD_LINEAR, ROWS, 1);
	SET_SIZE(w, LD_LINEAR, BYTES, GEN_SHARED);
	GEN_INSN(g, SYS, SYS_BARRIER);
	gen_count(g, FLM_INSN_SYS_BARRIER);
}

#endif
