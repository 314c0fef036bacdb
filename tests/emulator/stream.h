/* SPDX-License-Identifier: MIT */
/*
 * Programs word by word, and memory to run them on: for tests that draw programs (generate.h) or
 * whose subject is the encoding itself; others write text (machine.h). The two functions of
 * emulator/mem.h are defined here over flat arrays, so a program that includes this links without
 * the card's memory.
 *
 *	uint32_t *w = EMIT(&streams[FLM_UNIT_MISC], MISC);
 *
 *	SET(w, MISC, A, FLM_CHIP(FLM_BUFFER_ACT, 64));
 *	term(&streams[FLM_UNIT_MISC], FLM_MISC_A_NUMBER, FLM_CLASS_LOOP, 0, 16);
 *	emit_end(&streams[FLM_UNIT_MISC]);
 */
#ifndef TESTS_EMULATOR_STREAM_H
#define TESTS_EMULATOR_STREAM_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/isa.h>

#include "emulator/mem.h"

#define STREAM_WORDS 8192

struct stream {
	uint32_t words[STREAM_WORDS];
	uint32_t count;
	uint32_t last;		/* where the last instruction begins */
};

/* Starts an instruction with all operands zero; returns its words. */
static inline uint32_t *emit(struct stream *s, unsigned int op, unsigned int mode,
			     unsigned int words)
{
	uint32_t *w = s->words + s->count;

	if (s->count + words > STREAM_WORDS)
		abort();
	memset(w, 0, words * sizeof(*w));
	if (FLM_PUT_HEAD(w, OP, op) || FLM_PUT_HEAD(w, MODE, mode))
		abort();
	s->last = s->count;
	s->count += words;
	return w;
}

#define EMIT(stream, name) emit(stream, FLM_OP_OF_##name, FLM_MODE_##name, FLM_WORDS_##name)

static inline void must_fit(int refused, const char *what)
{
	if (!refused)
		return;
	fprintf(stderr, "%s does not fit\n", what);
	abort();
}

#define SET(words, insn, operand, value) \
	must_fit(FLM_PUT(words, insn, operand, value), #insn "." #operand)
#define SET_HEAD(words, field, value) must_fit(FLM_PUT_HEAD(words, field, value), #field)
#define SET_TERM(words, field, value) must_fit(FLM_PUT_TERM(words, field, value), #field)

/* A size without terms: the value and its maximum. */
#define SET_SIZE(words, insn, operand, value) \
	(SET(words, insn, operand, value), SET(words, insn, operand##_MAX, value))

/* One more term of the last instruction. */
static inline void term(struct stream *s, unsigned int slot, unsigned int class, unsigned int index,
			int32_t stride)
{
	uint32_t *head = s->words + s->last, *w = s->words + s->count;

	if (s->count + 2 > STREAM_WORDS)
		abort();
	w[0] = 0;
	w[1] = (uint32_t)stride;
	if (FLM_PUT_TERM(w, OPERAND, slot) || FLM_PUT_TERM(w, CLASS, class) ||
	    FLM_PUT_TERM(w, INDEX, index) ||
	    FLM_PUT_HEAD(head, TERMS, FLM_GET_HEAD(head, TERMS) + 1))
		abort();
	s->count += 2;
}

static inline void emit_end(struct stream *s)
{
	EMIT(s, END);
}

/* Opens a loop; close_loop() with what this returns ends its body. */
static inline uint32_t open_loop(struct stream *s, unsigned int class, unsigned int index,
				 int32_t sub, uint32_t bound)
{
	uint32_t *w = EMIT(s, LOOP);

	SET(w, LOOP, CLASS, class);
	SET(w, LOOP, INDEX, index);
	SET(w, LOOP, SUB, (uint32_t)sub);
	SET(w, LOOP, BOUND, bound);
	return s->last;
}

static inline void close_loop(struct stream *s, uint32_t loop)
{
	emit_end(s);
	SET(s->words + loop, LOOP, BODY, s->count - loop - FLM_WORDS_LOOP);
}

/* Tokens of the last instruction, by unit bits. */
static inline void tokens_of(struct stream *s, unsigned int wait, unsigned int release)
{
	SET_HEAD(s->words + s->last, WAIT, wait);
	SET_HEAD(s->words + s->last, RELEASE, release);
}

/*
 * Memory: segments as each core sees them. Passed to the emulator as the struct space that only the
 * two functions below look into.
 */
struct flat {
	struct {
		uint8_t *bytes;
		uint64_t length;
		unsigned int rights;
	} segments[8][256];
};

static inline int space_refuse(struct fault *fault, unsigned int kind, unsigned int segment,
			       uint64_t offset)
{
	fault->kind = kind;
	fault->segment = segment;
	fault->offset = offset;
	return -1;
}

static inline struct space *flat_space(struct flat *flat)
{
	return (struct space *)(void *)flat;
}

int space_read(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
	       void *memory, uint64_t bytes, unsigned int rights, struct fault *fault)
{
	const struct flat *flat = (const void *)space;
	uint64_t length = flat->segments[core][segment].length;

	if (!length)
		return space_refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	if (rights & ~flat->segments[core][segment].rights)
		return space_refuse(fault, FLM_FAULT_RIGHTS, segment, offset);
	if (offset > length || bytes > length - offset)
		return space_refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	memcpy(memory, flat->segments[core][segment].bytes + offset, bytes);
	return 0;
}

int space_write(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
		const void *memory, uint64_t bytes, struct fault *fault)
{
	const struct flat *flat = (const void *)space;
	uint64_t length = flat->segments[core][segment].length;

	if (!length)
		return space_refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	if (!(flat->segments[core][segment].rights & FLM_RIGHT_W))
		return space_refuse(fault, FLM_FAULT_RIGHTS, segment, offset);
	if (offset > length || bytes > length - offset)
		return space_refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	memcpy(flat->segments[core][segment].bytes + offset, memory, bytes);
	return 0;
}

#endif
