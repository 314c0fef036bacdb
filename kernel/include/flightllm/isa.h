/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Instructions of a FlightLLM card: names and places of their fields, derived from isa.def, and the
 * structures that a program consists of. emulator/SPEC.md says what they mean.
 *
 * An instruction is FLM_WORDS_<insn> little-endian 32-bit words, then FLM_HEAD_TERMS terms of two
 * words. The only road of a value to its bits is FLM_PUT(), which refuses what does not fit:
 *
 *	__u32 words[FLM_WORDS_MAX] = { 0 };
 *
 *	if (FLM_PUT(words, LD_TILE, SEG, 3) || FLM_PUT(words, LD_TILE, STEP, 2))
 *		die(...);
 *	pitch = FLM_GET(words, LD_TILE, PITCH);
 */
#ifndef FLIGHTLLM_ISA_H
#define FLIGHTLLM_ISA_H

#include <linux/types.h>

#define FLM_ISA_MAJOR	1	/* major version */
#define FLM_ISA_MINOR	1	/* minor version: 0 has SYNC in the stream of SYS alone */

/* Units, each with its own in-order stream; also the bits of WAIT and RELEASE. */
#define UNIT(name, number, text, meaning) FLM_UNIT_##name = number,
enum flm_unit {
#include <flightllm/names.def>
	FLM_UNITS		/* units of a core */
};

/* Operations, bits 31:28 of word 0. */
enum flm_op {
	FLM_OP_LD = 0x1,	/* in the stream of LD */
	FLM_OP_ST = 0x2,	/* in the stream of ST */
	FLM_OP_MM = 0x3,	/* in the stream of MM */
	FLM_OP_MV = 0x4,	/* in the stream of MV */
	FLM_OP_MISC = 0x5,	/* in the stream of MISC */
	FLM_OP_LOOP = 0x6,	/* in every stream */
	FLM_OP_END = 0x7,	/* in every stream */
	FLM_OP_SYS = 0xf,	/* in the stream of SYS; its mode SYNC in every stream */
};

/* Sources of terms and counts: 3 bits. */
enum flm_class {
	FLM_CLASS_CONST = 0,	/* a constant; in LOOP only */
	FLM_CLASS_LENGTH = 1,	/* length register of the job */
	FLM_CLASS_CORE = 2,	/* core register of the program */
	FLM_CLASS_LOOP = 3,	/* index of an enclosing loop, 0 = outermost; terms only */
	FLM_CLASS_SEQUENCE = 4,	/* reserved: sequence of the current trip */
	FLM_CLASS_DATA = 5,	/* reserved: integer moved from an on-chip result */
};

/* Length registers. 0..8 are kept by the card, 9..15 come from the job record. */
enum flm_length {
	FLM_LENGTH_POS = 0,		/* position of this pass's first token */
	FLM_LENGTH_TOKENS = 1,		/* tokens in this pass */
	FLM_LENGTH_KV = 2,		/* positions cached before this pass */
	FLM_LENGTH_KV_END = 3,		/* KV + TOKENS */
	FLM_LENGTH_GENERATE = 4,	/* tokens still to be generated */
	FLM_LENGTH_SEQUENCES = 5,		/* sequences of the job */
	FLM_LENGTH_LOGIT_FIRST = 6,	/* first row of this pass whose logits are wanted */
	FLM_LENGTH_LOGIT_ROWS = 7,	/* how many such rows, the sampled row not counted */
	FLM_LENGTH_SAMPLE = 8,		/* 1: this pass ends with a sampled token */
	FLM_LENGTH_USER = 9,		/* the first of seven that the job record sets: 9..15 */
	FLM_LENGTHS = 16,		/* length registers */
};

#define FLM_CORE_REGISTERS	16		/* core registers of a program, for each core */
#define FLM_LOOP_DEPTH		8		/* loops open at once in one stream */
#define FLM_TERMS_MAX		31		/* terms of an instruction at most */
#define FLM_TOKEN_DEPTH		63		/* tokens that a queue between two units holds */
#define FLM_VALUE_MAX		0xffffff	/* greatest register, count, maximum of a size */

/* On-chip buffers: bits 31:28 of an on-chip address, byte offset below. */
#define BUFFER(name, number, text, meaning) FLM_BUFFER_##name = number,
enum flm_buffer {
#include <flightllm/names.def>
	FLM_BUFFERS		/* on-chip buffers of a core */
};

#define FLM_CHIP(buffer, offset)	((__u32)(buffer) << 28 | (__u32)(offset))
#define FLM_CHUNK_MAX	128	/* tokens of one pass at most */
#define FLM_GROUP	64	/* columns that share a scale */
#define FLM_STRIP	16	/* output rows of a strip; columns of a block */
#define FLM_TILE_COLS	4096	/* columns of a K tile */
#define FLM_PAGE	64	/* positions of a KV page */
#define FLM_DIM_MAX	1024	/* columns of a head at most */
#define FLM_TOPK_MAX	1024	/* candidates of a list at most */

/* Word 0 of every instruction. LOOP and END: all except OP must be zero. */
enum {
	FLM_HEAD_OP_HI = 31,		FLM_HEAD_OP_LO = 28,		/* enum flm_op */
	FLM_HEAD_TERMS_HI = 27,		FLM_HEAD_TERMS_LO = 23,		/* number of terms */
	FLM_HEAD_WAIT_HI = 22,		FLM_HEAD_WAIT_LO = 17,		/* bit u: from unit u */
	FLM_HEAD_RELEASE_HI = 16,	FLM_HEAD_RELEASE_LO = 11,	/* bit u: to unit u */
	FLM_HEAD_MODE_HI = 10,		FLM_HEAD_MODE_LO = 4,		/* which of the operation */
	FLM_HEAD_FLAGS_HI = 3,		FLM_HEAD_FLAGS_LO = 0,		/* of the instruction */
};

/*
 * A term: operand += stride * source. Word 0 of it, where bits 19:0 must be zero; word 1 is the
 * stride, signed.
 */
enum {
	FLM_TERM_OPERAND_HI = 31, FLM_TERM_OPERAND_LO = 28, /* operand that the term belongs to */
	FLM_TERM_CLASS_HI = 27,	FLM_TERM_CLASS_LO = 25,	/* enum flm_class */
	FLM_TERM_INDEX_HI = 24,	FLM_TERM_INDEX_LO = 20,	/* which of the class */
};

/* FLM_INSN_<insn>: a dense index, and FLM_OP_OF_, FLM_MODE_, FLM_WORDS_<insn>. */
#define INSN(name, op, mode, words, mnemonic, meaning) FLM_INSN_##name,
enum flm_insn {
#include <flightllm/isa.def>
	FLM_INSNS
};

#define INSN(name, op, mode, words, mnemonic, meaning) \
	FLM_OP_OF_##name = (op), FLM_MODE_##name = (mode), FLM_WORDS_##name = (words),
enum {
#include <flightllm/isa.def>
	FLM_WORDS_MAX = 32 + 2 * FLM_TERMS_MAX
};

/* FLM_<insn>_<operand>_W, _HI, _LO: where it lies; _NUMBER: what a term calls it. */
#define OPND(insn, name, word, high, low, meaning) \
	FLM_##insn##_##name##_W = (word), FLM_##insn##_##name##_HI = (high), \
	FLM_##insn##_##name##_LO = (low),
#define EXPR(insn, name, word, number, meaning) \
	FLM_##insn##_##name##_W = (word), FLM_##insn##_##name##_HI = 31, \
	FLM_##insn##_##name##_LO = 0, FLM_##insn##_##name##_NUMBER = (number),
#define ADDR(insn, name, word, number, meaning) EXPR(insn, name, word, number, meaning)
#define SIZE(insn, name, word, number, meaning) \
	EXPR(insn, name, word, number, meaning) \
	FLM_##insn##_##name##_MAX_W = (word) + 1, FLM_##insn##_##name##_MAX_HI = 31, \
	FLM_##insn##_##name##_MAX_LO = 0,
#define FLAG(insn, name, bit, meaning) FLM_##insn##_##name = 1 << (bit),
enum {
#include <flightllm/isa.def>
	FLM_OPERANDS_END
};

/* FLM_MISC_<operation>: the MODE of a MISC; FLM_USES_<operation>: its operands. */
#define FLM_USE_A	1
#define FLM_USE_B	2
#define FLM_USE_C	4
#define FLM_USE_OUT	8
#define FLM_USE_IMM	16
#define FLM_USE_POS	32

#define MISC(name, mode, uses, mnemonic, meaning) FLM_MISC_##name = (mode),
enum flm_misc {
#include <flightllm/isa.def>
	FLM_MISCS
};

static inline int flm_put(__u32 *words, int word, int high, int low, __u32 value)
{
	__u32 ones = 0xffffffffu >> (31 - (high - low));

	if (value & ~ones)
		return -1;	/* does not fit: a compiler bug, never truncated */
	words[word] = (words[word] & ~(ones << low)) | value << low;
	return 0;
}

static inline __u32 flm_get(const __u32 *words, int word, int high, int low)
{
	return words[word] >> low & 0xffffffffu >> (31 - (high - low));
}

#define FLM_PUT(words, insn, operand, value) \
	flm_put(words, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_HI, \
		FLM_##insn##_##operand##_LO, value)
#define FLM_GET(words, insn, operand) \
	flm_get(words, FLM_##insn##_##operand##_W, FLM_##insn##_##operand##_HI, \
		FLM_##insn##_##operand##_LO)
#define FLM_PUT_HEAD(words, field, value) \
	flm_put(words, 0, FLM_HEAD_##field##_HI, FLM_HEAD_##field##_LO, value)
#define FLM_GET_HEAD(words, field) \
	flm_get(words, 0, FLM_HEAD_##field##_HI, FLM_HEAD_##field##_LO)
#define FLM_PUT_TERM(words, field, value) \
	flm_put(words, 0, FLM_TERM_##field##_HI, FLM_TERM_##field##_LO, value)
#define FLM_GET_TERM(words, field) \
	flm_get(words, 0, FLM_TERM_##field##_HI, FLM_TERM_##field##_LO)

/* One row of a strip table: one strip of 16 output rows, one K tile. Data, checked when read. */
struct flm_strip {
	__u8 width;		/* bits of a code: 2, 3, 4, 5, 8 */
	__u8 flags;		/* FLM_STRIP_SPARSE or 0 */
	__le16 blocks;		/* blocks of 16 columns, 1..256 */
	__le32 codes;		/* place of codes in the table's segment, in units of 64 bytes */
	__le32 n;		/* place of N, one byte a block; zero unless sparse */
	__le32 masks;		/* place of the masks; zero unless sparse */
	__le32 scales;		/* place of the scales */
	__le32 reserved[3];	/* must be zero */
};
_Static_assert(sizeof(struct flm_strip) == 32, "strip tables have rows of 32 bytes");

#define FLM_STRIP_SPARSE	1	/* flag of a strip: it has N and masks */

/* What TOPK, alltopk and SAMPLE pass on: logit descending, then id ascending. */
struct flm_candidate {
	__le32 logit;		/* float32 bits */
	__le32 id;		/* token id, or FLM_CANDIDATE_NONE */
};
_Static_assert(sizeof(struct flm_candidate) == 8, "a candidate is two words");

#define FLM_CANDIDATE_NONE	0xffffffffu	/* id of an empty place; its logit is -infinity */

#endif
