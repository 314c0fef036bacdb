/* SPDX-License-Identifier: MIT */
/*
 * Random programs that are legal, race-free and end. One baton goes round: a unit that takes its
 * turn waits for a token from the one before, so every two instructions of a core are ordered,
 * whatever they touch. Inside an instruction the places of its outputs touch nothing else, unless
 * in place is what the operation allows. Addresses, offsets and sizes are then hidden behind
 * constants, registers and loop indices that add up to what was wanted.
 */
#ifndef TESTS_EMULATOR_GENERATE_H
#define TESTS_EMULATOR_GENERATE_H

#include <endian.h>

#include "tests/emulator/stream.h"

#define GEN_CORES 4
#define GEN_MEMORY (64 << 10)		/* segment 1: each core's own, read and write */
#define GEN_CONSTANTS (1 << 20)		/* segment 2: the same for all, read only */
#define GEN_SHARED (16 << 10)		/* segment 4: the same for all, read and write */
#define GEN_PAGES 6
#define GEN_PAGE_BYTES 16384
#define GEN_LOGITS (16 << 10)		/* segment 5 */
#define GEN_COMBINATIONS (5 * 7 * 4 * 2)	/* width, sparsity, last group, MM or MV */

enum gen_segment {
	GEN_SEG_MEMORY = 1, GEN_SEG_CONSTANTS = 2, GEN_SEG_KV = 3, GEN_SEG_SHARED = 4,
	GEN_SEG_LOGITS = 5, GEN_SEG_NONE = 9,
};

static const uint32_t gen_buffers[FLM_BUFFERS] = { 96 << 10, 256 << 10, 40 << 10, 128 << 10 };
static const char *const gen_features[] = {
	"masked ld.kv", "masked qk", "masked pv", "masked softmax", "softmax same", "dequant half",
	"first", "factor", "bias", "in place", "term of a loop", "term of a core register",
	"term of a length register", "cancelling terms at the bound", "count 0", "count 1",
	"count at its bound", "count by ceil", "count by a core register", "empty instruction",
	"more tokens than a queue holds", "parallel units", "tile of 4096 columns",
	"different widths in one instruction", "128 tokens", "sampled", "gather from the tokens",
	"eight open loops",
};
enum gen_feature {
	GEN_MASKED_KV, GEN_MASKED_QK, GEN_MASKED_PV, GEN_MASKED_SOFTMAX, GEN_SAME, GEN_HALF,
	GEN_FIRST, GEN_FACTOR, GEN_BIAS, GEN_IN_PLACE, GEN_TERM_LOOP, GEN_TERM_CORE,
	GEN_TERM_LENGTH, GEN_TERM_CANCEL, GEN_COUNT_0, GEN_COUNT_1, GEN_COUNT_BOUND, GEN_COUNT_CEIL,
	GEN_COUNT_CORE, GEN_EMPTY, GEN_MANY_TOKENS, GEN_PARALLEL, GEN_WIDE, GEN_MIXED, GEN_TOKENS,
	GEN_SAMPLED, GEN_TOKEN_IDS, GEN_DEEP,
	GEN_FEATURES
};
_Static_assert(sizeof(gen_features) / sizeof(gen_features[0]) == GEN_FEATURES, "one name each");

struct gen_coverage {
	uint32_t insn[FLM_INSNS], misc[FLM_MISCS], combination[GEN_COMBINATIONS];
	uint32_t feature[GEN_FEATURES], dims[FLM_DIM_MAX + 1];
};

struct gen_region {
	unsigned int buffer;
	uint32_t from, to;
	bool is_output;
};

struct gen {
	uint64_t seed, random;
	struct stream streams[FLM_UNITS];
	unsigned int holder;		/* unit that has the baton */
	uint32_t head[FLM_UNITS];	/* of its last instruction with tokens */
	unsigned int depth;		/* open loops, the same in all streams */
	uint32_t trips[FLM_LOOP_DEPTH];	/* of each at most */
	unsigned int skipped;		/* of them, those that some core skips */
	unsigned int apart;		/* of them, those whose count differs from core to core */

	struct gen_region regions[16];	/* of the instruction being made */
	unsigned int region_count;
	unsigned int linears;

	uint32_t cores;
	uint32_t lengths[FLM_LENGTHS];
	uint32_t registers[GEN_CORES][FLM_CORE_REGISTERS];
	uint32_t tokens[FLM_CHUNK_MAX];
	uint32_t pages[GEN_PAGES], page_count, kv_start;
	unsigned int logits_mode, ends_prompt;
	uint32_t logits_first, logits_count, logits_stride;
	bool must_sample;

	uint8_t *constants;
	uint32_t used;			/* of constants */
	struct gen_coverage coverage;
};

static uint64_t gen_next(struct gen *g)
{
	g->random ^= g->random << 13;
	g->random ^= g->random >> 7;
	g->random ^= g->random << 17;
	return g->random * 0x2545f4914f6cdd1dULL >> 11;
}

/* 0 .. n - 1 */
static uint32_t gen_below(struct gen *g, uint32_t n)
{
	return (uint32_t)(gen_next(g) % n);
}

static uint32_t gen_between(struct gen *g, uint32_t low, uint32_t high)
{
	return low + gen_below(g, high - low + 1);
}

static bool gen_chance(struct gen *g, uint32_t one_in)
{
	return !gen_below(g, one_in);
}

static uint32_t gen_any(struct gen *g, const uint32_t *values, uint32_t count)
{
	return values[gen_below(g, count)];
}

#define GEN_ANY(g, ...) gen_any(g, (const uint32_t[]) { __VA_ARGS__ }, \
	sizeof((const uint32_t[]) { __VA_ARGS__ }) / 4)

static void gen_cover(struct gen *g, enum gen_feature feature)
{
	if (!g->skipped)
		g->coverage.feature[feature]++;
}

/* Mostly moderate numbers, and every kind of odd one. */
static uint32_t gen_float_bits(struct gen *g)
{
	static const uint32_t odd[] = {
		0, 0x80000000, 0x3f800000, 0xbf800000, 1, 0x80000001, 0x007fffff, 0x7f7fffff,
		0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00001, 0x7f800001, 0x42b17218,
		0xc2cff1b5, 0x4b000000, 0x3f000000, 0x02000000,
	};

	if (gen_chance(g, 400))
		return gen_any(g, odd, sizeof(odd) / sizeof(odd[0]));
	return gen_below(g, 2) << 31 | gen_between(g, 118, 130) << 23 | gen_below(g, 1 << 23);
}

/* ---- The baton ---- */

static void gen_empty(struct gen *g, unsigned int unit);

/* Starts an instruction of `unit`, after everything before it. */
static uint32_t *gen_insn(struct gen *g, unsigned int unit, unsigned int op, unsigned int mode,
			  unsigned int words)
{
	struct stream *s = &g->streams[unit];
	uint32_t *w = emit(s, op, mode, words);

	if (g->holder != unit) {
		uint32_t *last = g->streams[g->holder].words + g->head[g->holder];

		SET_HEAD(last, RELEASE, FLM_GET_HEAD(last, RELEASE) | 1u << unit);
		SET_HEAD(w, WAIT, 1u << g->holder);
		g->holder = unit;
	}
	g->head[unit] = s->last;
	g->region_count = 0;
	return w;
}

#define GEN_INSN(g, unit, name) \
	gen_insn(g, FLM_UNIT_##unit, FLM_OP_OF_##name, FLM_MODE_##name, FLM_WORDS_##name)

/* ---- Operands ---- */

static void gen_length_term(struct gen *g, struct stream *s, unsigned int slot, int64_t *constant,
			    int64_t low, int64_t high)
{
	unsigned int r = gen_below(g, FLM_LENGTHS);
	int32_t stride = (int32_t)gen_between(g, 0, 200) - 100;
	int64_t left = *constant - (int64_t)stride * g->lengths[r];

	if (left < low || left > high)
		return;
	*constant = left;
	term(s, slot, FLM_CLASS_LENGTH, r, stride);
	gen_cover(g, GEN_TERM_LENGTH);
}

/*
 * Writes constant and terms of an operand whose value is `value`, up to `slack` more in some cores
 * and trips, by multiples of `step`.
 */
static void gen_value(struct gen *g, struct stream *s, unsigned int word, unsigned int slot,
		      int64_t value, uint32_t slack, uint32_t step, bool is_address)
{
	int64_t low = is_address ? 0 : INT32_MIN, high = is_address ? 0x0fffffff : INT32_MAX;
	unsigned int buffer = s->words[s->last + word];	/* of an address, set by the caller */
	int64_t constant = value;

	if (g->depth && slack && gen_chance(g, 2)) {
		unsigned int level = gen_below(g, g->depth);
		uint32_t most = slack / (g->trips[level] > 1 ? g->trips[level] - 1 : 1) / step;
		uint32_t stride = gen_below(g, most + 1) * step;

		term(s, slot, FLM_CLASS_LOOP, level, (int32_t)stride);
		slack -= stride * (g->trips[level] > 1 ? g->trips[level] - 1 : 0);
		gen_cover(g, GEN_TERM_LOOP);
	}
	if (slack && gen_chance(g, 3)) {
		/* core register 0 is the core's number */
		uint32_t most = slack / (g->cores > 1 ? g->cores - 1 : 1) / step;

		term(s, slot, FLM_CLASS_CORE, 0, (int32_t)(gen_below(g, most + 1) * step));
		gen_cover(g, GEN_TERM_CORE);
	}
	while (gen_chance(g, 3))
		gen_length_term(g, s, slot, &constant, low, high);
	if (gen_chance(g, 8)) {
		/* register 15 of each kind is 2^24 - 1: enormous terms that cancel out */
		int32_t stride = (int32_t)gen_next(g);

		if (stride == INT32_MIN)
			stride = 1;
		term(s, slot, FLM_CLASS_LENGTH, 15, stride);
		term(s, slot, FLM_CLASS_CORE, 15, -stride);
		gen_cover(g, GEN_TERM_CANCEL);
	}
	s->words[s->last + word] = is_address ? FLM_CHIP(buffer, constant) : (uint32_t)constant;
}

/* A size of n, or when it may vary of n at most. */
static void gen_size(struct gen *g, struct stream *s, unsigned int word, unsigned int slot,
		     uint32_t n, bool may_vary)
{
	int64_t constant = n;

	s->words[s->last + word + 1] = n;
	switch (gen_below(g, may_vary ? 5 : 3)) {
	case 0:
		s->words[s->last + word + 1] = n + gen_below(g, 100);
		gen_value(g, s, word, slot, n, 0, 1, false);
		if (s->words[s->last + word + 1] > n && FLM_GET_HEAD(s->words + s->last, OP) ==
		    FLM_OP_MM && s->words[s->last + word + 1] > FLM_CHUNK_MAX)
			s->words[s->last + word + 1] = n;
		return;
	case 1:
		constant += gen_below(g, 1000);
		break;
	case 2:
		gen_length_term(g, s, slot, &constant, INT32_MIN, INT32_MAX);
		break;
	case 3:
		/* min(tile, register - index * tile): the last trips get less or nothing */
		if (g->depth)
			term(s, slot, FLM_CLASS_LOOP, gen_below(g, g->depth),
			     -(int32_t)gen_below(g, n + 1));
		constant += gen_below(g, n + 1);
		break;
	default:
		term(s, slot, FLM_CLASS_CORE, 0, -(int32_t)gen_below(g, n / 2 + 1));
	}
	s->words[s->last + word] = (uint32_t)constant;
}

/* Whether [from, to) of a buffer may be used by the instruction being made. */
static bool gen_is_free(const struct gen *g, const struct gen_region *region)
{
	unsigned int i;

	for (i = 0; i < g->region_count; i++) {
		const struct gen_region *other = &g->regions[i];

		if ((region->is_output || other->is_output) && region->buffer == other->buffer &&
		    region->from < other->to && other->from < region->to)
			return false;
	}
	return true;
}

/* Places `bytes` bytes of an operand; returns the region with room for its slack. */
static struct gen_region gen_place(struct gen *g, struct stream *s, unsigned int word,
				   unsigned int slot, int buffer, uint32_t bytes, uint32_t align,
				   bool is_output)
{
	struct gen_region region = { .is_output = is_output };
	uint32_t slack = gen_chance(g, 2) ? gen_below(g, 8) * 64 : 0, room, tries;

	for (tries = 0; tries < 1000; tries++) {
		region.buffer = buffer >= 0 ? (unsigned int)buffer : gen_below(g, FLM_BUFFERS);
		room = gen_buffers[region.buffer];
		if (tries == 100)
			slack = 0;
		if (bytes + slack > room)
			continue;
		region.from = gen_below(g, (room - bytes - slack) / align + 1) * align;
		if (gen_chance(g, 16))
			region.from = gen_chance(g, 2) ? 0 : (room - bytes - slack) / align * align;
		region.to = region.from + bytes + slack;
		if (gen_is_free(g, &region))
			break;
	}
	if (tries == 1000) {
		fprintf(stderr, "seed %llu: no room for %u bytes\n", (unsigned long long)g->seed, bytes);
		abort();
	}
	g->regions[g->region_count++] = region;
	s->words[s->last + word] = region.buffer;
	gen_value(g, s, word, slot, region.from, slack, align, true);
	return region;
}

#define GEN_IN(g, s, insn, operand, bytes, align) \
	gen_place(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_SLOT, -1, bytes, \
		  align, false)
#define GEN_OUT(g, s, insn, operand, bytes, align) \
	gen_place(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_SLOT, -1, bytes, \
		  align, true)
#define GEN_SIZE(g, s, insn, operand, n, may_vary) \
	gen_size(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_SLOT, n, may_vary)
#define GEN_EXPR(g, s, insn, operand, value, slack, step) \
	gen_value(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_SLOT, value, slack, \
		  step, false)

/* A pitch of rows that are read: they may overlap or be the same. */
static uint32_t gen_in_pitch(struct gen *g, uint32_t bytes, uint32_t align)
{
	switch (gen_below(g, 6)) {
	case 0:
		return 0;
	case 1:
		return (bytes / 2 + align - 1) / align * align;
	case 2:
		return (bytes + align - 1) / align * align + gen_below(g, 8) * align;
	default:
		return (bytes + align - 1) / align * align;
	}
}

static uint32_t gen_out_pitch(struct gen *g, uint32_t bytes, uint32_t align)
{
	return (bytes + align - 1) / align * align + (gen_chance(g, 2) ? gen_below(g, 8) * align : 0);
}

static uint32_t gen_span(uint32_t rows, uint32_t pitch, uint32_t bytes)
{
	return (rows - 1) * pitch + bytes;
}

/* Room in the constants, aligned to 64 and followed by 64 bytes. */
static uint32_t gen_constants(struct gen *g, uint32_t bytes)
{
	uint32_t at = g->used;

	g->used += (bytes + 127) / 64 * 64;
	if (g->used > GEN_CONSTANTS)
		abort();
	return at;
}

static void gen_count(struct gen *g, unsigned int insn)
{
	if (!g->skipped)
		g->coverage.insn[insn]++;
}

/* ---- LD and ST ---- */

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
			uint32_t index = htole32(gen_chance(g, 4) ? limit - 1 : gen_below(g, limit));

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
	uint32_t value_bytes = GEN_ANY(g, 8, 32, 48, 64, 80, 128, 7), scale_bytes = GEN_ANY(g, 4, 8, 0);
	uint32_t values = gen_below(g, 20) * 64, scales = values + 64 * value_bytes + gen_below(g, 9);
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
	term(s, FLM_ST_LOGITS_COL_SLOT, FLM_CLASS_CORE, 0, (int32_t)most);
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
	term(s, FLM_ST_LINEAR_OFF_SLOT, FLM_CLASS_CORE, 0, (int32_t)slice);
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

/* ---- MM and MV ---- */

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
		uint32_t half = gen_below(g, 2) << 15 | gen_between(g, 1, 16) << 10 | gen_below(g, 1024);

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
	uint32_t dim = gen_chance(g, 6) ? gen_between(g, 1, 300) : GEN_ANY(g, 8, 32, 48, 64, 80, 128);
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
	mask_bytes = gen_span((query + tokens - 1) / 64 + 1, mask_pitch, (key + positions - 1) / 512 + 1);
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

/* ---- MISC ---- */

static void gen_misc(struct gen *g, unsigned int mode)
{
	uint32_t rows = gen_between(g, 1, 5), cols = gen_between(g, 1, 200), imm = 0, pos = 0, flags = 0;
	uint32_t a_bytes, b_bytes = 0, c_bytes = 0, out_bytes, a_align = 4, c_align = 4, out_align = 4;
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
				uint32_t part = pos - INT32_MAX < INT32_MAX ? pos - INT32_MAX : INT32_MAX;

				/* core register 1 is one in all cores */
				term(s, FLM_MISC_POS_SLOT, FLM_CLASS_CORE, 1, (int32_t)part);
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
		gen_place(g, s, FLM_MISC_C_W, FLM_MISC_C_SLOT, -1, gen_span(rows, pitch, c_bytes),
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
			term(s, FLM_MISC_A_SLOT, FLM_GET_TERM(s->words + before, CLASS),
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

/* ---- SYS ---- */

static void gen_exchange(struct gen *g)
{
	struct stream *s = &g->streams[FLM_UNIT_SYS];
	uint32_t rows, bytes, src_pitch, dst_pitch, count, *w;

	switch (gen_below(g, 6)) {
	case 0:
		GEN_INSN(g, SYS, SYS_SYNC);
		gen_count(g, FLM_INSN_SYS_SYNC);
		break;
	case 1:
		GEN_INSN(g, SYS, SYS_BARRIER);
		gen_count(g, FLM_INSN_SYS_BARRIER);
		break;
	case 2:
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
	case 3:
		count = gen_between(g, 1, 200);
		w = GEN_INSN(g, SYS, SYS_MAX);
		GEN_OUT(g, s, SYS_MAX, SRC, 4 * count, 4);
		GEN_SIZE(g, s, SYS_MAX, COUNT, count, false);
		gen_count(g, FLM_INSN_SYS_MAX);
		break;
	case 4:
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

/* ---- Structure ---- */

/* An instruction that does nothing but carry tokens, whatever its other operands say. */
static void gen_empty(struct gen *g, unsigned int unit)
{
	uint32_t *w;

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
	case FLM_UNIT_MISC:
		w = GEN_INSN(g, MISC, MISC);
		SET_HEAD(w, MODE, FLM_MISC_ROPE);
		SET(w, MISC, A, FLM_CHIP(FLM_BUFFER_GLB, 1));
		SET(w, MISC, IMM, 3);
		SET_SIZE(w, MISC, COLS, 4);
		break;
	default:
		GEN_INSN(g, SYS, SYS_SYNC);
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
	w = GEN_INSN(g, SYS, SYS_SYNC);
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
	EMIT(from, SYS_SYNC);
	tokens_of(from, 0, 1u << FLM_UNIT_MISC);
	close_loop(from, loop);
	loop = open_loop(to, FLM_CLASS_CONST, 0, (int32_t)count, count);
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
			loops[i][u] = open_loop(&g->streams[u], FLM_CLASS_CONST, 0, 1 + (i == 3), 2);
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
