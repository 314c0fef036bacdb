/* SPDX-License-Identifier: MIT */
/*
 * What all of generate.h stands on: the state of a program being made, random numbers, the baton,
 * and operands. Addresses, offsets and sizes are hidden behind constants, registers and loop
 * indices that add up to what is wanted; outputs of an instruction touch nothing else of it.
 */
#ifndef TESTS_EMULATOR_GENERATE_BASE_H
#define TESTS_EMULATOR_GENERATE_BASE_H

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
	"eight open loops", "K of 172, padded to 176,", "K of 288",
	"term of a register at its lower bound", "term of a register at its upper bound",
};
enum gen_feature {
	GEN_MASKED_KV, GEN_MASKED_QK, GEN_MASKED_PV, GEN_MASKED_SOFTMAX, GEN_SAME, GEN_HALF,
	GEN_FIRST, GEN_FACTOR, GEN_BIAS, GEN_IN_PLACE, GEN_TERM_LOOP, GEN_TERM_CORE,
	GEN_TERM_LENGTH, GEN_TERM_CANCEL, GEN_COUNT_0, GEN_COUNT_1, GEN_COUNT_BOUND, GEN_COUNT_CEIL,
	GEN_COUNT_CORE, GEN_EMPTY, GEN_MANY_TOKENS, GEN_PARALLEL, GEN_WIDE, GEN_MIXED, GEN_TOKENS,
	GEN_SAMPLED, GEN_TOKEN_IDS, GEN_DEEP, GEN_K172, GEN_K288, GEN_TERM_MIN, GEN_TERM_MAX,
	GEN_FEATURES
};
_Static_assert(sizeof(gen_features) / sizeof(gen_features[0]) == GEN_FEATURES, "one name each");

struct gen_coverage {
	uint32_t insn[FLM_INSNS], misc[FLM_MISCS], combination[GEN_COMBINATIONS];
	uint32_t feature[GEN_FEATURES], dims[FLM_DIM_MAX + 1];
	uint32_t sync[FLM_UNITS];	/* in the stream of each unit */
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
	if (stride && !g->lengths[r])
		gen_cover(g, GEN_TERM_MIN);
	if (stride && g->lengths[r] == FLM_VALUE_MAX)
		gen_cover(g, GEN_TERM_MAX);
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
		fprintf(stderr, "seed %llu: no room for %u bytes\n", (unsigned long long)g->seed,
			bytes);
		abort();
	}
	g->regions[g->region_count++] = region;
	s->words[s->last + word] = region.buffer;
	gen_value(g, s, word, slot, region.from, slack, align, true);
	return region;
}

#define GEN_IN(g, s, insn, operand, bytes, align) \
	gen_place(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_NUMBER, -1, bytes, \
		  align, false)
#define GEN_OUT(g, s, insn, operand, bytes, align) \
	gen_place(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_NUMBER, -1, bytes, \
		  align, true)
#define GEN_SIZE(g, s, insn, operand, n, may_vary) \
	gen_size(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_NUMBER, n, may_vary)
#define GEN_EXPR(g, s, insn, operand, value, slack, step) \
	gen_value(g, s, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_NUMBER, value, slack, \
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
	return (bytes + align - 1) / align * align +
	       (gen_chance(g, 2) ? gen_below(g, 8) * align : 0);
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

#endif
