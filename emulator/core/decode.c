// SPDX-License-Identifier: MIT
/*
 * Decoding, driven by isa.def. Two passes over the rows: what does the encoding allow (a fault
 * OPCODE whatever the registers hold), then what are the values. Only what the rows cannot say, the
 * limits of a few operands and the operands a MISC uses, is written out.
 */
#include "emulator/core/decode.h"

#include <pthread.h>
#include <string.h>

#define NUMBERS 16
#define FIXED_MAX 32
#define EXPR_MAX (((int64_t)1 << 40) - 1)

enum kind { KIND_OPND, KIND_EXPR, KIND_ADDR, KIND_SIZE };

struct operand {
	uint8_t insn, kind, word, high, low, number;
};

#define OPND(insn, name, word, high, low, meaning) \
	{ FLM_INSN_##insn, KIND_OPND, word, high, low, 0 },
#define EXPR(insn, name, word, number, meaning) { FLM_INSN_##insn, KIND_EXPR, word, 31, 0, number },
#define ADDR(insn, name, word, number, meaning) { FLM_INSN_##insn, KIND_ADDR, word, 31, 0, number },
#define SIZE(insn, name, word, number, meaning) { FLM_INSN_##insn, KIND_SIZE, word, 31, 0, number },
static const struct operand operands[] = {
#include <flightllm/isa.def>
};

#define INSN(name, op, mode, words, mnemonic, meaning) { op, mode, words },
static const struct {
	uint8_t op, mode, words;
} insns[FLM_INSNS] = {
#include <flightllm/isa.def>
};

#define MISC(name, mode, uses, mnemonic, meaning) [mode] = (uses),
static const uint8_t misc_uses[FLM_MISCS] = {
#include <flightllm/isa.def>
};

/* Derived from the rows by build(). */
static struct shape {
	const struct operand *first;
	unsigned int count;
	uint32_t allowed[FIXED_MAX];	/* bits that some operand covers, by word */
	unsigned int flags;
	int8_t operand_of[NUMBERS];	/* -1: no such number */
} shapes[FLM_INSNS];
static int8_t insn_of[16][128];		/* [op][mode], -1: none */

static const int8_t unit_of[16] = {
	[0] = -1, [FLM_OP_LD] = FLM_UNIT_LD, [FLM_OP_ST] = FLM_UNIT_ST, [FLM_OP_MM] = FLM_UNIT_MM,
	[FLM_OP_MV] = FLM_UNIT_MV, [FLM_OP_MISC] = FLM_UNIT_MISC, [FLM_OP_LOOP] = -1,
	[FLM_OP_END] = -1, [8 ... 14] = -1, [FLM_OP_SYS] = FLM_UNIT_SYS,
};

static void build(void)
{
	size_t i;
	int mode;

	memset(insn_of, -1, sizeof(insn_of));
	for (i = 0; i < FLM_INSNS; i++) {
		insn_of[insns[i].op][insns[i].mode] = (int8_t)i;
		memset(shapes[i].operand_of, -1, sizeof(shapes[i].operand_of));
	}
	for (mode = 0; mode < FLM_MISCS; mode++)
		insn_of[FLM_OP_MISC][mode] = FLM_INSN_MISC;
	for (i = 0; i < sizeof(operands) / sizeof(operands[0]); i++) {
		const struct operand *o = &operands[i];
		struct shape *shape = &shapes[o->insn];

		if (!shape->count)
			shape->first = o;
		if (o->kind != KIND_OPND)
			shape->operand_of[o->number] = (int8_t)shape->count;
		shape->allowed[o->word] |= 0xffffffffu >> (31 - (o->high - o->low)) << o->low;
		if (o->kind == KIND_SIZE)
			shape->allowed[o->word + 1] = 0xffffffff;
		shape->count++;
	}
#define FLAG(insn, name, bit, meaning) shapes[FLM_INSN_##insn].flags |= 1u << (bit);
#include <flightllm/isa.def>
}

/* The greatest number of operands, from the rows themselves. */
#define INSN(name, op, mode, words, mnemonic, meaning) \
	_Static_assert((words) <= FIXED_MAX, #name " has too many words");
#include <flightllm/isa.def>
_Static_assert(DECODE_MM_QK - DECODE_MM_LINEAR - 1 <= DECODE_OPERANDS &&
	       DECODE_MM_PV - DECODE_MM_QK - 1 <= DECODE_OPERANDS &&
	       DECODE_LD_GATHER - DECODE_LD_KV - 1 <= DECODE_OPERANDS,
	       "the longest instructions have at most DECODE_OPERANDS operands");

void decode_init(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, build);
}

static bool is_within(uint32_t value, uint32_t low, uint32_t high)
{
	return value >= low && value <= high;
}

/* A MISC names only operands that its operation uses. `numbers`: those that terms name. */
static bool misc_is_clean(const uint32_t *words, const struct insn *insn, uint32_t numbers)
{
	unsigned int uses = misc_uses[insn->mode], flags = 0;
	static const struct {
		uint8_t use, word, words, number;
	} rows[] = {
		{ FLM_USE_A, FLM_MISC_A_W, 2, FLM_MISC_A_NUMBER },
		{ FLM_USE_B, FLM_MISC_B_W, 2, FLM_MISC_B_NUMBER },
		{ FLM_USE_C, FLM_MISC_C_W, 2, FLM_MISC_C_NUMBER },
		{ FLM_USE_OUT, FLM_MISC_OUT_W, 2, FLM_MISC_OUT_NUMBER },
		{ FLM_USE_IMM, FLM_MISC_IMM_W, 1, NUMBERS },
		{ FLM_USE_POS, FLM_MISC_POS_W, 1, FLM_MISC_POS_NUMBER },
	};
	size_t i;

	if (insn->mode == FLM_MISC_SOFTMAX) {
		flags = FLM_MISC_MASK | FLM_MISC_SAME;
		if (!(insn->flags & FLM_MISC_MASK))
			uses &= ~FLM_USE_B;
	} else if (insn->mode == FLM_MISC_DEQUANT) {
		flags = FLM_MISC_HALF;
	} else if (insn->mode == FLM_MISC_LAYERNORM && words[FLM_MISC_C_PITCH_W]) {
		return false;
	}
	if (insn->flags & ~flags)
		return false;
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (uses & rows[i].use)
			continue;
		if (words[rows[i].word] || (rows[i].words == 2 && words[rows[i].word + 1]) ||
		    numbers >> rows[i].number & 1)
			return false;
	}
	return true;
}

/* Limits that are part of the encoding and that no row can say. */
static bool limits_hold(const uint32_t *words, const struct insn *insn, uint32_t numbers)
{
	switch (insn->kind) {
	case FLM_INSN_LD_KV:
		return FLM_GET(words, LD_KV, PAGE) % 64 == 0;
	case FLM_INSN_ST_KV:
		return FLM_GET(words, ST_KV, PAGE) % 64 == 0;
	case FLM_INSN_MM_LINEAR:
		return FLM_GET(words, MM_LINEAR, TOKENS_MAX) <= FLM_CHUNK_MAX;
	case FLM_INSN_MM_QK:
		return FLM_GET(words, MM_QK, TOKENS_MAX) <= FLM_CHUNK_MAX &&
		       is_within(FLM_GET(words, MM_QK, DIM), 1, FLM_DIM_MAX);
	case FLM_INSN_MM_PV:
		return FLM_GET(words, MM_PV, TOKENS_MAX) <= FLM_CHUNK_MAX &&
		       is_within(FLM_GET(words, MM_PV, DIM), 1, FLM_DIM_MAX);
	case FLM_INSN_MV_QK:
		return is_within(FLM_GET(words, MV_QK, DIM), 1, FLM_DIM_MAX);
	case FLM_INSN_MV_PV:
		return is_within(FLM_GET(words, MV_PV, DIM), 1, FLM_DIM_MAX);
	case FLM_INSN_SYS_TOPK:
		return is_within(FLM_GET(words, SYS_TOPK, COUNT), 1, FLM_TOPK_MAX);
	case FLM_INSN_MISC:
		return misc_is_clean(words, insn, numbers);
	default:
		return true;
	}
}

/* Constants of the fixed words. Returns false for a reserved bit, buffer or maximum. */
static bool take_constants(const uint32_t *words, const struct shape *shape, struct insn *insn)
{
	unsigned int i;

	for (i = 1; i < insns[insn->kind].words; i++)
		if (words[i] & ~shape->allowed[i])
			return false;
	for (i = 0; i < shape->count; i++) {
		const struct operand *o = &shape->first[i];
		struct place *value = &insn->value[i];
		uint32_t word = words[o->word];

		value->buffer = 0;
		switch (o->kind) {
		case KIND_OPND:
			value->offset = flm_get(words, o->word, o->high, o->low);
			break;
		case KIND_ADDR:
			value->buffer = word >> 28;
			value->offset = word & 0x0fffffff;
			if (value->buffer >= FLM_BUFFERS)
				return false;
			break;
		case KIND_SIZE:
			if (words[o->word + 1] > FLM_VALUE_MAX)
				return false;
			/* fall through */
		default:
			value->offset = (int32_t)word;
		}
	}
	return true;
}

/* Adds the terms; |stride * source| < 2^55, so 31 of them cannot overflow. */
static bool add_terms(const uint32_t *terms, unsigned int count, const struct shape *shape,
		      const struct sources *sources, struct insn *insn, uint32_t *numbers)
{
	unsigned int i;

	for (i = 0; i < count; i++, terms += 2) {
		unsigned int number = FLM_GET_TERM(terms, OPERAND);
		unsigned int index = FLM_GET_TERM(terms, INDEX);
		uint32_t source;

		if (terms[0] & 0xfffff || shape->operand_of[number] < 0)
			return false;
		switch (FLM_GET_TERM(terms, CLASS)) {
		case FLM_CLASS_LENGTH:
			if (index >= FLM_LENGTHS)
				return false;
			source = sources->lengths[index];
			break;
		case FLM_CLASS_CORE:
			if (index >= FLM_CORE_REGISTERS)
				return false;
			source = sources->registers[index];
			break;
		case FLM_CLASS_LOOP:
			if (index >= sources->depth)
				return false;
			source = sources->trips[index];
			break;
		default:
			return false;
		}
		insn->value[shape->operand_of[number]].offset +=
			(int64_t)(int32_t)terms[1] * source;
		*numbers |= 1u << number;
	}
	return true;
}

#define INDEX_BIT(name, operand) (1u << DECODE_INDEX(name, operand))

/* Operands, as bits, that belong to a flag the instruction does not have: nobody looks at them. */
static uint32_t unused_operands(const struct insn *insn)
{
	switch (insn->kind) {
	case FLM_INSN_LD_KV:
		return insn->flags & FLM_LD_KV_MASK ? 0 :
			INDEX_BIT(LD_KV, QUERY) | INDEX_BIT(LD_KV, QUERIES);
	case FLM_INSN_MM_QK:
		return insn->flags & FLM_MM_QK_MASK ? 0 :
			INDEX_BIT(MM_QK, QUERY) | INDEX_BIT(MM_QK, KEY);
	case FLM_INSN_MV_QK:
		return insn->flags & FLM_MV_QK_MASK ? 0 :
			INDEX_BIT(MV_QK, QUERY) | INDEX_BIT(MV_QK, KEY);
	case FLM_INSN_MM_PV:
		return insn->flags & FLM_MM_PV_MASK ? 0 :
			INDEX_BIT(MM_PV, QUERY) | INDEX_BIT(MM_PV, KEY);
	case FLM_INSN_MV_PV:
		return insn->flags & FLM_MV_PV_MASK ? 0 :
			INDEX_BIT(MV_PV, QUERY) | INDEX_BIT(MV_PV, KEY);
	default:
		return 0;
	}
}

static bool table_is_aligned(const struct insn *insn)
{
	switch (insn->kind) {
	case FLM_INSN_LD_TILE:
		return VALUE(insn, LD_TILE, TABLE) % sizeof(struct flm_strip) == 0;
	case FLM_INSN_MM_LINEAR:
		return VALUE(insn, MM_LINEAR, TABLE) % sizeof(struct flm_strip) == 0;
	case FLM_INSN_MV_LINEAR:
		return VALUE(insn, MV_LINEAR, TABLE) % sizeof(struct flm_strip) == 0;
	default:
		return true;
	}
}

/* Clamps sizes, then checks expressions, which an empty instruction does not look at. */
static void settle_values(const uint32_t *words, const struct shape *shape, struct insn *insn)
{
	uint32_t unused = unused_operands(insn);
	unsigned int i;

	insn->is_empty = insn->kind == FLM_INSN_SYNC;
	insn->is_outside = false;
	for (i = 0; i < shape->count; i++) {
		struct place *value = &insn->value[i];
		int64_t maximum;

		if (unused >> i & 1)
			value->offset = 0;
		if (shape->first[i].kind != KIND_SIZE || unused >> i & 1)
			continue;
		maximum = words[shape->first[i].word + 1];
		if (value->offset > maximum)
			value->offset = maximum;
		if (value->offset <= 0) {
			value->offset = 0;
			insn->is_empty = true;
		}
	}
	if (insn->is_empty)
		return;
	for (i = 0; i < shape->count; i++)
		if (shape->first[i].kind == KIND_EXPR &&
		    (insn->value[i].offset < 0 || insn->value[i].offset > EXPR_MAX))
			insn->is_outside = true;
	if (!table_is_aligned(insn))
		insn->is_outside = true;
}

enum flm_fault decode(const uint32_t *words, uint32_t left, unsigned int unit,
		      const struct sources *sources, struct insn *insn)
{
	unsigned int op, terms, fixed;
	const struct shape *shape;
	uint32_t numbers = 0;
	int kind;

	if (!left)
		return FLM_FAULT_OPCODE;
	op = FLM_GET_HEAD(words, OP);
	insn->mode = FLM_GET_HEAD(words, MODE);
	insn->flags = FLM_GET_HEAD(words, FLAGS);
	insn->wait = FLM_GET_HEAD(words, WAIT);
	insn->release = FLM_GET_HEAD(words, RELEASE);
	terms = FLM_GET_HEAD(words, TERMS);
	kind = insn_of[op][insn->mode];
	if (kind < 0)
		return FLM_FAULT_OPCODE;
	insn->kind = (enum flm_insn)kind;
	shape = &shapes[kind];
	fixed = insns[kind].words;
	insn->words = fixed + 2 * terms;
	if (op == FLM_OP_LOOP || op == FLM_OP_END) {
		if (words[0] << 4)
			return FLM_FAULT_OPCODE;
	} else if ((insn->wait | insn->release) >> unit & 1) {
		return FLM_FAULT_OPCODE;
	} else if (kind != FLM_INSN_SYNC && unit_of[op] != (int)unit) {
		return FLM_FAULT_OPCODE;
	}
	if (insn->words > left || insn->flags & ~shape->flags)
		return FLM_FAULT_OPCODE;
	if (!take_constants(words, shape, insn) ||
	    !add_terms(words + fixed, terms, shape, sources, insn, &numbers) ||
	    !limits_hold(words, insn, numbers))
		return FLM_FAULT_OPCODE;
	settle_values(words, shape, insn);
	return FLM_FAULT_NONE;
}
