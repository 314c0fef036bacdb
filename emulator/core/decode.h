/* SPDX-License-Identifier: MIT */
/*
 * From words to an instruction with the values of its operands, as the rows of isa.def say: one
 * function for all instructions, so that an operand that a row adds needs no code here.
 *
 *	kind = decode(words, left, FLM_UNIT_LD, &sources, &insn);
 *	rows = VALUE(&insn, LD_LINEAR, ROWS);
 *	place = PLACE(&insn, LD_LINEAR, DST);
 */
#ifndef EMULATOR_DECODE_H
#define EMULATOR_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include <flightllm/isa.h>
#include <flightllm/queue.h>

/* A dense number for each operand; the instruction's own comes before those of its operands. */
#define INSN(name, op, mode, words, mnemonic, meaning) DECODE_##name,
#define OPND(insn, name, word, high, low, meaning) DECODE_##insn##_##name,
#define EXPR(insn, name, word, number, meaning) DECODE_##insn##_##name,
#define ADDR(insn, name, word, number, meaning) DECODE_##insn##_##name,
#define SIZE(insn, name, word, number, meaning) DECODE_##insn##_##name,
enum {
#include <flightllm/isa.def>
	DECODE_ROWS
};

#define DECODE_OPERANDS 20	/* of one instruction at most; checked when the tables are built */

/* An on-chip address before it is checked: nothing is known of `offset`. */
struct place {
	int64_t offset;
	unsigned int buffer;	/* enum flm_buffer */
};

struct insn {
	enum flm_insn kind;
	uint32_t words;			/* terms included */
	unsigned int mode, flags, wait, release;
	bool is_empty;			/* SYNC, or a SIZE is zero: waits and releases, no more */
	bool is_outside; /* a value is outside its range: fault BOUND once it starts */
	struct place value[DECODE_OPERANDS];
};

#define DECODE_INDEX(name, operand) (DECODE_##name##_##operand - DECODE_##name - 1)
/* Never negative for OPND, SIZE and EXPR of an instruction that is neither empty nor outside. */
#define VALUE(insn, name, operand) \
	((uint64_t)(insn)->value[DECODE_INDEX(name, operand)].offset)
#define PLACE(insn, name, operand) (&(insn)->value[DECODE_INDEX(name, operand)])

/* The sources that terms and counts refer to. */
struct sources {
	const uint32_t *lengths;	/* [FLM_LENGTHS] */
	const uint32_t *registers;	/* [FLM_CORE_REGISTERS] */
	const uint32_t *trips;		/* [depth], outermost first */
	unsigned int depth;		/* open loops */
};

/* Builds the tables; before the first decode(), any number of times, from any thread. */
void decode_init(void);

/*
 * Decodes one instruction of `unit`'s stream, of which `left` words remain. All values of sources
 * must be at most FLM_VALUE_MAX. Returns FLM_FAULT_NONE or OPCODE.
 */
enum flm_fault decode(const uint32_t *words, uint32_t left, unsigned int unit,
		      const struct sources *sources, struct insn *insn);

#endif
