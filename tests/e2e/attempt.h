/* SPDX-License-Identifier: MIT */
/*
 * One attempt of a hostile client: where its cores, its instructions and its job come from, by a
 * seed. Every stream begins with instructions that are fine, and what breaks a rule stands behind a
 * loop that only the core runs which is to be blamed: so the place that the record must name is
 * known, and nothing else of the job can be at fault.
 */
#ifndef TESTS_E2E_ATTEMPT_H
#define TESTS_E2E_ATTEMPT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "tests/dice.h"
#include "tests/emulator/program.h"
#include "tests/uapi/uapi.h"

/* Segments of the hostile context; those from SEG_UNBOUND on are not bound. */
enum { SEG_JOB, SEG_DATA, SEG_READ, SEG_CODE, SEG_WRITE, SEG_SPOILS, SEG_UNBOUND };

#define DATA_ROOM	0x10000		/* bytes of the buffer behind SEG_DATA */
#define DATA_LEAST	0x6000		/* of which so many are bound at least */
#define SMALL_BYTES	4096		/* the other segments */
#define KEPT_AT		0x3f00		/* in the job's memory: streams that sample */
#define POKES		16

/* Kinds of fault, units and places, as numbers of SPEC.md. */
enum {
	SLOT = 1, VERSION = 2, SEGMENT = 3, RIGHTS = 4, OPCODE = 7, BUFFER = 8, BOUND = 9,
	FORMAT = 10, WATCHDOG = 11, DEADLOCK = 12, TOKEN_LEFT = 13, INDEX = 14, EXCHANGE = 15,
	SAMPLE = 16, NOWHERE = 255,
};
enum { LD, ST, MM, MV, MISC, SYS, UNITS };

struct attempt {
	struct dice *dice;
	const uint32_t *buffers;	/* bytes of each on-chip buffer */
	uint8_t *data;			/* SEG_DATA's memory */
	uint32_t data_bytes;		/* its length */

	uint32_t mask, core, rank;	/* cores of the job; who breaks the rule */
	bool is_everywhere;		/* all of them do */
	bool is_mutant;			/* nobody knows how it ends */
	unsigned int entry;		/* whose streams are hostile; entry 0 samples then */
	char text[UNITS][8192];
	unsigned int words[UNITS];
	struct {
		unsigned int unit, word;
		uint32_t value;
	} poke[POKES];			/* words that no assembler writes */
	unsigned int pokes;
	struct {
		uint32_t at, bytes;
		uint64_t value;
	} patch;			/* of the job's memory */
	uint32_t prompt, generate;
	struct drm_flightllm_job args;

	struct drm_flightllm_fault want;
	bool is_nowhere;		/* want is complete as it is */
	bool has_word;			/* SPEC.md says which word the record names */
};

static const char *const unit_names[UNITS] = { "ld", "st", "mm", "mv", "misc", "sys" };
static const char *const chip_names[4] = { "act", "wgt", "idx", "glb" };
/* An instruction of each unit that does nothing. */
static const char *const idle[UNITS] = { "ld", "st", "mm", "mv", "misc.fill", "sync" };

static uint32_t roll(struct attempt *a, uint32_t n)
{
	return dice_below(a->dice, n);
}

/* At the ends as often as between them. */
static uint32_t between(struct attempt *a, uint32_t least, uint32_t most)
{
	uint32_t where = roll(a, 4);

	return !where ? least : where == 1 ? most :
	       least + dice_any(a->dice) % ((uint64_t)most - least + 1);
}

/* ---- Streams ---- */

/* One instruction more; returns the word where it begins. */
__attribute__((format(printf, 3, 4)))
static unsigned int append(struct attempt *a, unsigned int unit, const char *format, ...)
{
	unsigned int at = a->words[unit];
	char line[512], error[FLM_TEXT_BYTES];
	uint32_t words[FLM_WORDS_MAX];
	va_list args;
	int count;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	count = flm_isa_parse(line, words, FLM_WORDS_MAX, error);
	if (count < 0 || strlen(a->text[unit]) + strlen(line) + 2 > sizeof(a->text[unit]))
		errx(1, "%s: %s", line, count < 0 ? error : "too long a stream");
	strcat(strcat(a->text[unit], line), "\n");
	a->words[unit] += count;
	return at;
}

/* Core register 1 is set in the core that is to fault, and nowhere else. */
static void open_gate(struct attempt *a, unsigned int unit, unsigned int words)
{
	if (!a->is_everywhere)
		append(a, unit, "loop class=2 index=1 sub=0 bound=1 body=%u", words + 1);
	a->want.unit = unit;
	a->want.word = a->words[unit];
}

static void close_gate(struct attempt *a, unsigned int unit)
{
	if (!a->is_everywhere)
		append(a, unit, "end");
}

/* The instruction that breaks the rule, for the core that is to do it. */
__attribute__((format(printf, 3, 4)))
static void put(struct attempt *a, unsigned int unit, const char *format, ...)
{
	char line[512], error[FLM_TEXT_BYTES];
	uint32_t words[FLM_WORDS_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	open_gate(a, unit, flm_isa_parse(line, words, FLM_WORDS_MAX, error));
	append(a, unit, "%s", line);
	close_gate(a, unit);
}

static void poke(struct attempt *a, unsigned int unit, unsigned int word, uint32_t value)
{
	a->poke[a->pokes].unit = unit;
	a->poke[a->pokes].word = word;
	a->poke[a->pokes++].value = value;
}

/* One word in place of an instruction. */
static void put_word(struct attempt *a, unsigned int unit, uint32_t value)
{
	put(a, unit, "sync");
	poke(a, unit, a->want.word, value);
}

/* Loops in loops around nothing; the innermost has `trips`, the others at most so many. */
static void put_loops(struct attempt *a, unsigned int unit, unsigned int depth, uint32_t others,
		      uint32_t trips)
{
	open_gate(a, unit, 6 * depth);
	for (unsigned int i = 0; i < depth; i++) {
		uint32_t count = i + 1 < depth ? between(a, 1, others) : trips;

		append(a, unit, "loop sub=%u bound=%u body=%u", count, count,
		       6 * (depth - 1 - i) + 1);
	}
	for (unsigned int i = 0; i < depth; i++)
		append(a, unit, "end");
	close_gate(a, unit);
}

/* Instructions that any program may have. */
static void append_harmless(struct attempt *a, unsigned int unit)
{
	uint32_t bytes = between(a, 1, 300), rows = between(a, 1, 5), pitch = bytes + roll(a, 9);

	switch (unit) {
	case LD:
		append(a, LD, "ld seg=1 off=%u src_pitch=%u dst=act:%u dst_pitch=%u rows=%u/%u "
		       "bytes=%u/%u", roll(a, 9999), pitch, roll(a, 9999), pitch, rows, rows,
		       bytes, bytes);
		break;
	case ST:
		append(a, ST, "st seg=4 off=%u dst_pitch=%u src=act:%u src_pitch=%u rows=%u/%u "
		       "bytes=%u/%u", roll(a, 2000), pitch, roll(a, 9999), pitch, rows, rows,
		       bytes, bytes);
		break;
	case MISC:
		append(a, MISC, "misc.fill out=glb:%u rows=1/1 cols=%u/%u imm=%u",
		       4 * roll(a, 999), bytes, bytes, roll(a, 1 << 30));
		break;
	default:
		append(a, unit, "%s", idle[unit]);
	}
}

/* ---- From its first die to its last byte ---- */

static uint32_t lowest_core(const struct attempt *a)
{
	return __builtin_ctz(a->mask);
}

static void attempt_begin(struct attempt *a, uint32_t cores)
{
	uint32_t all = (1u << cores) - 1;

	*a = (struct attempt) {
		.dice = a->dice, .buffers = a->buffers, .data = a->data,
		.data_bytes = a->data_bytes, .prompt = 1, .has_word = true, .args = run_job(),
	};
	a->mask = roll(a, 2) ? all : between(a, 1, all);
	do
		a->core = roll(a, cores);
	while (!(a->mask >> a->core & 1));
	a->rank = __builtin_popcount(a->mask & ((1u << a->core) - 1));
	a->is_everywhere = !roll(a, 4);
	a->entry = roll(a, 3) == 0;
	a->args.max_points = 4;
	for (unsigned int unit = 0; unit < UNITS; unit++)
		for (unsigned int n = roll(a, 3); n; n--)
			append_harmless(a, unit);
}

static void turn_bits(struct attempt *a, uint8_t *memory)
{
	for (unsigned int n = between(a, 1, 24); n; n--) {
		uint32_t where = roll(a, 20), at;

		at = where ? where < 3 ? roll(a, 800) : between(a, 800, 6000) :
		     roll(a, 2) ? JOB_RECORD + roll(a, 256) : JOB_SEQUENCE + roll(a, 128);
		memory[at] ^= 1u << roll(a, 8);
	}
}

/* Program, record and row into the job's memory, and what must become of them into want. */
static void attempt_place(struct attempt *a, struct job *job)
{
	struct flm_program *program = job_program(job);
	char text[sizeof(a->text) + 64] = "";
	uint8_t *memory = job->memory;
	struct flm_entry kept;

	if (a->entry && !a->generate)
		a->generate = 2;
	job_write(job, __builtin_popcount(a->mask), a->prompt, a->generate);
	((uint32_t *)(memory + JOB_PROMPT))[0] = htole32(TOKEN);
	/* Streams that choose a token go behind the hostile ones. */
	kept = program->entry[0];
	memcpy(memory + KEPT_AT, memory + JOB_STREAMS, 0x100);
	memset(memory, 0, KEPT_AT);
	for (unsigned int u = 0; u < UNITS; u++)
		sprintf(text + strlen(text), "@%s\n%s", unit_names[u], a->text[u]);
	program_write(memory, __builtin_popcount(a->mask), text);
	for (unsigned int i = 0; i < a->pokes; i++) {
		uint32_t at = le32toh(program->entry[1].stream[a->poke[i].unit].offset);

		((uint32_t *)(memory + at))[a->poke[i].word] = htole32(a->poke[i].value);
	}
	program->core[a->rank][1] = htole32(1);
	if (a->entry) {
		program->entry[0] = kept;
		for (unsigned int u = 0; u < UNITS; u++)
			program->entry[0].stream[u].offset += KEPT_AT - JOB_STREAMS;
	}
	memcpy(memory + a->patch.at, &a->patch.value, a->patch.bytes);
	if (a->is_mutant)
		turn_bits(a, memory);
	if (a->args.program_segment == SEG_DATA)
		memcpy(a->data + a->args.program_offset, memory, 0x4000);
	if (a->is_nowhere)
		return;
	a->want.core = a->is_everywhere ? lowest_core(a) : a->core;
	a->want.entry = a->entry;
}

static bool attempt_is_wanted(const struct attempt *a, const struct drm_flightllm_fault *got)
{
	return got->kind == a->want.kind && got->core == a->want.core &&
	       got->unit == a->want.unit && got->entry == a->want.entry &&
	       (got->word == a->want.word || !a->has_word) && got->segment == a->want.segment &&
	       got->offset == a->want.offset;
}

#endif
