/* SPDX-License-Identifier: MIT */
/*
 * For tests of ref_isa: writes streams of instructions and runs them on a card whose cores have two
 * segments each.
 *
 *	start(1);
 *	ADD(&s[FLM_UNIT_LD], LD_LINEAR);		appends an instruction
 *	SET(&s[FLM_UNIT_LD], LD_LINEAR, SEG, 1);	and fills its operands
 *	term(...);					adds a term to the last one
 *	ok(run() == 0, "...");				END in each stream, then a pass
 */
#ifndef TESTS_REF_CARD_H
#define TESTS_REF_CARD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_isa.h"

struct words {
	uint32_t w[8192];
	uint32_t count;
	uint32_t last;		/* word 0 of the last instruction */
};

#define ADD(s, insn) add_insn(s, FLM_OP_OF_##insn, FLM_MODE_##insn, FLM_WORDS_##insn)
#define SET(s, insn, operand, v) \
	must(FLM_PUT((s)->w + (s)->last, insn, operand, v), #insn " " #operand)
#define SIZE(s, insn, operand, v) \
	do { \
		SET(s, insn, operand, v); \
		SET(s, insn, operand##_MAX, v); \
	} while (0)

static inline void must(int refused, const char *what)
{
	if (refused) {
		fprintf(stderr, "%s does not fit\n", what);
		exit(1);
	}
}

static inline uint32_t *add_insn(struct words *s, uint32_t op, uint32_t mode, uint32_t words)
{
	uint32_t *w = s->w + s->count;

	memset(w, 0, words * sizeof(*w));
	s->last = s->count;
	s->count += words;
	must(FLM_PUT_HEAD(w, OP, op) || FLM_PUT_HEAD(w, MODE, mode), "op");
	return w;
}

static inline void tokens(struct words *s, uint32_t wait, uint32_t release)
{
	must(FLM_PUT_HEAD(s->w + s->last, WAIT, wait) ||
	     FLM_PUT_HEAD(s->w + s->last, RELEASE, release), "tokens");
}

static inline void term(struct words *s, uint32_t slot, uint32_t class, uint32_t index,
			int32_t stride)
{
	uint32_t *head = s->w + s->last, *w = s->w + s->count;

	memset(w, 0, 2 * sizeof(*w));
	must(FLM_PUT_TERM(w, OPERAND, slot) || FLM_PUT_TERM(w, CLASS, class) ||
	     FLM_PUT_TERM(w, INDEX, index), "term");
	w[1] = stride;
	s->count += 2;
	must(FLM_PUT_HEAD(head, TERMS, FLM_GET_HEAD(head, TERMS) + 1), "terms");
}

/* Opens a loop; its BODY is filled in by end_loop(), which takes what this returns. */
static inline uint32_t loop(struct words *s, uint32_t class, uint32_t index, uint32_t sub,
			    uint32_t bound)
{
	ADD(s, LOOP);
	SET(s, LOOP, CLASS, class);
	SET(s, LOOP, INDEX, index);
	SET(s, LOOP, SUB, sub);
	SET(s, LOOP, BOUND, bound);
	return s->last;
}

static inline void end_loop(struct words *s, uint32_t at)
{
	ADD(s, END);
	s->w[at + 4] = s->count - at - 5;
}

#define MEMORY	65536

static struct ref_isa isa;
static struct ref_fault fault;
static struct words s[FLM_UNITS];
static uint8_t memory[8][MEMORY];

static inline uint32_t bits(float x)
{
	uint32_t b;

	memcpy(&b, &x, 4);
	return b;
}

/* Fresh card; segment 1 can be read, segment 2 read and written, per core, zeros in both. */
static inline void start(int cores)
{
	int core, unit;

	ref_isa_fini(&isa);
	memset(&isa, 0, sizeof(isa));
	memset(memory, 0, sizeof(memory));
	isa.cores = cores;
	for (unit = 0; unit < FLM_UNITS; unit++)
		s[unit].count = 0;
	isa.buffer_bytes[FLM_BUFFER_ACT] = 65536;
	isa.buffer_bytes[FLM_BUFFER_WGT] = 65536;
	isa.buffer_bytes[FLM_BUFFER_IDX] = 8192;
	isa.buffer_bytes[FLM_BUFFER_GLB] = 4096;
	must(ref_isa_init(&isa), "memory");
	for (core = 0; core < cores; core++) {
		isa.core[core].segment[1] =
			(struct ref_segment){ memory[2 * core], MEMORY, 1 };
		isa.core[core].segment[2] =
			(struct ref_segment){ memory[2 * core + 1], MEMORY, 1 | 2 };
	}
}

/* Closes the streams and runs them. */
static inline int run(void)
{
	int unit;

	for (unit = 0; unit < FLM_UNITS; unit++) {
		if (s[unit].count)
			ADD(&s[unit], END);
		isa.stream[unit] = s[unit].w;
		isa.words[unit] = s[unit].count;
	}
	return ref_isa_run(&isa, &fault);
}

static inline uint8_t *chip(int core, uint32_t address)
{
	return isa.core[core].buffer[address >> 28] + (address & 0xfffffff);
}

static inline void put(uint32_t address, float x)
{
	memcpy(chip(0, address), &x, 4);
}

static inline float get(uint32_t address)
{
	float x;

	memcpy(&x, chip(0, address), 4);
	return x;
}

static inline uint32_t word_at(const void *at)
{
	uint32_t x;

	memcpy(&x, at, 4);
	return x;
}

/* A MISC of one row: A at 0, B at 0x1000, C at 0x2000, OUT at 0x3000 of ACT as far as used. */
static inline void misc(uint32_t mode, uint32_t uses, uint32_t cols, uint32_t imm)
{
	struct words *m = &s[FLM_UNIT_MISC];

	add_insn(m, FLM_OP_MISC, mode, FLM_WORDS_MISC);
	SET(m, MISC, A, 0);
	SET(m, MISC, B, uses & FLM_USE_B ? 0x1000 : 0);
	SET(m, MISC, C, uses & FLM_USE_C ? 0x2000 : 0);
	SET(m, MISC, OUT, uses & FLM_USE_OUT ? 0x3000 : 0);
	SIZE(m, MISC, ROWS, 1);
	SIZE(m, MISC, COLS, cols);
	SET(m, MISC, IMM, imm);
}

#endif
