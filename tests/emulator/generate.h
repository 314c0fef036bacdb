/* SPDX-License-Identifier: MIT */
/*
 * Random programs that are legal, race-free and end. One baton goes round: a unit that takes its
 * turn waits for a token from the one before, so every two instructions of a core are ordered,
 * whatever they touch. Here are exchanges, loops and the program as a whole.
 *
 *	gen_program(&gen, seed, constants);
 */
#ifndef TESTS_EMULATOR_GENERATE_H
#define TESTS_EMULATOR_GENERATE_H

#include "tests/emulator/generate_math.h"

/* Waits and releases alone, in the stream of any unit. */
static uint32_t *gen_sync(struct gen *g, unsigned int unit)
{
	gen_count(g, FLM_INSN_SYNC);
	if (!g->skipped)
		g->coverage.sync[unit]++;
	return gen_insn(g, unit, FLM_OP_OF_SYNC, FLM_MODE_SYNC, FLM_WORDS_SYNC);
}

static void gen_exchange(struct gen *g)
{
	struct stream *s = &g->streams[FLM_UNIT_SYS];
	uint32_t rows, bytes, src_pitch, dst_pitch, count, *w;

	switch (gen_below(g, 5)) {
	case 0:
		GEN_INSN(g, SYS, SYS_BARRIER);
		gen_count(g, FLM_INSN_SYS_BARRIER);
		break;
	case 1:
		/* Sources are read before anything is written, so any overlap is defined. */
		rows = gen_between(g, 1, 6);
		bytes = gen_between(g, 1, 500);
		src_pitch = gen_in_pitch(g, bytes, 1);
		dst_pitch = gen_in_pitch(g, bytes, 1);
		w = GEN_INSN(g, SYS, SYS_GATHER);
		SET(w, SYS_GATHER, SRC_PITCH, src_pitch);
		SET(w, SYS_GATHER, DST_PITCH, dst_pitch);
		GEN_IN(g, s, SYS_GATHER, SRC, gen_span(rows, src_pitch, bytes), 1);
		g->region_count = 0;
		GEN_OUT(g, s, SYS_GATHER, DST, gen_span(rows, dst_pitch, bytes), 1);
		GEN_SIZE(g, s, SYS_GATHER, ROWS, rows, true);
		GEN_SIZE(g, s, SYS_GATHER, BYTES, bytes, true);
		gen_count(g, FLM_INSN_SYS_GATHER);
		break;
	case 2:
		count = gen_between(g, 1, 200);
		w = GEN_INSN(g, SYS, SYS_MAX);
		GEN_OUT(g, s, SYS_MAX, SRC, 4 * count, 4);
		GEN_SIZE(g, s, SYS_MAX, COUNT, count, false);
		gen_count(g, FLM_INSN_SYS_MAX);
		break;
	case 3:
		count = gen_between(g, 1, 200);
		w = GEN_INSN(g, SYS, SYS_SUM);
		GEN_OUT(g, s, SYS_SUM, SRC, 4 * count, 4);
		GEN_SIZE(g, s, SYS_SUM, COUNT, count, false);
		gen_count(g, FLM_INSN_SYS_SUM);
		break;
	default:
		count = gen_chance(g, 10) ? 1024 : gen_between(g, 1, 80);
		w = GEN_INSN(g, SYS, SYS_TOPK);
		SET(w, SYS_TOPK, COUNT, count);
		GEN_OUT(g, s, SYS_TOPK, SRC, 8 * count, 4);
		gen_count(g, FLM_INSN_SYS_TOPK);
	}
}

/*
 * An instruction that does nothing but carry tokens: a sync, or one whose size of zero makes its
 * other operands nobody's business.
 */
static void gen_empty(struct gen *g, unsigned int unit)
{
	uint32_t *w;

	if (unit == FLM_UNIT_SYS || gen_chance(g, 2)) {
		gen_sync(g, unit);
		return;
	}
	switch (unit) {
	case FLM_UNIT_LD:
		w = GEN_INSN(g, LD, LD_LINEAR);
		SET(w, LD_LINEAR, SEG, GEN_SEG_NONE);
		SET(w, LD_LINEAR, OFF, (uint32_t)-1);
		SET(w, LD_LINEAR, ROWS_MAX, 5);
		SET_SIZE(w, LD_LINEAR, BYTES, 5);
		break;
	case FLM_UNIT_ST:
		w = GEN_INSN(g, ST, ST_KV);
		SET(w, ST_KV, SEG, GEN_SEG_NONE);
		SET(w, ST_KV, VALUES, (uint32_t)-1);
		SET(w, ST_KV, COUNT, (uint32_t)-7);
		SET(w, ST_KV, COUNT_MAX, 9);
		break;
	case FLM_UNIT_MM:
		w = GEN_INSN(g, MM, MM_LINEAR);
		SET(w, MM_LINEAR, TABLE, 3);
		SET_SIZE(w, MM_LINEAR, STRIPS, 1);
		SET(w, MM_LINEAR, TOKENS, 4);
		break;
	case FLM_UNIT_MV:
		w = GEN_INSN(g, MV, MV_PV);
		SET(w, MV_PV, DIM, 1024);
		SET(w, MV_PV, KEY, 1);
		SET(w, MV_PV, OUT, FLM_CHIP(FLM_BUFFER_ACT, 0x0fffffff));
		break;
	default:
		w = GEN_INSN(g, MISC, MISC);
		SET_HEAD(w, MODE, FLM_MISC_ROPE);
		SET(w, MISC, A, FLM_CHIP(FLM_BUFFER_GLB, 1));
		SET(w, MISC, IMM, 3);
		SET_SIZE(w, MISC, COLS, 4);
	}
	gen_cover(g, GEN_EMPTY);
}

/* Two units work while a third holds the baton: places that cannot meet, tokens there and back. */
static void gen_parallel(struct gen *g)
{
	static const unsigned int pairs[][2] = {
		{ FLM_UNIT_LD, FLM_UNIT_MISC }, { FLM_UNIT_ST, FLM_UNIT_MISC },
	};
	const unsigned int *pair = pairs[gen_below(g, 2)];
	uint32_t *w, i;

	gen_empty(g, FLM_UNIT_SYS);
	SET_HEAD(g->streams[FLM_UNIT_SYS].words + g->head[FLM_UNIT_SYS], RELEASE,
		 1u << pair[0] | 1u << pair[1]);
	for (i = 0; i < 2; i++) {
		struct stream *s = &g->streams[pair[i]];

		if (pair[i] == FLM_UNIT_LD) {
			w = EMIT(s, LD_LINEAR);
			SET(w, LD_LINEAR, SEG, GEN_SEG_CONSTANTS);
			SET(w, LD_LINEAR, OFF, gen_below(g, 10000));
			SET(w, LD_LINEAR, DST, FLM_CHIP(FLM_BUFFER_WGT, gen_below(g, 1000)));
			SET_SIZE(w, LD_LINEAR, ROWS, 1);
			SET_SIZE(w, LD_LINEAR, BYTES, gen_between(g, 1, 3000));
			gen_count(g, FLM_INSN_LD_LINEAR);
		} else if (pair[i] == FLM_UNIT_ST) {
			w = EMIT(s, ST_LINEAR);
			SET(w, ST_LINEAR, SEG, GEN_SEG_MEMORY);
			SET(w, ST_LINEAR, SRC, FLM_CHIP(FLM_BUFFER_WGT, gen_below(g, 1000)));
			SET_SIZE(w, ST_LINEAR, ROWS, 1);
			SET_SIZE(w, ST_LINEAR, BYTES, gen_between(g, 1, 3000));
			gen_count(g, FLM_INSN_ST_LINEAR);
		} else {
			w = EMIT(s, MISC);
			SET_HEAD(w, MODE, FLM_MISC_SILU);
			SET(w, MISC, A, FLM_CHIP(FLM_BUFFER_GLB, 4 * gen_below(g, 1000)));
			SET(w, MISC, OUT, FLM_CHIP(FLM_BUFFER_ACT, 4 * gen_below(g, 1000)));
			SET_SIZE(w, MISC, ROWS, 1);
			SET_SIZE(w, MISC, COLS, gen_between(g, 1, 500));
			gen_count(g, FLM_INSN_MISC);
		}
		tokens_of(s, 1u << FLM_UNIT_SYS, 1u << FLM_UNIT_SYS);
	}
	/* The holder joins them. */
	w = gen_sync(g, FLM_UNIT_SYS);
	SET_HEAD(w, WAIT, 1u << pair[0] | 1u << pair[1]);
	gen_cover(g, GEN_PARALLEL);
}

/* More tokens at once than a queue has room for: the sender is held back. */
static void gen_many_tokens(struct gen *g)
{
	uint32_t count = gen_between(g, 1, 150), loop;
	struct stream *from = &g->streams[FLM_UNIT_SYS], *to = &g->streams[FLM_UNIT_MISC];

	if (g->depth == FLM_LOOP_DEPTH)
		return;
	gen_empty(g, FLM_UNIT_SYS);
	loop = open_loop(from, FLM_CLASS_CONST, 0, (int32_t)count, count);
	EMIT(from, SYNC);
	tokens_of(from, 0, 1u << FLM_UNIT_MISC);
	close_loop(from, loop);
	loop = open_loop(to, FLM_CLASS_CONST, 0, (int32_t)count, count);
	if (gen_chance(g, 2))
		EMIT(to, SYNC);
	else
		EMIT(to, MISC);
	tokens_of(to, 1u << FLM_UNIT_SYS, 0);
	close_loop(to, loop);
	/* All have come: MISC holds the baton without another token. */
	g->holder = FLM_UNIT_MISC;
	gen_empty(g, FLM_UNIT_MISC);
	if (count > FLM_TOKEN_DEPTH)
		gen_cover(g, GEN_MANY_TOKENS);
}

static void gen_some(struct gen *g, unsigned int most);

/* Chooses a count of at most four and how the LOOP says it; returns the greatest of any core. */
static uint32_t gen_loop_count(struct gen *g, uint32_t *class, uint32_t *index, uint32_t *shift,
			       uint32_t *ceil, int32_t *sub, bool *is_apart)
{
	uint32_t count = gen_below(g, 5), r, d;

	*index = *shift = *ceil = 0;
	*is_apart = false;
	if (count == 4)
		count = 1;
	switch (gen_below(g, 3)) {
	case 0:
		*class = FLM_CLASS_CONST;
		*sub = (int32_t)count;
		return count;
	case 1:
		*class = FLM_CLASS_LENGTH;
		*index = r = gen_below(g, FLM_LENGTHS);
		*shift = gen_below(g, 8);
		*ceil = gen_below(g, 2);
		if (*ceil && count)
			d = (count << *shift) - gen_below(g, 1u << *shift);
		else if (*ceil)
			d = 0;
		else
			d = (count << *shift) + gen_below(g, 1u << *shift);
		*sub = (int32_t)g->lengths[r] - (int32_t)d;
		/* A register below SUB counts as if they were equal. */
		if (!d)
			*sub += (int32_t)gen_below(g, 100);
		if (*ceil)
			gen_cover(g, GEN_COUNT_CEIL);
		return count;
	default:
		*class = FLM_CLASS_CORE;
		*index = 0;
		*sub = (int32_t)gen_below(g, 2) - 1;
		*is_apart = g->cores > 1;
		count = (uint32_t)((int32_t)g->cores - 1 - *sub);
		gen_cover(g, GEN_COUNT_CORE);
		return count;
	}
}

static void gen_loop(struct gen *g)
{
	uint32_t loops[FLM_UNITS], class, index, shift, ceil, count, bound, u, holder;
	bool is_apart, is_skipped;
	int32_t sub;

	count = gen_loop_count(g, &class, &index, &shift, &ceil, &sub, &is_apart);
	bound = gen_chance(g, 2) ? count : count + gen_below(g, 50);
	if (bound == count && count)
		gen_cover(g, GEN_COUNT_BOUND);
	if (count < 2)
		gen_cover(g, count ? GEN_COUNT_1 : GEN_COUNT_0);
	/* With a count by core core 0 has none or one trip. */
	is_skipped = !count || (is_apart && !sub);
	holder = gen_below(g, FLM_UNITS);
	gen_empty(g, holder);
	for (u = 0; u < FLM_UNITS; u++) {
		loops[u] = open_loop(&g->streams[u], class, index, sub, bound);
		SET(g->streams[u].words + loops[u], LOOP, SHIFT, shift);
		SET(g->streams[u].words + loops[u], LOOP, CEIL, ceil);
	}
	g->trips[g->depth++] = count;
	g->skipped += is_skipped;
	g->apart += is_apart;
	if (g->depth == FLM_LOOP_DEPTH)
		gen_cover(g, GEN_DEEP);
	gen_empty(g, holder);
	gen_some(g, 3);
	gen_empty(g, holder);
	g->depth--;
	g->skipped -= is_skipped;
	g->apart -= is_apart;
	for (u = 0; u < FLM_UNITS; u++)
		close_loop(&g->streams[u], loops[u]);
	gen_empty(g, holder);
}

static void gen_one(struct gen *g)
{
	switch (gen_below(g, 16)) {
	case 0:
		gen_rows(g, gen_chance(g, 2));
		break;
	case 1:
		gen_gather(g, false);
		break;
	case 2:
		gen_kv(g, gen_chance(g, 2));
		break;
	case 3:
		gen_logits(g);
		break;
	case 4:
	case 5:
		if (g->linears < 3)
			gen_linear(g);
		break;
	case 6:
	case 7:
		gen_attention(g, gen_chance(g, 2), gen_chance(g, 2));
		break;
	case 8:
		/* Cores that run a different number of trips cannot meet in them. */
		if (g->apart)
			break;
		if (gen_chance(g, 4))
			gen_share(g);
		else
			gen_exchange(g);
		break;
	case 9:
		gen_parallel(g);
		break;
	case 10:
		gen_many_tokens(g);
		break;
	case 11:
		if (g->depth < 2)
			gen_loop(g);
		break;
	case 12:
		gen_sync(g, gen_below(g, FLM_UNITS));
		break;
	default:
		gen_misc(g, gen_below(g, FLM_MISC_SAMPLE));
	}
}

static void gen_some(struct gen *g, unsigned int most)
{
	unsigned int n = gen_between(g, 1, most);

	while (n--)
		gen_one(g);
}

/* Eight loops of one trip, and something inside. */
static void gen_deep(struct gen *g)
{
	uint32_t loops[FLM_LOOP_DEPTH][FLM_UNITS], u, i;

	gen_empty(g, FLM_UNIT_LD);
	for (i = 0; i < FLM_LOOP_DEPTH; i++) {
		for (u = 0; u < FLM_UNITS; u++)
			loops[i][u] =
				open_loop(&g->streams[u], FLM_CLASS_CONST, 0, 1 + (i == 3), 2);
		g->trips[g->depth++] = 1 + (i == 3);
	}
	gen_cover(g, GEN_DEEP);
	gen_empty(g, FLM_UNIT_LD);
	gen_misc(g, gen_below(g, FLM_MISC_SAMPLE));
	gen_empty(g, FLM_UNIT_LD);
	g->depth = 0;
	for (i = FLM_LOOP_DEPTH; i-- > 0;)
		for (u = 0; u < FLM_UNITS; u++)
			close_loop(&g->streams[u], loops[i][u]);
	gen_empty(g, FLM_UNIT_LD);
}

/* A whole program and the job around it. `constants` has GEN_CONSTANTS bytes. */
static void gen_program(struct gen *g, uint64_t seed, uint8_t *constants)
{
	uint32_t i, c, word;

	memset(&g->coverage, 0, sizeof(g->coverage));
	g->seed = seed;
	g->random = seed * 0x9e3779b97f4a7c15ULL + 0x1234567;
	g->depth = g->skipped = g->apart = g->linears = 0;
	g->constants = constants;
	g->used = 64;
	g->cores = gen_between(g, 1, GEN_CORES);
	for (i = 0; i < GEN_CONSTANTS; i += 4) {
		word = (uint32_t)gen_next(g);
		memcpy(constants + i, &word, 4);
	}
	for (i = 0; i < FLM_LENGTHS; i++)
		g->lengths[i] = GEN_ANY(g, 0, 1, 2, 64, gen_below(g, 300), gen_below(g, 100000));
	g->lengths[FLM_LENGTH_TOKENS] = gen_between(g, 0, 9);
	g->lengths[15] = FLM_VALUE_MAX;
	for (c = 0; c < GEN_CORES; c++) {
		for (i = 0; i < FLM_CORE_REGISTERS; i++)
			g->registers[c][i] = gen_below(g, 1000);
		g->registers[c][0] = c;
		g->registers[c][1] = 1;
		g->registers[c][15] = FLM_VALUE_MAX;
	}
	for (i = 0; i < FLM_CHUNK_MAX; i++)
		g->tokens[i] = gen_below(g, 1000);
	g->page_count = gen_between(g, 1, 4);
	for (i = 0; i < GEN_PAGES; i++)
		g->pages[i] = gen_below(g, GEN_PAGES);
	g->kv_start = gen_below(g, g->page_count * FLM_PAGE);
	g->must_sample = gen_chance(g, 2);
	g->lengths[FLM_LENGTH_SAMPLE] = g->must_sample;
	g->logits_mode = gen_below(g, 3);
	g->ends_prompt = gen_below(g, 2);
	g->logits_first = g->lengths[FLM_LENGTH_POS] + gen_below(g, 4);
	g->logits_count = gen_below(g, 8);
	g->logits_stride = 4 * gen_between(g, GEN_CORES, 200) + gen_below(g, 4);
	for (i = 0; i < FLM_UNITS; i++)
		g->streams[i].count = 0;
	g->holder = gen_below(g, FLM_UNITS);
	gen_empty(g, g->holder);
	/* The ids of the tokens are on chip as long as nothing was written there. */
	if (gen_chance(g, 4) && g->lengths[FLM_LENGTH_TOKENS])
		gen_gather(g, true);
	gen_linear(g);
	gen_some(g, 14);
	if (g->linears < 3)
		gen_linear(g);
	if (gen_chance(g, 10))
		gen_deep(g);
	if (g->must_sample || gen_chance(g, 8))
		gen_sample(g);
	for (i = 0; i < FLM_UNITS; i++)
		emit_end(&g->streams[i]);
}

#endif
